//! Records for a member of a share group: where the coordinator says to look, what the log has there, what of it the
//! member gets; and the wait until there is something.
//!
//! Between a look and its acquisition another member may have been faster. Then less is acquired, or nothing, and the
//! next round looks again. It does so at once if nothing of what was read is for this member: another has it, or it is
//! for nobody (markers, aborted records, a hole).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coordinator::share::{
    Acquire, AcquiredSpan, LogBatch, NextFetch, ShareCommand, ShareLimits, ShareReply,
};
use futures::StreamExt;
use partition_log::{FetchWaiter, PartitionLog, ReadError, ReadLimit};
use protocol::ErrorCode;
use protocol::records::{BatchError, BatchHeader, batches};
use vocabulary::{Offset, Partition, Tick};

use crate::broker::Broker;
use crate::configs::ShareReset;
use crate::context::RequestContext;
use crate::shares::aborted::Aborted;
use crate::shares::acknowledging::{is_denied, of_coordinator};
use crate::shares::beginning::look;
use crate::shares::sessions::SessionKey;

/// The longest a fetch waits, whatever it asks: a vanished client must not hold a task for days.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How long storage is waited for when time is up otherwise.
const STORAGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Read from one partition at once: records that are not acquired were read for nothing.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Partitions whose producers are made known at once.
const LOADS_AT_ONCE: usize = 16;

/// Rounds in which others were always faster, or what was read was for nobody, after which an empty answer is given.
const ROUNDS_MAX: usize = 1_000;

/// What a fetch may bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) wait_ms: i32,
    pub(crate) bytes_min: i32,
    pub(crate) bytes_max: i32,
    pub(crate) records_max: i32,
    pub(crate) batch_records: i32,
    /// Not one record more than `records_max` (KIP-1206).
    pub(crate) is_exact: bool,
    /// How long what is acquired stays locked.
    pub(crate) lock_ms: u64,
    /// Where the partitions of a topic begin that is new to the group.
    pub(crate) reset: ShareReset,
    /// What else the group may have.
    pub(crate) of_group: ShareLimits,
    /// How far is read: below the last stable offset, only committed records are given.
    pub(crate) until: ReadLimit,
}

/// What there is to say of one partition.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) partition: Partition,
    pub(crate) code: ErrorCode,
    /// Whole batches.
    pub(crate) records: Vec<Bytes>,
    pub(crate) acquired: Vec<AcquiredSpan>,
}

impl Brought {
    pub(crate) fn refused(partition: Partition, code: ErrorCode) -> Brought {
        Brought { partition, code, records: Vec::new(), acquired: Vec::new() }
    }
}

pub(super) struct Target {
    pub(super) partition: Partition,
    pub(super) log: Arc<PartitionLog>,
}

/// What is left of the limits.
struct Budget {
    bytes: usize,
    records: i64,
    is_untouched: bool,
}

/// What came of an attempt to take records of one partition.
enum Taken {
    Nothing,
    /// What lies there is for nobody, or another member was faster; what follows may be for this member.
    Passed,
    Something(Brought),
}

/// What came of a look at all partitions.
#[derive(Default)]
struct Round {
    brought: Vec<Brought>,
    /// Looking again at once may bring more.
    has_passed: bool,
}

impl Round {
    fn of(brought: Vec<Brought>) -> Round {
        Round { brought, has_passed: false }
    }
}

/// Waits as a fetch does that brings nothing.
pub(crate) async fn idle(broker: &Broker, wait_ms: i32) {
    tokio::select! {
        () = broker.environment.clock.sleep(wait(wait_ms)) => (),
        () = broker.stop.stopped() => (),
    }
}

fn wait(wait_ms: i32) -> Duration {
    Duration::from_millis(wait_ms.max(0) as u64).min(WAIT_MAX)
}

