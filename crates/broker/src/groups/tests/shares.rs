//! Share groups over the handlers (KIP-932): members, records, acknowledgements, offsets, and a restart.

use std::time::Duration;

use coordinator::share::{ShareCommand, ShareReply};
use partition_log::{MarkerRule, PartitionLog};
use protocol::messages::{
    alter_share_group_offsets as alter, delete_share_group_offsets as delete,
    describe_share_group_offsets as offsets, share_acknowledge, share_fetch, share_group_describe,
    share_group_heartbeat,
};
use protocol::records::{Batch, BatchBuilder, Compression, EndTxnMarker, TransactionResult};
use vocabulary::{ProducerId, Timestamp};

use super::*;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

/// What a member was given: first and last offset, and deliveries.
type Given = Vec<(i64, i64, i16)>;

impl Life {
    async fn share(&self, member: &str, epoch: i32, topics: Option<&[&str]>) -> (i16, i32) {
        let names = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
        let request = share_group_heartbeat::Request {
            group_id: "s".to_owned(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            rack_id: None,
            subscribed_topic_names: topics.map(names),
        };
        let it = handlers::share_group_heartbeat::handle(&self.broker, &context(1), request).await;
        (it.error_code, it.member_epoch)
    }

    fn log_of(&self, topic: &Topic, index: i32) -> Arc<PartitionLog> {
        self.broker.led_log(Partition { topic: topic.id, index }).unwrap()
    }

    /// Writes so many records to partition 0, each in a batch of its own.
    async fn write(&self, topic: &Topic, count: usize) {
        for _ in 0..count {
            self.write_at(topic, Timestamp(1)).await;
        }
    }

    async fn write_at(&self, topic: &Topic, at: Timestamp) {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.push(at, None, Some(b"value"), &[]);
        self.put(topic, 0, builder.build()).await;
    }

    async fn write_to(&self, topic: &Topic, index: i32) {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.push(Timestamp(1), None, Some(b"value"), &[]);
        self.put(topic, index, builder.build()).await;
    }

    /// One record of a transaction, of so many bytes.
    async fn write_within(&self, topic: &Topic, producer: i64, sequence: i32, bytes: usize) {
        let producer = Some((ProducerId(producer), 0, sequence));
        let mut builder = BatchBuilder::new(Compression::None, producer).transactional();
        builder.push(Timestamp(1), None, Some(&vec![b'x'; bytes]), &[]);
        self.put(topic, 0, builder.build()).await;
    }

    async fn put(&self, topic: &Topic, index: i32, batch: Batch) {
        let appended = self.log_of(topic, index).append(batch, None).await.unwrap();
        appended.durable.await.unwrap();
    }

    /// Ends the producer's transaction in partition 0.
    async fn decide(&self, topic: &Topic, producer: i64, result: TransactionResult) {
        let marker = EndTxnMarker { result, coordinator_epoch: 1 };
        let log = self.log_of(topic, 0);
        let marked = log.append_marker(ProducerId(producer), 0, marker, MarkerRule::V1).await;
        marked.unwrap().durable.await.unwrap();
    }

    async fn configure(&self, name: &str, value: &str) {
        assert_eq!(self.alter("s", name, 0, Some(value)).await, 0, "{name}");
    }

    async fn fetch(
        &self,
        topic: &Topic,
        member: &str,
        epoch: i32,
        wait_ms: i32,
        told: &[(i64, i64, i8)],
    ) -> Result<(Given, i16), i16> {
        self.fetch_from(topic, 0, member, epoch, wait_ms, told).await
    }

    async fn fetch_from(
        &self,
        topic: &Topic,
        index: i32,
        member: &str,
        epoch: i32,
        wait_ms: i32,
        told: &[(i64, i64, i8)],
    ) -> Result<(Given, i16), i16> {
        let batch =
            |(first, last, kind): &(i64, i64, i8)| share_fetch::request::AcknowledgementBatch {
                first_offset: *first,
                last_offset: *last,
                acknowledge_types: vec![*kind],
            };
        let request = share_fetch::Request {
            group_id: Some("s".to_owned()),
            member_id: Some(member.to_owned()),
            share_session_epoch: epoch,
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: 1_000_000,
            max_records: 4,
            batch_size: 4,
            topics: vec![share_fetch::request::FetchTopic {
                topic_id: topic.id,
                partitions: vec![share_fetch::request::FetchPartition {
                    partition_index: index,
                    partition_max_bytes: 0,
                    acknowledgement_batches: told.iter().map(batch).collect(),
                }],
            }],
            ..Default::default()
        };
        let mut response = handlers::share_fetch::handle(&self.broker, &context(1), request).await;
        if response.error_code != 0 {
            return Err(response.error_code);
        }
        let Some(mut topic) = response.responses.pop() else { return Ok((Vec::new(), 0)) };
        let row = topic.partitions.remove(0);
        if row.error_code != 0 {
            return Err(row.error_code);
        }
        let given = row.acquired_records.iter();
        let given: Given =
            given.map(|it| (it.first_offset, it.last_offset, it.delivery_count)).collect();
        assert_eq!(given.is_empty(), row.records.unwrap().byte_length() == 0);
        Ok((given, row.acknowledge_error_code))
    }

    async fn tell(
        &self,
        topic: &Topic,
        member: &str,
        epoch: i32,
        told: &[(i64, i64, i8)],
    ) -> Vec<i16> {
        let batch = |(first, last, kind): &(i64, i64, i8)| {
            share_acknowledge::request::AcknowledgementBatch {
                first_offset: *first,
                last_offset: *last,
                acknowledge_types: vec![*kind],
            }
        };
        let partitions = vec![share_acknowledge::request::AcknowledgePartition {
            partition_index: 0,
            acknowledgement_batches: told.iter().map(batch).collect(),
        }];
        let topics =
            vec![share_acknowledge::request::AcknowledgeTopic { topic_id: topic.id, partitions }];
        let request = share_acknowledge::Request {
            group_id: Some("s".to_owned()),
            member_id: Some(member.to_owned()),
            share_session_epoch: epoch,
            topics: if told.is_empty() { Vec::new() } else { topics },
            ..Default::default()
        };
        let it = handlers::share_acknowledge::handle(&self.broker, &context(1), request).await;
        if it.error_code != 0 {
            return vec![it.error_code];
        }
        let rows = it.responses.into_iter().flat_map(|it| it.partitions);
        rows.map(|it| it.error_code).collect()
    }

    /// Of partitions 0.
    async fn starts(&self) -> Vec<(String, i32, i64, i64)> {
        let mut all = self.all_starts().await;
        all.retain(|it| it.1 == 0);
        all
    }

    /// Topic, partition, start, lag of all that the group knows.
    async fn all_starts(&self) -> Vec<(String, i32, i64, i64)> {
        let asked = offsets::request::DescribeShareGroupOffsetsRequestGroup {
            group_id: "s".to_owned(),
            topics: None,
        };
        let request = offsets::Request { groups: vec![asked] };
        let mut response =
            handlers::describe_share_group_offsets::handle(&self.broker, &context(1), request)
                .await;
        let group = response.groups.remove(0);
        assert_eq!(group.error_code, 0);
        let rows = group.topics.into_iter().flat_map(|topic| {
            let name = topic.topic_name;
            let row = move |it: offsets::response::DescribeShareGroupOffsetsResponsePartition| {
                (name.clone(), it.partition_index, it.start_offset, it.lag)
            };
            topic.partitions.into_iter().map(row)
        });
        rows.collect()
    }

    async fn alter_start(&self, topic: &str, start_offset: i64) -> (i16, Vec<i16>) {
        let partition = alter::request::AlterShareGroupOffsetsRequestPartition {
            partition_index: 0,
            start_offset,
        };
        let topics = vec![alter::request::AlterShareGroupOffsetsRequestTopic {
            topic_name: topic.to_owned(),
            partitions: vec![partition],
        }];
        let request = alter::Request { group_id: "s".to_owned(), topics };
        let it =
            handlers::alter_share_group_offsets::handle(&self.broker, &context(0), request).await;
        let rows = it.responses.into_iter().flat_map(|it| it.partitions);
        (it.error_code, rows.map(|it| it.error_code).collect())
    }

    async fn delete_starts(&self, topic: &str) -> (i16, Vec<i16>) {
        let topics = vec![delete::request::DeleteShareGroupOffsetsRequestTopic {
            topic_name: topic.to_owned(),
        }];
        let request = delete::Request { group_id: "s".to_owned(), topics };
        let it =
            handlers::delete_share_group_offsets::handle(&self.broker, &context(0), request).await;
        (it.error_code, it.responses.into_iter().map(|it| it.error_code).collect())
    }

    async fn shown_share(&self) -> share_group_describe::response::DescribedGroup {
        let request =
            share_group_describe::Request { group_ids: vec!["s".to_owned()], ..Default::default() };
        let it = handlers::share_group_describe::handle(&self.broker, &context(1), request).await;
        it.groups.into_iter().next().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_shared_acknowledged_and_never_delivered_again_after_a_restart() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    assert_eq!(life.share("a", 0, Some(&["t"])).await, (0, 1));
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![], 0)), "nothing is there yet");
    life.write(&topic, 6).await;
    assert_eq!(life.fetch(&topic, "a", 1, 0, &[]).await, Ok((vec![(0, 3, 1)], 0)));
    assert_eq!(life.fetch(&topic, "b", 0, 0, &[]).await, Ok((vec![(4, 5, 1)], 0)));
    // In one request: what became of the old ones, and new ones.
    let told = [(0, 0, ACCEPT), (1, 1, REJECT), (2, 2, RELEASE)];
    assert_eq!(life.fetch(&topic, "a", 2, 0, &told).await, Ok((vec![(2, 2, 2)], 0)));
    assert_eq!(life.tell(&topic, "a", 3, &[(2, 2, ACCEPT)]).await, [0]);
    let foreign = ErrorCode::InvalidRecordState.code();
    assert_eq!(life.tell(&topic, "a", 4, &[(4, 4, ACCEPT)]).await, [foreign]);
    assert_eq!(life.tell(&topic, "b", 1, &[(5, 5, ACCEPT)]).await, [0]);
    let stale = ErrorCode::InvalidShareSessionEpoch.code();
    assert_eq!(life.tell(&topic, "b", 1, &[]).await, [stale]);
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 3, 2)]);
    life.stop().await;
    let life = machine.start().await;
    let gone = ErrorCode::ShareSessionNotFound.code();
    assert_eq!(life.fetch(&topic, "a", 4, 0, &[]).await, Err(gone), "sessions are not kept");
    // The shard is still being read, or has been.
    let clock = Arc::clone(&life.broker.environment.clock);
    while life.broker.shares.release(&life.broker, "s", "nobody".to_owned()).await.is_err() {
        clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(3, 4, 1)], 0)));
    // Who closes its session gives back what it has.
    assert_eq!(life.tell(&topic, "a", -1, &[(3, 3, ACCEPT)]).await, [0]);
    assert_eq!(life.fetch(&topic, "b", 0, 0, &[]).await, Ok((vec![(4, 4, 1)], 0)));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_records_come_or_come_back() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    life.fetch(&topic, "a", 0, 0, &[]).await.unwrap();
    let clock = Arc::clone(&life.broker.environment.clock);
    let begun = clock.now();
    let (given, ()) = tokio::join!(life.fetch(&topic, "a", 1, 60_000, &[]), async {
        clock.sleep(Duration::from_secs(1)).await;
        life.write(&topic, 1).await;
    });
    assert_eq!(given, Ok((vec![(0, 0, 1)], 0)));
    assert!(clock.now().since(begun) < Duration::from_secs(30));
    let (given, told) = tokio::join!(life.fetch(&topic, "b", 0, 60_000, &[]), async {
        clock.sleep(Duration::from_secs(1)).await;
        life.tell(&topic, "a", 2, &[(0, 0, RELEASE)]).await
    });
    assert_eq!((given, told), (Ok((vec![(0, 0, 2)], 0)), vec![0]));
    // A lock that runs out frees what it locked.
    assert_eq!(life.fetch(&topic, "a", 3, 60_000, &[]).await, Ok((vec![(0, 0, 3)], 0)));
    // A connection that closes gives back what its members had.
    let held = life.fetch(&topic, "b", 1, 0, &[]).await;
    assert_eq!(held, Ok((vec![], 0)));
    life.broker.shares.connection_closed(&life.broker, ConnectionId(0));
    assert_eq!(life.fetch(&topic, "c", 0, 5_000, &[]).await, Ok((vec![(0, 0, 3)], 0)));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_share_group_are_altered_and_deleted_when_nobody_is_in_it() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    let missing = ErrorCode::GroupIdNotFound.code();
    life.share("a", 0, Some(&["t"])).await;
    life.write(&topic, 3).await;
    life.fetch(&topic, "a", 0, 0, &[]).await.unwrap();
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 3, 0)], "it starts at the end");
    assert_eq!(life.alter_start("t", 0).await, (ErrorCode::NonEmptyGroup.code(), vec![]));
    assert_eq!(life.delete_group("s").await, ErrorCode::NonEmptyGroup.code());
    assert_eq!(life.share("a", -1, None).await, (0, -1));
    let shown = life.shown_share().await;
    assert_eq!((&shown.group_state[..], &shown.assignor_name[..]), ("Empty", "simple"));
    assert_eq!(life.alter_start("t", 1).await, (0, vec![0]));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(life.alter_start("u", 1).await, (0, vec![unknown]));
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 1, 2)]);
    assert_eq!(life.fetch(&topic, "b", 0, 0, &[]).await, Ok((vec![(1, 2, 1)], 0)));
    assert_eq!(life.delete_starts("t").await, (0, vec![0]));
    assert_eq!(life.delete_starts("t").await, (0, vec![unknown]), "there is nothing left");
    assert!(life.starts().await.is_empty());
    assert_eq!(life.alter_start("t", 2).await, (0, vec![0]));
    assert_eq!(life.delete_group("s").await, 0);
    assert_eq!(life.delete_group("s").await, missing);
    // A group of that name starts anew.
    life.share("a", 0, Some(&["t"])).await;
    assert!(life.starts().await.is_empty());
    life.stop().await;
}

