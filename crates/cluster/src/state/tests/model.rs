//! Random commands against what the store would hold, for the invariants.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Commit { index: i32, base_shift: i64, count: i64 },
    Adopt { index: i32, counts: Vec<i64>, has_producers: bool },
    Replace { index: i32, first: usize, count: usize, is_wrong: bool },
    Advance { index: i32, to: i64, has_producers: bool },
    Forget,
    Register,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3, -1i64..2, 1i64..5).prop_map(|(index, base_shift, count)| Op::Commit {
            index,
            base_shift: if base_shift == -1 { -1 } else { 0 },
            count
        }),
        2 => (0..3, prop::collection::vec(1i64..4, 1..4), prop::bool::weighted(0.8))
            .prop_map(|(index, counts, has_producers)| Op::Adopt { index, counts, has_producers }),
        3 => (0..3, 0usize..6, 1usize..5, prop::bool::weighted(0.2)).prop_map(
            |(index, first, count, is_wrong)| Op::Replace { index, first, count, is_wrong }
        ),
        3 => (0..3, 0i64..60, any::<bool>())
            .prop_map(|(index, to, has_producers)| Op::Advance { index, to, has_producers }),
        1 => Just(Op::Forget),
        1 => Just(Op::Register),
    ]
}

/// What the store holds, told by the events alone, as `store::format` writes them.
#[derive(Debug, Default)]
struct Disk {
    /// By partition and end.
    runs: BTreeMap<(Partition, Offset), Run>,
    kept: BTreeMap<Partition, KeptProducers>,
}

impl Disk {
    fn write(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::RunCommitted { run, .. } => {
                    self.runs.insert((run.partition, run.end), *run);
                }
                Event::RunDropped { run, .. } => {
                    let was = self.runs.remove(&(run.partition, run.end));
                    assert_eq!(was, Some(*run), "A3: what is dropped is what is stored");
                }
                Event::RunsReplaced { merged, parts, .. } => {
                    for part in parts {
                        let was = self.runs.remove(&(part.partition, part.end));
                        assert_eq!(was, Some(*part), "A3: what is replaced is what is stored");
                    }
                    self.runs.insert((merged.partition, merged.end), *merged);
                }
                Event::ProducersKept(kept) => {
                    self.kept.insert(kept.partition, kept.clone());
                }
                Event::ProducersForgotten { partition } => {
                    self.kept.remove(partition);
                }
                _ => (),
            }
        }
    }

    fn of(&self, index: i32) -> Vec<Run> {
        self.runs.values().filter(|it| it.partition == partition(index)).copied().collect()
    }

    /// A3, A5, A6 and A7, of the state and of what is stored.
    fn check(&self, state: &State) {
        state.check();
        for index in 0..3 {
            let progress = state.progress_of(partition(index)).unwrap();
            let runs = self.of(index);
            let mut at = progress.runs_start;
            for run in &runs {
                assert_eq!(run.base, at, "A3");
                at = run.end;
            }
            assert_eq!(at, progress.committed_end, "A3");
            assert_eq!(runs.len() as u64, progress.runs);
            assert_eq!(runs.iter().map(|it| it.length).sum::<u64>(), progress.committed_bytes);
            let kept = self.kept.get(&partition(index)).map(|it| it.as_of);
            assert_eq!(kept, progress.kept_as_of, "A5: kept is what is told");
            let in_wal = |it: &Run| matches!(it.segment, SegmentName::Wal { .. });
            let needs_kept = match runs.last() {
                Some(last) => in_wal(last),
                None => progress.committed_end != Offset::ZERO,
            };
            assert!(!needs_kept || kept == Some(progress.committed_end), "A5");
        }
        for (id, segment) in &state.segments {
            let live = self.runs.values().filter(|it| it.segment == *id).count();
            assert_eq!(segment.live_runs as usize, live, "A6, A7: {id}");
        }
        for run in self.runs.values() {
            assert!(state.segments.contains_key(&run.segment), "A6: {}", run.segment);
        }
    }
}

struct Model {
    state: State,
    disk: Disk,
    /// Every run that was ever stored.
    ever: Vec<Run>,
}

impl Model {
    fn new() -> Model {
        Model { state: with_topic(3), disk: Disk::default(), ever: Vec::new() }
    }

    fn by(&self) -> Registration {
        Registration { epoch: self.state.broker_epoch_last, ..by() }
    }

    fn happens(&mut self, events: &[Event]) {
        self.disk.write(events);
        apply_all(&mut self.state, events);
        self.ever.extend(self.disk.runs.values());
        self.ever.sort_by_key(|it| (it.partition, it.base, it.end, it.segment));
        self.ever.dedup();
        self.disk.check(&self.state);
    }

