//! Carries requests out: from what is asked and its body to the stored objects and the answer.
//!
//! Owns: S3's answer headers and documents. Does not own: conditions and order (`objects`), faults.

use std::sync::Arc;

use environment::{Environment, TaskKind};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::answer::{Answer, Sent};
use crate::content::{Blob, Directory, Received};
use crate::dates;
use crate::objects::{Condition, Entry, ListQuery, Object, Objects, Place};
use crate::refusal::Refusal;
use crate::request::{Action, Asked, RangeAsked, ReadCondition, encoded};
use crate::xml::{self, Document};

/// S3's own bound.
const DELETED_KEYS_MAX: usize = 1000;
const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

/// Where objects are and where their bytes go.
#[derive(Debug)]
pub(crate) struct Actions {
    pub(crate) objects: Objects,
    /// Absent: bytes stay in memory.
    pub(crate) directory: Option<Arc<Directory>>,
    pub(crate) environment: Environment,
}

impl Actions {
    /// Does what is asked. An error changed nothing.
    pub(crate) async fn perform(
        &self,
        asked: &Asked,
        received: Received,
    ) -> Result<Answer, Refusal> {
        let (place, objects, now_ms) =
            (&asked.place, &self.objects, self.environment.clock.wall().0);
        match &asked.action {
            Action::CreateBucket => {
                objects.create_bucket(&place.bucket);
                Ok(Answer::empty(StatusCode::OK))
            }
            Action::HeadBucket => Ok(Answer::empty(StatusCode::OK)),
            Action::Put { condition, attributes } => {
                let blob = self.stored(received).await?;
                let object = objects.put(place, blob, condition, attributes.clone(), now_ms)?;
                tagged(&object.etag)
            }
            Action::Copy { from, source_condition, condition } => {
                let object = objects.copy(from, source_condition, place, condition, now_ms)?;
                Ok(copied("CopyObjectResult", &object.etag, now_ms))
            }
            Action::Get { range, condition } | Action::Head { range, condition } => {
                read(objects.get(place)?, *range, condition)
            }
            Action::Delete { condition } => {
                objects.delete(place, condition)?;
                Ok(Answer::empty(StatusCode::NO_CONTENT))
            }
            Action::DeleteMany => self.delete_many(place, &received),
            Action::List { query, url_encoded } => Ok(self.list(place, query, *url_encoded)),
            Action::CreateUpload { attributes } => {
                let upload = objects.create_upload(place, attributes.clone())?;
                let leaves = [
                    ("Bucket", place.bucket.as_str()),
                    ("Key", place.key.as_str()),
                    ("UploadId", upload.as_str()),
                ];
                Ok(document("InitiateMultipartUploadResult", &leaves))
            }
            Action::UploadPart { upload, number } => {
                let blob = self.stored(received).await?;
                tagged(&objects.put_part(place, upload, *number, blob)?)
            }
            Action::CopyPart { upload, number, from, range } => {
                let etag = objects.copy_part(place, upload, *number, from, *range)?;
                Ok(copied("CopyPartResult", &etag, now_ms))
            }
            Action::CompleteUpload { upload, condition } => {
                let parts = listed_parts(&received)?;
                let object = objects.complete_upload(place, upload, &parts, condition, now_ms)?;
                let leaves = [
                    ("Bucket", place.bucket.as_str()),
                    ("Key", place.key.as_str()),
                    ("ETag", &*object.etag),
                ];
                Ok(document("CompleteMultipartUploadResult", &leaves))
            }
            Action::AbortUpload { upload } => {
                objects.abort_upload(place, upload)?;
                Ok(Answer::empty(StatusCode::NO_CONTENT))
            }
            Action::ListParts { upload } => self.list_parts(place, upload),
        }
    }

    /// Puts a body where it stays.
    async fn stored(&self, received: Received) -> Result<Arc<Blob>, Refusal> {
        let Some(directory) = self.directory.clone() else { return Ok(received.in_memory()) };
        let write = move || directory.store(received);
        let writing = self.environment.tasks.spawn_blocking(TaskKind::Background, "write", write);
        let written = writing.await.unwrap_or_else(|end| Err(std::io::Error::other(end)));
        written.map_err(|error| Refusal::disk(&error))
    }

    fn delete_many(&self, place: &Place, received: &Received) -> Result<Answer, Refusal> {
        let text = document_text(received)?;
        let wrong = || Refusal::malformed_xml("The list of keys cannot be read.");
        let asked = xml::elements(&text, "Object").ok_or_else(wrong)?;
        let keys = asked.into_iter().map(|it| xml::only(it, "Key")).collect::<Option<Vec<_>>>();
        let keys = keys.ok_or_else(wrong)?;
        if keys.is_empty() || DELETED_KEYS_MAX < keys.len() {
            let message = format!("A request deletes 1 to {DELETED_KEYS_MAX} keys.");
            return Err(Refusal::malformed_xml(message));
        }
        let mut document = Document::new();
        document.open("DeleteResult");
        for key in keys {
            let place = Place { bucket: place.bucket.clone(), key };
            self.objects.delete(&place, &Condition::None)?;
            document.open("Deleted");
            document.leaf("Key", &place.key);
            document.close("Deleted");
        }
        document.close("DeleteResult");
        Ok(Answer::xml(document.finish()))
    }

