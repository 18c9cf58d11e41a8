//! Configs of single groups: set, shown, listed, followed by the coordinator, and there after a restart.

use protocol::messages::{
    consumer_group_heartbeat, describe_configs, incremental_alter_configs, list_config_resources,
};

use super::*;

const BROKER: i8 = 4;
const GROUP: i8 = 32;
const BEATS: &str = "consumer.heartbeat.interval.ms";

impl Life {
    pub(super) async fn alter(
        &self,
        group: &str,
        name: &str,
        operation: i8,
        value: Option<&str>,
    ) -> i16 {
        use incremental_alter_configs::request::{AlterConfigsResource, AlterableConfig};
        let config = AlterableConfig {
            name: name.to_owned(),
            config_operation: operation,
            value: value.map(str::to_owned),
        };
        let request = incremental_alter_configs::Request {
            resources: vec![AlterConfigsResource {
                resource_type: GROUP,
                resource_name: group.to_owned(),
                configs: vec![config],
            }],
            ..Default::default()
        };
        let handled =
            handlers::incremental_alter_configs::handle(&self.broker, &context(1), request).await;
        handled.responses[0].error_code
    }

    /// The value of the heartbeat interval and where it comes from.
    async fn shown(&self, group: &str) -> (String, i8) {
        let request = describe_configs::Request {
            resources: vec![describe_configs::request::DescribeConfigsResource {
                resource_type: GROUP,
                resource_name: group.to_owned(),
                configuration_keys: Some(vec![BEATS.to_owned()]),
            }],
            ..Default::default()
        };
        let mut handled =
            handlers::describe_configs::handle(&self.broker, &context(4), request).await;
        let row = handled.results.remove(0).configs.remove(0);
        (row.value.unwrap(), row.config_source)
    }

    async fn configured(&self) -> Vec<String> {
        let request = list_config_resources::Request { resource_types: vec![GROUP] };
        let handled =
            handlers::list_config_resources::handle(&self.broker, &context(1), request).await;
        handled.config_resources.into_iter().map(|it| it.resource_name).collect()
    }

    /// What a member is told to heartbeat at.
    pub(super) async fn beat(&self, member: &str, epoch: i32) -> i32 {
        let joins = epoch == 0;
        let request = consumer_group_heartbeat::Request {
            group_id: "g".to_owned(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["t".to_owned()]),
            topic_partitions: joins.then(Vec::new),
            ..Default::default()
        };
        let context = context(1);
        let loading = ErrorCode::CoordinatorLoadInProgress.code();
        loop {
            let request = request.clone();
            let handled =
                handlers::consumer_group_heartbeat::handle(&self.broker, &context, request).await;
            if handled.error_code != loading {
                assert_eq!(handled.error_code, 0, "{handled:?}");
                return handled.heartbeat_interval_ms;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn configs_of_a_group_are_kept_shown_and_followed() {
    let (set, delete) = (0, 1);
    let machine = Machine::new();
    let life = machine.start().await;
    life.create("t").await;
    assert_eq!(life.beat("m", 0).await, 5_000);
    assert_eq!(life.shown("g").await, ("5000".to_owned(), 5));
    assert_eq!(life.alter("g", BEATS, set, Some("7000")).await, 0);
    assert_eq!(
        life.alter("later", BEATS, set, Some("8000")).await,
        0,
        "whether there is one or not"
    );
    assert_eq!(life.beat("m", 1).await, 7_000);
    let invalid = ErrorCode::InvalidConfig.code();
    assert_eq!(life.alter("g", BEATS, set, Some("15001")).await, invalid);
    assert_eq!(life.alter("g", "retention.ms", set, Some("1")).await, invalid);
    let nameless = life.alter("", BEATS, set, Some("7000")).await;
    assert_eq!(nameless, ErrorCode::InvalidRequest.code());
    life.stop().await;

    let life = machine.start().await;
    assert_eq!(life.shown("g").await, ("7000".to_owned(), 8));
    assert_eq!(life.configured().await, ["g", "later"]);
    assert_eq!(life.beat("m", 1).await, 7_000);
    assert_eq!(life.alter("g", BEATS, delete, None).await, 0);
    assert_eq!(life.configured().await, ["later"]);
    assert_eq!(life.beat("m", 1).await, 5_000);
    life.stop().await;
}

/// Whoever sets a config may have gone when it becomes durable. It takes effect all the same, and who asks for the same
/// again is not told that it was done while it is not.
#[tokio::test(start_paused = true)]
async fn a_broker_config_takes_effect_though_its_client_went_away() {
    use incremental_alter_configs::request::{AlterConfigsResource, AlterableConfig};
    let machine = Machine::new();
    let life = machine.start().await;
    let topic = life.create("t").await;
    let retention = || {
        let log = life.broker.led_log(Partition { topic: topic.id, index: 0 }).expect("led here");
        log.settings().retention_ms
    };
    let before = retention();
    let request = incremental_alter_configs::Request {
        resources: vec![AlterConfigsResource {
            resource_type: BROKER,
            resource_name: String::new(),
            configs: vec![AlterableConfig {
                name: "log.retention.ms".to_owned(),
                config_operation: 0,
                value: Some("77777".to_owned()),
            }],
        }],
        ..Default::default()
    };
    let context = context(1);
    tokio::select! {
        biased;
        handled = handlers::incremental_alter_configs::handle(&life.broker, &context, request) => {
            panic!("it waits for the bucket: {handled:?}")
        }
        () = std::future::ready(()) => (),
    }
    assert_eq!(retention(), before, "not durable yet");
    for _ in 0..10 {
        life.broker.environment.clock.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(life.controller.view().broker_configs(None)["log.retention.ms"], "77777");
    assert_ne!(retention(), before);
    let layers = life.broker.config.layers();
    assert_eq!(layers.cluster.get("log.retention.ms").map(String::as_str), Some("77777"));
    life.stop().await;
}
