//! S3's errors: a status, a code that clients act on, and words for people.

use hyper::StatusCode;

use crate::xml::Document;

/// An answer that is not success. Nothing was changed by the request, unless a fault says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }

    pub(crate) fn no_such_key() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
    }

    pub(crate) fn no_such_upload() -> Refusal {
        let message = "The upload is unknown: it was completed, aborted or never created.";
        Refusal::new(StatusCode::NOT_FOUND, "NoSuchUpload", message)
    }

    pub(crate) fn precondition(condition: &str) -> Refusal {
        let message = format!("The precondition {condition} did not hold.");
        Refusal::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
    }

    /// The answer to a conditional read whose object has not changed; it has no body.
    pub(crate) fn not_modified() -> Refusal {
        Refusal::new(StatusCode::NOT_MODIFIED, "NotModified", "")
    }

    pub(crate) fn invalid_range(length: u64) -> Refusal {
        let message = format!("The range lies outside of the object's {length} bytes.");
        Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message)
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    }

    pub(crate) fn malformed_xml(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "MalformedXML", message)
    }

    pub(crate) fn invalid_part(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "InvalidPart", message)
    }

    pub(crate) fn invalid_part_order() -> Refusal {
        let message = "Parts must be listed once each, in ascending order.";
        Refusal::new(StatusCode::BAD_REQUEST, "InvalidPartOrder", message)
    }

    pub(crate) fn entity_too_small(part_bytes_min: u64) -> Refusal {
        let message = format!("Every part but the last has at least {part_bytes_min} bytes.");
        Refusal::new(StatusCode::BAD_REQUEST, "EntityTooSmall", message)
    }

    pub(crate) fn entity_too_large(body_bytes_max: u64) -> Refusal {
        let message = format!("A body has at most {body_bytes_max} bytes here.");
        Refusal::new(StatusCode::BAD_REQUEST, "EntityTooLarge", message)
    }

    pub(crate) fn key_too_long() -> Refusal {
        let message = "A key has at most 1024 bytes.";
        Refusal::new(StatusCode::BAD_REQUEST, "KeyTooLongError", message)
    }

    pub(crate) fn access_denied() -> Refusal {
        let message = "The request carries no signature.";
        Refusal::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(crate) fn not_implemented(what: impl Into<String>) -> Refusal {
        let message = format!("fake-s3 does not serve this: {}", what.into());
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    pub(crate) fn full(stored: u64, bytes_max: u64) -> Refusal {
        let message = format!(
            "fake-s3 holds {stored} of at most {bytes_max} bytes: nothing was stored; delete objects \
             or start it with a larger bound"
        );
        Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    pub(crate) fn disk(error: &std::io::Error) -> Refusal {
        let message = format!("fake-s3 cannot use its directory: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn internal_error() -> Refusal {
        let message = "We encountered an internal error. Please try again.";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn slow_down() -> Refusal {
        let message = "Please reduce your request rate.";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message)
    }

    pub(crate) fn conflict() -> Refusal {
        let message = "A conflicting conditional operation is in progress against this resource.";
        Refusal::new(StatusCode::CONFLICT, "ConditionalRequestConflict", message)
    }

    /// The document that clients parse.
    pub(crate) fn to_xml(&self, resource: &str) -> String {
        let mut document = Document::new();
        document.open("Error");
        document.leaf("Code", self.code);
        document.leaf("Message", &self.message);
        document.leaf("Resource", resource);
        document.leaf("RequestId", "fake-s3");
        document.close("Error");
        document.finish()
    }
}
