//! DescribeLogDirs 1-4 (key 35, KIP-113): this node's log directories and the logs in them, with their sizes.
//!
//! A null list of topics means all; what is not on this node is left out. A directory that had a write or flush error
//! is KAFKA_STORAGE_ERROR and tells nothing else. A size is the bytes of all segments, without what is reserved ahead.
//! v3+ has an error for the whole, v4+ (KIP-827) the file system's total and usable bytes. A log that
//! is on its way to another directory is told there, too: is_future_key is true, its size is what was copied, and its lag
//! how far that is behind the log's end.
//!
//! Clients ask every node and add the answers up: by a shard's own port it tells every directory, and that shard's logs alone.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::model::{DirectoryId, ErrorCode, PartitionId, TopicId};
use crate::partition::LogDescription;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use crate::reactor::{fs, turn};
use crate::storage::DirectoryState;

/// Each is some 50 ns of work; then the rest of the shard gets a turn.
const LOGS_IN_A_ROW: usize = 1000;

type Logs = HashMap<TopicId, Vec<DescribeLogDirsPartition>>;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeLogDirsRequest>()?;
    let mut response = DescribeLogDirsResponse::default();
    if !allowed(&context, Operation::Describe, Resource::Cluster) {
        let error = ErrorCode::ClusterAuthorizationFailed;
        if context.version() >= 3 {
            response.error_code = error.code();
        }
        return Ok(context.reply(response, error));
    }
    let asked = asked(&broker, &request);
    let mut found = match context.connection.entrance {
        None => broker.shard.describe_logs(asked).await,
        Some(shard) => broker.shard.describe_logs_of(shard, asked).await,
    };
    let mut by_directory = by_directory(found.logs).await;
    let mut first_error = ErrorCode::None;
    found.directories.sort_by(|a, b| a.path.cmp(&b.path));
    for directory in found.directories {
        let path = std::path::absolute(&directory.path).unwrap_or_else(|_| directory.path.clone());
        let result = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_string(path.to_string_lossy().into_owned()));
        let logs = by_directory.remove(&directory.id).unwrap_or_default();
        response.results.push(match space(&directory).await {
            Ok(space) => {
                let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
                result
                    .with_topics(broker.named(logs))
                    .with_total_bytes(bytes(space.total_bytes))
                    .with_usable_bytes(bytes(space.free_bytes))
            }
            Err(error) => {
                note(&mut first_error, error);
                result.with_error_code(error.code())
            }
        });
    }
    Ok(context.reply(response, first_error))
}

/// `None`: all.
fn asked(broker: &Broker, request: &DescribeLogDirsRequest) -> Option<Arc<Vec<PartitionId>>> {
    let topics = request.topics.as_ref()?;
    let image = broker.shard.image();
    let mut asked = Vec::new();
    for topic in topics {
        let Some(known) = image.topic_by_name(&topic.topic) else { continue };
        asked.extend(topic.partitions.iter().map(|&index| PartitionId { topic: known.id, index }));
    }
    asked.sort_unstable_by_key(|partition| (partition.topic.0, partition.index));
    asked.dedup();
    Some(Arc::new(asked))
}

async fn space(directory: &DirectoryState) -> Result<fs::Space, ErrorCode> {
    if !directory.online {
        return Err(ErrorCode::KafkaStorageError);
    }
    fs::space(&directory.path).await.map_err(|error| {
        tracing::warn!(directory = %directory.path.display(), %error, "the file system does not tell its space");
        ErrorCode::KafkaStorageError
    })
}

/// The rest of the shard gets a turn now and then.
async fn by_directory(logs: Vec<LogDescription>) -> HashMap<DirectoryId, Logs> {
    let mut directories: HashMap<DirectoryId, Logs> = HashMap::new();
    for (step, log) in (1..).zip(logs) {
        let lag = log.high_watermark.0.saturating_sub(log.end_offset.0).max(0);
        let mut tell = |directory, size_bytes, lag, is_future| {
            let topic = directories.entry(directory).or_default().entry(log.partition.topic).or_default();
            topic.push(
                DescribeLogDirsPartition::default()
                    .with_partition_index(log.partition.index)
                    .with_partition_size(i64::try_from(size_bytes).unwrap_or(i64::MAX))
                    .with_offset_lag(lag)
                    .with_is_future_key(is_future),
            );
        };
        tell(log.directory, log.size_bytes, lag, false);
        if let Some(future) = log.future {
            let lag = log.end_offset.0.saturating_sub(future.end_offset.0).max(0);
            tell(future.directory, future.size_bytes, lag, true);
        }
        if step % LOGS_IN_A_ROW == 0 {
            turn().await;
        }
    }
    directories
}

impl Broker {
    /// By name, the partitions in order; what was deleted meanwhile is left out.
    fn named(&self, logs: Logs) -> Vec<DescribeLogDirsTopic> {
        let image = self.shard.image();
        let named =
            logs.into_iter().filter_map(|(id, partitions)| Some((image.topic(id)?.name.clone(), partitions)));
        let named: BTreeMap<String, Vec<DescribeLogDirsPartition>> = named.collect();
        let topics = named.into_iter().map(|(name, mut partitions)| {
            partitions.sort_unstable_by_key(|partition| partition.partition_index);
            DescribeLogDirsTopic::default()
                .with_name(TopicName(StrBytes::from_string(name)))
                .with_partitions(partitions)
        });
        topics.collect()
    }
}
