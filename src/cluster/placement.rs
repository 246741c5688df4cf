//! Which log directory and which shard a new replica of this node goes to.

use std::collections::HashMap;

use crate::metadata::{Image, placement};
use crate::model::{BrokerId, DirectoryId, PartitionId, ShardId, TopicId};
use crate::partition::Work;
use crate::storage::LogDir;

/// What a partition that does nothing counts as, in bytes: idle ones are balanced by their number.
const IDLE_BYTES: u64 = 4096;

/// What every shard of this node has to do, and how many replicas every shard and directory carries.
pub(super) struct Load {
    broker: BrokerId,
    /// By shard, in bytes: what it had to do of late, what is expected of new replicas, and a little for each.
    shards: Vec<u64>,
    /// What is expected of a new replica beside that little: as much as the others have done, on average, but of all new
    /// ones together no more than of all the others. (Work of deleted topics takes minutes to fade.)
    expected: u64,
    topics: HashMap<TopicId, Vec<usize>>,
    directories: Vec<(DirectoryId, usize)>,
}

impl Load {
    /// `work`: by shard. `new`: how many replicas are to be placed.
    pub(super) fn new(
        image: &Image,
        broker: BrokerId,
        work: &[Work],
        new: usize,
        log_dirs: &[LogDir],
    ) -> Load {
        let mut load = Load {
            broker,
            shards: work.iter().map(|work| work.done.saturating_add(work.expected)).collect(),
            expected: 0,
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
        let replicas: usize = load.topics.values().flatten().sum();
        let done = work.iter().fold(0_u64, |sum, work| sum.saturating_add(work.done));
        load.expected = done / (replicas.max(new) as u64).max(1);
        load
    }

    /// A recorded shard this node still has; it may have been started with fewer.
    pub(super) fn usable(&self, shard: Option<ShardId>) -> Option<ShardId> {
        shard.filter(|shard| shard.index() < self.shards.len())
    }

    /// What is expected of a new replica, in bytes.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// Shards for `count` new replicas of a topic, even within the topic, then where there is least to do.
    pub(super) fn place(&mut self, topic: TopicId, count: usize) -> Vec<ShardId> {
        let none = vec![0; self.shards.len()];
        let topic_load = self.topics.get(&topic).unwrap_or(&none);
        let placed = placement::place(&self.shards, topic_load, count, self.expected + IDLE_BYTES);
        for &shard in &placed {
            self.add_shard(topic, shard);
            self.add_load(shard, self.expected);
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
        self.add_load(shard, IDLE_BYTES);
        let shards = self.shards.len();
        self.topics.entry(topic).or_insert_with(|| vec![0; shards])[shard.index()] += 1;
    }

    fn add_load(&mut self, shard: ShardId, bytes: u64) {
        let load = &mut self.shards[shard.index()];
        *load = load.saturating_add(bytes);
    }

    fn add_directory(&mut self, id: DirectoryId) {
        if let Some((_, count)) = self.directories.iter_mut().find(|(known, _)| *known == id) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TopicDefaults;

    fn load(work: &[Work], new: usize) -> Load {
        let image = Image::new("cluster", TopicDefaults::default());
        Load::new(&image, BrokerId(1), work, new, &[])
    }

    /// Topics that come and go by the thousand leave work behind them that nobody does any more.
    #[test]
    fn what_is_expected_does_not_feed_on_itself() {
        let mut work = [Work { done: 1 << 40, expected: 0 }, Work::default()];
        for round in 0..1_000 {
            let mut load = load(&work, 10_000);
            assert!(load.expected() <= (1 << 40) / 10_000, "round {round}: {}", load.expected());
            for shard in load.place(TopicId(1000), 10_000) {
                work[shard.index()].expected += load.expected();
            }
        }
        let most = Work { done: u64::MAX, expected: u64::MAX };
        assert_eq!(load(&[most; 2], 3).place(TopicId(1000), 3).len(), 3);
    }
}
