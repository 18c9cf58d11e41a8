//! The rules of runs: committed, adopted, replaced, dropped, and what becomes of their segments.
//!
//! The runs themselves are in the store. A rule that needs some is given what was read ([`Stored`]),
//! and says so if that may not be what is committed any more.

use std::collections::BTreeMap;

use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId};

use super::super::command::{
    ADOPTED_PRODUCERS_BYTES_MAX, ADOPTED_RUNS_MAX, AdoptRuns, CommitRefusal, CommitRuns,
    KeptProducers, LogStartError, RefusedRun, ReplaceRuns, RunRefusal,
};
use super::super::event::Event;
use super::super::{Progress, Run, Segment, State};
use super::{Decided, Registration, stale};

/// Runs of one partition as they were read from the store, in offset order.
///
/// Other commands may have been decided since: runs committed behind them are of no interest, runs
/// dropped from the front are known by where the live runs start, and runs that were replaced by the
/// number of replacements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) runs: Vec<Run>,
    /// Of the partition, as visible to readers before the runs were read.
    pub(crate) replacements: u64,
}

/// What one step of [`advance_log_start`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// Nothing: runs were replaced since they were read.
    ReadAgain,
    /// So many runs were dropped.
    Dropped(usize),
}

/// Where the committed runs of a partition are after earlier runs of the same command.
#[derive(Debug, Clone, Copy)]
struct Moved {
    epoch: LeaderEpoch,
    end: Offset,
    bytes: u64,
    runs: u64,
}

impl Moved {
    fn before(progress: &Progress) -> Moved {
        Moved {
            epoch: progress.epochs.last().map_or(LeaderEpoch(0), |it| it.0),
            end: progress.committed_end,
            bytes: progress.committed_bytes,
            runs: progress.runs,
        }
    }

    fn after(self, run: &Run) -> Moved {
        Moved {
            epoch: run.leader_epoch,
            end: run.end,
            bytes: self.bytes + run.length,
            runs: self.runs + 1,
        }
    }
}

/// Where the partition of `run` is after it, if it may be committed.
fn check_run(
    state: &State,
    run: &Run,
    moved: &BTreeMap<Partition, Moved>,
) -> Result<Moved, RunRefusal> {
    let progress = state.progress_of(run.partition).ok_or(RunRefusal::UnknownPartition)?;
    let topic = state.topics.get(&run.partition.topic).ok_or(RunRefusal::UnknownPartition)?;
    let info = topic.partitions[run.partition.index as usize];
    let before = moved.get(&run.partition).copied().unwrap_or(Moved::before(progress));
    // What is committed below the end may be this very run, whose answer was lost: then the leader has
    // to look, whatever epochs have committed since. Not if another epoch wrote what is there.
    let is_foreign = match run.base < before.end {
        true => progress.epoch_at(run.base).is_some_and(|it| it != run.leader_epoch),
        false => run.leader_epoch < before.epoch,
    };
    if info.leader_epoch < run.leader_epoch || is_foreign {
        return Err(RunRefusal::WrongLeaderEpoch);
    }
    if run.base != before.end || run.end <= run.base {
        return Err(RunRefusal::NotContiguous { committed_end: before.end });
    }
    Ok(before.after(run))
}

/// The runs that were refused, each with its reason; the others are committed.
pub(crate) fn commit_runs(
    state: &State,
    command: &CommitRuns,
    now: Timestamp,
) -> Decided<Vec<RefusedRun>, CommitRefusal> {
    let by = Registration { broker: command.broker, epoch: command.broker_epoch };
    check_registration(state, by)?;
    let (mut events, mut refused) = (Vec::with_capacity(command.runs.len() + 1), Vec::new());
    let mut moved = BTreeMap::new();
    for run in &command.runs {
        let leader = state.topics.get(&run.partition.topic).and_then(|topic| {
            Some(topic.partitions.get(usize::try_from(run.partition.index).ok()?)?.leader)
        });
        let checked = match leader {
            Some(leader) if leader != by.broker => Err(RunRefusal::WrongLeaderEpoch),
            Some(_) | None => check_run(state, run, &moved),
        };
        match checked {
            Ok(after) => {
                let (committed_bytes, runs) = (after.bytes, after.runs);
                events.push(Event::RunCommitted { run: *run, committed_bytes, runs });
                moved.insert(run.partition, after);
            }
            Err(refusal) => refused.push(refused_run(run, refusal)),
        }
    }
    let has_kept = |it: &Partition| state.progress_of(*it).is_some_and(Progress::has_kept);
    let outdated = moved.keys().copied().filter(has_kept);
    let live_runs = events.len() as u32;
    events.extend(outdated.map(|partition| Event::ProducersForgotten { partition }));
    let referred = (command.segment, command.segment_bytes, command.created);
    events.extend(refer(state, referred, live_runs, (false, now))?);
    Ok((events, refused))
}

