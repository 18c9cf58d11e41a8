//! Reads the files of a log after a stop or a crash: what is whole, where it ends, what lies behind.
//!
//! Owns: walking a file from segment to segment, the checks that tell a whole segment from a torn one
//! and from old bytes, the search for traces. Does not own: what the files mean together (`chain`).
//!
//! A segment counts if header, index and footer are intact, if it carries the sequence expected at
//! its place, and the stamp of the file's first segment. Its payload is checked only where nothing
//! behind it proves that its write was ever finished.

use super::WalError;
use super::chain::{FileName, FileSummary};
use super::file::FRAME_BYTES;
use crate::segment::{
    FOOTER_LEN, HEADER_LEN, IndexRead, SegmentError, SegmentHeader, SegmentIndex, SegmentPart,
    read_index,
};
use crate::volume::{VolumeError, VolumeFile};
use bytes::Bytes;
use std::sync::Arc;
use vocabulary::SegmentName;

/// One read while walking: small segments come many at once, large ones are stepped over.
const WALK_BYTES: usize = 256 * 1024;
/// One read while searching or checking payload.
const SCAN_BYTES: usize = 1024 * 1024;

/// A segment that is whole, as far as it was checked.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) position: u64,
    pub(super) index: SegmentIndex,
}

/// One file, read.
#[derive(Debug)]
pub(super) struct FileScan {
    pub(super) name: FileName,
    pub(super) file: Arc<dyn VolumeFile>,
    /// Sequences `name.first` and on.
    pub(super) found: Vec<Found>,
    end: u64,
    trace: Option<u64>,
    stopped: String,
}

impl FileScan {
    pub(super) fn summary(&self) -> FileSummary {
        FileSummary {
            name: self.name,
            count: self.found.len() as u64,
            end: self.end,
            trace: self.trace,
            stopped: self.stopped.clone(),
        }
    }

    /// The sequence behind the last good segment.
    pub(super) fn next(&self) -> u64 {
        self.name.first + self.found.len() as u64
    }

    /// Drops segments from the end until one is whole with its payload. Each dropped one is a trace.
    pub(super) async fn check_end(&mut self) -> Result<(), VolumeError> {
        while let Some(last) = self.found.last() {
            let Err(error) = check_payload(&*self.file, last).await? else { return Ok(()) };
            self.end = last.position;
            self.stopped = error.to_string();
            self.found.pop();
            self.trace = self.trace.max(Some(self.next()));
        }
        Ok(())
    }
}

/// Walks a file from its start, then searches what is behind the last good segment for traces.
pub(super) async fn scan(name: FileName, file: Arc<dyn VolumeFile>) -> Result<FileScan, WalError> {
    let length = file.length().await?;
    let mut window = Window { file: &*file, start: 0, bytes: Bytes::new() };
    let (mut found, mut end, mut stamp) = (Vec::new(), 0, None);
    let stopped = loop {
        let expected = name.first + found.len() as u64;
        match segment_at(&mut window, end, length, expected, stamp).await? {
            Ok((header, segment)) => {
                stamp = Some(header.stamp);
                end = header.length.next_multiple_of(FRAME_BYTES).saturating_add(end);
                found.push(segment);
            }
            Err(error @ SegmentError::Version { .. }) => {
                let file = name.to_string();
                return Err(WalError::Unsupported { file, position: end, source: error });
            }
            Err(error) => break error.to_string(),
        }
    };
    let trace = search(&mut window, end, length, stamp).await?;
    Ok(FileScan { name, found, end, trace, stopped, file })
}

/// The segment that starts at `position`, if one does; the outer error is the volume's.
async fn segment_at(
    window: &mut Window<'_>,
    position: u64,
    length: u64,
    sequence: u64,
    stamp: Option<u64>,
) -> Result<Result<(SegmentHeader, Found), SegmentError>, VolumeError> {
    let bytes = window.get(position, HEADER_LEN, WALK_BYTES).await?;
    let header = match SegmentHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    if sequence_of(header.name) != Some(sequence) || stamp.is_some_and(|it| it != header.stamp) {
        return Ok(Err(SegmentError::NotASegment { part: SegmentPart::Header }));
    }
    let present = length.saturating_sub(position);
    if present < header.length {
        let part = SegmentPart::Footer;
        return Ok(Err(SegmentError::TooShort { part, needed: header.length, present }));
    }
    // All of it is in the file, so the file's length bounds what is read here.
    let suffix = header.index_length + FOOTER_LEN as u64;
    let start = position + header.length - suffix;
    let bytes = window.get(start, suffix as usize, WALK_BYTES).await?;
    Ok(match read_index(&bytes, header.length) {
        Ok(IndexRead::Index(index)) if index.name == header.name => {
            Ok((header, Found { position, index }))
        }
        Ok(_) => Err(SegmentError::NotASegment { part: SegmentPart::Index }),
        Err(error) => Err(error),
    })
}

/// The highest sequence of any segment header of this file behind its good segments. Frames are
/// aligned, and the stamp tells them from payload; without a good segment the stamp is unknown, and
/// any header counts: to refuse a doubtful log is better than to cut a good one.
async fn search(
    window: &mut Window<'_>,
    from: u64,
    length: u64,
    stamp: Option<u64>,
) -> Result<Option<u64>, VolumeError> {
    let mut trace = None;
    let mut position = from;
    while position < length {
        let bytes = window.get(position, HEADER_LEN, SCAN_BYTES).await?;
        if let Ok(header) = SegmentHeader::parse(&bytes)
            && stamp.is_none_or(|it| it == header.stamp)
        {
            trace = trace.max(sequence_of(header.name));
        }
        position += FRAME_BYTES;
    }
    Ok(trace)
}

async fn check_payload(
    file: &dyn VolumeFile,
    segment: &Found,
) -> Result<Result<(), SegmentError>, VolumeError> {
    for run in &segment.index.runs {
        let mut chunks = Vec::new();
        let mut read = 0;
        while read < run.length {
            let length = (run.length - read).min(SCAN_BYTES as u64) as usize;
            let bytes = file.read_at(segment.position + run.position + read, length).await?;
            if bytes.is_empty() {
                break; // The file is shorter than it was; the check below says so.
            }
            read += bytes.len() as u64;
            chunks.push(bytes);
        }
        if let Err(error) = run.check_payload(chunks.iter().map(|it| &it[..])) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn sequence_of(name: SegmentName) -> Option<u64> {
    match name {
        SegmentName::Wal { sequence, .. } => Some(sequence),
        SegmentName::Data(_) => None,
    }
}

/// A stretch of a file that was read ahead.
struct Window<'a> {
    file: &'a dyn VolumeFile,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    /// `length` bytes from `position`, fewer at the end of the file.
    async fn get(
        &mut self,
        position: u64,
        length: usize,
        ahead: usize,
    ) -> Result<Bytes, VolumeError> {
        let held = || {
            let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
            let to = from.checked_add(length)?;
            (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
        };
        if let Some(bytes) = held() {
            return Ok(bytes);
        }
        self.bytes = self.file.read_at(position, length.max(ahead)).await?;
        self.start = position;
        Ok(self.bytes.slice(..length.min(self.bytes.len())))
    }
}
