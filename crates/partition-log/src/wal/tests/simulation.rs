//! Many lives of one log on one simulated disk: kills, power failures, planted faults, restarts.
//!
//! Safety, at every recovery: what was acknowledged and not trimmed is there, byte for byte; of what
//! was submitted a prefix survives, in order, and nothing else is served.
//! Liveness, in the last life: once the disk is healed, everything is acknowledged.
//! Each seed is another configuration, too. The seed is the bug report: run with `SIM_SEED=n`.

use super::*;
use crate::volume::MemoryFaults;
use environment::{Entropy, SeededEntropy, TaskKind};
use std::collections::BTreeMap;

const PARTITIONS: i32 = 3;
const LIVES: u64 = 6;

/// What a client knows about one batch.
#[derive(Debug, Clone)]
struct Sent {
    partition: i32,
    base: Offset,
    end: Offset,
    bytes: Bytes,
    /// Known once it is acknowledged, or recovered, which is as good.
    place: Option<WalPlace>,
}

/// Everything outside of the process: it survives every crash.
#[derive(Default)]
struct World {
    /// In the order of submission. What a crash took away is removed at the next recovery.
    sent: Vec<Sent>,
    ends: BTreeMap<i32, Offset>,
    /// So many of `sent` are durable, from the front.
    durable: usize,
    /// Segments before it may be gone.
    trimmed: u64,
    lost: bool,
    history: Vec<String>,
}

#[derive(Clone, Default)]
struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no panic while it is held")
    }
}

struct Client {
    partition: i32,
    world: SharedWorld,
}

impl CommitListener for Client {
    fn durable(&self, end: Offset, place: WalPlace) {
        let mut world = self.world.lock();
        assert!(!world.lost, "durable behind lost");
        let next = world.durable;
        let sent = &mut world.sent[next];
        assert_eq!((sent.partition, sent.end), (self.partition, end), "out of order");
        assert_eq!(sent.bytes.len(), place.length as usize);
        sent.place = Some(place);
        world.durable += 1;
        world.history.push(format!("durable {}-{end} {place:?}", self.partition));
    }

    fn lost(&self, base: Offset) {
        let mut world = self.world.lock();
        world.lost = true;
        world.history.push(format!("lost {}-{base}", self.partition));
    }
}

/// The shape of one run.
struct Swarm {
    file_bytes: u64,
    options: WalOptions,
    latency_max: Duration,
    batches: u64,
}

impl Swarm {
    fn new(entropy: &dyn Entropy) -> Swarm {
        let choose = |of: &[u64]| of[entropy.below(of.len() as u64) as usize];
        let group_bytes_max = ByteCount(choose(&[1, 4 << 10, 64 << 10]));
        let reserved_bytes_max = ByteCount(choose(&[2 << 10, 64 << 10, 1 << 20]));
        Swarm {
            file_bytes: choose(&[4 << 10, 32 << 10, 256 << 10]),
            options: WalOptions { group_bytes_max, reserved_bytes_max, ..options() },
            latency_max: Duration::from_micros(choose(&[0, 300, 3000])),
            batches: choose(&[5, 40]),
        }
    }

    fn faults(&self, entropy: &dyn Entropy) -> MemoryFaults {
        let per_mille = || entropy.below(3).saturating_sub(1) * entropy.below(600);
        MemoryFaults {
            create_full_per_mille: per_mille(),
            write_fails_per_mille: per_mille(),
            sync_fails_per_mille: per_mille(),
            directory_fails_per_mille: per_mille(),
            ..self.healed()
        }
    }

    fn healed(&self) -> MemoryFaults {
        MemoryFaults { latency_max: self.latency_max, ..MemoryFaults::default() }
    }
}

