//! CreateTopics (key 19): one row a topic, each decided by itself.
//!
//! Any replication factor of at least 1 is accepted and 1 is reported: clients written for three
//! replicas work unchanged, and durability comes from the WAL and the bucket (ladder 12).

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::{AclOperation, CreateTopicError};
use protocol::ErrorCode;
use protocol::messages::create_topics::request::CreatableTopic;
use protocol::messages::create_topics::response::{CreatableTopicConfigs, CreatableTopicResult};
use protocol::messages::create_topics::{Request, Response};
use vocabulary::{BrokerId, Tick, TopicId};

use crate::admin_rows::{self, CHANGES_AT_ONCE};
use crate::broker::Broker;
use crate::configs::{self, BrokerConfig, Properties};
use crate::context::RequestContext;
use crate::refusal::Refusal;
use crate::topic_admin::{self, REPLICATION_FACTOR};

/// "Use the broker's default" (KIP-464).
const DEFAULT: i32 = -1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let repeated = topic_admin::repeated(request.topics.iter().map(|it| it.name.as_str()));
    let may_create_all = context.sees_cluster(AclOperation::Create);
    let may_create =
        |name: &str| may_create_all || context.allows_topic(AclOperation::Create, name);
    let asked = request.topics.into_iter().map(|topic| {
        let refused = if repeated.contains(&topic.name) {
            Some(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else if !may_create(&topic.name) {
            let words = "Authorization failed.";
            Some(Refusal::new(ErrorCode::TopicAuthorizationFailed, words))
        } else {
            None
        };
        (topic, refused)
    });
    let asked: Vec<(CreatableTopic, Option<Refusal>)> = asked.collect();
    let fits = check_size(&asked, broker.config.num_partitions);
    let wanted = Wanted {
        validate_only: request.validate_only,
        deadline: admin_rows::deadline(broker, request.timeout_ms),
    };
    let created = admin_rows::run(asked, CHANGES_AT_ONCE, |(topic, refused)| {
        let fits = &fits;
        Box::pin(async move {
            let created = match (refused, fits) {
                (_, Err(too_many)) => Err(too_many.clone()),
                (Some(refusal), Ok(())) => Err(refusal),
                (None, Ok(())) => create(broker, &topic, wanted).await,
            };
            match context.sees_topic(AclOperation::DescribeConfigs, &topic.name) {
                true => row(topic.name, created, &broker.config),
                false => without_configs(row(topic.name, created, &broker.config)),
            }
        })
    });
    Response { topics: created.await, ..Default::default() }
}

/// How a request wants its topics created.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    validate_only: bool,
    deadline: Tick,
}

/// Of the request as a whole, before anything is wrong with one of its topics, as in Kafka.
fn check_size(asked: &[(CreatableTopic, Option<Refusal>)], default: u32) -> Result<(), Refusal> {
    let allowed = asked.iter().filter(|(_, refused)| refused.is_none());
    let partitions = allowed.map(|(topic, _)| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as u64,
        DEFAULT => u64::from(default),
        count => u64::try_from(count).unwrap_or(0),
    });
    let words = "Excessively large number of partitions per request.";
    topic_admin::check_new_partitions(partitions, words)
}

/// With the name that is taken, as Kafka says it.
fn named(name: &str, error: CreateTopicError) -> Refusal {
    match error {
        CreateTopicError::Exists => {
            let message = format!("Topic '{name}' already exists.");
            Refusal::new(ErrorCode::TopicAlreadyExists, message)
        }
        other => other.into(),
    }
}

/// A topic that may be created.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    partitions: u32,
    configs: Properties,
}

async fn create(
    broker: &Arc<Broker>,
    topic: &CreatableTopic,
    wanted: Wanted,
) -> Result<(TopicId, Plan), Refusal> {
    // The name first, as Kafka does: whoever creates what exists learns that, whatever else is wrong.
    broker
        .controller
        .check_create_topic(&topic.name, 1)
        .map_err(|error| named(&topic.name, error))?;
    topic_admin::refuse_internal(&topic.name, "Creation")?;
    let known: BTreeSet<BrokerId> = broker.view.brokers().iter().map(|it| it.id).collect();
    let plan = plan(topic, &broker.config, &known)?;
    let Plan { partitions, configs } = plan.clone();
    if wanted.validate_only {
        broker.controller.check_create_topic(&topic.name, partitions)?;
        return Ok((TopicId::ZERO, plan));
    }
    let creation = broker.controller.create_topic(&topic.name, partitions, configs);
    let created = topic_admin::within(broker, wanted.deadline, creation).await?;
    Ok((created.id, plan))
}

