//! What a run's index says of transactions, against itself: A8 without the payload.
//!
//! Owns: the rules that the batches of one run and its producers keep. Pure.
//! Does not own: reading the index (`segments`).
//!
//! A marker says where its transaction started, and readers of committed records believe it. So it must
//! not start behind records of its producer that no earlier marker has ended, nor before such a marker;
//! and what no marker of the run has ended must be open in the producers as of its end. Compaction may
//! take records away, which breaks none of this.

use partition_log::ProducerSnapshot;
use partition_log::segment::{BatchEntry, RunEntry};
use std::collections::BTreeMap;
use vocabulary::Offset;

/// Contradictions that are told of one run.
const PROBLEMS_MAX: usize = 8;

/// A producer's transactional batches in one run, since its last marker there.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    first: Option<Offset>,
    last_marker: Option<Offset>,
}

/// What contradicts A8 in the index of one run.
pub(crate) fn problems(run: &RunEntry) -> Vec<String> {
    let mut seen: BTreeMap<i64, Seen> = BTreeMap::new();
    let mut problems = Vec::new();
    for batch in &run.batches {
        let seen = seen.entry(batch.producer_id).or_default();
        if batch.attributes.is_control() {
            problems.extend(marker_problem(batch, *seen));
            *seen = Seen { first: None, last_marker: Some(batch.base_offset) };
        } else if batch.attributes.is_transactional() {
            seen.first.get_or_insert(batch.base_offset);
        }
    }
    if let Some(Ok(snapshot)) = run.producers.as_deref().map(ProducerSnapshot::read) {
        problems.extend(snapshot_problems(&seen, &snapshot));
    }
    problems.truncate(PROBLEMS_MAX);
    problems
}

fn marker_problem(batch: &BatchEntry, seen: Seen) -> Option<String> {
    let (id, at) = (batch.producer_id, batch.base_offset);
    let Some(marker) = batch.marker else {
        return Some(format!("the control batch at {at} does not say what it decides"));
    };
    match (marker.first_offset, seen) {
        (None, Seen { first: Some(first), .. }) => {
            Some(format!("the marker at {at} ends nothing, producer {id} has written at {first}"))
        }
        (Some(start), Seen { first: Some(first), .. }) if first < start => Some(format!(
            "the transaction of the marker at {at} starts at {start}, \
             producer {id} has written at {first}"
        )),
        (Some(start), Seen { last_marker: Some(last), .. }) if start <= last => Some(format!(
            "the transaction of the marker at {at} starts at {start}, \
             the one before it ended at {last}"
        )),
        _ => None,
    }
}

fn snapshot_problems(seen: &BTreeMap<i64, Seen>, snapshot: &ProducerSnapshot) -> Vec<String> {
    let starts: BTreeMap<i64, Option<Offset>> =
        snapshot.producers.iter().map(|it| (it.producer.0, it.transaction_start)).collect();
    let mut problems = Vec::new();
    for (id, seen) in seen {
        let start = starts.get(id).copied().flatten();
        match (seen.first, start) {
            (Some(first), None) => {
                problems.push(format!("producer {id} left {first} undecided, and it is not open"));
            }
            (Some(first), Some(start)) if first < start => problems.push(format!(
                "producer {id} left {first} undecided, its transaction is open from {start}"
            )),
            (None, Some(start)) if seen.last_marker.is_some_and(|last| start < last) => {
                problems.push(format!("producer {id} has {start} open behind its marker"));
            }
            _ => (),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use partition_log::segment::{MarkerEntry, SegmentBuilder};
    use protocol::records::{
        BatchBuilder, BatchHeader, Compression, EndTxnMarker, TransactionResult,
    };
    use vocabulary::{LeaderEpoch, Partition, ProducerId, SegmentName, Timestamp, TopicId};

    /// A run of `(producer, marker)`: records of a transaction, or a marker with where it started.
    fn run(batches: &[(i64, Option<Option<i64>>)]) -> RunEntry {
        let mut builder = SegmentBuilder::new(SegmentName::data(1));
        let partition = Partition { topic: TopicId([7; 16]), index: 0 };
        for (offset, (id, marked)) in batches.iter().enumerate() {
            let ending = EndTxnMarker { result: TransactionResult::Abort, coordinator_epoch: 1 };
            let mut batch = match marked {
                Some(_) => ending.batch(ProducerId(*id), 0, Timestamp(5)),
                None => {
                    let producer = Some((ProducerId(*id), 0, offset as i32));
                    let builder = BatchBuilder::new(Compression::None, producer);
                    let mut builder = builder.transactional();
                    builder.push(Timestamp(5), None, Some(b"v"), &[]);
                    builder.build()
                }
            };
            batch.stamp(Offset(offset as i64), LeaderEpoch(1));
            let (header, bytes): (BatchHeader, Bytes) = batch.freeze();
            let marker =
                marked.map(|first| MarkerEntry { marker: ending, first_offset: first.map(Offset) });
            builder.push_marked(partition, LeaderEpoch(1), &header, marker, bytes);
        }
        builder.finish().index.runs.remove(0)
    }

    #[test]
    fn what_a_leader_writes_has_no_problems() {
        let whole = [(1, None), (2, None), (1, Some(Some(0))), (2, None), (2, Some(Some(1)))];
        assert_eq!(problems(&run(&whole)), Vec::<String>::new());
        // The front of a transaction may lie in an earlier run, or have been compacted away.
        assert_eq!(problems(&run(&[(2, None), (1, None), (1, Some(Some(0)))])), [""; 0]);
        assert_eq!(problems(&run(&[(1, Some(None)), (1, Some(None))])), [""; 0]);
    }

    #[test]
    fn markers_that_hide_records_are_told() {
        let told = |batches: &[_]| problems(&run(batches)).concat();
        assert!(told(&[(1, None), (1, Some(None))]).contains("ends nothing"));
        assert!(told(&[(1, None), (1, None), (1, Some(Some(1)))]).contains("starts at 1"));
        let twice = [(1, None), (1, Some(Some(0))), (1, None), (1, Some(Some(0)))];
        assert!(told(&twice).contains("ended at 1"));
        let mut silent = run(&[(1, None), (1, Some(Some(0)))]);
        silent.batches[1].marker = None;
        assert!(problems(&silent).concat().contains("does not say"));
    }

    #[test]
    fn what_no_marker_ended_is_open_in_the_producers() {
        let mut run = run(&[(1, None)]);
        run.producers = Some(Bytes::new());
        assert!(problems(&run).concat().contains("it is not open"));
    }
}
