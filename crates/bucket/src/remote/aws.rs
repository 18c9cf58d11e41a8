//! S3 and what speaks its protocol.
//!
//! Credentials, first found: the variables with keys, a profile asked for by the parameter, a web
//! identity, the profile of the shared files, a container's, the machine's. That is the order of the
//! AWS SDKs, except that a profile in the URI beats everything, because it was asked for.

use super::profile::{self, Profile};
use super::{Tie, Unusable, client_options, is_http, lines, retries};
use crate::location::parameters::Parameter;
use crate::location::{RemoteKind, RemoteLocation};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use std::str::FromStr;
use std::sync::Arc;

/// Buckets of this name are directory buckets of S3 Express One Zone.
const EXPRESS_SUFFIX: &str = "--x-s3";

pub(super) fn is_express(location: &RemoteLocation) -> bool {
    location.kind == RemoteKind::S3 && location.container.ends_with(EXPRESS_SUFFIX)
}

pub(super) fn open(tie: &Tie<'_>) -> Result<[Arc<dyn ObjectStore>; 3], Unusable> {
    let profile = profile::load(tie.location.parameter(Parameter::Profile), tie.variables)
        .map_err(|reason| Unusable::new(reason, "Correct the file, or the name of the profile."))?;
    let (builder, endpoint) = builder(tie, profile)?;
    let connector = tie.connector(is_http(endpoint.as_deref()))?;
    let build = |line, credentials| {
        let builder =
            builder.clone().with_retry(retries(line)).with_http_connector(connector.on(line));
        match credentials {
            Some(credentials) => builder.with_credentials(credentials).build(),
            None => builder.build(),
        }
    };
    lines(build, |client| Arc::clone(client.credentials()))
}

/// The settings of every client, and the endpoint if it is not AWS's own.
fn builder(tie: &Tie<'_>, profile: Profile) -> Result<(AmazonS3Builder, Option<String>), Unusable> {
    let location = tie.location;
    let mut builder = with_credentials_and_place(tie, profile);
    for (parameter, value) in location.parameters() {
        if let Some(key) = key_of(parameter) {
            builder = builder.with_config(key, value);
        }
    }
    let given = location.parameter(Parameter::Endpoint).map(str::to_owned);
    let endpoint = given
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint))
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let is_http = is_http(endpoint.as_deref());
    if !is_http && endpoint.as_deref().is_some_and(|it| !it.starts_with("https://")) {
        return Err(Unusable::new(
            "the endpoint is no URL",
            "Write AWS_ENDPOINT_URL as http://HOST:PORT or https://HOST.",
        ));
    }
    let is_virtual = location.parameter(Parameter::VirtualHostedStyle) == Some("true");
    if let Some(endpoint) = &endpoint {
        let endpoint = endpoint.trim_end_matches('/');
        let endpoint = match endpoint.split_once("://") {
            Some((scheme, host)) if is_virtual => {
                format!("{scheme}://{}.{host}", location.container)
            }
            _ => endpoint.to_owned(),
        };
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    // TLS guards the bytes already; hashing them once more for the signature costs a third of a core
    // per 100 MiB/s.
    if location.parameter(Parameter::UnsignedPayload).is_none() {
        builder = builder.with_unsigned_payload(!is_http);
    }
    let is_sse_c = location.parameter(Parameter::Sse) == Some("sse-c");
    if is_sse_c && !tie.variables.has("AWS_SSE_CUSTOMER_KEY_BASE64") {
        return Err(Unusable::new(
            "sse=sse-c needs a key",
            "Put 32 bytes in base64 into the variable AWS_SSE_CUSTOMER_KEY_BASE64.",
        ));
    }
    let builder = builder
        .with_bucket_name(&location.container)
        .with_s3_express(is_express(location))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One object at a time is deleted here, and not every store has the request for many.
        .with_disable_bulk_delete(true)
        .with_client_options(client_options(is_http));
    Ok((builder, endpoint))
}

