//! The bytes of objects: where they are, and which of them an object is made of.
//!
//! Owns: blobs (one received body each, in memory or in a file of their own), contents (slices of blobs
//! in a row), files' names and removal. Does not own: which content belongs to which key (`objects`).
//!
//! A copy of an object and a completed upload share the blobs they were made from, so neither copies a
//! byte. A blob's file goes when nothing refers to it any more.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;

use crate::quota::Charge;

/// How much of a file is read at once.
const FILE_CHUNK_BYTES: u64 = 1024 * 1024;

/// One received body.
#[derive(Debug)]
pub(crate) struct Blob {
    data: Data,
    length: u64,
    checksum: u64,
    _charge: Charge,
}

#[derive(Debug)]
enum Data {
    Memory(Vec<Bytes>),
    File(ScratchFile),
}

#[derive(Debug)]
struct ScratchFile {
    file: File,
    path: PathBuf,
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // A file that stays behind costs space in a scratch directory, nothing else.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A body as it came in: its frames in order.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) length: u64,
    /// CRC-64/NVME of all frames.
    pub(crate) checksum: u64,
    pub(crate) charge: Charge,
}

impl Received {
    /// All frames in one piece, for the small bodies that are documents.
    pub(crate) fn joined(&self) -> Vec<u8> {
        self.frames.concat()
    }

    pub(crate) fn in_memory(self) -> Arc<Blob> {
        let Received { frames, length, checksum, charge } = self;
        Arc::new(Blob { data: Data::Memory(frames), length, checksum, _charge: charge })
    }

    /// Writes the body to a file of its own. Blocks.
    fn in_file(self, path: PathBuf) -> io::Result<Arc<Blob>> {
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let mut scratch = ScratchFile { file, path };
        let filled = self.frames.iter().filter(|frame| !frame.is_empty());
        let mut slices: Vec<IoSlice<'_>> = filled.map(|frame| IoSlice::new(frame)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match scratch.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (length, checksum) = (self.length, self.checksum);
        let data = Data::File(scratch);
        Ok(Arc::new(Blob { data, length, checksum, _charge: self.charge }))
    }
}

/// A directory whose files are all ours.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    next_file: AtomicU64,
}

impl Directory {
    /// Takes an absent or an empty directory: what is in it will be removed again.
    pub(crate) fn open(path: &Path) -> io::Result<Directory> {
        std::fs::create_dir_all(path)?;
        if std::fs::read_dir(path)?.next().is_some() {
            let text = format!(
                "{} is not empty: nothing was touched; fake-s3 keeps no objects across starts, so \
                 give it a directory of its own",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, text));
        }
        Ok(Directory { path: path.to_owned(), next_file: AtomicU64::new(0) })
    }

    /// Blocks while it writes.
    pub(crate) fn store(&self, received: Received) -> io::Result<Arc<Blob>> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        received.in_file(self.path.join(format!("{number:012}.blob")))
    }
}

/// The bytes of one object: slices of blobs, in a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    slices: Vec<(Arc<Blob>, Range<u64>)>,
    length: u64,
}

/// A part of an answer that is sent as it is, or has to be read from a file first.
#[derive(Debug)]
pub(crate) enum Chunk {
    Memory(Bytes),
    File(Arc<Blob>, Range<u64>),
}

