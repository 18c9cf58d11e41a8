//! Room: protocol.
pub mod records;
