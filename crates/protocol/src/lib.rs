//! Room: Kafka's wire.
//!
//! Here is what bytes mean to Kafka: messages as data and the code generated from them, bounded
//! decoding, gathered encoding, record batches, error codes. Nothing here knows that a broker, a
//! bucket or a group exists, and nothing does IO.
//!
//! Map: [`schema`] reads `messages/*.msg`, the build script turns them into [`messages`], which run
//! on `wire`; [`records`] is the format inside Produce and Fetch; [`ErrorCode`] is what answers say.
//!
//! Invariants: W1 to W3 in `wire`, S1 to S5 in [`schema`], R1 to R3 in [`records`].

mod error_code;
#[allow(
    unused_imports,
    unused_variables,
    clippy::field_reassign_with_default,
    reason = "most of it is generated, and every struct is treated alike"
)]
pub mod messages;
pub mod records;
pub mod schema;
mod wire;

pub use error_code::ErrorCode;
pub use wire::{BUDGET_BYTES_MAX, BUDGET_PER_BYTE, DecodeError, Decoder, Encoder, Frame, Message};
