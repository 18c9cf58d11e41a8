//! The flush: durable tails become data segments, their runs are committed, the WAL is trimmed.
//!
//! Owns: when a flush starts, what goes into which segment, the order of a partition's commits.
//! Does not own: the format (`segment`), uploading and committing one segment (`upload`).
//!
//! A flush takes what is durable when it starts, partition by partition in sorted order. It goes in
//! rounds: in one round a partition gives at most one segment's worth, so that segments of a round
//! may be uploaded in any order while each partition's runs are committed in offset order (A3).
//! Parts are taken lazily: memory holds [`LogOptions::uploads_in_flight_max`] segments, no more.
//!
//! Trouble is retried with backoff for ever (A9); meanwhile tails grow on the WAL's disk until
//! appends wait for room. Only being fenced ends it, and the broker with it (A4).

use crate::engine::{LogOptions, Shared, Unhosted};
use crate::log::{FlushPart, PartitionLog};
use crate::run_index::RunIndexError;
use futures::StreamExt;
use packing::{Limits, Packer, Size};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use upload::FlushError;
use vocabulary::{Offset, Tick};

pub(crate) mod packing;
mod read_back;
mod upload;

/// Between tries of a failing flush: doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The flush loop, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, unhosted: Arc<Mutex<Unhosted>>) {
    while !shared.is_fenced() {
        let now = shared.environment.clock.now();
        // What becomes dirty while nothing is, is due no earlier than this.
        let due_at = shared.flush_due_at().unwrap_or(now.plus(shared.options.flush_age));
        tokio::select! {
            () = shared.flush_wanted.notified() => (),
            () = shared.environment.clock.sleep_until(due_at) => (),
        }
        if shared.is_flush_due() {
            until_done(&shared, &unhosted).await;
        }
    }
}

/// Flushes what is durable now, however often it takes.
pub(crate) async fn until_done(shared: &Arc<Shared>, unhosted: &Mutex<Unhosted>) {
    let mut backoff = BACKOFF_MIN;
    while !shared.is_fenced() {
        match flush(shared, unhosted).await {
            Ok(()) => return shared.set_working(),
            // Retrying is of no use; what is in the tails is durable in the WAL.
            Err(error @ FlushError::RunIndex(RunIndexError::Fenced)) => {
                return shared.fence(&error.to_string());
            }
            Err(error) => {
                tracing::warn!(%error, "flush failed, it is tried again");
                shared.set_failing(error.to_string());
            }
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn flush(shared: &Arc<Shared>, unhosted: &Mutex<Unhosted>) -> Result<(), FlushError> {
    let _turn = shared.flush_turn.lock().await;
    let started = shared.environment.clock.now();
    let logs = shared.dirty_logs();
    let up_to: Vec<_> = logs.iter().map(|it| it.offsets().high_watermark).collect();
    let work: Vec<_> = logs.into_iter().zip(up_to).collect();
    while round(shared, &work).await? {}
    for (log, _) in &work {
        shared.mark_younger(log.partition(), started);
    }
    trim(shared, unhosted).await;
    Ok(())
}

/// One segment's worth of every partition that has something left. False when none had.
async fn round(
    shared: &Arc<Shared>,
    work: &[(Arc<PartitionLog>, Offset)],
) -> Result<bool, FlushError> {
    let drafts = Drafts::new(&shared.options, work);
    let uploads = futures::stream::iter(drafts)
        .map(|parts| upload::write(shared, parts))
        .buffer_unordered(shared.options.uploads_in_flight_max);
    let mut uploads = std::pin::pin!(uploads);
    let mut any = false;
    let mut failed = None;
    // After a failure the others still finish: what they uploaded must not be in vain.
    while let Some(written) = uploads.next().await {
        any = true;
        if let Err(error) = written {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(any), Err)
}

/// The segments of one round, taken from the tails one by one.
struct Drafts<'a> {
    work: std::slice::Iter<'a, (Arc<PartitionLog>, Offset)>,
    segment_max: Size,
    packer: Packer<FlushPart>,
}

impl<'a> Drafts<'a> {
    fn new(options: &LogOptions, work: &'a [(Arc<PartitionLog>, Offset)]) -> Drafts<'a> {
        let (bytes, batches) = (options.segment_bytes_max.0, options.segment_batches_max);
        let segment_max = Size { bytes, batches };
        let own_bytes_min = options.own_segment_bytes_min.0;
        let packer = Packer::new(Limits { segment: segment_max, own_bytes_min });
        Drafts { work: work.iter(), segment_max, packer }
    }
}

impl Iterator for Drafts<'_> {
    type Item = Vec<FlushPart>;

    fn next(&mut self) -> Option<Vec<FlushPart>> {
        for (log, up_to) in self.work.by_ref() {
            let Size { bytes, batches } = self.segment_max;
            let Some(part) = log.unflushed(*up_to, bytes, batches) else { continue };
            let size = Size { bytes: part.bytes, batches: part.entries.len() };
            if let Some(complete) = self.packer.push(part, size) {
                return Some(complete);
            }
        }
        self.packer.finish()
    }
}

/// Lets the WAL forget what neither a tail nor an unclaimed recovery needs.
async fn trim(shared: &Shared, unhosted: &Mutex<Unhosted>) {
    let needed = {
        // Held while looking at the tails: hosting moves batches from the one to the other under it.
        let unhosted = unhosted.lock().expect("no holder of this leaf lock panics");
        let firsts = unhosted.values().filter_map(|runs| runs.first());
        firsts.map(|it| it.sequence).fold(shared.needed_sequence(), u64::min)
    };
    shared.wal.trim(needed).await;
}

/// When a commit that gets no answer is given up, so that the sweep of orphans, which may be another
/// broker's, cannot delete the object just before it is committed (A6).
pub(crate) fn insist_until(options: &LogOptions, uploaded_at: Tick) -> Tick {
    uploaded_at.plus(options.orphan_grace / 2)
}
