//! Writes past the page cache, for files that are written once and by large pieces: the objects of a
//! local directory here, a write-ahead log's files in `partition-log`.
//!
//! Owns: alignment, the staging buffers, when a file system does not do it. Does not own: everything
//! else about files.
//!
//! A synced write through the page cache costs the copy into fresh pages, their bookkeeping and a walk
//! over the dirty ones, and waits behind whatever else the disk is told to write back. With `O_DIRECT`
//! the same bytes are copied into a warm buffer and go to the disk in one request a piece: a tenth of the
//! processor time at a megabyte a piece, and nothing is left to be written back in a storm.

use bytes::Bytes;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of one staging buffer and of one write to the disk. Larger: fewer requests, colder copies.
const STAGING_BYTES: usize = 1024 * 1024;

/// Buffers kept between writes: a log has one write in flight.
const STAGING_KEPT_MAX: usize = 1;

/// Direct writes start at multiples of this and are padded to it.
pub const ALIGNMENT_BYTES: u64 = 4096;

const ALIGNMENT: usize = ALIGNMENT_BYTES as usize;

/// When a direct write is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// As soon as it returns: for blocks that the file has already.
    EachWrite,
    /// Once the file is synced: for a file that grows, whose length would be synced at each write.
    OnceSynced,
}

/// What the direct writes of one directory share.
#[derive(Debug, Default)]
pub struct DirectWrites {
    /// The file system said no once: every write goes through the page cache from then on.
    refused: AtomicBool,
    /// Leaf lock: push and pop only.
    staging: Mutex<Vec<Staging>>,
}

/// A buffer whose used part starts at a multiple of the alignment.
#[derive(Debug)]
struct Staging {
    bytes: Vec<u8>,
    start: usize,
}

impl Staging {
    fn new() -> Staging {
        let bytes = vec![0; STAGING_BYTES + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Staging { bytes, start }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + STAGING_BYTES]
    }
}

impl DirectWrites {
    /// A second handle of the file at `path` for direct writes. `None` where that is not to be had.
    pub fn open(&self, path: &Path, durable: Durable) -> Option<File> {
        if self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let synced = match durable {
            Durable::EachWrite => rustix::fs::OFlags::DSYNC,
            Durable::OnceSynced => rustix::fs::OFlags::empty(),
        };
        let flags = rustix::fs::OFlags::DIRECT | synced;
        let flags = flags.bits().cast_signed();
        let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
        match opened {
            Ok(file) => Some(file),
            Err(error) => {
                self.refuse(&error);
                None
            }
        }
    }

    /// Whether a write can go past the page cache without changing the file's length: it is aligned, and
    /// its padding stays in the file.
    pub fn takes(position: u64, length: u64, file_length: u64) -> bool {
        let end = position.checked_add(length.next_multiple_of(ALIGNMENT_BYTES));
        position.is_multiple_of(ALIGNMENT_BYTES) && end.is_some_and(|end| end <= file_length)
    }

    /// Writes `chunks` from `position` on, padded with zeros to a multiple of the alignment.
    /// `Ok(true)`: written, and as durable as the file was opened for. `Ok(false)`: the file system
    /// does not do this, nothing is certain, and the caller writes the same bytes in the usual way.
    ///
    /// # Errors
    ///
    /// The disk's; any part of the bytes may be there then.
    pub fn write(&self, file: &File, position: u64, chunks: &[Bytes]) -> io::Result<bool> {
        let mut staging = self.staging().pop().unwrap_or_else(Staging::new);
        let written = write_staged(&mut staging, file, position, chunks);
        let mut kept = self.staging();
        if kept.len() < STAGING_KEPT_MAX {
            kept.push(staging);
        }
        drop(kept);
        match written {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refuse(&error);
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }

    fn refuse(&self, error: &io::Error) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::info!(%error, "no direct writes on this file system: the page cache is used");
        }
    }

    fn staging(&self) -> std::sync::MutexGuard<'_, Vec<Staging>> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_staged(
    staging: &mut Staging,
    file: &File,
    mut position: u64,
    chunks: &[Bytes],
) -> io::Result<()> {
    let mut filled = 0;
    for chunk in chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let room = &mut staging.room()[filled..];
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            filled += count;
            if filled == STAGING_BYTES {
                file.write_all_at(staging.room(), position)?;
                position += STAGING_BYTES as u64;
                filled = 0;
            }
        }
    }
    if filled != 0 {
        let padded = filled.next_multiple_of(ALIGNMENT);
        let last = &mut staging.room()[..padded];
        last[filled..].fill(0);
        file.write_all_at(last, position)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_writes_whose_padding_fits_go_direct() {
        let takes = DirectWrites::takes;
        assert!(takes(0, 1, 4096) && takes(4096, 4096, 8192) && takes(8192, 5000, 16_384));
        assert!(!takes(1, 10, 4096), "not aligned");
        assert!(!takes(0, 4097, 8000), "the padding would make the file longer");
        assert!(!takes(!4095, 4096, u64::MAX), "no overflow");
    }

    #[test]
    fn what_is_written_past_the_cache_is_read_through_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let length = 4 * STAGING_BYTES as u64;
        File::create(&path).and_then(|it| it.set_len(length)).expect("a file with room");
        let writes = DirectWrites::default();
        // On a file system without direct writes there is nothing to see; `local` falls back there.
        let Some(file) = writes.open(&path, Durable::EachWrite) else { return };
        let pieces = [3, STAGING_BYTES, 1, 0, STAGING_BYTES / 2, 777];
        let chunks: Vec<Bytes> =
            (1u8..).zip(pieces).map(|(fill, length)| Bytes::from(vec![fill; length])).collect();
        if !writes.write(&file, 8192, &chunks).expect("it writes") {
            return;
        }
        let expected = chunks.concat();
        let padded = expected.len().next_multiple_of(ALIGNMENT);
        let stored = std::fs::read(&path).expect("it is read");
        assert_eq!(stored.len() as u64, length, "the file does not grow");
        assert!(stored[..8192].iter().all(|it| *it == 0));
        assert!(stored[8192..].starts_with(&expected));
        assert!(stored[8192 + expected.len()..8192 + padded].iter().all(|it| *it == 0));
        assert_eq!(writes.staging().len(), STAGING_KEPT_MAX, "buffers come back");
    }
}
