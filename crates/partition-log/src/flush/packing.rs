//! Which partitions' parts share a data segment. Pure.
//!
//! Partitions come in sorted order. One with enough to flush gets a segment of its own, so that its
//! readers touch nothing else; the others are packed together, still in order.

/// What one part adds to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) batches: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) segment: Size,
    pub(crate) own_bytes_min: u64,
}

/// Collects parts until they fill a segment.
#[derive(Debug)]
pub(crate) struct Packer<T> {
    limits: Limits,
    open: Vec<T>,
    size: Size,
}

impl<T> Packer<T> {
    pub(crate) fn new(limits: Limits) -> Packer<T> {
        Packer { limits, open: Vec::new(), size: Size { bytes: 0, batches: 0 } }
    }

    /// Takes a part in; returns the parts of a segment that is complete, if one is now. A part never
    /// exceeds a whole segment by more than the one batch it must have.
    pub(crate) fn push(&mut self, part: T, size: Size) -> Option<Vec<T>> {
        if self.limits.own_bytes_min <= size.bytes {
            return Some(vec![part]);
        }
        let is_full = self.limits.segment.bytes < self.size.bytes + size.bytes
            || self.limits.segment.batches < self.size.batches + size.batches;
        let complete = if is_full { self.finish() } else { None };
        self.open.push(part);
        self.size.bytes += size.bytes;
        self.size.batches += size.batches;
        complete
    }

    /// What is left.
    pub(crate) fn finish(&mut self) -> Option<Vec<T>> {
        self.size = Size { bytes: 0, batches: 0 };
        let open = std::mem::take(&mut self.open);
        (!open.is_empty()).then_some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { segment: Size { bytes: 64, batches: 10 }, own_bytes_min: 8 };

    fn pack(parts: &[(u64, usize)]) -> Vec<Vec<usize>> {
        let mut packer = Packer::new(LIMITS);
        let mut segments = Vec::new();
        for (index, (bytes, batches)) in parts.iter().enumerate() {
            segments.extend(packer.push(index, Size { bytes: *bytes, batches: *batches }));
        }
        segments.extend(packer.finish());
        segments
    }

    #[test]
    fn large_parts_stand_alone_and_small_ones_share() {
        let expected: Vec<Vec<usize>> = vec![vec![1], vec![0, 2, 3]];
        assert_eq!(pack(&[(1, 1), (8, 1), (7, 1), (2, 1)]), expected);
        assert_eq!(pack(&[(1, 6), (1, 4), (1, 1)]), vec![vec![0, 1], vec![2]]);
        assert_eq!(pack(&[]), Vec::<Vec<usize>>::new());
    }

    proptest! {
        #[test]
        fn every_part_is_packed_once_within_the_limits(
            parts in prop::collection::vec((1u64..20, 1usize..12), 0..100),
        ) {
            let segments = pack(&parts);
            let mut seen: Vec<usize> = segments.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..parts.len()));
            for segment in segments.iter().filter(|it| it.len() > 1) {
                prop_assert!(segment.is_sorted());
                let bytes: u64 = segment.iter().map(|it| parts[*it].0).sum();
                let batches: usize = segment.iter().map(|it| parts[*it].1).sum();
                prop_assert!(bytes <= LIMITS.segment.bytes && batches <= LIMITS.segment.batches);
                prop_assert!(segment.iter().all(|it| parts[*it].0 < LIMITS.own_bytes_min));
            }
        }
    }
}
