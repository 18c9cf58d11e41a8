//! What is left of one batch. Pure.
//!
//! Owns: which records stay, when a batch gets its horizon, which batches stay without records.
//! Does not own: the keys (`keys`), the bytes of a batch (`protocol::records`).
//!
//! A record goes when
//! - a later record of the same key is known;
//! - it is a tombstone whose batch has a horizon that is over;
//! - it has no key, which a compacted topic takes no more (it is from before);
//! - its transaction was aborted.
//!
//! A tombstone that stays gets its horizon when it is seen first: from now on it is kept for
//! `delete.retention.ms`, so that whoever reads slowly from the beginning still learns that the key is
//! gone (KIP-534). When it goes, no older record of its key is left below it: that pass, or an earlier
//! one, has removed them all before it came to the tombstone.

use super::keys::KeyMap;
use bytes::Bytes;
use protocol::records::{BatchError, BatchHeader, OpenedBatch, TargetCompression, emptied};
use vocabulary::{Offset, Timestamp};

/// The bound of one batch once decompressed, as produce validation applies it.
pub(super) const RECORDS_BYTES_MAX: usize = 1 << 30;

/// What one pass goes by.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) keys: &'a KeyMap,
    /// What starts here or later stays as it is.
    pub(super) below: Offset,
    pub(super) now: Timestamp,
    pub(super) delete_retention_ms: i64,
    pub(super) levels: TargetCompression,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// Its bytes are copied as they are.
    AsIs,
    Thinned(BatchHeader, Bytes),
    Gone,
}

/// Records, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) kept: u64,
    pub(super) dropped: u64,
}

