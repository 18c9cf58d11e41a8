//! Readers, of committed records or of all: what a consumer does with an answer to Fetch.
//!
//! Owns: positions, leaving out aborted records, noting each poll. A reader begins anew now and then, somewhere before
//! where it was, as one that crashed does: that is another session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::fetch::response::{AbortedTransaction, PartitionData};
use protocol::messages::fetch::{self, Fetch};
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::records::{BatchError, EndTxnMarker, TransactionResult, batches, check_crc, records};

use super::line::{Line, value_of};
use super::{CALM_LIMIT, PARTITIONS, Site};
use crate::anomalies::Random;
use crate::anomalies::history::{Level, Operation, Part, Partition, Poll};

const RECORD_BYTES_MAX: usize = 1 << 20;
/// What a poll asks for of each partition at most, in bytes: small ones end in the middle of things.
const PARTITION_BYTES: [u64; 4] = [1 << 10, 8 << 10, 64 << 10, 1 << 20];
const POLL_BYTES: i32 = 1 << 20;
/// One poll in so many is a session's last.
const SESSION_POLLS: u64 = 300;
const WAIT_MS: i32 = 100;

/// Where a reader is, and how it reads.
pub(super) struct Session {
    pub(super) number: u32,
    pub(super) level: Level,
    pub(super) positions: BTreeMap<Partition, i64>,
}

impl Session {
    pub(super) fn new(site: &Site, level: Level, positions: BTreeMap<Partition, i64>) -> Session {
        Session { number: site.session(), level, positions }
    }

    /// All partitions from their start.
    fn from_start(site: &Site, level: Level) -> Session {
        Session::new(site, level, (0..PARTITIONS).map(|it| (it, 0)).collect())
    }

    /// `None`: no answer. An error says what nobody can go on with; the session must end.
    pub(super) fn poll(
        &mut self,
        site: &Site,
        line: &mut Line,
        partition_bytes: u64,
    ) -> Result<Option<Poll>> {
        let asked = |(partition, offset): (&Partition, &i64)| fetch::request::FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: i32::try_from(partition_bytes).unwrap_or(POLL_BYTES),
            ..Default::default()
        };
        let request = fetch::Request {
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: POLL_BYTES,
            isolation_level: i8::from(self.level == Level::Committed),
            topics: vec![fetch::request::FetchTopic {
                topic: site.topic.clone(),
                partitions: self.positions.iter().map(asked).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let called = site.now();
        let Some(answer) = line.ask::<Fetch>(12, &request) else { return Ok(None) };
        let answered = site.now();
        let mut parts = Vec::new();
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            match ErrorCode::from_code(partition.error_code) {
                Some(ErrorCode::None) => parts.push(self.take(partition)?),
                Some(ErrorCode::OffsetOutOfRange) => {
                    let PartitionData { partition_index, log_start_offset, .. } = partition;
                    let (at, high) =
                        (self.positions.get(&partition_index), partition.high_watermark);
                    bail!(
                        "partition {partition_index} has {log_start_offset} to {high}, and not {at:?}"
                    );
                }
                _ => {}
            }
        }
        Ok(Some(Poll { session: self.number, level: self.level, called, answered, parts }))
    }

    /// The values of one partition's answer, as a consumer hands them out.
    fn take(&mut self, answer: PartitionData) -> Result<Part> {
        let partition = answer.partition_index;
        let from = self.positions.get(&partition).copied().unwrap_or(0);
        let mut part =
            Part { partition, from, next: from, end: answer.high_watermark, reads: Vec::new() };
        let mut aborted = match self.level {
            Level::Committed => Aborted::new(answer.aborted_transactions.unwrap_or_default()),
            Level::Uncommitted => Aborted::default(),
        };
        let bytes: Vec<u8> =
            answer.records.iter().flat_map(|it| it.0.iter()).flatten().copied().collect();
        for batch in batches(Bytes::from(bytes)) {
            let (header, batch) = match batch {
                Ok(batch) => batch,
                // The last batch may be cut short by the limit.
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => bail!("partition {partition} from {from}: {error}"),
            };
            let place = format!("partition {partition} at {}", header.base_offset.0);
            if let Err(error) = check_crc(&batch) {
                bail!("{place}: {error}");
            }
            let next = header.end_offset().0;
            if next <= part.next {
                continue;
            }
            let marker = EndTxnMarker::read(&batch)?;
            let hidden = aborted.hides(header.producer_id, header.last_offset().0, marker);
            if header.attributes.is_control() || (hidden && header.attributes.is_transactional()) {
                part.next = next;
                continue;
            }
            for record in records(&batch, RECORD_BYTES_MAX)? {
                let record = record?;
                if record.offset.0 < part.next {
                    continue; // The batch began before what was asked for.
                }
                let Some(value) = record.value.as_ref().and_then(value_of) else {
                    bail!("{place}: a record at {} that nobody wrote", record.offset.0);
                };
                part.reads.push((record.offset.0, value));
            }
            part.next = next;
        }
        self.positions.insert(partition, part.next);
        Ok(part)
    }
}

/// Whose records are to be left out at the moment: Fetch tells where each aborted transaction starts, its marker where
/// it ends.
#[derive(Default)]
struct Aborted {
    /// In the order they start.
    ahead: VecDeque<AbortedTransaction>,
    producers: BTreeSet<i64>,
}

impl Aborted {
    fn new(mut rows: Vec<AbortedTransaction>) -> Aborted {
        rows.sort_by_key(|it| it.first_offset);
        Aborted { ahead: rows.into(), producers: BTreeSet::new() }
    }

