//! The shell with everything real below it, on a simulated disk and bucket and simulated time: the
//! handlers are called as the dispatcher calls them.

mod configs;
mod in_transactions;
mod outages;
mod patterns;
mod shares;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bucket::StoreBucket;
use bytes::Bytes;
use cluster::{Controller, RegisterBroker, WalKind};
use coordinator::shard_of;
use environment::Environment;
use partition_log::LogEngine;
use partition_log::volume::MemoryVolume;
use partition_log::wal::{FileWal, FileWalOptions};
use prometheus_client::registry::Registry;
use protocol::messages::{
    ApiKey, delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use vocabulary::{BrokerId, TopicId};

use super::*;
use crate::access::Principal;
use crate::broker::{BrokerHandle, BrokerParts};
use crate::configs::Properties;
use crate::context::RequestContext;
use crate::handlers;
use crate::listener::BoundListener;
use crate::run_index::ClusterRunIndex;
use crate::shares::sessions::ConnectionId;

/// What outlives a broker's process.
struct Machine {
    volume: MemoryVolume,
    bucket: Arc<StoreBucket>,
}

/// One life of the process.
struct Life {
    broker: Arc<Broker>,
    handle: BrokerHandle,
    controller: Controller,
}

impl Machine {
    fn new() -> Machine {
        let environment = Environment::simulated(1);
        Machine {
            volume: MemoryVolume::new(&environment),
            bucket: Arc::new(StoreBucket::memory(&environment)),
        }
    }

    async fn start(&self) -> Life {
        self.start_with(&[]).await
    }

    async fn start_with(&self, settings: &[(&str, &str)]) -> Life {
        let environment = Environment::simulated(7);
        let own = [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("offsets.topic.num.partitions", "4"),
            ("share.coordinator.state.topic.num.partitions", "2"),
        ];
        let pairs = own.iter().chain(settings);
        let properties: Properties =
            pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Arc::new(BrokerConfig::resolve(&properties, None).unwrap());
        let id = BrokerId(1);
        let options = cluster::StoreOptions::default();
        let store = self.bucket.object_store();
        let opened = Controller::open(store, "meta", "test".to_owned(), &options, &environment);
        let controller = opened.await.unwrap();
        let epoch = controller.register_broker(registration(id, "h")).await.unwrap();
        let volume = Arc::new(self.volume.remount(&environment));
        let backend = FileWal::new(volume, FileWalOptions::default(), &environment);
        let runs = ClusterRunIndex::new(controller.clone(), id, epoch);
        let engine = LogEngine::open(
            config.log.options(id, epoch),
            Arc::new(backend),
            Arc::clone(&self.bucket) as Arc<dyn bucket::Bucket>,
            Arc::new(runs),
            environment.clone(),
        );
        let engine = engine.await.unwrap();
        let parts = BrokerParts { id, config, controller: controller.clone(), engine, environment };
        let handle = Broker::start(parts, &mut Registry::default()).await.unwrap();
        Life { broker: Arc::clone(&handle.broker), handle, controller }
    }
}

impl Life {
    async fn stop(self) {
        let Life { broker, handle, controller } = self;
        drop(broker);
        handle.stop().await;
        controller.close().await;
    }

    async fn create(&self, topic: &str) -> Arc<Topic> {
        self.controller.create_topic(topic, 2, BTreeMap::new()).await.unwrap().unwrap()
    }

    async fn commit(
        &self,
        version: i16,
        group: &str,
        topic: offset_commit::request::OffsetCommitRequestTopic,
    ) -> Vec<i16> {
        let request = offset_commit::Request {
            group_id: group.to_owned(),
            topics: vec![topic],
            ..Default::default()
        };
        let response =
            handlers::offset_commit::handle(&self.broker, &context(version), request).await;
        response.topics[0].partitions.iter().map(|it| it.error_code).collect()
    }

    /// What a group has committed, as version 8 tells it.
    async fn committed(&self, group: &str) -> Vec<(String, i32, i64)> {
        let asked = offset_fetch::request::OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: None,
            ..Default::default()
        };
        let request = offset_fetch::Request { groups: vec![asked], ..Default::default() };
        let mut response = handlers::offset_fetch::handle(&self.broker, &context(8), request).await;
        let group = response.groups.remove(0);
        assert_eq!(group.error_code, 0);
        let flat = group.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            let offset = move |it: &offset_fetch::response::OffsetFetchResponsePartitions| {
                (name.clone(), it.partition_index, it.committed_offset)
            };
            topic.partitions.iter().map(offset).collect::<Vec<_>>()
        });
        flat.collect()
    }

    async fn join(&self, version: i16, member: &str) -> join_group::Response {
        let request = join_group::Request {
            group_id: "g".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: member.to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![join_group::request::JoinGroupRequestProtocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"),
            }],
            ..Default::default()
        };
        handlers::join_group::handle(&self.broker, &context(version), request).await
    }

    /// Joins as a client of this version does and brings the whole assignment.
    async fn member(&self, version: i16) -> (String, i32) {
        let mut joined = self.join(version, "").await;
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            joined = self.join(version, &joined.member_id).await;
        }
        assert_eq!(joined.error_code, 0, "{joined:?}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        let assignment = sync_group::request::SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"all"),
        };
        let mut request = sync_group::Request {
            group_id: "g".to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: vec![assignment],
            ..Default::default()
        };
        // From version 5 on a member says what it believes the group to speak.
        let unsaid = handlers::sync_group::handle(&self.broker, &context(5), request.clone()).await;
        assert_eq!(unsaid.error_code, ErrorCode::InconsistentGroupProtocol.code());
        request.protocol_type = Some("consumer".to_owned());
        request.protocol_name = Some("range".to_owned());
        let synced = handlers::sync_group::handle(&self.broker, &context(5), request).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
        (joined.member_id, joined.generation_id)
    }

    async fn heartbeat(&self, member: &str, generation: i32) -> i16 {
        let request = heartbeat::Request {
            group_id: "g".to_owned(),
            generation_id: generation,
            member_id: member.to_owned(),
            ..Default::default()
        };
        handlers::heartbeat::handle(&self.broker, &context(4), request).await.error_code
    }

    async fn describe(
        &self,
        version: i16,
        group: &str,
    ) -> describe_groups::response::DescribedGroup {
        let request =
            describe_groups::Request { groups: vec![group.to_owned()], ..Default::default() };
        let mut response =
            handlers::describe_groups::handle(&self.broker, &context(version), request).await;
        response.groups.remove(0)
    }

    async fn delete_group(&self, group: &str) -> i16 {
        let request = delete_groups::Request { groups_names: vec![group.to_owned()] };
        let response = handlers::delete_groups::handle(&self.broker, &context(2), request).await;
        response.results[0].error_code
    }
}