impl Rules<'_> {
    /// `is_last`: the batch stays, without records if need be, so that readers learn how far the
    /// offsets go.
    pub(super) fn clean(
        &self,
        batch: &Bytes,
        is_last: bool,
        counts: &mut Counts,
    ) -> Result<Cleaned, BatchError> {
        let header = BatchHeader::parse(batch)?;
        if self.below <= header.base_offset || header.attributes.is_control() {
            counts.kept += u64::from(header.record_count.unsigned_abs());
            return Ok(Cleaned::AsIs);
        }
        if header.record_count == 0 {
            return Ok(if is_last { Cleaned::AsIs } else { Cleaned::Gone });
        }
        let opened = OpenedBatch::open(batch, RECORDS_BYTES_MAX)?;
        let horizon = header.attributes.has_delete_horizon().then_some(header.base_timestamp);
        let is_over = horizon.is_some_and(|it| it <= self.now);
        let mut kept = Vec::new();
        let mut has_tombstone = false;
        for record in opened.records() {
            let record = record?;
            let stays = match record.key {
                None => false,
                Some(key) => {
                    let is_latest = self.keys.latest(key).is_none_or(|it| it <= record.offset);
                    is_latest && (record.has_value || !is_over)
                }
            };
            has_tombstone |= stays && !record.has_value;
            kept.push(stays);
        }
        let staying = kept.iter().filter(|it| **it).count();
        counts.kept += staying as u64;
        counts.dropped += (kept.len() - staying) as u64;
        if staying == 0 {
            return Ok(match is_last {
                false => Cleaned::Gone,
                true => {
                    let (header, bytes) = emptied(&header);
                    Cleaned::Thinned(header, bytes)
                }
            });
        }
        let needs_horizon = has_tombstone && horizon.is_none();
        if staying == kept.len() && !needs_horizon {
            return Ok(Cleaned::AsIs);
        }
        let until = Timestamp(self.now.0.saturating_add(self.delete_retention_ms));
        let (header, bytes) = opened.thinned(&kept, needs_horizon.then_some(until), self.levels)?;
        Ok(Cleaned::Thinned(header, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchBuilder, Compression, records};
    use vocabulary::LeaderEpoch;

    /// One record for each key and value, from `base` on.
    fn batch(base: i64, pairs: &[(Option<&str>, Option<&str>)]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None, None);
        for (key, value) in pairs {
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            builder.push(Timestamp(5), key, value, &[]);
        }
        let mut batch = builder.build();
        batch.stamp(Offset(base), LeaderEpoch(0));
        batch.freeze().1
    }

    fn keys(latest: &[(&str, i64)]) -> KeyMap {
        let mut map = KeyMap::new(100, 10_000, 0.9, [3, 4]);
        for (key, offset) in latest {
            map.put(key.as_bytes(), Offset(*offset)).expect("there is room");
        }
        map
    }

    fn rules(keys: &KeyMap, now: i64) -> Rules<'_> {
        let (below, now, levels) = (Offset(100), Timestamp(now), TargetCompression::Producer);
        Rules { keys, below, now, delete_retention_ms: 1000, levels }
    }

    fn clean(rules: &Rules<'_>, batch: &Bytes, is_last: bool) -> (Cleaned, Counts) {
        let mut counts = Counts::default();
        (rules.clean(batch, is_last, &mut counts).expect("it is intact"), counts)
    }

    fn offsets(cleaned: &Cleaned) -> Vec<i64> {
        let Cleaned::Thinned(_, bytes) = cleaned else { panic!("{cleaned:?}") };
        let read = records(bytes, 1 << 20).expect("it opens");
        read.map(|it| it.expect("intact").offset.0).collect()
    }

    #[test]
    fn the_latest_of_a_key_stays() {
        let keys = keys(&[("a", 11), ("b", 40)]);
        let three =
            batch(10, &[(Some("a"), Some("1")), (Some("a"), Some("2")), (Some("b"), Some("3"))]);
        let (cleaned, counts) = clean(&rules(&keys, 0), &three, false);
        assert_eq!(offsets(&cleaned), [11]);
        assert_eq!(counts, Counts { kept: 1, dropped: 2 });
        let latest = batch(40, &[(Some("b"), Some("4")), (Some("unknown"), Some("5"))]);
        assert_eq!(clean(&rules(&keys, 0), &latest, false).0, Cleaned::AsIs);
    }

    #[test]
    fn a_batch_without_records_stays_only_at_the_end() {
        let keys = keys(&[("a", 90)]);
        let old = batch(10, &[(Some("a"), Some("1")), (None, Some("no key"))]);
        assert_eq!(clean(&rules(&keys, 0), &old, false).0, Cleaned::Gone);
        let (cleaned, _) = clean(&rules(&keys, 0), &old, true);
        let Cleaned::Thinned(header, bytes) = cleaned else { panic!("{cleaned:?}") };
        assert_eq!((header.record_count, header.end_offset()), (0, Offset(12)));
        assert_eq!(clean(&rules(&keys, 0), &bytes, true).0, Cleaned::AsIs);
        assert_eq!(clean(&rules(&keys, 0), &bytes, false).0, Cleaned::Gone);
    }

    #[test]
    fn tombstones_go_once_their_horizon_is_over() {
        let keys = keys(&[("a", 10)]);
        let tombstone = batch(10, &[(Some("a"), None)]);
        let (cleaned, _) = clean(&rules(&keys, 500), &tombstone, false);
        let Cleaned::Thinned(header, bytes) = cleaned else { panic!("{cleaned:?}") };
        assert_eq!(header.base_timestamp, Timestamp(1500));
        assert_eq!(clean(&rules(&keys, 1499), &bytes, false).0, Cleaned::AsIs);
        assert_eq!(clean(&rules(&keys, 1500), &bytes, false).0, Cleaned::Gone);
    }

    #[test]
    fn what_is_not_to_be_cleaned_yet_is_left() {
        let keys = keys(&[("a", 200)]);
        let later = batch(100, &[(Some("a"), None), (None, Some("x"))]);
        assert_eq!(clean(&rules(&keys, 0), &later, false).0, Cleaned::AsIs);
    }
}
