//! Values over ranges of offsets.
//!
//! Invariants: ranges are disjoint; neighbours that touch have different values.

use std::collections::BTreeMap;

/// Both ends belong to a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges<V> {
    /// By first offset: the last one, and the value.
    map: BTreeMap<i64, (i64, V)>,
}

impl<V> Default for Ranges<V> {
    fn default() -> Ranges<V> {
        Ranges { map: BTreeMap::new() }
    }
}

impl<V: Clone + PartialEq> Ranges<V> {
    /// Replaces whatever was there.
    pub(super) fn set(&mut self, first: i64, last: i64, value: V) {
        self.clear(first, last);
        let (mut first, mut last) = (first, last);
        let before = self.map.range(..first).next_back();
        if let Some((&from, (to, there))) = before
            && to.checked_add(1) == Some(first)
            && *there == value
        {
            self.map.remove(&from);
            first = from;
        }
        let after = last.checked_add(1).and_then(|it| Some((it, self.map.get(&it)?)));
        if let Some((from, (to, there))) = after
            && *there == value
        {
            last = *to;
            self.map.remove(&from);
        }
        self.map.insert(first, (last, value));
    }

    /// Afterwards nothing from `first` to `last` has a value.
    pub(super) fn clear(&mut self, first: i64, last: i64) {
        let touched: Vec<(i64, i64, V)> = self.touching(first, last).collect();
        for (from, to, value) in touched {
            self.map.remove(&from);
            if from < first {
                self.map.insert(from, (first - 1, value.clone()));
            }
            if last < to {
                self.map.insert(last + 1, (to, value));
            }
        }
    }

    /// The value at an offset, and up to where it holds.
    pub(super) fn at(&self, offset: i64) -> Option<(i64, &V)> {
        let (_, (last, value)) = self.map.range(..=offset).next_back()?;
        (offset <= *last).then_some((*last, value))
    }

    /// The first offset after this one that has a value.
    pub(super) fn next_after(&self, offset: i64) -> Option<i64> {
        self.map.range(offset.checked_add(1)?..).next().map(|(first, _)| *first)
    }

    /// What lies from `first` to `last`, cut to that.
    pub(super) fn within(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, i64, V)> + '_ {
        let cut = move |(from, to, value): (i64, i64, V)| (from.max(first), to.min(last), value);
        self.touching(first, last).map(cut)
    }

    fn touching(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, i64, V)> + '_ {
        let begin = self.at(first).and_then(|_| self.map.range(..=first).next_back());
        let begin = begin.map_or(first, |(from, _)| *from);
        let end = last.max(begin);
        let all = self.map.range(begin..=end).map(|(from, (to, it))| (*from, *to, it.clone()));
        all.filter(move |(from, _, _)| *from <= last)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64, &V)> {
        self.map.iter().map(|(first, (last, value))| (*first, *last, value))
    }

    /// The first offset that has a value.
    pub(super) fn start(&self) -> Option<i64> {
        self.map.first_key_value().map(|(first, _)| *first)
    }

    /// The last offset that has a value.
    pub(super) fn end(&self) -> Option<i64> {
        self.map.last_key_value().map(|(_, (last, _))| *last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // The model holds one value an offset.
        #[test]
        fn ranges_are_what_their_offsets_are(
            steps in proptest::collection::vec((0i64..30, 0i64..8, proptest::option::of(0u8..3)), 0..40),
        ) {
            let mut ranges = Ranges::default();
            let mut model = [None; 40];
            for (first, length, value) in steps {
                let last = first + length;
                match value {
                    Some(value) => ranges.set(first, last, value),
                    None => ranges.clear(first, last),
                }
                model[first as usize..=last as usize].fill(value);
                for (offset, expected) in (0i64..).zip(model) {
                    prop_assert_eq!(ranges.at(offset).map(|(_, it)| *it), expected);
                }
                let all: Vec<_> = ranges.iter().collect();
                for pair in all.windows(2) {
                    let ((_, last, value), (first, _, next)) = (pair[0], pair[1]);
                    prop_assert!(last < first && (last + 1 < first || value != next));
                }
                let end = model.iter().rposition(Option::is_some);
                prop_assert_eq!(ranges.end(), end.map(|it| it as i64));
                let within: i64 = ranges.within(5, 11).map(|(first, last, _)| last - first + 1).sum();
                prop_assert_eq!(within as usize, model[5..=11].iter().flatten().count());
                let value = |it: i64| ranges.at(it).map(|(_, it)| *it);
                let begins = |it: &i64| value(*it).is_some() && value(*it - 1) != value(*it);
                let next = (6..40).find(begins);
                prop_assert_eq!(ranges.next_after(5), next);
            }
        }
    }
}
