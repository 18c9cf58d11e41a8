//! Producing, fetching, offsets and deletions at their edges.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use protocol::messages::delete_records::{self, DeleteRecords};
use protocol::messages::fetch::{self, Fetch};
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::messages::offset_for_leader_epoch::{self, OffsetForLeaderEpoch};
use protocol::messages::produce::{self, Produce};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use super::Asking;

/// 2025-09-13: no clock that this runs by is before it.
const START: i64 = 1_757_721_600_000;
const FAR_FUTURE: i64 = 4_102_444_800_000;
// Where a batch has what; its base offset is at 0.
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_DELTA: usize = 23;
const COUNT: usize = 57;

fn built(
    count: usize,
    producer: Option<(i64, i16, i32)>,
    key: Option<&[u8]>,
    first: i64,
) -> Vec<u8> {
    let producer = producer.map(|(id, epoch, sequence)| (ProducerId(id), epoch, sequence));
    let mut batch = BatchBuilder::new(Compression::None, producer);
    for index in 0..count {
        let time = Timestamp(first + i64::try_from(index).unwrap_or(0));
        batch.push(time, key, Some(format!("value {index}").as_bytes()), &[]);
    }
    batch.build().freeze().1.to_vec()
}

fn batch(count: usize) -> Vec<u8> {
    built(count, None, Some(b"key"), START)
}

/// Changes bytes and seals the batch again, unless it is the seal that is meant.
fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    if at >= ATTRIBUTES {
        let seal = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES..]);
        let seal = u32::try_from(seal).unwrap_or(0);
        batch[CRC..CRC + 4].copy_from_slice(&seal.to_be_bytes());
    }
    batch
}

pub(super) fn producing_to(
    topic: &str,
    partition: i32,
    records: Option<Vec<u8>>,
) -> produce::Request {
    produce::Request {
        transactional_id: None,
        acks: -1,
        timeout_ms: 20_000,
        topic_data: vec![produce::request::TopicProduceData {
            name: topic.to_owned(),
            topic_id: TopicId::default(),
            partition_data: vec![produce::request::PartitionProduceData {
                index: partition,
                records: records.map(|bytes| BytesMut::from(&bytes[..])),
            }],
        }],
    }
}

pub(super) fn producing(asking: &mut Asking<'_>) -> Result<()> {
    asking.topic("log", 2, &[])?;
    asking.topic("small", 1, &[("max.message.bytes", "200")])?;
    asking.topic("compacted", 1, &[("cleanup.policy", "compact")])?;
    asking.topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let two = [batch(1), batch(1)].concat();
    let half = batch(3)[..70].to_vec();
    let trailing = [batch(1), vec![0; 5]].concat();
    let steps: [(&str, &str, i32, Option<Vec<u8>>); 26] = [
        ("three records", "log", 0, Some(batch(3))),
        ("two more", "log", 0, Some(batch(2))),
        ("unknown topic", "nobody", 0, Some(batch(1))),
        ("bad topic", "a/b", 0, Some(batch(1))),
        ("unknown partition", "log", 2, Some(batch(1))),
        ("negative partition", "log", -1, Some(batch(1))),
        ("null", "log", 1, None),
        ("nothing", "log", 1, Some(Vec::new())),
        ("two batches", "log", 1, Some(two)),
        ("half a batch", "log", 1, Some(half)),
        ("bytes behind", "log", 1, Some(trailing)),
        ("bad checksum", "log", 1, Some(with(batch(1), CRC, &[1, 2, 3, 4]))),
        ("magic 1", "log", 1, Some(with(batch(1), MAGIC, &[1]))),
        ("magic 3", "log", 1, Some(with(batch(1), MAGIC, &[3]))),
        ("base offset 7", "log", 1, Some(with(batch(1), 0, &7_i64.to_be_bytes()))),
        ("a count of none", "log", 1, Some(with(batch(1), COUNT, &0_i32.to_be_bytes()))),
        ("a count too high", "log", 1, Some(with(batch(1), COUNT, &2_i32.to_be_bytes()))),
        (
            "a last offset too high",
            "log",
            1,
            Some(with(batch(1), LAST_DELTA, &4_i32.to_be_bytes())),
        ),
        ("a control batch", "log", 1, Some(with(batch(1), ATTRIBUTES, &0x20_i16.to_be_bytes()))),
        ("transactional", "log", 1, Some(with(batch(1), ATTRIBUTES, &0x10_i16.to_be_bytes()))),
        ("an unknown codec", "log", 1, Some(with(batch(1), ATTRIBUTES, &7_i16.to_be_bytes()))),
        ("a codec that is not", "log", 1, Some(with(batch(1), ATTRIBUTES, &1_i16.to_be_bytes()))),
        ("from the future", "log", 1, Some(built(1, None, None, FAR_FUTURE))),
        ("too large", "small", 0, Some(batch(20))),
        ("without a key", "compacted", 0, Some(built(2, None, None, START))),
        ("append time", "stamped", 0, Some(batch(1))),
    ];
    for (step, topic, partition, records) in steps {
        asking.ask::<Produce>(step, 9, &producing_to(topic, partition, records))?;
    }
    for acks in [2, -2, 1] {
        let mut request = producing_to("log", 1, Some(batch(1)));
        request.acks = acks;
        asking.ask::<Produce>(&format!("acks {acks}"), 9, &request)?;
    }
    asking.ask::<Produce>("as rskafka", 3, &producing_to("log", 1, Some(batch(1))))?;
    let zstd = with(batch(1), ATTRIBUTES, &4_i16.to_be_bytes());
    asking.ask::<Produce>("zstd", 6, &producing_to("log", 1, Some(zstd)))?;
    let mut request = producing_to("", 0, Some(batch(1)));
    request.topic_data[0].topic_id = TopicId([7; 16]);
    asking.ask::<Produce>("unknown id", 13, &request)?;
    request.topic_data[0].topic_id = TopicId::default();
    asking.ask::<Produce>("no id", 13, &request)?;
    Ok(())
}

