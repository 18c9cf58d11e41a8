//! DescribeTopicPartitions (key 75): topics' partitions in pages (KIP-966).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use protocol::ErrorCode;
use protocol::messages::describe_topic_partitions::request::Cursor as RequestCursor;
use protocol::messages::describe_topic_partitions::response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use protocol::messages::describe_topic_partitions::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let asked: BTreeSet<String> = request.topics.into_iter().map(|it| it.name).collect();
    let topics: Vec<Asked> = if asked.is_empty() {
        let seen = broker.view.topics().into_iter();
        let seen = seen.filter(|it| context.sees_topic(AclOperation::Describe, &it.name));
        seen.map(Asked::known).collect()
    } else {
        let look_up = |name: String| match context.allows_topic(AclOperation::Describe, &name) {
            true => Asked::look_up(name, |it| broker.view.topic(it)),
            false => Asked { name, topic: Err(ErrorCode::TopicAuthorizationFailed) },
        };
        asked.into_iter().map(look_up).collect()
    };
    let limit = limit(request.response_partition_limit, broker.config.describe_partitions_max);
    let from = request.cursor.map(Place::from);
    let sizes: Vec<(&str, usize)> =
        topics.iter().map(|it| (it.name.as_str(), it.partition_count())).collect();
    let (slices, next) = page(&sizes, from.as_ref(), limit);
    let rows =
        slices.into_iter().map(|(index, partitions)| row(context, &topics[index], partitions));
    Response {
        topics: rows.collect(),
        next_cursor: next.map(|it| Cursor {
            topic_name: it.topic,
            partition_index: i32::try_from(it.partition).unwrap_or(i32::MAX),
        }),
        ..Default::default()
    }
}

/// A topic by name, or why there is none.
struct Asked {
    name: String,
    topic: Result<Arc<Topic>, ErrorCode>,
}

impl Asked {
    fn known(topic: Arc<Topic>) -> Asked {
        Asked { name: topic.name.clone(), topic: Ok(topic) }
    }

    fn look_up(name: String, find: impl Fn(&str) -> Option<Arc<Topic>>) -> Asked {
        let topic = find(&name).ok_or(match cluster::check_topic_name(&name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        });
        Asked { name, topic }
    }

    fn partition_count(&self) -> usize {
        self.topic.as_ref().map_or(0, |it| it.partitions.len())
    }
}

/// Where a page starts: the first partition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    topic: String,
    partition: usize,
}

impl From<RequestCursor> for Place {
    fn from(cursor: RequestCursor) -> Place {
        let partition = usize::try_from(cursor.partition_index).unwrap_or(0);
        Place { topic: cursor.topic_name, partition }
    }
}

/// The client's limit within ours, and at least one, or a client would never get on.
fn limit(asked: i32, max: i32) -> usize {
    usize::try_from(asked.min(max)).unwrap_or(0).max(1)
}

/// Which topics, by index, with which partitions are in this page, and where the next one starts.
/// `topics` are sorted by name and come with their number of partitions.
fn page(
    topics: &[(&str, usize)],
    from: Option<&Place>,
    limit: usize,
) -> (Vec<(usize, Range<usize>)>, Option<Place>) {
    let mut slices = Vec::new();
    let mut left = limit;
    for (index, (name, count)) in topics.iter().enumerate() {
        let start = match from {
            Some(place) if *name < place.topic.as_str() => continue,
            Some(place) if *name == place.topic => place.partition.min(*count),
            _ => 0,
        };
        let next = |partition| Some(Place { topic: (*name).to_owned(), partition });
        if left == 0 {
            return (slices, next(start));
        }
        let end = count.saturating_sub(start).min(left) + start;
        slices.push((index, start..end));
        left -= end - start;
        if end < *count {
            return (slices, next(end));
        }
    }
    (slices, None)
}

fn row(
    context: &RequestContext,
    asked: &Asked,
    partitions: Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let topic = match &asked.topic {
        Ok(topic) => topic,
        Err(code) => {
            return DescribeTopicPartitionsResponseTopic {
                error_code: code.code(),
                name: Some(asked.name.clone()),
                ..Default::default()
            };
        }
    };
    let partition = |index: usize| {
        let info = &topic.partitions[index];
        DescribeTopicPartitionsResponsePartition {
            partition_index: index as i32,
            leader_id: info.leader.0,
            leader_epoch: info.leader_epoch.0,
            replica_nodes: vec![info.leader.0],
            isr_nodes: vec![info.leader.0],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        }
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.map(partition).collect(),
        topic_authorized_operations: operations::of_topic(context, &topic.name),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: &[(&str, usize)] = &[("a", 2), ("b", 0), ("c", 3)];

    #[track_caller]
    fn check(
        from: Option<(&str, usize)>,
        limit: usize,
        expected: &[(usize, Range<usize>)],
        next: Option<(&str, usize)>,
    ) {
        let place =
            |(topic, partition): (&str, usize)| Place { topic: topic.to_owned(), partition };
        let found = page(TOPICS, from.map(place).as_ref(), limit);
        assert_eq!(found, (expected.to_vec(), next.map(place)));
    }

    #[test]
    fn everything_fits_or_the_next_page_is_told() {
        check(None, 9, &[(0, 0..2), (1, 0..0), (2, 0..3)], None);
        check(None, 5, &[(0, 0..2), (1, 0..0), (2, 0..3)], None);
        check(None, 4, &[(0, 0..2), (1, 0..0), (2, 0..2)], Some(("c", 2)));
        check(None, 2, &[(0, 0..2)], Some(("b", 0)));
        check(None, 1, &[(0, 0..1)], Some(("a", 1)));
    }

    #[test]
    fn a_page_starts_at_the_cursor() {
        check(Some(("a", 1)), 9, &[(0, 1..2), (1, 0..0), (2, 0..3)], None);
        check(Some(("b", 0)), 1, &[(1, 0..0), (2, 0..1)], Some(("c", 1)));
        // The topic was deleted meanwhile, or has fewer partitions than the cursor says.
        check(Some(("bb", 7)), 9, &[(2, 0..3)], None);
        check(Some(("a", 9)), 9, &[(0, 2..2), (1, 0..0), (2, 0..3)], None);
        check(Some(("z", 0)), 9, &[], None);
    }

    #[test]
    fn pages_together_are_everything() {
        for limit in 1..7 {
            let (mut from, mut seen) = (None, Vec::new());
            loop {
                let (slices, next) = page(TOPICS, from.as_ref(), limit);
                seen.extend(
                    slices.into_iter().flat_map(|(topic, range)| range.map(move |it| (topic, it))),
                );
                match next {
                    Some(_) => from = next,
                    None => break,
                }
            }
            assert_eq!(seen, [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)], "limit {limit}");
        }
    }

    #[test]
    fn a_limit_is_never_zero() {
        assert_eq!(limit(0, 2000), 1);
        assert_eq!(limit(-1, 2000), 1);
        assert_eq!(limit(5000, 2000), 2000);
        assert_eq!(limit(7, 2000), 7);
    }
}
