//! A broker's write-ahead log: many partitions' appends become few durable segments.
//!
//! Owns: group commit, the order of acknowledgements, the bytes admitted, recovery of what is
//! durable. Does not own: offsets (the log assigns them before it submits), flushing, trimming policy.
//!
//! # Map
//!
//! - [`Wal`] and `committer`: one task that groups appends, writes segments, calls listeners;
//! - `queue`: the decisions of that task, pure: what goes into the next group, what may be released;
//! - [`WalBackend`]: the port below it; `file` and `recovery`: the one over a [`crate::volume::Volume`];
//! - `bucket_wal`: the one over the bucket;
//! - `fence` and `adoption`: how another broker's log in the bucket is ended, and its runs committed;
//! - [`ledger`]: the port to the metadata that names the logs of all brokers, with a memory twin;
//! - `chain`: what the files found after a crash mean, pure.
//!
//! # Invariants
//!
//! - W1 a listener hears `durable` only after the segment with its batch is durable (A1);
//! - W2 listeners are called strictly in the order of submission, whatever order writes end in (A2);
//! - W3 after one append is lost, every later one is lost, too (A4);
//! - W4 bytes queued and in flight never exceed what was reserved, and that has a limit.

mod adoption;
mod backend;
mod bucket_wal;
mod chain;
mod committer;
mod fence;
mod file;
pub mod ledger;
mod metrics;
mod owners;
mod patience;
mod queue;
mod recovery;

pub use adoption::{AdoptError, Adopted, adopt_logs};
pub use backend::{RecoveredSegment, WalBackend, WalError, WalHealth};
pub use bucket_wal::{BucketWal, BucketWalMetrics, BucketWalOptions};
pub use committer::{Append, CommitListener, Reservation, Wal, WalOptions, WalPlace};
pub use fence::{EndError, Ended, FENCE_LENGTH, Fence, end_log};
pub use file::{FRAME_BYTES, FileWal, FileWalOptions};
pub use metrics::WalMetrics;
pub use owners::owners_of;

#[cfg(test)]
mod tests;
