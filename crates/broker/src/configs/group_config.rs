//! Group configs: what may be set, and what a coordinator makes of it (KIP-848).
//!
//! Owns: validation of a group's settings as a whole, what counts of them. Does not own: the layers below them
//! (`layers`), what a coordinator does with them (`coordinator`).
//!
//! A change is checked against the broker's bounds. A broker may be given other bounds later: then what counts is the
//! nearest value within them, and what was set is still shown.

use std::time::Duration;

use coordinator::share::ShareLimits;
use coordinator::{ConsumerSettings, ShareSettings};

use super::broker_config::BrokerConfig;
use super::catalogue::{
    self, GROUP_CONFIGS, GROUP_CONFIGS_IN_ORDER, GroupDefinition, broker_config,
};
use super::definition::{ConfigProblem, Value};
use super::iso_duration;
use super::layers::{Layers, Properties, Source};

/// Checks a group's own settings against the broker's bounds and each other, as Kafka does (INVALID_CONFIG).
pub(crate) fn validate_group_configs(
    overrides: &Properties,
    layers: &Layers,
) -> Result<(), ConfigProblem> {
    for (name, text) in overrides {
        let known = catalogue::group_config(name);
        let known = known.ok_or_else(|| ConfigProblem(unknown(name)))?;
        let Value::Integer(value) = known.config.definition.parse(text)? else { continue };
        for (bound, is_passed, words) in [
            (known.least, i64::lt as fn(&i64, &i64) -> bool, "greater than or equal to"),
            (known.most, i64::gt, "less than or equal to"),
        ] {
            let Some(bound) = bound else { continue };
            if broker_integer(layers, bound).is_some_and(|limit| is_passed(&value, &limit)) {
                return Err(ConfigProblem(format!("{name} must be {words} {bound}")));
            }
        }
    }
    for (longer, shorter) in GROUP_CONFIGS_IN_ORDER {
        let value = |name| effective(name, overrides, layers);
        if value(longer).zip(value(shorter)).is_some_and(|(long, short)| long <= short) {
            return Err(ConfigProblem(format!("{longer} must be greater than {shorter}")));
        }
    }
    Ok(())
}

/// The number that counts for a group: its own if it has one, within the bounds; else the broker's.
pub(crate) fn group_integer(name: &str, overrides: &Properties, layers: &Layers) -> Option<i64> {
    let definition = catalogue::group_config(name)?;
    let value = effective(name, overrides, layers)?;
    if !overrides.contains_key(name) {
        return Some(value);
    }
    let bound = |name: Option<&str>| name.and_then(|it| broker_integer(layers, it));
    let value = bound(definition.most).map_or(value, |most| value.min(most));
    Some(bound(definition.least).map_or(value, |least| value.max(least)))
}

/// What counts for a consumer group with these settings of its own.
pub(crate) fn consumer_settings(overrides: &Properties, config: &BrokerConfig) -> ConsumerSettings {
    let (groups, layers) = (&config.groups, config.layers());
    let int = |name| {
        let value = group_integer(name, overrides, &layers).expect("a test asks for each");
        i32::try_from(value).unwrap_or(i32::MAX)
    };
    if overrides.is_empty() {
        let fixed = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
        return ConsumerSettings {
            session_timeout_ms: fixed(groups.consumer_session_timeout),
            heartbeat_interval_ms: fixed(groups.consumer_heartbeat_interval),
            // The one that may change while the broker runs.
            assignment_interval_ms: int("consumer.assignment.interval.ms"),
        };
    }
    ConsumerSettings {
        session_timeout_ms: int("consumer.session.timeout.ms"),
        heartbeat_interval_ms: int("consumer.heartbeat.interval.ms"),
        assignment_interval_ms: int("consumer.assignment.interval.ms"),
    }
}

/// What counts for the members of a share group with these settings of its own (KIP-932).
pub(crate) fn share_settings(overrides: &Properties, config: &BrokerConfig) -> ShareSettings {
    let layers = config.layers();
    let int = |name| {
        let value = group_integer(name, overrides, &layers).expect("a test asks for each");
        i32::try_from(value).unwrap_or(i32::MAX)
    };
    ShareSettings {
        session_timeout_ms: int("share.session.timeout.ms"),
        heartbeat_interval_ms: int("share.heartbeat.interval.ms"),
        assignment_interval_ms: int("share.assignment.interval.ms"),
    }
}

/// How a share group with these settings of its own is given records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareDeliveries {
    /// `share.record.lock.duration.ms`: how long a delivered record stays locked.
    pub(crate) lock_ms: i32,
    pub(crate) reset: ShareReset,
    /// `share.isolation.level`: only what was committed, instead of all that is durable.
    pub(crate) is_committed_only: bool,
    /// `share.renew.acknowledge.enable`: whether a member may keep its locks for longer.
    pub(crate) may_renew: bool,
    pub(crate) limits: ShareLimits,
}

/// `share.auto.offset.reset`: where a share group starts in the partitions of a topic that is new to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShareReset {
    Earliest,
    Latest,
    /// At the first record that is not older than that, by its timestamp.
    Ago(Duration),
}

