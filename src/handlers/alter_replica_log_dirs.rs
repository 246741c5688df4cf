//! AlterReplicaLogDirs 1-2 (key 34, KIP-113): to move replicas of this node to other log directories of it.
//!
//! Answered when the wish is noted durably; the move goes on in the background (`storage/relocate`), and DescribeLogDirs
//! tells how far it is. What is in the directory already is done; if it was on its way to another one, it stays. What is on
//! its way to another one than this is sent here instead. A path that is none of log.dirs is LOG_DIR_NOT_FOUND; a directory
//! or a log that is offline, or without room for the folder, is KAFKA_STORAGE_ERROR; a partition that there is not is
//! UNKNOWN_TOPIC_OR_PARTITION, one without a replica here REPLICA_NOT_AVAILABLE. A partition that is named for several
//! directories is meant for the last.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::model::{DirectoryId, ErrorCode, PartitionId};
use crate::partition::{RelocatePartition, ShardLogs};
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
    let judge = |topic: &TopicName, index: i32, path: &str| match &node {
        Ok(node) => broker.judge(node, topic, index, path),
        Err(refused) => Err(*refused),
    };
    let judged: Vec<(&TopicName, i32, Result<RelocatePartition, ErrorCode>)> = (wanted.iter())
        .flat_map(|(topic, partitions)| partitions.iter().map(move |(&index, &path)| (*topic, index, path)))
        .map(|(topic, index, path)| (topic, index, judge(topic, index, path)))
        .collect();
    let moves = judged.iter().filter_map(|(_, _, judged)| judged.ok()).collect();
    let mut outcomes = broker.shard.relocate(moves).await.into_iter();
    let mut first_error = ErrorCode::None;
    let mut results = Vec::<AlterReplicaLogDirTopicResult>::with_capacity(wanted.len());
    for (topic, index, judged) in judged {
        let error = match judged {
            Ok(_) => outcomes.next().expect("one outcome for each that was asked for"),
            Err(error) => error,
        };
        note(&mut first_error, error);
        if results.last().is_none_or(|last| last.topic_name != *topic) {
            results.push(AlterReplicaLogDirTopicResult::default().with_topic_name(topic.clone()));
        }
        let result = AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(index)
            .with_error_code(error.code());
        results.last_mut().expect("one was pushed").partitions.push(result);
    }
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

/// The log directories of this node, and which of the logs that were asked for are open.
struct Node {
    logs: ShardLogs,
    open: HashSet<PartitionId>,
}

impl Node {
    fn new(logs: ShardLogs) -> Node {
        let open = logs.logs.iter().map(|log| log.partition).collect();
        Node { logs, open }
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

    /// What to ask of the partition's shard.
    fn judge(
        &self,
        node: &Node,
        topic: &TopicName,
        index: i32,
        path: &str,
    ) -> Result<RelocatePartition, ErrorCode> {
        let directory = node.directory(path)?;
        let image = self.shard.image();
        let id = image.topic_by_name(topic).map(|topic| PartitionId { topic: topic.id, index });
        let Some((partition, state)) = id.and_then(|id| Some((id, image.partition(id)?))) else {
            return Err(ErrorCode::UnknownTopicOrPartition);
        };
        if !state.replicas.contains(&self.settings.broker) {
            return Err(ErrorCode::ReplicaNotAvailable);
        }
        match node.open.contains(&partition) {
            true => Ok(RelocatePartition { partition, directory }),
            // its log could not be opened
            false => Err(ErrorCode::KafkaStorageError),
        }
    }
}
