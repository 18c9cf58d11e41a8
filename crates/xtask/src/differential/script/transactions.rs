//! Transactions at their edges, by both generations of the protocol (KIP-98, KIP-890).

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use protocol::ErrorCode;
use protocol::messages::Api;
use protocol::messages::add_offsets_to_txn::{self, AddOffsetsToTxn};
use protocol::messages::add_partitions_to_txn::{self, AddPartitionsToTxn};
use protocol::messages::describe_producers::{self, DescribeProducers};
use protocol::messages::describe_transactions::{self, DescribeTransactions};
use protocol::messages::end_txn::{self, EndTxn};
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::messages::list_transactions::{self, ListTransactions};
use protocol::messages::offset_fetch::{self, OffsetFetch};
use protocol::messages::produce::{self, Produce};
use protocol::messages::txn_offset_commit::{self, TxnOffsetCommit};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use super::Asking;
use super::records::{fetched, fetching_from, producing_to};

/// The newest versions of the first generation, in which a producer names its partitions itself.
const PRODUCE_V1: i16 = 11;
const END_V1: i16 = 4;
const OFFSETS_V1: i16 = 4;
/// The first of the second, in which writing does.
const PRODUCE_V2: i16 = 12;
const END_V2: i16 = 5;
const OFFSETS_V2: i16 = 5;

/// A producer as it names itself.
#[derive(Debug, Clone, Copy)]
struct Producer {
    name: &'static str,
    id: i64,
    epoch: i16,
}

impl Producer {
    fn with_epoch(self, epoch: i16) -> Producer {
        Producer { epoch, ..self }
    }

    fn with_id(self, id: i64) -> Producer {
        Producer { id, ..self }
    }

    fn named(self, name: &'static str) -> Producer {
        Producer { name, ..self }
    }
}

/// Markers have the time of the broker; records that are much older would be in another segment, where a fetch ends.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn init(name: &str, timeout_ms: i32, id: i64, epoch: i16) -> init_producer_id::Request {
    init_producer_id::Request {
        transactional_id: Some(name.to_owned()),
        transaction_timeout_ms: timeout_ms,
        producer_id: id,
        producer_epoch: epoch,
        ..Default::default()
    }
}

