//! Authorisation as clients meet it: everything denied, API by API; then what ACLs allow.

mod groups;
mod walk;

use protocol::ErrorCode;
use protocol::messages::ApiKey;
use protocol::messages::api_versions::{self, ApiVersions};
use protocol::messages::create_acls::{self, CreateAcls, request::AclCreation};
use protocol::messages::create_topics::CreateTopics;
use protocol::messages::delete_acls::{self, DeleteAcls, request::DeleteAclsFilter};
use protocol::messages::delete_topics::DeleteTopics;
use protocol::messages::describe_acls::{self, DescribeAcls};
use protocol::messages::describe_cluster::{self, DescribeCluster};
use protocol::messages::fetch::Fetch;
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::list_groups::ListGroups;
use protocol::messages::metadata::{self, Metadata};
use protocol::messages::offset_commit::OffsetCommit;
use protocol::messages::offset_fetch::{self, OffsetFetch};
use protocol::messages::produce::Produce;
use protocol::messages::share_fetch::{self, ShareFetch};
use protocol::messages::{create_topics, delete_topics, list_groups};
use vocabulary::TopicId;

use crate::client::{Client, Served, Storage};

const AUTHORIZER: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
const EVERYONE: (&str, &str) = ("allow.everyone.if.no.acl.found", "true");

/// Kafka's numbers.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const DESCRIBE: i8 = 8;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

