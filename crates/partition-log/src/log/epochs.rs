//! The leader epochs of a partition and where each of them starts (KIP-101, KIP-320).
//!
//! Owns: the history and the question "where did this epoch end". Pure.
//! Does not own: who leads, and which offsets are durable.
//!
//! Invariant: epochs and start offsets both grow strictly, so an epoch without data leaves no entry
//! once the next one starts, and the history is bounded by the leaders that wrote something that is
//! still in the log.

use vocabulary::{LeaderEpoch, Offset};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochHistory {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl EpochHistory {
    pub(crate) fn new(starts: Vec<(LeaderEpoch, Offset)>) -> EpochHistory {
        let mut history = EpochHistory { starts: Vec::with_capacity(starts.len() + 1) };
        for (epoch, start) in starts {
            history.begin(epoch, start);
        }
        history
    }

    /// `epoch` writes from `start` on. Known or older epochs change nothing; epochs that wrote
    /// nothing before `start` disappear.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.starts.last().is_some_and(|(last, _)| epoch <= *last) {
            return;
        }
        self.starts.retain(|(_, earlier)| *earlier < start);
        self.starts.push((epoch, start));
    }

    /// Records below `log_start` are gone: epochs that ended there go, the one that holds it starts
    /// there.
    pub(crate) fn truncate_before(&mut self, log_start: Offset) {
        let after = self.starts.partition_point(|(_, start)| *start <= log_start);
        if 1 < after {
            self.starts.drain(..after - 1);
        }
        if let Some((_, start)) = self.starts.first_mut() {
            *start = (*start).max(log_start);
        }
    }

    /// The greatest epoch that is not above `asked`, and where it ended: the start of the next one,
    /// or `end` for the last. `None` for an epoch that is not known yet. For one older than all, the
    /// answer is that epoch itself, ending where the first known one starts.
    pub(crate) fn end_of(&self, asked: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|(epoch, _)| *epoch <= asked);
        let floor = after.checked_sub(1).map(|index| self.starts[index].0);
        match (floor, self.starts.get(after)) {
            (Some(last), None) if last == asked => Some((last, end)),
            (_, None) => None,
            (floor, Some((_, next_start))) => Some((floor.unwrap_or(asked), *next_start)),
        }
    }

    /// The epoch that wrote, or will write, `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|(_, start)| *start <= offset);
        self.starts.get(after.saturating_sub(1)).map(|(epoch, _)| *epoch)
    }
}

#[cfg(test)]
impl EpochHistory {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<(LeaderEpoch, Offset)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(starts: &[(i32, i64)]) -> EpochHistory {
        EpochHistory::new(starts.iter().map(|(e, o)| (LeaderEpoch(*e), Offset(*o))).collect())
    }

    fn end_of(history: &EpochHistory, asked: i32, end: i64) -> Option<(i32, i64)> {
        history.end_of(LeaderEpoch(asked), Offset(end)).map(|(epoch, end)| (epoch.0, end.0))
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let history = history(&[(1, 0), (3, 10), (4, 25)]);
        assert_eq!(end_of(&history, 0, 40), Some((0, 0)));
        assert_eq!(end_of(&history, 1, 40), Some((1, 10)));
        assert_eq!(end_of(&history, 2, 40), Some((1, 10)));
        assert_eq!(end_of(&history, 3, 40), Some((3, 25)));
        assert_eq!(end_of(&history, 4, 40), Some((4, 40)));
        assert_eq!(end_of(&history, 5, 40), None);
    }

    #[test]
    fn epochs_without_data_leave_no_trace() {
        let mut history = history(&[(1, 0), (2, 10), (3, 10)]);
        history.begin(LeaderEpoch(7), Offset(10));
        history.begin(LeaderEpoch(6), Offset(12)); // Older: ignored.
        assert_eq!(end_of(&history, 1, 20), Some((1, 10)));
        assert_eq!(end_of(&history, 3, 20), Some((1, 10)));
        assert_eq!(end_of(&history, 7, 20), Some((7, 20)));
        assert_eq!(history.at(Offset(9)), Some(LeaderEpoch(1)));
        assert_eq!(history.at(Offset(10)), Some(LeaderEpoch(7)));
    }

    #[test]
    fn deleted_records_take_their_epochs_along() {
        let mut history = history(&[(1, 0), (3, 10), (4, 25)]);
        history.truncate_before(Offset(15));
        assert_eq!(history, self::history(&[(3, 15), (4, 25)]));
        history.truncate_before(Offset(40));
        assert_eq!(history, self::history(&[(4, 40)]));
        assert_eq!(end_of(&history, 1, 50), Some((1, 40)));
    }
}
