//! The bad days: what is done to a broker and its store while clients are at work, one thing at a time.

use std::time::Duration;

use anyhow::Result;

use super::Random;
use super::place::{EVERY_DAY, Lives};
use crate::fake_store::FakeStore;

/// How long something stands still or stays broken, in milliseconds: below and above what clients wait for an answer,
/// and what a transaction may take.
const PAUSES_MS: [u64; 4] = [200, 1_000, 3_000, 6_000];
/// How far a start gets before it is killed, too, in milliseconds.
const HALF_STARTS_MS: [u64; 4] = [5, 20, 80, 300];

/// The number of the day on which another broker comes.
const USURPED: u64 = 19;

const OUTAGE_END: Duration = Duration::from_millis(300);

const REFUSALS: &str = "slow-down=0.5,slow-down-requests=3";
const LOST_ANSWERS: &str = "lost-answer=0.3,internal-error-applied=0.2";
const STALLS: &str = "stall=0.4,stall-for-ms=1500";

/// How many bad days of each kind there were.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Days {
    kills: u32,
    kills_at_start: u32,
    restarts: u32,
    stopped_late: u32,
    refused_starts: u32,
    pauses: u32,
    outages: u32,
    store_pauses: u32,
    refusals: u32,
    lost_answers: u32,
    stalls: u32,
    usurped: u32,
}

impl Days {
    pub(super) fn add(&mut self, other: Days) {
        self.kills += other.kills;
        self.kills_at_start += other.kills_at_start;
        self.restarts += other.restarts;
        self.stopped_late += other.stopped_late;
        self.refused_starts += other.refused_starts;
        self.pauses += other.pauses;
        self.outages += other.outages;
        self.store_pauses += other.store_pauses;
        self.refusals += other.refusals;
        self.lost_answers += other.lost_answers;
        self.stalls += other.stalls;
        self.usurped += other.usurped;
    }

    pub(super) fn one_more(&mut self, lives: &mut Lives, random: &mut Random) -> Result<()> {
        lives.look()?;
        let done = self.one(lives, random);
        self.stopped_late += std::mem::take(&mut lives.stopped_late);
        self.refused_starts += std::mem::take(&mut lives.refused_starts);
        done
    }

    fn one(&mut self, lives: &mut Lives, random: &mut Random) -> Result<()> {
        let pause = Duration::from_millis(random.one_of(&PAUSES_MS));
        let day = random.below(20);
        // Rare, as it takes long; and once in every round, so that a short one has it, too.
        if lives.has_rival() && (day == USURPED || self.usurped == 0) {
            self.usurped += 1;
            return lives.usurp();
        }
        match (day % 10, &lives.store) {
            (0, Some(store)) => {
                self.outages += 1;
                store.outage(pause)?;
                // It ends by itself, and until then the store does not even listen to us.
                std::thread::sleep(pause + OUTAGE_END);
                Ok(())
            }
            (1, Some(store)) => {
                self.store_pauses += 1;
                store.pause()?;
                std::thread::sleep(pause);
                store.resume()
            }
            (2, Some(store)) => {
                self.refusals += 1;
                with_faults(store, REFUSALS, pause)
            }
            (3, Some(store)) => {
                self.lost_answers += 1;
                with_faults(store, LOST_ANSWERS, pause)
            }
            (4, Some(store)) => {
                self.stalls += 1;
                with_faults(store, STALLS, pause)
            }
            (5 | 6, _) => {
                self.pauses += 1;
                lives.broker.pause()?;
                std::thread::sleep(pause);
                lives.broker.resume()
            }
            (7, _) => {
                self.restarts += 1;
                lives.restart()
            }
            (8, _) => {
                self.kills += 1;
                lives.broker.kill()?;
                self.kills_at_start += 1;
                lives.broker.start_without_waiting()?;
                std::thread::sleep(Duration::from_millis(random.one_of(&HALF_STARTS_MS)));
                lives.broker.kill()?;
                lives.start()
            }
            _ => {
                self.kills += 1;
                lives.broker.kill()?;
                lives.start()
            }
        }
    }
}

fn with_faults(store: &FakeStore, faults: &str, time: Duration) -> Result<()> {
    store.set_faults(faults)?;
    std::thread::sleep(time);
    store.set_faults(EVERY_DAY)
}

impl std::fmt::Display for Days {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Days { kills, kills_at_start, restarts, stopped_late, refused_starts, pauses, .. } =
            self;
        let Days { outages, store_pauses, refusals, lost_answers, stalls, usurped, .. } = self;
        write!(
            formatter,
            "the broker killed {kills} times and {kills_at_start} times while it started, restarted {restarts} times \
             ({stopped_late} not in time), {refused_starts} starts refused, paused {pauses} times, its place taken \
             {usurped} times; the store away {outages} times, paused {store_pauses}, refusing {refusals}, losing \
             answers {lost_answers}, stalling {stalls}"
        )
    }
}
