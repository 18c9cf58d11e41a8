//! What the topic administration APIs share: repeated rows, internal names, assignments, limits, deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use cluster::{CreatePartitionsError, CreateTopicError, SubmitError, UnknownTopic};
use protocol::ErrorCode;
use vocabulary::{BrokerId, Tick};

use crate::admin_rows;
use crate::broker::Broker;
use crate::refusal::Refusal;

/// What clients are told: the leader is the whole replica set they see.
pub(crate) const REPLICATION_FACTOR: i16 = 1;

/// Written by the brokers themselves; their number of partitions is a promise to every group.
const INTERNAL_TOPICS: [&str; 4] =
    ["__cluster_metadata", "__consumer_offsets", "__share_group_state", "__transaction_state"];

/// Partitions that one request may create, over all its topics. Kafka's limit (`MAX_PARTITIONS_PER_BATCH`).
pub(crate) const NEW_PARTITIONS_MAX: u64 = 10_000;

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

/// Refuses a request as a whole that would create more partitions than one may.
pub(crate) fn check_new_partitions(
    partitions: impl Iterator<Item = u64>,
    words: &str,
) -> Result<(), Refusal> {
    match partitions.fold(0, u64::saturating_add) {
        0..=NEW_PARTITIONS_MAX => Ok(()),
        _ => Err(Refusal::new(ErrorCode::PolicyViolation, words)),
    }
}

/// Waits for a metadata change until the deadline of its request ([`admin_rows::deadline`]). After REQUEST_TIMED_OUT
/// the change may still happen; clients know that of this code.
pub(crate) async fn within<T, E>(
    broker: &Broker,
    deadline: Tick,
    change: impl Future<Output = Result<Result<T, E>, SubmitError>>,
) -> Result<T, Refusal>
where
    E: Into<Refusal>,
{
    match admin_rows::until(broker, deadline, change).await {
        Some(Ok(decided)) => decided.map_err(E::into),
        Some(Err(error)) => Err(<Refusal as From<SubmitError>>::from(error)),
        None => Err(admin_rows::late()),
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
    fn a_request_creates_ten_thousand_partitions_at_most() {
        let check = |partitions: &[u64]| {
            check_new_partitions(partitions.iter().copied(), "too many").map_err(|it| it.code)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[9_999, 0, 1]), Ok(()));
        for bad in [&[9_999, 2][..], &[10_001], &[u64::MAX, 1]] {
            assert_eq!(check(bad), Err(ErrorCode::PolicyViolation), "{bad:?}");
        }
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
