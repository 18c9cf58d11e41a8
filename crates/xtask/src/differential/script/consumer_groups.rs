//! Consumer groups whose members only heartbeat (KIP-848), at their edges.

use anyhow::Result;
use protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribe};
use protocol::messages::consumer_group_heartbeat::{self, ConsumerGroupHeartbeat};
use protocol::messages::delete_groups::{self, DeleteGroups};
use protocol::messages::describe_groups::{self, DescribeGroups};
use protocol::messages::heartbeat::Heartbeat;
use protocol::messages::join_group::JoinGroup;
use protocol::messages::list_groups::{self, ListGroups};
use protocol::messages::offset_commit::{self, OffsetCommit};
use protocol::messages::offset_fetch::{self, OffsetFetch};
use vocabulary::TopicId;

use super::Asking;
use super::groups::{beating, commit, joining_as};

/// Member epochs with a meaning of their own.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;
const LEAVING_FOR_A_WHILE: i32 = -2;
const GROUP: &str = "heartbeating";

fn beat(group: &str, member: &str, epoch: i32) -> consumer_group_heartbeat::Request {
    consumer_group_heartbeat::Request {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        ..Default::default()
    }
}

/// With everything that a member says when it joins.
fn join(group: &str, member: &str) -> consumer_group_heartbeat::Request {
    consumer_group_heartbeat::Request {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["shared".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..beat(group, member, JOINING)
    }
}

fn owning(
    topic: TopicId,
    partitions: &[i32],
) -> Vec<consumer_group_heartbeat::request::TopicPartitions> {
    vec![consumer_group_heartbeat::request::TopicPartitions {
        topic_id: topic,
        partitions: partitions.to_vec(),
    }]
}

pub(super) fn all(asking: &mut Asking<'_>) -> Result<()> {
    let topic = asking.topic("shared", 2, &[])?;
    refused(asking, topic)?;
    let epoch = entering(asking, topic)?;
    epochs(asking, topic, epoch)?;
    offsets(asking, epoch)?;
    as_others_see_it(asking)?;
    leaving(asking, epoch)?;
    instances(asking)
}

fn refused(asking: &mut Asking<'_>, topic: TopicId) -> Result<()> {
    let mut steps = vec![
        ("an unknown group", beat("nobody", "me", 3)),
        ("leaving an unknown group", beat("nobody", "me", LEAVING)),
        ("no group", join("", "me")),
        ("no member id", join("refused", "")),
        ("an epoch below all", beat("refused", "me", -4)),
        ("an instance that is not", beat("refused", "me", LEAVING_FOR_A_WHILE)),
        ("nothing said", beat("refused", "me", JOINING)),
    ];
    let mut odd = |step, change: &dyn Fn(&mut consumer_group_heartbeat::Request)| {
        let mut request = join("refused", "me");
        change(&mut request);
        steps.push((step, request));
    };
    odd("no time to rebalance", &|it| it.rebalance_timeout_ms = -1);
    odd("no subscription", &|it| it.subscribed_topic_names = None);
    odd("no list of partitions", &|it| it.topic_partitions = None);
    odd("joining with partitions", &|it| it.topic_partitions = Some(owning(topic, &[0])));
    odd("an empty instance", &|it| it.instance_id = Some(String::new()));
    odd("an empty rack", &|it| it.rack_id = Some(String::new()));
    odd("an empty assignor", &|it| it.server_assignor = Some(String::new()));
    odd("an unknown assignor", &|it| it.server_assignor = Some("nobody".to_owned()));
    odd("a pattern that is none", &|it| {
        it.subscribed_topic_names = None;
        it.subscribed_topic_regex = Some("[".to_owned());
    });
    for (step, request) in steps {
        asking.ask::<ConsumerGroupHeartbeat>(step, 1, &request)?;
    }
    Ok(())
}

/// Becomes the only member; returns its epoch once it has all partitions.
fn entering(asking: &mut Asking<'_>, topic: TopicId) -> Result<i32> {
    let mut nobody = join(GROUP, "listener");
    nobody.subscribed_topic_names = Some(vec!["nobody".to_owned()]);
    asking.ask::<ConsumerGroupHeartbeat>("joining for a topic that is not", 1, &nobody)?;
    let joined = asking.prepare::<ConsumerGroupHeartbeat>(1, &join(GROUP, "listener"))?;
    // When the assignor runs is the broker's choice.
    let assigned = |answer: &consumer_group_heartbeat::Response| {
        answer.assignment.as_ref().is_some_and(|it| !it.topic_partitions.is_empty())
    };
    let answer = match assigned(&joined) {
        true => joined,
        false => {
            let full = beat_in_full(joined.member_epoch, &[]);
            asking.until::<ConsumerGroupHeartbeat>(1, &full, assigned)?
        }
    };
    asking.answers.all("ConsumerGroupHeartbeat v1, joined", &answer);
    let mut owned = beat_in_full(answer.member_epoch, &[]);
    owned.topic_partitions = Some(owning(topic, &[0, 1]));
    asking.ask::<ConsumerGroupHeartbeat>("owning all", 1, &owned)?;
    let quiet = beat(GROUP, "listener", answer.member_epoch);
    asking.ask::<ConsumerGroupHeartbeat>("with nothing to say", 1, &quiet)?;
    Ok(answer.member_epoch)
}

/// A heartbeat that says everything again, so that the answer does, too.
fn beat_in_full(
    epoch: i32,
    owned: &[consumer_group_heartbeat::request::TopicPartitions],
) -> consumer_group_heartbeat::Request {
    consumer_group_heartbeat::Request {
        member_epoch: epoch,
        topic_partitions: Some(owned.to_vec()),
        ..join(GROUP, "listener")
    }
}

fn epochs(asking: &mut Asking<'_>, topic: TopicId, epoch: i32) -> Result<()> {
    for (step, offset) in [("a newer epoch", 1), ("far ahead", 100)] {
        let request = beat(GROUP, "listener", epoch + offset);
        asking.ask::<ConsumerGroupHeartbeat>(step, 1, &request)?;
    }
    let mut old = beat(GROUP, "listener", epoch - 1);
    asking.ask::<ConsumerGroupHeartbeat>("an old epoch", 1, &old)?;
    old.topic_partitions = Some(owning(topic, &[5]));
    asking.ask::<ConsumerGroupHeartbeat>("an old epoch, with what is not its own", 1, &old)?;
    let stranger = beat(GROUP, "stranger", epoch);
    asking.ask::<ConsumerGroupHeartbeat>("an unknown member", 1, &stranger)?;
    let classic = joining_as(GROUP, "");
    let mut other = classic.clone();
    other.protocol_type = "connect".to_owned();
    asking.ask::<JoinGroup>("into a consumer group, as connect", 9, &other)?;
    asking.ask::<Heartbeat>("into a consumer group", 4, &beating(GROUP, epoch, "listener"))?;
    // The other way round: a group of classic members that are no consumers.
    let mut workers = joining_as("workers-of-connect", "");
    workers.protocol_type = "connect".to_owned();
    let named = asking.prepare::<JoinGroup>(9, &workers)?;
    workers.member_id = named.member_id;
    asking.prepare::<JoinGroup>(9, &workers)?;
    let into = join("workers-of-connect", "me");
    asking.ask::<ConsumerGroupHeartbeat>("into a group of connect", 1, &into)?;
    Ok(())
}

fn offsets(asking: &mut Asking<'_>, epoch: i32) -> Result<()> {
    let by = |member: &str, epoch| commit(GROUP, epoch, member, "shared", 0, 4, None);
    for (step, member, epoch) in [
        ("of an old epoch", "listener", epoch - 1),
        ("of a newer epoch", "listener", epoch + 1),
        ("of an unknown member", "stranger", epoch),
        ("of nobody", "", -1),
        ("of its epoch", "listener", epoch),
    ] {
        asking.ask::<OffsetCommit>(&format!("{step}, consumer group"), 9, &by(member, epoch))?;
    }
    // A version that knows no member epochs.
    let request: offset_commit::Request = by("listener", epoch);
    asking.ask::<OffsetCommit>("of its epoch, consumer group", 8, &request)?;
    for (step, member, member_epoch) in [
        ("its own", Some("listener"), epoch),
        ("of an old epoch", Some("listener"), epoch - 1),
        ("of an unknown member", Some("stranger"), epoch),
        ("of nobody", None, -1),
    ] {
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
                group_id: GROUP.to_owned(),
                member_id: member.map(str::to_owned),
                member_epoch,
                topics: Some(vec![offset_fetch::request::OffsetFetchRequestTopics {
                    name: "shared".to_owned(),
                    topic_id: TopicId::default(),
                    partition_indexes: vec![0, 1],
                }]),
            }],
            ..Default::default()
        };
        asking.ask::<OffsetFetch>(&format!("{step}, consumer group"), 9, &request)?;
    }
    Ok(())
}

