//! A write-ahead log on a volume, looked at through the file system: no lock is taken, nothing is cut.
//!
//! Owns: walking files from segment to segment, what a torn end means. Does not own: recovery, which does
//! the same with more care and the right to write (`partition_log::wal`).
//!
//! A log over files has one write in flight, so any trace of a sequence proves that everything below it
//! was durable: a file named after it, or its header. Only the very last sequence may be torn.
//!
//! A broker may be writing. What looks torn is looked at again from there before it is told.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use partition_log::segment::{
    FOOTER_LEN, HEADER_LEN, IndexRead, RunEntry, SegmentHeader, SegmentIndex, read_index,
};
use partition_log::wal::FRAME_BYTES;
use vocabulary::SegmentName;

use crate::finding::{Finding, Invariant};
use crate::object::range_of;

/// What one file's names end with.
const EXTENSION: &str = "wal";

/// Bytes of one read while searching behind the end.
const SCAN_BYTES: usize = 1024 * 1024;

/// An index longer than this is not believed.
const INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Looks at a directory that changes meanwhile.
const TRIES_MAX: u32 = 3;

const SAFE: &str = "Nothing was changed. Committed records are in the bucket and not affected.";
const ADVICE: &str = "Keep a copy of the directory. A broker refuses to start on it rather than lose \
                      what was acknowledged; restore the file from a copy if there is one.";

/// One segment of a file.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Bytes from the start of the file.
    pub(crate) position: u64,
    pub(crate) header: SegmentHeader,
    pub(crate) index: SegmentIndex,
}

/// Where a file stops being a row of segments.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) position: u64,
    pub(crate) range: Range<u64>,
    pub(crate) reason: String,
    /// The sequence that would come next. `None` if the file has no segment.
    pub(crate) next: Option<u64>,
    /// The highest sequence of which there is a trace behind.
    pub(crate) trace: Option<u64>,
}

/// What a look at a directory gave.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) files: u64,
    pub(crate) segments: u64,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
}

/// Looks at a directory; the files may change meanwhile.
///
/// # Errors
/// The file system's.
pub(crate) fn examine(directory: &Path) -> io::Result<Examined> {
    let mut attempt = 1;
    loop {
        let examined = examine_once(directory);
        let is_settled = examined.as_ref().is_ok_and(|it| it.findings.is_empty());
        let is_trimmed = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let is_final = examined.as_ref().is_err_and(|error| !is_trimmed(error));
        if is_settled || is_final || attempt == TRIES_MAX {
            return examined;
        }
        attempt += 1;
    }
}

fn examine_once(directory: &Path) -> io::Result<Examined> {
    let mut examined = Examined::default();
    let files = files(directory)?;
    let (mut next, mut begun): (Option<u64>, Option<u64>) = (None, None);
    let mut torn: Option<(PathBuf, End)> = None;
    for (first, path) in files {
        if let Some(expected) = next.filter(|it| *it < first) {
            examined.findings.push(missing(torn.take(), &path, expected, first));
        }
        begun = begun.max(Some(first));
        let mut count = 0;
        let end = walk(&path, |_| {
            count += 1;
            Ok(())
        })?;
        examined.files += 1;
        examined.segments += count;
        if end.next.is_some_and(|it| it != first + count) {
            examined.notes.push(format!("{} does not start with segment {first}", path.display()));
        }
        begun = begun.max(end.trace);
        // A later file replaces the chain from its first sequence on.
        next = Some(if count == 0 { next.unwrap_or(first) } else { first + count });
        torn = Some((path, end));
    }
    if let (Some(expected), Some(begun)) = (next, begun)
        && expected < begun
        && let Some((path, end)) = torn
    {
        let path_of_trace = path.clone();
        examined.findings.push(missing(Some((path, end)), &path_of_trace, expected, begun));
    }
    Ok(examined)
}

fn missing(torn: Option<(PathBuf, End)>, trace: &Path, expected: u64, begun: u64) -> Finding {
    let trace = trace.display();
    let proof =
        format!("segments {expected} to {begun} (exclusive) were durable, as {trace} proves");
    let (object, range, what) = match torn {
        Some((path, end)) => {
            let what = format!("{proof}, and are not here: {}", end.reason);
            (path.display().to_string(), Some(end.range), what)
        }
        None => (trace.to_string(), None, format!("{proof}, and are not here")),
    };
    Finding { invariant: Invariant::A1, object, range, what, safe: SAFE, advice: ADVICE }
}

