//! The store over real object stores: what is committed is there again, byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use environment::Environment;
use object_store::memory::InMemory;
use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId,
};

use super::*;
use crate::controller::{Controller, SubmitError};
use crate::state::{CommitRuns, RegisterBroker, WalKind};

async fn open(store: &Arc<InMemory>, environment: &Environment) -> Controller {
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    let options = StoreOptions::default();
    Controller::open(store, "meta", "cluster".into(), &options, environment).await.unwrap()
}

fn register() -> RegisterBroker {
    RegisterBroker {
        id: BrokerId(1),
        host: "h".into(),
        port: 9,
        rack: None,
        wal: WalKind::File,
        volume: None,
        gives_up: None,
        takes_over: Vec::new(),
    }
}

fn commit(epoch: BrokerEpoch, partition: Partition, base: i64, end: i64) -> CommitRuns {
    let segment = SegmentName::data(end as u128);
    let run = Run {
        partition,
        leader_epoch: LeaderEpoch(0),
        base: Offset(base),
        end: Offset(end),
        max_timestamp: Timestamp(7),
        segment,
        position: 0,
        length: 10,
        crc: 1,
    };
    CommitRuns {
        broker: BrokerId(1),
        broker_epoch: epoch,
        segment,
        segment_bytes: 100,
        created: Timestamp(1),
        runs: vec![run],
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let bucket = Arc::new(InMemory::new());
    let environment = Environment::simulated(1);
    let controller = open(&bucket, &environment).await;
    let epoch = controller.register_broker(register()).await.unwrap();
    let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let topic = controller.create_topic("t", 3, configs).await.unwrap().unwrap();
    let gone = controller.create_topic("gone", 1, BTreeMap::new()).await.unwrap().unwrap();
    let partition = Partition { topic: topic.id, index: 1 };
    for (base, end) in [(0, 5), (5, 9), (9, 20)] {
        let refused = controller.commit_runs(commit(epoch, partition, base, end)).await;
        assert_eq!(refused.unwrap().unwrap(), []);
    }
    controller.advance_log_start(partition, Offset(5), None).await.unwrap().unwrap();
    controller.delete_topic(gone.id).await.unwrap().unwrap();
    let changes = BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]);
    controller.alter_broker_configs(None, changes.clone()).await.unwrap();
    controller.alter_group_configs("g", changes).await.unwrap().unwrap();
    let acl = |name: &str| crate::Acl {
        resource: crate::AclResource::Group,
        pattern: crate::AclPattern::Prefixed,
        name: name.to_owned(),
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation: crate::AclOperation::All,
        permission: crate::AclPermission::Deny,
    };
    let created = controller.create_acls(vec![acl("kept"), acl("gone")]).await;
    assert_eq!(created, Ok(vec![Ok(()), Ok(())]));
    assert_eq!(controller.view().acl_generation(), 1);
    let gone = crate::AclFilter { name: Some("gone".to_owned()), ..crate::AclFilter::ALL };
    let deleted = controller.delete_acls(vec![gone]).await.unwrap();
    assert_eq!(deleted[0].len(), 1);
    assert_eq!(controller.view().acls(), (2, vec![std::sync::Arc::new(acl("kept"))]));
    assert_eq!(controller.allocate_producer_ids(1000).await.unwrap(), 0..1000);
    while controller.view().dropping().is_some() {
        tokio::task::yield_now().await;
    }
    let before = controller.view().with_state(State::clone);
    // No close: a kill.
    let second = open(&bucket, &environment).await;
    assert_eq!(second.view().with_state(State::clone), before);
    assert_eq!(second.allocate_producer_ids(1).await.unwrap(), 1000..1001);
    let ends = |runs: Vec<Run>| runs.iter().map(|run| run.end.0).collect::<Vec<_>>();
    let from = |offset| second.runs_from(partition, Offset(offset), 10);
    assert_eq!(ends(from(0).await.unwrap()), [9, 20], "the first run was dropped");
    assert_eq!(ends(from(8).await.unwrap()), [9, 20]);
    assert_eq!(ends(from(9).await.unwrap()), [20], "ends are exclusive");
    assert_eq!(ends(from(20).await.unwrap()), Vec::<i64>::new());
    assert_eq!(second.last_run(partition).await.unwrap().unwrap().end, Offset(20));
    assert_eq!(second.view().garbage(10).len(), 1);
    assert_eq!(second.view().topics().len(), 1);
}

#[tokio::test]
async fn the_second_to_open_fences_the_first() {
    let bucket = Arc::new(InMemory::new());
    let environment = Environment::simulated(2);
    let first = open(&bucket, &environment).await;
    first.register_broker(register()).await.unwrap();
    let second = open(&bucket, &environment).await;
    second.register_broker(register()).await.unwrap();
    let refused = first.create_topic("t", 1, BTreeMap::new()).await;
    assert_eq!(refused.map(|_| ()), Err(SubmitError::Fenced));
    let again = first.create_topic("t", 1, BTreeMap::new()).await;
    assert_eq!(again.map(|_| ()), Err(SubmitError::Fenced), "for ever");
    assert!(second.create_topic("t", 1, BTreeMap::new()).await.unwrap().is_ok());
}

