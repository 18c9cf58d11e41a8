//! A segment as metadata refers to it, against the object that is there: A6, with A5, A8 and A4 where the
//! object says more.
//!
//! Owns: comparing runs with index entries, checking bytes. Does not own: which segments there are, and
//! whether a finding is still one later (`examination`).

use std::collections::BTreeMap;

use bucket::{Bucket, BucketError, Key, Purpose};
use cluster::{Run, Segment, WalLog};
use crc_fast::{CrcAlgorithm, Digest};
use partition_log::ProducerSnapshot;
use partition_log::segment::{HEADER_LEN, RunEntry, SegmentHeader, SegmentIndex, segment_key};
use vocabulary::{BrokerEpoch, BrokerId, SegmentName};

use crate::finding::{Finding, Invariant};
use crate::object::{Seen, look_at};
use crate::transactions;

/// Payload read at a time.
pub(crate) const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// Places of lost records that a finding spells out.
const PLACES_MAX: usize = 3;

const SAFE: &str = "Nothing was changed. Records of other segments are not affected.";
const RESTORE: &str = "Restore this object from a copy or an earlier version of the bucket. If there is \
                       none, the offsets named here cannot be read any more.";
const REPORT: &str =
    "Keep a copy of this object and of the bucket's `meta` prefix, and report this.";

/// What is known of a segment.
pub(crate) struct Known<'a> {
    pub(crate) name: SegmentName,
    /// `None`: metadata has runs in it, but does not know it.
    pub(crate) record: Option<Segment>,
    pub(crate) runs: &'a [Run],
    pub(crate) logs: &'a BTreeMap<(BrokerId, BrokerEpoch), WalLog>,
}

/// What one look at a segment gave.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) findings: Vec<Finding>,
    pub(crate) payload_bytes: u64,
}

/// Compares.
///
/// # Errors
/// The store did not answer.
pub(crate) async fn examine(
    bucket: &dyn Bucket,
    known: &Known<'_>,
    is_deep: bool,
) -> Result<Examined, BucketError> {
    let mut look = Look { key: segment_key(known.name), examined: Examined::default() };
    look.check_record(known);
    if known.runs.is_empty() {
        return Ok(look.examined); // Garbage: the object may be gone.
    }
    let index = match look_at(bucket, &look.key).await? {
        Seen::Index(index) => index,
        Seen::Gone => {
            look.find(None, format!("the object does not exist; {}", places(known.runs)), RESTORE);
            return Ok(look.examined);
        }
        Seen::Short { length, .. } => {
            let what = format!("{length} bytes are no segment; {}", places(known.runs));
            look.find(Some(0..length), what, RESTORE);
            return Ok(look.examined);
        }
        Seen::Broken(breakage) => {
            let what = format!("{}; {}", breakage.reason, places(known.runs));
            look.find(Some(breakage.range), what, RESTORE);
            return Ok(look.examined);
        }
    };
    look.check_index(known, &index);
    if is_deep {
        match look.check_bytes(bucket, known.runs, &index).await {
            // Collected under our hands, which another look tells from damage.
            Err(BucketError::NotFound { .. } | BucketError::OutOfRange { .. }) => {
                let what = format!("the object has disappeared; {}", places(known.runs));
                look.find(None, what, RESTORE);
            }
            checked => checked?,
        }
    }
    Ok(look.examined)
}

/// Whether a run is what an index entry says: all of it, or some of its whole batches.
pub(crate) fn agrees(run: &Run, entry: &RunEntry) -> bool {
    if run.partition != entry.partition || run.leader_epoch != entry.leader_epoch {
        return false;
    }
    let place = (run.base, run.end, run.position, run.length);
    if place == (entry.base, entry.end, entry.position, entry.length) {
        return run.crc == entry.crc;
    }
    // Of a dead log's run, only what was not committed before is adopted; its checksum is its own.
    let part = entry.part(run.base, run.end);
    part.is_some_and(|it| place == (it.base, it.end, it.position, it.length))
}

struct Look {
    key: Key,
    examined: Examined,
}

impl Look {
    fn check_record(&mut self, known: &Known<'_>) {
        let live = known.runs.len();
        let Some(record) = known.record else {
            let what = format!("the metadata does not know the segment; {}", places(known.runs));
            self.find(None, what, REPORT);
            return;
        };
        if record.live_runs as usize != live {
            let counted = record.live_runs;
            let what = format!("the metadata counts {counted} live runs, there are {live}");
            self.find(None, what, REPORT);
        } else if (live == 0) != record.garbage_since.is_some() {
            self.find(None, "it is live and garbage at once, or neither".to_owned(), REPORT);
        }
        if let SegmentName::Wal { broker, epoch, sequence } = known.name
            && let Some(fence) = known.logs.get(&(broker, epoch)).and_then(|it| it.fence)
            && fence <= sequence
            && 0 < live
        {
            let what = format!("its log ended before segment {fence}; {}", places(known.runs));
            self.push(Invariant::A4, None, what, REPORT);
        }
    }

