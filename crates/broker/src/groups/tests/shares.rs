//! Share groups over the handlers (KIP-932): members, records, acknowledgements, offsets, and a restart.

use std::time::Duration;

use protocol::messages::{
    alter_share_group_offsets as alter, delete_share_group_offsets as delete,
    describe_share_group_offsets as offsets, share_acknowledge, share_fetch, share_group_describe,
    share_group_heartbeat,
};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::Timestamp;

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

    /// Writes so many records to partition 0, each in a batch of its own.
    async fn write(&self, topic: &Topic, count: usize) {
        let log = self.broker.led_log(Partition { topic: topic.id, index: 0 }).unwrap();
        for _ in 0..count {
            let mut builder = BatchBuilder::new(Compression::None, None);
            builder.push(Timestamp(1), None, Some(b"value"), &[]);
            let appended = log.append(builder.build(), None).await.unwrap();
            appended.durable.await.unwrap();
        }
    }

    async fn fetch(
        &self,
        topic: &Topic,
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
                    partition_index: 0,
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
        assert_eq!(row.error_code, 0);
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

    /// Topic, partition, start, lag of all that the group knows.
    async fn starts(&self) -> Vec<(String, i32, i64, i64)> {
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
    assert_eq!(life.alter_start("t", 0).await, (missing, vec![]));
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
    assert_eq!(life.alter_start("t", 0).await, (missing, vec![]));
    // A group of that name starts anew.
    life.share("a", 0, Some(&["t"])).await;
    assert!(life.starts().await.is_empty());
    life.stop().await;
}
