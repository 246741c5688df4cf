//! Which shard of this node carries a partition: even within a topic, balanced over the shards in total.

use std::collections::HashMap;

use crate::model::{PartitionId, ShardId, TopicId};

/// Shards for `partitions` new partitions of one topic, in their order. `load[shard]` is how many partitions the
/// shard carries already, `topic_load[shard]` how many of this topic's. Each partition goes where the topic has
/// fewest, among those where there are fewest in all, among those to the lowest.
///
/// ```
/// # use corelane::{metadata::placement::place, model::ShardId};
/// // 3 partitions on 2 shards: shard 0 carries 4 others, shard 1 carries 1
/// assert_eq!(place(&[4, 1], &[0, 0], 3), [ShardId(1), ShardId(0), ShardId(1)]);
/// ```
///
/// # Panics
/// Panics if `load` is empty or the two differ in length.
#[must_use]
pub fn place(load: &[usize], topic_load: &[usize], partitions: usize) -> Vec<ShardId> {
    assert!(!load.is_empty() && load.len() == topic_load.len(), "one load per shard");
    let mut load = load.to_vec();
    let mut topic_load = topic_load.to_vec();
    (0..partitions)
        .map(|_| {
            let shard =
                (0..load.len()).min_by_key(|&shard| (topic_load[shard], load[shard])).expect("not empty");
            load[shard] += 1;
            topic_load[shard] += 1;
            ShardId(u16::try_from(shard).expect("shards are numbered in 16 bits"))
        })
        .collect()
}

/// A partition of this node and its shard after a restart with a number of shards that may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub partition: PartitionId,
    pub shard: ShardId,
    /// The metadata log says otherwise, or nothing: to be recorded with AssignReplicas.
    pub moved: bool,
}

/// Where each of this node's partitions goes at boot. Nothing is open yet, so moving costs no more than its record: a
/// partition stays where the metadata log has it if that shard exists and has no more than its even share, of the
/// topic and in total; the others are placed anew. Where nothing was deleted and the number of shards is the same,
/// nothing moves. The answer is in the order of `recorded`.
///
/// # Panics
/// Panics if `shards` is 0 or above what [`ShardId`] holds.
#[must_use]
pub fn place_all(shards: usize, recorded: &[(PartitionId, Option<ShardId>)]) -> Vec<Placed> {
    let share = recorded.len().div_ceil(shards);
    let mut load = vec![0; shards];
    let mut topics: HashMap<TopicId, TopicLoad> = HashMap::new();
    for (partition, _) in recorded {
        topics
            .entry(partition.topic)
            .or_insert_with(|| TopicLoad { total: 0, load: vec![0; shards] })
            .total += 1;
    }
    let mut placed = Vec::with_capacity(recorded.len());
    for &(partition, shard) in recorded {
        let topic = topics.get_mut(&partition.topic).expect("entered above");
        let topic_share = topic.total.div_ceil(shards);
        let stays = shard.filter(|shard| {
            let at = shard.index();
            at < shards && load[at] < share && topic.load[at] < topic_share
        });
        if let Some(shard) = stays {
            load[shard.index()] += 1;
            topic.load[shard.index()] += 1;
        }
        placed.push(stays);
    }
    let settle = |(&(partition, _), stays): (&(PartitionId, _), Option<ShardId>)| {
        let shard = stays.unwrap_or_else(|| {
            let topic = topics.get_mut(&partition.topic).expect("entered above");
            let shard = place(&load, &topic.load, 1)[0];
            load[shard.index()] += 1;
            topic.load[shard.index()] += 1;
            shard
        });
        Placed { partition, shard, moved: stays.is_none() }
    };
    recorded.iter().zip(placed).map(settle).collect()
}

struct TopicLoad {
    total: usize,
    load: Vec<usize>,
}
