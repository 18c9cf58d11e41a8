//! What is left over below `wal/`, and what must stay there.

use super::world::World;
use crate::segment::segment_key;
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind, WalLedger};
use bucket::{Bucket, Key, Purpose};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, SegmentName, Timestamp};

const CLOSED: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(3) };
const OPEN: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(4) };
const UNKNOWN: WalId = WalId { broker: BrokerId(2), epoch: BrokerEpoch(5) };

/// Longer than the interval of the sweep.
const SWEPT: Duration = Duration::from_secs(4200);

/// A world so far ahead of the store's clock, which is the machine's, that every object is old.
const FAR_AHEAD: Timestamp = Timestamp(7_000_000_000_000);

fn key(log: WalId, sequence: u64) -> Key {
    let WalId { broker, epoch } = log;
    segment_key(SegmentName::Wal { broker, epoch, sequence })
}

/// Ten objects of each log: the closed one ends with its fence at 6, the open one is trimmed to 4.
async fn fill(world: &World, ledger: &MemoryWalLedger) {
    for log in [CLOSED, OPEN, UNKNOWN] {
        for sequence in 0..10 {
            let body = vec![Bytes::from_static(b"x")];
            let put = world.bucket.put_new(&key(log, sequence), body, Purpose::Wal).await;
            put.expect("stored");
        }
    }
    for log in [CLOSED, OPEN] {
        ledger.register(log, WalKind::Bucket, &[]);
    }
    ledger.closed(CLOSED, 6).await.expect("it answers");
    ledger.trimmed(OPEN, 4).await.expect("it answers");
}

async fn left(world: &World) -> Vec<Key> {
    let listed = world.bucket.list(&Key::new("wal"), None, 1000).await.expect("it lists");
    listed.into_iter().map(|it| it.key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_log_keeps_its_fence_and_what_a_walk_needs() {
    let world = World::starting_at(1, FAR_AHEAD);
    let ledger = Arc::new(MemoryWalLedger::new());
    fill(&world, &ledger).await;
    let life = world.start().await;
    world.sleep(SWEPT).await;
    assert_eq!(left(&world).await.len(), 30, "without a ledger nobody knows");
    life.engine.sweep_logs(Arc::<MemoryWalLedger>::clone(&ledger));
    ledger.refuse_calls(1);
    world.sleep(SWEPT).await;
    assert_eq!(left(&world).await.len(), 30, "nor without an answer");
    world.sleep(SWEPT).await;
    let mut kept = vec![key(CLOSED, 6)];
    kept.extend((4..10).map(|it| key(OPEN, it)));
    kept.extend((0..10).map(|it| key(UNKNOWN, it)));
    assert_eq!(left(&world).await, kept, "A4, A7");
}

#[tokio::test(start_paused = true)]
async fn what_is_young_stays() {
    let world = World::new(2); // Behind the machine's time.
    let ledger = Arc::new(MemoryWalLedger::new());
    fill(&world, &ledger).await;
    let life = world.start().await;
    life.engine.sweep_logs(ledger);
    world.sleep(2 * SWEPT).await;
    assert_eq!(left(&world).await.len(), 30);
}
