//! Files: what a process finds of the one before it, what it refuses, how it outlives a bad disk.

use super::*;
use crate::segment::SegmentBuilder;
use crate::volume::{LocalVolume, MemoryFaults, Volume};
use environment::{Entropy, SeededEntropy, TaskKind};
use vocabulary::SegmentName;

const KIB: u64 = 1024;

async fn open(backend: &Arc<FileWal>, environment: &Environment) -> (Wal, Vec<RecoveredSegment>) {
    let backend = Arc::clone(backend) as Arc<dyn WalBackend>;
    Wal::open(backend, options(), environment).await.expect("opens")
}

async fn reopen(volume: &MemoryVolume) -> Result<(Wal, Vec<RecoveredSegment>), WalError> {
    let environment = Environment::simulated(9);
    let backend = file_wal(&volume.remount(&environment), &environment, 64 * KIB);
    Wal::open(backend, options(), &environment).await
}

/// Appends one batch at a time and waits for each, so that each is a segment of its own.
async fn append_alone(wal: &Wal, ears: &Ears, count: i64, payload: usize) -> Vec<WalPlace> {
    let mut places = Vec::new();
    for _ in 0..count {
        let heard = hear(ears).len();
        append(wal, ears, 0, Offset(2 * heard as i64), payload).await;
        while hear(ears).len() == heard {
            tokio::task::yield_now().await;
        }
        match hear(ears)[heard] {
            Heard::Durable { place, .. } => places.push(place),
            Heard::Lost { base, .. } => panic!("{base} was lost"),
        }
    }
    places
}

async fn names(volume: &MemoryVolume) -> Vec<String> {
    volume.list().await.expect("lists").into_iter().map(|it| it.name).collect()
}

