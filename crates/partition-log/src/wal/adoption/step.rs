//! One step of an adoption: some thousand runs, committed together with the producers as of their end.
//!
//! Owns: which runs, or which part of one, continue the committed ends; what refusals mean.
//! Does not own: reading indexes in order (`adoption`), where a partition stands at first (`base`).
//!
//! Invariants:
//! - a partition's runs are adopted in offset order, each from its committed end on, each once (A3);
//! - its producers are those before, and then the batches of the adopted runs in order (A5, P2).

use super::base::{Standing, Wanted};
use super::{AdoptError, OneLog, Ports};
use crate::log::{ProducedBatch, ProducerTable};
use crate::run_index::{Adoption, KeptProducers, RefusalReason, RunCommit, RunRefusal};
use crate::segment::{RunEntry, SegmentIndex, segment_key};
use crate::wal::patience::Patience;
use bucket::{BucketError, Purpose};
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use protocol::records::{BatchHeader, check_crc};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use vocabulary::{Offset, Partition, SegmentName};

/// Runs of one step. Larger: fewer steps, a larger command for the metadata.
pub(super) const RUNS_MAX: usize = 4096;

/// Producers of one step, encoded, beyond those of its first partition.
const PRODUCERS_BYTES_MAX: usize = 4 << 20;

/// How often a partition whose committed end moves under our hands is looked up again.
const LOOKS_MAX: u32 = 8;

pub(super) struct Adopter<'a> {
    ports: Ports<'a>,
    /// Read and not yet dealt with, in the order of the log.
    pending: VecDeque<Found>,
    standings: HashMap<Partition, Standing>,
    /// How often a partition was looked up, and the committed end that a refusal told.
    looks: HashMap<Partition, (u32, Option<Offset>)>,
    log: OneLog,
}

struct Found {
    segment: SegmentName,
    segment_bytes: u64,
    run: RunEntry,
}

#[derive(Default)]
struct Plan {
    segments: Vec<RunCommit>,
    /// Where the partitions of the plan stand once it is done, with their runs and bytes.
    ends: HashMap<Partition, Planned>,
    producers_bytes: usize,
}

struct Planned {
    end: Offset,
    producers: ProducerTable,
    runs: u64,
    bytes: u64,
}

impl<'a> Adopter<'a> {
    pub(super) fn new(ports: Ports<'a>) -> Adopter<'a> {
        let (pending, standings, looks) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Adopter { ports, pending, standings, looks, log: OneLog::default() }
    }

    pub(super) fn push(&mut self, index: SegmentIndex) {
        let (segment, segment_bytes) = (index.name, index.length);
        let found = |run| Found { segment, segment_bytes, run };
        self.pending.extend(index.runs.into_iter().map(found));
    }

    /// Runs that are still to be dealt with.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn finish(self, segments: u64) -> OneLog {
        let damaged = |(partition, standing)| match standing {
            Standing::Damaged(reason) => Some((partition, reason)),
            Standing::At(..) | Standing::Gone => None,
        };
        let damaged = self.standings.into_iter().filter_map(damaged).collect();
        OneLog { segments, damaged, ..self.log }
    }

    /// Deals with up to [`RUNS_MAX`] runs, as long as it takes.
    pub(super) async fn step(&mut self) -> Result<(), AdoptError> {
        let count = self.pending.len().min(RUNS_MAX);
        loop {
            self.look_up(count).await?;
            let Some(plan) = self.plan(count).await? else { break };
            let adoption = plan.adoption();
            let (runs, ask) = (self.ports.runs, &self.ports);
            let refusals = ask.ask("adopting runs", || runs.adopt(adoption.clone())).await?;
            self.settle(plan, &refusals);
        }
        self.pending.drain(..count);
        Ok(())
    }

    /// Makes known where the partitions of the next `count` runs stand.
    async fn look_up(&mut self, count: usize) -> Result<(), AdoptError> {
        loop {
            let unknown = |it: &&Found| !self.standings.contains_key(&it.run.partition);
            let mut firsts: BTreeMap<Partition, Offset> = BTreeMap::new();
            for found in self.pending.iter().take(count).filter(unknown) {
                firsts.entry(found.run.partition).or_insert(found.run.base);
            }
            if firsts.is_empty() {
                return Ok(());
            }
            let mut wanted: Vec<Wanted> = Vec::with_capacity(firsts.len());
            for (partition, first) in firsts {
                let (looks, end) = self.looks.entry(partition).or_default();
                *looks += 1;
                if LOOKS_MAX < *looks {
                    let reason = "its committed end never rests".to_owned();
                    self.standings.insert(partition, Standing::Damaged(reason));
                } else {
                    wanted.push((partition, end.unwrap_or(first)));
                }
            }
            for (partition, standing) in self.ports.standings(wanted).await? {
                if let Some(standing) = standing {
                    self.standings.insert(partition, standing);
                }
            }
        }
    }

