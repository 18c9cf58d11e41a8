//! One seed: lives on one world, each killed or stopped in its own way, then a healed end.

use crate::checker;
use crate::history::{History, Tally};
use crate::node::{Node, NotStarted, Opening};
use crate::shelf::Door;
use crate::swarm::{End, Plan};
use crate::time::SteppedClock;
use crate::workload::Clients;
use crate::world::World;
use environment::{Entropy, Environment, SeededEntropy};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::Timestamp;

/// In simulated time, after which a healed node that has not done all its work never will.
const HEALED_MAX: Duration = Duration::from_secs(3600);

/// Lives the seed's lives.
///
/// # Panics
/// With the invariant's id when one does not hold.
pub fn simulate(seed: u64) -> Tally {
    let mut world = World::new(seed);
    let history = RefCell::new(History::default());
    history.borrow_mut().topics.resize_with(world.swarm.slots_in_all(), Default::default);
    for _ in 0..world.swarm.lives {
        let plan = Plan::draw(&world.chance);
        live(&mut world, &history, &plan);
    }
    for kind in [LastLife::Settles, LastLife::Waits] {
        if let Err(NotStarted(why)) = live_last(&mut world, &history, kind) {
            panic!("A9: a healed node starts: {why}");
        }
    }
    let mut tally = history.into_inner().tally;
    (tally.late_writes, tally.late_writes_refused) = world.shelf.late_writes();
    tally
}

/// Everything of a process is gone when it returns: the runtime takes all its tasks along.
fn in_a_process<T>(life: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(life)
}

fn live(world: &mut World, history: &RefCell<History>, plan: &Plan) {
    let number = {
        let tally = &mut history.borrow_mut().tally;
        tally.lives += 1;
        tally.lives
    };
    tracing::info!(seed = world.seed, number, ?plan, "a life starts");
    world.disk.set_faults(plan.disk_faults.clone());
    let (door, ended, ahead_ms) = in_a_process(async {
        let environment = world.environment();
        let clock = world.metadata_clock(&environment);
        let wandering = async {
            match world.swarm.clock_pause_max {
                Some(pause) => {
                    clock.wander(pause, SeededEntropy::new(world.chance.next_u64())).await
                }
                None => std::future::pending().await,
            }
        };
        let door = door(world, plan, &environment);
        let surroundings = (environment.clone(), &clock);
        let life = work(world, history, plan, &door, surroundings, number);
        tokio::select! {
            biased;
            () = door.killed() => (),
            () = wandering => (),
            failure = environment.tasks.failed() => panic!("A9: a task panicked: {failure:?}"),
            started = life => if let Err(NotStarted(why)) = started {
                tracing::info!(why, "not started");
                history.borrow_mut().tally.stillborn += 1;
            },
        }
        check_panics(&environment);
        history.borrow_mut().tally.clock_steps += clock.steps();
        (door, environment.clock.wall(), clock.ahead_ms())
    });
    world.ahead_ms = ahead_ms;
    count_process(history);
    door.slam();
    world.disk.crash();
    world.pass_time(ended);
}

fn door(world: &World, plan: &Plan, environment: &Environment) -> Arc<Door> {
    let requests_max = match plan.end {
        End::AtRequest(number) => number,
        End::After(_) | End::Stop(_) | End::Never => u64::MAX,
    };
    let seed = world.chance.next_u64();
    let door = Door::new(&world.shelf, &environment.clock, seed, plan.latency_max, requests_max);
    Arc::new(door)
}

/// Of the process that is gone.
fn count_process(history: &RefCell<History>) {
    let mut history = history.borrow_mut();
    if let Some(meters) = history.meters.take() {
        history.tally.count(&meters);
    }
}

fn check_panics(environment: &Environment) {
    assert_eq!(environment.tasks.panics(), 0, "A9: a task panicked, see its line in the log");
}

/// One process until its end, if the plan has one that is not a count of requests.
async fn work(
    world: &World,
    history: &RefCell<History>,
    plan: &Plan,
    door: &Arc<Door>,
    (environment, metadata_clock): (Environment, &Arc<SteppedClock>),
    number: u64,
) -> Result<(), NotStarted> {
    let node = start(world, history, plan, door, environment, metadata_clock).await?;
    let clients = Clients::new(&node, &world.swarm, history, number);
    let clock = Arc::clone(&node.environment.clock);
    let after = match plan.end {
        End::After(wait) | End::Stop(wait) => wait,
        End::AtRequest(_) | End::Never => HEALED_MAX,
    };
    let work = clients.work(world.chance.next_u64(), plan.rests);
    let chance = SeededEntropy::new(world.chance.next_u64());
    let late = world.shelf.land_late_writes(&*clock, &chance);
    let all = async { futures::join!(work, late, node.follow()) };
    tokio::select! {
        biased;
        () = clock.sleep(after) => (),
        _ = all => panic!("clients work for ever"),
    }
    if let End::Stop(_) = plan.end {
        node.stop().await;
        history.borrow_mut().tally.stopped += 1;
    }
    Ok(())
}

