//! Meters a store that is handed out raw: the metadata database brings its own retries and
//! conditional writes, but its requests are on the same bill.

use crate::classify::transient_kind;
use crate::hooked::{Hook, StoreRequest};
use crate::metering::{BucketMetrics, LIST_PAGE_KEYS, Operation};
use crate::port::Purpose;
use async_trait::async_trait;
use environment::Clock;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectMeta, ObjectStore, PutPayload, PutResult, Result, UploadPart,
};
use std::sync::Arc;

/// Every request counts as [`Purpose::Metadata`].
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) metrics: BucketMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

const PURPOSE: Purpose = Purpose::Metadata;

impl Meter {
    async fn metered<T>(
        &self,
        operation: Operation,
        run: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = self.clock.now();
        let answer = run.await;
        self.metrics.answered(PURPOSE, operation, self.clock.now().since(started));
        if let Err(error) = &answer {
            failed(&self.metrics, operation, error);
        }
        answer
    }
}

fn failed(metrics: &BucketMetrics, operation: Operation, error: &Error) {
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
    metrics.failed(PURPOSE, operation, kind);
}

impl Hook for Meter {
    async fn around<T: Send>(
        &self,
        request: StoreRequest<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let (operation, length) = match request {
            StoreRequest::Put { length, .. } => (Operation::Put, length),
            StoreRequest::Upload | StoreRequest::Copy | StoreRequest::Rename => (Operation::Put, 0),
            StoreRequest::Get => (Operation::Get, 0),
            StoreRequest::List => (Operation::List, 0),
        };
        let answer = self.metered(operation, run).await;
        if answer.is_ok() && 0 < length {
            self.metrics.wrote(PURPOSE, length);
        }
        answer
    }

    fn reads(&self, bytes: u64) {
        self.metrics.read(PURPOSE, bytes);
    }

    fn upload(&self, upload: Box<dyn MultipartUpload>) -> Box<dyn MultipartUpload> {
        Box::new(MeteredUpload { upload, meter: self.clone() })
    }

    /// Its entries come as the caller takes them: a page when the first of its keys is asked for.
    fn listing(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let metrics = self.metrics.clone();
        metrics.counted(PURPOSE, Operation::List);
        let mut seen = 0;
        let count = move |entry: &Result<ObjectMeta>| {
            seen += 1;
            if seen % LIST_PAGE_KEYS == 0 {
                metrics.counted(PURPOSE, Operation::List);
            }
            if let Err(error) = entry {
                failed(&metrics, Operation::List, error);
            }
        };
        listing.inspect(count).boxed()
    }

    fn deletion(
        &self,
        store: &dyn ObjectStore,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let metrics = self.metrics.clone();
        let count = move |deleted: &Result<Path>| {
            metrics.counted(PURPOSE, Operation::Delete);
            if let Err(error) = deleted {
                failed(&metrics, Operation::Delete, error);
            }
        };
        store.delete_stream(locations).inspect(count).boxed()
    }
}

/// Each part is a request.
#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn MultipartUpload>,
    meter: Meter,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (meter, length) = (self.meter.clone(), data.content_length() as u64);
        let part = self.upload.put_part(data);
        async move {
            meter.metered(Operation::Put, part).await?;
            meter.metrics.wrote(PURPOSE, length);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.metered(Operation::Put, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.metered(Operation::Delete, self.upload.abort()).await
    }
}
