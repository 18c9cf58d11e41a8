//! The server: its socket, its connections, and what tests and benchmarks do with it.
//!
//! Owns: accepting, the number of connections, outages, start and stop.
//! Does not own: requests (`exchange`).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use environment::{Environment, TaskKind};
use hyper::header;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::actions::Actions;
use crate::content::Directory;
use crate::counts::{Counters, Counts};
use crate::delays::Delays;
use crate::exchange::{self, Stalled};
use crate::faults::{Faults, Plan, Planner, Subject};
use crate::objects::Objects;
use crate::quota::Quota;
use crate::refusal::Refusal;
use crate::wire::{Reset, Wire};

const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Further ones are reset as soon as they are accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long accepting pauses after the system refused, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How a server is started. The default: a free port, memory, no delays, no faults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Loopback only: it lets everybody in.
    pub listen: SocketAddr,
    /// Fixes the fate and the delay of the n-th request.
    pub seed: u64,
    pub delays: Delays,
    pub faults: Faults,
    /// Bodies go to files in here instead of memory; absent or empty when the server starts. Larger
    /// bounds become possible, everything gets slower, nothing is kept across starts.
    pub directory: Option<PathBuf>,
    /// Held at most, arriving bodies included; beyond it writes are answered 507.
    pub bytes_max: u64,
    /// What every part of a multipart upload but the last has at least; 5 MiB, as S3's.
    pub part_bytes_min: u64,
    /// Refuse requests without a signature; that there is one is all that is checked.
    pub require_signature: bool,
    /// Clock and tasks. With a simulated one delays and stalls take simulated time.
    pub environment: Environment,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 0,
            delays: Delays::NONE,
            faults: Faults::NONE,
            directory: None,
            bytes_max: BYTES_MAX,
            part_bytes_min: PART_BYTES_MIN,
            require_signature: false,
            environment: Environment::system(),
        }
    }
}

/// A running server. Dropping it leaves it running until its runtime ends; [`FakeS3::stop`] ends it.
#[derive(Debug)]
pub struct FakeS3 {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) actions: Actions,
    pub(crate) quota: Quota,
    pub(crate) counters: Counters,
    pub(crate) stalled: Stalled,
    pub(crate) outage: watch::Sender<bool>,
    require_signature: bool,
    /// Leaf lock, held for one decision.
    chance: Mutex<Chance>,
}

#[derive(Debug)]
struct Chance {
    planner: Planner,
    faults: Faults,
    delays: Delays,
}

impl FakeS3 {
    /// Listens. Errors: the port is taken, the address is not loopback, the directory cannot be used.
    pub async fn start(options: Options) -> io::Result<FakeS3> {
        if !options.listen.ip().is_loopback() {
            let text = format!("{}: fake-s3 lets everybody in, so loopback only", options.listen);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let directory = options.directory.as_deref().map(Directory::open).transpose()?;
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let quota = Quota::new(options.bytes_max);
        let Options { seed, delays, faults, .. } = options;
        let shared = Arc::new(Shared {
            actions: Actions {
                objects: Objects::new(quota.clone(), options.part_bytes_min),
                directory: directory.map(Arc::new),
                environment: options.environment.child("fake-s3"),
            },
            quota,
            counters: Counters::default(),
            stalled: Stalled::default(),
            outage: watch::Sender::new(false),
            require_signature: options.require_signature,
            chance: Mutex::new(Chance { planner: Planner::new(seed), faults, delays }),
        });
        let tasks = &shared.actions.environment.tasks;
        tasks.spawn(TaskKind::Background, "accept", accept(Arc::clone(&shared), listener));
        Ok(FakeS3 { shared, address })
    }

    /// `http://127.0.0.1:<port>`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For all requests whose head has not been read yet; a burst that has begun goes on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.set_faults(faults);
    }

    pub fn set_delays(&self, delays: Delays) {
        self.shared.set_delays(delays);
    }

    /// While it is on, every connection is reset: those there are, and new ones once accepted. Requests
    /// in flight take no effect unless they had taken it, or were stalled, already.
    pub fn outage(&self, on: bool) {
        self.shared.set_outage(on);
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Bytes held: bodies stored, arriving or still being sent, and the index.
    pub fn bytes_held(&self) -> u64 {
        self.shared.quota.used()
    }

    /// Closes the port and all connections. Stalled requests never take effect.
    pub async fn stop(self) {
        self.shared.actions.environment.tasks.shutdown(STOP_DEADLINE).await;
    }
}

impl Shared {
    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self, subject: Subject<'_>) -> Plan {
        let Chance { planner, faults, delays } = &mut *self.chance();
        planner.plan(faults, delays, subject)
    }

    pub(crate) fn delays(&self) -> Delays {
        self.chance().delays
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.chance().faults = faults;
    }

    pub(crate) fn set_delays(&self, delays: Delays) {
        self.chance().delays = delays;
    }

    pub(crate) fn set_outage(&self, on: bool) {
        self.outage.send_replace(on);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counters.snapshot()
    }

    pub(crate) fn check_signature(&self, head: &Parts) -> Result<(), Refusal> {
        let in_query = head.uri.query().is_some_and(|it| it.contains("X-Amz-Signature="));
        if self.require_signature && !in_query && !head.headers.contains_key(header::AUTHORIZATION)
        {
            return Err(Refusal::access_denied());
        }
        Ok(())
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let environment = shared.actions.environment.clone();
    let stop = environment.tasks.token();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                environment.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = Arc::clone(&places).try_acquire_owned().ok();
        match place.filter(|_| !*shared.outage.borrow()) {
            Some(place) => {
                let connection = serve(Arc::clone(&shared), stream, place);
                environment.tasks.spawn(TaskKind::Connection, "connection", connection);
            }
            None => {
                let reset = Reset::default();
                reset.cut();
                drop(Wire::new(stream, reset));
            }
        }
    }
}

/// Serves one connection until its client leaves, a fault ends it, or the server does.
async fn serve(shared: Arc<Shared>, stream: TcpStream, _place: OwnedSemaphorePermit) {
    let (reset, stop) = (Reset::default(), shared.actions.environment.tasks.token());
    let mut outage = shared.outage.subscribe();
    // Otherwise small answers may wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let wire = Wire::new(stream, reset.clone());
    let answer = |request| exchange::exchange(Arc::clone(&shared), reset.clone(), request);
    let serving = http1::Builder::new().serve_connection(wire, service_fn(answer));
    tokio::select! {
        biased;
        () = stop.stopped() => {}
        _ = outage.wait_for(|on| *on) => {
            reset.cut();
        }
        // An error is a client that left, or a fault: both are expected here.
        _ = serving => {}
    }
}
