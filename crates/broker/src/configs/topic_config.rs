//! Topic configs: what may be set, and what a partition's log makes of it.
//!
//! Owns: validation of a topic's settings as a whole, [`log_settings`].
//! Does not own: the layers below a topic's own settings (`layers`).

use std::time::Duration;

use partition_log::{Cleanup, CompactionOptions, LogSettings};
use protocol::records::{TargetCompression, TimestampType};
use vocabulary::ByteCount;

use super::broker_config::BrokerConfig;
use super::catalogue::{self, REMOVED_TOPIC_CONFIGS, TOPIC_CONFIGS, TopicDefinition};
use super::definition::{ConfigProblem, Value};
use super::layers::{Layers, Properties, Source};

/// The least log.cleaner.backoff.ms that is followed.
const BACKOFF_MS_MIN: u64 = 100;

/// Checks a topic's own settings against each other and the broker's, as Kafka does at creation and
/// at every change (INVALID_CONFIG).
pub(crate) fn validate_topic_configs(
    overrides: &Properties,
    layers: &Layers,
) -> Result<(), ConfigProblem> {
    for (name, text) in overrides {
        known(name)?.definition.parse(text)?;
    }
    let shortest = integer(layers, overrides, "min.compaction.lag.ms");
    let longest = integer(layers, overrides, "max.compaction.lag.ms");
    if longest < shortest {
        return Err(ConfigProblem(format!(
            "conflict topic config setting min.compaction.lag.ms ({shortest}) > \
             max.compaction.lag.ms ({longest})"
        )));
    }
    Ok(())
}

/// The definition of a topic config, or the refusal Kafka words for an unknown one.
pub(super) fn known(name: &str) -> Result<&'static TopicDefinition, ConfigProblem> {
    catalogue::topic_config(name).ok_or_else(|| {
        let names = TOPIC_CONFIGS.iter().map(|it| it.definition.name);
        ConfigProblem(match catalogue::suggestion(name, names) {
            _ if REMOVED_TOPIC_CONFIGS.contains(&name) => {
                format!("Unknown topic config name: {name} (removed in Kafka 4.0)")
            }
            Some(near) => format!("Unknown topic config name: {name} (did you mean {near}?)"),
            None => format!("Unknown topic config name: {name}"),
        })
    })
}

