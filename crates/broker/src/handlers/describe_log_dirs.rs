//! DescribeLogDirs (key 35): how large partitions are. Tools and consoles sum it up and divide it.
//!
//! There is one "log directory": the broker's data directory, with the room left on its volume. A
//! partition's size is what it holds in the bucket and in the tail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::AclOperation;
use environment::TaskKind;
use protocol::ErrorCode;
use protocol::messages::describe_log_dirs::response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::messages::describe_log_dirs::{Request, Response};
use vocabulary::Partition;

use crate::broker::Broker;
use crate::context::RequestContext;

/// "Not known", for sizes of a volume.
const UNKNOWN: i64 = -1;

/// Which partitions of which topics; `None` is all of all.
type Wanted = Option<BTreeMap<String, BTreeSet<i32>>>;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::Describe) {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        return Response { error_code, ..Default::default() };
    }
    let wanted: Wanted = request.topics.map(|topics| {
        let mut wanted: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for it in topics {
            wanted.entry(it.topic).or_default().extend(it.partitions);
        }
        wanted
    });
    let directory = log_dir(broker);
    let log_dir = directory.display().to_string();
    let look = move || volume(&directory);
    let volume = broker.environment.tasks.spawn_blocking(TaskKind::Background, "volume", look);
    let volume = volume.await.unwrap_or_default();
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir,
        topics: topics(broker, &wanted),
        total_bytes: volume.total_bytes,
        usable_bytes: volume.usable_bytes,
        ..Default::default()
    };
    Response { results: vec![result], ..Default::default() }
}

/// How the log directory is called, and found again by whoever names it: its absolute path, as in Kafka.
pub(crate) fn log_dir(broker: &Broker) -> PathBuf {
    let data_dir = &broker.config.data_dir;
    std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.clone())
}

fn topics(broker: &Broker, wanted: &Wanted) -> Vec<DescribeLogDirsTopic> {
    let mut rows = Vec::new();
    for topic in broker.view.topics() {
        let led = topic.partitions.iter().enumerate().filter(|(_, it)| it.leader == broker.id);
        let indexes = chosen(wanted, &topic.name, led.map(|(index, _)| index as i32));
        let partitions = indexes.into_iter().map(|index| DescribeLogDirsPartition {
            partition_index: index,
            partition_size: size(broker, Partition { topic: topic.id, index }),
            ..Default::default()
        });
        let partitions: Vec<_> = partitions.collect();
        if !partitions.is_empty() {
            let name = topic.name.clone();
            rows.push(DescribeLogDirsTopic { name, partitions });
        }
    }
    rows
}

fn chosen(wanted: &Wanted, topic: &str, led: impl Iterator<Item = i32>) -> Vec<i32> {
    let Some(wanted) = wanted else { return led.collect() };
    let Some(indexes) = wanted.get(topic) else { return Vec::new() };
    // Kafka's tools name the topic alone when they mean all of its partitions.
    led.filter(|index| indexes.is_empty() || indexes.contains(index)).collect()
}

fn size(broker: &Broker, partition: Partition) -> i64 {
    let bytes = match broker.engine.partition(partition) {
        Some(log) => log.size_bytes(),
        None => broker.view.progress(partition).map_or(0, |it| it.committed_bytes),
    };
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The volume of the data directory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Volume {
    total_bytes: i64,
    usable_bytes: i64,
}

impl Default for Volume {
    fn default() -> Volume {
        Volume { total_bytes: UNKNOWN, usable_bytes: UNKNOWN }
    }
}

fn volume(directory: &Path) -> Volume {
    let bytes =
        |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
    match rustix::fs::statvfs(directory) {
        Ok(found) => Volume {
            total_bytes: bytes(found.f_blocks, found.f_frsize),
            usable_bytes: bytes(found.f_bavail, found.f_frsize),
        },
        // Not an error of the request: the sizes of partitions are still right.
        Err(_) => Volume::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_chosen_by_topic_and_index() {
        let all = || [0, 1, 2].into_iter();
        assert_eq!(chosen(&None, "t", all()), [0, 1, 2]);
        let wanted = |indexes: &[i32]| {
            Some(BTreeMap::from([("t".to_owned(), indexes.iter().copied().collect())]))
        };
        assert_eq!(chosen(&wanted(&[2, 9]), "t", all()), [2]);
        assert_eq!(chosen(&wanted(&[]), "t", all()), [0, 1, 2]);
        assert_eq!(chosen(&wanted(&[0]), "other", all()), Vec::<i32>::new());
    }

    #[test]
    fn a_volume_has_room_and_an_absent_one_is_unknown() {
        let here = volume(Path::new("."));
        assert!(0 < here.total_bytes && here.usable_bytes <= here.total_bytes);
        assert_eq!(volume(Path::new("no such directory")), Volume::default());
    }
}
