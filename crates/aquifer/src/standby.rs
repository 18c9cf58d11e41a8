//! Waits while another process serves the cluster.
//!
//! Owns: finding out who is registered and whether they answer. Does not own: what protects data. That
//! a broker does not answer proves nothing; whoever opens the metadata fences whoever had it, and a log's
//! end is decided by the bucket. Waiting only keeps two processes from taking the cluster from each other.

use std::time::Duration;

use admin::Stage;
use broker::ask_peer;
use bucket::StoreBucket;
use cluster::{Broker, MetadataReader, StoreError};
use environment::Environment;

use crate::assembly::METADATA_PATH;
use crate::backoff::Tries;
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
pub(crate) async fn until_alone(
    node: &Node,
    bucket: &StoreBucket,
    cluster_id: &str,
    mut registered: Vec<Broker>,
    environment: &Environment,
) {
    let mut waited = false;
    let mut silent = 0;
    loop {
        match answering(&registered, cluster_id, environment).await {
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
                node.readiness
                    .enter(Stage::Starting("standing by: another broker serves the cluster"));
            }
            // Nobody was there to begin with, or nobody has been for long enough.
            None => {
                silent += 1;
                if !waited || SILENT_LOOKS_MIN <= silent {
                    return;
                }
            }
        }
        environment.clock.sleep(LOOK_INTERVAL).await;
        registered = look(bucket, environment).await;
    }
}

/// The registered brokers; none where the metadata cannot be read, also after some tries.
pub(crate) async fn look(bucket: &StoreBucket, environment: &Environment) -> Vec<Broker> {
    let passes = |error: &StoreError| matches!(error, StoreError::Unavailable(_));
    let open = || MetadataReader::open(bucket.object_store(), METADATA_PATH, environment);
    match LOOK_TRIES.run(environment, passes, open).await {
        Ok(metadata) => metadata.map_or_else(Vec::new, |it| it.brokers()),
        Err(error) => {
            // Opening it for good will tell what is wrong, if it lasts.
            tracing::warn!(%error, "the metadata could not be looked at");
            Vec::new()
        }
    }
}

/// A registered broker that answers for this cluster.
async fn answering<'a>(
    registered: &'a [Broker],
    cluster_id: &str,
    environment: &Environment,
) -> Option<&'a Broker> {
    for broker in registered {
        let peer = ask_peer(&broker.host, broker.port, &*environment.clock).await;
        if peer.is_some_and(|peer| peer.cluster_id == cluster_id && peer.broker == broker.id) {
            return Some(broker);
        }
    }
    None
}
