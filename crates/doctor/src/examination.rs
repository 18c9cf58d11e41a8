//! The checks in their order, and how a finding is made sure of while a broker is running.
//!
//! Owns: passes over the runs, looking again before a finding is reported, limits of requests at once.
//! Does not own: the checks (`partitions`, `segments`, `logs`, `leftovers`, `volume`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bucket::{Bucket, BucketError};
use cluster::{MetadataInspection, Run, StoreError, WalLog};
use environment::Environment;
use futures::{StreamExt, TryStreamExt};
use vocabulary::{BrokerEpoch, BrokerId, Partition, SegmentName, Timestamp};

use crate::finding::{Finding, Invariant, Report};
use crate::holdings::{Holdings, RUNS_HELD_MAX};
use crate::partitions::{self, Subject, Taken};
use crate::{leftovers, logs, segments, volume};

/// Objects read at a time; each holds one index, or one piece of payload.
pub(crate) const OBJECTS_AT_ONCE: usize = 16;

/// Looks at a segment whose record changes meanwhile.
const TRIES_MAX: u32 = 5;

/// Entries of the metadata read at a time.
const ENTRIES_PAGE: usize = 1024;

/// What to check, and how closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorOptions {
    /// Whether every committed byte is read and checksummed.
    pub is_deep: bool,
    /// Objects that nobody refers to, and garbage, count as leaks once they are older than this. A
    /// broker's own grace and one interval of its sweep have to fit in.
    pub leak_age: Duration,
}

impl Default for DoctorOptions {
    fn default() -> DoctorOptions {
        DoctorOptions { is_deep: false, leak_age: Duration::from_secs(3 * 60 * 60) }
    }
}

/// What is to be examined.
#[derive(Debug)]
pub struct Place<'a> {
    pub bucket: &'a dyn Bucket,
    pub metadata: &'a MetadataInspection,
    /// Of a write-ahead log on a volume. `None` if there is none here.
    pub wal_directory: Option<PathBuf>,
    pub environment: &'a Environment,
}

/// Why something could not be checked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("the bucket could not be read: {0}")]
    Bucket(#[from] BucketError),
    #[error("the metadata could not be read: {0}")]
    Metadata(StoreError),
    #[error("the write-ahead log in {directory} could not be read: {source}")]
    Volume { directory: String, source: std::io::Error },
}

/// Checks A1 to A7, as far as they can be seen at rest.
///
/// # Errors
/// Store, metadata or volume could not be read. What is there and wrong is in the report.
pub async fn examine(place: &Place<'_>, options: &DoctorOptions) -> Result<Report, DoctorError> {
    let mut report = Report::default();
    check_volume(place, &mut report)?;
    check_entries(place.metadata, &mut report).await?;
    check_files(place.metadata, &mut report).await?;
    if !report.is_healthy() && place.metadata.unreadable().is_some() {
        report.note("runs, segments and logs were not checked: the metadata cannot be read".into());
        return Ok(report);
    }
    let examination = Examination { place, options, logs: leftovers::logs_of(place.metadata) };
    examination.check_runs(&mut report).await?;
    examination.check_logs(&mut report).await?;
    examination.check_leftovers(&mut report).await?;
    Ok(report)
}

fn check_volume(place: &Place<'_>, report: &mut Report) -> Result<(), DoctorError> {
    let Some(directory) = place.wal_directory.as_deref().filter(|it| it.is_dir()) else {
        return Ok(());
    };
    let examined = volume::examine(directory).map_err(|source| {
        let directory = directory.display().to_string();
        DoctorError::Volume { directory, source }
    })?;
    report.count(Invariant::A1, "WAL files on the volume", examined.files);
    report.count(Invariant::A1, "WAL segments on the volume", examined.segments);
    examined.findings.into_iter().for_each(|it| report.find(it));
    examined.notes.into_iter().for_each(|it| report.note(it));
    Ok(())
}

/// Every value decodes.
async fn check_entries(look: &MetadataInspection, report: &mut Report) -> Result<(), DoctorError> {
    let (mut after, mut count): (Option<Vec<u8>>, u64) = (None, 0);
    loop {
        let page = look.entries(&[], after.as_deref(), ENTRIES_PAGE).await?;
        count += page.len() as u64;
        for entry in &page {
            let Err(reason) = &entry.value else { continue };
            report.find(Finding {
                invariant: Invariant::Metadata,
                object: format!("metadata key {}", entry.name),
                range: None,
                what: format!("its value of {} bytes cannot be read: {reason}", entry.value_bytes),
                safe: "Nothing was changed. Objects in the bucket are untouched, records included.",
                advice: "If this bucket was written by a newer Aquifer, use that one. Otherwise keep a \
                         copy of the bucket's `meta` prefix and report this.",
            });
        }
        if page.len() < ENTRIES_PAGE {
            report.count(Invariant::Metadata, "entries", count);
            return Ok(());
        }
        after = page.last().map(|it| it.key.clone());
    }
}

