//! The configs of a group (resource type 32, KIP-848, KIP-932, KIP-1071), and the broker config each
//! falls back to.
//!
//! Owns: names, types, defaults, rules. Does not own: what a coordinator does with them.

use super::super::definition::{Definition, Kind, Rule};
use super::TopicDefinition as FallbackDefinition;
use super::Unit::Same;

const NO_CONSUMER: &str =
    "consumer groups follow the broker's configs: none is set for one group yet";
const NO_SHARE: &str = "share groups are not served yet";
const NO_STREAMS: &str = "streams groups are not served yet";

const fn int(
    name: &'static str,
    default: &'static str,
    low: i64,
    doc: &'static str,
    reason: &'static str,
) -> Definition {
    Definition::new(name, Kind::Int, Some(default), doc).rule(Rule::AtLeast(low)).no_effect(reason)
}

/// Sorted by name.
pub(crate) const GROUP_CONFIGS: &[FallbackDefinition] = &[
    FallbackDefinition {
        definition: int(
            "consumer.heartbeat.interval.ms",
            "5000",
            1,
            "Time between heartbeats of the group's members, in milliseconds.",
            NO_CONSUMER,
        ),
        fallbacks: &[("group.consumer.heartbeat.interval.ms", Same)],
    },
    FallbackDefinition {
        definition: int(
            "consumer.session.timeout.ms",
            "45000",
            1,
            "Silence after which a member is removed, in milliseconds.",
            NO_CONSUMER,
        ),
        fallbacks: &[("group.consumer.session.timeout.ms", Same)],
    },
    FallbackDefinition {
        definition: Definition::new(
            "share.auto.offset.reset",
            Kind::String,
            Some("latest"),
            "Where a share group starts: latest, earliest, or by_duration:PnDTnHnMn.nS.",
        )
        .no_effect(NO_SHARE),
        fallbacks: &[],
    },
    FallbackDefinition {
        definition: int(
            "share.heartbeat.interval.ms",
            "5000",
            1,
            "Time between heartbeats of the group's members, in milliseconds.",
            NO_SHARE,
        ),
        fallbacks: &[("group.share.heartbeat.interval.ms", Same)],
    },
    FallbackDefinition {
        definition: Definition::new(
            "share.isolation.level",
            Kind::String,
            Some("read_uncommitted"),
            "Whether records of undecided transactions are delivered.",
        )
        .rule(Rule::OneOf(&["read_committed", "read_uncommitted"]))
        .no_effect(NO_SHARE),
        fallbacks: &[],
    },
    FallbackDefinition {
        definition: int(
            "share.record.lock.duration.ms",
            "30000",
            1000,
            "Time a delivered record stays locked, in milliseconds.",
            NO_SHARE,
        ),
        fallbacks: &[("group.share.record.lock.duration.ms", Same)],
    },
    FallbackDefinition {
        definition: int(
            "share.session.timeout.ms",
            "45000",
            1,
            "Silence after which a member is removed, in milliseconds.",
            NO_SHARE,
        ),
        fallbacks: &[("group.share.session.timeout.ms", Same)],
    },
    FallbackDefinition {
        definition: int(
            "streams.heartbeat.interval.ms",
            "5000",
            1,
            "Time between heartbeats of the group's members, in milliseconds.",
            NO_STREAMS,
        ),
        fallbacks: &[("group.streams.heartbeat.interval.ms", Same)],
    },
    FallbackDefinition {
        definition: int(
            "streams.num.standby.replicas",
            "0",
            0,
            "Standby tasks kept for each task.",
            NO_STREAMS,
        ),
        fallbacks: &[("group.streams.num.standby.replicas", Same)],
    },
    FallbackDefinition {
        definition: int(
            "streams.session.timeout.ms",
            "45000",
            1,
            "Silence after which a member is removed, in milliseconds.",
            NO_STREAMS,
        ),
        fallbacks: &[("group.streams.session.timeout.ms", Same)],
    },
];
