//! The clients: producers that retry until they know, readers that go on where they were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use protocol::ErrorCode;
use protocol::messages::fetch::{self, Fetch};
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::messages::metadata::{self, Metadata};
use protocol::messages::produce::{self, Produce};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use super::Random;
use super::checker::{Fate, History, Partition, Read, Send};
use crate::wire::Client;

pub(crate) const PARTITIONS: i32 = 4;
const TOPIC: &str = "anomalies";
const PRODUCERS: u32 = 3;
const READERS: u32 = 2;
/// Values of one batch, at most.
const BATCH_MAX: u64 = 5;
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// A producer tries so long to learn a batch's fate, and then takes another id.
const KNOW_LIMIT: Duration = Duration::from_secs(20);
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Between batches: the log must stay small enough to be read whole at the end.
const BREATH: Duration = Duration::from_millis(4);
const READ_BYTES: i32 = 1 << 20;
const RECORD_BYTES_MAX: usize = 1 << 20;
/// At the end everything must be readable within this.
const CALM_LIMIT: Duration = Duration::from_secs(120);
/// 2025-09-13; the records' own times mean nothing here.
const TIME: Timestamp = Timestamp(1_757_721_600_000);

/// Clients at work until they are told to finish.
pub(crate) struct Work {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Vec<Send>>>,
    readers: Vec<JoinHandle<Result<Vec<Read>>>>,
}

impl Work {
    pub(crate) fn start(address: SocketAddr, seed: u64) -> Result<Work> {
        create_topic(address)?;
        let (done, values) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let producers = (0..PRODUCERS)
            .map(|number| {
                let (done, values) = (Arc::clone(&done), Arc::clone(&values));
                let random = Random(seed ^ u64::from(number + 1).rotate_left(32));
                let line = Line { address, client: None };
                let mut producer =
                    Producer { number, line, random, identity: None, sends: Vec::new() };
                std::thread::spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        producer.send(&values);
                        std::thread::sleep(BREATH);
                    }
                    producer.sends
                })
            })
            .collect();
        let readers = (0..READERS)
            .map(|_| {
                let done = Arc::clone(&done);
                std::thread::spawn(move || {
                    let mut reader = Reader::new(address);
                    while !done.load(Ordering::Relaxed) {
                        reader.poll()?;
                    }
                    Ok(reader.reads)
                })
            })
            .collect();
        Ok(Work { address, done, producers, readers })
    }

    /// Ends the clients, then reads everything there is.
    pub(crate) fn finish(self) -> Result<History> {
        self.done.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for producer in self.producers {
            history.sends.extend(producer.join().ok().context("a producer panicked")?);
        }
        for reader in self.readers {
            history.readers.push(reader.join().ok().context("a reader panicked")??);
        }
        history.readers.push(everything(self.address)?);
        Ok(history)
    }
}

fn create_topic(address: SocketAddr) -> Result<()> {
    let mut client = Client::connect(address, ANSWER_LIMIT)?;
    let topic = metadata::request::MetadataRequestTopic {
        name: Some(TOPIC.to_owned()),
        ..Default::default()
    };
    let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    let started = Instant::now();
    while started.elapsed() < CALM_LIMIT {
        let answer = client.call::<Metadata>(9, &request)?;
        if answer.topics.first().is_some_and(|topic| topic.error_code == 0) {
            return Ok(());
        }
        std::thread::sleep(TRY_AGAIN);
    }
    bail!("the topic does not come to be")
}

/// A connection that is made anew after it broke.
struct Line {
    address: SocketAddr,
    client: Option<Client>,
}

impl Line {
    /// `None`: no answer, whatever became of the request.
    fn ask<A: protocol::messages::Api>(
        &mut self,
        version: i16,
        request: &A::Request,
    ) -> Option<A::Response> {
        if self.client.is_none() {
            self.client = Client::connect(self.address, ANSWER_LIMIT).ok();
        }
        let answer = self.client.as_mut().and_then(|it| it.call::<A>(version, request).ok());
        if answer.is_none() {
            self.client = None;
            std::thread::sleep(TRY_AGAIN);
        }
        answer
    }
}

/// An id and epoch, and the next sequence of each partition.
struct Identity {
    id: i64,
    epoch: i16,
    sequences: BTreeMap<Partition, i32>,
}

struct Producer {
    number: u32,
    line: Line,
    random: Random,
    identity: Option<Identity>,
    sends: Vec<Send>,
}

impl Producer {
    /// Sends a batch and goes on when its fate is known, or cannot be.
    fn send(&mut self, values: &AtomicU64) {
        let Some(mut identity) = self.identity.take().or_else(|| self.identify()) else { return };
        let partition =
            i32::try_from(self.random.below(PARTITIONS.unsigned_abs().into())).unwrap_or(0);
        let count = 1 + self.random.below(BATCH_MAX);
        let first = values.fetch_add(count, Ordering::Relaxed);
        let sequence = *identity.sequences.entry(partition).or_insert(0);
        let fate = self.fate_of(&identity, partition, sequence, first..first + count);
        for value in first..first + count {
            let fate = match fate {
                Fate::Acknowledged(base) => {
                    Fate::Acknowledged(base + i64::try_from(value - first).unwrap_or(0))
                }
                other => other,
            };
            self.sends.push(Send { producer: self.number, partition, value, fate });
        }
        // After anything but success the sequence is in doubt: another identity begins at zero.
        if matches!(fate, Fate::Acknowledged(_)) {
            let after = sequence.wrapping_add(i32::try_from(count).unwrap_or(0));
            identity.sequences.insert(partition, after);
            self.identity = Some(identity);
        }
    }

