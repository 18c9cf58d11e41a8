//! A volume that another broker wrote: whoever is started with it goes on.

use super::*;
use crate::volume::Volume;
use std::collections::BTreeSet;
use vocabulary::SegmentName;

const KIB: u64 = 1024;

async fn opened(
    volume: &MemoryVolume,
    broker: i32,
    epoch: u64,
) -> Result<(Wal, Vec<RecoveredSegment>, MemoryVolume), WalError> {
    let environment = Environment::simulated(epoch);
    let volume = volume.remount(&environment);
    let options = WalOptions::new(BrokerId(broker), BrokerEpoch(epoch));
    let backend = file_wal(&volume, &environment, 64 * KIB);
    let (wal, recovered) = Wal::open(backend, options, &environment).await?;
    Ok((wal, recovered, volume))
}

async fn append_some(wal: &Wal, ears: &Ears, count: i64) {
    for _ in 0..count {
        let heard = hear(ears).len();
        append(wal, ears, 0, Offset(2 * heard as i64), 10_000).await;
        while hear(ears).len() == heard {
            tokio::task::yield_now().await;
        }
    }
}

fn writers(recovered: &[RecoveredSegment]) -> Vec<(u64, i32, u64)> {
    let writer = |it: &RecoveredSegment| match it.index.name {
        SegmentName::Wal { broker, epoch, sequence } => (sequence, broker.0, epoch.0),
        SegmentName::Data(id) => panic!("{id} is no WAL segment"),
    };
    recovered.iter().map(writer).collect()
}

#[tokio::test(start_paused = true)]
async fn a_moved_volume_is_recovered_and_continued_by_whoever_has_it() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    assert_eq!(FileWal::owners(&volume).await.expect("lists"), BTreeSet::new());
    let mut expected = Vec::new();
    for (broker, epoch) in [(1, 1), (7, 4), (2, 5), (7, 9)] {
        let (wal, recovered, _) = opened(&volume, broker, epoch).await.expect("opens");
        assert_eq!(writers(&recovered), expected, "as {broker} in {epoch}");
        let owners = expected.iter().map(|it: &(u64, i32, u64)| BrokerId(it.1)).collect();
        assert_eq!(owners_of(&recovered), owners);
        append_some(&wal, &ears, 3).await;
        for sequence in expected.len() as u64..expected.len() as u64 + 3 {
            expected.push((sequence, broker, epoch));
        }
        wal.shutdown().await;
        let owners = expected.iter().map(|it| BrokerId(it.1)).collect();
        assert_eq!(FileWal::owners(&volume).await.expect("reads"), owners);
    }
    let (wal, recovered, _) = opened(&volume, 3, 10).await.expect("opens");
    let batches = batches_of(&recovered);
    assert_eq!((batches.len(), wal.next_sequence()), (12, 12));
    for (index, (_, base, place)) in batches.into_iter().enumerate() {
        assert_eq!(base, Offset(2 * index as i64));
        let bytes = batch(base, 2, 10_000, base.0.unsigned_abs()).1;
        assert_eq!(wal.read(place).await.expect("reads"), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_moved_volume_survives_power_failures_of_both() {
    let environment = Environment::simulated(1);
    let (mut volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    for (broker, epoch) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
        let (wal, recovered, mounted) = opened(&volume, broker, epoch).await.expect("opens");
        assert_eq!(batches_of(&recovered).len(), hear(&ears).len());
        append_some(&wal, &ears, 4).await;
        mounted.crash();
        volume = mounted;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_later_registration_wrote_is_not_continued() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, _, _) = opened(&volume, 1, 8).await.expect("opens");
    append_some(&wal, &ears, 1).await;
    wal.shutdown().await;
    let error = opened(&volume, 2, 7).await.expect_err("epoch 8 is later than 7");
    assert!(matches!(error, WalError::NewerEpoch { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_file_with_a_torn_start_has_no_owner() {
    let environment = Environment::simulated(1);
    let volume = MemoryVolume::new(&environment);
    volume.create("00000000000000000000.wal", 4096).await.expect("creates");
    volume.create("notes.txt", 10).await.expect("creates");
    assert_eq!(FileWal::owners(&volume).await.expect("reads"), BTreeSet::new());
}
