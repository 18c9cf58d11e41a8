//! How often the bytes of a data segment were rewritten, as its name says.
//!
//! Owns: the level in the last hexadecimal digit of a data segment's id. Does not own: what follows
//! from a level (`plan`; `compaction` for the one that stands for compacted runs).
//!
//! The id is otherwise random: 124 bits of it. Kept in the name, a level is known to whoever knows a
//! run, whichever broker wrote it, and no metadata has to carry it.

use environment::Entropy;
use vocabulary::{SegmentId, SegmentName};

/// A byte is flushed at level 0 and rewritten once to each level above.
pub(crate) const LEVEL_MAX: u8 = 2;

/// Of a run that key compaction has written: nothing in it, nor in what lies before it, has the key of
/// a later record of it. Merging leaves it alone; compaction joins such runs itself.
pub(crate) const COMPACTED_LEVEL: u8 = 0xc;

const DIGIT: u128 = 0xf;

/// A name that nobody has, for bytes of this level.
pub(crate) fn fresh_name(entropy: &dyn Entropy, level: u8) -> SegmentName {
    let is_known = level <= LEVEL_MAX || level == COMPACTED_LEVEL;
    assert!(is_known, "no segment is rewritten to level {level}");
    SegmentName::data(entropy.next_u128() & !DIGIT | u128::from(level))
}

/// `None` for a WAL segment. A digit above [`LEVEL_MAX`] counts as that: never rewritten.
pub(super) fn level_of(segment: SegmentName) -> Option<u8> {
    match segment {
        SegmentName::Wal { .. } => None,
        SegmentName::Data(SegmentId(id)) => Some(((id & DIGIT) as u8).min(LEVEL_MAX)),
    }
}

/// Whether key compaction has written the segment.
pub(crate) fn is_compacted(segment: SegmentName) -> bool {
    match segment {
        SegmentName::Wal { .. } => false,
        SegmentName::Data(SegmentId(id)) => id & DIGIT == u128::from(COMPACTED_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::SeededEntropy;
    use vocabulary::{BrokerEpoch, BrokerId};

    #[test]
    fn a_name_says_its_level() {
        let entropy = SeededEntropy::new(1);
        for level in 0..=LEVEL_MAX {
            assert_eq!(level_of(fresh_name(&entropy, level)), Some(level));
        }
        assert_ne!(fresh_name(&entropy, 0), fresh_name(&entropy, 0));
        assert_eq!(level_of(SegmentName::data(0xf)), Some(LEVEL_MAX));
        let wal = SegmentName::Wal { broker: BrokerId(1), epoch: BrokerEpoch(1), sequence: 0 };
        assert_eq!(level_of(wal), None);
        let compacted = fresh_name(&entropy, COMPACTED_LEVEL);
        assert!(is_compacted(compacted) && !is_compacted(wal));
        assert!(!is_compacted(fresh_name(&entropy, LEVEL_MAX)));
        assert_eq!(level_of(compacted), Some(LEVEL_MAX), "merging leaves it alone");
    }
}