fn registration(id: BrokerId, host: &str) -> RegisterBroker {
    RegisterBroker {
        id,
        host: host.to_owned(),
        port: 9092,
        rack: None,
        wal: WalKind::File,
        volume: None,
        gives_up: None,
        takes_over: Vec::new(),
    }
}

fn context(version: i16) -> RequestContext {
    let listener = BoundListener {
        name: "PLAINTEXT".to_owned(),
        advertised_host: "told".to_owned(),
        advertised_port: 4711,
    };
    RequestContext {
        key: ApiKey::ApiVersions,
        version,
        client_id: Some("client".to_owned()),
        client_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        connection: ConnectionId(0),
        listener: Arc::new(listener),
        principal: Arc::new(Principal::anonymous()),
        access: None,
    }
}

fn offsets(
    topic: &str,
    id: TopicId,
    offsets: &[(i32, i64)],
) -> offset_commit::request::OffsetCommitRequestTopic {
    let partition =
        |(index, offset): &(i32, i64)| offset_commit::request::OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: *offset,
            committed_leader_epoch: 3,
            committed_metadata: Some("m".to_owned()),
        };
    offset_commit::request::OffsetCommitRequestTopic {
        name: topic.to_owned(),
        topic_id: id,
        partitions: offsets.iter().map(partition).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_lives_through_a_restart_of_its_coordinator() {
    for version in [0, 1, 4, 9] {
        let machine = Machine::new();
        let life = machine.start().await;
        life.create("t").await;
        let (member, generation) = life.member(version).await;
        let request = offset_commit::Request {
            group_id: "g".to_owned(),
            generation_id_or_member_epoch: generation,
            member_id: member.clone(),
            topics: vec![offsets("t", TopicId::ZERO, &[(0, 5), (1, 6)])],
            ..Default::default()
        };
        let response = handlers::offset_commit::handle(&life.broker, &context(9), request).await;
        assert!(response.topics[0].partitions.iter().all(|it| it.error_code == 0));
        let before = life.describe(5, "g").await;
        assert_eq!(
            (before.group_state.as_str(), before.protocol_data.as_str()),
            ("Stable", "range")
        );
        assert_eq!(before.members[0].client_id, "client");
        assert_eq!(before.members[0].client_host, "/127.0.0.1");
        life.stop().await;

        let life = machine.start().await;
        // Until it is loaded a coordinator says so; the heartbeat is blindly answered.
        assert_eq!(life.heartbeat(&member, generation).await, 0);
        while life.describe(5, "g").await.error_code != 0 {
            life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(life.describe(5, "g").await, before);
        assert_eq!(life.heartbeat(&member, generation).await, 0);
        let expected = [("t".to_owned(), 0, 5), ("t".to_owned(), 1, 6)];
        assert_eq!(life.committed("g").await, expected);
        // The timers run without anybody asking.
        life.broker.environment.clock.sleep(Duration::from_secs(11)).await;
        assert_eq!(life.describe(5, "g").await.group_state, "Empty");
        life.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn coordinators_are_found_one_by_one_and_in_batches() {
    let machine = Machine::new();
    let life = machine.start().await;
    let single = |key_type| find_coordinator::Request {
        key: "g".to_owned(),
        key_type,
        ..Default::default()
    };
    let found = handlers::find_coordinator::handle(&life.broker, &context(3), single(0)).await;
    assert_eq!((found.error_code, found.node_id), (0, 1));
    assert_eq!((found.host.as_str(), found.port), ("told", 4711));
    let topic = life.broker.view.topic(OFFSETS_TOPIC).unwrap();
    assert_eq!((topic.partitions.len(), topic.is_internal), (4, true));
    assert_eq!(topic.configs.get("cleanup.policy").unwrap(), "compact");

    let cases = [(2, ErrorCode::InvalidRequest), (9, ErrorCode::InvalidRequest)];
    for (kind, code) in cases {
        let refused =
            handlers::find_coordinator::handle(&life.broker, &context(3), single(kind)).await;
        assert_eq!((refused.error_code, refused.node_id), (code.code(), -1), "{kind}");
        assert!(refused.error_message.is_some());
    }
    let found = handlers::find_coordinator::handle(&life.broker, &context(3), single(1)).await;
    assert_eq!((found.error_code, found.node_id), (0, 1), "of a transactional id");
    let request = find_coordinator::Request {
        coordinator_keys: vec!["a".to_owned(), "b".to_owned()],
        ..Default::default()
    };
    let found = handlers::find_coordinator::handle(&life.broker, &context(4), request).await;
    let keys: Vec<(&str, i32, i16)> =
        found.coordinators.iter().map(|it| (it.key.as_str(), it.node_id, it.error_code)).collect();
    assert_eq!(keys, [("a", 1, 0), ("b", 1, 0)]);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_by_name_and_by_id_only_where_a_partition_is() {
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let codes = life.commit(9, "simple", offsets("t", TopicId::ZERO, &[(0, 1), (2, 1), (1, 1)]));
    assert_eq!(codes.await, [0, unknown, 0]);
    let codes = life.commit(9, "simple", offsets("none", TopicId::ZERO, &[(0, 1)]));
    assert_eq!(codes.await, [unknown]);
    let codes = life.commit(10, "simple", offsets("", topic.id, &[(0, 7), (-1, 1)]));
    assert_eq!(codes.await, [0, unknown]);
    let codes = life.commit(10, "simple", offsets("", TopicId([9; 16]), &[(0, 7)]));
    assert_eq!(codes.await, [ErrorCode::UnknownTopicId.code()]);
    assert_eq!(life.committed("simple").await, [("t".to_owned(), 0, 7), ("t".to_owned(), 1, 1)]);

    let by_id = |topic_id| offset_fetch::request::OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![1],
        ..Default::default()
    };
    let asked = offset_fetch::request::OffsetFetchRequestGroup {
        group_id: "simple".to_owned(),
        topics: Some(vec![by_id(TopicId([9; 16])), by_id(topic.id)]),
        ..Default::default()
    };
    let request = offset_fetch::Request { groups: vec![asked], ..Default::default() };
    let response = handlers::offset_fetch::handle(&life.broker, &context(10), request).await;
    let found: Vec<(TopicId, i64, i32, i16)> = response.groups[0]
        .topics
        .iter()
        .map(|it| (it.topic_id, &it.partitions[0]))
        .map(|(id, it)| (id, it.committed_offset, it.committed_leader_epoch, it.error_code))
        .collect();
    let gone = (TopicId([9; 16]), -1, -1, ErrorCode::UnknownTopicId.code());
    assert_eq!(found, [gone, (topic.id, 1, 3, 0)]);

    // An old client: one group, names, nothing committed reads as -1.
    let old = offset_fetch::request::OffsetFetchRequestTopic {
        name: "t".to_owned(),
        partition_indexes: vec![0, 5],
    };
    let request = offset_fetch::Request {
        group_id: "simple".to_owned(),
        topics: Some(vec![old]),
        ..Default::default()
    };
    let response = handlers::offset_fetch::handle(&life.broker, &context(1), request).await;
    let found: Vec<(i32, i64, Option<&str>)> = response.topics[0]
        .partitions
        .iter()
        .map(|it| (it.partition_index, it.committed_offset, it.metadata.as_deref()))
        .collect();
    assert_eq!(found, [(0, 7, Some("m")), (5, -1, Some(""))]);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_takes_its_committed_offsets_along() {
    let machine = Machine::new();
    let life = machine.start().await;
    let (gone, kept) = (life.create("gone").await, life.create("kept").await);
    life.commit(9, "g", offsets("gone", TopicId::ZERO, &[(0, 1)])).await;
    life.commit(9, "g", offsets("kept", TopicId::ZERO, &[(0, 1)])).await;
    life.controller.delete_topic(gone.id).await.unwrap().unwrap();
    life.broker.environment.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(life.committed("g").await, [("kept".to_owned(), 0, 1)]);
    life.stop().await;

    // Deleted while no coordinator listened: found when the shard is loaded.
    let environment = Environment::simulated(3);
    let options = cluster::StoreOptions::default();
    let store = machine.bucket.object_store();
    let opened = Controller::open(store, "meta", "test".to_owned(), &options, &environment);
    let controller = opened.await.unwrap();
    controller.delete_topic(kept.id).await.unwrap().unwrap();
    controller.close().await;
    let life = machine.start().await;
    while life.describe(5, "g").await.error_code != 0 {
        life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(life.committed("g").await, []);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_in_a_group_is_told_when_its_coordinator_goes() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    assert_eq!(life.describe(5, "g").await.group_state, "Dead");
    let topic = life.broker.view.topic(OFFSETS_TOPIC).unwrap();
    let waiting = life.join(1, "");
    let deleting = async {
        life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
        life.controller.delete_topic(topic.id).await.unwrap().unwrap();
    };
    let (joined, ()) = tokio::join!(waiting, deleting);
    assert_eq!(joined.error_code, ErrorCode::NotCoordinator.code());
    let (member, generation) = life.member(4).await;
    assert_eq!((generation, life.heartbeat(&member, generation).await), (1, 0), "a new topic");
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_described_and_deleted() {
    let machine = Machine::new();
    let life = machine.start().await;
    let list = |states: &[&str]| list_groups::Request {
        states_filter: states.iter().map(|it| (*it).to_owned()).collect(),
        types_filter: Vec::new(),
    };
    let none = handlers::list_groups::handle(&life.broker, &context(5), list(&[])).await;
    assert!(none.groups.is_empty() && none.error_code == 0);
    assert!(life.broker.view.topic(OFFSETS_TOPIC).is_none(), "looking creates nothing");

    life.create("t").await;
    let (member, _) = life.member(4).await;
    for group in ["x", "y", "z"] {
        life.commit(9, group, offsets("t", TopicId::ZERO, &[(0, 1)])).await;
    }
    let all = handlers::list_groups::handle(&life.broker, &context(5), list(&[])).await;
    let names: Vec<&str> = all.groups.iter().map(|it| it.group_id.as_str()).collect();
    assert_eq!(names, ["g", "x", "y", "z"]);
    let stable = handlers::list_groups::handle(&life.broker, &context(5), list(&["stable"])).await;
    let row = &stable.groups[0];
    assert_eq!((stable.groups.len(), row.group_id.as_str()), (1, "g"));
    assert_eq!((row.protocol_type.as_str(), row.group_type.as_str()), ("consumer", "classic"));

    let missing = life.describe(5, "missing").await;
    assert_eq!((missing.error_code, missing.group_state.as_str()), (0, "Dead"));
    let missing = life.describe(6, "missing").await;
    assert_eq!(missing.error_code, ErrorCode::GroupIdNotFound.code());
    assert!(missing.error_message.is_some());

    assert_eq!(life.delete_group("g").await, ErrorCode::NonEmptyGroup.code());
    assert_eq!(life.delete_group("x").await, 0);
    assert_eq!(life.delete_group("x").await, ErrorCode::GroupIdNotFound.code());
    let leave =
        leave_group::Request { group_id: "g".to_owned(), member_id: member, ..Default::default() };
    let left = handlers::leave_group::handle(&life.broker, &context(1), leave.clone()).await;
    assert_eq!(left.error_code, 0);
    let left = handlers::leave_group::handle(&life.broker, &context(1), leave).await;
    assert_eq!(left.error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(life.delete_group("g").await, 0);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn members_leave_one_by_one_or_in_batches_as_the_version_has_it() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let (member, _) = life.member(4).await;
    let leaving = |member: &str| leave_group::request::MemberIdentity {
        member_id: member.to_owned(),
        ..Default::default()
    };
    let batch = leave_group::Request {
        group_id: "g".to_owned(),
        // Not of this version: nobody is called so.
        member_id: member.clone(),
        members: vec![leaving("nobody"), leaving(&member), leaving(&member)],
    };
    let left = handlers::leave_group::handle(&life.broker, &context(3), batch.clone()).await;
    let unknown = ErrorCode::UnknownMemberId.code();
    let codes: Vec<i16> = left.members.iter().map(|it| it.error_code).collect();
    assert_eq!((left.error_code, codes), (0, vec![unknown, 0, unknown]));
    assert_eq!(life.describe(5, "g").await.group_state, "Empty");
    let nameless = leave_group::Request { group_id: String::new(), ..batch.clone() };
    let left = handlers::leave_group::handle(&life.broker, &context(5), nameless).await;
    assert_eq!(left.error_code, ErrorCode::InvalidGroupId.code());
    // Before version 3 the one member is named beside the list.
    let (member, _) = life.member(4).await;
    let one = leave_group::Request { member_id: member, members: Vec::new(), ..batch };
    let left = handlers::leave_group::handle(&life.broker, &context(2), one).await;
    assert_eq!((left.error_code, left.members.len()), (0, 0));
    assert_eq!(life.describe(5, "g").await.group_state, "Empty");
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_of_many_groups_are_fetched_at_once() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    assert_eq!(life.commit(9, "one", offsets("t", TopicId::ZERO, &[(0, 4)])).await, [0]);
    let of = |group: &str| offset_fetch::request::OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics: Some(vec![offset_fetch::request::OffsetFetchRequestTopics {
            name: "t".to_owned(),
            partition_indexes: vec![0, 1],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let groups = vec![of("one"), of("nobody"), of("one")];
    let request = offset_fetch::Request { groups, ..Default::default() };
    let response = handlers::offset_fetch::handle(&life.broker, &context(8), request).await;
    let found = response.groups.iter().map(|group| {
        let rows = group.topics.iter().flat_map(|it| &it.partitions);
        let offsets: Vec<i64> = rows.map(|it| it.committed_offset).collect();
        (group.group_id.as_str(), group.error_code, offsets)
    });
    let one = ("one", 0, vec![4, -1]);
    assert_eq!(found.collect::<Vec<_>>(), [one.clone(), ("nobody", 0, vec![-1, -1]), one]);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_where_partitions_are_and_nobody_needs_them() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    life.create("u").await;
    let delete = |group: &str, topics: &[(&str, i32)]| {
        let topic =
            |(name, index): &(&str, i32)| offset_delete::request::OffsetDeleteRequestTopic {
                name: (*name).to_owned(),
                partitions: vec![offset_delete::request::OffsetDeleteRequestPartition {
                    partition_index: *index,
                }],
            };
        offset_delete::Request {
            group_id: group.to_owned(),
            topics: topics.iter().map(topic).collect(),
        }
    };
    let refused =
        handlers::offset_delete::handle(&life.broker, &context(0), delete("g", &[("t", 0)])).await;
    assert_eq!(refused.error_code, ErrorCode::GroupIdNotFound.code());
    life.member(4).await; // It subscribes to "t".
    let asked = [("t", 0), ("u", 0), ("u", 9), ("none", 0)];
    let response =
        handlers::offset_delete::handle(&life.broker, &context(0), delete("g", &asked)).await;
    let codes: Vec<i16> = response.topics.iter().map(|it| it.partitions[0].error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes, [ErrorCode::GroupSubscribedToTopic.code(), 0, unknown, unknown]);
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_commits_at_once_are_all_kept() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let names: Vec<String> = (0..300).map(|it| format!("group-{it}")).collect();
    let commits = names.iter().map(|it| life.commit(9, it, offsets("t", TopicId::ZERO, &[(0, 4)])));
    for codes in futures::future::join_all(commits).await {
        assert_eq!(codes, [0]);
    }
    life.stop().await;
    let life = machine.start().await;
    for name in &names {
        while life.describe(5, name).await.error_code != 0 {
            life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(life.committed(name).await, [("t".to_owned(), 0, 4)]);
    }
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_log_fails_refuses_everybody_and_is_loaded_again() {
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    let (_, partition) = life.broker.groups.home(&life.broker, "g").await.unwrap();
    let neighbour = |it: &String| shard_of(it, 4) == partition.index;
    let simple = (0..100).map(|it| format!("simple-{it}")).find(neighbour).unwrap();
    let simple = simple.as_str();
    assert_eq!(life.commit(9, simple, offsets("t", TopicId::ZERO, &[(0, 1)])).await, [0]);
    life.broker.engine.flush_all().await;
    let waiting = life.join(1, "");
    let failing = async {
        life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
        life.broker.engine.remove(partition);
        life.commit(9, simple, offsets("t", TopicId::ZERO, &[(0, 2)])).await
    };
    let (joined, codes) = tokio::join!(waiting, failing);
    let gone = ErrorCode::NotCoordinator.code();
    assert_eq!((joined.error_code, codes), (gone, vec![gone]));
    while life.describe(5, simple).await.error_code != 0 {
        life.broker.environment.clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        life.committed(simple).await,
        [("t".to_owned(), 0, 1)],
        "what was refused is not there"
    );
    assert_eq!(life.commit(9, simple, offsets("t", TopicId::ZERO, &[(0, 3)])).await, [0]);
    assert_eq!(life.committed(simple).await, [("t".to_owned(), 0, 3)]);
    life.stop().await;
}
