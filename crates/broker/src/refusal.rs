//! A request, or one row of it, that is refused: Kafka's code and words for the user.

use protocol::ErrorCode;

/// Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// The two fields of an answer's row that say how it went.
pub(crate) fn told(outcome: Result<(), Refusal>) -> (i16, Option<String>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(Refusal { code, message }) => (code.code(), Some(message)),
    }
}

/// A denial, in Kafka's words for its code.
pub(crate) fn unauthorized(code: ErrorCode) -> Refusal {
    let words = match code {
        ErrorCode::TopicAuthorizationFailed => "Topic authorization failed.",
        ErrorCode::GroupAuthorizationFailed => "Group authorization failed.",
        ErrorCode::ClusterAuthorizationFailed => "Cluster authorization failed.",
        ErrorCode::TransactionalIdAuthorizationFailed => "Transactional Id authorization failed.",
        other => other.name(),
    };
    Refusal::new(code, words)
}