fn as_others_see_it(asking: &mut Asking<'_>) -> Result<()> {
    for (step, name) in [
        ("a group", GROUP),
        ("an unknown group", "nobody"),
        ("a group of connect", "workers-of-connect"),
        ("a classic group", "group"),
        ("no group", ""),
    ] {
        let request = consumer_group_describe::Request {
            group_ids: vec![name.to_owned()],
            include_authorized_operations: false,
        };
        asking.ask::<ConsumerGroupDescribe>(step, 1, &request)?;
    }
    let request = describe_groups::Request {
        groups: vec![GROUP.to_owned()],
        include_authorized_operations: false,
    };
    for version in [5, 6] {
        asking.ask::<DescribeGroups>("a consumer group", version, &request)?;
    }
    for (step, states, types) in [
        ("consumer", "", "consumer"),
        ("Consumer", "", "Consumer"),
        ("an unknown type", "", "nothing"),
        ("stable consumer", "stable", "consumer"),
        ("an unknown state", "bored", ""),
    ] {
        let list = |text: &str| match text {
            "" => Vec::new(),
            _ => vec![text.to_owned()],
        };
        let request =
            list_groups::Request { states_filter: list(states), types_filter: list(types) };
        asking.ask::<ListGroups>(step, 5, &request)?;
    }
    let deletion = delete_groups::Request { groups_names: vec![GROUP.to_owned()] };
    asking.ask::<DeleteGroups>("a consumer group with members", 2, &deletion)?;
    Ok(())
}

