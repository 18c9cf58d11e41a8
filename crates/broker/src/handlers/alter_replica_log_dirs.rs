//! AlterReplicaLogDirs (key 34): a broker has one log directory, where its partitions are already (KIP-113).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::alter_replica_log_dirs::request::AlterReplicaLogDirTopic;
use protocol::messages::alter_replica_log_dirs::response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use protocol::messages::alter_replica_log_dirs::{Request, Response};
use vocabulary::BrokerId;

use super::describe_log_dirs::log_dir;
use crate::broker::Broker;
use crate::context::RequestContext;

/// Where each partition is wanted; the last one named counts, as in Kafka.
type Wanted = BTreeMap<String, BTreeMap<i32, PathBuf>>;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::Alter) {
        return denied(request);
    }
    let log_dir = log_dir(broker);
    // Nothing is told of a topic none of whose partitions was named, as in Kafka.
    let wanted = wanted(request).into_iter().filter(|(_, wanted)| !wanted.is_empty());
    let results = wanted.map(|(name, wanted)| {
        let topic = broker.view.topic(&name);
        let row = |(index, path): (i32, PathBuf)| {
            let info = topic.as_ref().and_then(|it| it.partition(index));
            result(index, moved(&path, &log_dir, info.map(|it| it.leader), broker.id))
        };
        let partitions = wanted.into_iter().map(row).collect();
        AlterReplicaLogDirTopicResult { topic_name: name, partitions }
    });
    Response { results: results.collect(), ..Default::default() }
}

fn wanted(request: Request) -> Wanted {
    let mut wanted = Wanted::new();
    for dir in request.dirs {
        let path = PathBuf::from(dir.path);
        for AlterReplicaLogDirTopic { name, partitions } in dir.topics {
            let topic = wanted.entry(name).or_default();
            topic.extend(partitions.into_iter().map(|index| (index, path.clone())));
        }
    }
    wanted
}

/// The code for a partition that is wanted in `path`; `leader` is `None` if there is no such partition.
fn moved(path: &Path, log_dir: &Path, leader: Option<BrokerId>, here: BrokerId) -> ErrorCode {
    match leader {
        _ if path != log_dir => ErrorCode::LogDirNotFound,
        None => ErrorCode::UnknownTopicOrPartition,
        Some(leader) if leader != here => ErrorCode::ReplicaNotAvailable,
        Some(_) => ErrorCode::None,
    }
}

fn denied(request: Request) -> Response {
    let topics = request.dirs.into_iter().flat_map(|dir| dir.topics);
    let results = topics.map(|AlterReplicaLogDirTopic { name, partitions }| {
        let row = |index| result(index, ErrorCode::ClusterAuthorizationFailed);
        let partitions = partitions.into_iter().map(row).collect();
        AlterReplicaLogDirTopicResult { topic_name: name, partitions }
    });
    Response { results: results.collect(), ..Default::default() }
}

fn result(partition_index: i32, code: ErrorCode) -> AlterReplicaLogDirPartitionResult {
    AlterReplicaLogDirPartitionResult { partition_index, error_code: code.code() }
}

#[cfg(test)]
mod tests {
    use protocol::messages::alter_replica_log_dirs::request::AlterReplicaLogDir;

    use super::*;

    #[test]
    fn a_partition_can_only_be_where_it_is() {
        let (here, there) = (BrokerId(1), BrokerId(2));
        let code = |path: &str, leader| moved(Path::new(path), Path::new("/data"), leader, here);
        assert_eq!(code("/data", Some(here)), ErrorCode::None);
        assert_eq!(code("/data/", Some(here)), ErrorCode::None);
        assert_eq!(code("/data", Some(there)), ErrorCode::ReplicaNotAvailable);
        assert_eq!(code("/data", None), ErrorCode::UnknownTopicOrPartition);
        for other in ["/data/wal", "data", "", "/"] {
            assert_eq!(code(other, Some(here)), ErrorCode::LogDirNotFound, "{other}");
            assert_eq!(code(other, None), ErrorCode::LogDirNotFound, "{other}");
        }
    }

    #[test]
    fn the_last_directory_named_counts() {
        let dir = |path: &str, partitions: &[i32]| AlterReplicaLogDir {
            path: path.to_owned(),
            topics: vec![AlterReplicaLogDirTopic {
                name: "t".to_owned(),
                partitions: partitions.to_vec(),
            }],
        };
        let request = Request { dirs: vec![dir("/a", &[0, 1]), dir("/b", &[1, 1])] };
        let t = BTreeMap::from([(0, PathBuf::from("/a")), (1, PathBuf::from("/b"))]);
        assert_eq!(wanted(request), BTreeMap::from([("t".to_owned(), t)]));
    }
}
