//! A partition by the metadata alone: its runs cover what its progress says (A3), in epochs that were
//! its own (A4), and its producers are somewhere (A5).
//!
//! Owns: reading runs in pages as of one moment, the checks on them. Does not own: what the objects say
//! (`segments`).

use cluster::{MetadataInspection, Progress, Run, StoreError};
use partition_log::ProducerSnapshot;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName};

use crate::finding::{Finding, Invariant};

/// Runs read at a time.
pub(crate) const RUNS_PAGE: usize = 1024;

/// Tries to read a partition that changes meanwhile.
const TRIES_MAX: u32 = 8;

/// Problems told of one partition; more of them say nothing new.
const PROBLEMS_MAX: usize = 16;

const SAFE: &str = "Nothing was changed. Objects in the bucket are untouched, records included.";
const ADVICE: &str = "Stop the brokers, keep a copy of the bucket's `meta` prefix, and report this with \
                      the output of `aquifer inspect partition`.";

/// What one reading of a partition gave.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) runs: u64,
    pub(crate) problems: Vec<Finding>,
    /// It changed with every try.
    pub(crate) is_restless: bool,
}

/// A partition to be read.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) partition: Partition,
    /// Its name for people.
    pub(crate) label: String,
    /// `None` for one of a deleted topic, whose runs are on their way out.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// Reads a partition's runs as of one moment: hands each out, and says so before it starts over.
pub(crate) async fn walk(
    look: &MetadataInspection,
    subject: &Subject,
    mut take: impl FnMut(Taken),
) -> Result<Walked, StoreError> {
    let partition = subject.partition;
    for _ in 0..TRIES_MAX {
        let before = look.progress_now(partition).await?;
        let mut cover = Cover::new(subject, before.clone().unwrap_or_default());
        let mut last = Offset(-1);
        loop {
            let page = look.runs_after(partition, last, RUNS_PAGE).await?;
            for run in &page {
                cover.add(run);
                take(Taken::Run(*run));
                last = run.end;
            }
            if page.len() < RUNS_PAGE {
                break;
            }
        }
        let kept = look.kept_producers(partition).await?;
        if look.progress_now(partition).await? == before {
            if subject.leader_epoch.is_some() {
                cover.finish();
                cover.check_kept(kept.map(|it| (it.as_of, it.snapshot)));
            } else {
                cover.problems.clear(); // Runs go from the front; nothing follows from what is left.
            }
            let (runs, problems) = (cover.runs, cover.problems);
            return Ok(Walked { runs, problems, is_restless: false });
        }
        take(Taken::StartOver);
    }
    Ok(Walked { is_restless: true, ..Walked::default() })
}

/// What a reading hands out.
pub(crate) enum Taken {
    Run(Run),
    /// Forget what was handed out of this partition.
    StartOver,
}

struct Cover<'a> {
    subject: &'a Subject,
    progress: Progress,
    next: Offset,
    epoch: LeaderEpoch,
    runs: u64,
    bytes: u64,
    last: Option<Run>,
    problems: Vec<Finding>,
}