async fn start(
    world: &World,
    history: &RefCell<History>,
    plan: &Plan,
    door: &Arc<Door>,
    environment: Environment,
    metadata_clock: &Arc<SteppedClock>,
) -> Result<Node, NotStarted> {
    let opening = Opening::start(world, plan, door, environment, metadata_clock).await?;
    checker::metadata(&opening, history, &world.shelf).await;
    let node = opening.finish(world).await?;
    history.borrow_mut().meters = Some(node.meters());
    checker::logs(&node, history).await;
    Ok(node)
}

/// The lives on a healed world, which end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLife {
    /// Everything in flight is acknowledged, then a clean stop.
    Settles,
    /// Until every grace is over.
    Waits,
}

fn live_last(
    world: &mut World,
    history: &RefCell<History>,
    kind: LastLife,
) -> Result<(), NotStarted> {
    history.borrow_mut().tally.lives += 1;
    let number = history.borrow().tally.lives;
    let plan = Plan::healed();
    tracing::info!(seed = world.seed, number, ?kind, "a healed life starts");
    world.disk.set_faults(plan.disk_faults.clone());
    world.ahead_ms = 0; // Somebody has set the clock right.
    let (ended, done) = in_a_process(async {
        let environment = world.environment();
        let clock = world.metadata_clock(&environment);
        let door = door(world, &plan, &environment);
        let life = async {
            let node = start(world, history, &plan, &door, environment.clone(), &clock).await?;
            let clients = Clients::new(&node, &world.swarm, history, number);
            let chance = SeededEntropy::new(world.chance.next_u64());
            let late = world.shelf.land_late_writes(&*node.environment.clock, &chance);
            let work = async {
                match kind {
                    LastLife::Settles => settle(&node, &clients, history).await,
                    LastLife::Waits => wait(world, &node, history).await,
                }
            };
            tokio::select! {
                biased;
                ((), ()) = async { futures::join!(work, late) } => (),
                () = node.follow() => panic!("the feed lives as long as the node"),
            }
            node.stop().await;
            Ok(())
        };
        let done = tokio::select! {
            biased;
            failure = environment.tasks.failed() => panic!("A9: a task panicked: {failure:?}"),
            done = life => done,
            () = environment.clock.sleep(HEALED_MAX) => panic!("A9: healed, and yet not done"),
        };
        check_panics(&environment);
        (environment.clock.wall(), done)
    });
    count_process(history);
    world.disk.crash(); // A clean stop leaves nothing unsynced.
    world.wall = Timestamp(ended.0 + 1);
    done
}

async fn settle(node: &Node, clients: &Clients<'_>, history: &RefCell<History>) {
    let slots = history.borrow().topics.len();
    let chance = SeededEntropy::new(2);
    for slot in 0..slots {
        clients.change(slot, &chance).await;
        let is_answered = history.borrow().topics[slot].asked.is_none();
        assert!(is_answered, "A9: healed, and yet a change is not answered");
    }
    clients.settle().await;
    clients.settle_changelogs().await;
    checker::logs(node, history).await;
    let partitions: Vec<_> = history.borrow().partitions.keys().copied().collect();
    for partition in partitions {
        let log = node.engine.partition(partition).expect("every partition is hosted");
        assert_eq!(log.load_producers().await, Ok(()), "A9: healed, and yet not readable");
        let offsets = log.offsets();
        assert_eq!(offsets.last_stable, offsets.high_watermark, "A8: everything is decided");
        let story = &history.borrow().partitions[&partition];
        story.is_all_in(offsets.end);
    }
    node.engine.flush_all().await;
    let unflushed = node.engine.health().unflushed.0;
    assert_eq!(unflushed, 0, "A9: healed, and yet not flushed");
}

async fn wait(world: &World, node: &Node, history: &RefCell<History>) {
    for partition in history.borrow().partitions.keys() {
        let offsets = node.engine.partition(*partition).expect("hosted").offsets();
        assert_eq!(offsets.committed_end, offsets.end, "a clean stop leaves nothing in the WAL");
    }
    let log = &world.swarm.log;
    let graces = log.orphan_grace + log.collection_grace;
    let looks = log.orphan_interval + log.collection_interval + log.retention_check_interval;
    let patience = 2 * (graces + 2 * looks);
    node.environment.clock.sleep(patience).await;
    let young = log.collection_grace + 4 * log.collection_interval;
    checker::no_leftovers(node, &world.shelf, young, patience).await;
    checker::logs(node, history).await;
}
