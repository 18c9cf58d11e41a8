//! Objects that come in pieces and never lie in memory as a whole.
//!
//! Owns: cutting a stream into parts, how many are on their way, taking back what does not become an
//! object (A7). Does not own: tries of a part (the client for uploads, whose state they need).
//!
//! Memory of one upload: `PARTS_AT_ONCE_MAX` parts and the one that fills. A part is 16 MiB, or as
//! much more as 10,000 parts need; all but the last are equal, which some stores insist on.
//!
//! Whose object it is. The object carries a mark of this upload, so that after a lost answer one
//! request tells whether it is ours. Whether a rival's object can be replaced depends on the store:
//! - S3: the completion says `If-None-Match: *` (the transport adds it); no object is replaced by a
//!   store that honours it, and the probe refuses those that lie about it for single puts;
//! - a directory: the link fails;
//! - Google, Azure, memory: the name is looked up before the first byte, and the completion replaces.
//!   Keys hold chance, so two writers of one key are one writer that lost its memory.
//!
//! What a crash leaves: parts that belong to no object. A lifecycle rule of the bucket removes them
//! (Azure by itself after a week), the sweep of staged files those of a directory.

use super::{StoreBucket, disk, path};
use crate::classify::classify;
use crate::local::Directories;
use crate::metering::Operation;
use crate::port::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use environment::{TaskGroup, TaskKind};
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use object_store::{
    Attribute, Attributes, GetOptions, MultipartUpload, ObjectStore, PutMultipartOptions,
    PutPayload, UploadPart,
};

/// S3 takes no smaller part than 5 MiB but the last; 16 MiB keeps a link of 1 Gbit/s busy with four.
const PART_BYTES: u64 = 16 * 1024 * 1024;

/// S3's and Google's limit.
const PARTS_MAX: u64 = 10_000;

const PARTS_AT_ONCE_MAX: usize = 4;

/// The name of the mark in an object's metadata; letters only, which is all that every store takes.
const MARK: &str = "aquiferupload";

type Body<'a> = BoxStream<'a, Result<Bytes, BucketError>>;

