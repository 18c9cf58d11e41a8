//! What clients saw, and what of it may not be; after the public Kafka workload of Jepsen.
//!
//! Every value is sent once, to one partition, by a producer that goes on only when it knows or has given up.
//!
//! - K1 aborted read: a value was read whose send was refused for good;
//! - K2 inconsistent offsets: two values at one offset of one partition;
//! - K3 duplicate: one value at two offsets;
//! - K4 lost write: acknowledged, at or below what was read to, and never read;
//! - K5 unseen: acknowledged, and not read when at the end everything was;
//! - K6 polls that skip or step back: a reader passes over an offset that holds a value, or reads one again;
//! - K7 sends out of order: a producer's later value at an earlier offset.
//!
//! Reads of one's own uncommitted values, and cycles between transactions, need transactions in the workload.

use std::collections::BTreeMap;

pub(crate) type Partition = i32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// At this offset.
    Acknowledged(i64),
    /// Refused: it is not in the log and never will be.
    Refused,
    /// It may be in the log or not.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Send {
    pub(crate) producer: u32,
    pub(crate) partition: Partition,
    pub(crate) value: u64,
    pub(crate) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    pub(crate) value: u64,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Each producer's in the order it sent them.
    pub(crate) sends: Vec<Send>,
    /// One list a reader, in the order it read; the last reader read everything when all was quiet.
    pub(crate) readers: Vec<Vec<Read>>,
}

impl History {
    pub(crate) fn sends(&self) -> usize {
        self.sends.len()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.sends.iter().filter(|send| matches!(send.fate, Fate::Acknowledged(_))).count()
    }

    pub(crate) fn reads(&self) -> usize {
        self.readers.iter().map(Vec::len).sum()
    }

    /// One line an anomaly.
    pub(crate) fn anomalies(&self) -> Vec<String> {
        let mut found = Vec::new();
        let places = self.places(&mut found);
        self.aborted_reads(&mut found);
        self.lost_and_unseen(&mut found);
        self.polls(&places, &mut found);
        self.order_of_sends(&mut found);
        found
    }

    /// Which value is where, as acknowledgements and reads say (K2, K3).
    fn places(&self, found: &mut Vec<String>) -> BTreeMap<(Partition, i64), u64> {
        let mut places = BTreeMap::new();
        let mut homes = BTreeMap::new();
        let acknowledged = self.sends.iter().filter_map(|send| match send.fate {
            Fate::Acknowledged(offset) => {
                Some(Read { partition: send.partition, offset, value: send.value })
            }
            Fate::Refused | Fate::Unknown => None,
        });
        for Read { partition, offset, value } in
            acknowledged.chain(self.readers.iter().flatten().copied())
        {
            let other = *places.entry((partition, offset)).or_insert(value);
            if other != value {
                found.push(format!("K2 {other} and {value} at {partition}/{offset}"));
            }
            let home = *homes.entry(value).or_insert((partition, offset));
            if home != (partition, offset) {
                found.push(format!("K3 {value} at {}/{} and {partition}/{offset}", home.0, home.1));
            }
        }
        places
    }

    fn aborted_reads(&self, found: &mut Vec<String>) {
        let refused: BTreeMap<u64, Partition> = self
            .sends
            .iter()
            .filter(|send| send.fate == Fate::Refused)
            .map(|send| (send.value, send.partition))
            .collect();
        for read in self.readers.iter().flatten() {
            if refused.contains_key(&read.value) {
                found.push(format!("K1 {} was refused, and read at {}", read.value, read.offset));
            }
        }
    }

    fn lost_and_unseen(&self, found: &mut Vec<String>) {
        let mut read: BTreeMap<u64, ()> = BTreeMap::new();
        let mut furthest: BTreeMap<Partition, i64> = BTreeMap::new();
        for one in self.readers.iter().flatten() {
            read.insert(one.value, ());
            let to = furthest.entry(one.partition).or_insert(-1);
            *to = one.offset.max(*to);
        }
        for send in &self.sends {
            let Fate::Acknowledged(offset) = send.fate else { continue };
            if read.contains_key(&send.value) {
                continue;
            }
            let to = furthest.get(&send.partition).copied().unwrap_or(-1);
            let name = if offset <= to { "K4 lost" } else { "K5 unseen" };
            found.push(format!(
                "{name}: {} acknowledged at {}/{offset}",
                send.value, send.partition
            ));
        }
    }

