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
use crate::transactions::TRANSACTIONS_TOPIC;

/// Why there is no topic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoCreateRefusal {
    /// The client or the broker does not want it.
    NotAllowed,
    /// Not a legal topic name.
    InvalidName,
    /// The metadata cannot be written now; the client asks again.
    Unavailable,
}

/// The topic of that name, created with the broker's defaults if need be.
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
    let created = broker.controller.create_topic(name, partitions, BTreeMap::new()).await;
    match created {
        // A topic made by somebody else at the same moment is as good as ours.
        Ok(Ok(_) | Err(CreateTopicError::Exists)) => {
            broker.view.topic(name).ok_or(AutoCreateRefusal::Unavailable)
        }
        Ok(Err(CreateTopicError::Collides { .. } | CreateTopicError::Name(_))) => {
            Err(AutoCreateRefusal::InvalidName)
        }
        Ok(Err(refusal)) => {
            tracing::warn!(topic = name, %refusal, "automatic topic creation refused");
            Err(AutoCreateRefusal::Unavailable)
        }
        Err(error) => {
            tracing::warn!(topic = name, %error, "automatic topic creation failed");
            Err(AutoCreateRefusal::Unavailable)
        }
    }
}