    fn identify(&mut self) -> Option<Identity> {
        let request = init_producer_id::Request {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = self.line.ask::<InitProducerId>(4, &request)?;
        let identity = Identity {
            id: answer.producer_id,
            epoch: answer.producer_epoch,
            sequences: BTreeMap::new(),
        };
        (answer.error_code == 0).then_some(identity)
    }

    fn fate_of(
        &mut self,
        identity: &Identity,
        partition: Partition,
        sequence: i32,
        values: std::ops::Range<u64>,
    ) -> Fate {
        let producer = Some((ProducerId(identity.id), identity.epoch, sequence));
        let mut batch = BatchBuilder::new(Compression::None, producer);
        for value in values {
            batch.push(TIME, None, Some(&value.to_be_bytes()), &[]);
        }
        let bytes = batch.build().freeze().1;
        let request = produce::Request {
            transactional_id: None,
            acks: -1,
            timeout_ms: 3_000,
            topic_data: vec![produce::request::TopicProduceData {
                name: TOPIC.to_owned(),
                topic_id: TopicId::default(),
                partition_data: vec![produce::request::PartitionProduceData {
                    index: partition,
                    records: Some(BytesMut::from(&bytes[..])),
                }],
            }],
        };
        let (started, mut in_doubt) = (Instant::now(), false);
        while started.elapsed() < KNOW_LIMIT {
            let Some(answer) = self.line.ask::<Produce>(9, &request) else {
                in_doubt = true;
                continue;
            };
            let answer = &answer.responses[0].partition_responses[0];
            let code =
                ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
            match code {
                ErrorCode::None => return Fate::Acknowledged(answer.base_offset),
                // Refused, unless an earlier try went through: then only a retry's answer would tell.
                code if !code.is_retriable() && !in_doubt => return Fate::Refused,
                code if !code.is_retriable() => return Fate::Unknown,
                ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend => {
                    in_doubt = true
                }
                _ => {}
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Fate::Unknown
    }
}

struct Reader {
    line: Line,
    positions: BTreeMap<Partition, i64>,
    reads: Vec<Read>,
}

impl Reader {
    fn new(address: SocketAddr) -> Reader {
        let positions = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        Reader { line: Line { address, client: None }, positions, reads: Vec::new() }
    }

    /// Nothing is ever deleted here, so that no position may be out of range.
    fn poll(&mut self) -> Result<()> {
        let partition =
            |(&partition, &fetch_offset): (&Partition, &i64)| fetch::request::FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: READ_BYTES,
                ..Default::default()
            };
        let request = fetch::Request {
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: READ_BYTES,
            topics: vec![fetch::request::FetchTopic {
                topic: TOPIC.to_owned(),
                partitions: self.positions.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let Some(answer) = self.line.ask::<Fetch>(12, &request) else { return Ok(()) };
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let code = ErrorCode::from_code(partition.error_code);
            if code == Some(ErrorCode::OffsetOutOfRange) {
                bail!(
                    "partition {} is shorter than what was read of it",
                    partition.partition_index
                );
            }
            let Some(records) = &partition.records else { continue };
            let bytes: Vec<u8> = records.0.iter().flatten().copied().collect();
            self.take(partition.partition_index, Bytes::from(bytes))?;
        }
        Ok(())
    }

    fn take(&mut self, partition: Partition, bytes: Bytes) -> Result<()> {
        let position = self.positions.entry(partition).or_insert(0);
        // The last batch may be cut short by the limit.
        for (header, batch) in protocol::records::batches(bytes).map_while(std::result::Result::ok)
        {
            for record in protocol::records::records(&batch, RECORD_BYTES_MAX)? {
                let record = record?;
                if record.offset.0 < *position {
                    continue; // The batch began before what was asked for.
                }
                let value = record.value.context("a record without a value")?;
                let value = u64::from_be_bytes(value[..].try_into().context("a foreign value")?);
                self.reads.push(Read { partition, offset: record.offset.0, value });
            }
            *position = header.end_offset().0.max(*position);
        }
        Ok(())
    }
}

/// Reads all partitions from their start to their end, when nobody disturbs any more.
fn everything(address: SocketAddr) -> Result<Vec<Read>> {
    let mut reader = Reader::new(address);
    let partition = |partition_index| list_offsets::request::ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..Default::default()
    };
    let request = list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::request::ListOffsetsTopic {
            name: TOPIC.to_owned(),
            partitions: (0..PARTITIONS).map(partition).collect(),
        }],
        ..Default::default()
    };
    let started = Instant::now();
    while started.elapsed() < CALM_LIMIT {
        let ends = reader.line.ask::<ListOffsets>(7, &request);
        reader.poll()?;
        let Some(ends) = ends else { continue };
        let mut ends = ends.topics.iter().flat_map(|topic| &topic.partitions);
        let read = |end: &list_offsets::response::ListOffsetsPartitionResponse| {
            end.error_code == 0 && reader.positions.get(&end.partition_index) == Some(&end.offset)
        };
        if ends.all(read) {
            return Ok(reader.reads);
        }
    }
    bail!("not everything could be read within {} s of calm", CALM_LIMIT.as_secs())
}
