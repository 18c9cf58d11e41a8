use protocol::messages::create_topics::request::{
    CreatableReplicaAssignment, CreatableTopicConfig,
};

use super::*;

fn config() -> BrokerConfig {
    let given = [("num.partitions", "4"), ("aquifer.topic.partitions.max", "100")];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    BrokerConfig::resolve(&given.into_iter().collect(), None).expect("it resolves")
}

fn topic(partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: "t".to_owned(),
        num_partitions: partitions,
        replication_factor: factor,
        ..Default::default()
    }
}

fn assigned(replicas: &[(i32, &[i32])]) -> CreatableTopic {
    let assignment = |(index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
        partition_index: *index,
        broker_ids: brokers.to_vec(),
    };
    CreatableTopic { assignments: replicas.iter().map(assignment).collect(), ..topic(-1, -1) }
}

#[track_caller]
fn check(topic: &CreatableTopic, expected: Result<u32, ErrorCode>) {
    let brokers = [BrokerId(0), BrokerId(1)].into_iter().collect();
    let planned = plan(topic, &config(), &brokers);
    assert_eq!(planned.map(|it| it.partitions).map_err(|it| it.code), expected);
}

#[test]
fn counts_are_given_or_default() {
    check(&topic(-1, -1), Ok(4));
    check(&topic(7, 1), Ok(7));
    // Written for a cluster of three, four or more brokers: as good here.
    check(&topic(7, 3), Ok(7));
    check(&topic(7, 4), Ok(7));
    check(&topic(0, 1), Err(ErrorCode::InvalidPartitions));
    check(&topic(-2, 1), Err(ErrorCode::InvalidPartitions));
    check(&topic(101, 1), Err(ErrorCode::InvalidPartitions));
    check(&topic(1, 0), Err(ErrorCode::InvalidReplicationFactor));
    check(&topic(1, -2), Err(ErrorCode::InvalidReplicationFactor));
}

#[test]
fn an_assignment_counts_the_partitions() {
    check(&assigned(&[(0, &[0]), (1, &[1])]), Ok(2));
    check(&assigned(&[(1, &[0, 1]), (0, &[1, 0])]), Ok(2));
    check(&assigned(&[(0, &[0]), (2, &[0])]), Err(ErrorCode::InvalidReplicaAssignment));
    check(&assigned(&[(0, &[0]), (0, &[0])]), Err(ErrorCode::InvalidReplicaAssignment));
    check(&assigned(&[(0, &[0]), (1, &[0, 1])]), Err(ErrorCode::InvalidReplicaAssignment));
    check(&assigned(&[(0, &[])]), Err(ErrorCode::InvalidReplicaAssignment));
    check(&assigned(&[(0, &[0, 0])]), Err(ErrorCode::InvalidReplicaAssignment));
    check(&assigned(&[(0, &[9])]), Err(ErrorCode::InvalidReplicaAssignment));
    let both = CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[0])]) };
    check(&both, Err(ErrorCode::InvalidRequest));
    let both = CreatableTopic { replication_factor: 1, ..assigned(&[(0, &[0])]) };
    check(&both, Err(ErrorCode::InvalidRequest));
}

#[test]
fn configs_are_checked_and_told() {
    let with = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        }],
        ..topic(1, 1)
    };
    check(&with("cleanup.policy", Some("compact")), Ok(1));
    check(&with("cleanup.policy", Some("shred")), Err(ErrorCode::InvalidConfig));
    check(&with("retention.ms", None), Err(ErrorCode::InvalidConfig));
    check(&with("unknown", Some("1")), Err(ErrorCode::InvalidConfig));

    let planned = plan(&with("cleanup.policy", Some("compact")), &config(), &BTreeSet::new());
    let told = row("t".to_owned(), planned.map(|it| (TopicId::ZERO, it)), &config());
    let configs = told.configs.expect("configs are told");
    let policy = configs.iter().find(|it| it.name == "cleanup.policy").expect("it is told");
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
    assert!(configs.iter().any(|it| it.name == "retention.ms" && it.config_source == 5));
    assert_eq!((told.num_partitions, told.replication_factor), (1, 1));
}
