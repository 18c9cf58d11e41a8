//! The configs of a group (resource type 32, KIP-848, KIP-932, KIP-1071), the broker config each falls back to, and
//! those that bound it.
//!
//! Owns: names, types, defaults, rules. Does not own: what a coordinator does with them, the bounds (`group_config`).

use super::super::definition::{Definition, Kind, Rule};
use super::TopicDefinition as FallbackDefinition;
use super::Unit::Same;

const NO_STREAMS: &str = "streams groups are not served yet";

/// A group config and the broker configs that say how far it may go: the least and the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GroupDefinition {
    pub(crate) config: FallbackDefinition,
    pub(crate) least: Option<&'static str>,
    pub(crate) most: Option<&'static str>,
}

/// The first must be greater than the second: a member must be able to prove in time that it is alive.
pub(crate) const GROUP_CONFIGS_IN_ORDER: &[(&str, &str)] = &[
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];

const fn int(name: &'static str, default: &'static str, low: i64, doc: &'static str) -> Definition {
    Definition::new(name, Kind::Int, Some(default), doc).rule(Rule::AtLeast(low))
}

/// What has no bounds of its own; a broker config of the same meaning if there is one.
const fn free(
    definition: Definition,
    fallbacks: &'static [(&'static str, super::Unit)],
) -> GroupDefinition {
    let config = FallbackDefinition { definition, fallbacks };
    GroupDefinition { config, least: None, most: None }
}

const fn bounded(
    definition: Definition,
    fallbacks: &'static [(&'static str, super::Unit)],
    least: &'static str,
    most: &'static str,
) -> GroupDefinition {
    let config = FallbackDefinition { definition, fallbacks };
    GroupDefinition { config, least: Some(least), most: Some(most) }
}

const BEATS: &str = "Time between heartbeats of the group's members, in milliseconds.";
const SILENCE: &str = "Silence after which a member is removed, in milliseconds.";
const PAUSE: &str = "Least time between two assignments of the group, in milliseconds.";

/// Sorted by name.
pub(crate) const GROUP_CONFIGS: &[GroupDefinition] = &[
    bounded(
        int("consumer.assignment.interval.ms", "1000", 0, PAUSE),
        &[("group.consumer.assignment.interval.ms", Same)],
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    bounded(
        int("consumer.heartbeat.interval.ms", "5000", 1, BEATS),
        &[("group.consumer.heartbeat.interval.ms", Same)],
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    bounded(
        int("consumer.session.timeout.ms", "45000", 1, SILENCE),
        &[("group.consumer.session.timeout.ms", Same)],
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    bounded(
        int("share.assignment.interval.ms", "1000", 0, PAUSE),
        &[("group.share.assignment.interval.ms", Same)],
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    free(
        Definition::new(
            "share.auto.offset.reset",
            Kind::String,
            Some("latest"),
            "Where a share group starts in the partitions of a topic that is new to it: at the end \
             (latest), the start (earliest), or at the first record not older than a duration \
             (by_duration:PnDTnHnMn.nS).",
        )
        .rule(Rule::ShareReset),
        &[],
    ),
    bounded(
        int(
            "share.delivery.count.limit",
            "5",
            2,
            "Times a record is delivered before it is given up.",
        ),
        &[("group.share.delivery.count.limit", Same)],
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    bounded(
        int("share.heartbeat.interval.ms", "5000", 1, BEATS),
        &[("group.share.heartbeat.interval.ms", Same)],
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    free(
        Definition::new(
            "share.isolation.level",
            Kind::String,
            Some("read_uncommitted"),
            "Whether a share group is given all that is durable, or only what is not in an undecided \
             or aborted transaction.",
        )
        .rule(Rule::OneOf(&["read_committed", "read_uncommitted"])),
        &[],
    ),
    bounded(
        int(
            "share.partition.max.record.locks",
            "2000",
            100,
            "Records of one share-partition of the group that may be locked at once.",
        ),
        &[("group.share.partition.max.record.locks", Same)],
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    bounded(
        int(
            "share.record.lock.duration.ms",
            "30000",
            1000,
            "Time a delivered record stays locked, in milliseconds.",
        ),
        &[("group.share.record.lock.duration.ms", Same)],
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    free(
        Definition::new(
            "share.renew.acknowledge.enable",
            Kind::Boolean,
            Some("true"),
            "Whether members may renew the locks of their records (KIP-1222).",
        ),
        &[],
    ),
    bounded(
        int("share.session.timeout.ms", "45000", 1, SILENCE),
        &[("group.share.session.timeout.ms", Same)],
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    bounded(
        int("streams.assignment.interval.ms", "1000", 0, PAUSE).no_effect(NO_STREAMS),
        &[("group.streams.assignment.interval.ms", Same)],
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
    bounded(
        int("streams.heartbeat.interval.ms", "5000", 1, BEATS).no_effect(NO_STREAMS),
        &[("group.streams.heartbeat.interval.ms", Same)],
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    free(
        int(
            "streams.initial.rebalance.delay.ms",
            "3000",
            0,
            "Wait before the first assignment of the group, in milliseconds.",
        )
        .no_effect(NO_STREAMS),
        &[("group.streams.initial.rebalance.delay.ms", Same)],
    ),
    GroupDefinition {
        config: FallbackDefinition {
            definition: int(
                "streams.num.standby.replicas",
                "0",
                0,
                "Standby tasks kept for each task.",
            )
            .no_effect(NO_STREAMS),
            fallbacks: &[("group.streams.num.standby.replicas", Same)],
        },
        least: None,
        most: Some("group.streams.max.standby.replicas"),
    },
    bounded(
        int("streams.session.timeout.ms", "45000", 1, SILENCE).no_effect(NO_STREAMS),
        &[("group.streams.session.timeout.ms", Same)],
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
];