fn leaving(asking: &mut Asking<'_>, epoch: i32) -> Result<()> {
    let stranger = beat(GROUP, "stranger", LEAVING);
    asking.ask::<ConsumerGroupHeartbeat>("a stranger leaves", 1, &stranger)?;
    let request = beat(GROUP, "listener", LEAVING);
    asking.ask::<ConsumerGroupHeartbeat>("leaving", 1, &request)?;
    asking.ask::<ConsumerGroupHeartbeat>("after leaving", 1, &beat(GROUP, "listener", epoch))?;
    let request = consumer_group_describe::Request {
        group_ids: vec![GROUP.to_owned()],
        include_authorized_operations: false,
    };
    asking.ask::<ConsumerGroupDescribe>("an empty group", 1, &request)?;
    let deletion = delete_groups::Request { groups_names: vec![GROUP.to_owned()] };
    asking.ask::<DeleteGroups>("an empty consumer group", 2, &deletion)?;
    Ok(())
}

/// Static members: an instance is one member at a time.
fn instances(asking: &mut Asking<'_>) -> Result<()> {
    let with = |mut request: consumer_group_heartbeat::Request, instance: &str| {
        request.instance_id = Some(instance.to_owned());
        request
    };
    let group = "instances";
    let joined = with(join(group, "one"), "desk");
    let epoch = asking.prepare::<ConsumerGroupHeartbeat>(1, &joined)?.member_epoch;
    let second = with(join(group, "two"), "desk");
    asking.ask::<ConsumerGroupHeartbeat>("an instance that is taken", 1, &second)?;
    let unknown = with(beat(group, "one", epoch), "chair");
    asking.ask::<ConsumerGroupHeartbeat>("an instance that nobody has", 1, &unknown)?;
    let stolen = with(beat(group, "two", epoch), "desk");
    asking.ask::<ConsumerGroupHeartbeat>("another's instance", 1, &stolen)?;
    let away = with(beat(group, "one", LEAVING_FOR_A_WHILE), "desk");
    asking.ask::<ConsumerGroupHeartbeat>("away for a while", 1, &away)?;
    asking.ask::<ConsumerGroupHeartbeat>("away, and again", 1, &away)?;
    // Whether the assignment is there at once is the broker's choice.
    let back = asking.prepare::<ConsumerGroupHeartbeat>(1, &second)?;
    asking.answers.note("ConsumerGroupHeartbeat v1, back as another", "error", back.error_code);
    let gone = with(beat(group, "one", epoch), "desk");
    asking.ask::<ConsumerGroupHeartbeat>("once replaced", 1, &gone)?;
    let left = with(beat(group, "two", LEAVING), "desk");
    asking.ask::<ConsumerGroupHeartbeat>("an instance leaves", 1, &left)?;
    Ok(())
}
