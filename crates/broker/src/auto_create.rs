//! Creates a topic because somebody asked for it by name (auto.create.topics.enable).

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{CreateTopicError, Topic};
use coordinator::Shard;
use coordinator::share::ShareShard;
use coordinator::transactions::TransactionShard;

use crate::broker::Broker;
use crate::groups::OFFSETS_TOPIC;
use crate::owners::Machine;
use crate::shares::SHARE_STATE_TOPIC;
use crate::topic_admin;
use crate::topic_creation::NotCreated;
use crate::transactions::TRANSACTIONS_TOPIC;

/// Automatic creations under way at once, over all requests: as many as the controller takes in one turn. More wait,
/// and are asked for again.
pub(crate) const CREATIONS_AT_ONCE: usize = 256;

/// Why there is no topic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoCreateRefusal {
    /// The client or the broker does not want it.
    NotAllowed,
    /// Not a legal topic name.
    InvalidName,
    /// The metadata cannot be written now, or not in time; the client asks again.
    Unavailable,
}

/// The topic of that name, created with the broker's defaults if need be, within
/// [`CREATION_WAIT_MAX`](crate::topic_creation::CREATION_WAIT_MAX).
pub(crate) async fn create(
    broker: &Arc<Broker>,
    name: &str,
    client_allows: bool,
) -> Result<Arc<Topic>, AutoCreateRefusal> {
    if cluster::check_topic_name(name).is_err() {
        return Err(AutoCreateRefusal::InvalidName);
    }
    if !client_allows || !broker.config.auto_create_topics {
        return Err(AutoCreateRefusal::NotAllowed);
    }
    // Coordinators' topics are made as coordinators need them, whoever asks first.
    let internal = match name {
        OFFSETS_TOPIC => Some(Shard::owners(broker).ensure_topic(broker).await),
        TRANSACTIONS_TOPIC => Some(TransactionShard::owners(broker).ensure_topic(broker).await),
        SHARE_STATE_TOPIC => Some(ShareShard::owners(broker).ensure_topic(broker).await),
        _ if topic_admin::refuse_internal(name, "Creation").is_err() => {
            return Err(AutoCreateRefusal::InvalidName);
        }
        _ => None,
    };
    if let Some(topic) = internal {
        return topic.map_err(|_| AutoCreateRefusal::Unavailable);
    }
    let partitions = broker.config.num_partitions;
    let created = broker.creations.create(broker, name, partitions, BTreeMap::new()).await;
    created.map_err(|reason| match reason {
        NotCreated::Refused(CreateTopicError::Collides { .. } | CreateTopicError::Name(_)) => {
            AutoCreateRefusal::InvalidName
        }
        NotCreated::NotYet => {
            tracing::debug!(topic = name, %reason, "automatic topic creation");
            AutoCreateRefusal::Unavailable
        }
        NotCreated::Refused(_) | NotCreated::Failed(_) => {
            tracing::warn!(topic = name, %reason, "no automatic topic creation");
            AutoCreateRefusal::Unavailable
        }
    })
}
