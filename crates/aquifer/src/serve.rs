//! `aquifer serve`: the runtime around the assembly, signals, and what the process ends with.
//!
//! The first SIGINT or SIGTERM starts a clean stop, the second one ends it at once. A critical task
//! that panics ends the process without draining: what it guarded can no longer be trusted, and what
//! was acknowledged is durable.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use broker::BrokerConfig;
use environment::Environment;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::ServeArguments;
use crate::assembly::{self, Assembled};
use crate::failure::Failure;
use crate::{settings, telemetry};

/// Threads for blocking disk work at once, beyond the runtime's own.
const BLOCKING_THREADS_MAX: usize = 64;

/// How long threads that are still busy at the end are waited for.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(1);

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
    let stop_max = config.shutdown_timeout;
    // Boxed: it holds every room while it opens them.
    let opening = Box::pin(assembly::open(config, &environment));
    let assembled = tokio::select! {
        opened = opening => opened?,
        name = signals.next() => {
            tracing::info!("{name} before the broker was ready");
            return Ok(());
        }
        failure = environment.tasks.failed() => return Err(internal(&failure)),
    };
    announce(&assembled);
    tokio::select! {
        name = signals.next() => tracing::info!("{name}: stopping; once more ends it at once"),
        failure = environment.tasks.failed() => return Err(internal(&failure)),
    }
    stop(assembled, &environment, &mut signals, stop_max).await
}

async fn stop(
    assembled: Assembled,
    environment: &Environment,
    signals: &mut Signals,
    stop_max: Duration,
) -> Result<(), Failure> {
    let clock = Arc::clone(&environment.clock);
    tokio::select! {
        biased;
        late = Box::pin(assembled.close()) => {
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
fn announce(assembled: &Assembled) {
    tracing::info!(kafka = %assembled.banner.kafka.join(","), "ready");
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