    /// Whether the batch that ends at `last_offset` is left out, if it is transactional.
    fn hides(&mut self, producer: i64, last_offset: i64, marker: Option<EndTxnMarker>) -> bool {
        while let Some(row) = self.ahead.pop_front_if(|it| it.first_offset <= last_offset) {
            self.producers.insert(row.producer_id);
        }
        if marker.is_some_and(|it| it.result == TransactionResult::Abort) {
            self.producers.remove(&producer);
        }
        self.producers.contains(&producer)
    }
}

pub(super) struct Reader {
    site: Arc<Site>,
    line: Line,
    random: Random,
    session: Session,
    operations: Vec<Operation>,
}

impl Reader {
    pub(super) fn new(site: Arc<Site>, process: u32, level: Level) -> Reader {
        let (line, random) = (site.line(), site.random(process));
        let session = Session::from_start(&site, level);
        Reader { site, line, random, session, operations: Vec::new() }
    }

    pub(super) fn run(mut self) -> Vec<Operation> {
        while !self.site.is_over() {
            let bytes = self.random.one_of(&PARTITION_BYTES);
            match self.session.poll(&self.site, &mut self.line, bytes) {
                Ok(Some(poll)) => self.operations.push(Operation::Poll(poll)),
                Ok(None) => {}
                Err(error) => {
                    self.operations.push(Operation::Broken { what: format!("{error:#}") });
                    self.begin_anew();
                }
            }
            if self.random.below(SESSION_POLLS) == 0 {
                self.begin_anew();
            }
        }
        self.operations
    }

    fn begin_anew(&mut self) {
        self.line.drop_connection();
        let mut positions = self.session.positions.clone();
        for position in positions.values_mut() {
            let to = u64::try_from(*position).unwrap_or(0);
            *position = i64::try_from(self.random.below(to + 1)).unwrap_or(0);
        }
        self.session = Session::new(&self.site, self.session.level, positions);
    }
}

/// All partitions from their start to their end. An error if that takes too long: a reader would be stuck.
pub(super) fn everything(site: &Site, level: Level) -> Result<Poll> {
    let (mut line, mut session) = (site.line(), Session::from_start(site, level));
    let called = site.now();
    let mut parts: BTreeMap<Partition, Part> = BTreeMap::new();
    let started = Instant::now();
    while started.elapsed() < CALM_LIMIT {
        let ends = ends(site, &mut line);
        for part in session.poll(site, &mut line, 1 << 20)?.into_iter().flat_map(|it| it.parts) {
            let next = part.next;
            match parts.get_mut(&part.partition) {
                None => drop(parts.insert(part.partition, part)),
                Some(whole) => {
                    whole.reads.extend(part.reads);
                    (whole.next, whole.end) = (next, part.end);
                }
            }
        }
        // Both levels must come to the same end: no transaction is open any more.
        let is_whole = |ends: BTreeMap<Partition, i64>| {
            ends.iter().all(|(partition, end)| session.positions.get(partition) == Some(end))
        };
        if ends.is_some_and(is_whole) && parts.len() == session.positions.len() {
            let parts = parts.into_values().collect();
            return Ok(Poll {
                session: session.number,
                level,
                called,
                answered: site.now(),
                parts,
            });
        }
    }
    let (limit, positions) = (CALM_LIMIT.as_secs(), &session.positions);
    let ends = ends(site, &mut line);
    bail!("{level:?}: within {limit} s of calm read to {positions:?}, and the ends are {ends:?}")
}

/// The high watermarks.
fn ends(site: &Site, line: &mut Line) -> Option<BTreeMap<Partition, i64>> {
    let partition = |partition_index| list_offsets::request::ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..Default::default()
    };
    let request = list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::request::ListOffsetsTopic {
            name: site.topic.clone(),
            partitions: (0..PARTITIONS).map(partition).collect(),
        }],
        ..Default::default()
    };
    let answer = line.ask::<ListOffsets>(7, &request)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|it| (it.error_code == 0).then_some((it.partition_index, it.offset))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aborted_records_are_left_out_from_their_first_to_their_marker() {
        let marker = |result| Some(EndTxnMarker { result, coordinator_epoch: 0 });
        let row = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
        let mut aborted = Aborted::new(vec![row(2, 20), row(1, 10)]);
        assert!(!aborted.hides(1, 9, None));
        assert!(aborted.hides(1, 10, None));
        assert!(!aborted.hides(2, 12, None));
        // Another one's commit changes nothing; its own abort ends it.
        aborted.hides(3, 13, marker(TransactionResult::Commit));
        assert!(aborted.hides(1, 14, None));
        aborted.hides(1, 15, marker(TransactionResult::Abort));
        assert!(!aborted.hides(1, 16, None));
        assert!(aborted.hides(2, 21, None));
    }
}
