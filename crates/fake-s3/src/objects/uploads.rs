//! Multipart uploads: parts arrive in any order and become an object at once, or never.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Attributes, Condition, Object, Objects, Place};
use crate::content::{Blob, Content};
use crate::quota::Charge;
use crate::refusal::Refusal;

pub(super) type UploadId = String;

/// S3's own bound.
pub(crate) const PART_NUMBER_MAX: u32 = 10_000;

#[derive(Debug)]
pub(super) struct Upload {
    place: Place,
    attributes: Attributes,
    parts: BTreeMap<u32, Part>,
    _charge: Charge,
}

#[derive(Debug, Clone)]
struct Part {
    content: Content,
    etag: Arc<str>,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPart {
    pub(crate) number: u32,
    pub(crate) length: u64,
    /// With quotes.
    pub(crate) etag: Arc<str>,
}

impl Objects {
    /// The new upload's id.
    pub(crate) fn create_upload(
        &self,
        place: &Place,
        attributes: Attributes,
    ) -> Result<String, Refusal> {
        let charge = self.charge_entry(place)?;
        let mut state = self.state();
        state.uploads_created += 1;
        let id = format!("upload-{:08}", state.uploads_created);
        let upload =
            Upload { place: place.clone(), attributes, parts: BTreeMap::new(), _charge: charge };
        state.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// The part's entity tag, with quotes. A number that was used before is replaced.
    pub(crate) fn put_part(
        &self,
        place: &Place,
        upload: &str,
        number: u32,
        blob: Arc<Blob>,
    ) -> Result<Arc<str>, Refusal> {
        self.insert_part(place, upload, number, Content::of(blob))
    }

    /// Makes a stored object, or a range of it, a part. The range is `(first, last)`, both inside.
    pub(crate) fn copy_part(
        &self,
        place: &Place,
        upload: &str,
        number: u32,
        from: &Place,
        range: Option<(u64, u64)>,
    ) -> Result<Arc<str>, Refusal> {
        let source = self.get(from)?;
        let content = match range {
            None => Content::clone(&source.content),
            Some((first, last)) if first <= last && last < source.length() => {
                source.slice(first..last + 1)
            }
            Some(_) => return Err(Refusal::invalid_range(source.length())),
        };
        self.insert_part(place, upload, number, content)
    }

    fn insert_part(
        &self,
        place: &Place,
        upload: &str,
        number: u32,
        content: Content,
    ) -> Result<Arc<str>, Refusal> {
        let etag: Arc<str> = format!("\"{}\"", content.tag()).into();
        let mut state = self.state();
        let upload = state.uploads.get_mut(upload).filter(|it| it.place == *place);
        let upload = upload.ok_or_else(Refusal::no_such_upload)?;
        upload.parts.insert(number, Part { content, etag: Arc::clone(&etag) });
        Ok(etag)
    }

    pub(crate) fn list_parts(
        &self,
        place: &Place,
        upload: &str,
    ) -> Result<Vec<ListedPart>, Refusal> {
        let state = self.state();
        let upload = state.uploads.get(upload).filter(|it| it.place == *place);
        let parts = &upload.ok_or_else(Refusal::no_such_upload)?.parts;
        let listed = parts.iter().map(|(number, part)| ListedPart {
            number: *number,
            length: part.content.length(),
            etag: Arc::clone(&part.etag),
        });
        Ok(listed.collect())
    }

    /// Makes the object out of `listed`, pairs of part number and entity tag (quoted or not).
    pub(crate) fn complete_upload(
        &self,
        place: &Place,
        id: &str,
        listed: &[(u32, String)],
        condition: &Condition,
        now_ms: i64,
    ) -> Result<Object, Refusal> {
        let (content, attributes) = self.assemble(place, id, listed)?;
        let suffix = format!("-{}", listed.len());
        let object = self.object(place, content, &suffix, attributes, now_ms)?;
        let mut state = self.state();
        // Whoever removes the upload makes the object; a refused condition leaves the upload as it is.
        if !state.uploads.contains_key(id) {
            return Err(Refusal::no_such_upload());
        }
        let replaced = state.replace(place, condition, &object)?;
        let finished = state.uploads.remove(id);
        drop(state);
        drop((replaced, finished));
        Ok(object)
    }

    fn assemble(
        &self,
        place: &Place,
        id: &str,
        listed: &[(u32, String)],
    ) -> Result<(Content, Attributes), Refusal> {
        let state = self.state();
        let upload = state.uploads.get(id).filter(|it| it.place == *place);
        let upload = upload.ok_or_else(Refusal::no_such_upload)?;
        if listed.is_empty() {
            return Err(Refusal::malformed_xml("An upload has at least one part."));
        }
        if !listed.is_sorted_by(|(before, _), (after, _)| before < after) {
            return Err(Refusal::invalid_part_order());
        }
        let mut content = Content::default();
        for (at, (number, etag)) in listed.iter().enumerate() {
            let part = upload.parts.get(number);
            let part = part.filter(|it| it.etag.trim_matches('"') == etag.trim_matches('"'));
            let Some(part) = part else {
                let message = format!("Part {number} was not uploaded, or has another tag.");
                return Err(Refusal::invalid_part(message));
            };
            if part.content.length() < self.part_bytes_min && at + 1 < listed.len() {
                return Err(Refusal::entity_too_small(self.part_bytes_min));
            }
            content.append(&part.content);
        }
        Ok((content, upload.attributes.clone()))
    }

    pub(crate) fn abort_upload(&self, place: &Place, id: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        if !state.uploads.get(id).is_some_and(|it| it.place == *place) {
            return Err(Refusal::no_such_upload());
        }
        let aborted = state.uploads.remove(id);
        drop(state);
        drop(aborted);
        Ok(())
    }
}