/// The log's files in the order of their names: of rewrites of the same sequence, the later one last.
fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != EXTENSION) {
            continue;
        }
        let Some(stem) = path.file_stem().and_then(|it| it.to_str()) else { continue };
        let (first, generation) = stem.split_once('.').unwrap_or((stem, "0"));
        let (Ok(first), Ok(generation)) = (first.parse::<u64>(), generation.parse::<u64>()) else {
            continue; // Not a name that we write; recovery says so.
        };
        files.push((first, generation, path));
    }
    files.sort();
    Ok(files.into_iter().map(|(first, _, path)| (first, path)).collect())
}

/// Hands out the segments of one file, and says where and why they end.
///
/// # Errors
/// The file system's, and those of `each`.
pub(crate) fn walk(
    path: &Path,
    mut each: impl FnMut(&Placed) -> io::Result<()>,
) -> io::Result<End> {
    let file = File::open(path)?;
    let (mut position, mut last): (u64, Option<(u64, u64)>) = (0, None);
    loop {
        let stopped = match segment_at(&file, position, last)? {
            Ok(placed) => {
                each(&placed)?;
                last = sequence_of(placed.header.name).map(|it| (it, placed.header.stamp));
                position += placed.header.length.next_multiple_of(FRAME_BYTES);
                continue;
            }
            Err(stopped) => stopped,
        };
        let next = last.map(|it| it.0 + 1);
        let trace = search(&file, position, last)?;
        // A writer may just have got there: then the walk goes on.
        if trace.is_some() && segment_at(&file, position, last)?.is_ok() {
            continue;
        }
        let (range, reason) = stopped;
        return Ok(End { position, range, reason, next, trace });
    }
}

/// The checksum of one run of a segment.
pub(crate) fn checksum(path: &Path, segment: u64, run: &RunEntry) -> io::Result<u32> {
    let file = File::open(path)?;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let (mut at, end) = (segment + run.position, segment + run.position + run.length);
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(SCAN_BYTES);
        let bytes = read(&file, at, length)?;
        if bytes.is_empty() {
            break; // Shorter than it was: the checksum will not be right.
        }
        digest.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(digest.finalize() as u32) // A 32-bit CRC in the low half of a wider register.
}

type Stopped = (Range<u64>, String);

/// The segment at `position`, behind the one of this sequence and stamp.
fn segment_at(
    file: &File,
    position: u64,
    last: Option<(u64, u64)>,
) -> io::Result<Result<Placed, Stopped>> {
    let length = file.metadata()?.len();
    let bytes = read(file, position, HEADER_LEN)?;
    let at_header = position..length.min(position + HEADER_LEN as u64).max(position);
    if bytes.is_empty() || bytes.iter().all(|it| *it == 0) {
        return Ok(Err((
            position..length.max(position),
            "nothing was written here yet".to_owned(),
        )));
    }
    let header = match SegmentHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err((at_header, error.to_string()))),
    };
    let follows = |(sequence, stamp): (u64, u64)| {
        header.stamp == stamp && sequence_of(header.name) == Some(sequence + 1)
    };
    if !last.is_none_or(follows) {
        let name = header.name;
        return Ok(Err((at_header, format!("old bytes: {name}, which does not come next"))));
    }
    let end = position.saturating_add(header.length);
    if length < end {
        let needed = header.length;
        return Ok(Err((position..length, format!("a segment of {needed} bytes is cut off"))));
    }
    let suffix = header.index_length.saturating_add(FOOTER_LEN as u64);
    if INDEX_BYTES_MAX < suffix {
        return Ok(Err((at_header, format!("an index of {suffix} bytes is not believed"))));
    }
    let bytes = read(file, end - suffix, suffix as usize)?;
    Ok(match read_index(&bytes, header.length) {
        Ok(IndexRead::Index(index)) if index.name == header.name => {
            Ok(Placed { position, header, index })
        }
        Ok(_) => Err((at_header, "header and index name different segments".to_owned())),
        Err(error) => {
            let range = range_of(&error, &bytes, header.length);
            Err((position + range.start..position + range.end, error.to_string()))
        }
    })
}