impl ShareReset {
    /// `None` if it is none of Kafka's.
    pub(super) fn parse(text: &str) -> Option<ShareReset> {
        match text {
            "earliest" => Some(ShareReset::Earliest),
            "latest" => Some(ShareReset::Latest),
            _ => iso_duration::parse(text.strip_prefix("by_duration:")?).map(ShareReset::Ago),
        }
    }
}

pub(crate) fn share_deliveries(overrides: &Properties, config: &BrokerConfig) -> ShareDeliveries {
    let layers = config.layers();
    let number = |name| group_integer(name, overrides, &layers).expect("a test asks for each");
    let renewal = overrides.get("share.renew.acknowledge.enable");
    let reset = overrides.get("share.auto.offset.reset").and_then(|it| ShareReset::parse(it));
    let isolation = overrides.get("share.isolation.level");
    ShareDeliveries {
        lock_ms: i32::try_from(number("share.record.lock.duration.ms")).unwrap_or(i32::MAX),
        reset: reset.unwrap_or(ShareReset::Latest),
        is_committed_only: isolation.is_some_and(|it| it == "read_committed"),
        may_renew: renewal.is_none_or(|it| !it.trim().eq_ignore_ascii_case("false")),
        limits: ShareLimits {
            locks_max: number("share.partition.max.record.locks"),
            delivery_count_limit: i16::try_from(number("share.delivery.count.limit"))
                .unwrap_or(i16::MAX),
        },
    }
}

/// What a broker's own configs say that contradicts itself, in words: each default of the groups must lie within its
/// bounds.
pub(super) fn problems_of_bounds(layers: &Layers) -> Vec<String> {
    let mut problems = Vec::new();
    let value = |name: &str| broker_integer(layers, name);
    let mut must = |greater: &str, least: &str| {
        if value(greater).zip(value(least)).is_some_and(|(greater, least)| greater < least) {
            problems.push(format!("{greater} must be at least {least}"));
        }
    };
    for GroupDefinition { config, least, most } in GROUP_CONFIGS {
        let Some((default, _)) = config.fallbacks.first() else { continue };
        if let Some(least) = least {
            must(default, least);
        }
        if let Some(most) = most {
            must(most, default);
        }
    }
    for (longer, shorter) in GROUP_CONFIGS_IN_ORDER {
        let (longer, shorter) = (format!("group.{longer}"), format!("group.{shorter}"));
        if value(&longer).zip(value(&shorter)).is_some_and(|(long, short)| long <= short) {
            problems.push(format!("{longer} must be greater than {shorter}"));
        }
    }
    problems
}

fn unknown(name: &str) -> String {
    let names = GROUP_CONFIGS.iter().map(|it| it.config.definition.name);
    match catalogue::suggestion(name, names) {
        Some(near) => format!("Unknown group config name: {name} (did you mean {near}?)"),
        None => format!("Unknown group config name: {name}"),
    }
}

fn effective(name: &str, overrides: &Properties, layers: &Layers) -> Option<i64> {
    let definition = catalogue::group_config(name)?;
    number(layers.resource_config(&definition.config, overrides, Source::Group).value?)
}

fn broker_integer(layers: &Layers, name: &str) -> Option<i64> {
    let definition = broker_config(name)?;
    // Not set: its default.
    let value = layers.broker_config(definition).value;
    number(value.or_else(|| definition.default_value())?)
}