fn adding(of: Producer, topics: &[(&str, i32)]) -> add_partitions_to_txn::Request {
    let topic =
        |(name, partition): &(&str, i32)| add_partitions_to_txn::request::AddPartitionsToTxnTopic {
            name: (*name).to_owned(),
            partitions: vec![*partition],
        };
    add_partitions_to_txn::Request {
        v3_and_below_transactional_id: of.name.to_owned(),
        v3_and_below_producer_id: of.id,
        v3_and_below_producer_epoch: of.epoch,
        v3_and_below_topics: topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

fn ending(of: Producer, committed: bool) -> end_txn::Request {
    end_txn::Request {
        transactional_id: of.name.to_owned(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        committed,
    }
}

fn writing(of: Producer, topic: &str, count: usize, sequence: i32) -> produce::Request {
    let producer = (ProducerId(of.id), of.epoch, sequence);
    let mut batch = BatchBuilder::new(Compression::None, Some(producer)).transactional();
    for _ in 0..count {
        batch.push(now(), Some(b"key"), Some(b"value"), &[]);
    }
    let records = batch.build().freeze().1.to_vec();
    let named = Some(of.name).filter(|name| !name.is_empty());
    produce::Request {
        transactional_id: named.map(str::to_owned),
        ..producing_to(topic, 0, Some(records))
    }
}

fn committing(of: Producer, group: &str, topic: &str, offset: i64) -> txn_offset_commit::Request {
    txn_offset_commit::Request {
        transactional_id: of.name.to_owned(),
        group_id: group.to_owned(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        topics: vec![txn_offset_commit::request::TxnOffsetCommitRequestTopic {
            name: topic.to_owned(),
            topic_id: TopicId::default(),
            partitions: vec![txn_offset_commit::request::TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

/// Asks again while a transaction that was decided is still being carried out: how long that takes is nobody's promise.
fn settled<A: Api>(
    asking: &mut Asking<'_>,
    step: &str,
    version: i16,
    request: &A::Request,
) -> Result<A::Response>
where
    A::Response: Debug + Default,
{
    let busy = [ErrorCode::ConcurrentTransactions, ErrorCode::CoordinatorLoadInProgress];
    // Where the code stands differs from answer to answer; how it is printed does not.
    let is_busy = |answer: &A::Response| {
        let text = format!("{answer:?}");
        let ends = [",", " }"].map(|end| busy.map(|it| format!("error_code: {}{end}", it.code())));
        ends.as_flattened().iter().any(|it| text.contains(it))
    };
    let answer = asking.until::<A>(version, request, |answer| !is_busy(answer))?;
    asking.answers.all(&format!("{:?} v{version}, {step}", A::KEY), &answer);
    Ok(answer)
}

pub(super) fn all(asking: &mut Asking<'_>) -> Result<()> {
    let id = asking.topic("transacted", 1, &[])?;
    asking.topic("other", 1, &[])?;
    let looking = find_coordinator::Request {
        key_type: 1,
        coordinator_keys: vec!["first".to_owned()],
        ..Default::default()
    };
    let found = |answer: &find_coordinator::Response| answer.coordinators[0].error_code == 0;
    asking.until::<FindCoordinator>(4, &looking, found)?;
    asking.ask::<FindCoordinator>("a transactional id", 4, &looking)?;
    let ready = |answer: &init_producer_id::Response| answer.error_code == 0;
    asking.until::<InitProducerId>(4, &init("warm-up", 60_000, -1, -1), ready)?;

    let first = beginning(asking)?;
    adding_partitions(asking, first)?;
    writing_and_reading(asking, first)?;
    offsets(asking, first)?;
    ended(asking, first)?;
    fencing(asking, first)?;
    second_generation(asking, id)?;
    listing(asking)
}

fn beginning(asking: &mut Asking<'_>) -> Result<Producer> {
    for timeout in [0, -1, 900_001, 2_000_000_000] {
        let step = format!("a transaction of {timeout} ms");
        asking.ask::<InitProducerId>(&step, 4, &init("first", timeout, -1, -1))?;
    }
    asking.ask::<InitProducerId>("an id of nobody", 4, &init("first", 60_000, 77, 0))?;
    let answer = asking.ask::<InitProducerId>("the first", 4, &init("first", 60_000, -1, -1))?;
    let first = Producer { name: "first", id: answer.producer_id, epoch: answer.producer_epoch };
    asking.ask::<InitProducerId>(
        "another's id",
        4,
        &init("first", 60_000, first.id + 500_000, first.epoch),
    )?;
    let next = init("first", 60_000, first.id, first.epoch);
    let answer = asking.ask::<InitProducerId>("once more, named", 4, &next)?;
    asking.ask::<InitProducerId>("a retry of that", 4, &next)?;
    Ok(first.with_epoch(answer.producer_epoch))
}

fn adding_partitions(asking: &mut Asking<'_>, first: Producer) -> Result<()> {
    let here = [("transacted", 0)];
    let nothing = ending(first, true);
    asking.ask::<EndTxn>("before it began", END_V1, &nothing)?;
    for version in [1, 3] {
        let old = first.with_epoch(first.epoch - 1);
        asking.ask::<AddPartitionsToTxn>("an old epoch", version, &adding(old, &here))?;
        let new = first.with_epoch(first.epoch + 1);
        asking.ask::<AddPartitionsToTxn>("a newer epoch", version, &adding(new, &here))?;
        let other = first.with_id(first.id + 500_000);
        asking.ask::<AddPartitionsToTxn>("another id", version, &adding(other, &here))?;
        let nobody = first.named("nobody");
        asking.ask::<AddPartitionsToTxn>("an unknown name", version, &adding(nobody, &here))?;
        let empty = first.named("");
        asking.ask::<AddPartitionsToTxn>("no name", version, &adding(empty, &here))?;
    }
    let mixed = adding(first, &[("transacted", 0), ("nobody", 0)]);
    asking.ask::<AddPartitionsToTxn>("one good, one unknown", 3, &mixed)?;
    let mixed = adding(first, &[("transacted", 0), ("other", 9)]);
    asking.ask::<AddPartitionsToTxn>("one good, one beyond", 3, &mixed)?;
    asking.ask::<Produce>("before it is added", PRODUCE_V1, &writing(first, "transacted", 1, 0))?;
    asking.ask::<AddPartitionsToTxn>("as it should be", 3, &adding(first, &here))?;
    asking.ask::<AddPartitionsToTxn>("again", 3, &adding(first, &here))?;
    Ok(())
}

fn writing_and_reading(asking: &mut Asking<'_>, first: Producer) -> Result<()> {
    asking.ask::<Produce>("of a transaction", PRODUCE_V1, &writing(first, "transacted", 3, 0))?;
    asking.ask::<Produce>("a retry in it", PRODUCE_V1, &writing(first, "transacted", 3, 0))?;
    asking.ask::<Produce>("a gap in it", PRODUCE_V1, &writing(first, "transacted", 1, 9))?;
    asking.ask::<Produce>("where it is not", PRODUCE_V1, &writing(first, "other", 1, 0))?;
    let old = first.with_epoch(first.epoch - 1);
    asking.ask::<Produce>("of an old epoch", PRODUCE_V1, &writing(old, "transacted", 1, 3))?;
    let unnamed = first.named("");
    asking.ask::<Produce>("without a name", PRODUCE_V1, &writing(unnamed, "transacted", 1, 3))?;
    let producer = (ProducerId(first.id), first.epoch, 3);
    let mut plain = BatchBuilder::new(Compression::None, Some(producer));
    plain.push(now(), None, Some(b"value"), &[]);
    let request = producing_to("transacted", 0, Some(plain.build().freeze().1.to_vec()));
    asking.ask::<Produce>("outside of it, amid it", PRODUCE_V1, &request)?;
    reading(asking, "while it is open")?;
    for (step, timestamp) in [("the latest time", -3), ("at 0", 0)] {
        let listing = list_offsets::Request {
            replica_id: -1,
            isolation_level: 1,
            topics: vec![list_offsets::request::ListOffsetsTopic {
                name: "transacted".to_owned(),
                partitions: vec![list_offsets::request::ListOffsetsPartition {
                    partition_index: 0,
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        asking.ask::<ListOffsets>(
            &format!("{step}, while it is open, isolation 1"),
            7,
            &listing,
        )?;
    }
    let described = describe_producers::Request {
        topics: vec![describe_producers::request::TopicRequest {
            name: "transacted".to_owned(),
            partition_indexes: vec![0, 5],
        }],
    };
    asking.ask::<DescribeProducers>("while it is open", 0, &described)?;
    Ok(())
}

/// What readers see, those of committed records and the others, and where the log ends for them.
fn reading(asking: &mut Asking<'_>, step: &str) -> Result<()> {
    for isolation_level in [0, 1] {
        let step = format!("{step}, isolation {isolation_level}");
        let mut request = fetching_from("transacted", TopicId::default(), 0, 0);
        request.isolation_level = isolation_level;
        fetched(asking, &step, 12, &request)?;
        let listing = list_offsets::Request {
            replica_id: -1,
            isolation_level,
            topics: vec![list_offsets::request::ListOffsetsTopic {
                name: "transacted".to_owned(),
                partitions: vec![list_offsets::request::ListOffsetsPartition {
                    partition_index: 0,
                    timestamp: -1,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        asking.ask::<ListOffsets>(&step, 7, &listing)?;
    }
    Ok(())
}

fn offsets(asking: &mut Asking<'_>, first: Producer) -> Result<()> {
    let adding = |of: Producer, group: &str| add_offsets_to_txn::Request {
        transactional_id: of.name.to_owned(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        group_id: group.to_owned(),
    };
    let old = first.with_epoch(first.epoch - 1);
    asking.ask::<AddOffsetsToTxn>("an old epoch", 3, &adding(old, "workers"))?;
    asking.ask::<AddOffsetsToTxn>("no name", 3, &adding(first.named(""), "workers"))?;
    asking.ask::<AddOffsetsToTxn>("no group", 3, &adding(first, ""))?;
    asking.ask::<AddOffsetsToTxn>("as it should be", 3, &adding(first, "workers"))?;
    let commit = committing(first, "workers", "transacted", 2);
    let mut generation = commit.clone();
    (generation.generation_id_or_member_epoch, generation.member_id) = (4, "nobody".to_owned());
    asking.ask::<TxnOffsetCommit>("of a group that is not", OFFSETS_V1, &generation)?;
    let unknown = committing(first, "workers", "nobody", 2);
    asking.ask::<TxnOffsetCommit>("unknown topic", OFFSETS_V1, &unknown)?;
    let none = committing(first, "", "transacted", 2);
    asking.ask::<TxnOffsetCommit>("no group", OFFSETS_V1, &none)?;
    asking.ask::<TxnOffsetCommit>("as it should be", OFFSETS_V1, &commit)?;
    committed(asking, "while it is open")
}

/// The offset of the group, with and without those that are being committed.
fn committed(asking: &mut Asking<'_>, step: &str) -> Result<()> {
    for require_stable in [false, true] {
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
                group_id: "workers".to_owned(),
                member_id: None,
                member_epoch: -1,
                topics: Some(vec![offset_fetch::request::OffsetFetchRequestTopics {
                    name: "transacted".to_owned(),
                    topic_id: TopicId::default(),
                    partition_indexes: vec![0],
                }]),
            }],
            require_stable,
            ..Default::default()
        };
        asking.ask::<OffsetFetch>(&format!("{step}, stable {require_stable}"), 8, &request)?;
    }
    Ok(())
}

fn ended(asking: &mut Asking<'_>, first: Producer) -> Result<()> {
    let old = first.with_epoch(first.epoch - 1);
    for version in [1, END_V1] {
        asking.ask::<EndTxn>("an old epoch", version, &ending(old, true))?;
        let other = first.with_id(first.id + 500_000);
        asking.ask::<EndTxn>("another id", version, &ending(other, true))?;
        asking.ask::<EndTxn>("no name", version, &ending(first.named(""), true))?;
    }
    asking.ask::<EndTxn>("committed", END_V1, &ending(first, true))?;
    settled::<EndTxn>(asking, "committed again", END_V1, &ending(first, true))?;
    settled::<EndTxn>(asking, "aborted after all", END_V1, &ending(first, false))?;
    reading(asking, "once it is committed")?;
    committed(asking, "once it is committed")?;
    let again = adding(first, &[("transacted", 0)]);
    settled::<AddPartitionsToTxn>(asking, "the next one", 3, &again)?;
    asking.ask::<Produce>("of the next", PRODUCE_V1, &writing(first, "transacted", 2, 3))?;
    asking.ask::<EndTxn>("aborted", END_V1, &ending(first, false))?;
    settled::<EndTxn>(asking, "aborted again", END_V1, &ending(first, false))?;
    reading(asking, "once the next is aborted")
}

/// A second producer of the name ends what the first had begun.
fn fencing(asking: &mut Asking<'_>, first: Producer) -> Result<()> {
    let again = adding(first, &[("transacted", 0)]);
    settled::<AddPartitionsToTxn>(asking, "one to be fenced", 3, &again)?;
    asking.ask::<Produce>("to be fenced", PRODUCE_V1, &writing(first, "transacted", 1, 5))?;
    let ready = |answer: &init_producer_id::Response| answer.error_code == 0;
    let taken = init("first", 60_000, -1, -1);
    let taken = asking.until::<InitProducerId>(4, &taken, ready)?;
    asking.answers.note("a second producer", "epochs further", taken.producer_epoch - first.epoch);
    asking.ask::<Produce>("when fenced", PRODUCE_V1, &writing(first, "transacted", 1, 6))?;
    asking.ask::<EndTxn>("when fenced", END_V1, &ending(first, true))?;
    asking.ask::<AddPartitionsToTxn>("when fenced", 3, &again)?;
    let named = init("first", 60_000, first.id, first.epoch);
    asking.ask::<InitProducerId>("when fenced", 4, &named)?;
    reading(asking, "once it is fenced")
}

fn second_generation(asking: &mut Asking<'_>, id: TopicId) -> Result<()> {
    let begun = asking.ask::<InitProducerId>("a second", 5, &init("second", 60_000, -1, -1))?;
    let second = Producer { name: "second", id: begun.producer_id, epoch: begun.producer_epoch };
    asking.ask::<EndTxn>("an empty one", END_V2, &ending(second, true))?;
    let second = ended_one(asking, second, id, "committed", true)?;
    let second = ended_one(asking, second, id, "aborted", false)?;
    let beyond = writing(second, "transacted", 1, 5);
    asking.ask::<Produce>("a sequence amid", PRODUCE_V2, &beyond)?;
    settled::<EndTxn>(asking, "after that", END_V2, &ending(second, false))?;
    // Until it has ended, its state may be either.
    settled::<InitProducerId>(asking, "once it is settled", 5, &init("second", 60_000, -1, -1))?;
    Ok(())
}

/// One transaction; the producer as the answer has it.
fn ended_one(
    asking: &mut Asking<'_>,
    second: Producer,
    id: TopicId,
    step: &str,
    committed: bool,
) -> Result<Producer> {
    let write = writing(second, "transacted", 2, 0);
    let done =
        |answer: &produce::Response| answer.responses[0].partition_responses[0].error_code == 0;
    asking.until::<Produce>(PRODUCE_V2, &write, done)?;
    asking.ask::<Produce>(&format!("to be {step}, again"), PRODUCE_V2, &write)?;
    let mut by_id = writing(second, "", 1, 2);
    by_id.topic_data[0].topic_id = id;
    asking.ask::<Produce>(&format!("to be {step}, by id"), 13, &by_id)?;
    let offsets = committing(second, "workers", "transacted", 4);
    asking.ask::<TxnOffsetCommit>(&format!("to be {step}"), OFFSETS_V2, &offsets)?;
    let ended = asking.ask::<EndTxn>(step, END_V2, &ending(second, committed))?;
    let next = Producer { id: ended.producer_id, ..second.with_epoch(ended.producer_epoch) };
    settled::<EndTxn>(asking, &format!("{step}, retried"), END_V2, &ending(second, committed))?;
    settled::<EndTxn>(
        asking,
        &format!("{step}, the other way"),
        END_V2,
        &ending(second, !committed),
    )?;
    asking.ask::<Produce>(
        &format!("once {step}"),
        PRODUCE_V2,
        &writing(second, "transacted", 1, 3),
    )?;
    reading(asking, &format!("of the second, {step}"))?;
    Ok(next)
}

fn listing(asking: &mut Asking<'_>) -> Result<()> {
    for name in ["second", "nobody", ""] {
        let request = describe_transactions::Request { transactional_ids: vec![name.to_owned()] };
        asking.ask::<DescribeTransactions>(&format!("'{name}'"), 0, &request)?;
    }
    let listing = |states: &[&str], pattern: Option<&str>| list_transactions::Request {
        state_filters: states.iter().map(|it| (*it).to_owned()).collect(),
        transactional_id_pattern: pattern.map(str::to_owned),
        ..Default::default()
    };
    for (step, states, pattern) in [
        ("ongoing", &["Ongoing"][..], None),
        ("unknown state", &["Bored"][..], None),
        ("by pattern", &[][..], Some("sec.*")),
        ("by no pattern", &[][..], Some("[")),
    ] {
        asking.ask::<ListTransactions>(step, 2, &listing(states, pattern))?;
    }
    Ok(())
}