    fn check_index(&mut self, known: &Known<'_>, index: &SegmentIndex) {
        if index.name != known.name {
            let what = format!("the object says that it is {}", index.name);
            self.find(None, what, RESTORE);
        }
        if let Some(record) = known.record.filter(|it| it.bytes != index.length) {
            let (length, told) = (index.length, record.bytes);
            let what = format!("the object has {length} bytes, the metadata says {told}");
            self.find(Some(0..length), what, RESTORE);
        }
        for run in known.runs {
            let range = run.position..run.position.saturating_add(run.length);
            let Some(entry) = entry_of(run, index) else {
                let what = format!("no run of the index covers {}", place(run));
                self.find(Some(range), what, REPORT);
                continue;
            };
            if !agrees(run, entry) {
                let what = format!("index and metadata differ on {}", place(run));
                self.find(Some(range), what, REPORT);
            }
            self.check_producers(run, entry);
            for problem in transactions::problems(entry) {
                let what = format!("{problem}, in {}", place(run));
                self.push(Invariant::A8, None, what, REPORT);
            }
        }
    }

    fn check_producers(&mut self, run: &Run, entry: &RunEntry) {
        let Some(bytes) = &entry.producers else { return };
        let what = match ProducerSnapshot::read(bytes) {
            Ok(snapshot) if snapshot.end <= entry.end => return,
            Ok(snapshot) => {
                let (known, end) = (snapshot.end, entry.end);
                format!(
                    "the producers of {} know offset {known}, the run ends at {end}",
                    place(run)
                )
            }
            Err(reason) => format!("the producers of {}: {reason}", place(run)),
        };
        self.push(Invariant::A5, None, what, REPORT);
    }

    async fn check_bytes(
        &mut self,
        bucket: &dyn Bucket,
        runs: &[Run],
        index: &SegmentIndex,
    ) -> Result<(), BucketError> {
        let header = bucket.get(&self.key, 0..HEADER_LEN as u64, Purpose::ReadCold).await?;
        let what = match SegmentHeader::parse(&header) {
            Ok(header) if (header.name, header.length) == (index.name, index.length) => None,
            Ok(_) => Some("header and index name different segments".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = what {
            self.find(Some(0..HEADER_LEN as u64), what, RESTORE);
        }
        for run in runs {
            let end = run.position.saturating_add(run.length);
            if index.length < end {
                continue; // Told as a difference between index and metadata.
            }
            let crc = checksum(bucket, &self.key, run.position, end).await?;
            self.examined.payload_bytes += run.length;
            if crc != run.crc {
                let (told, place) = (run.crc, place(run));
                let what = format!("the bytes of {place} have checksum {crc:08x}, not {told:08x}");
                self.find(Some(run.position..end), what, RESTORE);
            }
        }
        Ok(())
    }

    fn find(&mut self, range: Option<std::ops::Range<u64>>, what: String, advice: &'static str) {
        self.push(Invariant::A6, range, what, advice);
    }

    fn push(
        &mut self,
        invariant: Invariant,
        range: Option<std::ops::Range<u64>>,
        what: String,
        advice: &'static str,
    ) {
        let object = self.key.to_string();
        self.examined.findings.push(Finding { invariant, object, range, what, safe: SAFE, advice });
    }
}

/// The checksum of a stretch of an object, read piece by piece.
pub(crate) async fn checksum(
    bucket: &dyn Bucket,
    key: &Key,
    start: u64,
    end: u64,
) -> Result<u32, BucketError> {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut at = start;
    while at < end {
        let next = end.min(at + PIECE_BYTES);
        digest.update(&bucket.get(key, at..next, Purpose::ReadCold).await?);
        at = next;
    }
    Ok(digest.finalize() as u32) // A 32-bit CRC in the low half of a wider register.
}

fn entry_of<'a>(run: &Run, index: &'a SegmentIndex) -> Option<&'a RunEntry> {
    let holds =
        |it: &&RunEntry| it.partition == run.partition && it.base <= run.base && run.end <= it.end;
    index.runs.iter().find(holds)
}

fn place(run: &Run) -> String {
    format!("offsets {} to {} of partition {}", run.base, run.end, run.partition)
}

fn places(runs: &[Run]) -> String {
    let count = runs.len();
    let told: Vec<String> = runs.iter().take(PLACES_MAX).map(place).collect();
    let more = if PLACES_MAX < count { ", and more" } else { "" };
    format!("{count} committed run(s) lie in it: {}{more}", told.join(", "))
}