async fn check_places(wal: &Wal, places: &[WalPlace], payload: usize) {
    for (index, place) in places.iter().enumerate() {
        let base = Offset(2 * index as i64);
        let expected = batch(base, 2, payload, base.0.unsigned_abs()).1;
        assert_eq!(wal.read(*place).await.expect("reads"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_everything_and_goes_on() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, recovered) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    assert_eq!((recovered, wal.next_sequence()), (vec![], 0));
    let mut places = append_alone(&wal, &ears, 20, 10_000).await; // Five to a file.
    assert_eq!(names(&volume).await.len(), 4);
    check_places(&wal, &places, 10_000).await;
    wal.shutdown().await;

    let (wal, recovered) = reopen(&volume).await.expect("opens");
    let found: Vec<_> = batches_of(&recovered).into_iter().map(|it| it.2).collect();
    assert_eq!((&found, wal.next_sequence()), (&places, 20));
    check_places(&wal, &places, 10_000).await;
    places.extend(append_alone(&wal, &ears, 5, 10_000).await);
    check_places(&wal, &places, 10_000).await;
    wal.shutdown().await;
    let (_, recovered) = reopen(&volume).await.expect("opens");
    assert_eq!(batches_of(&recovered).len(), 25);
}

#[tokio::test]
async fn a_real_disk_keeps_a_log_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let (environment, ears) = (Environment::system(), Ears::default());
    let mut places = Vec::new();
    for life in 0..3 {
        let volume = Arc::new(LocalVolume::open(directory.path()).await.expect("opens"));
        let options = FileWalOptions { file_bytes: ByteCount(64 * KIB), ..Default::default() };
        let backend = Arc::new(FileWal::new(volume, options, &environment));
        let (wal, recovered) = open(&backend, &environment).await;
        assert_eq!(batches_of(&recovered).len(), 10 * life);
        places.extend(append_alone(&wal, &ears, 10, 10_000).await);
        check_places(&wal, &places, 10_000).await;
        wal.shutdown().await;
        tokio::task::yield_now().await; // The committer's own handle goes with its task.
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_larger_than_a_file_gets_one_of_its_own() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    let places = append_alone(&wal, &ears, 3, 200_000).await;
    assert_eq!(names(&volume).await.len(), 3);
    wal.shutdown().await;
    let (wal, _) = reopen(&volume).await.expect("opens");
    check_places(&wal, &places, 200_000).await;
}

#[tokio::test(start_paused = true)]
async fn idle_restarts_leave_no_files_behind() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    append_alone(&wal, &ears, 3, 1000).await;
    wal.shutdown().await;
    for _ in 0..5 {
        let (wal, recovered) = reopen(&volume).await.expect("opens");
        assert_eq!(recovered.len(), 3);
        assert_eq!(names(&volume).await.len(), 2, "the log and the copy of its end");
        wal.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn trimming_deletes_whole_files_but_never_the_end() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    let places = append_alone(&wal, &ears, 20, 10_000).await;
    wal.trim(9).await;
    assert_eq!(names(&volume).await[0], "00000000000000000005.wal", "9 is in the second file");
    assert!(wal.read(places[5]).await.is_ok());
    let error = wal.read(places[4]).await.expect_err("is trimmed");
    assert_eq!(error.to_string(), "no such bytes in WAL segment 4");
    wal.trim(u64::MAX).await;
    assert_eq!(names(&volume).await, ["00000000000000000015.wal"]);
    wal.shutdown().await;

    let (wal, recovered) = reopen(&volume).await.expect("opens");
    assert_eq!((recovered.len(), wal.next_sequence()), (5, 20));
    wal.trim(u64::MAX).await;
    assert_eq!(names(&volume).await, ["00000000000000000019.wal"], "the copy of the end");
    wal.shutdown().await;
    let (wal, _) = reopen(&volume).await.expect("opens");
    assert_eq!(wal.next_sequence(), 20);
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_is_refused_by_name_and_place() {
    // Header, index and footer of segment 2, which lies 24 KiB into the first file.
    let segment = 10_061 + 64 + 40 + 60;
    for at in [0, 70 + 10_061, segment - 20] {
        let environment = Environment::simulated(1);
        let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
        let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
        append_alone(&wal, &ears, 7, 10_000).await;
        wal.shutdown().await;
        volume.corrupt("00000000000000000000.wal", 24 * KIB + at);
        let error = reopen(&volume).await.expect_err("acknowledged data is gone").to_string();
        let expected = "00000000000000000000.wal is corrupt at byte 24576: segment 2 is missing";
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_end_is_a_torn_write() {
    for at in [0, 5000, 70 + 10_061] {
        let environment = Environment::simulated(1);
        let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
        let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
        append_alone(&wal, &ears, 3, 10_000).await;
        wal.shutdown().await;
        volume.corrupt("00000000000000000000.wal", 24 * KIB + at);
        let (wal, recovered) = reopen(&volume).await.expect("opens");
        assert_eq!((recovered.len(), wal.next_sequence()), (2, 2));
        // Another segment 2 is written; the torn one stays where it is and is never mistaken for it.
        hear(&ears).truncate(2);
        append_alone(&wal, &ears, 2, 500).await;
        wal.shutdown().await;
        let (wal, recovered) = reopen(&volume).await.expect("opens");
        let lengths: Vec<_> = batches_of(&recovered).iter().map(|it| it.2.length).collect();
        assert_eq!((lengths, wal.next_sequence()), (vec![10_061, 10_061, 561, 561], 4));
    }
}

/// The bytes of a log file with one segment for each of `(sequence, stamp)`.
fn forged(segments: &[(u64, u64)]) -> Bytes {
    let mut file = Vec::new();
    for (sequence, stamp) in segments {
        let (broker, epoch, sequence) = (BrokerId(1), BrokerEpoch(1), *sequence);
        let mut builder =
            SegmentBuilder::new(SegmentName::Wal { broker, epoch, sequence }).stamped(*stamp);
        let (header, bytes) = batch(Offset(2 * sequence.cast_signed()), 2, 100, 1);
        builder.push(partition(0), LeaderEpoch(0), &header, bytes);
        file.resize(file.len().next_multiple_of(4096), 0);
        file.extend(builder.finish().chunks.concat());
    }
    Bytes::from(file)
}

async fn recover_forged(files: &[(&str, Bytes)]) -> Result<Vec<u64>, WalError> {
    let volume = MemoryVolume::new(&Environment::simulated(1));
    for (name, bytes) in files {
        let file = volume.create(name, 0).await.expect("creates");
        file.write_synced(0, Arc::new(vec![bytes.clone()])).await.expect("writes");
    }
    let recovered = reopen(&volume).await?.1;
    Ok(recovered.into_iter().map(|it| it.sequence).collect())
}

#[tokio::test(start_paused = true)]
async fn old_bytes_behind_the_end_are_not_taken_for_segments() {
    let name = "00000000000000000007.wal";
    // Of an earlier life of the same blocks, or payload that looks like a segment.
    let file = forged(&[(7, 1), (8, 1), (9, 2), (10, 2)]);
    assert_eq!(recover_forged(&[(name, file)]).await.expect("recovers"), [7, 8]);
    let file = forged(&[(7, 1), (8, 1), (4, 1), (5, 1)]);
    assert_eq!(recover_forged(&[(name, file)]).await.expect("recovers"), [7, 8]);
    // Of this life, so something between is gone.
    let file = forged(&[(7, 1), (8, 1), (10, 1)]);
    let error = recover_forged(&[(name, file)]).await.expect_err("9 is gone").to_string();
    assert!(error.contains("segment 9 is missing although segment 10 was begun"), "{error}");
}

// Goal: whatever a disk makes of the files, recovery gives a prefix or refuses, and never panics.
#[tokio::test(start_paused = true)]
async fn any_damage_is_cut_or_refused() {
    let entropy = SeededEntropy::new(1);
    let (mut cut, mut refused) = (0, 0);
    for round in 0..1000 {
        let files = [(7, 3), (10, 1), (11, 0)].map(|(first, count)| {
            let segments: Vec<_> = (first..first + count).map(|it| (it, first)).collect();
            (format!("{first:020}.wal"), forged(&segments).to_vec())
        });
        let mut files = files.to_vec();
        let damaged = entropy.below(2) as usize;
        let bytes = &mut files[damaged].1;
        for _ in 0..=entropy.below(4) {
            // Where the fields are: frames hold about 300 bytes each.
            let at = (entropy.below(3) * 4096 + entropy.below(300)) as usize;
            match (entropy.below(3), bytes.get_mut(at)) {
                (0, Some(byte)) => *byte = entropy.next_u64() as u8,
                (1, Some(byte)) => *byte ^= 1 << entropy.below(8),
                (_, _) => bytes.truncate(at),
            }
        }
        let files: Vec<_> =
            files.iter().map(|it| (it.0.as_str(), Bytes::copy_from_slice(&it.1))).collect();
        match recover_forged(&files).await {
            Ok(sequences) => {
                // Only the last file is beyond proof; it is named, so 10 must be there.
                assert_eq!(sequences, [7, 8, 9, 10], "round {round}");
                cut += 1;
            }
            Err(WalError::Corrupt { .. } | WalError::Unsupported { .. }) => refused += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    assert!(10 < cut && 100 < refused, "{cut} harmless, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_later_format_is_refused_not_cut() {
    let mut bytes = forged(&[(0, 1), (1, 1)]).to_vec();
    bytes[4096 + 8] = 3;
    let crc = crc32_iscsi(&bytes[4096..4096 + 60]);
    bytes[4096 + 60..4096 + 64].copy_from_slice(&crc.to_le_bytes());
    let file = Bytes::from(bytes);
    let error = recover_forged(&[("00000000000000000000.wal", file)]).await.expect_err("unknown");
    let expected = "00000000000000000000.wal at byte 4096: \
                    the header has format version 3, this software reads up to 2";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_later_epoch_is_refused() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let backend = file_wal(&volume, &environment, 64 * KIB);
    let later = WalOptions { epoch: BrokerEpoch(4), ..options() };
    let (wal, _) = Wal::open(backend, later, &environment).await.expect("opens");
    append_alone(&wal, &ears, 1, 10).await;
    wal.shutdown().await;
    let error = reopen(&volume).await.expect_err("epoch 1 is over");
    assert_eq!(error.to_string(), "the log has segments of epoch 4, this is epoch 1");
}

#[tokio::test(start_paused = true)]
async fn files_of_others_are_left_alone() {
    let environment = Environment::simulated(1);
    let volume = MemoryVolume::new(&environment);
    volume.create("lost+found", 100).await.expect("creates");
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    append_alone(&wal, &Ears::default(), 1, 10).await;
    wal.trim(u64::MAX).await;
    assert_eq!(names(&volume).await, ["00000000000000000000.wal", "lost+found"]);
}

// Goal: a disk in trouble delays, says so, loses nothing, fills nothing, and is forgotten once healed.
#[tokio::test(start_paused = true)]
async fn a_failing_disk_is_retried_until_it_works() {
    let faults = |full, write, sync, directory| MemoryFaults {
        create_full_per_mille: full,
        write_fails_per_mille: write,
        sync_fails_per_mille: sync,
        directory_fails_per_mille: directory,
        ..MemoryFaults::default()
    };
    for planted in [
        faults(1000, 1000, 0, 0),
        faults(0, 1000, 0, 0),
        faults(0, 0, 1000, 0),
        faults(0, 0, 1000, 900),
    ] {
        let environment = Environment::simulated(1);
        let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
        let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
        append_alone(&wal, &ears, 2, 1000).await;
        volume.set_faults(planted.clone());
        append(&wal, &ears, 0, Offset(4), 1000).await;
        environment.clock.sleep(Duration::from_secs(600)).await;
        assert_eq!(hear(&ears).len(), 2, "nothing is acknowledged");
        assert!(matches!(wal.health(), WalHealth::Failing { .. }), "{planted:?}");
        let files = names(&volume).await.len();
        assert!(files <= 3 || planted.directory_fails_per_mille != 0, "{files} files, {planted:?}");

        volume.set_faults(MemoryFaults::default());
        environment.clock.sleep(Duration::from_secs(6)).await;
        assert_eq!((hear(&ears).len(), wal.health()), (3, WalHealth::Healthy));
        let places = append_alone(&wal, &ears, 1, 1000).await;
        assert_eq!(places[0].sequence, 3);
        let files = names(&volume).await;
        assert!(files.iter().any(|it| it.starts_with("00000000000000000002")), "{files:?}");
        volume.crash();
        let (wal, recovered) = reopen(&volume).await.expect("opens");
        assert_eq!((batches_of(&recovered).len(), wal.next_sequence()), (4, 4));
        wal.trim(u64::MAX).await;
        assert_eq!(names(&volume).await.len(), 1, "what could not be deleted then is now");
    }
}

#[tokio::test(start_paused = true)]
async fn space_given_back_by_a_trim_ends_a_full_disk() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let capacity_bytes = 3 * 64 * KIB;
    volume.set_faults(MemoryFaults { capacity_bytes, ..MemoryFaults::default() });
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    append_alone(&wal, &ears, 15, 10_000).await; // Three files, full.
    append(&wal, &ears, 0, Offset(30), 10_000).await;
    environment.clock.sleep(Duration::from_secs(60)).await;
    let WalHealth::Failing { reason, .. } = wal.health() else { panic!("the disk is full") };
    assert!(reason.starts_with("no space left to create 00000000000000000015"), "{reason}");
    wal.trim(5).await;
    environment.clock.sleep(Duration::from_secs(6)).await;
    assert_eq!((hear(&ears).len(), wal.health()), (16, WalHealth::Healthy));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_retries() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let (wal, _) = open(&file_wal(&volume, &environment, 64 * KIB), &environment).await;
    append_alone(&wal, &ears, 1, 10).await;
    volume.set_faults(MemoryFaults { sync_fails_per_mille: 1000, ..MemoryFaults::default() });
    append(&wal, &ears, 0, Offset(2), 10).await;
    environment.clock.sleep(Duration::from_secs(60)).await;
    let before = environment.clock.now();
    assert_eq!(environment.tasks.shutdown(Duration::from_secs(5)).await, Vec::<String>::new());
    assert!(environment.clock.now().since(before) < Duration::from_millis(1));
    assert_eq!(hear(&ears)[1], Heard::Lost { partition: 0, base: Offset(2) });
}

#[tokio::test(start_paused = true)]
async fn reads_and_trims_run_beside_writes() {
    let environment = Environment::simulated(1);
    let (volume, ears) = (MemoryVolume::new(&environment), Ears::default());
    let latency_max = Duration::from_millis(2);
    volume.set_faults(MemoryFaults { latency_max, ..MemoryFaults::default() });
    let (wal, _) = open(&file_wal(&volume, &environment, 16 * KIB), &environment).await;
    let reader = {
        let (wal, ears) = (wal.clone(), Arc::clone(&ears));
        let clock = Arc::clone(&environment.clock);
        environment.tasks.spawn(TaskKind::Background, "reader", async move {
            let mut read = 0;
            while read < 50 {
                clock.sleep(Duration::from_micros(700)).await;
                let last = hear(&ears).last().copied();
                if let Some(Heard::Durable { end, place, .. }) = last {
                    let bytes = wal.read(place).await.expect("the newest is never trimmed");
                    let header = BatchHeader::parse(&bytes).expect("a batch");
                    assert_eq!(header.end_offset(), end);
                    wal.trim(place.sequence).await;
                    read += 1;
                }
            }
        })
    };
    let mut end = Offset(0);
    for _ in 0..300 {
        end = append(&wal, &ears, 0, end, 1000).await;
        environment.clock.sleep(Duration::from_micros(500)).await;
    }
    reader.await.expect("no panic");
    wal.shutdown().await;
    assert_eq!(hear(&ears).len(), 300);
}
