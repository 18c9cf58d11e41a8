//! Waits while another process serves the cluster.
//!
//! Owns: finding out who is registered and whether they answer. Does not own: what protects data. That
//! a broker does not answer proves nothing; whoever opens the metadata fences whoever had it, and a log's
//! end is decided by the bucket. Waiting only keeps two processes from taking the cluster from each other.
//!
//! Who cannot look at the metadata does not know who serves the cluster: such a look never counts as silence. A bucket
//! that does not answer is waited for; metadata that stays unreadable ends the wait with a failure, so that a damaged
//! bucket, or an older Aquifer beside a newer one, takes the cluster from nobody.

use std::time::Duration;

use admin::{Readiness, Stage};
use broker::ask_peer;
use bucket::StoreBucket;
use cluster::{Broker, MetadataReader, StoreError};
use environment::Environment;

use crate::assembly::METADATA_PATH;
use crate::backoff::Tries;
use crate::failure::Failure;
use crate::node::Node;

/// Between two looks at the brokers that answer. Shorter: sooner in their place, more requests.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Looks that a silent broker is given, so that one lost packet does not move a cluster.
const SILENT_LOOKS_MIN: u32 = 2;

/// Tries of one look before the metadata counts as unreadable, and the waits between them.
const LOOK_TRIES: Tries =
    Tries { count_max: 4, wait_min: Duration::from_millis(200), wait_max: Duration::from_secs(1) };

/// Returns when no registered broker of this cluster answers. For ever, if need be: a second process on
/// the same bucket is a standby. `registered` is what a first look has shown.
///
/// # Errors
/// The metadata is there and cannot be read.
pub(crate) async fn until_alone(
    node: &Node,
    bucket: &StoreBucket,
    cluster_id: &str,
    registered: Vec<Broker>,
    environment: &Environment,
) -> Result<(), Failure> {
    let looks = async || look(bucket, environment).await;
    let asks = async |registered: Vec<Broker>| answering(registered, cluster_id, environment).await;
    stand_by(registered, looks, asks, &node.readiness, environment).await
}

async fn stand_by(
    mut registered: Vec<Broker>,
    mut looks: impl AsyncFnMut() -> Result<Vec<Broker>, StoreError>,
    mut asks: impl AsyncFnMut(Vec<Broker>) -> Option<Broker>,
    readiness: &Readiness,
    environment: &Environment,
) -> Result<(), Failure> {
    let mut waited = false;
    let mut silent = 0;
    loop {
        match asks(registered).await {
            Some(broker) => {
                silent = 0;
                if !waited {
                    tracing::warn!(
                        broker = broker.id.0,
                        endpoint = format!("{}:{}", broker.host, broker.port),
                        "another broker serves this cluster: standing by until it is gone"
                    );
                }
                waited = true;
                readiness.enter(Stage::Starting("standing by: another broker serves the cluster"));
            }
            // Nobody was there to begin with, or nobody has been for long enough.
            None => {
                silent += 1;
                if !waited || SILENT_LOOKS_MIN <= silent {
                    return Ok(());
                }
            }
        }
        registered = loop {
            environment.clock.sleep(LOOK_INTERVAL).await;
            match looks().await {
                Ok(registered) => break registered,
                Err(error @ StoreError::Unavailable(_)) => {
                    // What hides the bucket may hide the brokers as well.
                    silent = 0;
                    tracing::warn!(%error, "the metadata cannot be looked at: standing by");
                    readiness.enter(Stage::Starting("standing by: the bucket does not answer"));
                }
                Err(error) => return Err(unreadable(&error)),
            }
        };
    }
}

/// The registered brokers; none of a bucket without metadata.
///
/// # Errors
/// The metadata cannot be read, also after some tries.
pub(crate) async fn look(
    bucket: &StoreBucket,
    environment: &Environment,
) -> Result<Vec<Broker>, StoreError> {
    let open = || MetadataReader::open(bucket.object_store(), METADATA_PATH, environment);
    // Whatever it is: a writer may be changing files under our eyes.
    let metadata = LOOK_TRIES.run(environment, |_| true, open).await?;
    Ok(metadata.map_or_else(Vec::new, |it| it.brokers()))
}

/// Why the metadata that is there is not opened. Whoever serves the cluster keeps it.
pub(crate) fn unreadable(error: &StoreError) -> Failure {
    Failure::open(format!("the metadata cannot be opened: {error}")).advise(match error {
        StoreError::Fenced | StoreError::Unavailable(_) => {
            "Can this machine reach the bucket and read below its `meta` prefix?"
        }
        StoreError::Gone(_) | StoreError::Corrupt { .. } => {
            "`aquifer doctor` says what is damaged. Nothing was taken from a broker that serves the cluster."
        }
    })
}

