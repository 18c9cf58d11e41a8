//! `aquifer serve`: the runtime around the assembly, signals, and what the process ends with.
//!
//! The first SIGINT or SIGTERM starts a clean stop, the second one ends it at once. A critical task
//! that panics ends the process without draining: what it guarded can no longer be trusted, and what
//! was acknowledged is durable.
//!
//! A broker whose epoch was ended by storage does not end the process (A9): it is closed, and opened
//! again in a new epoch once nobody else serves the cluster. The waits between such tries grow, so that
//! two processes that cannot see each other do not take the cluster from each other all the time.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use admin::Stage;
use broker::BrokerConfig;
use environment::Environment;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::ServeArguments;
use crate::assembly::{self, Assembled};
use crate::backoff::Backoff;
use crate::failure::Failure;
use crate::node::Node;
use crate::{settings, telemetry};

/// Threads for blocking disk work at once, beyond the runtime's own.
const BLOCKING_THREADS_MAX: usize = 64;

/// How long threads that are still busy at the end are waited for.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(1);

/// Between a fence and the next try to join: doubled from the first to the last.
const REJOIN_WAIT_MIN: Duration = Duration::from_secs(1);
const REJOIN_WAIT_MAX: Duration = Duration::from_secs(60);

/// A broker that served this long before it was fenced waits the shortest time again.
const SETTLED: Duration = Duration::from_secs(300);

/// How long what is left may take at the end: the admin pages.
const REST_MAX: Duration = Duration::from_secs(2);

/// Runs until told to stop.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    telemetry::start(arguments.log.as_deref())?;
    let config = settings::load(arguments)?;
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(config));
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    outcome
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("aquifer")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Failure::start(format!("the runtime cannot be started: {error}")))
}

async fn serve(config: BrokerConfig) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let environment = Environment::system();
    let node = Node::open(config, &environment).await?;
    let mut rejoin = Backoff::new(REJOIN_WAIT_MIN, REJOIN_WAIT_MAX);
    let mut was_ready = false;
    loop {
        let epoch = environment.child("broker");
        // Boxed: it holds every room while it opens them.
        let opening = Box::pin(assembly::open(&node, &epoch));
        let opened = tokio::select! {
            opened = opening => opened,
            name = signals.next() => {
                tracing::info!("{name} before the broker was ready");
                return Ok(());
            }
            failure = environment.tasks.failed() => return Err(internal(&failure)),
        };
        let assembled = match opened {
            Ok(assembled) => assembled,
            Err(failure) if !was_ready => return Err(failure),
            Err(failure) => {
                tracing::error!(%failure, "the broker could not be opened again");
                close_rest(&epoch).await;
                if pause(&node, &environment, &mut rejoin, &mut signals).await {
                    return Ok(());
                }
                continue;
            }
        };
        announce(&assembled, was_ready);
        was_ready = true;
        let since = environment.clock.now();
        let why = tokio::select! {
            name = signals.next() => {
                tracing::info!("{name}: stopping; once more ends it at once");
                return stop(assembled, &node, &environment, &mut signals).await;
            }
            failure = environment.tasks.failed() => return Err(internal(&failure)),
            why = assembled.fenced() => why,
        };
        tracing::error!(
            why,
            "fenced: this broker acknowledges nothing any more. What it has acknowledged is safe. It \
             joins again in a new epoch"
        );
        if SETTLED <= environment.clock.now().since(since) {
            rejoin.reset();
        }
        tokio::select! {
            late = Box::pin(assembled.close()) => {
                if !late.is_empty() {
                    tracing::warn!(?late, "tasks of the fenced epoch are still running");
                }
            }
            failure = environment.tasks.failed() => return Err(internal(&failure)),
            name = signals.next() => {
                tracing::info!("{name} while a fenced broker was closing");
                return Ok(());
            }
        }
        if pause(&node, &environment, &mut rejoin, &mut signals).await {
            return Ok(());
        }
    }
}

/// Waits before the next try. True when the process is told to stop meanwhile.
async fn pause(
    node: &Node,
    environment: &Environment,
    backoff: &mut Backoff,
    signals: &mut Signals,
) -> bool {
    node.readiness.enter(Stage::Starting("waiting to join again after this broker was fenced"));
    let wait = backoff.next(&*environment.entropy);
    tracing::info!(?wait, "joining again");
    tokio::select! {
        () = environment.clock.sleep(wait) => false,
        name = signals.next() => {
            tracing::info!("{name} while waiting to join again");
            true
        }
    }
}

/// What an opening that failed half-way has left running.
async fn close_rest(epoch: &Environment) {
    let late = epoch.tasks.shutdown(REST_MAX).await;
    if !late.is_empty() {
        tracing::warn!(?late, "tasks of a broker that was not opened are still running");
    }
}

async fn stop(
    assembled: Assembled,
    node: &Node,
    environment: &Environment,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let (clock, stop_max) = (Arc::clone(&environment.clock), node.config.shutdown_timeout);
    let closing = async {
        let mut late = assembled.close().await;
        late.extend(environment.tasks.shutdown(REST_MAX).await);
        late
    };
    tokio::select! {
        biased;
        late = Box::pin(closing) => {
            if !late.is_empty() {
                tracing::warn!(?late, "tasks were still running at the end");
            }
            Ok(())
        }
        failure = environment.tasks.failed() => Err(internal(&failure)),
        name = signals.next() => {
            Err(Failure::cut_short(format!("a second signal ({name}): stopped at once")))
        }
        () = clock.sleep(stop_max) => Err(Failure::cut_short(format!(
            "stopping took longer than {} s (aquifer.shutdown.timeout.ms)",
            stop_max.as_secs()
        ))),
    }
}

fn internal(failure: &environment::TaskFailure) -> Failure {
    Failure::internal(format!("a part that guards data failed: {failure}"))
}

/// For people: on standard output, once. A closed pipe is not a reason to stop serving.
fn announce(assembled: &Assembled, was_ready: bool) {
    tracing::info!(kafka = %assembled.banner.kafka.join(","), "ready");
    if was_ready {
        return;
    }
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{}", assembled.banner).and_then(|()| out.flush());
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::start(format!("signals cannot be listened for: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
