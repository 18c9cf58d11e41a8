//! What may stand behind the `?` of a bucket's URI.
//!
//! An allow list: everything else is an error with a suggestion, and what looks like a secret is an
//! error that says where secrets go. Here is only the shape of values; what they do is in `remote`.

use super::{LocationError, RemoteKind};
use std::collections::BTreeMap;

/// One row per parameter; the order is that in which a location prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parameter {
    Endpoint,
    Region,
    Account,
    Profile,
    VirtualHostedStyle,
    Anonymous,
    RequestPayer,
    Sse,
    SseKmsKeyId,
    SseBucketKey,
    Checksum,
    UnsignedPayload,
    RoleArn,
    RoleSessionName,
    WebIdentityTokenFile,
    StsEndpoint,
    MetadataEndpoint,
    Imdsv1Fallback,
    ServiceAccountFile,
    TenantId,
    ClientId,
    AuthorityHost,
    FederatedTokenFile,
    UseAzureCli,
    UseEmulator,
    ConnectTimeoutMs,
    RequestTimeoutMs,
    ForegroundRequestsMax,
    BackgroundRequestsMax,
    IdleConnectionsMax,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Flag,
    /// At least one.
    Count,
    /// `http:` or `https:` and a host, without a user.
    Endpoint,
    OneOf(&'static [&'static str]),
}

const S3: &[RemoteKind] = &[RemoteKind::S3];
const GCS: &[RemoteKind] = &[RemoteKind::Gcs];
const AZURE: &[RemoteKind] = &[RemoteKind::Azure];
const ALL: &[RemoteKind] = &[RemoteKind::S3, RemoteKind::Gcs, RemoteKind::Azure];

const SSE: &[&str] = &["AES256", "aws:kms", "aws:kms:dsse", "sse-c"];
const CHECKSUMS: &[&str] = &["crc64nvme", "sha256"];

const TABLE: &[(Parameter, &str, &[RemoteKind], Shape)] = &[
    (Parameter::Endpoint, "endpoint", ALL, Shape::Endpoint),
    (Parameter::Region, "region", S3, Shape::Text),
    (Parameter::Account, "account", AZURE, Shape::Text),
    (Parameter::Profile, "profile", S3, Shape::Text),
    (Parameter::VirtualHostedStyle, "virtual_hosted_style", S3, Shape::Flag),
    (Parameter::Anonymous, "anonymous", ALL, Shape::Flag),
    (Parameter::RequestPayer, "request_payer", S3, Shape::Flag),
    (Parameter::Sse, "sse", S3, Shape::OneOf(SSE)),
    (Parameter::SseKmsKeyId, "sse_kms_key_id", S3, Shape::Text),
    (Parameter::SseBucketKey, "sse_bucket_key", S3, Shape::Flag),
    (Parameter::Checksum, "checksum", S3, Shape::OneOf(CHECKSUMS)),
    (Parameter::UnsignedPayload, "unsigned_payload", S3, Shape::Flag),
    (Parameter::RoleArn, "role_arn", S3, Shape::Text),
    (Parameter::RoleSessionName, "role_session_name", S3, Shape::Text),
    (Parameter::WebIdentityTokenFile, "web_identity_token_file", S3, Shape::Text),
    (Parameter::StsEndpoint, "sts_endpoint", S3, Shape::Endpoint),
    (Parameter::MetadataEndpoint, "metadata_endpoint", S3, Shape::Endpoint),
    (Parameter::Imdsv1Fallback, "imdsv1_fallback", S3, Shape::Flag),
    (Parameter::ServiceAccountFile, "service_account_file", GCS, Shape::Text),
    (Parameter::TenantId, "tenant_id", AZURE, Shape::Text),
    (Parameter::ClientId, "client_id", AZURE, Shape::Text),
    (Parameter::AuthorityHost, "authority_host", AZURE, Shape::Endpoint),
    (Parameter::FederatedTokenFile, "federated_token_file", AZURE, Shape::Text),
    (Parameter::UseAzureCli, "use_azure_cli", AZURE, Shape::Flag),
    (Parameter::UseEmulator, "use_emulator", AZURE, Shape::Flag),
    (Parameter::ConnectTimeoutMs, "connect_timeout_ms", ALL, Shape::Count),
    (Parameter::RequestTimeoutMs, "request_timeout_ms", ALL, Shape::Count),
    (Parameter::ForegroundRequestsMax, "foreground_requests_max", ALL, Shape::Count),
    (Parameter::BackgroundRequestsMax, "background_requests_max", ALL, Shape::Count),
    (Parameter::IdleConnectionsMax, "idle_connections_max", ALL, Shape::Count),
];

