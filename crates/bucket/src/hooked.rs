//! An object store in front of another, whose every request passes one hook.
//!
//! Owns: forwarding, written once, for whoever meters, lies or freezes. Does not own: what any hook
//! does with a request.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a hook is told of a request.
#[derive(Debug, Clone, Copy)]
pub enum StoreRequest<'a> {
    Put {
        location: &'a Path,
        options: &'a PutOptions,
        /// Of the body, in bytes.
        length: u64,
    },
    /// The beginning of a multipart upload.
    Upload,
    Get,
    /// Of one level; whole listings come as streams.
    List,
    Copy,
    Rename,
}

/// What happens around requests. The methods that are given let everything pass.
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Runs the request, or does not, or hides its answer.
    fn around<T: Send>(
        &self,
        request: StoreRequest<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// An answer will bring so many bytes of a body.
    fn reads(&self, _bytes: u64) {}

    fn upload(&self, upload: Box<dyn MultipartUpload>) -> Box<dyn MultipartUpload> {
        upload
    }

    fn listing(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        listing
    }

    fn deletion(
        &self,
        store: &dyn ObjectStore,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        store.delete_stream(locations)
    }
}

/// `store` behind `hook`.
#[derive(Debug)]
pub struct Hooked<H> {
    store: Arc<dyn ObjectStore>,
    pub hook: H,
}

impl<H: Hook> Hooked<H> {
    pub fn behind(hook: H, store: Arc<dyn ObjectStore>) -> Hooked<H> {
        Hooked { store, hook }
    }
}

impl<H: Hook> fmt::Display for Hooked<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl<H: Hook> ObjectStore for Hooked<H> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let told = options.clone();
        let length = payload.content_length() as u64;
        let request = StoreRequest::Put { location, options: &told, length };
        self.hook.around(request, self.store.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = self.store.put_multipart_opts(location, options);
        let upload = self.hook.around(StoreRequest::Upload, begin).await?;
        Ok(self.hook.upload(upload))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let get = self.store.get_opts(location, options);
        let found = self.hook.around(StoreRequest::Get, get).await?;
        if !is_head {
            self.hook.reads(found.range.end - found.range.start);
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let get = self.store.get_ranges(location, ranges);
        let parts = self.hook.around(StoreRequest::Get, get).await?;
        self.hook.reads(parts.iter().map(|part| part.len() as u64).sum());
        Ok(parts)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.hook.deletion(&self.store, locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hook.listing(self.store.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hook.listing(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.hook.around(StoreRequest::List, self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.hook.around(StoreRequest::Copy, self.store.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.hook.around(StoreRequest::Rename, self.store.rename_opts(from, to, options)).await
    }
}
