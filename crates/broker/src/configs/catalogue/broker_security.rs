//! Broker configs of SASL and TLS that change nothing here, whatever is served: Kerberos, OAuth and Java's own TLS.
//!
//! Owns: names, types, defaults and our own words for them. Does not own: the configs that decide whether a listener
//! authenticates (`broker_network`).

use super::super::definition::{Definition, Kind};
use super::{boolean, double, int, list, long, password, short, text, unset};

const NO_KERBEROS: &str = "Kerberos is not served";
const NO_OAUTH: &str = "OAuth tokens are not looked at";
const NO_LOGINS: &str = "the broker does not log in anywhere";
const NO_SECURITY: &str = "only PLAINTEXT listeners without authentication are served yet";
const NO_PLUGINS: &str = "Java plugins cannot be loaded";
const NOT_JAVA: &str = "Java's TLS is not used";

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    // Kerberos.
    unset("sasl.kerberos.service.name", Kind::String, "Kerberos name the broker runs under.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    text("sasl.kerberos.kinit.cmd", "/usr/bin/kinit", "Path of kinit.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    double("sasl.kerberos.ticket.renew.window.factor", "0.8", "When a ticket is renewed.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    double("sasl.kerberos.ticket.renew.jitter", "0.05", "Randomness of that moment.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    long("sasl.kerberos.min.time.before.relogin", "60000", "Rest between two logins.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    list("sasl.kerberos.principal.to.local.rules", "DEFAULT", "From principals to user names.")
        .of_each_broker()
        .no_effect(NO_KERBEROS),
    // Logins of the broker itself.
    unset("sasl.login.class", Kind::Class, "Java class that logs in.").no_effect(NO_PLUGINS),
    unset("sasl.login.callback.handler.class", Kind::Class, "Java class that is asked at a login.")
        .no_effect(NO_PLUGINS),
    unset("sasl.client.callback.handler.class", Kind::Class, "Java class of the SASL client.")
        .no_effect(NO_PLUGINS),
    unset("sasl.login.connect.timeout.ms", Kind::Int, "Wait for the token server to connect.")
        .no_effect(NO_LOGINS),
    unset("sasl.login.read.timeout.ms", Kind::Int, "Wait for the token server to answer.")
        .no_effect(NO_LOGINS),
    long("sasl.login.retry.backoff.ms", "100", "First rest before a login is tried again.")
        .no_effect(NO_LOGINS),
    long("sasl.login.retry.backoff.max.ms", "10000", "Longest such rest.").no_effect(NO_LOGINS),
    double("sasl.login.refresh.window.factor", "0.8", "When a login is refreshed.")
        .of_each_broker()
        .no_effect(NO_LOGINS),
    double("sasl.login.refresh.window.jitter", "0.05", "Randomness of that moment.")
        .of_each_broker()
        .no_effect(NO_LOGINS),
    short("sasl.login.refresh.min.period.seconds", "60", "Rest between two refreshes.")
        .of_each_broker()
        .no_effect(NO_LOGINS),
    short("sasl.login.refresh.buffer.seconds", "300", "Refreshed so long before it expires.")
        .of_each_broker()
        .no_effect(NO_LOGINS),
    int("sasl.server.max.receive.size", "524288", "Largest SASL message, in bytes.")
        .no_effect(NO_SECURITY),
    // OAuth.
    unset("sasl.oauthbearer.token.endpoint.url", Kind::String, "Where tokens are got.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.jwks.endpoint.url", Kind::String, "Where keys are got.")
        .no_effect(NO_OAUTH),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000", "Time between two looks at them.")
        .no_effect(NO_OAUTH),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100", "First rest before a retry.")
        .no_effect(NO_OAUTH),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000", "Longest such rest.")
        .no_effect(NO_OAUTH),
    int("sasl.oauthbearer.clock.skew.seconds", "30", "Difference of clocks that is forgiven.")
        .no_effect(NO_OAUTH),
    list("sasl.oauthbearer.expected.audience", "", "Audiences a token must be for.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.expected.issuer", Kind::String, "Issuer a token must be from.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.scope", Kind::String, "Scope tokens are asked for.")
        .no_effect(NO_OAUTH),
    text("sasl.oauthbearer.scope.claim.name", "scope", "Claim that holds the scope.")
        .no_effect(NO_OAUTH),
    text("sasl.oauthbearer.sub.claim.name", "sub", "Claim that holds the subject.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.client.credentials.client.id", Kind::String, "Id of the client.")
        .no_effect(NO_OAUTH),
    password("sasl.oauthbearer.client.credentials.client.secret", "Its secret.")
        .no_effect(NO_OAUTH),
    given_class(
        "sasl.oauthbearer.jwt.retriever.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        "Java class that gets tokens.",
    ),
    given_class(
        "sasl.oauthbearer.jwt.validator.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        "Java class that checks tokens.",
    ),
    text("sasl.oauthbearer.assertion.algorithm", "RS256", "How assertions are signed.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.file", Kind::String, "File of an assertion.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.template.file", Kind::String, "File of a template for one.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.private.key.file", Kind::String, "Key that signs it.")
        .no_effect(NO_OAUTH),
    password("sasl.oauthbearer.assertion.private.key.passphrase", "Passphrase of that key.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.claim.aud", Kind::String, "Audience of an assertion.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.claim.iss", Kind::String, "Issuer of an assertion.")
        .no_effect(NO_OAUTH),
    unset("sasl.oauthbearer.assertion.claim.sub", Kind::String, "Subject of an assertion.")
        .no_effect(NO_OAUTH),
    int("sasl.oauthbearer.assertion.claim.exp.seconds", "300", "Life of an assertion.")
        .no_effect(NO_OAUTH),
    int(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        "60",
        "How long before it was made it counts.",
    )
    .no_effect(NO_OAUTH),
    boolean("sasl.oauthbearer.assertion.claim.jti.include", "false", "Whether it has an id.")
        .no_effect(NO_OAUTH),
    // TLS.
    boolean("ssl.allow.dn.changes", "false", "Whether a new key store may have another name.")
        .no_effect(NO_SECURITY),
    boolean("ssl.allow.san.changes", "false", "Whether it may have other alternative names.")
        .no_effect(NO_SECURITY),
    unset("ssl.engine.factory.class", Kind::Class, "Java class that makes TLS engines.")
        .of_each_broker()
        .no_effect(NO_PLUGINS),
    text("ssl.keymanager.algorithm", "SunX509", "Algorithm of Java's key manager.")
        .of_each_broker()
        .no_effect(NOT_JAVA),
    text("ssl.trustmanager.algorithm", "PKIX", "Algorithm of Java's trust manager.")
        .of_each_broker()
        .no_effect(NOT_JAVA),
    unset("ssl.provider", Kind::String, "Java's provider of TLS.")
        .of_each_broker()
        .no_effect(NOT_JAVA),
    unset("ssl.secure.random.implementation", Kind::String, "Java's source of random numbers.")
        .of_each_broker()
        .no_effect(NOT_JAVA),
    text("ssl.principal.mapping.rules", "DEFAULT", "From distinguished names to user names.")
        .no_effect(NO_SECURITY),
];

const fn given_class(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    Definition::new(name, Kind::Class, Some(default), doc).no_effect(NO_PLUGINS)
}
