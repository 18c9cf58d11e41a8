//! Records for a member of a share group: where the coordinator says to look, what the log has there, what of it the
//! member gets; and the wait until there is something.
//!
//! Between a look and its acquisition another member may have been faster. Then less is acquired, or nothing, and the
//! next round looks again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coordinator::share::{
    Acquire, AcquiredSpan, LogBatch, Look, LookAt, NextFetch, ShareCommand, ShareReply,
};
use partition_log::{FetchWaiter, PartitionLog, ReadError, ReadLimit};
use protocol::ErrorCode;
use protocol::records::batches;
use vocabulary::{Offset, Partition, Tick};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::shares::acknowledging::{is_denied, of_coordinator};
use crate::shares::sessions::SessionKey;

/// The longest a fetch waits, whatever it asks: a vanished client must not hold a task for days.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How long storage is waited for when time is up otherwise.
const STORAGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Read from one partition at once: records that are not acquired were read for nothing.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Rounds in which others were always faster, after which an empty answer is given.
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
    /// Where a partition begins that is new to the group.
    pub(crate) is_from_start: bool,
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

struct Target {
    partition: Partition,
    log: Arc<PartitionLog>,
}

/// What is left of the limits.
struct Budget {
    bytes: usize,
    records: i64,
    is_untouched: bool,
}

/// Only partitions with something to say are in the answer.
pub(crate) async fn fetch(
    (broker, context): (&Arc<Broker>, &RequestContext),
    key: &SessionKey,
    partitions: Vec<Partition>,
    limits: Limits,
) -> Vec<Brought> {
    let clock = &broker.environment.clock;
    let wait = Duration::from_millis(limits.wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = clock.now().plus(wait);
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
        let mut brought = round(broker, key, &targets, limits, is_late, deadline).await;
        if !brought.is_empty() || !refusals.is_empty() || is_late || broker.stop.is_stopped() {
            brought.append(&mut refusals);
            return brought;
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

/// One look at all partitions, and what it brings.
async fn round(
    broker: &Arc<Broker>,
    key: &SessionKey,
    targets: &[Target],
    limits: Limits,
    is_late: bool,
    deadline: Tick,
) -> Vec<Brought> {
    let looks = match look(broker, key, targets, limits.is_from_start).await {
        Ok(looks) => looks,
        Err(code) => {
            let code = of_coordinator(code);
            return targets.iter().map(|it| Brought::refused(it.partition, code)).collect();
        }
    };
    let found: Vec<(&Target, NextFetch)> = targets.iter().zip(looks).collect();
    if !is_late && !is_enough(&found, limits) {
        return Vec::new();
    }
    let mut budget = Budget {
        bytes: limits.bytes_max.max(0) as usize,
        records: i64::from(limits.records_max),
        is_untouched: true,
    };
    let mut all = Vec::new();
    for (target, next) in found {
        let from = match next {
            NextFetch::Returned(from) | NextFetch::Fresh(from) => from,
            NextFetch::Full => continue,
            NextFetch::Refused(code) => {
                all.push(Brought::refused(target.partition, code));
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
            taken = taking => all.extend(taken),
            // What was acquired and is not told is given back when its lock runs out.
            () = too_late => break,
        }
    }
    all
}

async fn look(
    broker: &Arc<Broker>,
    key: &SessionKey,
    targets: &[Target],
    is_from_start: bool,
) -> Result<Vec<NextFetch>, ErrorCode> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let at = |target: &Target| {
        let offsets = target.log.offsets();
        LookAt {
            partition: target.partition,
            leader_epoch: target.log.leader_epoch().0,
            log_start: offsets.log_start,
            begin: match is_from_start {
                true => offsets.log_start,
                false => offsets.high_watermark,
            },
        }
    };
    let look = Look { group: key.group.clone(), partitions: targets.iter().map(at).collect() };
    let pick = |reply| if let ShareReply::Look(rows) = reply { Some(rows) } else { None };
    broker.shares.ask(broker, &key.group, ShareCommand::Look(look), pick).await
}

fn is_enough(found: &[(&Target, NextFetch)], limits: Limits) -> bool {
    let enough = limits.bytes_min.max(1) as usize;
    let mut bytes = 0;
    for (target, next) in found {
        match next {
            NextFetch::Returned(_) | NextFetch::Refused(_) => return true,
            NextFetch::Fresh(from) => {
                let left = enough.saturating_sub(bytes);
                bytes += target.log.bytes_available(*from, ReadLimit::HighWatermark, left);
            }
            NextFetch::Full => (),
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
) -> Option<Brought> {
    let bytes_max = budget.bytes.min(READ_BYTES_MAX);
    let read =
        target.log.read(from, bytes_max, budget.is_untouched, ReadLimit::HighWatermark).await;
    let records = match read {
        Ok(fetched) if fetched.chunks.is_empty() => return None,
        Ok(fetched) => joined(fetched.chunks),
        // Storage has trouble, or the log start has moved: the next look knows.
        Err(ReadError::Unavailable | ReadError::OffsetOutOfRange { .. }) => return None,
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::error!(partition = %target.partition, %error, "share fetch refused");
            return Some(Brought::refused(target.partition, ErrorCode::KafkaStorageError));
        }
    };
    let Ok(found) = placed(&records) else {
        return Some(Brought::refused(target.partition, ErrorCode::CorruptMessage));
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
        Ok(acquired) if acquired.is_empty() => return None,
        Ok(acquired) => acquired,
        Err(code) => return Some(Brought::refused(target.partition, of_coordinator(code))),
    };
    let records = cut_to(&records, &found, &acquired);
    budget.bytes = budget.bytes.saturating_sub(records.len());
    budget.records -= acquired.iter().map(|it| it.last.since(it.first) + 1).sum::<i64>();
    budget.is_untouched = false;
    let (partition, code) = (target.partition, ErrorCode::None);
    Some(Brought { partition, code, records: vec![records], acquired })
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
fn placed(records: &Bytes) -> Result<Vec<(LogBatch, usize)>, protocol::records::BatchError> {
    let mut end = 0;
    let place = |batch: Result<_, _>| {
        let (header, bytes): (protocol::records::BatchHeader, Bytes) = batch?;
        end += bytes.len();
        let is_control = header.attributes.is_control();
        let (first, last) = (header.base_offset, header.last_offset());
        Ok((LogBatch { first, last, is_control }, end))
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
            |first, last| LogBatch { first: Offset(first), last: Offset(last), is_control: false };
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
