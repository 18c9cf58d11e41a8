//! Meters a store that is handed out raw: the metadata database brings its own retries and
//! conditional writes, but its requests are on the same bill.

use crate::classify::transient_kind;
use crate::metering::{BucketMetrics, Operation};
use crate::port::Purpose;
use async_trait::async_trait;
use bytes::Bytes;
use environment::Clock;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Every request counts as [`Purpose::Metadata`].
#[derive(Debug)]
pub(crate) struct MeteredStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) metrics: BucketMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

const PURPOSE: Purpose = Purpose::Metadata;

impl MeteredStore {
    async fn metered<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = self.clock.now();
        let answer = request.await;
        self.metrics.answered(PURPOSE, operation, self.clock.now().since(started));
        if let Err(error) = &answer {
            self.failed(operation, error);
        }
        answer
    }

    fn failed(&self, operation: Operation, error: &Error) {
        let kind = match error {
            // Answers, not errors: lost races, searches for the end, and features asked about.
            Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::NotModified { .. }
            | Error::NotImplemented { .. }
            | Error::NotSupported { .. } => return,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "refused",
            error => transient_kind(error),
        };
        self.metrics.failed(PURPOSE, operation, kind);
    }

    /// A request is counted when it is made; its entries come as the caller takes them.
    fn listed(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.metrics.counted(PURPOSE, Operation::List);
        listing
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let length = payload.content_length() as u64;
        let put = self.store.put_opts(location, payload, options);
        let answer = self.metered(Operation::Put, put).await;
        if answer.is_ok() {
            self.metrics.wrote(PURPOSE, length);
        }
        answer
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.metered(Operation::Put, self.store.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let answer = self.metered(Operation::Get, self.store.get_opts(location, options)).await;
        if let (Ok(found), false) = (&answer, is_head) {
            self.metrics.read(PURPOSE, found.range.end - found.range.start);
        }
        answer
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let answer = self.metered(Operation::Get, self.store.get_ranges(location, ranges)).await;
        if let Ok(parts) = &answer {
            self.metrics.read(PURPOSE, parts.iter().map(|part| part.len() as u64).sum());
        }
        answer
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let metrics = self.metrics.clone();
        let deleted = self.store.delete_stream(locations);
        let count = move |_: &Result<Path>| {
            metrics.counted(PURPOSE, Operation::Delete);
        };
        deleted.inspect(count).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.store.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.metered(Operation::List, self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.metered(Operation::Put, self.store.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.metered(Operation::Put, self.store.rename_opts(from, to, options)).await
    }
}
