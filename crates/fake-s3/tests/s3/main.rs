//! The server as the real `object_store` client sees it, over HTTP on loopback.
//!
//! Time is tokio's, paused: delays and stalls take no time to wait for, and nothing here depends on how
//! fast the machine is.

mod client;
mod conditions;
mod control;
mod faults;
mod keys;
mod reading;
mod storage;
mod uploads;