/// The highest sequence of a header behind `from`, of the same writer if one is known.
fn search(file: &File, from: u64, last: Option<(u64, u64)>) -> io::Result<Option<u64>> {
    let mut trace = None;
    let mut position = from;
    loop {
        let bytes = read(file, position, SCAN_BYTES)?;
        if bytes.is_empty() {
            return Ok(trace);
        }
        for frame in bytes.chunks(FRAME_BYTES as usize) {
            if let Ok(header) = SegmentHeader::parse(frame)
                && last.is_none_or(|it| it.1 == header.stamp)
            {
                trace = trace.max(sequence_of(header.name));
            }
        }
        position += SCAN_BYTES as u64;
    }
}

/// Up to `length` bytes, fewer at the end of the file.
fn read(file: &File, position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn sequence_of(name: SegmentName) -> Option<u64> {
    match name {
        SegmentName::Wal { sequence, .. } => Some(sequence),
        SegmentName::Data(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use partition_log::segment::SegmentBuilder;
    use vocabulary::{BrokerEpoch, BrokerId};

    const STAMP: u64 = 7;

    /// A file of the segments from `first` on, each a frame long.
    fn file(directory: &Path, first: u64, count: u64) -> PathBuf {
        let mut bytes = Vec::new();
        for sequence in first..first + count {
            let (broker, epoch) = (BrokerId(1), BrokerEpoch(1));
            let name = SegmentName::Wal { broker, epoch, sequence };
            let segment = SegmentBuilder::new(name).stamped(STAMP).finish();
            segment.chunks.iter().for_each(|it| bytes.extend_from_slice(it));
            bytes.resize(bytes.len().next_multiple_of(FRAME_BYTES as usize), 0);
        }
        bytes.resize(bytes.len() + 2 * FRAME_BYTES as usize, 0); // Room that was made beforehand.
        let path = directory.join(format!("{first:020}.wal"));
        std::fs::write(&path, bytes).expect("a scratch directory takes files");
        path
    }

    fn flip(path: &Path, at: u64) {
        let mut bytes = std::fs::read(path).expect("it exists");
        bytes[at as usize] ^= 1;
        std::fs::write(path, bytes).expect("it is written");
    }

    #[test]
    fn a_row_of_files_is_whole_and_a_torn_end_is_no_damage() {
        let home = tempfile::tempdir().expect("a directory");
        file(home.path(), 5, 3);
        let last = file(home.path(), 8, 4);
        let examined = examine(home.path()).expect("readable");
        assert_eq!((examined.files, examined.segments), (2, 7));
        assert_eq!(examined.findings, []);
        flip(&last, 3 * FRAME_BYTES + 70);
        let examined = examine(home.path()).expect("readable");
        assert_eq!((examined.segments, examined.findings.len()), (6, 0));
        let end = walk(&last, |_| Ok(())).expect("readable");
        assert_eq!((end.position, end.next), (3 * FRAME_BYTES, Some(11)));
    }

    #[test]
    fn what_a_trace_proves_and_is_not_there_is_found() {
        let home = tempfile::tempdir().expect("a directory");
        let first = file(home.path(), 5, 3);
        let last = file(home.path(), 8, 4);
        flip(&last, FRAME_BYTES + 70);
        let found = examine(home.path()).expect("readable").findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].object, last.display().to_string());
        assert!(found[0].what.contains("segments 9 to 11"), "{found:?}");
        let range = found[0].range.clone().expect("the torn segment");
        assert!((FRAME_BYTES..2 * FRAME_BYTES).contains(&range.start), "{range:?}");

        flip(&last, FRAME_BYTES + 70);
        flip(&first, 2 * FRAME_BYTES);
        let found = examine(home.path()).expect("readable").findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].object, first.display().to_string());
        assert!(found[0].what.contains("segments 7 to 8"), "{found:?}");
    }

    #[test]
    fn a_file_is_inspected_to_where_it_breaks() {
        let home = tempfile::tempdir().expect("a directory");
        let path = file(home.path(), 0, 3);
        let mut rows = Vec::new();
        let inspected = crate::inspect_volume_file(&path, true, &mut rows).expect("readable");
        assert!(!inspected.is_broken);
        let kinds: Vec<_> = rows.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, ["segment", "segment", "segment", "end"]);
        flip(&path, FRAME_BYTES + 3);
        rows.clear();
        let inspected = crate::inspect_volume_file(&path, true, &mut rows).expect("readable");
        assert!(inspected.is_broken);
        assert_eq!(rows.last().map(|it| it.kind), Some("broken"));
        let from = rows.last().and_then(|it| it.get("from_byte")).cloned();
        assert_eq!(from, Some(FRAME_BYTES.into()));
    }
}
