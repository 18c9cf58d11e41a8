//! One suite for everything that claims to be a [`RunIndex`].
//!
//! Whoever implements the port makes three partitions, fresh and led in one epoch by whom the port
//! belongs to, and runs [`conforms`] on them. It panics at the first promise that is not kept.

use super::{
    Adoption, KeptProducers, RefusalReason, Replacement, RunCommit, RunDescription, RunIndex,
    RunRefusal,
};
use bytes::Bytes;
use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId,
};

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
    the_last_run_goes_only_when_its_producers_are_kept(index, fresh).await;
    a_data_segments_run_brings_its_own_producers(index, fresh).await;
    runs_are_adopted_with_their_producers_or_not_at_all(index, fresh).await;
    adopted_runs_go_with_the_log_start(index, fresh).await;
    runs_are_replaced_only_as_they_are(index, fresh).await;
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
    // So does one whose runs are of two epochs: the first is behind the second by now, and still ours.
    let earlier = LeaderEpoch(fresh.leader_epoch.0 - 1);
    let first = RunDescription { leader_epoch: earlier, ..run(fresh, 2, 5, 0, 5) };
    let both = [first, run(fresh, 2, 5, 5, 9)];
    let refused = committed(index, fresh, &both).await;
    let reasons: Vec<_> = refused.iter().map(|it| it.reason).collect();
    let known = RefusalReason::NotContiguous { committed_end: Offset(9) };
    assert_eq!(reasons, [known, known], "A4: nobody else wrote them");
    // What another epoch wrote there is not ours.
    let stale = RunDescription { leader_epoch: earlier, ..run(fresh, 2, 70, 5, 9) };
    let refused = committed(index, fresh, &[stale]).await;
    assert_eq!(refused[0].reason, RefusalReason::WrongEpoch, "A4");
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
    let nowhere = Partition { topic: TopicId([0xee; 16]), index: 77 };
    assert_eq!(index.log_start(nowhere).await, Ok(None));
    assert_eq!(index.log_start(fresh.partitions[0]).await, Ok(Some(Offset(0))));
    let partition = fresh.partitions[0];
    let known = index.known(&[id(1), id(3), id(999)]).await;
    assert_eq!(known, Ok(vec![true, true, false]));
    assert_eq!(index.advance_log_start(partition, Offset(9), None).await, Ok(()));
    assert!(!is_garbage(index, id(1)).await, "a run that is needed in part stays whole");
    assert_eq!(index.advance_log_start(partition, Offset(10), None).await, Ok(()));
    assert_eq!(
        index.advance_log_start(partition, Offset(3), None).await,
        Ok(()),
        "backwards: no change"
    );
    let left = index.runs_from(partition, Offset(0), 10).await;
    assert_eq!(left, Ok(vec![run(fresh, 0, 3, 10, 20)]));
    assert!(is_garbage(index, id(1)).await, "A7");
    assert!(!is_garbage(index, id(3)).await, "A6");
    assert_eq!(index.known(&[id(1)]).await, Ok(vec![true]), "known until it is forgotten");
    assert_eq!(index.forget(&[id(1)]).await, Ok(()));
    assert_eq!(index.forget(&[id(1)]).await, Ok(()), "again, after a lost answer");
    assert_eq!(index.known(&[id(1)]).await, Ok(vec![false]));
    assert!(!is_garbage(index, id(1)).await);
}

async fn is_garbage(index: &dyn RunIndex, segment: SegmentName) -> bool {
    let garbage = index.garbage(1000).await.expect("the index answers");
    garbage.iter().any(|it| it.segment == segment)
}

fn producers(fresh: Fresh, at: usize, as_of: i64) -> KeptProducers {
    let snapshot = Bytes::from(format!("producers of {at} as of {as_of}"));
    KeptProducers { partition: fresh.partitions[at], as_of: Offset(as_of), snapshot }
}

/// Partition 1 has the one run `[0, 5)`.
async fn the_last_run_goes_only_when_its_producers_are_kept(index: &dyn RunIndex, fresh: Fresh) {
    let partition = fresh.partitions[1];
    assert_eq!(index.kept_producers(partition).await, Ok(None));
    assert_eq!(index.advance_log_start(partition, Offset(8), None).await, Ok(()));
    assert_eq!(index.last_run(partition).await, Ok(Some(run(fresh, 1, 4, 0, 5))), "A5: they are");
    let older = Some(producers(fresh, 1, 4));
    assert_eq!(index.advance_log_start(partition, Offset(8), older).await, Ok(()));
    let last = index.last_run(partition).await.expect("the index answers");
    assert!(last.is_some() && !is_garbage(index, id(4)).await, "A5: in its index, as of its end");
    assert_eq!(
        index.kept_producers(partition).await,
        Ok(None),
        "those of another time are not kept"
    );

    let kept = producers(fresh, 1, 5);
    for _ in 0..2 {
        let kept = Some(kept.clone());
        assert_eq!(index.advance_log_start(partition, Offset(8), kept).await, Ok(()));
    }
    assert_eq!(index.last_run(partition).await, Ok(None));
    assert!(is_garbage(index, id(4)).await, "A7");
    assert_eq!(index.kept_producers(partition).await, Ok(Some(kept.clone())));
    assert_eq!(index.advance_log_start(partition, Offset(8), None).await, Ok(()));
    assert_eq!(index.kept_producers(partition).await, Ok(Some(kept)), "they stay as they are");

    // Where records are left they are not kept: the last run has them.
    let as_of_end = Some(producers(fresh, 0, 20));
    assert_eq!(index.advance_log_start(fresh.partitions[0], Offset(12), as_of_end).await, Ok(()));
    assert_eq!(index.kept_producers(fresh.partitions[0]).await, Ok(None));
}