/// Sends batches until the log closes or enough are sent.
async fn client(index: i32, count: u64, wal: Wal, world: SharedWorld, environment: Environment) {
    let entropy = SeededEntropy::new(environment.entropy.next_u64());
    for _ in 0..count {
        environment.clock.sleep(Duration::from_micros(entropy.below(4000))).await;
        let payload = entropy.below(if entropy.below(10) == 0 { 40_000 } else { 600 }) as usize;
        let Ok(reservation) = wal.reserve(payload + BATCH_HEADER_LEN).await else { return };
        let mut guard = world.lock();
        let base = guard.ends.get(&index).copied().unwrap_or_default();
        let (header, bytes) = batch(base, 1 + entropy.below(5) as i32, payload, entropy.next_u64());
        let end = header.end_offset();
        guard.ends.insert(index, end);
        let sent = Sent { partition: index, base, end, bytes: bytes.clone(), place: None };
        guard.sent.push(sent);
        let listener = Arc::new(Client { partition: index, world: world.clone() });
        let (partition, leader_epoch) = (partition(index), LeaderEpoch(0));
        wal.submit(Append {
            partition,
            leader_epoch,
            header,
            marker: None,
            bytes,
            listener,
            reservation,
        });
    }
}

/// Plants faults, heals them, trims, for ever.
async fn weather(
    swarm: Arc<Swarm>,
    volume: MemoryVolume,
    wal: Wal,
    world: SharedWorld,
    environment: Environment,
) {
    let entropy = SeededEntropy::new(environment.entropy.next_u64());
    loop {
        environment.clock.sleep(Duration::from_micros(entropy.below(40_000))).await;
        match entropy.below(3) {
            0 => volume.set_faults(swarm.faults(&entropy)),
            1 => volume.set_faults(swarm.healed()),
            _ => {
                let newest = {
                    let world = world.lock();
                    world.durable.checked_sub(1).and_then(|it| world.sent[it].place)
                };
                let before = entropy.below(newest.map_or(0, |it| it.sequence) + 2);
                {
                    // From here on the segments may be gone, whether or not the trim ends.
                    let mut world = world.lock();
                    world.trimmed = world.trimmed.max(before);
                }
                wal.trim(before).await;
            }
        }
    }
}

/// Safety. Afterwards the clients know what the log knows.
async fn check_recovered(wal: &Wal, recovered: &[RecoveredSegment], world: &SharedWorld) {
    let mut found = BTreeMap::new();
    for (partition, base, place) in batches_of(recovered) {
        let bytes = wal.read(place).await.expect("what is recovered can be read");
        assert_eq!(found.insert((partition, base), (bytes, place)), None, "served twice");
    }
    let sequences: Vec<u64> = recovered.iter().map(|it| it.sequence).collect();
    assert!(sequences.windows(2).all(|it| it[0] + 1 == it[1]), "{sequences:?}");
    let mut world = world.lock();
    let world = &mut *world;
    let mut survivors = 0;
    for (index, sent) in world.sent.iter_mut().enumerate() {
        match found.remove(&(sent.partition, sent.base)) {
            Some((bytes, place)) => {
                assert_eq!(bytes, sent.bytes, "batch {index} is torn or another's");
                assert!(sent.place.is_none_or(|it| it == place), "batch {index} moved");
                assert_eq!(survivors, index, "batch {index} survived something before it");
                sent.place = Some(place);
                survivors += 1;
            }
            None if sent.place.is_some_and(|it| it.sequence < world.trimmed) => survivors += 1,
            None => assert!(world.durable <= index, "batch {index} was acknowledged and is gone"),
        }
    }
    assert_eq!(found.len(), 0, "served, though never sent: {:?}", found.keys());
    world.history.push(format!("recovered {survivors} of {}", world.sent.len()));
    world.sent.truncate(survivors);
    world.durable = survivors;
    world.lost = false;
    world.ends.clear();
    for sent in &world.sent {
        world.ends.insert(sent.partition, sent.end);
    }
}

