//! One suite for everything that claims to be a [`RunIndex`].
//!
//! Whoever implements the port makes three partitions, fresh and led in one epoch by whom the port
//! belongs to, and runs [`conforms`] on them. It panics at the first promise that is not kept.

use super::{RefusalReason, RunCommit, RunDescription, RunIndex, RunRefusal};
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId};

/// Three partitions without a run, and their leader epoch, at least 1.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    pub partitions: [Partition; 3],
    pub leader_epoch: LeaderEpoch,
    /// The index's own wall time, more or less: commits are stamped with it.
    pub now: Timestamp,
}

/// # Panics
///
/// With the promise that is broken.
pub async fn conforms(index: &dyn RunIndex, fresh: Fresh) {
    runs_follow_each_other(index, fresh).await;
    refusals_spare_the_others(index, fresh).await;
    a_repeated_commit_changes_nothing(index, fresh).await;
    runs_are_found_by_offset(index, fresh).await;
    the_log_start_drops_runs_and_frees_segments(index, fresh).await;
    what_is_committed_below_the_log_start_is_dropped(index, fresh).await;
}

fn id(number: u128) -> SegmentName {
    SegmentName::data(0xc0f0_0000_0000_0000 + number)
}

fn run(fresh: Fresh, at: usize, segment: u128, base: i64, end: i64) -> RunDescription {
    RunDescription {
        partition: fresh.partitions[at],
        leader_epoch: fresh.leader_epoch,
        base: Offset(base),
        end: Offset(end),
        max_timestamp: Timestamp(end * 10),
        segment: id(segment),
        position: 64 + at as u64 * 1000,
        length: 100,
        crc: 0xc0ffee,
    }
}

fn commit(fresh: Fresh, runs: &[RunDescription]) -> RunCommit {
    let segment = runs[0].segment;
    RunCommit { segment, segment_bytes: 5000, created: fresh.now, runs: runs.to_vec() }
}

async fn committed(index: &dyn RunIndex, fresh: Fresh, runs: &[RunDescription]) -> Vec<RunRefusal> {
    index.commit(commit(fresh, runs)).await.expect("the index answers")
}

async fn runs_follow_each_other(index: &dyn RunIndex, fresh: Fresh) {
    let first = run(fresh, 0, 1, 0, 10);
    assert_eq!(index.last_run(fresh.partitions[0]).await, Ok(None));
    assert_eq!(committed(index, fresh, &[first]).await, []);
    assert_eq!(index.last_run(fresh.partitions[0]).await, Ok(Some(first)));
    for base in [9, 11] {
        let refused = committed(index, fresh, &[run(fresh, 0, 2, base, 20)]).await;
        let committed_end = Offset(10);
        assert_eq!(refused.len(), 1, "A3");
        assert_eq!(refused[0].partition, fresh.partitions[0]);
        assert_eq!(refused[0].reason, RefusalReason::NotContiguous { committed_end }, "A3");
    }
    let second = run(fresh, 0, 3, 10, 20);
    assert_eq!(committed(index, fresh, &[second]).await, []);
    assert_eq!(index.last_run(fresh.partitions[0]).await, Ok(Some(second)));
}

async fn refusals_spare_the_others(index: &dyn RunIndex, fresh: Fresh) {
    let good = run(fresh, 1, 4, 0, 5);
    let nowhere = Partition { topic: TopicId([0xee; 16]), index: 77 };
    let unknown = RunDescription { partition: nowhere, ..run(fresh, 2, 4, 0, 5) };
    let later = LeaderEpoch(fresh.leader_epoch.0 + 1);
    let foreign = RunDescription { leader_epoch: later, ..run(fresh, 2, 4, 0, 5) };
    let mut refused = committed(index, fresh, &[good, unknown, foreign]).await;
    refused.sort_by_key(|it| it.partition == nowhere);
    let reasons: Vec<_> = refused.iter().map(|it| (it.partition, it.reason)).collect();
    let wrong_epoch = (fresh.partitions[2], RefusalReason::WrongEpoch);
    assert_eq!(reasons, [wrong_epoch, (nowhere, RefusalReason::UnknownPartition)]);
    assert_eq!(index.last_run(fresh.partitions[1]).await, Ok(Some(good)));
    assert_eq!(index.last_run(fresh.partitions[2]).await, Ok(None));
    // Runs of an earlier epoch of the same leader come late, after a restart.
    let earlier = LeaderEpoch(fresh.leader_epoch.0 - 1);
    let late = RunDescription { leader_epoch: earlier, ..run(fresh, 2, 5, 0, 5) };
    assert_eq!(committed(index, fresh, &[late]).await, []);
    assert_eq!(committed(index, fresh, &[run(fresh, 2, 6, 5, 9)]).await, []);
    let older = RunDescription { leader_epoch: earlier, ..run(fresh, 2, 7, 9, 12) };
    let refused = committed(index, fresh, &[older]).await;
    assert_eq!(refused[0].reason, RefusalReason::WrongEpoch, "epochs do not go back");
}