// kafka-share-groups --reset-offsets of a group that is to come.
#[tokio::test(start_paused = true)]
async fn a_group_begins_with_the_offsets_that_are_set_of_it() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.write(&topic, 3).await;
    life.write_to(&topic, 1).await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(life.alter_start("u", 1).await, (0, vec![unknown]));
    assert_eq!(life.delete_group("s").await, ErrorCode::GroupIdNotFound.code(), "nothing was set");
    assert_eq!(life.alter_start("t", 1).await, (0, vec![0]));
    assert_eq!(life.shown_share().await.group_state, "Empty");
    let row = |index, start, lag| ("t".to_owned(), index, start, lag);
    assert_eq!(life.all_starts().await, [row(0, 1, 2), row(1, -1, -1)]);
    life.share("a", 0, Some(&["t"])).await;
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(1, 2, 1)], 0)));
    // Of the other one nothing was set: it begins where the group's configuration says.
    assert_eq!(life.fetch_from(&topic, 1, "b", 0, 0, &[]).await, Ok((vec![], 0)));
    assert_eq!(life.all_starts().await, [row(0, 1, 2), row(1, 1, 0)]);
    assert_eq!(life.share("a", -1, None).await, (0, -1));
    assert_eq!(life.delete_group("s").await, 0);
    assert_eq!(life.delete_group("s").await, ErrorCode::GroupIdNotFound.code());
    life.stop().await;
}