/// A topic `t` of one partition, its id, a group `g` with an offset and a transactional id `x`, made while there was no
/// authorizer.
async fn furnished(storage: &Storage) -> TopicId {
    let served = Served::start_on(storage, &[]).await;
    let mut client = served.connect().await;
    let topic = create_topics::request::CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        create_topics::Request { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let created = client.call::<CreateTopics>(7, request).await;
    let id = created.topics[0].topic_id;
    let committed = client.call::<OffsetCommit>(9, walk::offset_commit("g", id)).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let request = init_producer_id::Request {
        transactional_id: Some("x".to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    assert_eq!(client.call::<InitProducerId>(4, request).await.error_code, 0);
    served.stop().await;
    id
}

fn acl(
    (resource_type, name): (i8, &str),
    resource_pattern_type: i8,
    operation: i8,
    permission_type: i8,
) -> AclCreation {
    AclCreation {
        resource_type,
        resource_name: name.to_owned(),
        resource_pattern_type,
        principal: "User:ANONYMOUS".to_owned(),
        host: "*".to_owned(),
        operation,
        permission_type,
    }
}

async fn create(client: &mut Client, creations: Vec<AclCreation>) -> Vec<ErrorCode> {
    let created = client.call::<CreateAcls>(3, create_acls::Request { creations }).await;
    let codes = created.results.iter().map(|it| it.error_code);
    codes.map(|it| ErrorCode::from_code(it).expect("a code of Kafka")).collect()
}

fn everything() -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    }
}

#[tokio::test]
async fn everything_that_is_advertised_is_denied_or_shows_nothing() {
    let storage = Storage::new();
    let topic = furnished(&storage).await;
    // No ACL, nobody is a super user: nobody may do anything.
    let served = Served::start_on(&storage, &[AUTHORIZER]).await;
    let mut client = served.connect().await;
    let request = api_versions::Request {
        client_software_name: "served".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let advertised = client.call::<ApiVersions>(3, request).await.api_keys;
    assert!(40 < advertised.len(), "all that is built is walked over");
    for row in advertised {
        let key = ApiKey::from_i16(row.api_key).expect("a key of Kafka");
        for version in key.valid_versions() {
            let codes = walk::denied(&mut client, key, version, topic).await;
            for (found, expected) in codes {
                let found = ErrorCode::from_code(found).expect("a code of Kafka");
                assert_eq!(found, expected, "{key:?} version {version}");
            }
        }
    }
    served.stop().await;
    // Nothing of all that was done.
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    let request = metadata::Request { topics: None, ..Default::default() };
    let topics = client.call::<Metadata>(12, request).await.topics;
    let names: Vec<_> = topics.iter().filter(|it| !it.is_internal).map(|it| &it.name).collect();
    assert_eq!(names, [&Some("t".to_owned())]);
    let groups = client.call::<ListGroups>(4, list_groups::Request::default()).await.groups;
    assert_eq!(groups.len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn a_super_user_does_everything() {
    let storage = Storage::new();
    let topic = furnished(&storage).await;
    let user = ("super.users", "User:ANONYMOUS");
    let served = Served::start_on(&storage, &[AUTHORIZER, user]).await;
    let mut client = served.connect().await;
    let denial = acl((TOPIC, "*"), LITERAL, ALL, DENY);
    assert_eq!(create(&mut client, vec![denial]).await, [ErrorCode::None]);
    let produced = client.call::<Produce>(13, walk::produce(topic, None)).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    served.stop().await;
}

#[tokio::test]
async fn acls_are_kept_told_and_deleted() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    let one = acl((TOPIC, "t"), LITERAL, READ, ALLOW);
    let two = acl((TOPIC, "t"), LITERAL, WRITE, DENY);
    let three = acl((GROUP, "g"), PREFIXED, READ, ALLOW);
    let bad = AclCreation { principal: "alice".to_owned(), ..one.clone() };
    let created = create(&mut client, vec![one.clone(), bad, two, three, one]).await;
    let (none, invalid) = (ErrorCode::None, ErrorCode::InvalidRequest);
    assert_eq!(created, [none, invalid, none, none, none]);
    served.stop().await;

    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    for version in 1..=3 {
        let request = describe_acls::Request {
            resource_type_filter: TOPIC,
            resource_name_filter: Some("t".to_owned()),
            pattern_type_filter: 2,
            principal_filter: None,
            host_filter: None,
            operation: 1,
            permission_type: 1,
        };
        let told = client.call::<DescribeAcls>(version, request).await;
        assert_eq!((told.error_code, told.resources.len()), (0, 1), "one pattern, two ACLs");
        let rows: Vec<_> =
            told.resources[0].acls.iter().map(|it| (it.operation, it.permission_type)).collect();
        assert_eq!(rows, [(READ, ALLOW), (WRITE, DENY)]);
    }
    let bad = DeleteAclsFilter { operation: 0, ..everything() };
    let groups = DeleteAclsFilter { resource_type_filter: GROUP, ..everything() };
    let filters = vec![groups, bad, everything()];
    let deleted = client.call::<DeleteAcls>(3, delete_acls::Request { filters }).await;
    let told: Vec<_> =
        deleted.filter_results.iter().map(|it| (it.error_code, it.matching_acls.len())).collect();
    assert_eq!(told, [(0, 1), (invalid.code(), 0), (0, 3)]);
    let filters = vec![everything()];
    let deleted = client.call::<DeleteAcls>(3, delete_acls::Request { filters }).await;
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 0);
    served.stop().await;
}

#[tokio::test]
async fn a_producer_and_a_reader_are_refused_and_then_allowed() {
    let storage = Storage::new();
    let topic = furnished(&storage).await;
    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    let written = async |client: &mut Client| {
        let produced = client.call::<Produce>(13, walk::produce(topic, None)).await;
        produced.responses[0].partition_responses[0].error_code
    };
    let read = async |client: &mut Client| {
        let fetched = client.call::<Fetch>(13, walk::fetch(topic)).await;
        fetched.responses[0].partitions[0].error_code
    };
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!((written(&mut client).await, read(&mut client).await), (0, 0));
    // With the first ACL the topic is nobody else's.
    let allowed = acl((TOPIC, "t"), LITERAL, READ, ALLOW);
    create(&mut client, vec![allowed]).await;
    assert_eq!((written(&mut client).await, read(&mut client).await), (denied, 0));
    create(&mut client, vec![acl((TOPIC, "t"), PREFIXED, ALL, ALLOW)]).await;
    assert_eq!((written(&mut client).await, read(&mut client).await), (0, 0));
    create(&mut client, vec![acl((TOPIC, "*"), LITERAL, READ, DENY)]).await;
    assert_eq!((written(&mut client).await, read(&mut client).await), (0, denied));
    let request = delete_acls::Request { filters: vec![everything()] };
    client.call::<DeleteAcls>(3, request).await;
    assert_eq!((written(&mut client).await, read(&mut client).await), (0, 0));
    served.stop().await;
}

fn named(name: &str) -> metadata::request::MetadataRequestTopic {
    metadata::request::MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }
}

#[tokio::test]
async fn topics_are_created_and_deleted_by_who_may() {
    let storage = Storage::new();
    furnished(&storage).await;
    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    // Whoever speaks of the cluster from now on needs an ACL: this one keeps the tap for ACLs open.
    let alter = acl((CLUSTER, "kafka-cluster"), LITERAL, 7, ALLOW);
    let describe = acl((TOPIC, "a"), PREFIXED, DESCRIBE, ALLOW);
    create(&mut client, vec![alter, describe]).await;
    let asked = async |client: &mut Client, name: &str| {
        let request = metadata::Request {
            topics: Some(vec![named(name)]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        client.call::<Metadata>(12, request).await.topics[0].error_code
    };
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(asked(&mut client, "auto").await, denied, "it may be known of, not created");
    create(&mut client, vec![acl((TOPIC, "auto"), LITERAL, CREATE, ALLOW)]).await;
    assert_eq!(asked(&mut client, "auto").await, 0);
    assert_eq!(asked(&mut client, "auto2").await, denied);

    let made = async |client: &mut Client, name: &str| {
        let topic = create_topics::request::CreatableTopic {
            name: name.to_owned(),
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        };
        let request =
            create_topics::Request { topics: vec![topic], timeout_ms: 9_000, validate_only: false };
        client.call::<CreateTopics>(7, request).await.topics.remove(0)
    };
    assert_eq!(made(&mut client, "a1").await.error_code, denied);
    create(&mut client, vec![acl((TOPIC, "a1"), LITERAL, CREATE, ALLOW)]).await;
    let row = made(&mut client, "a1").await;
    assert_eq!(
        (row.error_code, row.topic_config_error_code),
        (0, denied),
        "its configs stay unseen"
    );
    assert_eq!((row.num_partitions, row.configs), (-1, Some(Vec::new())));

    let gone = async |client: &mut Client, name: &str| {
        let topic = delete_topics::request::DeleteTopicState {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let request = delete_topics::Request { topics: vec![topic], ..Default::default() };
        client.call::<DeleteTopics>(6, request).await.responses[0].error_code
    };
    assert_eq!(gone(&mut client, "a1").await, denied);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(gone(&mut client, "absent").await, unknown, "who may describe it is told");
    create(&mut client, vec![acl((TOPIC, "a1"), LITERAL, DELETE, ALLOW)]).await;
    assert_eq!(gone(&mut client, "a1").await, 0);
    served.stop().await;
}

#[tokio::test]
async fn authorized_operations_are_what_acls_leave() {
    let storage = Storage::new();
    furnished(&storage).await;
    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    let operations = async |client: &mut Client| {
        let request = metadata::Request {
            topics: Some(vec![named("t")]),
            include_topic_authorized_operations: true,
            ..Default::default()
        };
        let topic =
            client.call::<Metadata>(12, request).await.topics[0].topic_authorized_operations;
        let request = describe_cluster::Request {
            include_cluster_authorized_operations: true,
            endpoint_type: 1,
            ..Default::default()
        };
        let cluster = client.call::<DescribeCluster>(1, request).await;
        (topic, cluster.cluster_authorized_operations)
    };
    let bits = |codes: &[i8]| codes.iter().map(|it| 1 << it).sum::<i32>();
    let (of_topic, of_cluster) = ([3, 4, 5, 6, 7, 8, 10, 11], [5, 7, 8, 9, 10, 11, 12]);
    assert_eq!(operations(&mut client).await, (bits(&of_topic), bits(&of_cluster)));
    let reads = acl((TOPIC, "t"), LITERAL, READ, ALLOW);
    let alters = acl((CLUSTER, "kafka-cluster"), LITERAL, 7, ALLOW);
    create(&mut client, vec![reads, alters]).await;
    assert_eq!(operations(&mut client).await, (bits(&[READ, DESCRIBE]), bits(&[7, 8])));
    let denial = acl((CLUSTER, "kafka-cluster"), LITERAL, DESCRIBE, DENY);
    create(&mut client, vec![denial]).await;
    assert_eq!(operations(&mut client).await.1, 0, "none are told to who may not describe");
    served.stop().await;
}

#[tokio::test]
async fn within_an_allowed_group_topics_are_denied_one_by_one() {
    let storage = Storage::new();
    let topic = furnished(&storage).await;
    let served = Served::start_on(&storage, &[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    create(&mut client, vec![acl((TOPIC, "t"), LITERAL, ALL, DENY)]).await;
    let denied = ErrorCode::TopicAuthorizationFailed.code();

    let committed = client.call::<OffsetCommit>(9, walk::offset_commit("g", topic)).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, denied);
    let asked = |topics| offset_fetch::Request {
        groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            member_id: None,
            member_epoch: -1,
            topics,
        }],
        ..Default::default()
    };
    let all = client.call::<OffsetFetch>(9, asked(None)).await;
    assert_eq!((all.groups[0].error_code, all.groups[0].topics.len()), (0, 0), "left out");
    let one = offset_fetch::request::OffsetFetchRequestTopics {
        name: "t".to_owned(),
        topic_id: topic,
        partition_indexes: vec![0],
    };
    for version in 8..=10 {
        let named = client.call::<OffsetFetch>(version, asked(Some(vec![one.clone()]))).await;
        let row = &named.groups[0].topics[0].partitions[0];
        assert_eq!((row.error_code, row.committed_offset), (denied, -1), "version {version}");
    }

    let partition = share_fetch::request::FetchPartition {
        acknowledgement_batches: vec![share_fetch::request::AcknowledgementBatch {
            first_offset: 0,
            last_offset: 0,
            acknowledge_types: vec![1],
        }],
        ..Default::default()
    };
    let fetch = |epoch, partition: &share_fetch::request::FetchPartition| share_fetch::Request {
        group_id: Some("s".to_owned()),
        member_id: Some("AAAAAAAAAAAAAAAAAAAAAQ".to_owned()),
        share_session_epoch: epoch,
        max_bytes: 1 << 20,
        max_records: 10,
        topics: vec![share_fetch::request::FetchTopic {
            topic_id: topic,
            partitions: vec![partition.clone()],
        }],
        ..Default::default()
    };
    let opened = client.call::<ShareFetch>(1, fetch(0, &Default::default())).await;
    assert_eq!(opened.responses[0].partitions[0].error_code, denied);
    let told = client.call::<ShareFetch>(1, fetch(1, &partition)).await;
    let row = &told.responses[0].partitions[0];
    assert_eq!(row.acknowledge_error_code, denied, "what it may not read it may not settle");
    served.stop().await;
}

#[tokio::test]
async fn who_may_write_somewhere_may_be_idempotent() {
    let served = Served::start(&[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    let asked = async |client: &mut Client| {
        let request = init_producer_id::Request {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        client.call::<InitProducerId>(4, request).await.error_code
    };
    let everything = acl((TOPIC, "*"), LITERAL, DESCRIBE, ALLOW);
    let alter = acl((CLUSTER, "kafka-cluster"), LITERAL, 7, ALLOW);
    create(&mut client, vec![everything, alter]).await;
    assert_eq!(asked(&mut client).await, ErrorCode::ClusterAuthorizationFailed.code());
    create(&mut client, vec![acl((TOPIC, "mine"), PREFIXED, WRITE, ALLOW)]).await;
    assert_eq!(asked(&mut client).await, 0);
    served.stop().await;
}

#[tokio::test]
async fn without_an_authorizer_acls_are_refused_and_nothing_else_is() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    let disabled = ErrorCode::SecurityDisabled;
    let created = create(&mut client, vec![acl((TOPIC, "t"), LITERAL, READ, DENY)]).await;
    assert_eq!(created, [disabled]);
    let request = delete_acls::Request { filters: vec![everything()] };
    let deleted = client.call::<DeleteAcls>(3, request).await;
    assert_eq!(deleted.filter_results[0].error_code, disabled.code());
    let told = client.call::<DescribeAcls>(3, describe_acls::Request::default()).await;
    assert_eq!(told.error_code, disabled.code());
    served.stop().await;
}