pub(super) fn idempotence(asking: &mut Asking<'_>) -> Result<()> {
    asking.topic("sequences", 1, &[])?;
    let init = |transactional_id: Option<&str>, producer_id: i64, producer_epoch: i16| {
        init_producer_id::Request {
            transactional_id: transactional_id.map(str::to_owned),
            transaction_timeout_ms: 60_000,
            producer_id,
            producer_epoch,
            ..Default::default()
        }
    };
    let ready = |answer: &init_producer_id::Response| answer.error_code == 0;
    asking.until::<InitProducerId>(4, &init(None, -1, -1), ready)?;
    let producer = asking.ask::<InitProducerId>("a producer", 4, &init(None, -1, -1))?.producer_id;
    asking.ask::<InitProducerId>("an id without an epoch", 4, &init(None, producer, -1))?;
    asking.ask::<InitProducerId>("an id and an epoch", 4, &init(None, producer, 0))?;
    asking.ask::<InitProducerId>("an empty transactional id", 4, &init(Some(""), -1, -1))?;
    let send = |count: usize, epoch: i16, sequence: i32| {
        let records = built(count, Some((producer, epoch, sequence)), None, START);
        producing_to("sequences", 0, Some(records))
    };
    let steps = [
        ("the first", send(2, 0, 0)),
        ("the next", send(3, 0, 2)),
        ("a retry of the next", send(3, 0, 2)),
        ("a retry of the first", send(2, 0, 0)),
        ("half a retry", send(1, 0, 0)),
        ("a gap", send(1, 0, 9)),
        ("3", send(1, 0, 5)),
        ("4", send(1, 0, 6)),
        ("5", send(1, 0, 7)),
        ("6", send(1, 0, 8)),
        ("a retry of the second", send(3, 0, 2)),
        ("a retry of the first, now old", send(2, 0, 0)),
        ("a negative sequence", send(1, 0, -1)),
        ("a new epoch amid", send(1, 1, 4)),
        ("a new epoch", send(1, 1, 0)),
        ("the old epoch", send(1, 0, 9)),
        ("a new epoch, retried", send(1, 1, 0)),
    ];
    for (step, request) in steps {
        asking.ask::<Produce>(step, 9, &request)?;
    }
    let unknown = |sequence| built(1, Some((producer + 500_000, 0, sequence)), None, START);
    let request = producing_to("sequences", 0, Some(unknown(5)));
    asking.ask::<Produce>("a producer nobody knows, amid", 9, &request)?;
    Ok(())
}

