//! Checks of record batches that come back from storage. Pure.
//!
//! An error is a sentence that says what is wrong; who read the bytes knows where they came from.

use crate::segment::{BatchEntry, RunEntry};
use protocol::records::{BatchHeader, check_crc};

/// Whole, intact batches that follow each other and nothing else.
pub(super) fn batches(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    let mut expected = None;
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).map_err(|it| it.to_string())?;
        let length = header.byte_length();
        if rest.len() < length {
            return Err(format!("the batch at offset {} is cut off", header.base_offset));
        }
        if expected.is_some_and(|it| it != header.base_offset) {
            return Err(format!("the batch at offset {} is out of place", header.base_offset));
        }
        let (batch, behind) = rest.split_at(length);
        check_crc(batch).map_err(|it| format!("the batch at {}: {it}", header.base_offset))?;
        expected = Some(header.end_offset());
        rest = behind;
    }
    Ok(())
}

/// The bytes of `batches`, neighbours in `run`, are what the index says: the run's own checksum if
/// they are all of it, else each batch's, and for what that does not cover, the fields themselves.
pub(super) fn span(run: &RunEntry, batches: &[BatchEntry], bytes: &[u8]) -> Result<(), String> {
    if batches.len() == run.batches.len() {
        return run.check_payload([bytes]).map_err(|it| it.to_string());
    }
    let mut rest = bytes;
    for entry in batches {
        let length = entry.length as usize;
        if rest.len() < length {
            return Err(format!("the batch at offset {} is cut off", entry.base_offset));
        }
        let (batch, behind) = rest.split_at(length);
        let header = BatchHeader::parse(batch).map_err(|it| it.to_string())?;
        let is_expected = header.base_offset == entry.base_offset
            && header.byte_length() == length
            && header.leader_epoch == run.leader_epoch.0;
        if !is_expected {
            return Err(format!("another batch where offset {} is expected", entry.base_offset));
        }
        check_crc(batch).map_err(|it| format!("the batch at {}: {it}", entry.base_offset))?;
        rest = behind;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err("bytes behind the last batch".to_owned()),
    }
}
