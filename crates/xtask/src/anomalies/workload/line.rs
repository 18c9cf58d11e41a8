//! One client's connection, made anew after it broke, and the requests our clients send.
//!
//! Owns: how requests look, what an answer means for a batch's fate, the bytes of a record's value.
//! Does not own: when to send what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocol::ErrorCode;
use protocol::messages::Api;
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::metadata::{self, Metadata};
use protocol::messages::produce::{self, Produce};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use super::{Site, TRY_AGAIN};
use crate::anomalies::Random;
use crate::anomalies::history::{Batch, Fate, Partition};
use crate::wire::Client;

const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// A client tries so long to learn the fate of what it sent.
pub(super) const KNOW_LIMIT: Duration = Duration::from_secs(20);
/// 2025-09-13; the records' own times mean nothing here.
const TIME: Timestamp = Timestamp(1_757_721_600_000);
const TIMEOUT_MS: i32 = 3_000;
/// Most values are small, one in this many fills a page.
const LARGE_VALUE_EVERY: u64 = 64;
const LARGE_VALUE_BYTES: u64 = 4_096;

pub(super) struct Line {
    address: SocketAddr,
    client: Option<Client>,
}

impl Line {
    pub(super) fn new(address: SocketAddr) -> Line {
        Line { address, client: None }
    }

    /// As if the client's machine had lost its power: what is under way goes on without it.
    pub(super) fn drop_connection(&mut self) {
        self.client = None;
    }

    /// `None`: no answer, whatever became of the request.
    pub(super) fn ask<A: Api>(
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

    pub(super) fn create_topic(&mut self, name: &str) -> bool {
        let topic = metadata::request::MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
        let answer = self.ask::<Metadata>(9, &request);
        answer.is_some_and(|it| it.topics.first().is_some_and(|topic| topic.error_code == 0))
    }

    /// Whether there is one for groups and one for transactions.
    pub(super) fn find_coordinators(&mut self, key: &str) -> bool {
        [0, 1].into_iter().all(|key_type| {
            let request =
                find_coordinator::Request { key: key.to_owned(), key_type, ..Default::default() };
            self.ask::<FindCoordinator>(2, &request).is_some_and(|it| it.error_code == 0)
        })
    }

    /// A producer id and its epoch. `id`: a transactional id, with the transaction's timeout in milliseconds.
    pub(super) fn identify(
        &mut self,
        id: Option<(&str, i32)>,
    ) -> Option<Result<(i64, i16), ErrorCode>> {
        let request = init_producer_id::Request {
            transactional_id: id.map(|(id, _)| id.to_owned()),
            transaction_timeout_ms: id.map_or(60_000, |(_, timeout_ms)| timeout_ms),
            ..Default::default()
        };
        let answer = self.ask::<InitProducerId>(4, &request)?;
        Some(match code(answer.error_code) {
            ErrorCode::None => Ok((answer.producer_id, answer.producer_epoch)),
            refused => Err(refused),
        })
    }
}

/// An unknown number is as good as [`ErrorCode::UnknownServerError`].
pub(super) fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap_or(ErrorCode::UnknownServerError)
}

/// Who sends, and how its batches are to be understood.
pub(super) struct Sender<'a> {
    /// Of Produce.
    pub(super) version: i16,
    pub(super) transactional_id: Option<&'a str>,
    pub(super) producer: (i64, i16),
    pub(super) sequences: &'a mut BTreeMap<Partition, i32>,
}

/// What became of a batch.
pub(super) struct Sent {
    pub(super) batch: Batch,
    /// The code that ended it, unless it was acknowledged or never answered.
    pub(super) refused_by: Option<ErrorCode>,
    /// Some try was not answered: it may still arrive.
    pub(super) is_shaken: bool,
}