/// One process, from recovery to its end. Returns the disk it leaves behind.
async fn live(
    seed: u64,
    life: u64,
    swarm: Arc<Swarm>,
    disk: Option<MemoryVolume>,
    world: SharedWorld,
) -> MemoryVolume {
    let environment = Environment::simulated(seed.wrapping_mul(0x9e37_79b9) ^ life);
    let entropy = Arc::clone(&environment.entropy);
    let volume = match disk {
        None => MemoryVolume::new(&environment),
        Some(disk) => disk.remount(&environment),
    };
    let last = life == LIVES - 1;
    let troubled = !last && entropy.below(4) == 0;
    volume.set_faults(if troubled { swarm.faults(&*entropy) } else { swarm.healed() });
    let backend = file_wal(&volume, &environment, swarm.file_bytes);
    let options = WalOptions { epoch: BrokerEpoch(life + 1), ..swarm.options.clone() };
    match Wal::open(backend, options, &environment).await {
        Ok((wal, recovered)) => {
            check_recovered(&wal, &recovered, &world).await;
            for index in 0..PARTITIONS {
                let (wal, world) = (wal.clone(), world.clone());
                let client = client(index, swarm.batches, wal, world, environment.clone());
                environment.tasks.spawn(TaskKind::Background, "client", client);
            }
            if last {
                finish(&wal, &swarm, &environment, &world).await;
            } else {
                let (swarm, wal, world) = (Arc::clone(&swarm), wal.clone(), world.clone());
                let weather = weather(swarm, volume.clone(), wal, world, environment.clone());
                environment.tasks.spawn(TaskKind::Background, "weather", weather);
                let time = Duration::from_micros(entropy.below(300_000));
                environment.clock.sleep(time).await;
            }
        }
        // A disk that fails at start stops the start; the next one may have more luck.
        Err(WalError::Volume(_)) if troubled => (),
        Err(error) => panic!("life {life} cannot start: {error}"),
    }
    match entropy.below(3) {
        0 => volume.crash(),                                                  // Power.
        1 => (), // Kill: the kernel lives on.
        _ => drop(environment.tasks.shutdown(Duration::from_secs(20)).await), // Stop.
    }
    let now = environment.clock.now();
    world.lock().history.push(format!("life {life} ended at {now:?}"));
    volume
}

/// Liveness: on a healed disk everything sent is acknowledged, in bounded time.
async fn finish(wal: &Wal, swarm: &Swarm, environment: &Environment, world: &SharedWorld) {
    let enough = Duration::from_secs(60);
    environment.clock.sleep(enough).await;
    wal.shutdown().await;
    let world = world.lock();
    assert_eq!(world.durable, world.sent.len(), "not everything was acknowledged");
    assert!(!world.lost);
    let sent = world.history.iter().rev().take_while(|it| !it.starts_with("recovered")).count();
    assert_eq!(sent as u64, swarm.batches * PARTITIONS as u64);
}

fn simulate(seed: u64) -> Vec<String> {
    let swarm = Arc::new(Swarm::new(&SeededEntropy::new(seed)));
    let world = SharedWorld::default();
    let mut disk = None;
    for life in 0..=LIVES {
        // A runtime of its own: dropping it is the kill.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let one = live(seed, life.min(LIVES - 1), Arc::clone(&swarm), disk.take(), world.clone());
        disk = Some(runtime.block_on(one));
    }
    std::mem::take(&mut world.lock().history)
}

fn checked(seed: u64) -> Vec<String> {
    let outcome = std::panic::catch_unwind(|| simulate(seed));
    outcome.unwrap_or_else(|_| panic!("SIM_SEED={seed} fails, see above"))
}

#[test]
fn acknowledged_batches_survive_everything() {
    match std::env::var("SIM_SEED") {
        Ok(seed) => drop(checked(seed.parse().expect("SIM_SEED is a number"))),
        Err(_) => on_every_core(0..500, |seed| drop(checked(seed))),
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 17] {
        let history = checked(seed);
        assert!(history.iter().any(|it| it.starts_with("durable")), "{history:?}");
        assert_eq!(history, checked(seed));
    }
}