#[tokio::test]
async fn the_log_goes_on_in_the_next_epoch() {
    let bucket = Arc::new(InMemory::new());
    let environment = Environment::simulated(5);
    let first = open(&bucket, &environment).await;
    let empty = first.log_position().expect("it is the writer");
    first.register_broker(register()).await.unwrap();
    let one = first.log_position().expect("it is the writer");
    assert_eq!(one, LogPosition { epoch: empty.epoch, end: empty.end + 1 });
    first.create_topic("t", 1, BTreeMap::new()).await.unwrap().unwrap();
    let two = first.log_position().expect("it is the writer");
    assert_eq!(two.end, one.end + 1, "a batch is one write");
    first.create_topic("t", 1, BTreeMap::new()).await.unwrap().unwrap_err();
    assert_eq!(first.log_position(), Some(two), "nothing was written");
    // No close: a kill.
    let second = open(&bucket, &environment).await;
    let opened = second.log_position().expect("it is the writer");
    assert_eq!(opened.end, two.end);
    assert!(two.epoch < opened.epoch);
    first.create_topic("u", 1, BTreeMap::new()).await.unwrap_err();
    assert_eq!(first.log_position(), None, "another one writes now");
}

#[tokio::test]
async fn many_commands_at_once_are_all_answered() {
    let bucket = Arc::new(InMemory::new());
    let controller = open(&bucket, &Environment::simulated(3)).await;
    controller.register_broker(register()).await.unwrap();
    let create = |number: usize| {
        let controller = controller.clone();
        async move { controller.create_topic(&format!("t{number}"), 1, BTreeMap::new()).await }
    };
    let created = futures::future::join_all((0..300).map(create)).await;
    assert!(created.iter().all(|it| matches!(it, Ok(Ok(_)))));
    assert_eq!(controller.view().topics().len(), 300);
}

#[tokio::test]
async fn followers_are_told_after_it_is_durable() {
    let bucket = Arc::new(InMemory::new());
    let controller = open(&bucket, &Environment::simulated(4)).await;
    controller.register_broker(register()).await.unwrap();
    let mut changes = controller.view().changes();
    let topic = controller.create_topic("t", 1, BTreeMap::new()).await.unwrap().unwrap();
    assert_eq!(changes.next().await, Some(crate::TopicChange::Changed(topic.clone())));
    controller.delete_topic(topic.id).await.unwrap().unwrap();
    let deleted = crate::TopicChange::Deleted { id: topic.id, name: "t".into() };
    assert_eq!(changes.next().await, Some(deleted));
    assert_eq!(controller.view().topic_by_id(TopicId::ZERO), None);
}

/// Who looks at another's database cannot tell a file that was replaced from one that is lost, and is told so. The
/// database's own process knows: nobody takes files away from it.
#[tokio::test]
async fn a_file_that_is_gone_is_told_from_a_damaged_one() {
    let bucket = Arc::new(InMemory::new());
    let environment = Environment::simulated(6);
    let options = StoreOptions { memtable_bytes: 1024, ..StoreOptions::default() };
    let store: Arc<dyn ObjectStore> = Arc::clone(&bucket) as _;
    let name = "cluster".to_owned();
    let opened = Controller::open(Arc::clone(&store), "meta", name, &options, &environment).await;
    let controller = opened.unwrap();
    controller.register_broker(register()).await.unwrap();
    for number in 0..100 {
        controller.create_topic(&format!("t{number}"), 1, BTreeMap::new()).await.unwrap().unwrap();
    }
    controller.close().await;
    let looked = MetadataReader::open(Arc::clone(&store), "meta", &environment).await;
    assert_eq!(looked.unwrap().unwrap().brokers().len(), 1);

    let sorted = object_store::path::Path::from("meta/compacted");
    let files: Vec<_> =
        futures::TryStreamExt::try_collect(bucket.list(Some(&sorted))).await.unwrap();
    let files: Vec<object_store::ObjectMeta> = files;
    assert_ne!(files, [], "the test itself works");
    for file in files {
        object_store::ObjectStoreExt::delete(&*bucket, &file.location).await.unwrap();
    }
    let looked = MetadataReader::open(Arc::clone(&store), "meta", &environment).await;
    let told = looked.map(drop).unwrap_err();
    assert!(matches!(&told, StoreError::Gone(file) if file.contains("meta/compacted")), "{told:?}");
    let inspected = MetadataInspection::open(Arc::clone(&store), "meta", &environment).await;
    assert!(matches!(inspected.map(drop), Err(StoreError::Gone(_))));
    let own = Store::open(store, "meta", &options, &environment).await;
    assert!(matches!(own.map(drop), Err(StoreError::Corrupt { .. })));
}

/// SlateDB says that it is fenced where it cannot know. Only an opening knows.
#[tokio::test]
async fn a_read_never_says_that_another_process_has_taken_over() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let environment = Environment::simulated(7);
    let options = StoreOptions::default();
    let open = || Store::open(Arc::clone(&bucket), "meta", &options, &environment);
    let (first, _) = open().await.unwrap();
    let (_second, _) = open().await.unwrap();
    let db = first.opened().db;
    db.put(b"x", b"y").await.unwrap();
    let told = db.flush().await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Closed(CloseReason::Fenced));
    let partition = Partition { topic: TopicId([1; 16]), index: 0 };
    let unavailable = |it| matches!(it, StoreError::Unavailable(_));
    assert!(first.runs_from(partition, Offset::ZERO, 1).await.is_err_and(unavailable));
    assert!(first.kept_producers(partition).await.is_err_and(unavailable));
    assert!(first.shorten_log().await.is_err_and(unavailable));
    assert_eq!(first.revive().await, Err(StoreError::Fenced));
}