    fn list(&self, place: &Place, query: &ListQuery, url_encoded: bool) -> Answer {
        let page = self.objects.list(&place.bucket, query);
        let shown = |text: &str| if url_encoded { encoded(text) } else { text.to_owned() };
        let mut document = Document::new();
        document.open("ListBucketResult");
        document.leaf("Name", &place.bucket);
        document.leaf("Prefix", &shown(&query.prefix));
        if !query.delimiter.is_empty() {
            document.leaf("Delimiter", &shown(&query.delimiter));
        }
        document.leaf("MaxKeys", &query.max_keys.to_string());
        document.leaf("KeyCount", &page.entries.len().to_string());
        document.leaf("IsTruncated", if page.next.is_some() { "true" } else { "false" });
        if let Some(next) = &page.next {
            document.leaf("NextContinuationToken", &next.to_text());
        }
        for entry in &page.entries {
            match entry {
                Entry::Object { key, length, etag, modified_ms } => {
                    document.open("Contents");
                    document.leaf("Key", &shown(key));
                    document.leaf("LastModified", &dates::iso(*modified_ms));
                    document.leaf("ETag", etag);
                    document.leaf("Size", &length.to_string());
                    document.leaf("StorageClass", "STANDARD");
                    document.close("Contents");
                }
                Entry::CommonPrefix(prefix) => {
                    document.open("CommonPrefixes");
                    document.leaf("Prefix", &shown(prefix));
                    document.close("CommonPrefixes");
                }
            }
        }
        document.close("ListBucketResult");
        Answer::xml(document.finish())
    }

    /// All of them in one page.
    fn list_parts(&self, place: &Place, upload: &str) -> Result<Answer, Refusal> {
        let parts = self.objects.list_parts(place, upload)?;
        let mut document = Document::new();
        document.open("ListPartsResult");
        document.leaf("Bucket", &place.bucket);
        document.leaf("Key", &place.key);
        document.leaf("UploadId", upload);
        document.leaf("IsTruncated", "false");
        for part in parts {
            document.open("Part");
            document.leaf("PartNumber", &part.number.to_string());
            document.leaf("ETag", &part.etag);
            document.leaf("Size", &part.length.to_string());
            document.close("Part");
        }
        document.close("ListPartsResult");
        Ok(Answer::xml(document.finish()))
    }
}

fn document_text(received: &Received) -> Result<String, Refusal> {
    String::from_utf8(received.joined())
        .map_err(|_| Refusal::malformed_xml("The body is not UTF-8."))
}

fn listed_parts(received: &Received) -> Result<Vec<(u32, String)>, Refusal> {
    let text = document_text(received)?;
    let parts = xml::elements(&text, "Part").and_then(|parts| {
        let read = |part: &str| {
            Some((xml::only(part, "PartNumber")?.parse().ok()?, xml::only(part, "ETag")?))
        };
        parts.into_iter().map(read).collect::<Option<Vec<(u32, String)>>>()
    });
    parts.ok_or_else(|| Refusal::malformed_xml("The list of parts cannot be read."))
}

fn document(name: &str, leaves: &[(&str, &str)]) -> Answer {
    let mut document = Document::new();
    document.open(name);
    leaves.iter().for_each(|(leaf, text)| document.leaf(leaf, text));
    document.close(name);
    Answer::xml(document.finish())
}

fn copied(name: &str, etag: &str, now_ms: i64) -> Answer {
    document(name, &[("LastModified", &dates::iso(now_ms)), ("ETag", etag)])
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|_| Refusal::internal_error())
}

fn tagged(etag: &str) -> Result<Answer, Refusal> {
    Ok(Answer::empty(StatusCode::OK).with(header::ETAG, value(etag)?))
}

fn read(
    object: Object,
    range: Option<RangeAsked>,
    condition: &ReadCondition,
) -> Result<Answer, Refusal> {
    let tag = object.etag.trim_matches('"');
    let is = |asked: &String| asked == "*" || asked == tag;
    if condition.matches.as_ref().is_some_and(|it| !is(it)) {
        return Err(Refusal::precondition("If-Match"));
    }
    if condition.differs.as_ref().is_some_and(is) {
        return Err(Refusal::not_modified());
    }
    let length = object.length();
    let (status, taken) = match range {
        None => (StatusCode::OK, 0..length),
        Some(asked) => {
            let taken = asked.within(length).ok_or_else(|| Refusal::invalid_range(length))?;
            (StatusCode::PARTIAL_CONTENT, taken)
        }
    };
    let mut answer = Answer::empty(status)
        .with(header::CONTENT_TYPE, DEFAULT_CONTENT_TYPE)
        .with(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
        .with(header::ETAG, value(&object.etag)?)
        .with(header::LAST_MODIFIED, value(&dates::http(object.modified_ms))?);
    for (name, value) in object.attributes.iter() {
        answer = answer.with(name.clone(), value.clone());
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{length}", taken.start, taken.end - 1);
        answer = answer.with(header::CONTENT_RANGE, value(&text)?);
    }
    answer.body = Sent::Object(object.slice(taken));
    Ok(answer)
}
