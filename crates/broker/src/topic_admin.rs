//! What the topic administration APIs share: repeated rows, internal names, assignments, deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use cluster::{CreatePartitionsError, CreateTopicError, SubmitError, UnknownTopic};
use protocol::ErrorCode;
use vocabulary::BrokerId;

use crate::broker::Broker;
use crate::refusal::Refusal;

/// What clients are told: the leader is the whole replica set they see.
pub(crate) const REPLICATION_FACTOR: i16 = 1;

/// Written by the brokers themselves; their number of partitions is a promise to every group.
const INTERNAL_TOPICS: [&str; 4] =
    ["__cluster_metadata", "__consumer_offsets", "__share_group_state", "__transaction_state"];

/// The shortest wait for the metadata, whatever the client allows: some ask for 0 and mean "do not
/// wait for every broker to know", which is no wait here.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Names that appear more than once: every row of such a name is refused, as in Kafka.
pub(crate) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| 1 < *count).map(|(name, _)| name.to_owned()).collect()
}

/// `action` begins the sentence: "Creation", "Deletion".
pub(crate) fn refuse_internal(name: &str, action: &str) -> Result<(), Refusal> {
    if INTERNAL_TOPICS.contains(&name) {
        let message = format!("{action} of internal topic {name} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// One partition's replicas as a client assigns them: registered brokers, each once.
pub(crate) fn check_replicas(
    replicas: &[i32],
    brokers: &BTreeSet<BrokerId>,
) -> Result<(), Refusal> {
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid(
            "The manual partition assignment includes an empty replica list.".to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    for broker in replicas {
        if !brokers.contains(&BrokerId(*broker)) {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is \
                 registered."
            ));
        }
        if !seen.insert(broker) {
            return invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
    }
    Ok(())
}

/// Waits for a metadata change as long as the client does. After REQUEST_TIMED_OUT the change may
/// still happen; clients know that of this code.
pub(crate) async fn within<T, E>(
    broker: &Broker,
    timeout_ms: i32,
    change: impl Future<Output = Result<Result<T, E>, SubmitError>>,
) -> Result<T, Refusal>
where
    E: Into<Refusal>,
{
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    tokio::select! {
        biased;
        done = change => match done {
            Ok(decided) => decided.map_err(E::into),
            Err(error) => Err(<Refusal as From<SubmitError>>::from(error)),
        },
        () = broker.environment.clock.sleep(asked.max(WAIT_MIN)) => Err(Refusal::new(
            ErrorCode::RequestTimedOut,
            "The metadata could not be written in time; the change may still happen.",
        )),
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Refusal {
        let code = match error {
            // Clients look for another controller and ask it.
            SubmitError::Fenced | SubmitError::Stopping => ErrorCode::NotController,
            SubmitError::Unavailable(_) => ErrorCode::RequestTimedOut,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<CreateTopicError> for Refusal {
    fn from(error: CreateTopicError) -> Refusal {
        let code = match error {
            CreateTopicError::Exists => ErrorCode::TopicAlreadyExists,
            CreateTopicError::Collides { .. } | CreateTopicError::Name(_) => {
                ErrorCode::InvalidTopicException
            }
            CreateTopicError::Partitions { .. } => ErrorCode::InvalidPartitions,
            CreateTopicError::NoBroker => ErrorCode::InvalidReplicationFactor,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<CreatePartitionsError> for Refusal {
    fn from(error: CreatePartitionsError) -> Refusal {
        let code = match error {
            CreatePartitionsError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            CreatePartitionsError::NotMore { .. } | CreatePartitionsError::TooMany { .. } => {
                ErrorCode::InvalidPartitions
            }
            CreatePartitionsError::NoBroker => ErrorCode::InvalidReplicationFactor,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<UnknownTopic> for Refusal {
    fn from(error: UnknownTopic) -> Refusal {
        Refusal::new(ErrorCode::UnknownTopicOrPartition, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_are_found_once() {
        let found = repeated(["a", "b", "a", "c", "a", "c"].into_iter());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn internal_topics_are_the_brokers_own() {
        assert_eq!(refuse_internal("orders", "Creation"), Ok(()));
        let refused = refuse_internal("__consumer_offsets", "Deletion").expect_err("it is refused");
        assert_eq!(refused.message, "Deletion of internal topic __consumer_offsets is prohibited.");
    }

    #[test]
    fn replicas_are_registered_brokers_each_once() {
        let brokers = [BrokerId(1), BrokerId(2)].into_iter().collect();
        assert_eq!(check_replicas(&[2, 1], &brokers), Ok(()));
        for bad in [&[][..], &[3], &[1, 1]] {
            let code = check_replicas(bad, &brokers).map_err(|it| it.code);
            assert_eq!(code, Err(ErrorCode::InvalidReplicaAssignment), "{bad:?}");
        }
    }
}
