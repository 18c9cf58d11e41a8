//! Buckets, objects and uploads: what is stored under which key, and S3's conditions on changing it.
//!
//! Owns: the index, preconditions, listing order. Does not own: bytes (`content`), HTTP, faults, time.
//!
//! Invariant: a condition is checked and the write it guards is made under one lock, so of any number of
//! racing conditional writers exactly those win whose condition held at their turn. There is one lock for
//! everything and not one per key, because a listing must see one moment of all keys in order; it is held
//! for a few map operations, never for IO, never across an await, so it is no bottleneck at the rates of a
//! test server.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{HeaderName, HeaderValue};

use crate::content::{Blob, Content};
use crate::quota::{Charge, Quota};
use crate::refusal::Refusal;

mod listing;
mod uploads;

pub(crate) use listing::{Entry, ListQuery, Listing, Token};
pub(crate) use uploads::PART_NUMBER_MAX;
use uploads::{Upload, UploadId};

/// What an entry of the index is charged besides its key and its bytes.
const ENTRY_BYTES: u64 = 256;
const KEY_BYTES_MAX: usize = 1024;

/// Headers that are stored with an object and returned with it.
pub(crate) type Attributes = Vec<(HeaderName, HeaderValue)>;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Condition {
    #[default]
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`: the entity tag without quotes, or `*`.
    Matches(String),
}

/// One stored object. Clones share its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Arc<Content>,
    /// With quotes, as in headers.
    pub(crate) etag: Arc<str>,
    /// Milliseconds since 1970.
    pub(crate) modified_ms: i64,
    pub(crate) attributes: Arc<Attributes>,
    _charge: Arc<Charge>,
}

#[derive(Debug, Default)]
struct State {
    /// Keys as bytes: S3 lists in their order.
    buckets: BTreeMap<String, BTreeMap<Box<[u8]>, Object>>,
    uploads: BTreeMap<UploadId, Upload>,
    uploads_created: u64,
}

/// Everything that is stored.
#[derive(Debug)]
pub(crate) struct Objects {
    quota: Quota,
    /// Every part but the last has at least this many bytes.
    part_bytes_min: u64,
    /// Leaf lock: see the invariant above.
    state: Mutex<State>,
}

impl Objects {
    pub(crate) fn new(quota: Quota, part_bytes_min: u64) -> Objects {
        Objects { quota, part_bytes_min, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create_bucket(&self, bucket: &str) {
        self.state().buckets.entry(bucket.to_owned()).or_default();
    }

    /// Stores `blob` if the condition holds, creating the bucket on first use.
    pub(crate) fn put(
        &self,
        place: &Place,
        blob: Arc<Blob>,
        condition: &Condition,
        attributes: Attributes,
        now_ms: i64,
    ) -> Result<Object, Refusal> {
        let object = self.object(place, Content::of(blob), "", attributes, now_ms)?;
        // What was there is freed outside of the lock: that may remove a file.
        let replaced = self.state().replace(place, condition, &object)?;
        drop(replaced);
        Ok(object)
    }

    /// Stores another name for the same bytes.
    pub(crate) fn copy(
        &self,
        from: &Place,
        source_condition: &Condition,
        to: &Place,
        condition: &Condition,
        now_ms: i64,
    ) -> Result<Object, Refusal> {
        let charge = Arc::new(self.charge_entry(to)?);
        let mut state = self.state();
        let source = state.object(from).ok_or_else(Refusal::no_such_key)?;
        source_condition.check(Some(source))?;
        let object = Object { modified_ms: now_ms, _charge: charge, ..source.clone() };
        let replaced = state.replace(to, condition, &object)?;
        drop(state);
        drop(replaced);
        Ok(object)
    }

    pub(crate) fn get(&self, place: &Place) -> Result<Object, Refusal> {
        self.state().object(place).cloned().ok_or_else(Refusal::no_such_key)
    }

    /// Deleting what is absent succeeds, unless a condition asks for it to be there.
    pub(crate) fn delete(&self, place: &Place, condition: &Condition) -> Result<(), Refusal> {
        let mut state = self.state();
        if *condition != Condition::None {
            condition.check(state.object(place))?;
        }
        let objects = state.buckets.get_mut(&place.bucket);
        let removed = objects.and_then(|it| it.remove(place.key.as_bytes()));
        drop(state);
        drop(removed);
        Ok(())
    }

    pub(crate) fn list(&self, bucket: &str, query: &ListQuery) -> Listing {
        match self.state().buckets.get(bucket) {
            Some(objects) => listing::list(objects, query),
            None => Listing::default(),
        }
    }

    fn charge_entry(&self, place: &Place) -> Result<Charge, Refusal> {
        if KEY_BYTES_MAX < place.key.len() {
            return Err(Refusal::key_too_long());
        }
        self.quota.take(place.key.len() as u64 + ENTRY_BYTES)
    }

    /// `suffix` tells tags of assembled objects from those of single bodies, as S3's does.
    fn object(
        &self,
        place: &Place,
        content: Content,
        suffix: &str,
        attributes: Attributes,
        now_ms: i64,
    ) -> Result<Object, Refusal> {
        let charge = self.charge_entry(place)?;
        Ok(Object {
            etag: format!("\"{}{suffix}\"", content.tag()).into(),
            content: Arc::new(content),
            modified_ms: now_ms,
            attributes: Arc::new(attributes),
            _charge: Arc::new(charge),
        })
    }
}

impl State {
    fn object(&self, place: &Place) -> Option<&Object> {
        self.buckets.get(&place.bucket)?.get(place.key.as_bytes())
    }

    /// Stores `object` if the condition holds and returns what was there before.
    fn replace(
        &mut self,
        place: &Place,
        condition: &Condition,
        object: &Object,
    ) -> Result<Option<Object>, Refusal> {
        condition.check(self.object(place))?;
        let objects = self.buckets.entry(place.bucket.clone()).or_default();
        Ok(objects.insert(place.key.as_bytes().into(), object.clone()))
    }
}

impl Condition {
    fn check(&self, present: Option<&Object>) -> Result<(), Refusal> {
        match (self, present) {
            (Condition::None, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Absent, Some(_)) => Err(Refusal::precondition("If-None-Match")),
            (Condition::Matches(_), None) => Err(Refusal::no_such_key()),
            (Condition::Matches(tag), Some(object)) => {
                if tag == "*" || tag == object.etag.trim_matches('"') {
                    return Ok(());
                }
                Err(Refusal::precondition("If-Match"))
            }
        }
    }
}

impl Object {
    pub(crate) fn length(&self) -> u64 {
        self.content.length()
    }

    pub(crate) fn slice(&self, range: Range<u64>) -> Content {
        self.content.slice(range)
    }
}

#[cfg(test)]
mod tests;
