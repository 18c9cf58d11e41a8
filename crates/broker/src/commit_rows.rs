//! The rows of an offset commit, within a transaction or not: from the request to the coordinator, and from its answer
//! back to one row for every partition asked for.
//!
//! Owns: which of them exist, their order. Does not own: the wire's fields (the handlers), the commit (`coordinator`).

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use coordinator::{CommitReply, OffsetToCommit};
use protocol::ErrorCode;
use vocabulary::{Offset, TopicId};

use crate::broker::Broker;
use crate::context::RequestContext;

/// What is to be committed of one partition, in the wire's numbers.
#[derive(Debug)]
pub(crate) struct AskedOffset {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<String>,
}

/// A topic as the request names it, with an answer for each of its partitions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AnsweredTopic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) codes: Vec<(i32, ErrorCode)>,
}

#[derive(Debug, Default)]
pub(crate) struct CommitRows {
    topics: Vec<AnsweredTopic>,
    /// Of the partitions that exist, in order.
    offsets: Vec<OffsetToCommit>,
}

impl CommitRows {
    /// The next topic of the request; later versions name it by its id.
    pub(crate) fn add(
        &mut self,
        (broker, context): (&Broker, &RequestContext),
        (name, id): (String, TopicId),
        by_id: bool,
        asked: impl Iterator<Item = AskedOffset>,
    ) {
        let found = if by_id {
            broker.view.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)
        } else {
            broker.view.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        let named = match &found {
            Ok(topic) => Some(topic.name.as_str()),
            Err(_) if by_id => None,
            Err(_) => Some(name.as_str()),
        };
        let is_denied = named.is_some_and(|it| !context.allows_topic(AclOperation::Read, it));
        let found = if is_denied { Err(ErrorCode::TopicAuthorizationFailed) } else { found };
        self.add_found((name, id), &found, asked);
    }

    fn add_found(
        &mut self,
        (name, id): (String, TopicId),
        found: &Result<Arc<Topic>, ErrorCode>,
        asked: impl Iterator<Item = AskedOffset>,
    ) {
        let mut codes = Vec::new();
        for AskedOffset { partition, offset, leader_epoch, metadata } in asked {
            let code = match found {
                Err(code) => *code,
                Ok(topic) if topic.partition(partition).is_none() => {
                    ErrorCode::UnknownTopicOrPartition
                }
                Ok(topic) => {
                    let (topic_id, offset) = (topic.id, Offset(offset));
                    let topic = topic.name.clone();
                    self.offsets.push(OffsetToCommit {
                        topic,
                        topic_id,
                        partition,
                        offset,
                        leader_epoch,
                        metadata,
                    });
                    ErrorCode::None
                }
            };
            codes.push((partition, code));
        }
        self.topics.push(AnsweredTopic { name, id, codes });
    }

    /// What the coordinator is to be asked; it answers for these, in this order.
    pub(crate) fn take_offsets(&mut self) -> Vec<OffsetToCommit> {
        std::mem::take(&mut self.offsets)
    }

    /// The same code for every partition, whatever else is wrong with it.
    pub(crate) fn refused(self, code: ErrorCode) -> Vec<AnsweredTopic> {
        let mut topics = self.topics;
        topics.iter_mut().flat_map(|it| &mut it.codes).for_each(|(_, it)| *it = code);
        topics
    }

    /// One code for every partition asked for.
    pub(crate) fn answered(self, outcome: Result<CommitReply, ErrorCode>) -> Vec<AnsweredTopic> {
        let (mut each, for_all) = match outcome {
            Ok(CommitReply::Each(codes)) => (VecDeque::from(codes), ErrorCode::UnknownServerError),
            Ok(CommitReply::Refused(code)) | Err(code) => (VecDeque::new(), code),
        };
        let mut topics = self.topics;
        let rows = topics.iter_mut().flat_map(|it| &mut it.codes);
        for (_, code) in rows.filter(|(_, code)| *code == ErrorCode::None) {
            *code = each.pop_front().unwrap_or(for_all);
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster::PartitionInfo;
    use vocabulary::{BrokerId, LeaderEpoch};

    use super::*;

    const KNOWN: TopicId = TopicId([7; 16]);

    fn rows() -> CommitRows {
        let led = PartitionInfo { leader: BrokerId(1), leader_epoch: LeaderEpoch(0) };
        let topic = Arc::new(Topic {
            id: KNOWN,
            name: "t".to_owned(),
            is_internal: false,
            partitions: vec![led; 2],
            configs: BTreeMap::new(),
        });
        let asked = |partition| AskedOffset {
            partition,
            offset: 10 + i64::from(partition),
            leader_epoch: -1,
            metadata: None,
        };
        let mut rows = CommitRows::default();
        let unknown = Err(ErrorCode::UnknownTopicId);
        rows.add_found((String::new(), TopicId([9; 16])), &unknown, [0, 1].map(asked).into_iter());
        let asked = [1, 2, -1, 0].map(asked).into_iter();
        rows.add_found((String::new(), KNOWN), &Ok(topic), asked);
        rows
    }

    #[track_caller]
    fn check(outcome: Result<CommitReply, ErrorCode>, codes: [ErrorCode; 2]) {
        let mut rows = rows();
        let sent: Vec<_> =
            rows.take_offsets().into_iter().map(|it| (it.topic, it.offset)).collect();
        assert_eq!(sent, [("t".to_owned(), Offset(11)), ("t".to_owned(), Offset(10))]);
        let answered = rows.answered(outcome);
        let unknown = ErrorCode::UnknownTopicId;
        assert_eq!(answered[0].codes, [(0, unknown), (1, unknown)]);
        let absent = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(answered[1].codes, [(1, codes[0]), (2, absent), (-1, absent), (0, codes[1])]);
    }

    #[test]
    fn every_partition_has_its_row_whatever_the_coordinator_says() {
        let (none, stale) = (ErrorCode::None, ErrorCode::StaleMemberEpoch);
        let large = ErrorCode::OffsetMetadataTooLarge;
        check(Ok(CommitReply::Each(vec![none; 2])), [none, none]);
        let one = CommitReply::Each(vec![large, none]);
        check(Ok(one), [large, none]);
        check(Ok(CommitReply::Refused(stale)), [stale; 2]);
        check(Err(ErrorCode::NotCoordinator), [ErrorCode::NotCoordinator; 2]);
        check(Ok(CommitReply::Each(Vec::new())), [ErrorCode::UnknownServerError; 2]);
    }
}
