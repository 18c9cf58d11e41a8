//! What the files of a log mean, once each was read for itself.
//!
//! Owns: file names, which copy of a segment counts, what a gap is. Does not own: reading (`recovery`).
//!
//! Pure. The one rule everything follows from: a log over files has one write in flight, so **any
//! trace of sequence S proves that every sequence below S was durable**. A trace is a file named
//! after S, or a segment header of S, be the rest of it torn or not. Hence only the very last
//! sequence may be missing or torn; anything else that is missing is corruption, never a torn tail.
//!
//! A later file that starts at a sequence the chain has already replaces the chain from there on: it
//! is a rewrite after a failed write or sync, or the copy that a recovery made.

use std::fmt;
use std::str::FromStr;

/// `00000000000000000042.wal`, or `00000000000000000042.3.wal` for the third rewrite. Ordered as the
/// files were created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    /// Sequence of the first segment.
    pub(super) first: u64,
    /// Tells the attempts to write that segment apart.
    pub(super) generation: u64,
}

impl FileName {
    /// The name for the next file that starts at `first`: newer than all of `taken`.
    pub(super) fn next(first: u64, taken: impl IntoIterator<Item = FileName>) -> FileName {
        let same = taken.into_iter().filter(|it| it.first == first);
        FileName { first, generation: same.map(|it| it.generation + 1).max().unwrap_or(0) }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{:020}.wal", self.first),
            generation => write!(f, "{:020}.{generation}.wal", self.first),
        }
    }
}

impl FromStr for FileName {
    type Err = ();

    fn from_str(text: &str) -> Result<FileName, ()> {
        let stem = text.strip_suffix(".wal").ok_or(())?;
        let (first, generation) = stem.split_once('.').unwrap_or((stem, "0"));
        let name = FileName {
            first: first.parse().map_err(|_| ())?,
            generation: generation.parse().map_err(|_| ())?,
        };
        // Only names that we would write: no signs, no other padding.
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// What reading one file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSummary {
    pub(super) name: FileName,
    /// How many good segments it holds: sequences `name.first` and on.
    pub(super) count: u64,
    /// Where the good segments end.
    pub(super) end: u64,
    /// The highest sequence of which there is any trace behind `end`.
    pub(super) trace: Option<u64>,
    /// Why reading stopped at `end`.
    pub(super) stopped: String,
}

/// A stretch of one file's segments: those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Index into the summaries.
    pub(super) file: usize,
    pub(super) first: u64,
    pub(super) count: u64,
}

/// A sequence that must have been durable and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) file: FileName,
    pub(super) position: u64,
    pub(super) reason: String,
}

/// Links the files, given in the order of their names, to one chain without gap or overlap.
pub(super) fn link(files: &[FileSummary]) -> Result<Vec<Link>, Gap> {
    let mut chain: Vec<Link> = Vec::new();
    let start = files.first().map_or(0, |it| it.name.first);
    for (file, summary) in files.iter().enumerate() {
        let first = summary.name.first;
        // The name is a trace itself: everything below it was durable once, from the oldest file on.
        if chain.last().map_or(start, |it| it.first + it.count) < first {
            return Err(gap(files, &chain, first));
        }
        if summary.count != 0 {
            cut(&mut chain, first);
            chain.push(Link { file, first, count: summary.count });
        }
    }
    let traces = files.iter().filter_map(|it| it.trace.max(Some(it.name.first)));
    let begun = traces.max().unwrap_or(0);
    let next = chain.last().map_or(0, |it| it.first + it.count);
    if next < begun { Err(gap(files, &chain, begun)) } else { Ok(chain) }
}

/// Drops everything at `first` and behind it.
fn cut(chain: &mut Vec<Link>, first: u64) {
    chain.retain_mut(|it| {
        it.count = it.count.min(first.saturating_sub(it.first));
        it.count != 0
    });
}

