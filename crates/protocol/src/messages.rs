//! Kafka's messages, generated from `messages/*.msg`.
//!
//! Owns: one module per definition file, the list of API keys, how headers are versioned.
//! Does not own: the definitions' form (`schema`), the bytes (`wire`), what an API does.
//!
//! For an API: `produce::{Request, Response}`, their nested types in `produce::request` and
//! `produce::response` under Kafka's names, and `produce::Produce` as its [`Api`]. For a record or a
//! header: its type and the nested ones in the file's module.
//!
//! `Default` gives Kafka's defaults, and they are the values of fields that a version does not carry.
//! Trap: a nullable field defaults to `Some` of empty unless Kafka says null.

use std::ops::RangeInclusive;

use crate::schema::{self, Definition};
use crate::wire::{DecodeError, Decoder, Message};

pub use crate::wire::RecordChunks;

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// A request and its response.
pub trait Api {
    const KEY: ApiKey;
    type Request: Message;
    type Response: Message;
}

impl ApiKey {
    /// Whether a version of the API is flexible (KIP-482).
    pub fn is_flexible(self, version: i16) -> bool {
        self.first_flexible().is_some_and(|first| first <= version)
    }

    /// The version of the header in front of a request, for versions we do not serve as well.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response. That of ApiVersions never grows: a client
    /// reads it before it knows what the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && self.is_flexible(version))
    }
}

impl header::RequestHeader {
    /// Reads the header at the start of a request's frame; its version follows from the API key and
    /// version in it. Whether that version is served is for the caller to look up.
    ///
    /// # Errors
    /// [`DecodeError::UnknownApi`] if the key is none of ours, which leaves the header unread; other
    /// errors as for any message. Kafka closes the connection on all of them.
    pub fn read(source: &mut Decoder) -> Result<(ApiKey, header::RequestHeader), DecodeError> {
        let [key_high, key_low, version_high, version_low] = source.peek()?;
        let key = i16::from_be_bytes([key_high, key_low]);
        let version = i16::from_be_bytes([version_high, version_low]);
        let api = ApiKey::from_i16(key).ok_or(DecodeError::UnknownApi { key })?;
        let header = header::RequestHeader::decode(source, api.request_header_version(version))?;
        Ok((api, header))
    }
}

/// The definitions all of this is generated from, to check them against Kafka's.
pub fn definitions() -> Vec<Definition> {
    SOURCES
        .iter()
        .map(|(module, text)| schema::parse(module, text).expect("the build parsed it"))
        .collect()
}

#[cfg(test)]
mod tests;