/// Every byte of the files that hold the metadata. Files that a broker replaces meanwhile are told from
/// damaged ones by looking again.
async fn check_files(look: &MetadataInspection, report: &mut Report) -> Result<(), DoctorError> {
    let mut seen = look.check_files().await?;
    for _ in 1..TRIES_MAX {
        if seen.damaged.is_empty() {
            break;
        }
        let later = look.again().await?;
        let now = later.check_files().await;
        later.close().await;
        let before = std::mem::replace(&mut seen, now?);
        seen.damaged.retain(|it| before.damaged.contains(it));
    }
    report.count(Invariant::Metadata, "files", seen.files.len() as u64);
    report.count(Invariant::Metadata, "bytes of files", seen.bytes);
    for damaged in seen.damaged {
        report.find(Finding {
            invariant: Invariant::Metadata,
            object: damaged.object,
            range: None,
            what: format!("this live file of the metadata is damaged: {}", damaged.reason),
            safe: "Nothing was changed. What could be read of the metadata was checked, and records are \
                   untouched.",
            advice: "Keep a copy of the bucket's `meta` prefix before a broker is started on it. If the \
                     store keeps versions, bring back the one that was written.",
        });
    }
    Ok(())
}

struct Examination<'a> {
    place: &'a Place<'a>,
    options: &'a DoctorOptions,
    logs: BTreeMap<(BrokerId, BrokerEpoch), WalLog>,
}

