//! Looks at a cluster's bucket without touching it: whether the invariants hold (`aquifer doctor`), and
//! what is there (`aquifer inspect`).
//!
//! Nothing is written, locked or fenced, so a running broker does not notice. What it changes meanwhile
//! is told from damage by looking again: a finding is reported only if it is still there in a later look
//! at the metadata.
//!
//! # Map
//!
//! - `examination`: [`examine`], the order of the checks and what they share;
//! - `partitions`: A3 and A5 by the metadata alone; `holdings`: which runs lie in which segment;
//! - `segments`: A6, A5 and A4 by what the objects say, with `transactions`: A8; `leftovers`: A7 by what is listed;
//! - `logs`: A1, A2 and A4 of write-ahead logs in the bucket; `volume`: A1 of one on a volume;
//! - `finding`: what is reported; `row`: how it is printed;
//! - `inspection`: segments, logs and metadata as rows.
//!
//! # Memory and requests
//!
//! The metadata without its runs is in memory, as in a broker. Runs pass by in pages; at most
//! `holdings::RUNS_HELD_MAX` of them are compared with their segments at a time. Objects are read by
//! `examination::OBJECTS_AT_ONCE`, payload in pieces of `segments::PIECE_BYTES`.
//!
//! Deliberately absent: repair. Also record bytes: they are counted and checksummed, never shown.

mod examination;
mod finding;
mod holdings;
mod inspection;
mod leftovers;
mod logs;
mod object;
mod partitions;
mod row;
mod segments;
mod transactions;
mod volume;

pub use examination::{DoctorError, DoctorOptions, Place, examine};
pub use finding::{Finding, Invariant, Report};
pub use inspection::{InspectError, Inspected, Subject, inspect, inspect_volume_file};
pub use row::{Field, Row, RowSink, RowWriter};
