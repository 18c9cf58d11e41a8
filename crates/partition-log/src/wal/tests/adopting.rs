//! What an adoption makes of logs that do not fit: gaps, deleted topics, partitions that moved.

use super::*;
use crate::run_index::{MemoryRunIndex, RunIndex};
use crate::segment::{SegmentBuilder, segment_key};
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind, WalLedger};
use bucket::{Bucket, Faults, LyingBucket, Purpose};
use vocabulary::SegmentName;

const OWN: WalId = WalId { broker: BrokerId(9), epoch: BrokerEpoch(99) };

struct World {
    environment: Environment,
    bucket: LyingBucket,
    runs: MemoryRunIndex,
    ledger: MemoryWalLedger,
}

impl World {
    fn new() -> World {
        let environment = Environment::simulated(1);
        let runs = MemoryRunIndex::new(Arc::clone(&environment.clock));
        for index in 0..3 {
            runs.create(partition(index));
        }
        let bucket = LyingBucket::new(1, Faults::NONE, &environment);
        World { bucket, runs, ledger: MemoryWalLedger::new(), environment }
    }

    /// A log with one segment for each list of batches: partition and base offset, two records each.
    async fn log(&self, broker: i32, epoch: u64, segments: &[&[(i32, i64)]]) -> WalId {
        let id = WalId { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) };
        self.ledger.register(id, WalKind::Bucket, &[]);
        for (sequence, batches) in (0..).zip(segments) {
            let name = SegmentName::Wal { broker: id.broker, epoch: id.epoch, sequence };
            let mut builder = SegmentBuilder::new(name);
            for (index, base) in *batches {
                let (header, bytes) = batch(Offset(*base), 2, 10, 1);
                builder.push(partition(*index), LeaderEpoch(0), &header, bytes);
            }
            let chunks = builder.finish().chunks;
            self.bucket.put_new(&segment_key(name), chunks, Purpose::Wal).await.expect("stored");
        }
        id
    }

    async fn adopt(&self) -> Adopted {
        let (bucket, ledger) = (&self.bucket, &self.ledger);
        let adopted = adopt_logs(bucket, &self.runs, ledger, OWN, &self.environment).await;
        adopted.expect("takes over")
    }

    fn ends(&self) -> [i64; 3] {
        [0, 1, 2].map(|index| self.runs.facts(partition(index)).map_or(-1, |it| it.committed_end.0))
    }

    async fn open_logs(&self) -> Vec<WalId> {
        let logs = self.ledger.logs().await.expect("answers");
        logs.into_iter().filter(|it| it.fence.is_none()).map(|it| it.id).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_keeps_its_log_open_and_stops_nobody_else() {
    let world = World::new();
    let gap = world.log(1, 1, &[&[(0, 0), (1, 0)], &[(1, 4), (0, 2)], &[(1, 6), (2, 0)]]).await;
    world.log(2, 2, &[&[]]).await;
    for _ in 0..2 {
        let adopted = world.adopt().await;
        assert_eq!(adopted.damaged.keys().copied().collect::<Vec<_>>(), [partition(1)]);
        let reason = &adopted.damaged[&partition(1)];
        assert!(reason.contains("it goes on at 4, the committed end is 2"), "{reason}");
        assert_eq!((world.ends(), world.open_logs().await), ([4, 2, 2], vec![gap]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moved_is_adopted_from_log_to_log() {
    let world = World::new();
    // The ledger names the later part first.
    world.log(1, 7, &[&[(0, 4)], &[(0, 6)]]).await;
    world.log(2, 3, &[&[(0, 2)]]).await;
    world.log(3, 1, &[&[(0, 0)]]).await;
    let adopted = world.adopt().await;
    assert_eq!((adopted.logs, adopted.runs, adopted.damaged.len()), (3, 4, 0));
    assert_eq!((world.ends(), world.open_logs().await), ([8, 0, 0], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_nobodys_loss() {
    let world = World::new();
    world.log(1, 1, &[&[(0, 0), (7, 0)], &[(7, 2)]]).await;
    let adopted = world.adopt().await;
    assert_eq!((adopted.logs, adopted.runs, adopted.damaged.len()), (1, 1, 0));
    assert_eq!(adopted.bytes, 71, "one batch");
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_are_asked_for_again() {
    for (lost, refused) in [(1, 0), (3, 0), (0, 4), (2, 5)] {
        let world = World::new();
        world.log(1, 1, &[&[(0, 0), (1, 0)], &[(0, 2), (2, 0)]]).await;
        world.runs.lose_answers(lost);
        world.runs.refuse_calls(refused);
        world.ledger.lose_answers(lost);
        world.ledger.refuse_calls(refused);
        let adopted = world.adopt().await;
        assert_eq!((adopted.logs, adopted.damaged.len()), (1, 0));
        assert_eq!((world.ends(), world.open_logs().await), ([4, 2, 2], vec![]));
        let kept = world.runs.kept_producers(partition(0)).await.expect("answers");
        assert_eq!(kept.map(|it| it.as_of), Some(Offset(4)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_registered_again_ends_nothing() {
    let world = World::new();
    world.log(9, 100, &[&[(0, 0)]]).await;
    let (bucket, ledger) = (&world.bucket, &world.ledger);
    let error = adopt_logs(bucket, &world.runs, ledger, OWN, &world.environment).await;
    assert_eq!(error, Err(AdoptError::Superseded { own: OWN, found: BrokerEpoch(100) }));
    assert_eq!(world.open_logs().await.len(), 1);
}
