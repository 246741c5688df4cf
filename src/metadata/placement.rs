//! Which shard of this node carries a partition: even within a topic, balanced over the shards in total.

use crate::model::ShardId;

/// Shards for `partitions` new partitions of one topic, in their order. `load[shard]` is how many partitions the
/// shard carries already, `topic_load[shard]` how many of this topic's.
///
/// # Panics
/// Panics if `load` is empty or the two differ in length.
#[must_use]
pub fn place(load: &[usize], topic_load: &[usize], partitions: usize) -> Vec<ShardId> {
    let _ = (load, topic_load, partitions);
    unimplemented!()
}