    fn does(&mut self, number: usize, op: Op) {
        let segment = SegmentName::data(number as u128);
        match op {
            Op::Commit { index, base_shift, count } => {
                let progress = self.state.progress_of(partition(index)).unwrap();
                let base = progress.committed_end.0 + base_shift;
                let leader_epoch =
                    self.state.topics[&TOPIC].partitions[index as usize].leader_epoch;
                let run = Run { leader_epoch, segment, ..run(index, base, base + count, 0) };
                let broker_epoch = self.by().epoch;
                let command = CommitRuns { broker_epoch, ..commit(number as u128, vec![run]) };
                let (events, refused) = decide::commit_runs(&self.state, &command, NOW).unwrap();
                assert_eq!(refused.is_empty(), base_shift == 0, "A3");
                self.happens(&events);
            }
            Op::Adopt { index, counts, has_producers } => {
                self.adopt(number, index, counts, has_producers)
            }
            Op::Replace { index, first, count, is_wrong } => {
                let stored = self.disk.of(index);
                let mut parts: Vec<Run> = stored.iter().skip(first).take(count).copied().collect();
                let (Some(start), Some(last)) = (parts.first().copied(), parts.last().copied())
                else {
                    return;
                };
                parts[0].crc += u32::from(is_wrong); // Not as it is stored.
                let is_one_epoch = parts.iter().all(|it| it.leader_epoch == last.leader_epoch);
                let merged = Run { segment, end: last.end, length: 50, ..start };
                let runs = vec![merged];
                let merged = of_segment(segment, runs);
                let command = ReplaceRuns { by: self.by(), merged, replaced: parts };
                let replacements = self.state.progress_of(partition(index)).unwrap().replacements;
                // As read from a store that lags behind: with runs that were dropped already.
                let lagging = self.ever.iter().filter(|it| it.partition == partition(index));
                let dropped = lagging.filter(|it| it.end <= start.base).copied();
                let runs = dropped.chain(stored).collect();
                let read = BTreeMap::from([(partition(index), Stored { runs, replacements })]);
                let decided = decide::replace_runs(&self.state, &command, &read, Timestamp(1));
                let (events, refused) = decided.unwrap();
                assert_eq!(refused.unwrap().is_empty(), is_one_epoch && !is_wrong, "A3");
                self.happens(&events);
                // And again, with what was read before.
                let late =
                    decide::replace_runs(&self.state, &command, &read, Timestamp(1)).unwrap();
                assert_eq!(late.0, [], "A3: never twice");
            }
            Op::Advance { index, to, has_producers } => {
                let progress = self.state.progress_of(partition(index)).unwrap();
                let to = Offset(to).max(progress.log_start);
                let producers = has_producers.then(|| kept(index, progress.committed_end.0));
                // Of an earlier time: the runs that a merge has taken away are noticed.
                let merged_away = |it: &&Run| {
                    progress.runs_start <= it.base && !self.disk.runs.values().any(|now| now == *it)
                };
                let below = |it: &&Run| it.partition == partition(index) && it.end <= to;
                let runs = self.ever.iter().filter(below).filter(|it| !merged_away(it));
                let runs: Vec<Run> = runs.copied().collect();
                let stored = Stored { runs, replacements: progress.replacements };
                let decided = decide::advance_log_start(
                    &self.state,
                    partition(index),
                    to,
                    producers.as_ref(),
                    &stored,
                    Timestamp(1),
                );
                self.happens(&decided.unwrap().0);
                let left = self.disk.of(index).into_iter().filter(|it| it.end <= to).count();
                assert!(left <= usize::from(!has_producers), "A7: only the last one may stay");
            }
            Op::Forget => {
                let all: Vec<SegmentName> = self.state.segments.keys().copied().collect();
                let events = decide::forget_segments(&self.state, &all);
                self.happens(&events);
            }
            Op::Register => {
                let command = register(1, WalKind::Bucket, &[]);
                let (events, _) = decide::register_broker(&self.state, &command);
                self.happens(&events);
            }
        }
    }

    /// One segment a run, of the log before the current one.
    fn adopt(&mut self, number: usize, index: i32, counts: Vec<i64>, has_producers: bool) {
        let progress = self.state.progress_of(partition(index)).unwrap();
        let leader_epoch = self.state.topics[&TOPIC].partitions[index as usize].leader_epoch;
        let mut base = progress.committed_end;
        let mut segments = Vec::new();
        for (nth, count) in counts.into_iter().enumerate() {
            let segment = wal(self.by().epoch.0, (number * 10 + nth) as u64);
            let end = base.plus(count);
            let run = Run { leader_epoch, segment, base, end, ..run(index, 0, 0, 0) };
            segments.push(of_segment(segment, vec![run]));
            base = end;
        }
        let producers = if has_producers { vec![kept(index, base.0)] } else { Vec::new() };
        let command = AdoptRuns { by: self.by(), segments, producers };
        let (events, refused) = decide::adopt_runs(&self.state, &command, NOW).unwrap();
        assert_eq!(refused.is_empty(), has_producers, "A5");
        self.happens(&events);
        let again = decide::adopt_runs(&self.state, &command, NOW).unwrap();
        assert_eq!(again.0.is_empty() && has_producers, has_producers, "A3: never twice");
    }
}

proptest! {
    // Goal: A3, A5, A6 and A7 hold whatever is asked. Method: random commands against what the store
    // would hold.
    #[test]
    fn runs_cover_the_log_whatever_happens(ops in prop::collection::vec(op(), 0..120)) {
        let mut model = Model::new();
        for (number, op) in ops.into_iter().enumerate() {
            model.does(number, op);
        }
    }
}