    fn polls(&self, places: &BTreeMap<(Partition, i64), u64>, found: &mut Vec<String>) {
        for (reader, reads) in self.readers.iter().enumerate() {
            let mut positions: BTreeMap<Partition, i64> = BTreeMap::new();
            for read in reads {
                let next = positions.insert(read.partition, read.offset + 1).unwrap_or(0);
                let place = format!("{}/{}", read.partition, read.offset);
                if read.offset < next {
                    found.push(format!("K6 reader {reader} went back to {place} from {next}"));
                } else if let Some((skipped, value)) =
                    places.range((read.partition, next)..(read.partition, read.offset)).next()
                {
                    found.push(format!(
                        "K6 reader {reader} skipped {value} at {}/{} on its way to {place}",
                        skipped.0, skipped.1
                    ));
                }
            }
        }
    }

    fn order_of_sends(&self, found: &mut Vec<String>) {
        let mut last: BTreeMap<(u32, Partition), i64> = BTreeMap::new();
        for send in &self.sends {
            let Fate::Acknowledged(offset) = send.fate else { continue };
            let before = last.insert((send.producer, send.partition), offset).unwrap_or(-1);
            if offset <= before {
                let (producer, partition) = (send.producer, send.partition);
                found.push(format!("K7 producer {producer}: {partition}/{offset} after {before}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, History, Read, Send};

    fn send(value: u64, fate: Fate) -> Send {
        Send { producer: 0, partition: 0, value, fate }
    }

    fn read(offset: i64, value: u64) -> Read {
        Read { partition: 0, offset, value }
    }

    /// Three values; the second's fate is unknown, and it is in the log.
    fn sound() -> History {
        let sends = vec![
            send(1, Fate::Acknowledged(0)),
            send(2, Fate::Unknown),
            send(3, Fate::Acknowledged(2)),
            send(4, Fate::Refused),
        ];
        let all = vec![read(0, 1), read(1, 2), read(2, 3)];
        History { sends, readers: vec![vec![read(0, 1)], all] }
    }

    /// The ids of what is found after one change to a sound history.
    fn after(change: impl Fn(&mut History)) -> Vec<String> {
        let mut history = sound();
        change(&mut history);
        let found = history.anomalies();
        found.iter().map(|it| it[..2].to_owned()).collect()
    }

    #[test]
    fn a_sound_history_has_none() {
        assert_eq!(after(|_| {}), [""; 0]);
        // A gap where nothing is known to be is none: an unknown send may not have happened.
        assert_eq!(after(|it| it.readers = vec![vec![read(0, 1), read(2, 3)]]), [""; 0]);
    }

    #[test]
    fn each_anomaly_is_found_and_only_it() {
        assert_eq!(after(|it| it.readers[1].push(read(3, 4))), ["K1"]);
        assert_eq!(after(|it| it.readers[0][0] = read(0, 9)), ["K2"]);
        assert_eq!(after(|it| it.readers[1].push(read(3, 1))), ["K3"]);
        let lost = |it: &mut History| it.sends.push(send(5, Fate::Acknowledged(1)));
        assert!(after(lost).contains(&"K4".to_owned()));
        assert_eq!(after(|it| it.sends.push(send(5, Fate::Acknowledged(3)))), ["K5"]);
        assert_eq!(after(|it| it.readers[1].push(read(0, 1))), ["K6"]);
        assert_eq!(after(|it| it.readers[0].push(read(2, 3))), ["K6"]);
        assert_eq!(after(|it| it.sends.swap(0, 2)), ["K7"]);
    }
}
