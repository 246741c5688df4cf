//! Which log directory and which shard a new replica of this node goes to.

use std::collections::HashMap;

use crate::metadata::{Image, placement};
use crate::model::{BrokerId, DirectoryId, PartitionId, ShardId, TopicId};
use crate::storage::LogDir;

/// How many replicas every shard and directory of this node carries.
pub(super) struct Load {
    broker: BrokerId,
    shards: Vec<usize>,
    topics: HashMap<TopicId, Vec<usize>>,
    directories: Vec<(DirectoryId, usize)>,
}

impl Load {
    pub(super) fn new(image: &Image, broker: BrokerId, shard_count: usize, log_dirs: &[LogDir]) -> Load {
        let mut load = Load {
            broker,
            shards: vec![0; shard_count],
            topics: HashMap::new(),
            directories: log_dirs.iter().map(|directory| (directory.id, 0)).collect(),
        };
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let id =
                    PartitionId { topic: topic.id, index: i32::try_from(index).expect("a partition index") };
                if let Some(shard) = load.usable(partition.shard_of(load.broker)) {
                    load.add_shard(id.topic, shard);
                }
                let directory = partition.directory_of(load.broker);
                load.add_directory(directory.unwrap_or(DirectoryId::UNASSIGNED));
            }
        }
        load
    }

    /// A recorded shard this node still has; it may have been started with fewer.
    pub(super) fn usable(&self, shard: Option<ShardId>) -> Option<ShardId> {
        shard.filter(|shard| shard.index() < self.shards.len())
    }

    /// Shards for `count` new replicas of a topic, even within the topic and over the node.
    pub(super) fn place(&mut self, topic: TopicId, count: usize) -> Vec<ShardId> {
        let none = vec![0; self.shards.len()];
        let topic_load = self.topics.get(&topic).unwrap_or(&none);
        let placed = placement::place(&self.shards, topic_load, count);
        for &shard in &placed {
            self.add_shard(topic, shard);
        }
        placed
    }

    /// The directory with the fewest replicas.
    pub(super) fn directory(&mut self) -> DirectoryId {
        let least = self.directories.iter().min_by_key(|(_, count)| *count);
        let (id, _) = *least.expect("a node has a log directory");
        self.add_directory(id);
        id
    }

    fn add_shard(&mut self, topic: TopicId, shard: ShardId) {
        self.shards[shard.index()] += 1;
        let shards = self.shards.len();
        self.topics.entry(topic).or_insert_with(|| vec![0; shards])[shard.index()] += 1;
    }

    fn add_directory(&mut self, id: DirectoryId) {
        if let Some((_, count)) = self.directories.iter_mut().find(|(known, _)| *known == id) {
            *count += 1;
        }
    }
}