// KAFKA-20742: what is written to a partition before a member first reads it is not skipped, neither in one that was
// there when the group came nor in one that the topic grew by.
#[tokio::test(start_paused = true)]
async fn a_group_that_starts_at_the_end_skips_nothing_of_what_comes_after_it_or_grows() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.write(&topic, 3).await;
    life.write_to(&topic, 1).await;
    life.share("a", 0, Some(&["t"])).await;
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![], 0)));
    let row = |index, start, lag| ("t".to_owned(), index, start, lag);
    assert_eq!(life.all_starts().await, [row(0, 3, 0), row(1, 1, 0)]);
    life.write_to(&topic, 1).await;
    let grown = life.controller.create_partitions("t", 3).await.unwrap();
    let grown = grown.unwrap();
    life.write_to(&grown, 2).await;
    let given = |offset| Ok((vec![(offset, offset, 1)], 0));
    assert_eq!(life.fetch_from(&topic, 1, "b", 0, 0, &[]).await, given(1));
    assert_eq!(life.fetch_from(&topic, 2, "c", 0, 0, &[]).await, given(0));
    assert_eq!(life.all_starts().await, [row(0, 3, 0), row(1, 1, 1), row(2, 0, 1)]);
    life.stop().await;
}

// What is kept of a group can only be deleted with the group. Kafka refuses so what no heartbeat has begun.
#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_joined_begins_nothing() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    let refused = Err(ErrorCode::UnknownServerError.code());
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, refused);
    life.share("a", 0, Some(&["t"])).await;
    assert!(life.all_starts().await.is_empty());
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![], 0)));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_under_a_waiting_fetch_does_not_come_back() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![], 0)));
    let (waited, ()) = tokio::join!(life.fetch(&topic, "a", 1, 20_000, &[]), async {
        life.broker.environment.clock.sleep(Duration::from_secs(1)).await;
        life.controller.delete_topic(topic.id).await.unwrap().unwrap();
    });
    assert_eq!(waited, Err(ErrorCode::UnknownTopicId.code()));
    let command = ShareCommand::Describe { group: "s".to_owned() };
    let kept = life.broker.shares.ask(&life.broker, "s", command, Some).await;
    assert_eq!(kept, Ok(ShareReply::Described(Vec::new())));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_reads_committed_is_given_nothing_undecided_and_nothing_aborted() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    life.configure("share.isolation.level", "read_committed").await;
    life.configure("share.auto.offset.reset", "earliest").await;
    life.write(&topic, 1).await;
    life.write_within(&topic, 7, 0, 5).await;
    life.write_within(&topic, 8, 0, 5).await;
    life.decide(&topic, 7, TransactionResult::Abort).await;
    life.write(&topic, 1).await;
    // The second transaction is open: from there on nothing is decided.
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(0, 0, 1)], 0)));
    assert_eq!(life.fetch(&topic, "a", 1, 0, &[]).await, Ok((vec![], 0)));
    let (given, ()) = tokio::join!(life.fetch(&topic, "a", 2, 60_000, &[]), async {
        life.broker.environment.clock.sleep(Duration::from_secs(1)).await;
        life.decide(&topic, 8, TransactionResult::Commit).await;
    });
    assert_eq!(given, Ok((vec![(2, 2, 1), (4, 4, 1)], 0)));
    let told = [(0, 0, ACCEPT), (2, 2, ACCEPT), (4, 4, ACCEPT)];
    assert_eq!(life.tell(&topic, "a", 3, &told).await, [0]);
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 6, 0)], "the marker is passed as well");
    // More than is read at once is aborted: what follows is found all the same, and without a wait.
    for sequence in 0..3 {
        life.write_within(&topic, 9, sequence, 600_000).await;
    }
    life.decide(&topic, 9, TransactionResult::Abort).await;
    life.write(&topic, 1).await;
    assert_eq!(life.fetch(&topic, "a", 4, 60_000, &[]).await, Ok((vec![(10, 10, 1)], 0)));
    // A group that reads all is given the aborted, too.
    life.configure("share.isolation.level", "read_uncommitted").await;
    life.write_within(&topic, 9, 3, 5).await;
    life.decide(&topic, 9, TransactionResult::Abort).await;
    assert_eq!(life.fetch(&topic, "a", 5, 0, &[]).await, Ok((vec![(11, 11, 1)], 0)));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_share_group_starts_a_duration_ago() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    let now = life.broker.environment.clock.wall();
    for minutes in [180, 61, 59, 1] {
        life.write_at(&topic, Timestamp(now.0 - minutes * 60_000)).await;
    }
    life.configure("share.auto.offset.reset", "by_duration:PT1H").await;
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(2, 3, 1)], 0)));
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 2, 2)]);
    // What has begun stays where it is.
    life.configure("share.auto.offset.reset", "by_duration:PT4H").await;
    assert_eq!(life.fetch(&topic, "a", 1, 0, &[]).await, Ok((vec![], 0)));
    // All is older: it starts at the end.
    life.share("a", -1, None).await;
    assert_eq!(life.delete_starts("t").await, (0, vec![0]));
    life.configure("share.auto.offset.reset", "by_duration:PT0S").await;
    assert_eq!(life.fetch(&topic, "b", 0, 0, &[]).await, Ok((vec![], 0)));
    assert_eq!(life.starts().await, [("t".to_owned(), 0, 4, 0)]);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_member_had_that_fell_silent_is_available_at_once() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    // Longer than a session lasts.
    life.configure("share.record.lock.duration.ms", "60000").await;
    life.configure("share.auto.offset.reset", "earliest").await;
    life.write(&topic, 1).await;
    assert_eq!(life.share("a", 0, Some(&["t"])).await, (0, 1));
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(0, 0, 1)], 0)));
    // Given back, not run out: that would count as a delivery.
    assert_eq!(life.fetch(&topic, "b", 0, 59_000, &[]).await, Ok((vec![(0, 0, 1)], 0)));
    assert_eq!(life.shown_share().await.group_state, "Empty");
    let late = ErrorCode::InvalidRecordState.code();
    assert_eq!(life.tell(&topic, "a", 1, &[(0, 0, ACCEPT)]).await, [late]);
    life.stop().await;
}

