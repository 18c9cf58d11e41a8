//! Where a partition stands before a log is adopted: its committed end and its producers as of it.
//!
//! Owns: finding both in the metadata and, for a partition whose last run lies in a data segment, in
//! that segment's index. Does not own: what comes on top (`step`).

use super::index::{IndexError, read_index_of};
use super::{AdoptError, INDEXES_AT_ONCE, Ports};
use crate::log::ProducerTable;
use crate::run_index::RunDescription;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use vocabulary::{Offset, Partition, SegmentName};

/// A partition as far as it is known.
#[derive(Debug)]
pub(super) enum Standing {
    /// Everything below is committed; the producers are as of here.
    At(Offset, ProducerTable),
    /// Its topic is deleted.
    Gone,
    /// The log contradicts the metadata.
    Damaged(String),
}

/// What the metadata said of a partition.
enum Told {
    Known(Standing),
    /// Its last run's index has the producers.
    InIndex(RunDescription),
}

/// A partition to look up, with what is to be taken for its committed end if it has no run: if that
/// is wrong, the metadata refuses what starts there and tells the right one.
pub(super) type Wanted = (Partition, Offset);

impl Ports<'_> {
    /// Each partition's standing. `None` for one whose last run was just replaced: to be asked again.
    pub(super) async fn standings(
        self,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<(Partition, Option<Standing>)>, AdoptError> {
        let told: Vec<_> = futures::stream::iter(wanted)
            .map(|it| async move { Ok::<_, AdoptError>((it.0, self.told(it).await?)) })
            .buffer_unordered(INDEXES_AT_ONCE)
            .try_collect()
            .await?;
        let mut standings = Vec::with_capacity(told.len());
        let mut by_segment: BTreeMap<SegmentName, Vec<RunDescription>> = BTreeMap::new();
        for (partition, told) in told {
            match told {
                Told::Known(standing) => standings.push((partition, Some(standing))),
                Told::InIndex(run) => by_segment.entry(run.segment).or_default().push(run),
            }
        }
        let read: Vec<_> = futures::stream::iter(by_segment)
            .map(|(segment, runs)| self.in_index(segment, runs))
            .buffer_unordered(INDEXES_AT_ONCE)
            .try_collect()
            .await?;
        standings.extend(read.into_iter().flatten());
        Ok(standings)
    }

    async fn told(&self, (partition, end): Wanted) -> Result<Told, AdoptError> {
        let kept = self.ask("looking up producers", || self.runs.kept_producers(partition)).await?;
        if let Some(kept) = kept {
            return Ok(Told::Known(at(kept.as_of, &kept.snapshot)));
        }
        let last = self.ask("looking up runs", || self.runs.last_run(partition)).await?;
        Ok(match last {
            Some(run) => Told::InIndex(run),
            None => Told::Known(Standing::At(end, ProducerTable::default())),
        })
    }

    async fn in_index(
        self,
        segment: SegmentName,
        runs: Vec<RunDescription>,
    ) -> Result<Vec<(Partition, Option<Standing>)>, AdoptError> {
        let index = match read_index_of(self.bucket, segment, self.environment).await {
            Ok(index) => index,
            Err(IndexError::Gone) => {
                // Merged or deleted under our hands.
                return Ok(runs.into_iter().map(|it| (it.partition, None)).collect());
            }
            Err(IndexError::Failed(AdoptError::Corrupt { key, reason })) => {
                let reason = format!("A6: {key} is corrupt: {reason}");
                let damaged =
                    |it: RunDescription| (it.partition, Some(Standing::Damaged(reason.clone())));
                return Ok(runs.into_iter().map(damaged).collect());
            }
            Err(IndexError::Failed(error)) => return Err(error),
        };
        let standing = |run: RunDescription| {
            let entry =
                index.runs.iter().find(|it| it.partition == run.partition && it.end == run.end);
            let standing = match entry {
                Some(entry) => at(run.end, entry.producers.as_ref().unwrap_or(&Bytes::new())),
                None => Standing::Damaged(format!(
                    "A6: {segment} lacks the run that ends at {}",
                    run.end
                )),
            };
            (run.partition, Some(standing))
        };
        Ok(runs.into_iter().map(standing).collect())
    }
}

fn at(end: Offset, snapshot: &Bytes) -> Standing {
    match ProducerTable::decode(snapshot) {
        Ok(table) => Standing::At(end, table),
        Err(error) => Standing::Damaged(error.to_string()),
    }
}