/// A registered broker that answers for this cluster.
async fn answering(
    registered: Vec<Broker>,
    cluster_id: &str,
    environment: &Environment,
) -> Option<Broker> {
    for broker in registered {
        let peer = ask_peer(&broker.host, broker.port, &*environment.clock).await;
        if peer.is_some_and(|peer| peer.cluster_id == cluster_id && peer.broker == broker.id) {
            return Some(broker);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bucket::{Faults, LyingStore, StoreOptions};
    use cluster::{Controller, RegisterBroker, WalKind};
    use std::collections::VecDeque;
    use std::sync::Arc;
    use vocabulary::{BrokerEpoch, BrokerId};

    fn primary() -> Broker {
        let (id, host) = (BrokerId(1), "primary".to_owned());
        Broker { id, epoch: BrokerEpoch(1), host, port: 9092, rack: None }
    }

    fn hidden() -> Result<Vec<Broker>, StoreError> {
        Err(StoreError::Unavailable("no route".to_owned()))
    }

    /// Looks and answers as they come, and how many looks were left when it was over. `true`: the primary answers.
    #[track_caller]
    fn check(
        answers: &[bool],
        looks: Vec<Result<Vec<Broker>, StoreError>>,
    ) -> impl Future<Output = (Result<(), Failure>, usize, usize)> {
        let mut answers: VecDeque<bool> = answers.iter().copied().collect();
        let mut looks: VecDeque<_> = looks.into();
        async move {
            let environment = Environment::simulated(1);
            let readiness = Readiness::starting("test");
            let ended = stand_by(
                vec![primary()],
                async || looks.pop_front().expect("it waits no longer than that"),
                async |registered| {
                    let is_there = answers.pop_front().expect("it asks no more");
                    (is_there && registered == [primary()]).then(primary)
                },
                &readiness,
                &environment,
            );
            (ended.await, looks.len(), answers.len())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_silent_looks_end_the_wait_and_one_that_saw_nothing_does_not_count() {
        let seen = || Ok(vec![primary()]);
        assert_eq!(check(&[false], vec![]).await, (Ok(()), 0, 0), "nobody to begin with");
        let silence = check(&[true, false, false], vec![seen(), seen()]);
        assert_eq!(silence.await, (Ok(()), 0, 0));
        // The standby alone is cut off: it waits, and does not ask what it could not understand.
        let cut_off = vec![hidden(), hidden(), hidden(), seen(), seen(), seen()];
        assert_eq!(check(&[true, true, false, false], cut_off).await, (Ok(()), 0, 0));
        // A silence from before does not count any more.
        let between = vec![seen(), hidden(), seen(), seen()];
        assert_eq!(check(&[true, false, false, false], between).await, (Ok(()), 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn metadata_that_nobody_can_read_is_taken_from_nobody() {
        let spoilt = StoreError::Corrupt { key: "b/01".to_owned(), reason: "version 9".to_owned() };
        let (ended, _, _) = check(&[true], vec![hidden(), Err(spoilt)]).await;
        let failure = ended.expect_err("it ends").to_string();
        assert!(failure.contains("b/01") && failure.contains("newer Aquifer"), "{failure}");
        let gone = StoreError::Gone("meta/compacted/1.sst".to_owned());
        let (ended, _, _) = check(&[true], vec![Err(gone)]).await;
        ended.expect_err("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_does_not_answer_is_no_empty_cluster() {
        let environment = Environment::simulated(1);
        let memory = StoreBucket::memory(&environment);
        let liar = LyingStore::new(memory.object_store(), 1, Faults::NONE, &environment);
        let liar = Arc::new(liar);
        let below = Arc::<LyingStore>::clone(&liar);
        let bucket = StoreBucket::new(below, StoreOptions::remote(), &environment);
        assert_eq!(look(&bucket, &environment).await, Ok(Vec::new()), "nobody was here yet");
        let name = "cluster".to_owned();
        let options = cluster::StoreOptions::default();
        let store = bucket.object_store();
        let opened = Controller::open(store, METADATA_PATH, name, &options, &environment).await;
        let controller = opened.expect("a new one");
        let command = RegisterBroker {
            id: BrokerId(1),
            host: "primary".to_owned(),
            port: 9092,
            rack: None,
            wal: WalKind::File,
            volume: None,
            gives_up: None,
            takes_over: Vec::new(),
        };
        controller.register_broker(command).await.expect("answered");
        let found = look(&bucket, &environment).await.expect("it answers");
        assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), [BrokerId(1)]);
        liar.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
        let told = look(&bucket, &environment).await;
        assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    }
}