impl<'a> Cover<'a> {
    fn new(subject: &'a Subject, progress: Progress) -> Cover<'a> {
        let (next, epoch) = (progress.runs_start, LeaderEpoch(i32::MIN));
        let (runs, bytes, last, problems) = (0, 0, None, Vec::new());
        Cover { subject, progress, next, epoch, runs, bytes, last, problems }
    }

    fn add(&mut self, run: &Run) {
        if run.base != self.next {
            let how = if self.next < run.base { "gap" } else { "overlap" };
            let (base, next) = (run.base, self.next);
            self.problem(
                Invariant::A3,
                format!("{how}: a run starts at offset {base}, the one before ends at {next}"),
            );
        }
        if run.end <= run.base || run.length == 0 {
            let (base, end, length) = (run.base, run.end, run.length);
            self.problem(
                Invariant::A3,
                format!("a run of offsets {base} to {end} with {length} bytes holds nothing"),
            );
        }
        if run.leader_epoch < self.epoch {
            let (base, epoch, before) = (run.base, run.leader_epoch.0, self.epoch.0);
            self.problem(
                Invariant::A3,
                format!("the run at offset {base} has leader epoch {epoch}, after one of {before}"),
            );
        }
        let starts = self.progress.epochs.iter().rev();
        let told = starts.into_iter().find(|it| it.1 <= run.base).map(|it| it.0);
        if let Some(told) = told.filter(|it| *it != run.leader_epoch) {
            let (base, epoch) = (run.base, run.leader_epoch.0);
            let told = told.0;
            self.problem(
                Invariant::A3,
                format!(
                    "the run at offset {base} has leader epoch {epoch}, the history says {told}"
                ),
            );
        }
        if let Some(current) = self.subject.leader_epoch.filter(|it| *it < run.leader_epoch) {
            let (base, epoch, current) = (run.base, run.leader_epoch.0, current.0);
            self.problem(
                Invariant::A4,
                format!(
                    "the run at offset {base} has leader epoch {epoch}, the partition {current}"
                ),
            );
        }
        self.next = run.end;
        self.epoch = run.leader_epoch;
        self.runs += 1;
        self.bytes += run.length;
        self.last = Some(*run);
    }

    fn finish(&mut self) {
        let Progress { committed_end, runs, committed_bytes, runs_start, log_start, .. } =
            self.progress;
        if self.next != committed_end {
            let next = self.next;
            self.problem(
                Invariant::A3,
                format!("the runs end at offset {next}, the committed end is {committed_end}"),
            );
        }
        if (self.runs, self.bytes) != (runs, committed_bytes) {
            let (has_runs, has_bytes) = (self.runs, self.bytes);
            self.problem(
                Invariant::A3,
                format!(
                    "there are {has_runs} runs of {has_bytes} bytes, the progress counts {runs} of \
                     {committed_bytes}"
                ),
            );
        }
        if log_start < runs_start {
            self.problem(
                Invariant::A3,
                format!("the log starts at {log_start}, but runs only at {runs_start}"),
            );
        }
        let ascending = |it: &[(LeaderEpoch, Offset)]| it[0].0 < it[1].0 && it[0].1 < it[1].1;
        if !self.progress.epochs.windows(2).all(ascending) {
            self.problem(Invariant::A3, "the history of leader epochs does not ascend".to_owned());
        }
    }

    fn check_kept(&mut self, kept: Option<(Offset, bytes::Bytes)>) {
        let end = self.progress.committed_end;
        match (self.progress.kept_as_of, kept) {
            (Some(as_of), _) if as_of != end => self.problem(
                Invariant::A5,
                format!("producers are kept as of offset {as_of}, the committed end is {end}"),
            ),
            (Some(_), None) => {
                self.problem(Invariant::A5, "the producers that should be kept are not".to_owned());
            }
            (Some(_), Some((as_of, _))) if as_of != end => self.problem(
                Invariant::A5,
                format!("the kept producers are as of offset {as_of}, the committed end is {end}"),
            ),
            (Some(_), Some((_, snapshot))) => match ProducerSnapshot::read(&snapshot) {
                Ok(snapshot) if snapshot.end <= end => (),
                Ok(snapshot) => {
                    let known = snapshot.end;
                    self.problem(
                        Invariant::A5,
                        format!(
                            "the kept producers know offset {known}, the committed end is {end}"
                        ),
                    );
                }
                Err(reason) => {
                    self.problem(Invariant::A5, format!("the kept producers: {reason}"));
                }
            },
            (None, _) => {
                let is_in_wal = |it: &Run| matches!(it.segment, SegmentName::Wal { .. });
                let needs_kept = self.last.as_ref().map_or(Offset::ZERO < end, is_in_wal);
                if needs_kept {
                    let what = "no producers are kept, and no run has them in its index";
                    self.problem(Invariant::A5, what.to_owned());
                }
            }
        }
    }

    fn problem(&mut self, invariant: Invariant, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Finding {
                invariant,
                object: format!("metadata of partition {}", self.subject.label),
                range: None,
                what,
                safe: SAFE,
                advice: ADVICE,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::Timestamp;

    const LED_IN: LeaderEpoch = LeaderEpoch(3);

    fn run(base: i64, end: i64, epoch: i32) -> Run {
        Run {
            partition: Partition::default(),
            leader_epoch: LeaderEpoch(epoch),
            base: Offset(base),
            end: Offset(end),
            max_timestamp: Timestamp(0),
            segment: SegmentName::data(1),
            position: 64,
            length: 10,
            crc: 0,
        }
    }

    /// What is right: offsets 10 to 40 in three runs, two leader epochs.
    fn progress() -> Progress {
        Progress {
            log_start: Offset(12),
            runs_start: Offset(10),
            committed_end: Offset(40),
            epochs: vec![(LeaderEpoch(1), Offset(10)), (LeaderEpoch(3), Offset(30))],
            committed_bytes: 30,
            runs: 3,
            ..Progress::default()
        }
    }

    fn problems(progress: Progress, runs: &[Run]) -> Vec<(Invariant, String)> {
        let subject = Subject {
            partition: Partition::default(),
            label: "t-0".to_owned(),
            leader_epoch: Some(LED_IN),
        };
        let mut cover = Cover::new(&subject, progress);
        runs.iter().for_each(|it| cover.add(it));
        cover.finish();
        cover.check_kept(None);
        cover.problems.into_iter().map(|it| (it.invariant, it.what)).collect()
    }

    #[track_caller]
    fn check(progress: Progress, runs: &[Run], expected: &[(Invariant, &str)]) {
        let problems = problems(progress, runs);
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (invariant, words)) in problems.iter().zip(expected) {
            assert!(problem.0 == *invariant && problem.1.contains(words), "{problem:?}");
        }
    }

    #[test]
    fn runs_that_do_not_cover_their_partition_are_found() {
        use Invariant::{A3, A4, A5};
        let whole = [run(10, 20, 1), run(20, 30, 1), run(30, 40, 3)];
        check(progress(), &whole, &[]);
        let gap = [run(10, 20, 1), run(21, 30, 1), run(30, 40, 3)];
        check(progress(), &gap, &[(A3, "gap: a run starts at offset 21")]);
        let overlap = [run(10, 20, 1), run(19, 30, 1), run(30, 40, 3)];
        check(progress(), &overlap, &[(A3, "overlap")]);
        check(progress(), &whole[..2], &[(A3, "the runs end at offset 30"), (A3, "2 runs of 20")]);
        let older = [run(10, 20, 1), run(20, 30, 1), run(30, 40, 0)];
        let told = [(A3, "after one of 1"), (A3, "the history says 3")];
        check(progress(), &older, &told);
        let newer = [run(10, 20, 1), run(20, 30, 1), run(30, 40, 4)];
        check(progress(), &newer, &[(A3, "the history says 3"), (A4, "the partition 3")]);
        let ahead = Progress { log_start: Offset(9), ..progress() };
        check(ahead, &whole, &[(A3, "the log starts at 9")]);
        let kept = Progress { kept_as_of: Some(Offset(40)), ..progress() };
        check(kept, &whole, &[(A5, "should be kept are not")]);
        let place = vocabulary::BrokerId(1);
        let wal = SegmentName::Wal { broker: place, epoch: Default::default(), sequence: 1 };
        let adopted = [whole[0], whole[1], Run { segment: wal, ..whole[2] }];
        check(progress(), &adopted, &[(A5, "no producers are kept")]);
    }
}