/// All that is not refused, in one step. Nothing is said of a segment of which everything is refused:
/// the sweep of its log finds it.
pub(crate) fn adopt_runs(
    state: &State,
    command: &AdoptRuns,
    now: Timestamp,
) -> Decided<Vec<RefusedRun>, CommitRefusal> {
    check_registration(state, command.by)?;
    let runs = command.segments.iter().map(|it| it.runs.len()).sum();
    let producers_bytes = command.producers.iter().map(|it| it.snapshot.len()).sum();
    if ADOPTED_RUNS_MAX < runs || ADOPTED_PRODUCERS_BYTES_MAX < producers_bytes {
        return Err(CommitRefusal::TooLarge { runs, producers_bytes });
    }
    let (mut fitting, mut refused) = (Vec::with_capacity(runs), Vec::new());
    let mut moved = BTreeMap::new();
    for run in command.segments.iter().flat_map(|it| &it.runs) {
        match check_run(state, run, &moved) {
            Ok(after) => {
                moved.insert(run.partition, after);
                fitting.push((run, after));
            }
            Err(refusal) => refused.push(refused_run(run, refusal)),
        }
    }
    // A partition without producers as of its new end stays as it was (A5).
    let is_as_of_end =
        |it: &&KeptProducers| moved.get(&it.partition).is_some_and(|to| to.end == it.as_of);
    let producers: BTreeMap<Partition, &KeptProducers> =
        command.producers.iter().filter(is_as_of_end).map(|it| (it.partition, it)).collect();
    let mut events = Vec::with_capacity(runs + producers.len() + command.segments.len());
    let mut live_runs: BTreeMap<SegmentName, u32> = BTreeMap::new();
    for (run, after) in fitting {
        if !producers.contains_key(&run.partition) {
            let progress = state.progress_of(run.partition);
            let committed_end = progress.map_or(Offset::ZERO, |it| it.committed_end);
            refused.push(refused_run(run, RunRefusal::NotContiguous { committed_end }));
            continue;
        }
        let (committed_bytes, runs) = (after.bytes, after.runs);
        events.push(Event::RunCommitted { run: *run, committed_bytes, runs });
        *live_runs.entry(run.segment).or_default() += 1;
    }
    events.extend(producers.into_values().map(|it| Event::ProducersKept(it.clone())));
    for it in &command.segments {
        // Taken out: a segment that is named twice counts its runs once.
        if let Some(count) = live_runs.remove(&it.segment) {
            let may_revive = !state.may_go(it.segment);
            let referred = (it.segment, it.segment_bytes, it.created);
            events.extend(refer(state, referred, count, (may_revive, now))?);
        }
    }
    Ok((events, refused))
}

