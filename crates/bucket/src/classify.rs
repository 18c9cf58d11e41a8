//! From the client's errors to the few that prescribe a next step.
//!
//! The client does not export the type that carries an HTTP status, so throttling and timeouts are
//! told by the words its messages are known to hold; a wrong guess between `Throttled`, `Timeout`
//! and `Unavailable` costs a metric label, never safety: their aftermath is the same.

use crate::port::{BucketError, Key};
use std::error::Error;
use std::fmt::Write;

const THROTTLED: [&str; 5] =
    ["SlowDown", "503 Service Unavailable", "429 Too Many", "ServerBusy", "TooManyRequests"];
const TIMED_OUT: [&str; 3] = ["timed out", "timeout", "408 Request Timeout"];

/// What a client that retries says of itself in every error.
const NOT_TIMED_OUT: &str = "retry_timeout";

/// How stores say that it is the bucket that does not exist, not the object in it.
const NO_BUCKET: [&str; 4] = [
    "NoSuchBucket",
    "ContainerNotFound",
    "specified bucket does not exist",
    "container does not exist",
];

/// What asking again will not change, though the answer is neither 401, 403 nor 404: wrong keys, a
/// wrong region.
const FINAL: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "incorrectly configured region",
    "301 Moved Permanently",
];

/// Answers of a conditional put are read by the caller before it comes here.
pub(crate) fn classify(key: &Key, error: object_store::Error) -> BucketError {
    use object_store::Error as Store;
    let key = key.clone();
    match &error {
        Store::NotFound { .. } => {
            let reason = chain(&error);
            match NO_BUCKET.iter().any(|it| reason.contains(it)) {
                true => BucketError::Refused { key, reason },
                false => BucketError::NotFound { key },
            }
        }
        Store::PermissionDenied { .. }
        | Store::Unauthenticated { .. }
        | Store::NotSupported { .. }
        | Store::NotImplemented { .. }
        | Store::InvalidPath { .. }
        | Store::UnknownConfigurationKey { .. } => {
            BucketError::Refused { key, reason: chain(&error) }
        }
        // The client's enum is open, so here a wildcard is unavoidable; unknown means transient.
        _ => {
            let reason = chain(&error);
            if FINAL.iter().any(|it| reason.contains(it)) {
                return BucketError::Refused { key, reason };
            }
            match transient_kind_of(&reason) {
                Transient::Throttled => BucketError::Throttled { key, reason },
                Transient::TimedOut => BucketError::Timeout { key, waited_ms: 0 },
                Transient::Unavailable => BucketError::Unavailable { key, reason },
            }
        }
    }
}

enum Transient {
    Throttled,
    TimedOut,
    Unavailable,
}

fn transient_kind_of(reason: &str) -> Transient {
    if THROTTLED.iter().any(|it| reason.contains(it)) {
        Transient::Throttled
    } else if TIMED_OUT.iter().any(|it| reason.replace(NOT_TIMED_OUT, "").contains(it)) {
        Transient::TimedOut
    } else {
        Transient::Unavailable
    }
}

/// The metric label of an error that is not one of the store's answers.
pub(crate) fn transient_kind(error: &object_store::Error) -> &'static str {
    match transient_kind_of(&chain(error)) {
        Transient::Throttled => "throttled",
        Transient::TimedOut => "timeout",
        Transient::Unavailable => "unavailable",
    }
}

/// The whole chain of causes in one line, without what a cause repeats of its parent.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}"); // Writing to a string cannot fail.
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_the_kind() {
        let generic =
            |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        let key = Key::new("data/1");
        for (source, kind) in [("<Code>NoSuchBucket</Code>", "refused"), ("404", "not_found")] {
            let missing = object_store::Error::NotFound { path: "x".into(), source: source.into() };
            assert_eq!(classify(&key, missing).kind(), kind, "{source}");
        }
        for (text, kind) in [
            ("Server returned non-2xx status code: 503 Service Unavailable: ", "throttled"),
            ("<Code>SlowDown</Code>", "throttled"),
            ("error sending request: operation timed out", "timeout"),
            ("connection reset by peer", "unavailable"),
            ("after 6 retries, retry_timeout: 60s - Connection refused", "unavailable"),
            ("after 6 retries, retry_timeout: 60s - operation timed out", "timeout"),
            ("400 Bad Request: <Code>ExpiredToken</Code>", "refused"),
        ] {
            assert_eq!(classify(&key, generic(text)).kind(), kind, "{text}");
        }
    }
}