/// One partition of one topic; `id` for the versions that know no names.
pub(super) fn fetching_from(
    topic: &str,
    id: TopicId,
    partition: i32,
    offset: i64,
) -> fetch::Request {
    fetch::Request {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 1 << 20,
        topics: vec![fetch::request::FetchTopic {
            topic: topic.to_owned(),
            topic_id: id,
            partitions: vec![fetch::request::FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

pub(super) fn fetched(
    asking: &mut Asking<'_>,
    step: &str,
    version: i16,
    request: &fetch::Request,
) -> Result<()> {
    let answer = asking.ask::<Fetch>(step, version, request)?;
    for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
        let bytes: Vec<u8> =
            partition.records.iter().flat_map(|it| it.0.iter()).flatten().copied().collect();
        let mut offsets = Vec::new();
        for batch in protocol::records::batches(Bytes::from(bytes)) {
            let header = batch?.0;
            offsets.push(format!("{}-{}", header.base_offset.0, header.last_offset().0));
        }
        let name = format!("{step} v{version}");
        asking.answers.note(
            &name,
            &format!("batches of {}", partition.partition_index),
            offsets.join(" "),
        );
    }
    Ok(())
}

pub(super) fn fetching(asking: &mut Asking<'_>) -> Result<()> {
    let id = asking.topic("read", 1, &[])?;
    for count in [3, 2, 4] {
        // A new partition may have no leader yet.
        let done =
            |answer: &produce::Response| answer.responses[0].partition_responses[0].error_code == 0;
        asking.until::<Produce>(9, &producing_to("read", 0, Some(batch(count))), done)?;
    }
    let none = TopicId::default();
    let at = |offset| fetching_from("read", none, 0, offset);
    for (step, offset) in
        [("all", 0), ("amid a batch", 4), ("the end", 9), ("beyond", 10), ("before", -1)]
    {
        for version in [4, 12] {
            fetched(asking, step, version, &at(offset))?;
        }
    }
    asking.topic("zstd", 1, &[("compression.type", "zstd")])?;
    let mut hasty = producing_to("zstd", 0, Some(batch(2)));
    hasty.timeout_ms = 0;
    // A new partition may have no leader yet.
    let done =
        |answer: &produce::Response| answer.responses[0].partition_responses[0].error_code == 0;
    asking.until::<Produce>(9, &hasty, done)?;
    asking.ask::<Produce>("in no time", 9, &hasty)?;
    for version in [4, 9, 10] {
        let request = fetching_from("zstd", none, 0, 0);
        fetched(asking, "a zstd topic", version, &request)?;
    }
    fetched(asking, "unknown topic", 12, &fetching_from("nobody", none, 0, 0))?;
    fetched(asking, "unknown partition", 12, &fetching_from("read", none, 5, 0))?;
    for version in [13, 16, 17] {
        fetched(asking, "by id", version, &fetching_from("", id, 0, 0))?;
        fetched(asking, "unknown id", version, &fetching_from("", TopicId([7; 16]), 0, 0))?;
        fetched(asking, "no id", version, &fetching_from("", none, 0, 0))?;
    }
    for epoch in [5, -2] {
        let mut request = at(0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        fetched(asking, &format!("leader epoch {epoch}"), 12, &request)?;
    }
    let mut small = at(0);
    small.topics[0].partitions[0].partition_max_bytes = 1;
    fetched(asking, "one byte of the partition", 12, &small)?;
    small.max_bytes = 0;
    fetched(asking, "no bytes at all", 12, &small)?;
    for (session, epoch) in [(77, 1), (0, 5), (77, 0), (77, -1)] {
        let mut request = at(0);
        (request.session_id, request.session_epoch) = (session, epoch);
        fetched(asking, &format!("session {session} epoch {epoch}"), 12, &request)?;
    }
    let mut request = at(0);
    request.session_epoch = 0;
    let opened = asking.prepare::<Fetch>(12, &request)?.session_id;
    (request.session_id, request.session_epoch) = (opened, 5);
    fetched(asking, "a session's wrong epoch", 12, &request)?;
    request.session_epoch = 1;
    request.topics.clear();
    fetched(asking, "a session with nothing new", 12, &request)?;
    Ok(())
}

pub(super) fn offsets(asking: &mut Asking<'_>) -> Result<()> {
    let listing = |topic: &str, partition: i32, timestamp: i64, epoch: i32| list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::request::ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![list_offsets::request::ListOffsetsPartition {
                partition_index: partition,
                current_leader_epoch: epoch,
                timestamp,
            }],
        }],
        ..Default::default()
    };
    for timestamp in [-1, -2, -3, -4, -5, -6, -7, 0, START, START + 2, START + 3, START + 9] {
        let step = match timestamp {
            at if at >= START => format!("at start + {}", at - START),
            at => format!("at {at}"),
        };
        for version in [1, 7, 10, 11] {
            asking.ask::<ListOffsets>(&step, version, &listing("read", 0, timestamp, -1))?;
        }
    }
    asking.ask::<ListOffsets>("unknown topic", 7, &listing("nobody", 0, -1, -1))?;
    asking.ask::<ListOffsets>("unknown partition", 7, &listing("read", 5, -1, -1))?;
    asking.ask::<ListOffsets>("leader epoch 5", 7, &listing("read", 0, -1, 5))?;
    asking.ask::<ListOffsets>("leader epoch -2", 7, &listing("read", 0, -1, -2))?;
    let mut twice = listing("read", 0, -1, -1);
    let partition = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(partition);
    asking.ask::<ListOffsets>("a partition twice", 7, &twice)?;
    let ending = |topic: &str, current: i32, asked: i32| offset_for_leader_epoch::Request {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch::request::OffsetForLeaderTopic {
            topic: topic.to_owned(),
            partitions: vec![offset_for_leader_epoch::request::OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: current,
                leader_epoch: asked,
            }],
        }],
    };
    for (current, asked) in [(-1, 0), (-1, -1), (-1, 7), (0, 0), (3, 0), (-2, 0)] {
        let step = format!("epoch {asked} under {current}");
        asking.ask::<OffsetForLeaderEpoch>(&step, 4, &ending("read", current, asked))?;
    }
    asking.ask::<OffsetForLeaderEpoch>("unknown topic", 4, &ending("nobody", -1, 0))?;
    Ok(())
}

