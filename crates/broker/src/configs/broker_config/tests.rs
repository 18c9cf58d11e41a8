use super::*;
use crate::configs::definition::Kind;

fn resolve(pairs: &[(&str, &str)]) -> Result<BrokerConfig, ConfigProblems> {
    let given: Properties =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    BrokerConfig::resolve(&given, Some("well"))
}

#[track_caller]
fn refused(pairs: &[(&str, &str)], words: &[&str]) {
    let problems = resolve(pairs).expect_err("it is refused").0;
    assert_eq!(problems.len(), words.len(), "{problems:#?}");
    for word in words {
        assert!(problems.iter().any(|it| it.contains(word)), "{word:?} not in {problems:#?}");
    }
}

#[test]
fn nothing_given_is_a_broker_for_this_machine_only() {
    let config = resolve(&[]).expect("defaults resolve");
    assert_eq!(config.node_id, BrokerId(0));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].host, "127.0.0.1");
    assert_eq!(config.listeners[0].advertised_host, "127.0.0.1");
    assert_eq!(config.listeners[0].port, 9092);
    assert_eq!(config.bucket, BucketLocation::Directory("./aquifer-data/bucket".into()));
    assert_eq!(config.wal, WalLocation::Directory("./aquifer-data/wal".into()));
    assert!(config.auto_create_topics);
    assert_eq!(config.request_bytes_max, 104_857_600);
    assert_eq!(config.connections_idle_max, Duration::from_secs(600));
    assert_eq!(config.groups.offsets_retention, Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(config.remarks, Vec::<String>::new());
}

#[test]
fn every_problem_is_told_at_once() {
    refused(
        &[
            ("num.partition", "3"),
            ("num.partitions", "none"),
            ("message.max.bytes", "-1"),
            ("listeners", "nowhere"),
            ("aquifer.bucket", "ftp://b"),
            ("zookeeper.connect", "zk:2181"),
            ("authorizer.class.name", "org.example.Authorizer"),
        ],
        &[
            "did you mean num.partitions?",
            "Invalid value none for configuration num.partitions: Not a number of type INT",
            "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
            "NAME://HOST:PORT",
            "aquifer.bucket: \"ftp\" is no kind of bucket",
            "there is no ZooKeeper",
            "authorizer.class.name: \"org.example.Authorizer\" cannot be loaded",
        ],
    );
}

#[test]
fn an_authorizer_is_none_or_the_standard_one() {
    const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let config = resolve(&[
        ("authorizer.class.name", STANDARD),
        ("super.users", "User:a; User:CN=b,O=c;"),
        ("allow.everyone.if.no.acl.found", "true"),
    ]);
    let config = config.expect("it resolves");
    let super_users = ["User:CN=b,O=c".to_owned(), "User:a".to_owned()].into();
    let expected = AuthorizerConfig { super_users, allow_everyone: true };
    assert_eq!((config.authorizer, config.remarks.len()), (Some(expected), 0));

    let alone = resolve(&[("authorizer.class.name", STANDARD)]).expect("it resolves");
    assert_eq!(alone.authorizer, Some(AuthorizerConfig::default()));
    let none = resolve(&[("super.users", "User:a")]).expect("it resolves");
    assert_eq!((none.authorizer, none.remarks.len()), (None, 1));
    refused(
        &[("authorizer.class.name", STANDARD), ("super.users", "alice;User:")],
        &["super.users: \"alice\" is no principal", "\"User:\" is no principal"],
    );
}

#[test]
fn contradictions_are_told() {
    refused(&[("node.id", "1"), ("broker.id", "2")], &["must agree"]);
    refused(&[("log.retention.hours", "0")], &["unlimited (-1) or at least 1"]);
    refused(
        &[("group.min.session.timeout.ms", "10"), ("group.max.session.timeout.ms", "9")],
        &["group.max.session.timeout.ms must be at least"],
    );
    refused(&[("aquifer.request.memory.bytes", "1048576")], &["must hold one request"]);
    refused(
        &[("aquifer.unflushed.bytes", "1048576")],
        &["aquifer.unflushed.bytes must be at least aquifer.flush.bytes"],
    );
    refused(&[("retention.ms", "5")], &["for the broker's default set log.retention.ms"]);
    refused(&[("aquifer.admin.listener", "localhost")], &["is not host:port"]);
    refused(&[("sasl.jaas.config", "secret")], &["without authentication"]);
}

