//! What is there, as rows: the cluster, topics, a partition's runs, a segment, logs, metadata.
//!
//! Owns: which fields each kind of row has; reading on as far as damage allows, and saying where it is.
//! Does not own: judging (`examination`). Payload is never shown, only counted and checksummed.

use std::io;
use std::ops::Range;
use std::path::Path;

use bucket::{BucketError, Key, MarkerError, Purpose};
use cluster::{
    MetadataEntry, MetadataInspection, MetadataValue, Progress, Run, Segment, StoreError, WalKind,
    WalLog,
};
use partition_log::ProducerSnapshot;
use partition_log::segment::{
    BatchEntry, HEADER_LEN, RunEntry, SegmentHeader, SegmentIndex, segment_key, segment_of,
    wal_prefix,
};
use partition_log::wal::Fence;
use partition_log::wal::ledger::WalId;
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName};

use crate::examination::Place;
use crate::object::{Seen, look_at};
use crate::partitions::RUNS_PAGE;
use crate::row::{Row, RowSink};
use crate::{segments, volume};

/// Entries, or objects, read at a time.
const PAGE: usize = 1000;

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Cluster,
    Topics,
    Partition {
        topic: String,
        index: i32,
    },
    Segment {
        key: Key,
        with_batches: bool,
    },
    Wal,
    /// Entries whose keys start with these bytes.
    Metadata {
        prefix: Vec<u8>,
    },
}

/// Whether all of it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inspected {
    /// Rows of kind `broken` say where.
    pub is_broken: bool,
}

