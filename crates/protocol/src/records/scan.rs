//! One pass over encoded records, without making any.
//!
//! Owns: the structure of a record and its checks, over bytes in memory or out of a codec.
//! Does not own: what the values mean: the caller gets each record's [`Head`].
//!
//! A record is `length | attributes | timestamp delta | offset delta | key | value | headers`, all
//! numbers variable-length; `length` counts what follows it. Keys, values and headers are skipped
//! over. The attributes of a record are unused in magic 2 and are ignored, as Kafka does.

use super::codec::{Decompressor, Window};
use super::header::BatchError;
use super::varint::{VARLONG_LEN_MAX, read_varint, read_varlong};

/// What a pass learns of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Bytes to walk over. `None` from any method: they end, or [`Source::failure`] knows better.
pub(super) trait Source {
    /// Bytes walked over so far.
    fn position(&self) -> usize;
    fn byte(&mut self) -> Option<u8>;
    fn varint(&mut self) -> Option<i32>;
    fn varlong(&mut self) -> Option<i64>;
    fn skip(&mut self, length: usize) -> Option<()>;
    /// Are there no more bytes?
    fn at_end(&mut self) -> Option<bool>;
    /// Why the bytes stopped, if it is not their end.
    fn failure(&mut self) -> Option<BatchError>;
}

/// Bytes in memory.
pub(super) struct SliceSource<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> SliceSource<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> SliceSource<'a> {
        SliceSource { rest: bytes, length: bytes.len() }
    }
}

impl Source for SliceSource<'_> {
    #[inline]
    fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    fn varint(&mut self) -> Option<i32> {
        let (value, length) = read_varint(self.rest)?;
        self.rest = self.rest.get(length..)?;
        Some(value)
    }

    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        let (value, length) = read_varlong(self.rest)?;
        self.rest = self.rest.get(length..)?;
        Some(value)
    }

    #[inline]
    fn skip(&mut self, length: usize) -> Option<()> {
        self.rest = self.rest.get(length..)?;
        Some(())
    }

    fn at_end(&mut self) -> Option<bool> {
        Some(self.rest.is_empty())
    }

    fn failure(&mut self) -> Option<BatchError> {
        None
    }
}

/// Bytes out of a codec; one piece is in memory at a time.
pub(super) struct StreamSource<'a> {
    decompressor: Decompressor<'a>,
    window: Window,
    consumed: usize,
    failure: Option<BatchError>,
}

impl<'a> StreamSource<'a> {
    pub(super) fn new(decompressor: Decompressor<'a>) -> StreamSource<'a> {
        StreamSource { decompressor, window: Window::default(), consumed: 0, failure: None }
    }

    /// Tries to have `length` bytes in the window: fewer only at the end of the stream.
    #[inline]
    fn ensure(&mut self, length: usize) -> Option<()> {
        while self.window.unread().len() < length {
            if !self.refill()? {
                break;
            }
        }
        Some(())
    }

    fn refill(&mut self) -> Option<bool> {
        match self.decompressor.fill(&mut self.window) {
            Ok(more) => Some(more),
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.window.consume(length);
        self.consumed += length;
    }
}

impl Source for StreamSource<'_> {
    #[inline]
    fn position(&self) -> usize {
        self.consumed
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.ensure(1)?;
        let first = *self.window.unread().first()?;
        self.consume(1);
        Some(first)
    }

    #[inline]
    fn varint(&mut self) -> Option<i32> {
        self.ensure(VARLONG_LEN_MAX)?;
        let (value, length) = read_varint(self.window.unread())?;
        self.consume(length);
        Some(value)
    }

    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        self.ensure(VARLONG_LEN_MAX)?;
        let (value, length) = read_varlong(self.window.unread())?;
        self.consume(length);
        Some(value)
    }

    fn skip(&mut self, mut length: usize) -> Option<()> {
        loop {
            let skipped = length.min(self.window.unread().len());
            self.consume(skipped);
            length -= skipped;
            if length == 0 {
                return Some(());
            }
            if !self.refill()? {
                return None;
            }
        }
    }

    fn at_end(&mut self) -> Option<bool> {
        self.ensure(1)?;
        Some(self.window.unread().is_empty())
    }

    fn failure(&mut self) -> Option<BatchError> {
        self.failure.take()
    }
}

const CUT: &str = "records end early";

/// Walks over exactly `count` records and to the end of the source, and tells `each` about every
/// one with its index.
#[inline]
pub(super) fn scan<S: Source>(
    source: &mut S,
    count: i32,
    mut each: impl FnMut(i32, Head),
) -> Result<(), BatchError> {
    for index in 0..count {
        match record(source) {
            Ok(head) => each(index, head),
            Err(what) => {
                return Err(source.failure().unwrap_or(BatchError::Malformed { what }));
            }
        }
    }
    match source.at_end() {
        Some(true) => Ok(()),
        Some(false) => Err(BatchError::Malformed { what: "bytes remain after the last record" }),
        None => Err(source.failure().unwrap_or(BatchError::Malformed { what: CUT })),
    }
}

#[inline]
fn record<S: Source>(source: &mut S) -> Result<Head, &'static str> {
    let length = source.varint().ok_or(CUT)?;
    let start = source.position();
    source.byte().ok_or(CUT)?;
    let timestamp_delta = source.varlong().ok_or(CUT)?;
    let offset_delta = source.varint().ok_or(CUT)?;
    let key_length = source.varint().ok_or(CUT)?;
    skip_nullable(source, key_length)?;
    let value_length = source.varint().ok_or(CUT)?;
    skip_nullable(source, value_length)?;
    let headers = source.varint().ok_or(CUT)?;
    if headers != 0 {
        skip_headers(source, headers)?;
    }
    // Checked in 64 bits: a negative length never equals a distance.
    if (source.position() - start) as i64 != i64::from(length) {
        return Err("record length differs from its content");
    }
    Ok(Head { timestamp_delta, offset_delta, has_key: key_length >= 0 })
}

/// Any negative length means null, as in Kafka.
#[inline]
fn skip_nullable<S: Source>(source: &mut S, length: i32) -> Result<(), &'static str> {
    match usize::try_from(length) {
        Ok(length) => source.skip(length).ok_or(CUT),
        Err(_) => Ok(()),
    }
}

/// Walks over `count` record headers.
pub(super) fn skip_headers<S: Source>(source: &mut S, count: i32) -> Result<(), &'static str> {
    if count < 0 {
        return Err("negative number of record headers");
    }
    for _ in 0..count {
        let key_length = source.varint().ok_or(CUT)?;
        let key_length = usize::try_from(key_length).map_err(|_| "record header without key")?;
        source.skip(key_length).ok_or(CUT)?;
        let value_length = source.varint().ok_or(CUT)?;
        skip_nullable(source, value_length)?;
    }
    Ok(())
}