fn before(topic: &str, partition: i32, offset: i64) -> delete_records::Request {
    delete_records::Request {
        topics: vec![delete_records::request::DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![delete_records::request::DeleteRecordsPartition {
                partition_index: partition,
                offset,
            }],
        }],
        timeout_ms: 20_000,
    }
}

/// Once there are internal topics.
pub(super) fn deleting_internal(asking: &mut Asking<'_>) -> Result<()> {
    for (step, topic, partition) in [
        ("of offsets", "__consumer_offsets", 0),
        ("of offsets, unknown partition", "__consumer_offsets", 999),
        ("of transactions", "__transaction_state", 0),
    ] {
        asking.ask::<DeleteRecords>(step, 2, &before(topic, partition, 0))?;
    }
    Ok(())
}

pub(super) fn deleting(asking: &mut Asking<'_>) -> Result<()> {
    for (step, topic, partition, offset) in [
        ("beyond the end", "read", 0, 10),
        ("at -2", "read", 0, -2),
        ("unknown topic", "nobody", 0, 0),
        ("unknown partition", "read", 5, 0),
        ("of a compacted topic", "compacted", 0, 0),
        ("amid a batch", "read", 0, 4),
        ("backwards", "read", 0, 1),
        ("all", "read", 0, -1),
    ] {
        asking.ask::<DeleteRecords>(step, 2, &before(topic, partition, offset))?;
        if step == "amid a batch" {
            let request = fetching_from("read", TopicId::default(), 0, 2);
            fetched(asking, "what was deleted", 12, &request)?;
            let request = fetching_from("read", TopicId::default(), 0, 4);
            fetched(asking, "what was left", 12, &request)?;
        }
    }
    let request = fetching_from("read", TopicId::default(), 0, 9);
    fetched(asking, "the empty log", 12, &request)
}
