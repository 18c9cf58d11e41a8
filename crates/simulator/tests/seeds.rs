//! Goal: whatever a client was told holds, whenever the process is killed, on any bad day.
//!
//! Method: a fixed range of seeds on each change. `SIM_SEED=n` runs one, `SIM_SEEDS=from..to` a range,
//! `SIM_TIMES=n` each of them that often, `SIM_LOG=debug` shows what the node logs, `SIM_FAIL_FAST=1` ends
//! with the first seed that fails.

use simulator::{Tally, simulate};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

const SEEDS: Range<u64> = 0..400;

/// Seeds at once, each with a world of its own. Nothing waits for the machine's clock.
const WORKERS_MAX: usize = 16;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn seeds() -> Range<u64> {
    if let Some(seed) = number("SIM_SEED") {
        return seed..seed + 1;
    }
    let Ok(range) = std::env::var("SIM_SEEDS") else { return SEEDS };
    let (from, to) = range.split_once("..").expect("SIM_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn show_logs() {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let shown = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        shown.with_writer(std::io::stdout).init();
    }
}

/// A simulation in which nothing happens finds nothing: every kind of work and of trouble was met often.
fn covers(tally: &Tally) {
    let worked = [
        tally.acknowledged,
        tally.batches_read,
        tally.runs_checked,
        tally.segments_flushed,
        tally.wal_bytes_read,
        tally.stored_not_told,
        tally.requests_failed,
        tally.requests_slow,
        tally.requests_throttled,
        tally.clock_steps,
        tally.transactions_ended,
        tally.committed_read,
        tally.aborted_left_out,
        tally.changelogs_read,
        tally.records_compacted,
    ];
    assert!(worked.iter().all(|it| 5000 < *it), "the simulation itself works: {tally:#?}");
    let moved = [
        tally.retried_later,
        tally.topic_changes,
        tally.log_starts_moved,
        tally.logs_taken_over,
        tally.runs_taken_over,
        tally.segments_merged,
        tally.segments_collected,
        tally.orphans_swept,
        tally.runs_expired,
        tally.stopped,
        tally.changelogs_settled,
        tally.aborted_compacted,
        tally.markers_compacted,
    ];
    assert!(moved.iter().all(|it| 50 < *it), "the simulation itself works: {tally:#?}");
    let rare = [tally.late_writes, tally.late_writes_refused];
    assert!(rare.iter().all(|it| 5 < *it), "the simulation itself works: {tally:#?}");
}

#[test]
fn what_clients_were_told_holds() {
    show_logs();
    let seeds = seeds();
    let is_whole_range = seeds == SEEDS;
    let times = number("SIM_TIMES").unwrap_or(1);
    let queue = Mutex::new(seeds.flat_map(|seed| (0..times).map(move |_| seed)));
    let outcome = Mutex::new((Tally::default(), Vec::new()));
    let ends_early = std::env::var_os("SIM_FAIL_FAST").is_some();
    let next = || {
        let has_failed = !outcome.lock().expect("nobody panics with the outcome").1.is_empty();
        let mut queue = queue.lock().expect("nobody panics with the queue");
        if ends_early && has_failed { None } else { queue.next() }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(WORKERS_MAX) {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let ended = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
                    let mut outcome = outcome.lock().expect("nobody panics with the outcome");
                    match ended {
                        Ok(more) => outcome.0 += more,
                        Err(panic) => {
                            let said = panic.downcast_ref::<String>().map(String::as_str);
                            let said = said.or(panic.downcast_ref::<&str>().copied());
                            outcome.1.push(format!("SIM_SEED={seed}: {}", said.unwrap_or("?")));
                        }
                    }
                }
            });
        }
    });
    let (tally, failed) = outcome.into_inner().expect("nobody panics with the outcome");
    println!("{tally:?}");
    assert!(failed.is_empty(), "run one of them alone: {failed:#?}");
    if is_whole_range {
        covers(&tally);
    }
}
