//! Where a group goes on in each partition, and where it begins with what is new to it (`share.auto.offset.reset`).
//!
//! With a topic a group begins as a whole: all partitions that the topic has by then. A partition that comes later is
//! read from its first record on, whatever the reset says: it is not to depend on who looks first, a producer or a
//! member (KAFKA-20742, Kafka 4.4). Of partitions that other brokers lead, and where the reset is a duration, it stays
//! undecided until a member reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::Topic;
use coordinator::share::{Look, LookAt, NextFetch, ShareCommand, ShareReply};
use partition_log::{PartitionLog, ReadLimit};
use protocol::ErrorCode;
use vocabulary::{Offset, Partition, Timestamp, TopicId};

use crate::broker::Broker;
use crate::configs::ShareReset;
use crate::shares::acknowledging::of_coordinator;
use crate::shares::fetching::{Limits, Target};
use crate::shares::sessions::SessionKey;

/// Where to go on in each partition. Where one begins that is new to the group is looked up only if it is new.
///
/// # Errors
/// As of [`ShareHost::ask`](crate::shares::ShareHost::ask).
pub(super) async fn look(
    broker: &Arc<Broker>,
    key: &SessionKey,
    targets: &[Target],
    limits: Limits,
) -> Result<Vec<NextFetch>, ErrorCode> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let asked = targets.iter().map(|it| look_at(it, None)).collect();
    let mut rows = look_as(broker, key, limits, asked, Vec::new()).await?;
    let is_new = |(place, row): (usize, &NextFetch)| (*row == NextFetch::Unbegun).then_some(place);
    let new: Vec<usize> = rows.iter().enumerate().filter_map(is_new).collect();
    if new.is_empty() {
        return Ok(rows);
    }
    let refusal = match broker.groups.describe_shares(broker, &key.group).await {
        Ok(Ok(_)) => None,
        // As Kafka says it of what no heartbeat has begun: nobody could delete what is kept of such a group.
        Ok(Err(_)) => Some(ErrorCode::UnknownServerError),
        Err(code) => Some(of_coordinator(code)),
    };
    let mut topics: BTreeMap<TopicId, Arc<Topic>> = BTreeMap::new();
    let (mut places, mut begun) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for place in new {
        let target = &targets[place];
        let topic = broker.view.topic_by_id(target.partition.topic);
        let (None, Some(topic)) = (refusal, topic) else {
            rows[place] = NextFetch::Refused(refusal.unwrap_or(ErrorCode::UnknownTopicId));
            continue;
        };
        let begin = match limits.reset {
            ShareReset::Ago(ago) => offset_ago(broker, &target.log, ago).await,
            reset => known_offset(&target.log, reset),
        };
        if begin.is_some() {
            topics.insert(topic.id, topic);
            places.push(place);
            begun.push(look_at(target, begin));
        }
    }
    if !begun.is_empty() {
        let asked: BTreeSet<Partition> = begun.iter().map(|it| it.partition).collect();
        let of_topic = |it: &Arc<Topic>| siblings(broker, it, &asked, Some(limits.reset));
        let siblings = topics.values().flat_map(of_topic).collect();
        for (place, row) in
            places.into_iter().zip(look_as(broker, key, limits, begun, siblings).await?)
        {
            rows[place] = row;
        }
    }
    Ok(rows)
}

/// The other partitions of a topic, as they begin with those that are asked for. `None`: not to be decided now.
pub(crate) fn siblings(
    broker: &Broker,
    topic: &Topic,
    asked: &BTreeSet<Partition>,
    reset: Option<ShareReset>,
) -> Vec<LookAt> {
    let look = |(partition, leader_epoch): (Partition, i32)| {
        let log = reset.zip(broker.led_log(partition).ok());
        LookAt {
            partition,
            leader_epoch,
            log_start: Offset::ZERO,
            begin: log.and_then(|(reset, log)| known_offset(&log, reset)),
        }
    };
    let partitions = (0..).map(|index| Partition { topic: topic.id, index });
    let epochs = topic.partitions.iter().map(|it| it.leader_epoch.0);
    partitions.zip(epochs).filter(|(it, _)| !asked.contains(it)).map(look).collect()
}

fn look_at(target: &Target, begin: Option<Offset>) -> LookAt {
    LookAt {
        partition: target.partition,
        leader_epoch: target.log.leader_epoch().0,
        log_start: target.log.offsets().log_start,
        begin,
    }
}

async fn look_as(
    broker: &Arc<Broker>,
    key: &SessionKey,
    limits: Limits,
    partitions: Vec<LookAt>,
    siblings: Vec<LookAt>,
) -> Result<Vec<NextFetch>, ErrorCode> {
    let group = key.group.clone();
    let look = Look { group, limits: limits.of_group, partitions, siblings };
    let pick = |reply| if let ShareReply::Look(rows) = reply { Some(rows) } else { None };
    broker.shares.ask(broker, &key.group, ShareCommand::Look(look), pick).await
}

/// Where a partition begins whose records need not be searched for that.
fn known_offset(log: &PartitionLog, reset: ShareReset) -> Option<Offset> {
    match reset {
        ShareReset::Earliest => Some(log.offsets().log_start),
        ShareReset::Latest => Some(log.offsets().high_watermark),
        ShareReset::Ago(_) => None,
    }
}

/// The first record that is not older than that, or the end if there is none. `None` if storage has trouble: the next
/// round asks again.
async fn offset_ago(broker: &Broker, log: &PartitionLog, ago: Duration) -> Option<Offset> {
    // Before the search: what comes meanwhile is younger.
    let end = log.offsets().high_watermark;
    let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    let since = Timestamp(broker.environment.clock.wall().0.saturating_sub(ago_ms).max(0));
    match log.offset_for_timestamp(since, ReadLimit::HighWatermark).await {
        Ok(found) => Some(found.map_or(end, |it| it.offset)),
        Err(error) => {
            tracing::warn!(partition = %log.partition(), %error, "no start found for a share group");
            None
        }
    }
}