/// Unknown names that hold one of these are taken for secrets.
const SECRET_WORDS: &[&str] =
    &["secret", "token", "password", "credential", "key", "sas", "signature", "sig"];

/// How like a known name an unknown one must be to be suggested; 1 is the same.
const LIKENESS_MIN: f64 = 0.7;

impl Parameter {
    pub(crate) fn name(self) -> &'static str {
        let row = TABLE.iter().find(|row| row.0 == self);
        row.map_or("", |row| row.1)
    }
}

/// Reads `name=value&name=value` into `parameters`.
pub(super) fn read(
    kind: RemoteKind,
    query: &str,
    parameters: &mut BTreeMap<Parameter, String>,
) -> Result<(), LocationError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let row = TABLE.iter().find(|row| row.1 == name && row.2.contains(&kind));
        let Some((parameter, _, _, shape)) = row else { return Err(unknown(kind, name)) };
        let value = decode(value).ok_or_else(|| {
            LocationError(format!("{name}: its value is not percent-encoded text"))
        })?;
        check(kind, name, &value, *shape)?;
        if parameters.insert(*parameter, value).is_some() {
            return Err(LocationError(format!("{name} is given twice")));
        }
    }
    Ok(())
}

fn check(kind: RemoteKind, name: &str, value: &str, shape: Shape) -> Result<(), LocationError> {
    let wrong = |what: &str| Err(LocationError(format!("{name} must be {what}")));
    match shape {
        _ if value.is_empty() => wrong("given a value"),
        Shape::Text => Ok(()),
        Shape::Flag if matches!(value, "true" | "false") => Ok(()),
        Shape::Flag => wrong("true or false"),
        Shape::Count if value.parse::<u32>().is_ok_and(|it| 0 < it) => Ok(()),
        Shape::Count => wrong("a whole number of at least 1"),
        Shape::OneOf(words) if words.contains(&value) => Ok(()),
        Shape::OneOf(words) => wrong(&format!("one of {}", words.join(", "))),
        Shape::Endpoint => {
            let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
            match host {
                Some(host) if host.contains('@') => Err(refuse_secret(kind, "the user in a URL")),
                Some(host) if !host.trim_matches('/').is_empty() && !host.contains('?') => Ok(()),
                _ => wrong("http://HOST:PORT or https://HOST"),
            }
        }
    }
}

fn unknown(kind: RemoteKind, name: &str) -> LocationError {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let known = || TABLE.iter().filter(|row| row.2.contains(&kind)).map(|row| row.1);
    let plain = ["aws_", "azure_storage_", "azure_", "google_"]
        .iter()
        .find_map(|prefix| lower.strip_prefix(prefix))
        .unwrap_or(&lower);
    let likeness = |it: &'static str| (strsim::normalized_damerau_levenshtein(plain, it), it);
    let best = known()
        .map(likeness)
        .filter(|(likeness, _)| LIKENESS_MIN <= *likeness)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    if best.is_none_or(|(likeness, _)| likeness < 1.0)
        && lower.split('_').any(|word| SECRET_WORDS.contains(&word))
    {
        return refuse_secret(kind, name);
    }
    match best {
        Some((_, known)) => {
            LocationError(format!("{name} is not a parameter; did you mean {known}?"))
        }
        None => LocationError(format!(
            "{name} is not a parameter of {}; there are {}",
            kind.name(),
            known().collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Says where secrets go, and repeats none.
pub(super) fn refuse_secret(kind: RemoteKind, what: &str) -> LocationError {
    let place = match kind {
        RemoteKind::S3 => {
            "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN, \
             AWS_SSE_CUSTOMER_KEY_BASE64), a profile in ~/.aws/credentials, a web identity or the \
             machine's own role"
        }
        RemoteKind::Gcs => {
            "the file that GOOGLE_APPLICATION_CREDENTIALS names, or the machine's own service account"
        }
        RemoteKind::Azure => {
            "the variables AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY or AZURE_CLIENT_SECRET, \
             or a managed identity"
        }
    };
    LocationError(format!(
        "{what} would be a secret in a text that is logged and shown; put it into {place}"
    ))
}

/// Undoes `%41`; a plus stays a plus. `None` for what is not UTF-8 afterwards.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
