//! ApiVersions (key 18): what this broker can do. Everything a client does follows from this answer.
//!
//! Traps (KIP-511, KIP-1242): the response header is v0 at every version; an unknown request
//! version is answered in v0's shape with error 35 and one row, so that the client can ask again;
//! Produce is advertised from 0, although 0 to 2 are refused, or old librdkafka turns compression off.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::ApiKey;
use protocol::messages::api_versions::response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use protocol::messages::api_versions::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::dispatch::BUILT;

/// The first version whose client names itself (KIP-511).
const NAMED_CLIENT_VERSION: i16 = 3;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let named = NAMED_CLIENT_VERSION <= context.version;
    let names = [&request.client_software_name, &request.client_software_version];
    if named && !names.into_iter().all(|name| is_software_name(name)) {
        return Response { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    if let Some(code) = refusal_of_place(broker, &request) {
        return Response { error_code: code.code(), ..Default::default() };
    }
    Response {
        api_keys: BUILT.iter().map(|key| row(*key)).collect(),
        supported_features: supported_features(context.version),
        finalized_features: finalized_features(),
        finalized_features_epoch: 0,
        ..Default::default()
    }
}

/// The first version whose clients take a feature that may be at 0 (KAFKA-17011).
const FEATURE_AT_ZERO_VERSION: i16 = 4;

/// Features clients act on (KIP-584), and at which level they are here. A feature is listed when all of
/// it is served.
const FEATURES: &[(&str, i16)] =
    &[("group.version", 1), ("share.version", 1), ("transaction.version", 2)];

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let shown = FEATURES.iter().filter(|_| FEATURE_AT_ZERO_VERSION <= version);
    let row = |(name, level): &(&str, i16)| SupportedFeatureKey {
        name: (*name).to_owned(),
        min_version: 0,
        max_version: *level,
    };
    shown.map(row).collect()
}

fn finalized_features() -> Vec<FinalizedFeatureKey> {
    let row = |(name, level): &(&str, i16)| FinalizedFeatureKey {
        name: (*name).to_owned(),
        min_version_level: *level,
        max_version_level: *level,
    };
    FEATURES.iter().map(row).collect()
}

/// The answer to a version we do not know: never parsed, never a closed connection (KIP-511).
pub(crate) fn unsupported_version() -> Response {
    Response {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![row(ApiKey::ApiVersions)],
        ..Default::default()
    }
}

fn row(key: ApiKey) -> ApiVersion {
    let versions = key.advertised_versions();
    ApiVersion { api_key: key as i16, min_version: *versions.start(), max_version: *versions.end() }
}

/// A client that believes to speak to another cluster or node starts over (KIP-1242).
fn refusal_of_place(broker: &Broker, request: &Request) -> Option<ErrorCode> {
    match (&request.cluster_id, request.node_id) {
        (None, -1) => None,
        (Some(cluster), node) if node != -1 => {
            let here = cluster == broker.view.cluster_id() && node == broker.id.0;
            (!here).then_some(ErrorCode::RebootstrapRequired)
        }
        _ => Some(ErrorCode::InvalidRequest),
    }
}

/// Letters, digits, dashes and dots, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let inside = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '.';
    let at_end = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric());
    name.chars().all(inside) && at_end(name.chars().next()) && at_end(name.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["librdkafka", "apache-kafka-java", "4.3.1", "a"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-java", "java-", "ja va", "jävä", "4.3."] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_our_own_range() {
        let response = unsupported_version();
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!(response.api_keys[0].api_key, 18);
    }
}
