//! An S3 server of our own for tests, benchmarks and soak runs: real HTTP, the conditions of S3 kept
//! exactly, and every way to misbehave on request, by seed.
//!
//! The servers that could be had instead either lose updates when conditional writes race, are too slow
//! to measure a broker against, or cannot be told to lose an answer. This one is small, fast (bodies are
//! kept and sent as the slices they arrived in) and lies only where it is told to.
//!
//! # What it serves
//!
//! Path style, any credentials, buckets that come to be on first use: PutObject with `If-None-Match: *`
//! and `If-Match`, GetObject and HeadObject with ranges and both tag conditions, DeleteObject,
//! DeleteObjects, ListObjectsV2, CopyObject with conditions, multipart uploads with conditions on
//! completion and copied parts.
//!
//! # Deliberately absent
//!
//! Authentication (a signature's presence can be asked for, it is never verified), ACLs, policies,
//! versions, tags, storage classes, encryption, lifecycle; listing buckets and ListObjects version 1;
//! `If-Modified-Since`; verifying checksums and MD5; chunked signatures (`STREAMING-…`); anything kept
//! across starts. What is not served is answered 501 by name. Entity tags are opaque: equal for equal
//! bytes, but not MD5. It is a tool: no product code may depend on it.
//!
//! # Map
//!
//! - `server`: [`FakeS3`], its options, connections, outages.
//! - `exchange`: one request: body, delay, effect, faults, answer.
//! - `request`: HTTP heads understood. `actions`: requests carried out. `answer`: answers sent.
//! - `objects`: the index: conditions, listing order, uploads. `content`: bytes. `quota`: their bound.
//! - `faults`, `delays`: what is decided about each request, by seed. `counts`: what happened.
//! - `control`: pages for a server in a process of its own. `wire`: sockets that can be reset.
//! - `xml`, `dates`, `refusal`, `operation`: S3's small vocabulary.

mod actions;
mod answer;
mod content;
mod control;
mod counts;
mod dates;
mod delays;
mod exchange;
mod faults;
mod objects;
mod operation;
mod quota;
mod refusal;
mod request;
mod server;
mod wire;
mod xml;

pub use counts::{Counts, OperationCounts};
pub use delays::{Delay, Delays};
pub use faults::Faults;
pub use operation::Operation;
pub use server::{FakeS3, Options};
