//! Subscriptions by regular expression where an authorizer decides who may know of which topic.

use cluster::{Acl, AclFilter, AclOperation, AclPattern, AclPermission, AclResource};
use protocol::messages::consumer_group_heartbeat;

use super::*;

const SETTINGS: [(&str, &str); 3] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
    ("group.consumer.regex.refresh.interval.ms", "20000"),
];

impl Life {
    /// Code, epoch and the topics of the assignment, if there is a new one.
    async fn subscribe(
        &self,
        epoch: i32,
        pattern: Option<&str>,
    ) -> (i16, i32, Option<Vec<TopicId>>) {
        let joins = epoch == 0;
        let request = consumer_group_heartbeat::Request {
            group_id: "g".to_owned(),
            member_id: "m".to_owned(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_regex: pattern.map(str::to_owned),
            topic_partitions: joins.then(Vec::new),
            ..Default::default()
        };
        let asking = RequestContext {
            key: ApiKey::ConsumerGroupHeartbeat,
            access: self.broker.access(),
            ..context(1)
        };
        let it = handlers::consumer_group_heartbeat::handle(&self.broker, &asking, request).await;
        let topics = |it: consumer_group_heartbeat::response::Assignment| {
            it.topic_partitions.into_iter().map(|it| it.topic_id).collect()
        };
        (it.error_code, it.member_epoch, it.assignment.map(topics))
    }
}

#[tokio::test(start_paused = true)]
async fn an_expression_finds_what_may_be_described_and_changed_acls_count_after_the_interval() {
    let machine = Machine::new();
    let life = machine.start_with(&SETTINGS).await;
    let (one, two) = (life.create("t-1").await.id, life.create("t-2").await.id);
    let denial = Acl {
        resource: AclResource::Topic,
        pattern: AclPattern::Literal,
        name: "t-2".to_owned(),
        principal: "User:ANONYMOUS".to_owned(),
        host: "*".to_owned(),
        operation: AclOperation::Describe,
        permission: AclPermission::Deny,
    };
    life.controller.create_acls(vec![denial]).await.unwrap();
    assert_eq!(life.subscribe(0, Some("t-.*")).await, (0, 1, Some(vec![one])));
    life.controller.delete_acls(vec![AclFilter::ALL]).await.unwrap();
    let clock = Arc::clone(&life.broker.environment.clock);
    clock.sleep(Duration::from_secs(19)).await;
    assert_eq!(life.subscribe(1, None).await, (0, 1, None));
    clock.sleep(Duration::from_secs(2)).await;
    let (code, epoch, assigned) = life.subscribe(1, None).await;
    let both: std::collections::BTreeSet<_> = assigned.unwrap().into_iter().collect();
    assert_eq!((code, epoch, both), (0, 2, [one, two].into()));
    life.stop().await;
}
