//! Object stores with one bad habit each, around a store in memory.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// What a store does besides storing.
#[derive(Debug)]
pub(crate) enum Habit {
    /// Answers some requests, then none any more, for ever: a process that is killed between two
    /// requests, or, with `does_last`, between the effect of one and its answer.
    Freezes { left: AtomicU64, does_last: bool, frozen: Notify },
    /// Counts the requests that change something.
    CountsWrites(AtomicU64),
    /// Knows no attributes, as a local directory; once armed, the next creation happens but is
    /// answered with an error.
    LosesAnswer { armed: AtomicBool },
    /// Once armed, the next file of the log is under way until it is let go: it is stored then, or, with
    /// `stores_first`, it was at once and its answer gets lost.
    Holds { armed: AtomicBool, stores_first: bool, held: Notify, let_go: Notify },
}

#[derive(Debug)]
pub(crate) struct Odd {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) habit: Habit,
}

impl Odd {
    pub(crate) fn freezing(
        store: Arc<dyn ObjectStore>,
        requests: u64,
        does_last: bool,
    ) -> Arc<Odd> {
        let left = AtomicU64::new(requests);
        Arc::new(Odd { store, habit: Habit::Freezes { left, does_last, frozen: Notify::new() } })
    }

    /// Holds the next file of the log once [`Odd::hold`] has said so.
    pub(crate) fn holding(store: Arc<dyn ObjectStore>, stores_first: bool) -> Arc<Odd> {
        let (armed, held, let_go) = (AtomicBool::new(false), Notify::new(), Notify::new());
        Arc::new(Odd { store, habit: Habit::Holds { armed, stores_first, held, let_go } })
    }

    /// From now on, of a store that holds.
    pub(crate) fn hold(&self) {
        if let Habit::Holds { armed, .. } = &self.habit {
            armed.store(true, Ordering::SeqCst);
        }
    }

    /// What is held goes on.
    pub(crate) fn let_go(&self) {
        if let Habit::Holds { let_go, .. } = &self.habit {
            let_go.notify_one();
        }
    }

    /// Returns when the store has stopped answering, or holds a write.
    pub(crate) async fn frozen(&self) {
        match &self.habit {
            Habit::Freezes { frozen, .. } => frozen.notified().await,
            Habit::Holds { held, .. } => held.notified().await,
            Habit::CountsWrites(_) | Habit::LosesAnswer { .. } => std::future::pending().await,
        }
    }

    async fn reading<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let Habit::Freezes { left, does_last, frozen } = &self.habit else { return request.await };
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
        match taken {
            Ok(before) if 1 < before => request.await,
            taken => {
                if taken == Ok(1) && *does_last {
                    let _ = request.await; // Nobody will hear of it.
                }
                frozen.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn writing<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        if let Habit::CountsWrites(count) = &self.habit {
            count.fetch_add(1, Ordering::SeqCst);
        }
        self.reading(request).await
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if let Habit::LosesAnswer { armed } = &self.habit {
            if !options.attributes.is_empty() {
                let operation = "attributes".to_owned();
                let implementer = "odd".to_owned();
                return Err(object_store::Error::NotImplemented { operation, implementer });
            }
            if options.mode == PutMode::Create && armed.swap(false, Ordering::SeqCst) {
                self.store.put_opts(location, payload, options).await?;
                let source = "connection reset by peer, after the fact".into();
                return Err(object_store::Error::Generic { store: "odd", source });
            }
        }
        if let Habit::Holds { armed, stores_first, held, let_go } = &self.habit
            && location.as_ref().contains("/wal/")
            && armed.swap(false, Ordering::SeqCst)
        {
            if *stores_first {
                self.store.put_opts(location, payload.clone(), options.clone()).await?;
            }
            held.notify_one();
            let_go.notified().await;
            if *stores_first {
                let source = "connection reset by peer, after the fact".into();
                return Err(object_store::Error::Generic { store: "odd", source });
            }
        }
        self.writing(self.store.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.writing(self.store.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reading(self.store.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reading(self.store.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // A frozen listing never yields; an unfrozen one is the store's own.
        let is_live = match &self.habit {
            Habit::Freezes { left, .. } => 0 < left.load(Ordering::SeqCst),
            Habit::CountsWrites(_) | Habit::LosesAnswer { .. } | Habit::Holds { .. } => true,
        };
        let listing = self.store.list(prefix);
        if is_live { listing } else { std::future::pending().into_stream().chain(listing).boxed() }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reading(self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.writing(self.store.copy_opts(from, to, options)).await
    }
}