impl StoreBucket {
    pub(super) async fn put_in_parts(
        &self,
        key: &Key,
        body: Body<'_>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        let mut pieces = Pieces::new(key, body, length);
        if let Some(directories) = &self.directories {
            return self.put_staged(key, pieces, directories, purpose).await;
        }
        if length <= PART_BYTES {
            let whole = pieces.next().await?.unwrap_or_default();
            pieces.ends().await?;
            return self.put_new(key, whole, purpose).await;
        }
        if self.mark_of(key, purpose).await?.is_some() {
            return Ok(PutOutcome::AlreadyExists);
        }
        let mark = format!("{:032x}", self.entropy.next_u128());
        let mut upload = self.begin(key, &mark, purpose).await?;
        match self.send_parts(&mut upload, key, &mut pieces, purpose).await {
            Ok(()) => (),
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        }
        let complete =
            async { upload.inner().complete().await.map_err(|it| classify_end(key, it)) };
        let Err(error) = self.attempt(key, purpose, Operation::Put, complete).await else {
            upload.forget();
            return Ok(PutOutcome::Created);
        };
        // Completed by an answer that was lost, refused because of a rival, or not at all.
        match self.mark_of(key, purpose).await? {
            Some(found) if found == mark => {
                upload.forget();
                Ok(PutOutcome::Created)
            }
            Some(_) => {
                upload.abort().await;
                Ok(PutOutcome::AlreadyExists)
            }
            None => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn put_staged(
        &self,
        key: &Key,
        mut pieces: Pieces<'_>,
        directories: &Directories,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        let failed = |error: std::io::Error| disk(key, &error);
        let nonce = self.entropy.next_u64();
        let mut staged = directories.stage(key.as_str(), nonce).await.map_err(failed)?;
        while let Some(part) = pieces.next().await? {
            let length = length_of(&part);
            let _permit = self.admit(purpose).await;
            let write = async { staged.write(part).await.map_err(failed) };
            self.attempt(key, purpose, Operation::Put, write).await?;
            self.metrics.wrote(purpose, length);
        }
        match staged.publish().await.map_err(failed)? {
            true => Ok(PutOutcome::Created),
            false => Ok(PutOutcome::AlreadyExists),
        }
    }

    /// The mark of the object at `key`: empty if it has none, `None` if there is no object.
    async fn mark_of(&self, key: &Key, purpose: Purpose) -> Result<Option<String>, BucketError> {
        let head = || async {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let answer = self.store.get_opts(&path(key), options).await;
            let found = answer.map_err(|error| classify(key, error))?;
            let mark = found.attributes.get(&Attribute::Metadata(MARK.into()));
            Ok(mark.map(|it| it.as_ref().to_owned()).unwrap_or_default())
        };
        match self.retried(key, purpose, Operation::Get, head).await {
            Ok(mark) => Ok(Some(mark)),
            Err(BucketError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, key: &Key, mark: &str, purpose: Purpose) -> Result<Upload, BucketError> {
        let begin = || async {
            let mark = (Attribute::Metadata(MARK.into()), mark.to_owned());
            let options = PutMultipartOptions::from(Attributes::from_iter([mark]));
            let answer = self.uploads.put_multipart_opts(&path(key), options).await;
            answer.map_err(|error| classify_end(key, error))
        };
        let inner = self.retried(key, purpose, Operation::Put, begin).await?;
        Ok(Upload { inner: Some(inner), key: key.clone(), tasks: self.tasks.clone() })
    }

    async fn send_parts(
        &self,
        upload: &mut Upload,
        key: &Key,
        pieces: &mut Pieces<'_>,
        purpose: Purpose,
    ) -> Result<(), BucketError> {
        let mut on_their_way = FuturesUnordered::new();
        while let Some(part) = pieces.next().await? {
            if on_their_way.len() == PARTS_AT_ONCE_MAX
                && let Some(sent) = on_their_way.next().await
            {
                sent?;
            }
            let length = length_of(&part);
            let part = upload.inner().put_part(PutPayload::from_iter(part));
            on_their_way.push(self.send_part(key, part, length, purpose));
        }
        while let Some(sent) = on_their_way.next().await {
            sent?;
        }
        Ok(())
    }

    /// No timeout of its own: the client tries more than once, each try with a deadline.
    async fn send_part(
        &self,
        key: &Key,
        part: UploadPart,
        length: u64,
        purpose: Purpose,
    ) -> Result<(), BucketError> {
        let _permit = self.admit(purpose).await;
        let started = self.clock.now();
        let sent = part.await.map_err(|error| classify_end(key, error));
        self.metrics.answered(purpose, Operation::Put, self.clock.now().since(started));
        match &sent {
            Ok(()) => self.metrics.wrote(purpose, length),
            Err(error) => self.metrics.failed(purpose, Operation::Put, error.kind()),
        }
        sent
    }
}

/// An upload that is unknown to the store, or whose bucket is, is not an object that is missing.
fn classify_end(key: &Key, error: object_store::Error) -> BucketError {
    match classify(key, error) {
        BucketError::NotFound { key } => {
            let reason = "the store does not know the upload, or the bucket".to_owned();
            BucketError::Unavailable { key, reason }
        }
        error => error,
    }
}

/// An upload under way. Dropped in the middle, a task takes it back.
struct Upload {
    inner: Option<Box<dyn MultipartUpload>>,
    key: Key,
    tasks: TaskGroup,
}

impl Upload {
    fn inner(&mut self) -> &mut Box<dyn MultipartUpload> {
        self.inner.as_mut().expect("an upload is given away only at its end")
    }

    /// It has become an object.
    fn forget(mut self) {
        self.inner = None;
    }

    async fn abort(mut self) {
        if let Some(inner) = self.inner.take() {
            take_back(inner, &self.key).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            let key = self.key.clone();
            let back = async move { take_back(inner, &key).await };
            drop(self.tasks.spawn(TaskKind::Background, "take-back-upload", back));
        }
    }
}

async fn take_back(mut upload: Box<dyn MultipartUpload>, key: &Key) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(%key, %error, "an upload is left to the bucket's lifecycle rule");
    }
}

/// A body cut into parts.
struct Pieces<'a> {
    key: &'a Key,
    body: Body<'a>,
    /// What a piece of the stream had too much.
    rest: Bytes,
    left: u64,
    length: u64,
    part_bytes: u64,
}

impl<'a> Pieces<'a> {
    fn new(key: &'a Key, body: Body<'a>, length: u64) -> Pieces<'a> {
        let part_bytes = PART_BYTES.max(length.div_ceil(PARTS_MAX));
        Pieces { key, body, rest: Bytes::new(), left: length, length, part_bytes }
    }

    /// The next part, `None` after the last. The body ends where it said it would.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, BucketError> {
        if self.left == 0 {
            return self.ends().await.map(|()| None);
        }
        let mut wanted = self.left.min(self.part_bytes);
        let mut part = Vec::new();
        while 0 < wanted {
            let Some(mut piece) = self.piece().await? else { return Err(self.wrong("fewer")) };
            let taken = (piece.len() as u64).min(wanted);
            self.rest = piece.split_off(usize::try_from(taken).unwrap_or(piece.len()));
            part.push(piece);
            wanted -= taken;
            self.left -= taken;
        }
        Ok(Some(part))
    }

    async fn ends(&mut self) -> Result<(), BucketError> {
        match self.piece().await? {
            Some(_) => Err(self.wrong("more")),
            None => Ok(()),
        }
    }

    /// The next bytes, at least one.
    async fn piece(&mut self) -> Result<Option<Bytes>, BucketError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            match self.body.next().await.transpose()? {
                Some(piece) if piece.is_empty() => (),
                piece => return Ok(piece),
            }
        }
    }

    fn wrong(&self, how: &str) -> BucketError {
        let reason = format!("the body has {how} bytes than the {} announced", self.length);
        BucketError::Refused { key: self.key.clone(), reason }
    }
}

fn length_of(part: &[Bytes]) -> u64 {
    part.iter().map(|it| it.len() as u64).sum()
}