/// Only partitions with something to say are in the answer.
pub(crate) async fn fetch(
    (broker, context): (&Arc<Broker>, &RequestContext),
    key: &SessionKey,
    partitions: Vec<Partition>,
    limits: Limits,
) -> Vec<Brought> {
    let clock = &broker.environment.clock;
    let deadline = clock.now().plus(wait(limits.wait_ms));
    let (mut targets, mut refusals) = (Vec::new(), Vec::new());
    for partition in partitions {
        match broker.led_log(partition) {
            _ if is_denied(broker, context, partition) => {
                let code = ErrorCode::TopicAuthorizationFailed;
                refusals.push(Brought::refused(partition, code));
            }
            Ok(log) => targets.push(Target { partition, log }),
            Err(ErrorCode::UnknownTopicOrPartition)
                if broker.view.topic_by_id(partition.topic).is_none() =>
            {
                refusals.push(Brought::refused(partition, ErrorCode::UnknownTopicId));
            }
            Err(code) => refusals.push(Brought::refused(partition, code)),
        }
    }
    if limits.records_max <= 0 || limits.bytes_max <= 0 {
        return refusals;
    }
    load_producers(broker, &targets, limits.until, deadline.plus(STORAGE_WAIT_MAX)).await;
    let waiter = Arc::new(FetchWaiter::new());
    let _watching: Vec<_> = targets.iter().map(|it| it.log.watch(&waiter)).collect();
    let timeout = clock.sleep_until(deadline);
    tokio::pin!(timeout);
    for _ in 0..ROUNDS_MAX {
        // Listening begins before the look, so that nothing falls between the look and the wait.
        let rung = broker.shares.bell(&key.group).notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        let is_late = deadline <= clock.now();
        let round = round(broker, key, &targets, limits, is_late, deadline).await;
        let Round { mut brought, has_passed } = round;
        if !brought.is_empty() || !refusals.is_empty() || is_late || broker.stop.is_stopped() {
            brought.append(&mut refusals);
            return brought;
        }
        if has_passed {
            continue;
        }
        tokio::select! {
            () = waiter.woken() => (),
            () = &mut rung => (),
            () = &mut timeout => (),
            () = broker.stop.stopped() => (),
        }
    }
    refusals
}

/// Makes the last stable offsets known. A partition where that fails reads as empty (A9).
async fn load_producers(broker: &Broker, targets: &[Target], until: ReadLimit, deadline: Tick) {
    if until == ReadLimit::LastStable {
        let logs: Vec<Arc<PartitionLog>> = targets.iter().map(|it| Arc::clone(&it.log)).collect();
        let load = |log: Arc<PartitionLog>| async move { drop(log.load_producers().await) };
        let loads = futures::stream::iter(logs).map(load);
        tokio::select! {
            () = loads.buffer_unordered(LOADS_AT_ONCE).collect() => (),
            () = broker.environment.clock.sleep_until(deadline) => (),
        }
    }
}

/// One look at all partitions, and what it brings.
async fn round(
    broker: &Arc<Broker>,
    key: &SessionKey,
    targets: &[Target],
    limits: Limits,
    is_late: bool,
    deadline: Tick,
) -> Round {
    let looks = match look(broker, key, targets, limits).await {
        Ok(looks) => looks,
        Err(code) => {
            let code = of_coordinator(code);
            let refused = targets.iter().map(|it| Brought::refused(it.partition, code));
            return Round::of(refused.collect());
        }
    };
    let found: Vec<(&Target, NextFetch)> = targets.iter().zip(looks).collect();
    if !is_late && !is_enough(&found, limits) {
        return Round::default();
    }
    let mut budget = Budget {
        bytes: limits.bytes_max.max(0) as usize,
        records: i64::from(limits.records_max),
        is_untouched: true,
    };
    let mut all = Round::default();
    for (target, next) in found {
        let from = match next {
            NextFetch::Returned(from) | NextFetch::Fresh(from) => from,
            NextFetch::Full | NextFetch::Unbegun => continue,
            NextFetch::Refused(code) => {
                all.brought.push(Brought::refused(target.partition, code));
                continue;
            }
        };
        if budget.records <= 0 || budget.bytes == 0 {
            break;
        }
        let taking = take(broker, key, target, from, limits, &mut budget);
        let too_late = broker.environment.clock.sleep_until(deadline.plus(STORAGE_WAIT_MAX));
        tokio::select! {
            biased;
            taken = taking => match taken {
                Taken::Nothing => (),
                Taken::Passed => all.has_passed = true,
                Taken::Something(brought) => all.brought.push(brought),
            },
            // What was acquired and is not told is given back when its lock runs out.
            () = too_late => break,
        }
    }
    all
}

fn is_enough(found: &[(&Target, NextFetch)], limits: Limits) -> bool {
    let enough = limits.bytes_min.max(1) as usize;
    let mut bytes = 0;
    for (target, next) in found {
        match next {
            NextFetch::Returned(_) | NextFetch::Refused(_) => return true,
            NextFetch::Fresh(from) => {
                let left = enough.saturating_sub(bytes);
                bytes += target.log.bytes_available(*from, limits.until, left);
            }
            NextFetch::Full | NextFetch::Unbegun => (),
        }
        if enough <= bytes {
            return true;
        }
    }
    false
}