#[test]
fn a_password_is_never_repeated() {
    let problems = resolve(&[("ssl.keystore.password", "hunter2")]).expect_err("it is refused");
    assert!(!problems.to_string().contains("hunter2"));
}

#[test]
fn a_kafka_quickstart_file_is_accepted_with_remarks() {
    let config = resolve(&[
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        ),
        ("num.network.threads", "3"),
        ("num.io.threads", "8"),
        ("socket.send.buffer.bytes", "102400"),
        ("socket.receive.buffer.bytes", "102400"),
        ("socket.request.max.bytes", "104857600"),
        ("log.dirs", "/tmp/kraft-combined-logs"),
        ("num.partitions", "1"),
        ("num.recovery.threads.per.data.dir", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("log.retention.hours", "168"),
        ("log.segment.bytes", "1073741824"),
        ("log.retention.check.interval.ms", "300000"),
    ])
    .expect("the quickstart file resolves");
    assert_eq!(config.node_id, BrokerId(1));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised_host, "localhost");
    assert!(config.remarks.iter().any(|it| it.starts_with("log.dirs changes nothing")));
    // What says the default is not worth a remark.
    assert!(!config.remarks.iter().any(|it| it.starts_with("num.network.threads")));
}

#[test]
fn the_broker_id_may_be_given_by_its_older_name() {
    let config = resolve(&[("broker.id", "7")]).expect("it resolves");
    assert_eq!(config.node_id, BrokerId(7));
    let node_id = catalogue::broker_config("node.id").expect("it exists");
    assert_eq!(config.layers().broker_config(node_id).value, Some(Value::Integer(7)));
}

#[test]
fn a_negative_idle_time_means_never() {
    let config = resolve(&[("connections.max.idle.ms", "-1")]).expect("it resolves");
    assert_eq!(config.connections_idle_max, NEVER);
}

#[test]
fn the_log_engine_gets_what_was_told_and_its_own_defaults_are_ours() {
    let epoch = BrokerEpoch(3);
    let config = resolve(&[]).expect("defaults resolve");
    assert_eq!(config.log.options(BrokerId(0), epoch), LogOptions::new(BrokerId(0), epoch));
    let config = resolve(&[("aquifer.flush.bytes", "2097152")]).expect("it resolves");
    assert_eq!(config.log.options(BrokerId(0), epoch).flush_bytes, ByteCount::mib(2));
    let config = resolve(&[("aquifer.bucket", "s3://b/p")]).expect("it resolves");
    let in_bucket = LogOptions::new(BrokerId(0), epoch).for_bucket_wal();
    assert_eq!(config.log.options(BrokerId(0), epoch), in_bucket);
}

/// A legal value that is not the default, where one can be guessed from type and rule.
fn another_value(definition: &Definition) -> String {
    match (definition.name, definition.kind) {
        ("listeners", _) => "PLAINTEXT://127.0.0.1:1".to_owned(),
        ("advertised.listeners", _) => "PLAINTEXT://elsewhere:1".to_owned(),
        ("listener.security.protocol.map", _) => "OTHER:PLAINTEXT".to_owned(),
        ("controller.listener.names", _) => "PLAINTEXT".to_owned(),
        ("aquifer.admin.listener", _) => String::new(),
        ("aquifer.bucket", _) => "file:elsewhere".to_owned(),
        ("aquifer.wal", _) => "file:elsewhere".to_owned(),
        ("aquifer.wal.lost.volume", _) => "7".repeat(32),
        ("log.cleanup.policy", _) => "compact".to_owned(),
        ("log.message.timestamp.type", _) => "LogAppendTime".to_owned(),
        ("compression.type", _) => "zstd".to_owned(),
        (_, Kind::Boolean) => (definition.default != Some("true")).to_string(),
        (_, Kind::Int | Kind::Short | Kind::Long) => {
            let legal = |it: &i64| definition.parse(&it.to_string()).is_ok();
            let default: i64 = definition.default.unwrap_or("1000").parse().unwrap();
            let near = [default.wrapping_add(1), default.wrapping_sub(1), 5];
            near.into_iter().find(legal).expect("a number nearby is legal").to_string()
        }
        (_, Kind::Double) => "0.25".to_owned(),
        _ => "elsewhere".to_owned(),
    }
}

