//! Lets a client program stop, kill and restart the broker it talks to.
//!
//! Owns: a loopback socket that takes one command a line and answers `ok NUMBER` or `error TEXT`.
//! Does not own: the broker (shared behind a lock) and what the client makes of the answers.
//!
//! Commands: `stop` (clean), `kill` (kill -9), `start` (answers the milliseconds until ready), `restart`
//! (`stop` and `start`), `memory` (resident bytes), `outage MILLISECONDS` (of the object store below the broker, where
//! the scenario has one; answered at its beginning).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::broker::Broker;
use crate::fake_store::FakeStore;

/// A broker that a scenario and its client program both steer.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Broker>>);

impl Shared {
    pub(crate) fn new(broker: Broker) -> Shared {
        Shared(Arc::new(Mutex::new(broker)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Broker> {
        // A panic elsewhere has already failed the run; the broker is still worth stopping.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves commands in the background until the process ends; returns where. The store stays its owner's to end.
pub(crate) fn serve(broker: Shared, store: Weak<FakeStore>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // One client at a time: a scenario is one program.
            let _ = converse(&stream, &broker, store.upgrade().as_deref());
        }
    });
    Ok(address)
}

fn converse(stream: &TcpStream, broker: &Shared, store: Option<&FakeStore>) -> Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        match obey(line?.trim(), &mut broker.lock(), store) {
            Ok(number) => writeln!(writer, "ok {number}")?,
            Err(error) => {
                writeln!(writer, "error {}", format!("{error:#}").replace('\n', " / "))?;
            }
        }
    }
    Ok(())
}

fn obey(command: &str, broker: &mut Broker, store: Option<&FakeStore>) -> Result<u64> {
    if let Some(millis) = command.strip_prefix("outage ") {
        let store = store.context("this scenario has no object store")?;
        return store.outage(Duration::from_millis(millis.parse()?)).map(|()| 0);
    }
    match command {
        "stop" => broker.stop().map(|()| 0),
        "kill" => broker.kill().map(|()| 0),
        "start" => start(broker),
        "restart" => {
            broker.stop()?;
            start(broker)
        }
        "memory" => broker.resident_bytes(),
        unknown => bail!("unknown command {unknown}"),
    }
}

fn start(broker: &mut Broker) -> Result<u64> {
    Ok(u64::try_from(broker.start()?.as_millis())?)
}