    /// What of the next `count` runs continues the committed ends; `None` if nothing does.
    async fn plan(&mut self, count: usize) -> Result<Option<Plan>, AdoptError> {
        let mut plan = Plan::default();
        let now = self.ports.environment.clock.wall();
        for found in self.pending.iter().take(count) {
            let partition = found.run.partition;
            let Some(Standing::At(end, table)) = self.standings.get(&partition) else { continue };
            let end = plan.ends.get(&partition).map_or(*end, |it| it.end);
            if found.run.end <= end {
                continue; // Flushed before the log died, or adopted by an earlier try.
            }
            if !plan.ends.contains_key(&partition) {
                plan.producers_bytes += table.encode().len();
                if PRODUCERS_BYTES_MAX < plan.producers_bytes && !plan.ends.is_empty() {
                    break; // The rest is for the next round.
                }
            }
            let run = match part_from(&found.run, end) {
                Ok(None) => Cow::Borrowed(&found.run),
                Ok(Some(part)) => {
                    let crc = self.ports.payload_crc(found.segment, &part).await?;
                    Cow::Owned(RunEntry { crc, ..part })
                }
                Err(reason) => {
                    let reason = format!("{}: {reason}", found.segment);
                    self.standings.insert(partition, Standing::Damaged(reason));
                    continue;
                }
            };
            let planned = plan.ends.entry(partition).or_insert_with(|| Planned {
                end,
                producers: table.clone(),
                runs: 0,
                bytes: 0,
            });
            for batch in run.batches.iter().filter_map(ProducedBatch::of) {
                planned.producers.replay(&batch, now);
            }
            planned.end = run.end;
            planned.runs += 1;
            planned.bytes += run.length;
            let description = run.described(found.segment);
            match plan.segments.last_mut().filter(|it| it.segment == found.segment) {
                Some(segment) => segment.runs.push(description),
                None => plan.segments.push(RunCommit {
                    segment: found.segment,
                    segment_bytes: found.segment_bytes,
                    created: now,
                    runs: vec![description],
                }),
            }
        }
        Ok((!plan.segments.is_empty()).then_some(plan))
    }

    /// Takes over what the metadata says of a plan.
    fn settle(&mut self, plan: Plan, refusals: &[RunRefusal]) {
        let refused: BTreeMap<Partition, RefusalReason> =
            refusals.iter().rev().map(|it| (it.partition, it.reason)).collect();
        for (partition, planned) in plan.ends {
            let standing = match refused.get(&partition) {
                None => {
                    self.log.runs += planned.runs;
                    self.log.bytes += planned.bytes;
                    self.log.moved = true;
                    Standing::At(planned.end, planned.producers)
                }
                Some(RefusalReason::UnknownPartition) => Standing::Gone,
                Some(RefusalReason::NotContiguous { committed_end }) => {
                    // Somebody else moved it, or an earlier try did whose answer was lost: whatever
                    // is known of it is old.
                    let known = self.standings.get(&partition);
                    self.log.moved |=
                        matches!(known, Some(Standing::At(end, _)) if end < committed_end);
                    self.looks.entry(partition).or_default().1 = Some(*committed_end);
                    self.standings.remove(&partition);
                    continue;
                }
                Some(reason @ (RefusalReason::WrongEpoch | RefusalReason::Changed)) => {
                    Standing::Damaged(format!("the metadata refuses what the log has: {reason}"))
                }
            };
            self.standings.insert(partition, standing);
        }
    }
}

/// What of a run continues the log at `end`: all of it, or a part; else, why nothing does.
fn part_from(run: &RunEntry, end: Offset) -> Result<Option<RunEntry>, String> {
    if run.base == end {
        return Ok(None);
    }
    if end < run.base {
        let base = run.base;
        return Err(format!("it goes on at {base}, the committed end is {end}"));
    }
    let cut = || format!("the committed end {end} is inside of one of its batches");
    run.part(end, run.end).ok_or_else(cut).map(Some)
}

impl Plan {
    fn adoption(&self) -> Adoption {
        let kept = |(partition, planned): (&Partition, &Planned)| KeptProducers {
            partition: *partition,
            as_of: planned.end,
            snapshot: planned.producers.encode(),
        };
        let mut producers: Vec<_> = self.ends.iter().map(kept).collect();
        producers.sort_by_key(|it| it.partition);
        Adoption { segments: self.segments.clone(), producers }
    }
}

impl Ports<'_> {
    /// The checksum of a part's bytes, once each of its batches is found whole.
    async fn payload_crc(&self, segment: SegmentName, part: &RunEntry) -> Result<u32, AdoptError> {
        let key = segment_key(segment);
        let range = part.position..part.position + part.length;
        let mut patience = Patience::new(self.environment);
        let bytes = loop {
            match self.bucket.get(&key, range.clone(), Purpose::Wal).await {
                Ok(bytes) => break bytes,
                Err(BucketError::NotFound { key }) => return Err(AdoptError::Missing { key }),
                Err(error) if error.is_transient() => patience.wait("reading a run", &error).await,
                Err(error) => return Err(error.into()),
            }
        };
        match check_batches(part, &bytes) {
            Ok(()) => Ok(crc32_iscsi(&bytes)),
            Err(reason) => Err(AdoptError::Corrupt { key, reason }),
        }
    }
}

fn check_batches(part: &RunEntry, bytes: &Bytes) -> Result<(), String> {
    for entry in &part.batches {
        let from = entry.position as usize; // Of a part that is in memory.
        let batch = bytes.get(from..from + entry.length as usize);
        let batch =
            batch.ok_or_else(|| format!("the batch at {} is cut off", entry.base_offset))?;
        let header = BatchHeader::parse(batch).map_err(|it| it.to_string())?;
        if header.base_offset != entry.base_offset || header.byte_length() != batch.len() {
            return Err(format!("another batch where offset {} is expected", entry.base_offset));
        }
        check_crc(batch).map_err(|it| format!("the batch at {}: {it}", entry.base_offset))?;
    }
    Ok(())
}