async fn take(
    broker: &Arc<Broker>,
    key: &SessionKey,
    target: &Target,
    from: Offset,
    limits: Limits,
    budget: &mut Budget,
) -> Taken {
    let bytes_max = budget.bytes.min(READ_BYTES_MAX);
    let (records, aborted) =
        match read(&target.log, from, bytes_max, budget.is_untouched, limits.until).await {
            Ok((chunks, _)) if chunks.is_empty() => return Taken::Nothing,
            Ok((chunks, aborted)) => (joined(chunks), aborted),
            // Storage has trouble, or the log start has moved: the next look knows.
            Err(ReadError::Unavailable | ReadError::OffsetOutOfRange { .. }) => {
                return Taken::Nothing;
            }
            Err(error @ ReadError::Corrupt { .. }) => {
                tracing::error!(partition = %target.partition, %error, "share fetch refused");
                let code = ErrorCode::KafkaStorageError;
                return Taken::Something(Brought::refused(target.partition, code));
            }
        };
    let Ok(found) = placed(&records, &aborted) else {
        let code = ErrorCode::CorruptMessage;
        return Taken::Something(Brought::refused(target.partition, code));
    };
    let acquire = Acquire {
        group: key.group.clone(),
        member: key.member.clone(),
        partition: target.partition,
        from,
        batches: found.iter().map(|(batch, _)| *batch).collect(),
        records_max: budget.records,
        is_exact: limits.is_exact,
        span_records: i64::from(limits.batch_records.max(1)),
        lock_ms: limits.lock_ms,
    };
    let pick = |reply| if let ShareReply::Acquired(spans) = reply { Some(spans) } else { None };
    let asked = broker.shares.ask(broker, &key.group, ShareCommand::Acquire(acquire), pick).await;
    let acquired = match asked {
        Ok(acquired) if acquired.is_empty() => {
            let was_read = found.iter().any(|(batch, _)| from <= batch.last);
            return if was_read { Taken::Passed } else { Taken::Nothing };
        }
        Ok(acquired) => acquired,
        Err(code) => {
            return Taken::Something(Brought::refused(target.partition, of_coordinator(code)));
        }
    };
    let records = cut_to(&records, &found, &acquired);
    budget.bytes = budget.bytes.saturating_sub(records.len());
    budget.records -= acquired.iter().map(|it| it.last.since(it.first) + 1).sum::<i64>();
    budget.is_untouched = false;
    let (partition, code) = (target.partition, ErrorCode::None);
    Taken::Something(Brought { partition, code, records: vec![records], acquired })
}

/// Records, and what of them was aborted; below the last stable offset all is decided.
async fn read(
    log: &PartitionLog,
    from: Offset,
    bytes_max: usize,
    at_least_one: bool,
    until: ReadLimit,
) -> Result<(Vec<Bytes>, Aborted), ReadError> {
    let fetched = log.read(from, bytes_max, at_least_one, until).await?;
    let aborted = match until {
        ReadLimit::HighWatermark => Vec::new(),
        ReadLimit::LastStable => log.aborted_among(from, &fetched).await?,
    };
    Ok((fetched.chunks, Aborted::new(aborted)))
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|it| whole.extend_from_slice(it));
    whole.freeze()
}

/// Each batch, and where it ends in the bytes.
fn placed(records: &Bytes, aborted: &Aborted) -> Result<Vec<(LogBatch, usize)>, BatchError> {
    let mut end = 0;
    let place = |batch: Result<_, _>| {
        let (header, bytes): (BatchHeader, Bytes) = batch?;
        end += bytes.len();
        let is_withheld = header.attributes.is_control() || aborted.contains(&header);
        let (first, last) = (header.base_offset, header.last_offset());
        Ok((LogBatch { first, last, is_withheld }, end))
    };
    batches(records.clone()).map(place).collect()
}

/// The batches from the first to the last that has something acquired in it.
fn cut_to(records: &Bytes, found: &[(LogBatch, usize)], acquired: &[AcquiredSpan]) -> Bytes {
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else {
        return Bytes::new();
    };
    let before = found.iter().take_while(|(batch, _)| batch.last < first.first);
    let start = before.last().map_or(0, |(_, end)| *end);
    let through = found.iter().take_while(|(batch, _)| batch.first <= last.last);
    let end = through.last().map_or(start, |(_, end)| *end);
    records.slice(start..end.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_batches_with_something_acquired_are_sent() {
        let records = Bytes::from_static(b"aabbbccd");
        let batch =
            |first, last| LogBatch { first: Offset(first), last: Offset(last), is_withheld: false };
        let found = [(batch(0, 3), 2), (batch(4, 4), 5), (batch(7, 9), 7), (batch(10, 10), 8)];
        let span = |first, last| AcquiredSpan {
            first: Offset(first),
            last: Offset(last),
            delivery_count: 1,
        };
        let cut = |spans: &[AcquiredSpan]| cut_to(&records, &found, spans);
        assert_eq!(&cut(&[span(4, 4), span(8, 8)])[..], b"bbbcc");
        assert_eq!(&cut(&[span(2, 3)])[..], b"aa");
        assert_eq!(&cut(&[span(9, 10)])[..], b"ccd");
        assert!(cut(&[]).is_empty());
    }
}