impl Sender<'_> {
    /// Sends `values` and tries again until it knows, or may not hope to.
    pub(super) fn send(
        &mut self,
        site: &Site,
        line: &mut Line,
        partition: Partition,
        (first, count): (u64, u64),
        compression: Compression,
    ) -> Sent {
        let sequence = *self.sequences.entry(partition).or_insert(0);
        let request = self.request(site, partition, sequence, (first, count), compression);
        let (called, started) = (site.now(), Instant::now());
        let (mut is_shaken, mut in_doubt) = (false, false);
        let mut refused_by = None;
        let mut fate = Fate::Unknown;
        while started.elapsed() < KNOW_LIMIT {
            let Some(answer) = line.ask::<Produce>(self.version, &request) else {
                (is_shaken, in_doubt) = (true, true);
                continue;
            };
            let answer = &answer.responses[0].partition_responses[0];
            let code = code(answer.error_code);
            if code == ErrorCode::None {
                fate = Fate::Acknowledged(answer.base_offset);
                let count = i32::try_from(count).unwrap_or(0);
                self.sequences.insert(partition, sequence.wrapping_add(count));
                break;
            }
            in_doubt |= leaves_doubt(code);
            if !code.is_retriable() {
                refused_by = Some(code);
                // An earlier try may have gone through: then only a retry's success would tell.
                fate = if in_doubt { Fate::Unknown } else { Fate::Refused };
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
        let batch = Batch { partition, first, count, called, answered: site.now(), fate };
        Sent { batch, refused_by, is_shaken }
    }

    fn request(
        &self,
        site: &Site,
        partition: Partition,
        sequence: i32,
        (first, count): (u64, u64),
        compression: Compression,
    ) -> produce::Request {
        let (id, epoch) = self.producer;
        let mut batch = BatchBuilder::new(compression, Some((ProducerId(id), epoch, sequence)));
        if self.transactional_id.is_some() {
            batch = batch.transactional();
        }
        for value in first..first + count {
            batch.push(TIME, None, Some(&bytes_of(value)), &[]);
        }
        let records = BytesMut::from(&batch.build().freeze().1[..]);
        produce::Request {
            transactional_id: self.transactional_id.map(str::to_owned),
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![produce::request::TopicProduceData {
                name: site.topic.clone(),
                topic_id: TopicId::default(),
                partition_data: vec![produce::request::PartitionProduceData {
                    index: partition,
                    records: Some(records),
                }],
            }],
        }
    }
}

/// Whether the batch may be in the log although this was answered.
fn leaves_doubt(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownServerError
            | ErrorCode::RequestTimedOut
            | ErrorCode::NetworkException
            | ErrorCode::KafkaStorageError
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::DuplicateSequenceNumber
    )
}

pub(super) fn compression(random: &mut Random) -> Compression {
    match random.below(4) {
        0 => Compression::Lz4,
        1 => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The value and a filling that follows from it, so that a reader sees when bytes of two records were mixed.
fn bytes_of(value: u64) -> Vec<u8> {
    let mixed = Random(value).below(u64::MAX);
    let filling = match mixed % LARGE_VALUE_EVERY {
        0 => LARGE_VALUE_BYTES,
        _ => mixed % 200,
    };
    let mut bytes = value.to_be_bytes().to_vec();
    bytes.resize(bytes.len() + usize::try_from(filling).unwrap_or(0), (mixed >> 8) as u8);
    bytes
}

/// The value in a record. `None`: these are not bytes of ours.
pub(super) fn value_of(bytes: &Bytes) -> Option<u64> {
    let value = u64::from_be_bytes(*bytes.first_chunk::<8>()?);
    (bytes_of(value) == bytes[..]).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_foreign_bytes_do_not() {
        for value in [0, 1, 255, 70_000] {
            let bytes = Bytes::from(bytes_of(value));
            assert_eq!(value_of(&bytes), Some(value));
            let mut longer = bytes.to_vec();
            longer.push(1);
            assert_eq!(value_of(&Bytes::from(longer)), None);
        }
        assert_eq!(value_of(&Bytes::from_static(b"short")), None);
        let sizes = (0..1_000).map(|it| bytes_of(it).len());
        assert!(sizes.max() > Some(4_096));
    }
}
