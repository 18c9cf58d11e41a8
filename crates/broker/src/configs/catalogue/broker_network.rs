//! Broker configs about identity, listeners, connections, threads, security and quotas.
//!
//! Owns: names, types, defaults, rules and our own words for them.
//! Does not own: parsing listeners (`listeners`).
//!
//! Security configs are refused, not ignored, while no listener can authenticate: a broker that
//! looked protected and was not would be worse than one that does not start.

use super::super::definition::{Definition, Kind, Rule};
use super::{boolean, given, int, list, long, password, text, unset};

const NO_QUORUM: &str = "there is no KRaft quorum: metadata lives in the bucket";
const OWN_THREADS: &str = "the runtime sizes itself to the machine's cores";
const NO_SECURITY: &str = "only PLAINTEXT listeners without authentication are served yet";
const NO_PLUGINS: &str = "Java plugins cannot be loaded";
const NO_TOKENS: &str = "delegation tokens are not served yet";
const NO_QUOTAS: &str = "client quotas are not served yet";
const NO_TELEMETRY: &str = "client telemetry is not served";

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    // Identity.
    int(
        "node.id",
        "0",
        "This broker's id, stable over restarts. `broker.id` is the same config by its older name.",
    )
    .rule(Rule::AtLeast(0)),
    int("broker.id", "0", "Older name of node.id.").rule(Rule::AtLeast(0)),
    unset("broker.rack", Kind::String, "Zone of this broker, told to clients."),
    unset("process.roles", Kind::List, "Kafka's roles of this node.").no_effect(NO_QUORUM),
    // Listeners.
    list(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        "Addresses to listen on, as NAME://host:port, separated by commas. An empty host listens on \
         all interfaces; port 0 lets the system choose.",
    ),
    unset(
        "advertised.listeners",
        Kind::List,
        "Addresses clients are told to connect to, by listener name. Needed when listeners names no \
         host that clients can reach.",
    ),
    text(
        "listener.security.protocol.map",
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Security protocol of each listener name. Only PLAINTEXT is served yet.",
    ),
    unset(
        "controller.listener.names",
        Kind::List,
        "Listeners Kafka gives to its controllers; they are left out here.",
    ),
    unset("inter.broker.listener.name", Kind::String, "Listener brokers use among themselves.")
        .no_effect("brokers do not talk to each other over the Kafka protocol"),
    text("security.inter.broker.protocol", "PLAINTEXT", "Protocol between brokers.")
        .refused(NO_SECURITY),
    unset("early.start.listeners", Kind::List, "Listeners opened before the broker is ready.")
        .no_effect("no listener opens before the broker can answer"),
    // Connections and requests.
    int("max.connections", "2147483647", "Connections this broker accepts at once.")
        .rule(Rule::AtLeast(0)),
    int("max.connections.per.ip", "2147483647", "Connections accepted at once from one address.")
        .rule(Rule::AtLeast(0)),
    text(
        "max.connections.per.ip.overrides",
        "",
        "Other limits for some hosts, as host:count, separated by commas. Names are resolved once, at the \
         start.",
    ),
    int("max.connection.creation.rate", "2147483647", "New connections a second.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_QUOTAS),
    long(
        "connections.max.idle.ms",
        "600000",
        "Time without a request after which a connection is closed, in milliseconds.",
    ),
    int("socket.request.max.bytes", "104857600", "Largest request, in bytes.")
        .rule(Rule::AtLeast(1)),
    int(
        "socket.send.buffer.bytes",
        "-1",
        "Socket send buffer, in bytes; -1 leaves it to the system, which sizes it to the path of each \
         connection. Kafka's default is 102400.",
    )
    .rule(Rule::AtLeast(-1)),
    int(
        "socket.receive.buffer.bytes",
        "-1",
        "Socket receive buffer, in bytes; -1 leaves it to the system, which sizes it to the path of each \
         connection. Kafka's default is 102400.",
    )
    .rule(Rule::AtLeast(-1)),
    int("socket.listen.backlog.size", "50", "Connections waiting to be accepted, per listener.")
        .rule(Rule::AtLeast(1))
        .no_effect("1024 connections wait at most, as the system allows"),
    int("queued.max.requests", "500", "Requests waiting for a thread.")
        .rule(Rule::AtLeast(1))
        .no_effect("requests are bounded by bytes: see aquifer.request.memory.bytes"),
    long("queued.max.request.bytes", "-1", "Bytes of requests waiting for a thread.")
        .no_effect("requests are bounded by bytes: see aquifer.request.memory.bytes"),
    int("request.timeout.ms", "30000", "Wait for an answer from another broker.")
        .no_effect("brokers do not talk to each other over the Kafka protocol"),
    long("socket.connection.setup.timeout.ms", "10000", "Wait for a connection to open.")
        .no_effect("brokers do not talk to each other over the Kafka protocol"),
    long("socket.connection.setup.timeout.max.ms", "30000", "Longest such wait.")
        .no_effect("brokers do not talk to each other over the Kafka protocol"),
    int(
        "connection.failed.authentication.delay.ms",
        "100",
        "Delay before a failed authentication is answered, in milliseconds.",
    )
    .rule(Rule::AtLeast(0))
    .no_effect(NO_SECURITY),
    // Fetching.
    int("fetch.max.bytes", "57671680", "Largest fetch response, in bytes.")
        .rule(Rule::AtLeast(1024)),
    int(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        "Incremental fetch sessions kept at once (KIP-227).",
    )
    .rule(Rule::AtLeast(0)),
    int(
        "max.request.partition.size.limit",
        "2000",
        "Partitions in one DescribeTopicPartitions answer.",
    )
    .rule(Rule::AtLeast(1)),
    // Threads.
    int("num.network.threads", "3", "Threads for the network.")
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect(OWN_THREADS),
    int("num.io.threads", "8", "Threads that serve requests.")
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect(OWN_THREADS),
    int("background.threads", "10", "Threads for background work.")
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect(OWN_THREADS),
    unset("num.replica.alter.log.dirs.threads", Kind::Int, "Threads that move logs.")
        .no_effect(OWN_THREADS),
    // Security: see the module's note.
    text(
        "authorizer.class.name",
        "",
        "What decides who may do what. Empty: nothing does, and everybody may do everything; \
         org.apache.kafka.metadata.authorizer.StandardAuthorizer: the ACLs in the cluster's metadata. \
         No other class can be loaded.",
    ),
    text(
        "super.users",
        "",
        "Principals that may do everything whatever ACLs say, as User:alice;User:bob.",
    ),
    boolean(
        "allow.everyone.if.no.acl.found",
        "false",
        "Whether everybody may use what no ACL speaks of.",
    ),
    given(
        "principal.builder.class",
        Kind::Class,
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        "Java class that names principals.",
    )
    .refused(NO_PLUGINS),
    list("sasl.enabled.mechanisms", "GSSAPI", "SASL mechanisms offered.").no_effect(NO_SECURITY),
    text("sasl.mechanism.inter.broker.protocol", "GSSAPI", "SASL mechanism between brokers.")
        .no_effect(NO_SECURITY),
    text("sasl.mechanism.controller.protocol", "GSSAPI", "SASL mechanism of controllers.")
        .no_effect(NO_SECURITY),
    password("sasl.jaas.config", "JAAS login configuration.").refused(NO_SECURITY),
    unset("sasl.server.callback.handler.class", Kind::Class, "Java class of the SASL server.")
        .refused(NO_PLUGINS),
    long("connections.max.reauth.ms", "0", "Lifetime of a SASL session, in milliseconds.")
        .no_effect(NO_SECURITY),
    text("ssl.client.auth", "none", "Whether TLS clients show a certificate.")
        .rule(Rule::OneOf(&["required", "requested", "none"]))
        .refused(NO_SECURITY),
    text("ssl.protocol", "TLSv1.3", "TLS version to prefer.").no_effect(NO_SECURITY),
    list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3", "TLS versions offered.")
        .no_effect(NO_SECURITY),
    list("ssl.cipher.suites", "", "TLS cipher suites offered.").no_effect(NO_SECURITY),
    text("ssl.keystore.type", "JKS", "Format of the key store.").no_effect(NO_SECURITY),
    unset("ssl.keystore.location", Kind::String, "Key store file.").refused(NO_SECURITY),
    password("ssl.keystore.password", "Password of the key store.").refused(NO_SECURITY),
    password("ssl.keystore.key", "Private key in PEM.").refused(NO_SECURITY),
    password("ssl.keystore.certificate.chain", "Certificates in PEM.").refused(NO_SECURITY),
    password("ssl.key.password", "Password of the private key.").refused(NO_SECURITY),
    text("ssl.truststore.type", "JKS", "Format of the trust store.").no_effect(NO_SECURITY),
    unset("ssl.truststore.location", Kind::String, "Trust store file.").refused(NO_SECURITY),
    password("ssl.truststore.password", "Password of the trust store.").refused(NO_SECURITY),
    password("ssl.truststore.certificates", "Trusted certificates in PEM.").refused(NO_SECURITY),
    text("ssl.endpoint.identification.algorithm", "https", "Host name check of TLS.")
        .no_effect(NO_SECURITY),
    password("delegation.token.secret.key", "Secret that signs delegation tokens.")
        .refused(NO_TOKENS),
    long("delegation.token.max.lifetime.ms", "604800000", "Longest life of a token.")
        .no_effect(NO_TOKENS),
    long("delegation.token.expiry.time.ms", "86400000", "Life of a token without renewal.")
        .no_effect(NO_TOKENS),
    long("delegation.token.expiry.check.interval.ms", "3600000", "Time between expiry checks.")
        .no_effect(NO_TOKENS),
    // Quotas.
    int("num.quota.samples", "11", "Windows a client quota looks at.").no_effect(NO_QUOTAS),
    int("quota.window.num", "11", "Windows a client quota looks at.").no_effect(NO_QUOTAS),
    int("quota.window.size.seconds", "1", "Length of such a window.").no_effect(NO_QUOTAS),
    int("controller.quota.window.num", "11", "Windows a mutation quota looks at.")
        .no_effect(NO_QUOTAS),
    int("controller.quota.window.size.seconds", "1", "Length of such a window.")
        .no_effect(NO_QUOTAS),
    unset("client.quota.callback.class", Kind::Class, "Java class that decides quotas.")
        .refused(NO_PLUGINS),
    // Telemetry and metrics.
    list("metric.reporters", "org.apache.kafka.common.metrics.JmxReporter", "Java reporters.")
        .dynamic()
        .no_effect("metrics are served at /metrics: see aquifer.admin.listener"),
    int("metrics.num.samples", "2", "Samples of a Java metric.").no_effect(NO_TELEMETRY),
    long("metrics.sample.window.ms", "30000", "Length of such a sample.").no_effect(NO_TELEMETRY),
    text("metrics.recording.level", "INFO", "Detail of Java metrics.").no_effect(NO_TELEMETRY),
    int("telemetry.max.bytes", "1048576", "Largest client telemetry push.").no_effect(NO_TELEMETRY),
];
