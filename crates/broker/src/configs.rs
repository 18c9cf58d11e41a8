//! Kafka's configs as data, and what this broker makes of them.
//!
//! Deliberately absent: option files, sockets and requests. Text and maps in, typed values out; every
//! refusal is worded here, because users know Kafka's words.
//!
//! # Map
//!
//! - `definition`, `catalogue`: what one config is; all that exist.
//! - `layers`: where a value comes from: topic, dynamic broker, dynamic cluster, static, default.
//! - `broker_config`, `listeners`, `locations`: one broker, typed.
//! - `topic_config`: validation of a topic's settings, what its log does.
//! - `group_config`: validation of a group's settings, what counts of them.
//! - `alter`, `describe`: the pure halves of the config APIs.
//! - `iso_duration`: durations as Java reads them. `properties`: Java's file format. `manual`: the option manual.

mod alter;
mod broker_config;
mod catalogue;
mod definition;
mod describe;
mod group_config;
mod iso_duration;
mod layers;
mod listeners;
mod locations;
mod manual;
mod properties;
mod topic_config;

pub(crate) use alter::{
    Alteration, BrokerScope, Operation, alter_broker, alter_group, alter_topic, check_topic,
    replace_broker, replace_group, replace_topic,
};
pub use broker_config::{
    AuthorizerConfig, BrokerConfig, ConfigProblems, GroupConfig, LogConfig, SocketBuffers,
};
pub(crate) use describe::{
    DescribedConfig, describe_broker, describe_cluster_defaults, describe_group, describe_topic,
};
pub(crate) use group_config::{
    ShareDeliveries, ShareReset, consumer_settings, share_deliveries, share_settings,
};
pub use layers::Properties;
pub(crate) use layers::Synonym;
pub use listeners::Listener;
pub use locations::WalLocation;
pub use manual::configuration_manual;
pub use properties::{PropertiesError, Property, parse_properties};
pub(crate) use topic_config::{compaction_options, log_settings};
