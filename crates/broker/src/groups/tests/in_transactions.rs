//! Transactions over records and offsets, as both generations of clients make them (KIP-98, KIP-890).

use std::time::Duration;

use bytes::BytesMut;
use protocol::messages::{
    add_partitions_to_txn, describe_producers, describe_transactions, end_txn, fetch,
    init_producer_id, list_transactions, metadata, produce, txn_offset_commit, write_txn_markers,
};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp};

use super::*;

const ID: &str = "tx";
const OK: i16 = 0;

type Producer = (i64, i16);

impl Life {
    async fn init(&self, version: i16, claimed: Producer) -> Result<Producer, i16> {
        let request = init_producer_id::Request {
            transactional_id: Some(ID.to_owned()),
            transaction_timeout_ms: 60_000,
            producer_id: claimed.0,
            producer_epoch: claimed.1,
            ..Default::default()
        };
        let it = handlers::init_producer_id::handle(&self.broker, &context(version), request).await;
        if it.error_code == OK {
            Ok((it.producer_id, it.producer_epoch))
        } else {
            Err(it.error_code)
        }
    }

    async fn send(&self, version: i16, producer: Producer, sequence: i32) -> i16 {
        self.send_to("t", version, producer, sequence).await
    }

    async fn send_to(
        &self,
        topic: &str,
        version: i16,
        (id, epoch): Producer,
        sequence: i32,
    ) -> i16 {
        let producer = Some((ProducerId(id), epoch, sequence));
        let mut builder = BatchBuilder::new(Compression::None, producer).transactional();
        builder.push(Timestamp(1), None, Some(b"value"), &[]);
        let records = BytesMut::from(&builder.build().freeze().1[..]);
        let partition = produce::request::PartitionProduceData { index: 0, records: Some(records) };
        let request = produce::Request {
            transactional_id: Some(ID.to_owned()),
            acks: -1,
            timeout_ms: 1_000,
            topic_data: vec![produce::request::TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![partition],
                ..Default::default()
            }],
        };
        let finish = handlers::produce::start(&self.broker, &context(version), request).await;
        let response = finish.await.expect("answered").expect("acknowledged");
        response.responses[0].partition_responses[0].error_code
    }

    async fn add(&self, producer: Producer) -> i16 {
        self.add_topic("t", producer).await
    }

    async fn add_topic(&self, topic: &str, (id, epoch): Producer) -> i16 {
        let topic = add_partitions_to_txn::request::AddPartitionsToTxnTopic {
            name: topic.to_owned(),
            partitions: vec![0],
        };
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: ID.to_owned(),
            v3_and_below_producer_id: id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let response =
            handlers::add_partitions_to_txn::handle(&self.broker, &context(3), request).await;
        let topic = &response.results_by_topic_v3_and_below[0];
        topic.results_by_partition[0].partition_error_code
    }

    async fn end(&self, version: i16, who: Producer, committed: bool) -> Result<Producer, i16> {
        let request = end_txn::Request {
            transactional_id: ID.to_owned(),
            producer_id: who.0,
            producer_epoch: who.1,
            committed,
        };
        let it = handlers::end_txn::handle(&self.broker, &context(version), request).await;
        if it.error_code == OK {
            Ok((it.producer_id, it.producer_epoch))
        } else {
            Err(it.error_code)
        }
    }

    async fn commit_in_transaction(&self, version: i16, producer: Producer) -> i16 {
        self.commit_as(version, producer, ("g", "", -1)).await
    }

    async fn commit_as(
        &self,
        version: i16,
        (id, epoch): Producer,
        (group, member, generation): (&str, &str, i32),
    ) -> i16 {
        let partition = txn_offset_commit::request::TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 5,
            ..Default::default()
        };
        let request = txn_offset_commit::Request {
            transactional_id: ID.to_owned(),
            group_id: group.to_owned(),
            generation_id_or_member_epoch: generation,
            member_id: member.to_owned(),
            producer_id: id,
            producer_epoch: epoch,
            topics: vec![txn_offset_commit::request::TxnOffsetCommitRequestTopic {
                name: "t".to_owned(),
                topic_id: self.broker.view.topic("t").unwrap().id,
                partitions: vec![partition],
            }],
            ..Default::default()
        };
        let response =
            handlers::txn_offset_commit::handle(&self.broker, &context(version), request).await;
        response.topics[0].partitions[0].error_code
    }

    /// The group's offset as a consumer asks for it that wants it stable.
    async fn stable_offset(&self) -> (i64, i16) {
        let topic = offset_fetch::request::OffsetFetchRequestTopics {
            name: "t".to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let group = offset_fetch::request::OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = offset_fetch::Request {
            groups: vec![group],
            require_stable: true,
            ..Default::default()
        };
        let response = handlers::offset_fetch::handle(&self.broker, &context(8), request).await;
        let found = &response.groups[0].topics[0].partitions[0];
        (found.committed_offset, found.error_code)
    }

    /// The last stable offset, and the producers of aborted transactions, of a reader of committed records.
    async fn committed_view(&self) -> (i64, Vec<i64>) {
        let partition = fetch::request::FetchPartition {
            partition_max_bytes: 1 << 20,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            ..Default::default()
        };
        let request = fetch::Request {
            isolation_level: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![fetch::request::FetchTopic {
                topic: "t".to_owned(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = handlers::fetch::handle(&self.broker, &context(12), request).await;
        let found = &response.responses[0].partitions[0];
        let aborted = found.aborted_transactions.as_ref().expect("told to readers of committed");
        (found.last_stable_offset, aborted.iter().map(|it| it.producer_id).collect())
    }

    /// The markers are written when nobody waits for them; the clock of the test runs by itself.
    async fn ended(&self, state: &str) {
        while self.described().await.0 != state {
            self.broker.environment.clock.sleep(Duration::from_millis(1)).await;
        }
    }

    async fn described(&self) -> (String, i16) {
        let request = describe_transactions::Request { transactional_ids: vec![ID.to_owned()] };
        let response =
            handlers::describe_transactions::handle(&self.broker, &context(0), request).await;
        let found = &response.transaction_states[0];
        (found.transaction_state.clone(), found.error_code)
    }
}

#[tokio::test(start_paused = true)]
async fn records_and_offsets_of_the_new_rules_count_when_they_are_committed() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    assert_eq!(life.described().await.1, ErrorCode::TransactionalIdNotFound.code());
    let first @ (id, epoch) = life.init(5, (-1, -1)).await.unwrap();
    assert_eq!(life.send(12, first, 0).await, OK);
    assert_eq!(life.send(12, first, 1).await, OK, "open already: nobody is asked");
    assert_eq!(life.commit_in_transaction(5, first).await, OK);
    assert_eq!(life.committed_view().await, (0, vec![]), "A8: undecided");
    assert_eq!(life.stable_offset().await, (-1, ErrorCode::UnstableOffsetCommit.code()));
    life.stop().await;

    let life = machine.start().await;
    life.ended("Ongoing").await; // Once the coordinator is loaded.
    let second = life.end(5, first, true).await.unwrap();
    assert_eq!(second, (id, epoch + 1));
    life.ended("CompleteCommit").await;
    assert_eq!(life.end(5, first, true).await, Ok(second), "a repeated request");
    assert_eq!(life.committed_view().await, (3, vec![]), "two records and a marker");
    assert_eq!(life.stable_offset().await, (5, OK));
    assert_eq!(life.send(12, first, 2).await, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(life.send(12, second, 7).await, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(life.send(12, second, 0).await, OK);
    assert_eq!(life.commit_in_transaction(5, second).await, OK);
    life.end(5, second, false).await.unwrap();
    life.ended("CompleteAbort").await;
    assert_eq!(life.committed_view().await, (5, vec![id]));
    assert_eq!(life.stable_offset().await, (5, OK));
    life.stop().await;
}

// Goal: a producer is refused with a code that its version knows (KIP-848, KIP-1319). Method: a member of the consumer
// protocol whose producer names another epoch, and a group that is not there, in the versions before and after.
#[tokio::test(start_paused = true)]
async fn offsets_of_a_member_that_has_moved_on_are_refused_as_each_version_knows() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    life.beat("m", 0).await;
    let producer = life.init(5, (-1, -1)).await.unwrap();
    for (version, stale, missing) in [
        (5, ErrorCode::IllegalGeneration, ErrorCode::IllegalGeneration),
        (6, ErrorCode::StaleMemberEpoch, ErrorCode::GroupIdNotFound),
    ] {
        let member = ("g", "m", 1);
        assert_eq!(life.commit_as(version, producer, member).await, OK, "version {version}");
        let (unknown, code) = (("g", "n", 1), ErrorCode::UnknownMemberId.code());
        assert_eq!(life.commit_as(version, producer, unknown).await, code, "version {version}");
        let moved_on = ("g", "m", 2);
        assert_eq!(life.commit_as(version, producer, moved_on).await, stale.code());
        let nowhere = ("nowhere", "m", 1);
        assert_eq!(life.commit_as(version, producer, nowhere).await, missing.code());
        let nameless = life.commit_as(version, producer, ("", "m", 1)).await;
        assert_eq!(nameless, ErrorCode::InvalidGroupId.code());
    }
    life.end(5, producer, true).await.unwrap();
    life.ended("CompleteCommit").await;
    assert_eq!(life.stable_offset().await, (5, OK));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn partitions_of_the_old_rules_are_added_before_they_are_written_to() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let unknown = ErrorCode::InvalidProducerIdMapping.code();
    assert_eq!(life.end(1, (7, 0), true).await, Err(unknown));
    assert_eq!(life.send(9, (7, 0), 0).await, unknown);
    let first @ (id, epoch) = life.init(1, (-1, -1)).await.unwrap();
    assert_eq!(life.send(9, first, 0).await, ErrorCode::InvalidTxnState.code());
    assert_eq!(life.send(11, first, 0).await, ErrorCode::TransactionAbortable.code());
    assert_eq!(life.commit_in_transaction(2, first).await, ErrorCode::InvalidTxnState.code());
    assert_eq!(life.add(first).await, OK);
    assert_eq!(life.send(9, first, 0).await, OK);
    assert_eq!(life.end(1, first, true).await, Ok(first), "the epoch stays");
    life.ended("CompleteCommit").await;
    assert_eq!(life.committed_view().await, (2, vec![]));

    assert_eq!(life.add(first).await, OK);
    assert_eq!(life.send(9, first, 1).await, OK);
    let again = life.init(4, (-1, -1)).await;
    assert_eq!(again, Err(ErrorCode::ConcurrentTransactions.code()), "aborted first");
    life.ended("CompleteAbort").await;
    assert_eq!(life.init(4, (-1, -1)).await, Ok((id, epoch + 2)));
    assert_eq!(life.end(2, first, true).await, Err(ErrorCode::ProducerFenced.code()));
    assert_eq!(life.end(1, first, true).await, Err(ErrorCode::InvalidProducerEpoch.code()));
    assert_eq!(life.send(9, first, 2).await, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(life.committed_view().await, (4, vec![id]));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn operators_find_and_end_what_hangs() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let (id, epoch) = life.init(5, (-1, -1)).await.unwrap();
    assert_eq!(life.send(12, (id, epoch), 0).await, OK);
    let request = list_transactions::Request {
        state_filters: vec!["Ongoing".to_owned(), "Nowhere".to_owned()],
        ..Default::default()
    };
    let listed = handlers::list_transactions::handle(&life.broker, &context(1), request).await;
    assert_eq!(listed.unknown_state_filters, ["Nowhere"]);
    let rows: Vec<(&str, i64)> = listed
        .transaction_states
        .iter()
        .map(|it| (it.transactional_id.as_str(), it.producer_id))
        .collect();
    assert_eq!(rows, [(ID, id)]);

    for (pattern, count, code) in [
        ("t.", 1, ErrorCode::None),
        ("t", 0, ErrorCode::None),
        ("(", 0, ErrorCode::InvalidRegularExpression),
    ] {
        let request = list_transactions::Request {
            transactional_id_pattern: Some(pattern.to_owned()),
            ..Default::default()
        };
        let listed = handlers::list_transactions::handle(&life.broker, &context(2), request).await;
        let found = (listed.transaction_states.len(), listed.error_code);
        assert_eq!(found, (count, code.code()), "{pattern}");
    }

    let request = describe_producers::Request {
        topics: vec![describe_producers::request::TopicRequest {
            name: "t".to_owned(),
            partition_indexes: vec![0, 9],
        }],
    };
    let found = handlers::describe_producers::handle(&life.broker, &context(0), request).await;
    let producers = &found.topics[0].partitions[0].active_producers;
    assert_eq!(producers.len(), 1);
    assert_eq!((producers[0].producer_id, producers[0].current_txn_start_offset), (id, 0));
    let absent = found.topics[0].partitions[1].error_code;
    assert_eq!(absent, ErrorCode::UnknownTopicOrPartition.code());

    let marker = write_txn_markers::request::WritableTxnMarker {
        producer_id: id,
        producer_epoch: epoch,
        topics: vec![write_txn_markers::request::WritableTxnMarkerTopic {
            name: "t".to_owned(),
            partition_indexes: vec![0],
        }],
        ..Default::default()
    };
    let request = write_txn_markers::Request { markers: vec![marker] };
    let written = handlers::write_txn_markers::handle(&life.broker, &context(1), request).await;
    assert_eq!(written.markers[0].topics[0].partitions[0].error_code, OK);
    assert_eq!(life.committed_view().await, (2, vec![id]));
    life.stop().await;
}

impl Life {
    /// As an operator does it, or somebody who takes himself for a coordinator.
    async fn mark(&self, topic: &str, index: i32, who: Producer, coordinator_epoch: i32) -> i16 {
        let marker = write_txn_markers::request::WritableTxnMarker {
            producer_id: who.0,
            producer_epoch: who.1,
            transaction_result: true,
            coordinator_epoch,
            topics: vec![write_txn_markers::request::WritableTxnMarkerTopic {
                name: topic.to_owned(),
                partition_indexes: vec![index],
            }],
            ..Default::default()
        };
        let request = write_txn_markers::Request { markers: vec![marker] };
        let written = handlers::write_txn_markers::handle(&self.broker, &context(1), request).await;
        written.markers[0].topics[0].partitions[0].error_code
    }
}

// Goal: a transaction does not count as ended while it is open somewhere (A8). Method: a marker of a coordinator that
// is ahead of ours stands in the partition, so that ours is refused.
#[tokio::test(start_paused = true)]
async fn a_commit_is_not_complete_while_a_partition_refuses_its_marker() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let first = life.init(1, (-1, -1)).await.unwrap();
    assert_eq!(life.mark("t", 0, first, 1_000).await, OK);
    assert_eq!(life.add(first).await, OK);
    assert_eq!(life.send(9, first, 0).await, OK);
    life.end(1, first, true).await.unwrap();
    life.broker.environment.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(life.described().await, ("PrepareCommit".to_owned(), OK));
    assert_eq!(life.committed_view().await.0, 1, "undecided");
    assert_eq!(life.mark("t", 0, first, 1_000).await, OK, "by hand");
    life.ended("CompleteCommit").await;
    assert_eq!(life.committed_view().await, (3, vec![]));
    life.stop().await;
}

// Goal: what the log refuses, the groups' coordinator does not believe first. Method: markers of a stale epoch, and
// behind one of a coordinator ahead of ours.
#[tokio::test(start_paused = true)]
async fn a_refused_marker_does_not_cost_the_groups_their_coordinator() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let first = life.init(5, (-1, -1)).await.unwrap();
    assert_eq!(life.commit_in_transaction(5, first).await, OK);
    let second = life.end(5, first, true).await.unwrap();
    life.ended("CompleteCommit").await;
    assert_eq!(life.stable_offset().await, (5, OK));
    let home = shard_of("g", 4);
    let stale = life.mark(OFFSETS_TOPIC, home, (first.0, first.1 - 1), 0).await;
    assert_eq!(stale, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(life.mark(OFFSETS_TOPIC, home, second, 1_000).await, OK);
    let behind = life.mark(OFFSETS_TOPIC, home, second, 999).await;
    assert_eq!(behind, ErrorCode::TransactionCoordinatorFenced.code());
    assert_eq!(life.stable_offset().await, (5, OK), "nobody has to wait");
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn coordinators_topics_are_made_as_they_need_them_and_nobody_else_writes_them() {
    let machine = Machine::new();
    let life = machine.start().await;
    let ask = async |name: &str| {
        let topic = metadata::request::MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let request = metadata::Request {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let mut response = handlers::metadata::handle(&life.broker, &context(12), request).await;
        let topic = response.topics.remove(0);
        (topic.error_code, topic.partitions.len(), topic.is_internal)
    };
    assert_eq!(ask(OFFSETS_TOPIC).await, (OK, 4, true), "as configured");
    assert_eq!(ask("__transaction_state").await, (OK, 50, true));
    assert_eq!(ask("__share_group_state").await, (OK, 2, true));
    assert_eq!(ask("__cluster_metadata").await.0, ErrorCode::InvalidTopicException.code());
    for (name, policy) in [(OFFSETS_TOPIC, "compact"), ("__share_group_state", "delete")] {
        let topic = life.broker.view.topic(name).unwrap();
        assert_eq!(topic.configs.get("cleanup.policy").unwrap(), policy, "{name}");
    }

    let producer = life.init(1, (-1, -1)).await.unwrap();
    let refused = life.send_to(OFFSETS_TOPIC, 9, producer, 0).await;
    assert_eq!(refused, ErrorCode::InvalidTopicException.code());
    let refused = life.add_topic(OFFSETS_TOPIC, producer).await;
    assert_eq!(refused, ErrorCode::TopicAuthorizationFailed.code());
    life.stop().await;
}
