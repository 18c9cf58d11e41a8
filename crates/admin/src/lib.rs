//! The HTTP side of a broker: is it alive, is it ready, what does it measure.
//!
//! Deliberately absent: the Kafka wire, and anything below the broker's handle. What a page needs to
//! know comes in as an argument.
//!
//! # Map
//!
//! - `server`: the listener and the pages: `/`, `/healthz`, `/readyz`, `/metrics`.
//! - `readiness`: how far the process is, in words for an operator.
//! - `process`: what the operating system says of the process, as metrics.

mod process;
mod readiness;
mod server;

pub use process::ProcessCollector;
pub use readiness::{Probe, Readiness, Stage};
pub use server::{AdminError, AdminPages, AdminServer};