/// What a flush does whose commit was not answered.
async fn a_repeated_commit_changes_nothing(index: &dyn RunIndex, fresh: Fresh) {
    let again = run(fresh, 1, 4, 0, 5);
    for refusal in committed(index, fresh, &[again]).await {
        let committed_end = Offset(5);
        assert_eq!(refusal.reason, RefusalReason::NotContiguous { committed_end });
    }
    assert_eq!(index.runs_from(fresh.partitions[1], Offset(0), 10).await, Ok(vec![again]), "A3");
}

async fn runs_are_found_by_offset(index: &dyn RunIndex, fresh: Fresh) {
    let all = [run(fresh, 0, 1, 0, 10), run(fresh, 0, 3, 10, 20)];
    for (offset, expected) in [(0, &all[..]), (9, &all[..]), (10, &all[1..]), (20, &[])] {
        let found = index.runs_from(fresh.partitions[0], Offset(offset), 10).await;
        assert_eq!(found.as_deref(), Ok(expected), "from {offset}");
    }
    let found = index.runs_from(fresh.partitions[0], Offset(0), 1).await;
    assert_eq!(found.as_deref(), Ok(&all[..1]));
}

async fn the_log_start_drops_runs_and_frees_segments(index: &dyn RunIndex, fresh: Fresh) {
    let partition = fresh.partitions[0];
    let is_garbage = async |segment| {
        let garbage = index.garbage(1000).await.expect("the index answers");
        garbage.iter().any(|it| it.segment == segment)
    };
    let known = index.known(&[id(1), id(3), id(999)]).await;
    assert_eq!(known, Ok(vec![true, true, false]));
    assert_eq!(index.advance_log_start(partition, Offset(9)).await, Ok(()));
    assert!(!is_garbage(id(1)).await, "a run that is needed in part stays whole");
    assert_eq!(index.advance_log_start(partition, Offset(10)).await, Ok(()));
    assert_eq!(index.advance_log_start(partition, Offset(3)).await, Ok(()), "backwards: no change");
    let left = index.runs_from(partition, Offset(0), 10).await;
    assert_eq!(left, Ok(vec![run(fresh, 0, 3, 10, 20)]));
    assert!(is_garbage(id(1)).await, "A7");
    assert!(!is_garbage(id(3)).await, "A6");
    assert_eq!(index.known(&[id(1)]).await, Ok(vec![true]), "known until it is forgotten");
    assert_eq!(index.forget(&[id(1)]).await, Ok(()));
    assert_eq!(index.forget(&[id(1)]).await, Ok(()), "again, after a lost answer");
    assert_eq!(index.known(&[id(1)]).await, Ok(vec![false]));
    assert!(!is_garbage(id(1)).await);
}

async fn what_is_committed_below_the_log_start_is_dropped(index: &dyn RunIndex, fresh: Fresh) {
    let partition = fresh.partitions[1];
    assert_eq!(index.advance_log_start(partition, Offset(8)).await, Ok(()));
    assert_eq!(committed(index, fresh, &[run(fresh, 1, 8, 5, 8)]).await, []);
    assert_eq!(index.runs_from(partition, Offset(0), 10).await, Ok(Vec::new()));
    let garbage = index.garbage(1000).await.expect("the index answers");
    assert!(garbage.iter().any(|it| it.segment == id(8)), "A7: its segment is garbage");
    assert_eq!(committed(index, fresh, &[run(fresh, 1, 9, 8, 12)]).await, [], "A3 goes on");
}
