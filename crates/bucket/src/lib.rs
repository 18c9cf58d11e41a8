//! The bucket: the cluster's object store as a small port, and everything that stands behind it.
//!
//! Whoever stores something calls [`Bucket`]: create-if-absent, exact ranges, suffixes, listing,
//! deletion. A lost race is an outcome, an error says what it leaves behind, every request names its
//! [`Purpose`] so that a bill can be read per cause.
//!
//! Deliberately absent: what the bytes mean. No segment, no topic, no metadata key is known here.
//!
//! # Map
//!
//! - `port`: keys, purposes, outcomes, errors and the trait.
//! - `location`: where a bucket is, as text; no secrets.
//! - `store`: the one implementation, over `object_store`: retries, limits, metering; `store::large`
//!   for objects that come in pieces, `store::files` for those of a local directory, `store::reading`
//!   for ranges and suffixes.
//! - `remote`: clients of S3, Google Cloud Storage and Azure, their credentials and their HTTP.
//! - `classify`: from the client's errors to the few that prescribe a next step.
//! - `local`: what a local directory needs beyond the client: durable directories, staged files.
//! - [`direct`]: writes past the page cache, for it and for whoever else writes large files once.
//! - `hooked`: an object store behind a hook, for whoever meters, lies or freezes.
//! - `metered`: the hook for whoever brings its own client: the metadata database.
//! - `metering`: requests, bytes, errors and latency per purpose.
//! - `marker`: the object that says which cluster and which format lives here.
//! - `probe`: start-up checks that a store keeps the promises the design rests on.
//! - `lying`: the twin that loses answers, refuses and dawdles, by seed.
//! - `conformance`: one suite for every twin.

mod classify;
pub mod conformance;
mod creates;
pub mod direct;
mod hooked;
mod local;
mod location;
mod lying;
mod marker;
mod metered;
mod metering;
mod port;
mod probe;
mod remote;
mod store;

pub use hooked::{Hook, Hooked, StoreRequest};
pub use location::{BucketLocation, LocationError, RemoteKind, RemoteLocation};
pub use lying::{Faults, Liar, Lies, LyingBucket, LyingStore};
pub use marker::{ClusterMarker, MARKER_FORMAT, MarkerError, claim, read as read_marker};
pub use metering::{BucketMetrics, Operation, Usage};
pub use port::{Aftermath, Bucket, BucketError, Key, ObjectInfo, Purpose, PutOutcome, Suffix};
pub use probe::{ProbeError, Property, probe};
pub use remote::variables::Variables;
pub use store::{OpenBucketError, StoreBucket, StoreOptions};