fn gap(files: &[FileSummary], chain: &[Link], begun: u64) -> Gap {
    let summary = &files[chain.last().map_or(0, |it| it.file)];
    let missing = chain.last().map_or(summary.name.first, |it| it.first + it.count);
    let reason = format!(
        "segment {missing} is missing although segment {begun} was begun after it ({})",
        summary.stopped
    );
    Gap { file: summary.name, position: summary.end, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(first: u64, generation: u64, count: u64, trace: Option<u64>) -> FileSummary {
        let name = FileName { first, generation };
        FileSummary { name, count, end: 4096 * count, trace, stopped: "zeros".to_owned() }
    }

    fn sequences(files: &[FileSummary]) -> Result<Vec<(usize, u64)>, u64> {
        let chain = link(files).map_err(|gap| gap.position)?;
        let each =
            |it: Link| (it.first..it.first + it.count).map(move |sequence| (it.file, sequence));
        Ok(chain.into_iter().flat_map(each).collect())
    }

    #[test]
    fn names_sort_and_parse_as_they_print() {
        let name = |first, generation| FileName { first, generation };
        assert_eq!(name(42, 0).to_string(), "00000000000000000042.wal");
        assert_eq!(name(42, 3).to_string(), "00000000000000000042.3.wal");
        for it in [name(0, 0), name(42, 3), name(u64::MAX, 12)] {
            assert_eq!(it.to_string().parse(), Ok(it));
        }
        for text in
            ["42.wal", "00000000000000000042.0.wal", "+0000000000000000042.wal", "x.wal", ""]
        {
            assert_eq!(text.parse::<FileName>(), Err(()), "{text}");
        }
        assert!(name(42, 10) < name(43, 0) && name(42, 2) < name(42, 10));
        assert_eq!(FileName::next(42, []), name(42, 0));
        assert_eq!(FileName::next(42, [name(42, 3), name(42, 0), name(41, 7)]), name(42, 4));
    }

    #[test]
    fn files_in_a_row_make_a_chain() {
        assert_eq!(sequences(&[]), Ok(vec![]));
        let files = [file(5, 0, 2, None), file(7, 0, 1, None)];
        assert_eq!(sequences(&files), Ok(vec![(0, 5), (0, 6), (1, 7)]));
    }

    #[test]
    fn a_torn_end_is_cut() {
        // The first write ever; a write into a file; the first write into a new file.
        assert_eq!(sequences(&[file(0, 0, 0, Some(0))]), Ok(vec![]));
        assert_eq!(sequences(&[file(3, 0, 1, Some(4))]), Ok(vec![(0, 3)]));
        assert_eq!(sequences(&[file(3, 0, 1, None), file(4, 0, 0, None)]), Ok(vec![(0, 3)]));
    }

    #[test]
    fn a_rewrite_replaces_what_it_repeats() {
        let files = [file(3, 0, 2, None), file(4, 0, 2, None)];
        assert_eq!(sequences(&files), Ok(vec![(0, 3), (1, 4), (1, 5)]));
        // The rewrite itself was torn: the first copy counts.
        let files = [file(3, 0, 2, None), file(4, 0, 0, Some(4))];
        assert_eq!(sequences(&files), Ok(vec![(0, 3), (0, 4)]));
        // A recovery found 5 torn, copied 4, and another 5 was written since.
        let files = [file(3, 0, 3, None), file(4, 0, 1, None), file(5, 0, 1, None)];
        assert_eq!(sequences(&files), Ok(vec![(0, 3), (1, 4), (2, 5)]));
    }

    #[test]
    fn a_hole_is_corruption_and_is_named() {
        // In the middle of a file, between files, at the start, and hidden behind a damaged header.
        assert_eq!(sequences(&[file(3, 0, 1, None), file(5, 0, 1, None)]), Err(4096));
        assert_eq!(sequences(&[file(3, 0, 2, Some(9))]), Err(8192));
        assert_eq!(sequences(&[file(3, 0, 0, None)]), Err(0));
        assert_eq!(sequences(&[file(3, 0, 0, None), file(6, 0, 1, None)]), Err(0));
        assert_eq!(sequences(&[file(3, 0, 1, Some(5)), file(4, 0, 0, None)]), Err(4096));
        let gap = link(&[file(3, 0, 1, None), file(5, 0, 1, None)]).expect_err("4 is missing");
        assert!(gap.reason.starts_with("segment 4 is missing"), "{}", gap.reason);
    }
}