/// Why nothing more could be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("the bucket could not be read: {0}")]
    Bucket(#[from] BucketError),
    #[error("the metadata could not be read: {0}")]
    Metadata(#[from] StoreError),
    #[error("{0}")]
    Unknown(String),
    /// Or nobody reads the rows any more.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Shows one subject.
///
/// # Errors
/// Store or metadata did not answer, or there is no such thing.
pub async fn inspect(
    place: &Place<'_>,
    subject: &Subject,
    sink: &mut dyn RowSink,
) -> Result<Inspected, InspectError> {
    let mut inspection = Inspection { place, look: place.metadata, sink, is_broken: false };
    if let Some(error) = place.metadata.unreadable()
        && !matches!(subject, Subject::Metadata { .. } | Subject::Segment { .. })
    {
        inspection.broken("metadata", None, &error.to_string())?;
    }
    match subject {
        Subject::Cluster => inspection.cluster().await?,
        Subject::Topics => inspection.topics()?,
        Subject::Partition { topic, index } => inspection.partition(topic, *index).await?,
        Subject::Segment { key, with_batches } => inspection.segment(key, *with_batches).await?,
        Subject::Wal => inspection.wal().await?,
        Subject::Metadata { prefix } => inspection.metadata(prefix).await?,
    }
    Ok(Inspected { is_broken: inspection.is_broken })
}

/// Shows a file of a write-ahead log, or of a bucket that is a directory: a row of segments. Each run's
/// bytes are checksummed.
///
/// # Errors
/// The file system's.
pub fn inspect_volume_file(
    path: &Path,
    with_batches: bool,
    sink: &mut dyn RowSink,
) -> Result<Inspected, InspectError> {
    let object = path.display().to_string();
    let mut is_broken = false;
    let end = volume::walk(path, |placed| {
        let row = segment_row(&object, &placed.index)
            .with("stamp", format!("{:016x}", placed.header.stamp));
        sink.row(row.with("at_byte", placed.position))?;
        for run in &placed.index.runs {
            run_rows(sink, run, placed.position, with_batches)?;
            let crc = volume::checksum(path, placed.position, run)?;
            if crc != run.crc {
                is_broken = true;
                let start = placed.position + run.position;
                let what = wrong_crc(run, crc);
                sink.row(broken_row(&object, Some(start..start + run.length), &what))?;
            }
        }
        Ok(())
    })?;
    let is_lost = end.next.is_none_or(|next| end.trace.is_some_and(|trace| next < trace));
    if is_lost {
        is_broken = true;
        sink.row(broken_row(&object, Some(end.range), &end.reason))?;
    } else {
        let row = Row::new("end").with("object", object).with("at_byte", end.position);
        sink.row(row.with("why", end.reason).with("next_sequence", end.next))?;
    }
    Ok(Inspected { is_broken })
}

struct Inspection<'a> {
    place: &'a Place<'a>,
    look: &'a MetadataInspection,
    sink: &'a mut dyn RowSink,
    is_broken: bool,
}

impl Inspection<'_> {
    async fn cluster(&mut self) -> Result<(), InspectError> {
        match bucket::read_marker(self.place.bucket).await {
            Ok(Some(marker)) => self.sink.row(
                Row::new("cluster")
                    .with("cluster_id", marker.cluster_id)
                    .with("format", u64::from(marker.format))
                    .with("topics", self.look.topics().len() as u64)
                    .with("segments", self.look.segments().count() as u64)
                    .with("segment_bytes", self.look.segments().map(|it| it.1.bytes).sum::<u64>())
                    .with("garbage_segments", self.garbage()),
            )?,
            Ok(None) => self.broken("cluster", None, "the bucket has no cluster marker")?,
            Err(MarkerError::Bucket(error)) => return Err(error.into()),
            Err(error) => self.broken("cluster", None, &error.to_string())?,
        }
        for broker in self.look.brokers() {
            self.sink.row(
                Row::new("broker")
                    .with("broker", i64::from(broker.id.0))
                    .with("epoch", broker.epoch.0)
                    .with("host", broker.host)
                    .with("port", u64::from(broker.port))
                    .with("rack", broker.rack),
            )?;
        }
        for log in self.look.wal_logs() {
            self.sink.row(log_row(&log))?;
        }
        Ok(())
    }

    fn garbage(&self) -> u64 {
        self.look.segments().filter(|it| it.1.garbage_since.is_some()).count() as u64
    }

    fn topics(&mut self) -> Result<(), InspectError> {
        for topic in self.look.topics() {
            for (index, info) in (0..).zip(&topic.partitions) {
                let partition = Partition { topic: topic.id, index };
                let progress = self.look.progress(partition).cloned().unwrap_or_default();
                let row = Row::new("partition")
                    .with("topic", topic.name.as_str())
                    .with("partition", i64::from(index))
                    .with("leader", i64::from(info.leader.0))
                    .with("leader_epoch", i64::from(info.leader_epoch.0));
                let row = progress_fields(row, &progress);
                self.sink.row(row.with("topic_id", topic.id.to_string()))?;
            }
        }
        Ok(())
    }

    async fn partition(&mut self, name: &str, index: i32) -> Result<(), InspectError> {
        let found = self.look.topic_named(name);
        let info = found.and_then(|it| it.partitions.get(usize::try_from(index).ok()?));
        let Some((topic, info)) = found.zip(info) else {
            let what =
                format!("there is no partition {name}-{index}; see `aquifer inspect topics`");
            return Err(InspectError::Unknown(what));
        };
        let partition = Partition { topic: topic.id, index };
        let progress = self.look.progress(partition).cloned().unwrap_or_default();
        let row = Row::new("partition")
            .with("topic", name)
            .with("partition", i64::from(index))
            .with("leader", i64::from(info.leader.0))
            .with("leader_epoch", i64::from(info.leader_epoch.0));
        let row = progress_fields(row, &progress);
        self.sink.row(row.with("topic_id", topic.id.to_string()))?;
        for (epoch, start) in &progress.epochs {
            let row = Row::new("epoch").with("leader_epoch", i64::from(epoch.0));
            self.sink.row(row.with("start_offset", start.0))?;
        }
        if let Some(kept) = self.look.kept_producers(partition).await? {
            match ProducerSnapshot::read(&kept.snapshot) {
                Ok(snapshot) => self.sink.row(
                    Row::new("kept_producers")
                        .with("as_of", kept.as_of.0)
                        .with("producers", snapshot.producers.len() as u64),
                )?,
                Err(reason) => {
                    self.broken(&format!("kept producers of {name}-{index}"), None, &reason)?
                }
            }
        }
        self.runs(partition).await
    }

    async fn runs(&mut self, partition: Partition) -> Result<(), InspectError> {
        let mut last = Offset(-1);
        loop {
            let page = self.look.runs_after(partition, last, RUNS_PAGE).await?;
            for run in &page {
                self.sink.row(committed_row(run))?;
                last = run.end;
            }
            if page.len() < RUNS_PAGE {
                return Ok(());
            }
        }
    }

    async fn segment(&mut self, key: &Key, with_batches: bool) -> Result<(), InspectError> {
        let object = key.to_string();
        let bucket = self.place.bucket;
        let index = match look_at(bucket, key).await? {
            Seen::Index(index) => index,
            Seen::Gone => {
                let what = format!("there is no object {key} in the bucket, and no such file");
                return Err(InspectError::Unknown(what));
            }
            Seen::Short { bytes, length } => return self.fence(key, bytes, length),
            Seen::Broken(breakage) => {
                self.header(key).await?;
                return self.broken(&object, Some(breakage.range), &breakage.reason);
            }
        };
        let record = segment_of(key).and_then(|it| self.look.segment(it));
        let state = match record {
            Some(Segment { garbage_since: Some(_), .. }) => "garbage",
            Some(_) => "live",
            None => "not referenced",
        };
        let row = segment_row(&object, &index).with("state", state);
        self.sink.row(row.with("live_runs", record.map(|it| u64::from(it.live_runs))))?;
        if segment_of(key).is_some_and(|it| it != index.name) {
            self.broken(&object, None, &format!("it says that it is {}", index.name))?;
        }
        for run in &index.runs {
            run_rows(self.sink, run, 0, with_batches)?;
            let end = run.position + run.length;
            let crc = segments::checksum(bucket, key, run.position, end).await?;
            if crc != run.crc {
                self.broken(&object, Some(run.position..end), &wrong_crc(run, crc))?;
            }
        }
        Ok(())
    }

    /// What the header says, where the rest does not say anything.
    async fn header(&mut self, key: &Key) -> Result<(), InspectError> {
        let bytes = match self.place.bucket.get(key, 0..HEADER_LEN as u64, Purpose::ReadCold).await
        {
            Ok(bytes) => bytes,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(_) => return Ok(()), // The object is too short, or has gone: told anyway.
        };
        match SegmentHeader::parse(&bytes) {
            Ok(header) => self.sink.row(
                Row::new("header")
                    .with("object", key.to_string())
                    .with("name", header.name.to_string())
                    .with("bytes", header.length)
                    .with("index_bytes", header.index_length),
            )?,
            Err(error) => {
                self.broken(key.as_str(), Some(0..HEADER_LEN as u64), &error.to_string())?;
            }
        }
        Ok(())
    }

    fn fence(&mut self, key: &Key, bytes: bytes::Bytes, length: u64) -> Result<(), InspectError> {
        let Some(SegmentName::Wal { broker, epoch, sequence }) = segment_of(key) else {
            return self.broken(key.as_str(), Some(0..length), "too short for a segment");
        };
        let suffix = bucket::Suffix { bytes, object_length: length };
        match Fence::read(&suffix, WalId { broker, epoch }, sequence) {
            Ok(Some(fence)) => Ok(self.sink.row(
                Row::new("fence")
                    .with("object", key.to_string())
                    .with("broker", i64::from(broker.0))
                    .with("epoch", epoch.0)
                    .with("sequence", sequence)
                    .with("by_broker", i64::from(fence.by.broker.0))
                    .with("by_epoch", fence.by.epoch.0)
                    .with("at_ms", fence.at.0)
                    .with("reason", fence.reason),
            )?),
            Ok(None) => self.broken(key.as_str(), Some(0..length), "too short for a segment"),
            Err(reason) => {
                let what = format!("neither a segment nor a fence: {reason}");
                self.broken(key.as_str(), Some(0..length), &what)
            }
        }
    }

    async fn wal(&mut self) -> Result<(), InspectError> {
        for log in self.look.wal_logs() {
            self.sink.row(log_row(&log))?;
            if log.kind == WalKind::Bucket {
                self.objects(log.broker, log.epoch).await?;
            }
        }
        let Some(directory) = self.place.wal_directory.as_deref().filter(|it| it.is_dir()) else {
            return Ok(());
        };
        let examined = volume::examine(directory)?;
        self.sink.row(
            Row::new("volume")
                .with("directory", directory.display().to_string())
                .with("files", examined.files)
                .with("segments", examined.segments),
        )?;
        for finding in examined.findings {
            self.broken(&finding.object, finding.range, &finding.what)?;
        }
        Ok(())
    }

    async fn objects(&mut self, broker: BrokerId, epoch: BrokerEpoch) -> Result<(), InspectError> {
        let (prefix, mut after) = (wal_prefix(broker, epoch), None);
        loop {
            let page = self.place.bucket.list(&prefix, after.as_ref(), PAGE).await?;
            for object in &page {
                let name = segment_of(&object.key);
                let sequence = match name {
                    Some(SegmentName::Wal { sequence, .. }) => Some(sequence),
                    _ => None,
                };
                let live = name.and_then(|it| self.look.segment(it)).map(|it| it.live_runs);
                self.sink.row(
                    Row::new("wal_object")
                        .with("object", object.key.to_string())
                        .with("sequence", sequence)
                        .with("bytes", object.length)
                        .with("modified_ms", object.modified.0)
                        .with("committed_runs", live.map(u64::from)),
                )?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().map(|it| it.key.clone());
        }
    }

    async fn metadata(&mut self, prefix: &[u8]) -> Result<(), InspectError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.look.entries(prefix, after.as_deref(), PAGE).await?;
            for entry in &page {
                match &entry.value {
                    Ok(value) => self.sink.row(entry_row(entry, value))?,
                    Err(reason) => {
                        let object = format!("metadata key {}", entry.name);
                        self.broken(&object, Some(0..entry.value_bytes as u64), reason)?;
                    }
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().map(|it| it.key.clone());
        }
    }

    fn broken(
        &mut self,
        object: &str,
        range: Option<Range<u64>>,
        why: &str,
    ) -> Result<(), InspectError> {
        self.is_broken = true;
        Ok(self.sink.row(broken_row(object, range, why))?)
    }
}

fn broken_row(object: &str, range: Option<Range<u64>>, why: &str) -> Row {
    Row::new("broken")
        .with("object", object)
        .with("from_byte", range.as_ref().map(|it| it.start))
        .with("to_byte", range.as_ref().map(|it| it.end))
        .with("why", why)
}

fn wrong_crc(run: &RunEntry, crc: u32) -> String {
    let RunEntry { partition, base, end, .. } = run;
    let told = run.crc;
    format!(
        "offsets {base} to {end} of partition {partition} have checksum {crc:08x}, not {told:08x}"
    )
}

fn progress_fields(row: Row, progress: &Progress) -> Row {
    row.with("log_start", progress.log_start.0)
        .with("runs_start", progress.runs_start.0)
        .with("committed_end", progress.committed_end.0)
        .with("runs", progress.runs)
        .with("bytes", progress.committed_bytes)
}

fn committed_row(run: &Run) -> Row {
    Row::new("run")
        .with("base", run.base.0)
        .with("end", run.end.0)
        .with("leader_epoch", i64::from(run.leader_epoch.0))
        .with("max_timestamp_ms", run.max_timestamp.0)
        .with("object", segment_key(run.segment).to_string())
        .with("at_byte", run.position)
        .with("bytes", run.length)
        .with("crc", format!("{:08x}", run.crc))
}

fn log_row(log: &WalLog) -> Row {
    let kind = match log.kind {
        WalKind::File => "file",
        WalKind::Bucket => "bucket",
    };
    Row::new("log")
        .with("broker", i64::from(log.broker.0))
        .with("epoch", log.epoch.0)
        .with("wal", kind)
        .with("volume", log.volume.map_or(String::new(), |it| it.to_string()))
        .with("trimmed", log.trimmed)
        .with("fence", log.fence)
}

fn segment_row(object: &str, index: &SegmentIndex) -> Row {
    let batches: usize = index.runs.iter().map(|it| it.batches.len()).sum();
    Row::new("segment")
        .with("object", object)
        .with("name", index.name.to_string())
        .with("bytes", index.length)
        .with("runs", index.runs.len() as u64)
        .with("batches", batches as u64)
}

/// `segment_at` is where the segment starts in the object.
fn run_rows(
    sink: &mut dyn RowSink,
    run: &RunEntry,
    segment_at: u64,
    with_batches: bool,
) -> io::Result<()> {
    let start = segment_at + run.position;
    let producers = run.producers.as_deref().map(ProducerSnapshot::read);
    sink.row(
        Row::new("segment_run")
            .with("topic_id", run.partition.topic.to_string())
            .with("partition", i64::from(run.partition.index))
            .with("leader_epoch", i64::from(run.leader_epoch.0))
            .with("base", run.base.0)
            .with("end", run.end.0)
            .with("max_timestamp_ms", run.max_timestamp.0)
            .with("at_byte", start)
            .with("bytes", run.length)
            .with("crc", format!("{:08x}", run.crc))
            .with("batches", run.batches.len() as u64)
            .with("aborted_transactions", aborted_count(run))
            .with(
                "producers",
                producers.map(|it| match it {
                    Ok(snapshot) => snapshot.producers.len().to_string(),
                    Err(reason) => reason,
                }),
            ),
    )?;
    if with_batches {
        for batch in &run.batches {
            sink.row(batch_row(batch, start))?;
        }
    }
    Ok(())
}

/// Markers that end a transaction with records in the partition, and not to keep them.
fn aborted_count(run: &RunEntry) -> u64 {
    let markers = run.batches.iter().filter_map(|it| it.marker);
    markers.filter(|it| it.is_abort() && it.first_offset.is_some()).count() as u64
}

fn batch_row(batch: &BatchEntry, run_at: u64) -> Row {
    Row::new("batch")
        .with("base", batch.base_offset.0)
        .with("last", batch.last_offset().0)
        .with("records", i64::from(batch.record_count))
        .with("at_byte", run_at + batch.position)
        .with("bytes", u64::from(batch.length))
        .with("max_timestamp_ms", batch.max_timestamp.0)
        .with("producer_id", batch.producer_id)
        .with("producer_epoch", i64::from(batch.producer_epoch))
        .with("base_sequence", i64::from(batch.base_sequence))
        .with("attributes", i64::from(batch.attributes.0))
        .with("marker", batch.marker.map(|it| if it.is_abort() { "abort" } else { "commit" }))
        .with("transaction_start", batch.marker.and_then(|it| it.first_offset).map(|it| it.0))
}

fn entry_row(entry: &MetadataEntry, value: &MetadataValue) -> Row {
    let (what, says) = match value {
        MetadataValue::Topic(it) => (
            "topic",
            format!(
                "{} with {} partitions, configs {:?}",
                it.name,
                it.partitions.len(),
                it.configs
            ),
        ),
        MetadataValue::Progress(partition, it) => (
            "progress",
            format!(
                "{partition}: log start {}, runs {} to {}, {} runs of {} bytes",
                it.log_start, it.runs_start, it.committed_end, it.runs, it.committed_bytes
            ),
        ),
        MetadataValue::Broker(it) => {
            ("broker", format!("{} in epoch {} at {}:{}", it.id, it.epoch, it.host, it.port))
        }
        MetadataValue::Configs(None, it) => ("configs", format!("of all brokers: {it:?}")),
        MetadataValue::Configs(Some(id), it) => ("configs", format!("of broker {id}: {it:?}")),
        MetadataValue::GroupConfigs(group, it) => ("configs", format!("of group {group}: {it:?}")),
        MetadataValue::Acl(it) => ("acl", format!("{it:?}")),
        MetadataValue::Dropping(id, it) => ("dropping", format!("topic {id}, {it} partitions")),
        MetadataValue::Log(it) => {
            let fence = it.fence.map_or("open".to_owned(), |at| format!("ended before {at}"));
            (
                "log",
                format!(
                    "broker {}, epoch {}: {:?}, trimmed to {}, {fence}",
                    it.broker, it.epoch, it.kind, it.trimmed
                ),
            )
        }
        MetadataValue::ProducerIdNext(next) => ("producer id", format!("next {next}")),
        MetadataValue::Segment(name, it) => {
            let since =
                it.garbage_since.map_or(String::new(), |at| format!(", garbage since {at} ms"));
            ("segment", format!("{name}: {} bytes, {} live runs{since}", it.bytes, it.live_runs))
        }
        MetadataValue::Kept(it) => (
            "kept producers",
            format!("{}: as of {}, {} bytes", it.partition, it.as_of, it.snapshot.len()),
        ),
        MetadataValue::Run(it) => (
            "run",
            format!(
                "{}: offsets {} to {} in {}, bytes {} to {}",
                it.partition,
                it.base,
                it.end,
                it.segment,
                it.position,
                it.position + it.length
            ),
        ),
    };
    Row::new("entry")
        .with("key", entry.name.as_str())
        .with("what", what)
        .with("says", says)
        .with("value_bytes", entry.value_bytes as u64)
}