fn number(value: Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Result<(), &str>) {
        let result = validate_group_configs(&properties(pairs), &Layers::default());
        assert_eq!(result, expected.map_err(|it| ConfigProblem(it.to_owned())));
    }

    #[test]
    fn what_is_set_lies_within_the_brokers_bounds() {
        check(&[("consumer.session.timeout.ms", "45000")], Ok(()));
        check(&[("consumer.session.timeout.ms", "60000")], Ok(()));
        check(
            &[("consumer.session.timeout.ms", "44999")],
            Err("consumer.session.timeout.ms must be greater than or equal to \
                 group.consumer.min.session.timeout.ms"),
        );
        check(
            &[("consumer.session.timeout.ms", "60001")],
            Err("consumer.session.timeout.ms must be less than or equal to \
                 group.consumer.max.session.timeout.ms"),
        );
        check(
            &[("consumer.heartbeat.interval.ms", "15001")],
            Err("consumer.heartbeat.interval.ms must be less than or equal to \
                 group.consumer.max.heartbeat.interval.ms"),
        );
        check(&[("consumer.assignment.interval.ms", "0")], Ok(()));
        check(
            &[("consumer.assignment.interval.ms", "15001")],
            Err("consumer.assignment.interval.ms must be less than or equal to \
                 group.consumer.max.assignment.interval.ms"),
        );
        check(
            &[("streams.num.standby.replicas", "3")],
            Err("streams.num.standby.replicas must be less than or equal to \
                 group.streams.max.standby.replicas"),
        );
        check(
            &[("consumer.session.timeout", "1")],
            Err("Unknown group config name: consumer.session.timeout (did you mean \
                 consumer.session.timeout.ms?)"),
        );
        check(
            &[("consumer.session.timeout.ms", "soon")],
            Err("Invalid value soon for configuration consumer.session.timeout.ms: Not a number \
                 of type INT"),
        );
    }

    #[test]
    fn a_session_lasts_longer_than_a_heartbeat() {
        let layers = Layers {
            fixed: properties(&[("group.consumer.min.session.timeout.ms", "5000")]),
            ..Layers::default()
        };
        let validate = |text| {
            validate_group_configs(&properties(&[("consumer.session.timeout.ms", text)]), &layers)
        };
        assert_eq!(validate("5001"), Ok(()));
        let words =
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        assert_eq!(validate("5000"), Err(ConfigProblem(words.to_owned())));
    }

    #[test]
    fn what_counts_is_the_groups_own_within_todays_bounds() {
        let given = properties(&[
            ("group.consumer.session.timeout.ms", "50000"),
            ("group.consumer.max.session.timeout.ms", "55000"),
        ]);
        let config = BrokerConfig::resolve(&given, None).unwrap();
        let settings = |pairs| {
            let it = consumer_settings(&properties(pairs), &config);
            (it.session_timeout_ms, it.heartbeat_interval_ms, it.assignment_interval_ms)
        };
        assert_eq!(settings(&[]), (50_000, 5_000, 1_000));
        let own = settings(&[("consumer.heartbeat.interval.ms", "6000")]);
        assert_eq!(own, (50_000, 6_000, 1_000));
        let capped = settings(&[
            ("consumer.session.timeout.ms", "60000"),
            ("consumer.heartbeat.interval.ms", "1"),
            ("consumer.assignment.interval.ms", "7"),
        ]);
        assert_eq!(capped, (55_000, 5_000, 7));
    }

    #[test]
    fn a_share_group_has_settings_of_its_own() {
        let config = BrokerConfig::resolve(&Properties::new(), None).unwrap();
        let deliveries = |pairs| {
            let it = share_deliveries(&properties(pairs), &config);
            (it.lock_ms, it.reset, it.is_committed_only)
        };
        assert_eq!(deliveries(&[]), (30_000, ShareReset::Latest, false));
        let own =
            [("share.auto.offset.reset", "earliest"), ("share.record.lock.duration.ms", "999999")];
        let bounded = (60_000, ShareReset::Earliest, false);
        assert_eq!(deliveries(&own), bounded, "within the broker's bounds");
        let own = [
            ("share.auto.offset.reset", "by_duration:P1DT30M"),
            ("share.isolation.level", "read_committed"),
        ];
        assert_eq!(validate_group_configs(&properties(&own), &Layers::default()), Ok(()));
        let ago = ShareReset::Ago(Duration::from_secs(24 * 3600 + 30 * 60));
        assert_eq!(deliveries(&own), (30_000, ago, true));
        let own = [
            ("share.renew.acknowledge.enable", "false"),
            ("share.delivery.count.limit", "7"),
            ("share.partition.max.record.locks", "9999"),
        ];
        let it = share_deliveries(&properties(&own), &config);
        let limits = (it.limits.locks_max, it.limits.delivery_count_limit);
        assert_eq!((it.may_renew, limits), (false, (4_000, 7)), "within the broker's bounds");
        let it = share_deliveries(&Properties::new(), &config);
        let limits = (it.limits.locks_max, it.limits.delivery_count_limit);
        assert_eq!((it.may_renew, limits), (true, (2_000, 5)));
        let members =
            share_settings(&properties(&[("share.session.timeout.ms", "50000")]), &config);
        assert_eq!((members.session_timeout_ms, members.heartbeat_interval_ms), (50_000, 5_000));
        assert_eq!(members.assignment_interval_ms, 1_000);
        for odd in ["by_duration", "by_duration:", "by_duration:-PT1H", "none", "LATEST"] {
            let odd = properties(&[("share.auto.offset.reset", odd)]);
            assert!(validate_group_configs(&odd, &Layers::default()).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn every_bound_is_a_broker_config_and_every_default_lies_within() {
        assert_eq!(problems_of_bounds(&Layers::default()), [""; 0]);
        for it in GROUP_CONFIGS {
            for bound in it.least.iter().chain(&it.most) {
                let found = broker_integer(&Layers::default(), bound);
                assert!(found.is_some(), "{bound} is no number that a broker has");
            }
        }
        for (longer, shorter) in GROUP_CONFIGS_IN_ORDER {
            assert!(catalogue::group_config(longer).is_some(), "{longer}");
            assert!(catalogue::group_config(shorter).is_some(), "{shorter}");
        }
        let layers = Layers {
            fixed: properties(&[
                ("group.consumer.session.timeout.ms", "4000"),
                ("group.consumer.max.heartbeat.interval.ms", "4000"),
            ]),
            ..Layers::default()
        };
        assert_eq!(
            problems_of_bounds(&layers),
            [
                "group.consumer.max.heartbeat.interval.ms must be at least \
                 group.consumer.heartbeat.interval.ms",
                "group.consumer.session.timeout.ms must be at least \
                 group.consumer.min.session.timeout.ms",
                "group.consumer.session.timeout.ms must be greater than \
                 group.consumer.heartbeat.interval.ms",
            ]
        );
    }
}
