//! Topics that may not be described, in consumer and share groups.

use protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribe};
use protocol::messages::consumer_group_heartbeat::{self, ConsumerGroupHeartbeat};
use protocol::messages::share_group_describe::{self, ShareGroupDescribe};
use protocol::messages::share_group_heartbeat::{self, ShareGroupHeartbeat};

use super::*;

/// Two topics of one partition.
async fn two_topics(client: &mut Client) -> [TopicId; 2] {
    let topic = |name: &str| create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = vec![topic("seen"), topic("unseen")];
    let request = create_topics::Request { topics, timeout_ms: 30_000, validate_only: false };
    let created = client.call::<CreateTopics>(7, request).await.topics;
    [created[0].topic_id, created[1].topic_id]
}

fn hidden() -> Vec<AclCreation> {
    vec![acl((TOPIC, "unseen"), LITERAL, DESCRIBE, DENY)]
}

/// A member of a group of its own joins; its code, and the topics it is assigned.
async fn join(
    client: &mut Client,
    group: &str,
    names: &[&str],
    pattern: Option<&str>,
) -> (i16, Vec<TopicId>) {
    let request = consumer_group_heartbeat::Request {
        group_id: group.to_owned(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(names.iter().map(|it| (*it).to_owned()).collect()),
        subscribed_topic_regex: pattern.map(str::to_owned),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = client.call::<ConsumerGroupHeartbeat>(1, request).await;
    let assigned = joined.assignment.into_iter().flat_map(|it| it.topic_partitions);
    (joined.error_code, assigned.map(|it| it.topic_id).collect())
}

async fn describe(client: &mut Client, group: &str) -> (i16, usize) {
    let request = consumer_group_describe::Request {
        group_ids: vec![group.to_owned()],
        ..Default::default()
    };
    let group = client.call::<ConsumerGroupDescribe>(1, request).await.groups.remove(0);
    let words = group.error_message.unwrap_or_default();
    assert_eq!(words.contains("not authorized to describe"), group.error_code != 0);
    (group.error_code, group.members.len())
}

#[tokio::test]
async fn an_expression_finds_only_topics_that_may_be_described() {
    let served = Served::start(&[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    let [seen, unseen] = two_topics(&mut client).await;
    let (code, mut both) = join(&mut client, "all", &[], Some(".*seen")).await;
    both.sort_unstable();
    let mut expected = [seen, unseen];
    expected.sort_unstable();
    assert_eq!((code, &both[..]), (0, &expected[..]));
    create(&mut client, hidden()).await;
    assert_eq!(join(&mut client, "some", &[], Some(".*seen")).await, (0, vec![seen]));
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(join(&mut client, "named", &["seen", "unseen"], None).await, (denied, vec![]));
    // Who is assigned what cannot be told without telling of the topic.
    assert_eq!(describe(&mut client, "some").await, (0, 1));
    assert_eq!(describe(&mut client, "all").await, (denied, 0));
    served.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_named_and_assigned_to_nobody_hides_no_group() {
    let served = Served::start(&[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    assert_eq!(join(&mut client, "g", &["unseen"], None).await, (0, vec![]), "there is none yet");
    create(&mut client, hidden()).await;
    assert_eq!(describe(&mut client, "g").await, (0, 1));
    served.stop().await;
}

#[tokio::test]
async fn share_groups_hide_topics_as_consumer_groups_do() {
    let served = Served::start(&[AUTHORIZER, EVERYONE]).await;
    let mut client = served.connect().await;
    two_topics(&mut client).await;
    let join = async |client: &mut Client, group: &str, topic: &str| {
        let request = share_group_heartbeat::Request {
            group_id: group.to_owned(),
            member_id: "m".to_owned(),
            subscribed_topic_names: Some(vec![topic.to_owned()]),
            ..Default::default()
        };
        client.call::<ShareGroupHeartbeat>(1, request).await.error_code
    };
    let describe = async |client: &mut Client, group: &str| {
        let group_ids = vec![group.to_owned()];
        let request = share_group_describe::Request { group_ids, ..Default::default() };
        let group = client.call::<ShareGroupDescribe>(1, request).await.groups.remove(0);
        (group.error_code, group.members.len())
    };
    assert_eq!(join(&mut client, "s", "unseen").await, 0);
    assert_eq!(join(&mut client, "absent", "absent").await, 0);
    create(&mut client, hidden()).await;
    create(&mut client, vec![acl((TOPIC, "absent"), LITERAL, DESCRIBE, DENY)]).await;
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(join(&mut client, "new", "unseen").await, denied);
    assert_eq!(describe(&mut client, "s").await, (denied, 0));
    assert_eq!(describe(&mut client, "absent").await, (0, 1), "assigned to nobody");
    served.stop().await;
}
