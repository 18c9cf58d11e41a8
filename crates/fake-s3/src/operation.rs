//! What a request can be: the unit of counting, of delays and of faults.

use std::fmt;

/// One kind of request, named after S3's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Put,
    Get,
    Head,
    List,
    Delete,
    DeleteMany,
    Copy,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListParts,
    /// CreateBucket and HeadBucket.
    Bucket,
    /// What could not be understood, or is not served.
    Unknown,
}

impl Operation {
    pub const ALL: [Operation; 14] = [
        Operation::Put,
        Operation::Get,
        Operation::Head,
        Operation::List,
        Operation::Delete,
        Operation::DeleteMany,
        Operation::Copy,
        Operation::CreateUpload,
        Operation::UploadPart,
        Operation::CompleteUpload,
        Operation::AbortUpload,
        Operation::ListParts,
        Operation::Bucket,
        Operation::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::DeleteMany => "delete-many",
            Operation::Copy => "copy",
            Operation::CreateUpload => "create-upload",
            Operation::UploadPart => "upload-part",
            Operation::CompleteUpload => "complete-upload",
            Operation::AbortUpload => "abort-upload",
            Operation::ListParts => "list-parts",
            Operation::Bucket => "bucket",
            Operation::Unknown => "unknown",
        }
    }

    /// The operation of this name; `None` when there is none.
    pub fn named(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
