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
//! gone (KIP-534). Now is when the older records can be read no more (`rewrite::LEEWAY`). When it goes, no
//! older record of its key is left below it: that pass, or an earlier one, has removed them all before it
//! came to the tombstone.
//!
//! A marker gets a horizon likewise, once nothing is left of its transaction, and goes when that is over.
//! Until then a reader that has read records of the transaction before they went still learns how it
//! ended. That takes at least as long as reads may take that are under way (`markers_kept_ms`).

use super::fates::Fate;
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
    /// A marker of nothing stays for so long.
    pub(super) markers_kept_ms: i64,
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
    /// Of those, records of aborted transactions.
    pub(super) aborted: u64,
    /// Likewise, markers.
    pub(super) markers: u64,
    /// Batches of tombstones that got their horizon.
    pub(super) horizons: u64,
}

impl Rules<'_> {
    /// `is_last`: the batch stays, without records if need be, so that readers learn how far the
    /// offsets go.
    pub(super) fn clean(
        &self,
        batch: &Bytes,
        fate: Fate,
        is_last: bool,
        counts: &mut Counts,
    ) -> Result<Cleaned, BatchError> {
        let header = BatchHeader::parse(batch)?;
        let records = u64::from(header.record_count.unsigned_abs());
        if self.below <= header.base_offset || fate == Fate::Deciding {
            counts.kept += records;
            return Ok(Cleaned::AsIs);
        }
        if header.record_count == 0 && !header.attributes.is_transactional() {
            return Ok(if is_last { Cleaned::AsIs } else { Cleaned::Gone });
        }
        match fate {
            Fate::Counts | Fate::Deciding => self.clean_records(&header, batch, is_last, counts),
            Fate::Spent => self.clean_marker(&header, batch, is_last, counts),
            Fate::Aborted => {
                counts.dropped += records;
                counts.aborted += records;
                Ok(without_records(&header, is_last))
            }
        }
    }

    /// Of a marker that decides about nothing any more.
    fn clean_marker(
        &self,
        header: &BatchHeader,
        batch: &Bytes,
        is_last: bool,
        counts: &mut Counts,
    ) -> Result<Cleaned, BatchError> {
        let horizon = header.attributes.has_delete_horizon().then_some(header.base_timestamp);
        if horizon.is_some_and(|it| it <= self.now) {
            counts.dropped += 1;
            counts.markers += 1;
            return Ok(without_records(header, is_last));
        }
        counts.kept += 1;
        if horizon.is_some() {
            return Ok(Cleaned::AsIs);
        }
        let until = Timestamp(self.now.0.saturating_add(self.markers_kept_ms));
        let opened = OpenedBatch::open(batch, RECORDS_BYTES_MAX)?;
        let kept = vec![true; opened.records().count()];
        let (header, bytes) = opened.thinned(&kept, Some(until), self.levels)?;
        Ok(Cleaned::Thinned(header, bytes))
    }

    fn clean_records(
        &self,
        header: &BatchHeader,
        batch: &Bytes,
        is_last: bool,
        counts: &mut Counts,
    ) -> Result<Cleaned, BatchError> {
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
            return Ok(without_records(header, is_last));
        }
        let needs_horizon = has_tombstone && horizon.is_none();
        if staying == kept.len() && !needs_horizon {
            return Ok(Cleaned::AsIs);
        }
        counts.horizons += u64::from(needs_horizon);
        let until = Timestamp(self.now.0.saturating_add(self.delete_retention_ms));
        let (header, bytes) = opened.thinned(&kept, needs_horizon.then_some(until), self.levels)?;
        Ok(Cleaned::Thinned(header, bytes))
    }
}

fn without_records(header: &BatchHeader, is_last: bool) -> Cleaned {
    if !is_last {
        return Cleaned::Gone;
    }
    let (header, bytes) = emptied(header);
    Cleaned::Thinned(header, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchBuilder, Compression, EndTxnMarker, TransactionResult, records};
    use vocabulary::{LeaderEpoch, ProducerId};

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
        Rules { keys, below, now, delete_retention_ms: 1000, markers_kept_ms: 2000, levels }
    }

    fn clean(rules: &Rules<'_>, batch: &Bytes, is_last: bool) -> (Cleaned, Counts) {
        cleaned(rules, batch, Fate::Counts, is_last)
    }

    fn cleaned(rules: &Rules<'_>, batch: &Bytes, fate: Fate, is_last: bool) -> (Cleaned, Counts) {
        let mut counts = Counts::default();
        (rules.clean(batch, fate, is_last, &mut counts).expect("it is intact"), counts)
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
        assert_eq!(counts, Counts { kept: 1, dropped: 2, ..Counts::default() });
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
    fn what_was_aborted_goes_whatever_its_keys() {
        let keys = keys(&[]);
        let newest = batch(10, &[(Some("a"), Some("1")), (Some("b"), None)]);
        let (gone, counts) = cleaned(&rules(&keys, 0), &newest, Fate::Aborted, false);
        assert_eq!(gone, Cleaned::Gone);
        assert_eq!(counts, Counts { dropped: 2, aborted: 2, ..Counts::default() });
        let (last, _) = cleaned(&rules(&keys, 0), &newest, Fate::Aborted, true);
        let Cleaned::Thinned(header, _) = last else { panic!("{last:?}") };
        assert_eq!((header.record_count, header.end_offset()), (0, Offset(12)));
        let later = batch(100, &[(Some("a"), Some("1"))]);
        assert_eq!(cleaned(&rules(&keys, 0), &later, Fate::Aborted, false).0, Cleaned::AsIs);
    }

    #[test]
    fn a_marker_goes_long_after_its_records() {
        let keys = keys(&[]);
        let marker = EndTxnMarker { result: TransactionResult::Commit, coordinator_epoch: 1 };
        let mut batch = marker.batch(ProducerId(7), 0, Timestamp(5));
        batch.stamp(Offset(10), LeaderEpoch(0));
        let batch = batch.freeze().1;
        let at =
            |now, bytes: &Bytes, fate, is_last| cleaned(&rules(&keys, now), bytes, fate, is_last);
        assert_eq!(at(500, &batch, Fate::Deciding, false).0, Cleaned::AsIs);
        let (spent, counts) = at(500, &batch, Fate::Spent, false);
        let Cleaned::Thinned(header, bytes) = spent else { panic!("{spent:?}") };
        assert_eq!((header.base_timestamp, counts.kept), (Timestamp(2500), 1));
        assert_eq!(EndTxnMarker::read(&bytes), Ok(Some(marker)));
        assert_eq!(at(2499, &bytes, Fate::Spent, false).0, Cleaned::AsIs);
        assert_eq!(at(2500, &bytes, Fate::Deciding, false).0, Cleaned::AsIs);
        let (gone, counts) = at(2500, &bytes, Fate::Spent, false);
        assert_eq!((gone, counts.markers), (Cleaned::Gone, 1));
        let (last, _) = at(2500, &bytes, Fate::Spent, true);
        let Cleaned::Thinned(header, bytes) = last else { panic!("{last:?}") };
        assert_eq!((header.end_offset(), header.attributes.is_control()), (Offset(11), false));
        assert_eq!(at(2500, &bytes, Fate::Counts, true).0, Cleaned::AsIs);
    }

    #[test]
    fn what_is_not_to_be_cleaned_yet_is_left() {
        let keys = keys(&[("a", 200)]);
        let later = batch(100, &[(Some("a"), None), (None, Some("x"))]);
        assert_eq!(clean(&rules(&keys, 0), &later, false).0, Cleaned::AsIs);
    }
}