impl Content {
    pub(crate) fn of(blob: Arc<Blob>) -> Content {
        let length = blob.length;
        Content { slices: vec![(blob, 0..length)], length }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The entity tag's hexadecimal digits: the same bytes received in the same parts give the same
    /// tag, as with S3's MD5.
    pub(crate) fn tag(&self) -> String {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        for (blob, range) in &self.slices {
            digest.update(&blob.checksum.to_be_bytes());
            digest.update(&range.start.to_be_bytes());
            digest.update(&range.end.to_be_bytes());
        }
        format!("{:016x}{:016x}", digest.finalize(), self.length)
    }

    /// Appends `other` without copying.
    pub(crate) fn append(&mut self, other: &Content) {
        self.slices.extend(other.slices.iter().cloned());
        self.length += other.length;
    }

    /// The bytes of `range`, which lies inside.
    pub(crate) fn slice(&self, range: Range<u64>) -> Content {
        let (mut slices, mut before) = (Vec::new(), 0);
        for (blob, inside) in &self.slices {
            let length = inside.end - inside.start;
            let from = range.start.clamp(before, before + length) - before;
            let to = range.end.clamp(before, before + length) - before;
            if from < to {
                slices.push((Arc::clone(blob), inside.start + from..inside.start + to));
            }
            before += length;
        }
        Content { slices, length: range.end - range.start }
    }

    /// Everything, in pieces to be sent in order.
    pub(crate) fn chunks(&self) -> VecDeque<Chunk> {
        let mut chunks = VecDeque::new();
        for (blob, range) in &self.slices {
            match &blob.data {
                Data::Memory(frames) => push_frames(frames, range, &mut chunks),
                Data::File(_) => {
                    let mut from = range.start;
                    while from < range.end {
                        let to = range.end.min(from + FILE_CHUNK_BYTES);
                        chunks.push_back(Chunk::File(Arc::clone(blob), from..to));
                        from = to;
                    }
                }
            }
        }
        chunks
    }
}

fn push_frames(frames: &[Bytes], range: &Range<u64>, chunks: &mut VecDeque<Chunk>) {
    let mut before = 0;
    for frame in frames {
        let length = frame.len() as u64;
        let from = range.start.clamp(before, before + length) - before;
        let to = range.end.clamp(before, before + length) - before;
        if from < to {
            chunks.push_back(Chunk::Memory(frame.slice(from as usize..to as usize)));
        }
        before += length;
    }
}

impl Blob {
    /// Bytes of a blob that lies in a file. Blocks.
    pub(crate) fn read(&self, range: &Range<u64>) -> io::Result<Bytes> {
        let Data::File(scratch) = &self.data else {
            return Err(io::Error::other("a blob in memory is sliced, not read"));
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        scratch.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Quota;

    fn received(quota: &Quota, frames: &[&'static [u8]]) -> Received {
        let length = frames.iter().map(|it| it.len() as u64).sum();
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        frames.iter().for_each(|it| digest.update(it));
        Received {
            frames: frames.iter().map(|it| Bytes::from_static(it)).collect(),
            length,
            checksum: digest.finalize(),
            charge: quota.take(length).expect("room"),
        }
    }

    fn bytes(content: &Content) -> Vec<u8> {
        let read = |chunk| match chunk {
            Chunk::Memory(bytes) => bytes,
            Chunk::File(blob, range) => blob.read(&range).expect("readable"),
        };
        content.chunks().into_iter().flat_map(read).collect()
    }

    #[test]
    fn every_slice_of_every_slice_is_right() {
        let quota = Quota::new(1000);
        let folder = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(folder.path()).expect("empty");
        let mut content = Content::of(received(&quota, &[b"0123", b"", b"45"]).in_memory());
        let in_file = directory.store(received(&quota, &[b"678", b"9ab"])).expect("written");
        content.append(&Content::of(in_file));
        assert_eq!((bytes(&content).as_slice(), content.length()), (&b"0123456789ab"[..], 12));
        for from in 0..=12 {
            for to in from..=12 {
                let outer = content.slice(from..to);
                let expected = &b"0123456789ab"[from as usize..to as usize];
                assert_eq!(bytes(&outer), expected);
                let inner = outer.slice(0..(to - from) / 2);
                assert_eq!(bytes(&inner), &expected[..expected.len() / 2]);
            }
        }
    }

    #[test]
    fn tags_follow_the_bytes_not_the_frames() {
        let quota = Quota::new(1000);
        let tag =
            |frames: &[&'static [u8]]| Content::of(received(&quota, frames).in_memory()).tag();
        assert_eq!(tag(&[b"ab", b"c"]), tag(&[b"abc"]));
        assert_ne!(tag(&[b"abd"]), tag(&[b"abc"]));
        assert_ne!(tag(&[]), tag(&[b"\0"]));
    }

    #[test]
    fn files_go_with_the_last_reference() {
        let quota = Quota::new(1000);
        let folder = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(folder.path()).expect("empty");
        let content = Content::of(directory.store(received(&quota, &[b"abc"])).expect("written"));
        let held = content.slice(1..2);
        drop(content);
        assert_eq!(bytes(&held), b"b", "still read by someone");
        let refused = Directory::open(folder.path()).expect_err("not empty");
        assert_eq!(refused.kind(), io::ErrorKind::DirectoryNotEmpty);
        drop(held);
        assert_eq!(
            (std::fs::read_dir(folder.path()).expect("a directory").count(), quota.used()),
            (0, 0)
        );
    }
}