// All that one of two reads is the other's by then: what lies behind it is not to wait for the end of the poll.
#[tokio::test(start_paused = true)]
async fn who_was_slower_looks_again_at_once() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    for member in ["a", "b"] {
        assert_eq!(life.fetch(&topic, member, 0, 0, &[]).await, Ok((vec![], 0)));
    }
    for sequence in 0..8 {
        life.write_within(&topic, 7, sequence, 300_000).await;
    }
    let clock = Arc::clone(&life.broker.environment.clock);
    let begun = clock.now();
    let (a, b) = tokio::join!(
        life.fetch(&topic, "a", 1, 60_000, &[]),
        life.fetch(&topic, "b", 1, 60_000, &[]),
    );
    let mut firsts = [a.unwrap().0[0].0, b.unwrap().0[0].0];
    firsts.sort_unstable();
    assert!(firsts[0] == 0 && 3 <= firsts[1], "{firsts:?}");
    assert!(clock.now().since(begun) < Duration::from_secs(30));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_for_a_session_is_told_so_when_its_wait_is_over() {
    let machine = Machine::new();
    let life = machine.start_with(&[("group.share.max.share.sessions", "1")]).await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    life.fetch(&topic, "a", 0, 0, &[]).await.unwrap();
    let clock = Arc::clone(&life.broker.environment.clock);
    let begun = clock.now();
    let full = Err(ErrorCode::ShareSessionLimitReached.code());
    assert_eq!(life.fetch(&topic, "b", 0, 7_000, &[]).await, full);
    assert!(Duration::from_secs(7) <= clock.now().since(begun));
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_closes_its_session_and_is_gone_before_the_answer_gives_back_what_it_had() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    life.share("a", 0, Some(&["t"])).await;
    life.configure("share.record.lock.duration.ms", "60000").await;
    life.configure("share.auto.offset.reset", "earliest").await;
    life.write(&topic, 2).await;
    assert_eq!(life.fetch(&topic, "a", 0, 0, &[]).await, Ok((vec![(0, 1, 1)], 0)));
    {
        let closing = life.tell(&topic, "a", -1, &[(0, 0, ACCEPT)]);
        tokio::pin!(closing);
        assert!(futures::poll!(closing).is_pending());
    }
    life.broker.shares.connection_closed(&life.broker, ConnectionId(0));
    let given = life.fetch(&topic, "b", 0, 30_000, &[]).await;
    assert_eq!(given, Ok((vec![(1, 1, 1)], 0)), "and not by time");
    life.stop().await;
}

