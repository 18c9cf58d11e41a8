//! The broker's shells: listeners, connections, one handler per API key, coordinator hosting.
//!
//! | module | in it |
//! | --- | --- |
//! | `broker` | the handles, starting and stopping |
//! | `listener`, `connection`, `gather`, `dispatch` | sockets, frames in and out, request order |
//! | `alarm` | a timer that many waits of a connection or a request share |
//! | `handlers` | one file per API key |
//! | `access` | who may do what: ACLs as rules, and which API asks for what |
//! | `fetch_sessions` | KIP-227, pure |
//! | `hosting` | which partitions are open here and by which configs, following the metadata |
//! | `run_index` | the log's port to the metadata |
//! | `auto_create`, `topic_creation` | topics that are created because somebody needs them |
//! | `admin_rows` | the rows of an administrative request, together |
//! | `peer` | asking another broker who it is |
//! | `owners`, `journal` | the tasks that own coordinators; their way into the log and back |
//! | `groups`, `transactions`, `shares` | the shells around the pure coordinators |
//! | `configs` | the catalogue of Kafka's and our options, and what they resolve to |
//!
//! What is deliberately absent: option files and signals (the binary), HTTP (`admin`), rules of
//! groups (`coordinator`), of metadata (`cluster`) and of storage (`partition_log`).
//!
//! Invariants kept here: A1, by answering a Produce only from its `durable` future; A9, by mapping
//! every storage error to a code that clients retry on.

mod access;
mod admin_rows;
mod alarm;
mod auto_create;
mod broker;
mod commit_rows;
mod config_admin;
mod configs;
mod connection;
mod connection_limits;
mod context;
mod dispatch;
mod fetch_sessions;
mod gather;
mod groups;
mod handlers;
mod hosting;
mod journal;
mod listener;
mod metrics;
mod operations;
mod owners;
mod peer;
mod producer_ids;
mod refusal;
mod run_index;
mod shares;
mod topic_admin;
mod topic_creation;
mod transactions;

pub use broker::{Broker, BrokerHandle, BrokerParts, StartError};
pub use configs::{
    AuthorizerConfig, BrokerConfig, ConfigProblems, GroupConfig, Listener, LogConfig, Properties,
    PropertiesError, Property, SocketBuffers, WalLocation, configuration_manual, parse_properties,
};
pub use listener::ListenError;
pub use peer::{Peer, ask_peer};
pub use run_index::ClusterRunIndex;