/// What a configuration comes to, apart from the text it was made of.
fn outcome(pairs: &[(&str, &str)]) -> String {
    let Ok(config) = resolve(pairs) else { return "refused".to_owned() };
    let settings = crate::configs::log_settings(&Properties::new(), &config);
    let everything = format!("{config:?}");
    let (resolved, _) = everything.split_once("layers: ").expect("the text comes last");
    let compaction = crate::configs::compaction_options(&config);
    // Groups that want as much, and as little, as may be.
    let names = ["session.timeout", "heartbeat.interval", "assignment.interval"];
    let groups = ["0", "2147483647"].map(|value| {
        let own = names.map(|it| (format!("consumer.{it}.ms"), value.to_owned())).into();
        crate::configs::consumer_settings(&own, &config)
    });
    let least = [
        ("share.session.timeout.ms", "1"),
        ("share.heartbeat.interval.ms", "1"),
        ("share.assignment.interval.ms", "0"),
        ("share.record.lock.duration.ms", "1000"),
        ("share.delivery.count.limit", "2"),
        ("share.partition.max.record.locks", "100"),
    ];
    let shares = [None, Some("2147483647")].map(|most| {
        let value = |least: &str| most.unwrap_or(least).to_owned();
        let own: Properties = least.map(|(name, it)| (name.to_owned(), value(it))).into();
        let members = crate::configs::share_settings(&own, &config);
        (members, crate::configs::share_deliveries(&own, &config))
    });
    // And such that want nothing.
    let own = Properties::new();
    let plain = (
        crate::configs::consumer_settings(&own, &config),
        crate::configs::share_settings(&own, &config),
    );
    format!("{resolved}{settings:?}{compaction:?}{groups:?}{shares:?}{plain:?}")
}

// Goal: the catalogue does not claim an effect that is not there. Method: change one config at a time
// and look whether anything comes of it.
#[test]
fn every_config_said_to_act_changes_something() {
    let level = [
        ("compression.gzip.level", "gzip"),
        ("compression.lz4.level", "lz4"),
        ("compression.zstd.level", "zstd"),
    ];
    for definition in catalogue::broker_configs().filter(|it| it.effect == Effect::Applied) {
        let value = another_value(definition);
        // A level acts on its own codec only.
        let codec = level.iter().find(|(name, _)| *name == definition.name);
        let mut pairs: Vec<(&str, &str)> =
            codec.map(|(_, codec)| ("compression.type", *codec)).into_iter().collect();
        let before = outcome(&pairs);
        pairs.push((definition.name, &value));
        assert_ne!(outcome(&pairs), before, "{}={value}", definition.name);
    }
}

#[test]
fn connections_may_be_limited_by_address() {
    let overrides = "max.connections.per.ip.overrides";
    let config = resolve(&[(overrides, "10.0.0.1:5, build.example:0,[::1]:7,::2:8")]);
    let config = config.expect("it resolves");
    let found: Vec<(&str, usize)> = config
        .connections_per_address_overrides
        .iter()
        .map(|(host, count)| (host.as_str(), *count))
        .collect();
    assert_eq!(found, [("10.0.0.1", 5), ("build.example", 0), ("::1", 7), ("::2", 8)]);
    for bad in ["10.0.0.1", "10.0.0.1:many", ":5", "10.0.0.1:-1"] {
        let problems = resolve(&[(overrides, bad)]).expect_err("not host:count").0;
        assert_eq!(problems, [format!("{overrides}: {bad:?} is not host:count")]);
    }
}

#[test]
fn socket_buffers_are_the_systems_unless_set() {
    let unset = resolve(&[]).expect("it resolves").socket_buffers;
    assert_eq!(unset, SocketBuffers { send_bytes: None, receive_bytes: None });
    let set = resolve(&[("socket.send.buffer.bytes", "102400")]).expect("it resolves");
    assert_eq!(set.socket_buffers.send_bytes, Some(102_400));
}
