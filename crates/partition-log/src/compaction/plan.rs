//! How far a partition is clean, what may be cleaned now, and whether that is worth it. Pure.
//!
//! Owns: the meaning of the configs (KIP-58, KIP-354), what stands for Kafka's active segment.
//! Does not own: transactions that are undecided (`survey`), the work.

use crate::log::LogSettings;
use crate::merge::is_compacted;
use crate::run_index::RunDescription;
use vocabulary::{Offset, Timestamp};

/// What a topic asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wishes {
    pub(super) dirty_ratio_min: f64,
    pub(super) lag_ms_min: i64,
    pub(super) lag_ms_max: i64,
    pub(super) segment_bytes: u64,
    pub(super) segment_ms: i64,
}

impl Wishes {
    pub(super) fn of(settings: &LogSettings) -> Wishes {
        Wishes {
            dirty_ratio_min: settings.min_cleanable_dirty_ratio,
            lag_ms_min: settings.min_compaction_lag_ms,
            lag_ms_max: settings.max_compaction_lag_ms,
            segment_bytes: settings.segment_bytes,
            // A record must not wait longer in the active part than it may stay uncompacted.
            segment_ms: settings.segment_ms.min(settings.max_compaction_lag_ms),
        }
    }
}

/// What the committed runs of a partition say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Survey {
    pub(super) clean_bytes: u64,
    /// Of all that is not clean.
    pub(super) dirty_bytes: u64,
    /// What may be cleaned: from here, where a run starts,
    pub(super) from: Offset,
    /// to here, where one ends.
    pub(super) to: Offset,
    pub(super) cleanable_bytes: u64,
    /// It has waited for as long as max.compaction.lag.ms allows.
    pub(super) is_overdue: bool,
}

impl Survey {
    /// `runs` are all of the partition, in order, from the log start on; nothing from `stable` on is
    /// cleaned, nor what is written behind it, which is the last stable offset.
    pub(super) fn of(
        runs: &[RunDescription],
        stable: Offset,
        wishes: &Wishes,
        now: Timestamp,
    ) -> Survey {
        let cleaned = runs.iter().take_while(|it| is_compacted(it.segment)).count();
        let (clean, dirty) = runs.split_at(cleaned);
        let from = dirty.first().or(clean.last()).map_or(Offset::ZERO, |it| it.base);
        let bytes = |runs: &[RunDescription]| runs.iter().map(|it| it.length).sum::<u64>();
        let count = cleanable(dirty, stable, wishes, now);
        // No record of the dirty part is older than about the newest one of the clean part.
        let since = clean.last().or(dirty.first()).map_or(now, |it| it.max_timestamp);
        Survey {
            clean_bytes: bytes(clean),
            dirty_bytes: bytes(dirty),
            from,
            to: dirty[..count].last().map_or(from, |it| it.end),
            cleanable_bytes: bytes(&dirty[..count]),
            is_overdue: 0 < count && wishes.lag_ms_max < now.0.saturating_sub(since.0),
        }
    }

    /// The share of what would be cleaned in what would be read, as Kafka counts it.
    pub(super) fn ratio(&self) -> f64 {
        match self.clean_bytes + self.cleanable_bytes {
            0 => 0.0,
            all => self.cleanable_bytes as f64 / all as f64,
        }
    }

    pub(super) fn is_due(&self, wishes: &Wishes) -> bool {
        self.from < self.to && (self.is_overdue || wishes.dirty_ratio_min < self.ratio())
    }
}

/// How many of the dirty runs, from the first on, are not active any more.
///
/// Kafka never compacts the segment it appends to, and rolls it by size or by age. Nothing is appended to
/// a run, so here the active part is what Kafka would not have rolled yet: behind the last point
/// where `segment.bytes` were full, runs whose newest record is younger than `segment.ms`.
fn cleanable(dirty: &[RunDescription], stable: Offset, wishes: &Wishes, now: Timestamp) -> usize {
    let age = |it: &RunDescription| now.0.saturating_sub(it.max_timestamp.0);
    let is_settled = |it: &&RunDescription| it.end <= stable && wishes.lag_ms_min <= age(it);
    let settled = dirty.iter().take_while(is_settled).count();
    let (mut rolled, mut bytes) = (0, 0);
    for (at, run) in dirty.iter().enumerate() {
        bytes += run.length;
        let is_rolled_by_age = rolled == at && wishes.segment_ms <= age(run);
        if wishes.segment_bytes <= bytes || is_rolled_by_age {
            (rolled, bytes) = (at + 1, 0);
        }
    }
    rolled.min(settled)
}

#[cfg(test)]
mod tests;