/// Partition 1 has no run, its log starts at 8 and its committed end is 5.
async fn a_data_segments_run_brings_its_own_producers(index: &dyn RunIndex, fresh: Fresh) {
    let partition = fresh.partitions[1];
    let below = run(fresh, 1, 8, 5, 8);
    assert_eq!(committed(index, fresh, &[below]).await, []);
    assert_eq!(index.kept_producers(partition).await, Ok(None), "a newer run has newer ones");
    assert_eq!(index.last_run(partition).await, Ok(Some(below)), "A5");
    assert_eq!(index.runs_from(partition, Offset(8), 10).await, Ok(Vec::new()), "not to be read");
    let above = run(fresh, 1, 9, 8, 12);
    assert_eq!(committed(index, fresh, &[above]).await, [], "A3 goes on");
    assert_eq!(index.advance_log_start(partition, Offset(8), None).await, Ok(()));
    assert_eq!(index.runs_from(partition, Offset(0), 10).await, Ok(vec![above]));
    assert!(is_garbage(index, id(8)).await, "A7: what is below the log start is garbage");
}

fn adoption(fresh: Fresh, runs: &[RunDescription], producers: &[KeptProducers]) -> Adoption {
    let segments = runs.chunk_by(|a, b| a.segment == b.segment).map(|it| commit(fresh, it));
    Adoption { segments: segments.collect(), producers: producers.to_vec() }
}

fn wal(fresh: Fresh, at: usize, sequence: u64, base: i64, end: i64) -> RunDescription {
    let (broker, epoch) = (BrokerId(0x7abc), BrokerEpoch(3));
    let leader_epoch = LeaderEpoch(fresh.leader_epoch.0 - 1);
    let segment = SegmentName::Wal { broker, epoch, sequence };
    RunDescription { segment, leader_epoch, ..run(fresh, at, 0, base, end) }
}

async fn adopted(
    index: &dyn RunIndex,
    fresh: Fresh,
    runs: &[RunDescription],
    producers: &[KeptProducers],
) -> Vec<RunRefusal> {
    index.adopt(adoption(fresh, runs, producers)).await.expect("the index answers")
}

/// Partition 1 ends at 12. Partition 2 has the runs `[0, 5)` and `[5, 9)` of the fresh epoch.
async fn runs_are_adopted_with_their_producers_or_not_at_all(index: &dyn RunIndex, fresh: Fresh) {
    let of_now = |it: RunDescription| RunDescription { leader_epoch: fresh.leader_epoch, ..it };
    let runs = [(1, 9, 12), (2, 9, 11), (2, 11, 14), (2, 14, 15)];
    let runs = (1..)
        .zip(runs)
        .map(|(sequence, (at, base, end))| of_now(wal(fresh, at, sequence, base, end)));
    let runs: Vec<_> = runs.collect();
    // Too few producers, or those of another time: nothing of that partition.
    for producers in [&[][..], &[producers(fresh, 2, 14)], &[producers(fresh, 1, 15)]] {
        let refused = adopted(index, fresh, &runs[1..], producers).await;
        let committed_end = Offset(9);
        let reasons: Vec<_> = refused.iter().map(|it| it.reason).collect();
        assert_eq!(reasons, [RefusalReason::NotContiguous { committed_end }; 3], "A5");
        assert_eq!(index.last_run(fresh.partitions[2]).await, Ok(Some(run(fresh, 2, 6, 5, 9))));
    }
    let stale = wal(fresh, 2, 2, 9, 11);
    let refused = adopted(index, fresh, &[stale], &[producers(fresh, 2, 11)]).await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, RefusalReason::WrongEpoch, "A4: a newer leader has committed");

    // A run of which the committed end has passed a part is refused, the others are not.
    let refused = adopted(index, fresh, &runs, &[producers(fresh, 2, 15)]).await;
    let (partition, base) = (fresh.partitions[1], Offset(9));
    let reason = RefusalReason::NotContiguous { committed_end: Offset(12) };
    assert_eq!(refused, [RunRefusal { partition, base, reason }]);
    let found = index.runs_from(fresh.partitions[2], Offset(9), 10).await;
    assert_eq!(found.as_deref(), Ok(&runs[1..]), "where they lie");
    let kept = index.kept_producers(fresh.partitions[2]).await;
    assert_eq!(kept, Ok(Some(producers(fresh, 2, 15))));
    let known = index.known(&[runs[1].segment, runs[3].segment]).await;
    assert_eq!(known, Ok(vec![true, true]), "A6");

    // Again, after a lost answer.
    let refused = adopted(index, fresh, &runs[1..], &[producers(fresh, 2, 15)]).await;
    assert_eq!(refused.len(), 3);
    assert_eq!(
        index.runs_from(fresh.partitions[2], Offset(9), 10).await.as_deref(),
        Ok(&runs[1..])
    );
    assert_eq!(
        index.kept_producers(fresh.partitions[2]).await,
        Ok(Some(producers(fresh, 2, 15))),
        "A5: the second try takes nothing away"
    );
}

