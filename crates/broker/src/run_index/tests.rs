use std::collections::BTreeMap;

use bucket::StoreBucket;
use cluster::RegisterBroker;
use environment::Environment;
use partition_log::run_index::conformance::{Fresh, conforms};
use vocabulary::LeaderEpoch;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_cluster_keeps_the_promises_the_log_relies_on() {
    let environment = Environment::simulated(1);
    let store = StoreBucket::memory(&environment).object_store();
    let options = cluster::StoreOptions::default();
    let opened = Controller::open(store, "meta", "test".to_owned(), &options, &environment);
    let controller = opened.await.unwrap();
    let id = BrokerId(1);
    let command = || RegisterBroker {
        id,
        host: "h".to_owned(),
        port: 9092,
        rack: None,
        wal: cluster::WalKind::Bucket,
        volume: None,
        gives_up: None,
        takes_over: Vec::new(),
    };
    let before = controller.register_broker(command()).await.unwrap();
    let topic = controller.create_topic("t", 3, BTreeMap::new()).await.unwrap().unwrap();
    let epoch = controller.register_broker(command()).await.unwrap(); // Raises the leader epochs.
    let index = ClusterRunIndex::new(controller.clone(), id, epoch);
    let partitions = [0, 1, 2].map(|index| Partition { topic: topic.id, index });
    let now = environment.clock.wall();
    conforms(&index, Fresh { partitions, leader_epoch: LeaderEpoch(1), now }).await;
    let logs = [before, epoch].map(|epoch| WalId { broker: id, epoch });
    partition_log::wal::ledger::conformance::conforms(&index, logs).await;

    let later = controller.register_broker(command()).await.unwrap();
    assert!(epoch < later);
    let id = WalId { broker: id, epoch };
    assert_eq!(index.trimmed(id, 1).await, Err(RunIndexError::Fenced), "A4: registered anew");
    assert_eq!(index.closed(id, 1).await, Err(RunIndexError::Fenced), "A4");
    let nothing = Adoption { segments: Vec::new(), producers: Vec::new() };
    assert_eq!(index.adopt(nothing).await, Err(RunIndexError::Fenced), "A4");

    // The log of a deleted topic is not held against the runs that are still being dropped.
    let (left, run) = (partitions[1], index.last_run(partitions[1]).await);
    assert!(run.is_ok_and(|it| it.is_some()), "the suite has left runs of it");
    controller.delete_topic(topic.id).await.unwrap().unwrap();
    assert_eq!(index.last_run(left).await, Ok(None));
    assert_eq!(index.kept_producers(left).await, Ok(None));
    controller.close().await;
}