/// What the partitions of a topic with these settings of its own do.
pub(crate) fn log_settings(overrides: &Properties, config: &BrokerConfig) -> LogSettings {
    let layers = config.layers();
    let integer = |name: &str| integer(&layers, overrides, name);
    let text = |name: &str| match value(&layers, overrides, name) {
        Value::Text(text) => text,
        other => other.to_string(),
    };
    let policies = match value(&layers, overrides, "cleanup.policy") {
        Value::List(policies) => policies,
        _ => Vec::new(),
    };
    let has = |policy: &str| policies.iter().any(|it| it == policy);
    let ratio = match value(&layers, overrides, "min.cleanable.dirty.ratio") {
        Value::Decimal(ratio) => ratio,
        _ => LogSettings::default().min_cleanable_dirty_ratio,
    };
    let level = |codec: &str| {
        let level = integer(&format!("compression.{codec}.level"));
        i32::try_from(level).unwrap_or(i32::MAX)
    };
    LogSettings {
        cleanup: Cleanup { delete: has("delete"), compact: has("compact") },
        retention_ms: Some(integer("retention.ms")).filter(|it| 0 <= *it),
        retention_bytes: u64::try_from(integer("retention.bytes")).ok(),
        segment_bytes: u64::try_from(integer("segment.bytes")).unwrap_or(u64::MAX),
        segment_ms: integer("segment.ms"),
        message_bytes_max: usize::try_from(integer("max.message.bytes")).unwrap_or(0),
        timestamp_type: match text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: integer("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: integer("message.timestamp.after.max.ms"),
        compression: match text("compression.type").as_str() {
            "uncompressed" => TargetCompression::Uncompressed,
            "gzip" => TargetCompression::Gzip { level: level("gzip") },
            "snappy" => TargetCompression::Snappy,
            "lz4" => TargetCompression::Lz4 { level: level("lz4") },
            "zstd" => TargetCompression::Zstd { level: level("zstd") },
            _ => TargetCompression::Producer,
        },
        delete_retention_ms: integer("delete.retention.ms"),
        min_compaction_lag_ms: integer("min.compaction.lag.ms"),
        max_compaction_lag_ms: integer("max.compaction.lag.ms"),
        min_cleanable_dirty_ratio: ratio,
    }
}

/// How this broker compacts keys: the log.cleaner configs.
pub(crate) fn compaction_options(config: &BrokerConfig) -> CompactionOptions {
    let defaults = CompactionOptions::default();
    let layers = config.layers();
    let value = |name: &str| {
        let definition = catalogue::broker_config(name).expect("these are in the catalogue");
        layers.broker_config(definition).value
    };
    let number = |name: &str| match value(name) {
        Some(Value::Integer(number)) => u64::try_from(number).ok(),
        _ => None,
    };
    let load_factor = match value("log.cleaner.io.buffer.load.factor") {
        Some(Value::Decimal(factor)) if factor.is_finite() => factor.clamp(0.01, 1.0),
        _ => defaults.load_factor,
    };
    CompactionOptions {
        is_enabled: value("log.cleaner.enable") != Some(Value::Boolean(false)),
        dedupe_bytes: number("log.cleaner.dedupe.buffer.size")
            .map_or(defaults.dedupe_bytes, ByteCount),
        load_factor,
        // Without any rest, looking alone would keep a processor busy.
        backoff: number("log.cleaner.backoff.ms")
            .map_or(defaults.backoff, |it| Duration::from_millis(it.max(BACKOFF_MS_MIN))),
    }
}

fn value(layers: &Layers, overrides: &Properties, name: &str) -> Value {
    let definition = catalogue::topic_config(name).expect("callers name configs of the catalogue");
    let found = layers.resource_config(definition, overrides, Source::Topic);
    found.value.expect("a test proves that every topic config has a default")
}

fn integer(layers: &Layers, overrides: &Properties, name: &str) -> i64 {
    match value(layers, overrides, name) {
        Value::Integer(number) => number,
        other => unreachable!("{name} is a number by the catalogue, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::resolve(&properties(pairs), None).expect("it resolves")
    }

    fn settings(topic: &[(&str, &str)]) -> LogSettings {
        log_settings(&properties(topic), &broker(&[]))
    }

    #[track_caller]
    fn refused(topic: &[(&str, &str)], message: &str) {
        let result = validate_topic_configs(&properties(topic), &Layers::default());
        assert_eq!(result, Err(ConfigProblem(message.to_owned())));
    }

    #[test]
    fn nothing_set_is_the_logs_own_default() {
        assert_eq!(settings(&[]), LogSettings::default());
        assert!(TOPIC_CONFIGS.iter().all(|it| it.definition.default.is_some()));
    }

    #[test]
    fn settings_follow_the_topic_then_the_broker() {
        let both = settings(&[("cleanup.policy", "compact, delete"), ("retention.ms", "-1")]);
        assert_eq!(both.cleanup, Cleanup { delete: true, compact: true });
        assert_eq!(both.retention_ms, None);
        let twice = settings(&[("cleanup.policy", "compact,compact")]);
        assert_eq!(twice.cleanup, Cleanup { delete: false, compact: true });

        let none = settings(&[("cleanup.policy", "")]);
        assert_eq!(none.cleanup, Cleanup { delete: false, compact: false });
        let zstd = settings(&[("compression.type", "zstd"), ("compression.zstd.level", "7")]);
        assert_eq!(zstd.compression, TargetCompression::Zstd { level: 7 });
        let gzip = settings(&[("compression.type", "gzip")]);
        assert_eq!(gzip.compression, TargetCompression::Gzip { level: -1 });

        let config = broker(&[("log.retention.minutes", "2"), ("message.max.bytes", "9000")]);
        let found = log_settings(&properties(&[("max.message.bytes", "500")]), &config);
        assert_eq!(found.retention_ms, Some(120_000));
        assert_eq!(found.message_bytes_max, 500);

        let dynamic = properties(&[("log.retention.ms", "3"), ("message.max.bytes", "4")]);
        config.set_dynamic(dynamic, Properties::new());
        let found = log_settings(&Properties::new(), &config);
        assert_eq!((found.retention_ms, found.message_bytes_max), (Some(3), 4));
    }

    #[test]
    fn the_cleaner_follows_the_broker_while_it_runs() {
        let config = broker(&[("log.cleaner.backoff.ms", "0")]);
        let backoff = Duration::from_millis(BACKOFF_MS_MIN);
        let expected = CompactionOptions { backoff, ..CompactionOptions::default() };
        assert_eq!(compaction_options(&config), expected);
        let dynamic = properties(&[
            ("log.cleaner.dedupe.buffer.size", "4096"),
            ("log.cleaner.io.buffer.load.factor", "7"),
        ]);
        config.set_dynamic(dynamic, Properties::new());
        let expected =
            CompactionOptions { dedupe_bytes: ByteCount(4096), load_factor: 1.0, ..expected };
        assert_eq!(compaction_options(&config), expected);
        let off = broker(&[("log.cleaner.enable", "false")]);
        assert!(!compaction_options(&off).is_enabled);
    }

    #[test]
    fn refusals_are_worded_as_kafka_words_them() {
        refused(
            &[("retention.ms", "-2")],
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        );
        refused(
            &[("segment.bytes", "1048575")],
            "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576",
        );
        refused(
            &[("cleanup.policy", "shred")],
            "Invalid value shred for configuration cleanup.policy: String must be one of: compact, \
             delete",
        );
        refused(
            &[("compression.zstd.level", "23")],
            "Invalid value 23 for configuration compression.zstd.level: Value must be no more than \
             22",
        );
        refused(
            &[("compression.gzip.level", "0")],
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and \
             9 or equal to -1",
        );
        refused(
            &[("preallocate", "yes")],
            "Invalid value yes for configuration preallocate: Expected value to be either true or \
             false",
        );
        refused(
            &[("max.message.bytes", "3000000000")],
            "Invalid value 3000000000 for configuration max.message.bytes: Not a number of type INT",
        );
        refused(
            &[("min.compaction.lag.ms", "2"), ("max.compaction.lag.ms", "1")],
            "conflict topic config setting min.compaction.lag.ms (2) > max.compaction.lag.ms (1)",
        );
        refused(
            &[("retention.msec", "1")],
            "Unknown topic config name: retention.msec (did you mean retention.ms?)",
        );
        refused(
            &[("message.format.version", "2.8")],
            "Unknown topic config name: message.format.version (removed in Kafka 4.0)",
        );
    }

    #[test]
    fn throttled_replicas_have_their_form() {
        for fine in ["", "*", "0:1", "0:1,1:2"] {
            let topic = properties(&[("leader.replication.throttled.replicas", fine)]);
            assert_eq!(validate_topic_configs(&topic, &Layers::default()), Ok(()), "{fine}");
        }
        for bad in ["x", "1", "0:1,*", "0:x"] {
            let topic = properties(&[("leader.replication.throttled.replicas", bad)]);
            assert!(validate_topic_configs(&topic, &Layers::default()).is_err(), "{bad}");
        }
    }
}
