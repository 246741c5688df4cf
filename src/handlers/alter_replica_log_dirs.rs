//! AlterReplicaLogDirs 1-2 (key 34, KIP-113): to move replicas of this node to other log directories of it.
//!
//! What is in the directory already is done. Left out: the move. It is refused with KAFKA_STORAGE_ERROR, as Kafka refuses
//! it while a directory is offline, and the log says why; the response has no room for words. A path that is none of
//! log.dirs is LOG_DIR_NOT_FOUND; a directory or a log that is offline is KAFKA_STORAGE_ERROR; a partition that there is
//! not is UNKNOWN_TOPIC_OR_PARTITION, one without a replica here REPLICA_NOT_AVAILABLE. A partition that is named for
//! several directories is meant for the last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::model::{DirectoryId, ErrorCode, PartitionId};
use crate::partition::ShardLogs;
use crate::protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use crate::protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName};

/// What each partition that is named is meant for.
type Wanted<'a> = BTreeMap<&'a TopicName, BTreeMap<i32, &'a str>>;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<AlterReplicaLogDirsRequest>()?;
    let wanted = wanted(&request);
    let node = if allowed(&context, Operation::Alter, Resource::Cluster) {
        let asked = broker.ids_of(&wanted);
        Ok(Node::new(broker.shard.describe_logs(Some(Arc::new(asked))).await))
    } else {
        Err(ErrorCode::ClusterAuthorizationFailed)
    };
    let mut first_error = ErrorCode::None;
    let results = wanted.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, path)| {
            let error = match &node {
                Ok(node) => broker.alter(node, topic, index, path),
                Err(refused) => *refused,
            };
            note(&mut first_error, error);
            AlterReplicaLogDirPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(error.code())
        });
        AlterReplicaLogDirTopicResult::default()
            .with_topic_name(topic.clone())
            .with_partitions(partitions.collect())
    });
    let results = results.collect();
    Ok(context.reply(AlterReplicaLogDirsResponse::default().with_results(results), first_error))
}

fn wanted(request: &AlterReplicaLogDirsRequest) -> Wanted<'_> {
    let mut wanted = Wanted::new();
    for directory in &request.dirs {
        for topic in &directory.topics {
            let of_topic = wanted.entry(&topic.name).or_default();
            of_topic.extend(topic.partitions.iter().map(|&index| (index, directory.path.as_str())));
        }
    }
    wanted
}

/// The log directories of this node, and where the logs are that were asked for.
struct Node {
    logs: ShardLogs,
    directory_of: HashMap<PartitionId, DirectoryId>,
}

impl Node {
    fn new(logs: ShardLogs) -> Node {
        let directory_of = logs.logs.iter().map(|log| (log.partition, log.directory)).collect();
        Node { logs, directory_of }
    }

    /// The log directory at this path, if it is online.
    fn directory(&self, path: &str) -> Result<DirectoryId, ErrorCode> {
        let is_at = |known: &Path| std::path::absolute(known).is_ok_and(|known| known == Path::new(path));
        match self.logs.directories.iter().find(|known| is_at(&known.path)) {
            None => Err(ErrorCode::LogDirNotFound),
            Some(known) if known.online => Ok(known.id),
            Some(_) => Err(ErrorCode::KafkaStorageError),
        }
    }
}

impl Broker {
    fn ids_of(&self, wanted: &Wanted<'_>) -> Vec<PartitionId> {
        let image = self.shard.image();
        let topics = wanted
            .iter()
            .filter_map(|(topic, partitions)| Some((image.topic_by_name(topic)?.id, partitions)));
        topics
            .flat_map(|(topic, partitions)| partitions.keys().map(move |&index| PartitionId { topic, index }))
            .collect()
    }

    fn alter(&self, node: &Node, topic: &TopicName, index: i32, path: &str) -> ErrorCode {
        let directory = match node.directory(path) {
            Ok(directory) => directory,
            Err(error) => return error,
        };
        let image = self.shard.image();
        let id = image.topic_by_name(topic).map(|topic| PartitionId { topic: topic.id, index });
        let Some((id, partition)) = id.and_then(|id| Some((id, image.partition(id)?))) else {
            return ErrorCode::UnknownTopicOrPartition;
        };
        if !partition.replicas.contains(&self.settings.broker) {
            return ErrorCode::ReplicaNotAvailable;
        }
        match node.directory_of.get(&id) {
            Some(&now) if now == directory => ErrorCode::None,
            Some(_) => {
                tracing::warn!(
                    topic = topic.as_str(),
                    partition = index,
                    directory = path,
                    "a replica cannot be moved to another log directory; it stays where it is"
                );
                ErrorCode::KafkaStorageError
            }
            // its log could not be opened
            None => ErrorCode::KafkaStorageError,
        }
    }
}