/// Partition 2 ends with the adopted runs `[9, 11)`, `[11, 14)`, `[14, 15)`, its producers are kept.
async fn adopted_runs_go_with_the_log_start(index: &dyn RunIndex, fresh: Fresh) {
    let partition = fresh.partitions[2];
    let found = index.runs_from(partition, Offset(9), 10).await.expect("the index answers");
    assert_eq!(index.advance_log_start(partition, Offset(15), None).await, Ok(()));
    assert_eq!(index.last_run(partition).await, Ok(None), "they are kept: no run is needed");
    for run in found {
        assert!(is_garbage(index, run.segment).await, "A7: {}", run.segment);
    }
    assert_eq!(index.kept_producers(partition).await, Ok(Some(producers(fresh, 2, 15))), "A5");
    assert_eq!(committed(index, fresh, &[run(fresh, 2, 20, 15, 17)]).await, []);
    assert_eq!(index.kept_producers(partition).await, Ok(None), "the new run has newer ones");
    assert_eq!(committed(index, fresh, &[run(fresh, 2, 21, 17, 19)]).await, []);
    assert_eq!(committed(index, fresh, &[run(fresh, 2, 22, 19, 23)]).await, []);
}

/// Partition 1 ends with the run `[8, 12)`, partition 2 with `[15, 17)`, `[17, 19)`, `[19, 23)`.
async fn runs_are_replaced_only_as_they_are(index: &dyn RunIndex, fresh: Fresh) {
    let parts = [run(fresh, 2, 20, 15, 17), run(fresh, 2, 21, 17, 19), run(fresh, 2, 22, 19, 23)];
    let merged = run(fresh, 2, 30, 15, 19);
    let replace = async |merged: &[RunDescription], replaced: &[RunDescription]| {
        let command = Replacement { merged: commit(fresh, merged), replaced: replaced.to_vec() };
        let refused = index.replace(command).await.expect("the index answers");
        refused.into_iter().map(|it| (it.base, it.reason)).collect::<Vec<_>>()
    };
    let changed = [(Offset(15), RefusalReason::Changed)];
    let moved = RunDescription { position: 1, ..parts[1] };
    let wrong: [&[RunDescription]; 4] =
        [&[], &parts[..1], &[parts[0], moved], &[parts[1], parts[0]]];
    for replaced in wrong {
        assert_eq!(replace(&[merged], replaced).await, changed, "{replaced:?}");
        let found = index.runs_from(fresh.partitions[2], Offset(0), 10).await;
        assert_eq!(found.as_deref(), Ok(&parts[..]), "A3: as before");
    }
    let older = LeaderEpoch(fresh.leader_epoch.0 - 1);
    let of_older = RunDescription { leader_epoch: older, ..merged };
    assert_eq!(replace(&[of_older], &parts[..2]).await, changed, "a run is of one leader epoch");
    // What was not merged in the end is garbage at once, and may not come back.
    assert!(is_garbage(index, id(30)).await, "A7");

    let merged = run(fresh, 2, 31, 15, 19);
    let other = run(fresh, 1, 31, 8, 12);
    let gone = RunDescription { base: Offset(5), ..other };
    let replaced = [parts[0], parts[1], run(fresh, 1, 8, 5, 8), run(fresh, 1, 9, 8, 12)];
    let refused = replace(&[merged, gone], &replaced).await;
    assert_eq!(refused, [(Offset(5), RefusalReason::Changed)], "retention was faster");
    let found = index.runs_from(fresh.partitions[2], Offset(0), 10).await;
    assert_eq!(found, Ok(vec![merged, parts[2]]), "one step, no gap (A3)");
    for (segment, is_dead) in [(20, true), (21, true), (22, false), (31, false), (9, false)] {
        assert_eq!(is_garbage(index, id(segment)).await, is_dead, "{segment} (A6, A7)");
    }
    assert_eq!(replace(&[merged], &parts[..2]).await, [], "again, after a lost answer");
    assert!(!is_garbage(index, id(31)).await, "A6");

    // Up to the committed end: what follows goes on behind it.
    let all = run(fresh, 2, 32, 15, 23);
    assert_eq!(replace(&[all], &[merged, parts[2]]).await, []);
    assert_eq!(committed(index, fresh, &[run(fresh, 2, 33, 23, 25)]).await, []);
    let found = index.runs_from(fresh.partitions[2], Offset(0), 10).await;
    assert_eq!(found, Ok(vec![all, run(fresh, 2, 33, 23, 25)]));
    assert!(is_garbage(index, id(31)).await && !is_garbage(index, id(32)).await);
}
