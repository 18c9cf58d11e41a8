use super::*;
use bytes::Bytes;
use environment::Environment;
use protocol::messages::RecordChunks;

const KIB: usize = 1024;

/// A partition of a store that answers after `delay`, with batches of these sizes.
#[derive(Debug, Clone)]
struct Stored {
    delay: Duration,
    batches: Vec<usize>,
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn stored(delay: Duration, batches: &[usize]) -> Stored {
    Stored { delay, batches: batches.to_vec() }
}

fn data(batches: &[usize]) -> PartitionData {
    let chunks = batches.iter().map(|bytes| Bytes::from(vec![0; *bytes])).collect();
    PartitionData { records: Some(RecordChunks(chunks)), ..Default::default() }
}

impl Stored {
    /// Whole batches that fit, and the first whatever its size if it may exceed.
    fn fitting(&self, bytes: usize, may_exceed: bool) -> &[usize] {
        let mut sum = 0;
        let fits = |size: &&usize| {
            let is_first = sum == 0;
            sum += **size;
            sum <= bytes || (is_first && may_exceed)
        };
        let count = self.batches.iter().take_while(fits).count();
        &self.batches[..count]
    }
}

/// What each partition gets, in bytes, and how long all of it took.
async fn fetch(
    partitions: &[Stored],
    share: usize,
    bytes_max: usize,
    deadline: Duration,
) -> (Vec<Option<usize>>, Duration) {
    let environment = Environment::simulated(1);
    let clock = &*environment.clock;
    let begun = clock.now();
    let shares = vec![share; partitions.len()];
    let read = |number: usize, bytes, may_exceed| async move {
        let partition: &Stored = &partitions[number];
        if !partition.delay.is_zero() {
            clock.sleep(partition.delay).await;
        }
        data(partition.fitting(bytes, may_exceed))
    };
    let deadline = begun.plus(deadline);
    let reads = Reads { clock, deadline, bytes_max, shares: &shares, read };
    let answers = reads.run().await;
    let bytes = answers.iter().map(|data| data.as_ref().map(bytes_of)).collect();
    (bytes, clock.now().since(begun))
}

/// The same, one after another and without a deadline: what each partition is entitled to.
fn in_turn(partitions: &[Stored], share: usize, bytes_max: usize) -> Vec<Option<usize>> {
    let mut left = bytes_max;
    let mut is_first = true;
    let mut answers = Vec::new();
    for partition in partitions {
        let served: usize = partition.fitting(left.min(share), is_first).iter().sum();
        is_first &= served == 0;
        left = left.saturating_sub(served);
        answers.push(Some(served));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn cold_partitions_are_read_at_once_but_not_all_of_them() {
    let cold = vec![stored(ms(100), &[KIB]); 2 * READS_AT_ONCE];
    let (bytes, took) = fetch(&cold, 4 * KIB, 1024 * KIB, ms(5000)).await;
    assert_eq!(bytes, vec![Some(KIB); 2 * READS_AT_ONCE]);
    assert!((ms(200)..ms(300)).contains(&took), "two rounds, not {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_stuck_ends_the_fetch_at_its_deadline() {
    let stuck = vec![stored(ms(3_600_000), &[KIB]); 3 * READS_AT_ONCE];
    let (bytes, took) = fetch(&stuck, 4 * KIB, 1024 * KIB, ms(5000)).await;
    assert_eq!(bytes, vec![None; stuck.len()]);
    assert!((ms(5000)..ms(5100)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn records_at_hand_do_not_wait_long_for_a_store_that_is_stuck() {
    let mut partitions = vec![stored(ms(3_600_000), &[KIB]); 3];
    partitions.insert(1, stored(ms(0), &[KIB, KIB]));
    let (bytes, took) = fetch(&partitions, 4 * KIB, 1024 * KIB, ms(5000)).await;
    assert_eq!(bytes, [None, Some(2 * KIB), None, None]);
    assert!(took < COMPANY_WAIT_MAX + ms(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn records_at_hand_behind_many_stuck_partitions_are_served() {
    let mut partitions = vec![stored(ms(3_600_000), &[KIB]); 2 * READS_AT_ONCE];
    partitions.push(stored(ms(0), &[KIB]));
    let (bytes, _) = fetch(&partitions, 4 * KIB, 1024 * KIB, ms(5000)).await;
    assert_eq!(bytes.last(), Some(&Some(KIB)));
}

#[tokio::test(start_paused = true)]
async fn one_batch_is_served_whatever_its_size() {
    // The first partition has nothing, and by the time it says so the others were held to their shares.
    let partitions =
        [stored(ms(50), &[]), stored(ms(10), &[9 * KIB, KIB]), stored(ms(10), &[9 * KIB])];
    let (bytes, _) = fetch(&partitions, 4 * KIB, 1024 * KIB, ms(5000)).await;
    assert_eq!(bytes, [Some(0), Some(9 * KIB), Some(0)]);
    let (bytes, _) = fetch(&partitions, 4 * KIB, 0, ms(5000)).await;
    assert_eq!(bytes, [Some(0), Some(9 * KIB), Some(0)], "with no room at all, too");
}

// Goal: reading at once gives every partition the same bytes as reading in turn.
// Method: chance decides delays, batches and limits; no deadline is near, no batch is too large.
#[tokio::test(start_paused = true)]
async fn each_partition_gets_what_it_would_get_in_turn() {
    for seed in 0..300 {
        let chance = environment::SeededEntropy::new(seed);
        let below = |bound: u64| environment::Entropy::below(&chance, bound);
        let partitions: Vec<Stored> = (0..below(40))
            .map(|_| {
                let delay = ms(below(3) * below(4));
                let batches: Vec<usize> =
                    (0..below(5)).map(|_| KIB / 4 * (1 + below(4) as usize)).collect();
                stored(delay, &batches)
            })
            .collect();
        let share = KIB * (1 + below(4) as usize);
        let bytes_max = KIB * (1 + below(32) as usize);
        let (bytes, _) = fetch(&partitions, share, bytes_max, ms(60_000)).await;
        assert_eq!(bytes, in_turn(&partitions, share, bytes_max), "seed {seed}");
    }
}