fn plan(
    topic: &CreatableTopic,
    config: &BrokerConfig,
    brokers: &BTreeSet<BrokerId>,
) -> Result<Plan, Refusal> {
    let partitions = if topic.assignments.is_empty() {
        check_counts(topic)?;
        // Only -1 is left of the negative numbers: the default.
        u32::try_from(topic.num_partitions).unwrap_or(config.num_partitions)
    } else {
        check_assignments(topic, brokers)?
    };
    if config.partitions_max < partitions {
        return Err(Refusal::new(
            ErrorCode::InvalidPartitions,
            format!(
                "A topic may have at most {} partitions (aquifer.topic.partitions.max).",
                config.partitions_max
            ),
        ));
    }
    let configs = settings(topic)?;
    configs::check_topic(&configs, &config.layers())?;
    Ok(Plan { partitions, configs })
}

fn check_counts(topic: &CreatableTopic) -> Result<(), Refusal> {
    let factor = i32::from(topic.replication_factor);
    if factor < DEFAULT || factor == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if topic.num_partitions < DEFAULT || topic.num_partitions == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions must be larger than 0, or -1 to use the default value.",
        ));
    }
    Ok(())
}

/// A manual assignment says how many partitions; which broker leads is the balancer's business, so
/// any registered broker may be named. Returns the number of partitions.
fn check_assignments(topic: &CreatableTopic, brokers: &BTreeSet<BrokerId>) -> Result<u32, Refusal> {
    for (set, what) in [
        (topic.replication_factor != -1, "replication factor"),
        (topic.num_partitions != DEFAULT, "numPartitions"),
    ] {
        if set {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "A manual partition assignment was specified, but {what} was not set to -1."
                ),
            ));
        }
    }
    let invalid = |message| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
    let mut indexes = BTreeSet::new();
    for assignment in &topic.assignments {
        topic_admin::check_replicas(&assignment.broker_ids, brokers)?;
        let index = assignment.partition_index;
        if !indexes.insert(index) {
            return Err(invalid(format!(
                "Found multiple manual partition assignments for partition {index}"
            )));
        }
    }
    let factors: BTreeSet<usize> = topic.assignments.iter().map(|it| it.broker_ids.len()).collect();
    if 1 < factors.len() {
        return Err(invalid("Partitions must all have the same number of replicas.".to_owned()));
    }
    let count = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
    if indexes.into_iter().map(i64::from).ne(0..i64::from(count)) {
        return Err(invalid(
            "partitions should be a consecutive 0-based integer sequence".to_owned(),
        ));
    }
    Ok(count)
}

fn settings(topic: &CreatableTopic) -> Result<Properties, Refusal> {
    let mut settings = Properties::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return Err(Refusal::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {}", config.name),
            ));
        };
        settings.insert(config.name.clone(), value.clone());
    }
    Ok(settings)
}

fn row(
    name: String,
    created: Result<(TopicId, Plan), Refusal>,
    config: &BrokerConfig,
) -> CreatableTopicResult {
    match created {
        Err(Refusal { code, message }) => CreatableTopicResult {
            name,
            error_code: code.code(),
            error_message: Some(message),
            ..Default::default()
        },
        Ok((topic_id, plan)) => CreatableTopicResult {
            name,
            topic_id,
            error_message: None,
            num_partitions: i32::try_from(plan.partitions).unwrap_or(i32::MAX),
            replication_factor: REPLICATION_FACTOR,
            configs: Some(described(&plan.configs, config)),
            ..Default::default()
        },
    }
}

/// What is told to who may not see the topic's configs (KIP-525).
fn without_configs(row: CreatableTopicResult) -> CreatableTopicResult {
    if row.error_code != ErrorCode::None.code() {
        return row;
    }
    CreatableTopicResult {
        topic_config_error_code: ErrorCode::TopicAuthorizationFailed.code(),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..row
    }
}

/// The new topic's configs (KIP-525), defaults included.
fn described(settings: &Properties, config: &BrokerConfig) -> Vec<CreatableTopicConfigs> {
    let rows = configs::describe_topic(settings, &config.layers()).into_iter();
    let rows = rows.map(|it| CreatableTopicConfigs {
        name: it.name.to_owned(),
        value: it.value,
        read_only: it.read_only,
        config_source: it.source.wire_code(),
        is_sensitive: it.sensitive,
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
