//! Bytes to messages and back: the runtime below the generated code.
//!
//! Owns: Kafka's primitive encodings (classic and flexible, KIP-482), the limits on what a frame may
//! make us allocate, the gather list of an answer.
//! Does not own: which fields there are (`schema`), sockets.
//!
//! Invariants:
//! - W1 no length or count is believed before it is bounded by the bytes present;
//! - W2 what a frame makes us allocate is bounded by its length ([`BUDGET_PER_BYTE`]) and absolutely
//!   ([`BUDGET_BYTES_MAX`]);
//! - W3 record bytes are never copied: sliced out of the frame they came in, gathered into the frame
//!   they leave in.

mod decoder;
mod encoder;

pub use decoder::{BUDGET_BYTES_MAX, BUDGET_PER_BYTE, DecodeError, Decoder};
pub use encoder::{Encoder, Frame, RecordChunks};

/// Something with a place on the wire: a request, a response, a header or a struct in one.
pub trait Message: Sized {
    /// Reads the fields that exist in `version`; the others keep Kafka's defaults. Bytes behind the
    /// message are left in `source`: see [`Decoder::remaining`].
    ///
    /// The version is not checked against the valid ones; an API's are in `ApiKey::valid_versions`.
    ///
    /// # Errors
    /// The bytes are no such message. What was read of it is lost, `source` is somewhere inside.
    fn decode(source: &mut Decoder, version: i16) -> Result<Self, DecodeError>;

    /// Writes the fields that exist in `version`. A field that is `None` where the version has no
    /// null is written empty.
    fn encode(&self, sink: &mut Encoder, version: i16);
}

#[cfg(test)]
mod tests;