/// What variables and the profile say.
fn with_credentials_and_place(tie: &Tie<'_>, profile: Profile) -> AmazonS3Builder {
    let has = |name| tie.variables.has(name);
    let is_given = has("AWS_ACCESS_KEY_ID")
        || has("AWS_SECRET_ACCESS_KEY")
        || (has("AWS_WEB_IDENTITY_TOKEN_FILE") && has("AWS_ROLE_ARN"));
    let is_asked_for = tie.location.parameter(Parameter::Profile).is_some();
    let keys = profile.keys.filter(|_| is_asked_for || !is_given);
    let mut builder = AmazonS3Builder::new();
    for (name, value) in tie.variables.starting_with("AWS_") {
        match AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
            // A token belongs to its keys: half of another pair would only confuse.
            Ok(key) if keys.is_some() && is_credential(key) => (),
            Ok(key) if is_from_variables(key) => builder = builder.with_config(key, value),
            _ => (),
        }
    }
    if let Some(keys) = keys {
        builder = builder
            .with_access_key_id(keys.access_key_id)
            .with_secret_access_key(keys.secret_access_key);
        if let Some(token) = keys.session_token {
            builder = builder.with_token(token);
        }
    }
    let is_set = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
    if let Some(region) = profile.region
        && !is_set(&builder, AmazonS3ConfigKey::Region)
    {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = profile.endpoint_url
        && !is_set(&builder, AmazonS3ConfigKey::Endpoint)
        && !is_set(&builder, AmazonS3ConfigKey::S3Endpoint)
    {
        builder = builder.with_endpoint(endpoint);
    }
    builder
}

fn is_credential(key: AmazonS3ConfigKey) -> bool {
    use AmazonS3ConfigKey::{AccessKeyId, SecretAccessKey, Token};
    matches!(key, AccessKeyId | SecretAccessKey | Token)
}

/// What the location decides, or the design, is not taken from variables.
fn is_from_variables(key: AmazonS3ConfigKey) -> bool {
    !matches!(
        key,
        AmazonS3ConfigKey::Bucket
            | AmazonS3ConfigKey::ConditionalPut
            | AmazonS3ConfigKey::CopyIfNotExists
            | AmazonS3ConfigKey::DisableBulkDelete
            | AmazonS3ConfigKey::S3Express
            | AmazonS3ConfigKey::Client(_)
    )
}

/// The client's name of a parameter that it takes as it is.
fn key_of(parameter: Parameter) -> Option<AmazonS3ConfigKey> {
    // The client does not export the type of these keys, only their names.
    let encryption = |name: &str| AmazonS3ConfigKey::from_str(name).ok();
    Some(match parameter {
        Parameter::Region => AmazonS3ConfigKey::Region,
        Parameter::VirtualHostedStyle => AmazonS3ConfigKey::VirtualHostedStyleRequest,
        Parameter::Anonymous => AmazonS3ConfigKey::SkipSignature,
        Parameter::RequestPayer => AmazonS3ConfigKey::RequestPayer,
        Parameter::Sse => encryption("aws_server_side_encryption")?,
        Parameter::SseKmsKeyId => encryption("aws_sse_kms_key_id")?,
        Parameter::SseBucketKey => encryption("aws_sse_bucket_key_enabled")?,
        Parameter::Checksum => AmazonS3ConfigKey::Checksum,
        Parameter::UnsignedPayload => AmazonS3ConfigKey::UnsignedPayload,
        Parameter::RoleArn => AmazonS3ConfigKey::RoleArn,
        Parameter::RoleSessionName => AmazonS3ConfigKey::RoleSessionName,
        Parameter::WebIdentityTokenFile => AmazonS3ConfigKey::WebIdentityTokenFile,
        Parameter::StsEndpoint => AmazonS3ConfigKey::StsEndpoint,
        Parameter::MetadataEndpoint => AmazonS3ConfigKey::MetadataEndpoint,
        Parameter::Imdsv1Fallback => AmazonS3ConfigKey::ImdsV1Fallback,
        _ => return None,
    })
}