// Goal: who is refused because another broker leads the partition learns from the refusal which one and where it is
// (KIP-951), and only then. Method: a second broker that is known to the metadata and leads every other partition.
#[tokio::test(start_paused = true)]
async fn who_asks_the_wrong_broker_is_told_which_one_is_right() {
    let machine = Machine::new();
    let life = machine.start().await;
    let own = life.create("own").await;
    life.share("a", 0, Some(&["own"])).await;
    life.fetch(&own, "a", 0, 0, &[]).await.unwrap(); // The group's shares are here.
    let other = registration(BrokerId(2), "other");
    life.controller.register_broker(other).await.unwrap();
    let topic = life.create("t").await;
    let leaders: Vec<_> = topic.partitions.iter().map(|it| it.leader).collect();
    assert_eq!(leaders, [BrokerId(1), BrokerId(2)]);
    life.write(&topic, 1).await;
    life.configure("share.auto.offset.reset", "earliest").await;

    let fetching = |told: bool| {
        let batch = share_fetch::request::AcknowledgementBatch {
            first_offset: 0,
            last_offset: 0,
            acknowledge_types: vec![ACCEPT],
        };
        let partition = |partition_index| share_fetch::request::FetchPartition {
            partition_index,
            acknowledgement_batches: if told { vec![batch.clone()] } else { Vec::new() },
            ..Default::default()
        };
        vec![share_fetch::request::FetchTopic {
            topic_id: topic.id,
            partitions: vec![partition(0), partition(1)],
        }]
    };
    let refused = ErrorCode::NotLeaderOrFollower.code();
    let nodes = vec![
        (1, "told".to_owned(), 4711), // As the listener of whoever asks advertises it.
        (2, "other".to_owned(), 9092),
    ];
    // Records of the one, no records of the other; then what became of them.
    for (epoch, told) in [(0, false), (1, true)] {
        let request = share_fetch::Request {
            group_id: Some("s".to_owned()),
            member_id: Some("b".to_owned()),
            share_session_epoch: epoch,
            max_bytes: 1_000_000,
            max_records: 4,
            batch_size: 4,
            topics: fetching(told),
            ..Default::default()
        };
        let it = handlers::share_fetch::handle(&life.broker, &context(1), request).await;
        let of_node =
            |it: share_fetch::response::NodeEndpoint| (it.node_id, it.host.clone(), it.port);
        assert_eq!(it.node_endpoints.into_iter().map(of_node).collect::<Vec<_>>(), nodes);
        let [right, wrong] = &it.responses[0].partitions[..] else { panic!("two partitions") };
        assert_eq!((right.error_code, right.acknowledge_error_code), (0, 0));
        assert_eq!(right.current_leader, share_fetch::response::LeaderIdAndEpoch::default());
        let told_code = if told { refused } else { 0 };
        assert_eq!((wrong.error_code, wrong.acknowledge_error_code), (refused, told_code));
        let hint = (wrong.current_leader.leader_id, wrong.current_leader.leader_epoch);
        assert_eq!(hint, (2, 0));
    }

    let telling = |indexes: &[i32]| {
        let partition = |index: &i32| share_acknowledge::request::AcknowledgePartition {
            partition_index: *index,
            acknowledgement_batches: Vec::new(),
        };
        let partitions = indexes.iter().map(partition).collect();
        vec![share_acknowledge::request::AcknowledgeTopic { topic_id: topic.id, partitions }]
    };
    for (epoch, indexes, nodes) in [(2, &[0, 1][..], nodes), (3, &[0], Vec::new())] {
        let request = share_acknowledge::Request {
            group_id: Some("s".to_owned()),
            member_id: Some("b".to_owned()),
            share_session_epoch: epoch,
            topics: telling(indexes),
            ..Default::default()
        };
        let it = handlers::share_acknowledge::handle(&life.broker, &context(1), request).await;
        let of_node =
            |it: share_acknowledge::response::NodeEndpoint| (it.node_id, it.host.clone(), it.port);
        assert_eq!(it.node_endpoints.into_iter().map(of_node).collect::<Vec<_>>(), nodes);
        let rows = it.responses.into_iter().flat_map(|it| it.partitions);
        let row = |it: share_acknowledge::response::PartitionData| {
            (it.error_code, it.current_leader.leader_id, it.current_leader.leader_epoch)
        };
        let expected = [(0, 0, 0), (refused, 2, 0)];
        assert_eq!(rows.map(row).collect::<Vec<_>>(), expected[..indexes.len()]);
    }
    life.stop().await;
}