impl Examination<'_> {
    /// Partitions, and the segments that their runs lie in, a stretch of segments a pass.
    async fn check_runs(&self, report: &mut Report) -> Result<(), DoctorError> {
        let look = self.place.metadata;
        let subjects = subjects(look);
        let (mut after, mut is_first) = (None, true);
        loop {
            let mut holdings = Holdings::new(after, RUNS_HELD_MAX);
            for subject in &subjects {
                let add = |taken: Taken| match taken {
                    Taken::Run(run) => holdings.add(run),
                    Taken::StartOver => holdings.forget(subject.partition),
                };
                let walked = partitions::walk(look, subject, add).await?;
                if !is_first {
                    continue;
                }
                report.count(Invariant::A3, "partitions", 1);
                report.count(Invariant::A3, "runs", walked.runs);
                report.count(Invariant::A5, "partitions", 1);
                if walked.is_restless {
                    let label = &subject.label;
                    report.note(format!(
                        "{label} changed with every look: its runs were not checked"
                    ));
                }
                if !walked.problems.is_empty() {
                    self.confirm_partition(subject, report).await?;
                }
            }
            self.check_segments(&holdings, report).await?;
            after = match holdings.next_after() {
                Some(next) => Some(next),
                None => return Ok(()),
            };
            is_first = false;
        }
    }

    /// Looks again, by the metadata as it is now.
    async fn confirm_partition(
        &self,
        subject: &Subject,
        report: &mut Report,
    ) -> Result<(), DoctorError> {
        let later = self.place.metadata.again().await?;
        let now = subjects(&later).into_iter().find(|it| it.partition == subject.partition);
        if let Some(subject) = now {
            let walked = partitions::walk(&later, &subject, |_| ()).await?;
            walked.problems.into_iter().for_each(|it| report.find(it));
        }
        later.close().await;
        Ok(())
    }

    async fn check_segments(
        &self,
        holdings: &Holdings,
        report: &mut Report,
    ) -> Result<(), DoctorError> {
        let look = self.place.metadata;
        let mut names: BTreeSet<SegmentName> = holdings.segments().collect();
        names.extend(look.segments().map(|it| it.0).filter(|it| holdings.covers(*it)));
        report.count(Invariant::A6, "segments", names.len() as u64);
        let (bucket, is_deep) = (self.place.bucket, self.options.is_deep);
        let looked = futures::stream::iter(names)
            .map(|name| async move {
                let (record, runs) = (look.segment(name), holdings.of(name));
                let known = segments::Known { name, record, runs, logs: &self.logs };
                let examined = segments::examine(bucket, &known, is_deep).await?;
                Ok::<_, BucketError>((name, examined))
            })
            .buffered(OBJECTS_AT_ONCE);
        let mut looked = std::pin::pin!(looked);
        let mut payload_bytes = 0;
        while let Some((name, examined)) = looked.try_next().await? {
            payload_bytes += examined.payload_bytes;
            if !examined.findings.is_empty() {
                self.confirm_segment(name, holdings.of(name), report).await?;
            }
        }
        if is_deep {
            report.count(Invariant::A6, "payload bytes", payload_bytes);
        }
        Ok(())
    }

    /// Looks again at a segment: its runs were read one partition after the other, and runs come and go.
    async fn confirm_segment(
        &self,
        name: SegmentName,
        runs: &[Run],
        report: &mut Report,
    ) -> Result<(), DoctorError> {
        for _ in 0..TRIES_MAX {
            let later = self.place.metadata.again().await?;
            let before = later.segment_now(name).await?;
            let mut partitions: BTreeSet<Partition> = runs.iter().map(|it| it.partition).collect();
            if let crate::object::Seen::Index(index) =
                crate::object::look_at(self.place.bucket, &partition_log::segment_key(name)).await?
            {
                partitions.extend(index.runs.iter().map(|it| it.partition));
            }
            let runs = runs_in(&later, name, partitions).await?;
            let after = later.segment_now(name).await?;
            let logs = leftovers::logs_of(&later);
            later.close().await;
            if before != after {
                continue;
            }
            if after.is_none() && runs.is_empty() {
                return Ok(()); // Collected.
            }
            let known = segments::Known { name, record: after, runs: &runs, logs: &logs };
            let is_deep = self.options.is_deep;
            let examined = segments::examine(self.place.bucket, &known, is_deep).await?;
            examined.findings.into_iter().for_each(|it| report.find(it));
            return Ok(());
        }
        report.note(format!("{name} changed with every look: it was not checked"));
        Ok(())
    }

    async fn check_logs(&self, report: &mut Report) -> Result<(), DoctorError> {
        let examined = logs::examine(self.place.bucket, self.place.metadata).await?;
        report.count(Invariant::A1, "open logs in the bucket", examined.open);
        report.count(Invariant::A1, "WAL segments in the bucket", examined.segments);
        report.count(Invariant::A2, "WAL segments in the bucket", examined.segments);
        report.count(Invariant::A4, "fences of ended logs", examined.closed);
        examined.findings.into_iter().for_each(|it| report.find(it));
        examined.notes.into_iter().for_each(|it| report.note(it));
        Ok(())
    }

    async fn check_leftovers(&self, report: &mut Report) -> Result<(), DoctorError> {
        let now = self.place.environment.clock.wall();
        let age_ms = i64::try_from(self.options.leak_age.as_millis()).unwrap_or(i64::MAX);
        let cutoff = Timestamp(now.0.saturating_sub(age_ms));
        let listed = leftovers::list(self.place.bucket, self.place.metadata, cutoff).await?;
        report.count(Invariant::A7, "objects", listed.objects);
        let uncollected = leftovers::uncollected(self.place.metadata, cutoff);
        report.count(Invariant::A7, "garbage segments past the grace", uncollected.len() as u64);
        for (count, what) in [
            (listed.pending, "object(s) that nothing refers to are too young to say more"),
            (listed.strangers, "object(s) belong to logs that the metadata does not know"),
            (listed.misnamed, "object(s) below data and wal are not named as segments are"),
        ] {
            if 0 < count {
                report.note(format!("{count} {what}"));
            }
        }
        if listed.suspects.is_empty() && uncollected.is_empty() {
            return Ok(());
        }
        let later = self.place.metadata.again().await?;
        let findings = leftovers::confirmed(listed.suspects, &later, now);
        findings.into_iter().for_each(|it| report.find(it));
        let still: BTreeSet<_> = leftovers::uncollected(&later, cutoff).into_iter().collect();
        for name in uncollected.into_iter().filter(|it| still.contains(it)) {
            report.find(leftovers::uncollected_finding(name));
        }
        later.close().await;
        Ok(())
    }
}

/// The runs of these partitions that lie in one segment.
async fn runs_in(
    look: &MetadataInspection,
    name: SegmentName,
    partitions: BTreeSet<Partition>,
) -> Result<Vec<Run>, DoctorError> {
    let mut runs: Vec<Run> = Vec::new();
    for subject in partitions {
        let subject = Subject { partition: subject, label: String::new(), leader_epoch: None };
        let add = |taken: Taken| match taken {
            Taken::Run(run) if run.segment == name => runs.push(run),
            Taken::Run(_) => (),
            Taken::StartOver => runs.retain(|it| it.partition != subject.partition),
        };
        partitions::walk(look, &subject, add).await?;
    }
    Ok(runs)
}

/// Every partition, and those of deleted topics whose runs are on their way out.
pub(crate) fn subjects(look: &MetadataInspection) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for topic in look.topics() {
        for (index, info) in (0..).zip(&topic.partitions) {
            subjects.push(Subject {
                partition: Partition { topic: topic.id, index },
                label: format!("{}-{index}", topic.name),
                leader_epoch: Some(info.leader_epoch),
            });
        }
    }
    for (topic, partitions) in look.dropping() {
        for index in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            let partition = Partition { topic, index };
            let label = format!("{partition} (deleted)");
            subjects.push(Subject { partition, label, leader_epoch: None });
        }
    }
    subjects
}