/// `None` if `stored`, of each partition with a merged run, must be read again.
pub(crate) fn replace_runs(
    state: &State,
    command: &ReplaceRuns,
    stored: &BTreeMap<Partition, Stored>,
    now: Timestamp,
) -> Decided<Option<Vec<RefusedRun>>, CommitRefusal> {
    check_registration(state, command.by)?;
    if ADOPTED_RUNS_MAX < command.replaced.len() {
        return Err(CommitRefusal::TooLarge { runs: command.replaced.len(), producers_bytes: 0 });
    }
    let is_read = |(partition, it): (&Partition, &Stored)| {
        state.progress_of(*partition).is_none_or(|to| to.replacements == it.replacements)
    };
    if !stored.iter().all(is_read) {
        return Ok((Vec::new(), None));
    }
    let (mut events, mut refused, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    // What is left of a partition's progress, and where its last merged run ends.
    let mut after: BTreeMap<Partition, (Progress, Offset)> = BTreeMap::new();
    let mut live_runs = 0;
    for merged in &command.merged.runs {
        let Some(before) = state.progress_of(merged.partition) else {
            refused.push(refused_run(merged, RunRefusal::UnknownPartition));
            continue;
        };
        let found = stored.get(&merged.partition).map_or(&[][..], |it| &it.runs);
        if before.runs_start <= merged.base && found.contains(merged) {
            continue; // An earlier try, whose answer was lost.
        }
        let free_from = after.get(&merged.partition).map_or(before.runs_start, |it| it.1);
        let Some(parts) = parts_of(merged, &command.replaced, found, free_from) else {
            refused.push(refused_run(merged, RunRefusal::Changed));
            continue;
        };
        let entry = after.entry(merged.partition);
        let (progress, end) = entry.or_insert_with(|| (before.clone(), Offset::ZERO));
        *end = merged.end;
        let bytes: u64 = parts.iter().map(|it| it.length).sum();
        progress.committed_bytes = (progress.committed_bytes + merged.length).saturating_sub(bytes);
        progress.runs = (progress.runs + 1).saturating_sub(parts.len() as u64);
        progress.replacements += 1;
        gone.extend_from_slice(&parts);
        live_runs += 1;
        events.push(Event::RunsReplaced {
            merged: *merged,
            parts,
            committed_bytes: progress.committed_bytes,
            runs: progress.runs,
            replacements: progress.replacements,
        });
    }
    let it = &command.merged;
    let referred = (it.segment, it.segment_bytes, it.created);
    events.extend(refer(state, referred, live_runs, (false, now))?);
    events.extend(released(state, &gone, now));
    Ok((events, Some(refused)))
}

/// The runs among `named` that `merged` was made of, if they are what is committed and make it up.
fn parts_of(merged: &Run, named: &[Run], stored: &[Run], free_from: Offset) -> Option<Vec<Run>> {
    let is_inside = |it: &&Run| {
        it.partition == merged.partition && merged.base <= it.base && it.end <= merged.end
    };
    let parts: Vec<Run> = named.iter().filter(is_inside).copied().collect();
    let committed: BTreeMap<Offset, &Run> = stored.iter().map(|it| (it.base, it)).collect();
    let mut next = merged.base;
    for part in &parts {
        let is_next = part.base == next && part.leader_epoch == merged.leader_epoch;
        let is_live = free_from <= part.base && committed.get(&part.base) == Some(&part);
        if !is_next || !is_live || part.segment == merged.segment {
            return None;
        }
        next = part.end;
    }
    (!parts.is_empty() && next == merged.end).then_some(parts)
}

/// `stored` are runs that end at or before `log_start`, the first ones first. The last run of the
/// partition goes only if its producers are kept, from before or with this command.
pub(crate) fn advance_log_start(
    state: &State,
    partition: Partition,
    log_start: Offset,
    producers: Option<&KeptProducers>,
    stored: &Stored,
    now: Timestamp,
) -> Decided<Advanced, LogStartError> {
    let progress = state.progress_of(partition).ok_or(LogStartError::UnknownPartition)?;
    if progress.replacements != stored.replacements {
        return Ok((Vec::new(), Advanced::ReadAgain));
    }
    let log_start = log_start.max(progress.log_start);
    let mut events = Vec::with_capacity(2 * stored.runs.len() + 2);
    if progress.log_start < log_start {
        events.push(Event::LogStartAdvanced { partition, log_start });
    }
    let end = progress.committed_end;
    let mut has_kept = progress.has_kept();
    if let Some(it) = producers {
        let is_as_of_end = it.partition == partition && it.as_of == end && end <= log_start;
        if is_as_of_end && !has_kept {
            events.push(Event::ProducersKept(it.clone()));
            has_kept = true;
        }
    }
    let mut bytes = progress.committed_bytes;
    let mut runs = progress.runs;
    let mut start = progress.runs_start;
    let mut dropped = Vec::with_capacity(stored.runs.len());
    for run in stored.runs.iter().filter(|it| progress.runs_start <= it.base) {
        assert!(run.end <= log_start, "A3: only runs wholly below the log start are dropped");
        assert!(run.base == start, "A3: runs are dropped from the front, without a gap");
        if run.end == end && !has_kept {
            break;
        }
        start = run.end;
        bytes = bytes.saturating_sub(run.length);
        runs = runs.saturating_sub(1);
        events.push(Event::RunDropped { run: *run, committed_bytes: bytes, runs });
        dropped.push(*run);
    }
    events.extend(released(state, &dropped, now));
    Ok((events, Advanced::Dropped(dropped.len())))
}

pub(crate) fn drop_runs(
    topic: TopicId,
    state: &State,
    dropped: &[Run],
    is_last: bool,
    now: Timestamp,
) -> Vec<Event> {
    let gone = |run: &Run| Event::RunDropped { run: *run, committed_bytes: 0, runs: 0 };
    let mut events: Vec<Event> = dropped.iter().map(gone).collect();
    events.extend(released(state, dropped, now));
    if is_last {
        events.push(Event::TopicDropped { id: topic });
    }
    events
}

/// Only garbage is forgotten: what is referenced keeps its place in the index (A6), and so does what
/// may still be referenced anew.
pub(crate) fn forget_segments(state: &State, segments: &[SegmentName]) -> Vec<Event> {
    let is_garbage = |id: &&SegmentName| {
        let segment = state.segments.get(*id);
        segment.is_some_and(|it| it.garbage_since.is_some()) && state.may_go(**id)
    };
    segments.iter().filter(is_garbage).map(|id| Event::SegmentForgotten { id: *id }).collect()
}

/// The segment with `count` more live runs, unless that is no change. Garbage comes back only if it
/// `may_revive`: somebody may be deleting the object (A6).
fn refer(
    state: &State,
    (id, bytes, created): (SegmentName, u64, Timestamp),
    count: u32,
    (may_revive, now): (bool, Timestamp),
) -> Result<Option<Event>, CommitRefusal> {
    let known = state.segments.get(&id);
    let live_runs = match known {
        // The answer to the first command was lost: everything in it is there already.
        Some(known) if count == 0 && known.bytes == bytes => return Ok(None),
        // What was refused at first may fit now.
        Some(known) if known.bytes == bytes && (known.garbage_since.is_none() || may_revive) => {
            known.live_runs + count
        }
        Some(_) => return Err(CommitRefusal::SegmentReused(id)),
        None => count,
    };
    let segment = Segment {
        bytes,
        created: known.map_or(created, |it| it.created),
        live_runs,
        garbage_since: Event::garbage_since(now, live_runs),
    };
    Ok(Some(Event::SegmentChanged { id, segment }))
}

/// The segments of `dropped`, each with its lower count of live runs.
fn released(state: &State, dropped: &[Run], now: Timestamp) -> Vec<Event> {
    let mut counts: BTreeMap<SegmentName, u32> = BTreeMap::new();
    for run in dropped {
        *counts.entry(run.segment).or_default() += 1;
    }
    let change = |(id, count): (SegmentName, u32)| {
        let segment = *state.segments.get(&id)?;
        let live_runs = segment.live_runs.saturating_sub(count);
        let garbage_since = Event::garbage_since(now, live_runs);
        let segment = Segment { live_runs, garbage_since, ..segment };
        Some(Event::SegmentChanged { id, segment })
    };
    counts.into_iter().filter_map(change).collect()
}

fn check_registration(state: &State, by: Registration) -> Result<(), CommitRefusal> {
    match stale(state, by) {
        None => Ok(()),
        Some(current) => {
            Err(CommitRefusal::StaleBroker { broker: by.broker, stale: by.epoch, current })
        }
    }
}

fn refused_run(run: &Run, refusal: RunRefusal) -> RefusedRun {
    RefusedRun { partition: run.partition, base: run.base, refusal }
}
