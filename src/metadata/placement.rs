//! Which shard of this node carries a partition: even within a topic, then where there is least to do.

use std::collections::HashMap;

use crate::model::{PartitionId, ShardId, TopicId};

/// Shards for `partitions` new partitions of one topic, in their order. `load[shard]` is what the shard has to do
/// already, in any unit, `topic_load[shard]` how many of this topic's partitions it carries. Each partition goes where the
/// topic has fewest, among those where there is least to do, among those to the lowest; it counts as `expected` from then
/// on.
///
/// ```
/// # use corelane::{metadata::placement::place, model::ShardId};
/// // 3 partitions on 2 shards: shard 0 has four times as much to do
/// assert_eq!(place(&[4, 1], &[0, 0], 3, 1), [ShardId(1), ShardId(0), ShardId(1)]);
/// ```
///
/// # Panics
/// Panics if `load` is empty or the two differ in length.
#[must_use]
pub fn place(load: &[u64], topic_load: &[usize], partitions: usize, expected: u64) -> Vec<ShardId> {
    assert!(!load.is_empty() && load.len() == topic_load.len(), "one load per shard");
    let mut load = load.to_vec();
    let mut topic_load = topic_load.to_vec();
    (0..partitions)
        .map(|_| {
            let shard =
                (0..load.len()).min_by_key(|&shard| (topic_load[shard], load[shard])).expect("not empty");
            load[shard] = load[shard].saturating_add(expected);
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
/// partition stays where the metadata log has it as long as that is compatible with an even spread, and is placed
/// anew if it is not, or if the shard does not exist (any more). Where the partitions are spread evenly already,
/// nothing moves. The answer is in the order of `recorded`.
///
/// # Panics
/// Panics if `shards` is 0 or above what [`ShardId`] holds.
#[must_use]
pub fn place_all(shards: usize, recorded: &[(PartitionId, Option<ShardId>)]) -> Vec<Placed> {
    let mut topics: HashMap<TopicId, TopicSpread> = HashMap::new();
    for (partition, _) in recorded {
        let fresh = || TopicSpread { total: 0, over: 0, load: vec![0; shards] };
        topics.entry(partition.topic).or_insert_with(fresh).total += 1;
    }
    for topic in topics.values_mut() {
        topic.over = topic.total % shards;
    }
    let placed = spread(shards, recorded, topics.clone(), Keep::All);
    let mut load = vec![0; shards];
    for placed in &placed {
        load[placed.shard.index()] += 1;
    }
    let even = load.iter().max().zip(load.iter().min()).is_none_or(|(max, min)| max - min <= 1);
    if even { placed } else { spread(shards, recorded, topics, Keep::Base) }
}

/// Every shard carries the same number of each topic, its base; what is left over of the topics goes round the shards.
#[derive(Clone)]
struct TopicSpread {
    total: usize,
    /// How many partitions beyond the base have no place yet.
    over: usize,
    load: Vec<usize>,
}

/// What stays where it is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All that keeps every topic even; the shards may differ in total.
    All,
    /// The base of each topic; the rest goes where there is least.
    Base,
}

fn spread(
    shards: usize,
    recorded: &[(PartitionId, Option<ShardId>)],
    mut topics: HashMap<TopicId, TopicSpread>,
    keep: Keep,
) -> Vec<Placed> {
    let mut extra = vec![0_u64; shards];
    let mut placed = vec![None; recorded.len()];
    for beyond_base in [false, keep == Keep::All] {
        for (&(partition, shard), placed) in recorded.iter().zip(&mut placed) {
            let Some(shard) = shard.filter(|shard| shard.index() < shards && placed.is_none()) else {
                continue;
            };
            let topic = topics.get_mut(&partition.topic).expect("has an entry");
            let (at, base) = (shard.index(), topic.total / shards);
            let stays = topic.load[at] < base || beyond_base && topic.load[at] == base && topic.over > 0;
            if stays {
                topic.settle(at, base, &mut extra);
                *placed = Some(shard);
            }
        }
    }
    let settle = |(&(partition, _), stays): (&(PartitionId, _), Option<ShardId>)| {
        let shard = stays.unwrap_or_else(|| {
            let topic = topics.get_mut(&partition.topic).expect("has an entry");
            let shard = place(&extra, &topic.load, 1, 1)[0];
            topic.settle(shard.index(), topic.total / shards, &mut extra);
            shard
        });
        Placed { partition, shard, moved: stays.is_none() }
    };
    recorded.iter().zip(placed).map(settle).collect()
}

impl TopicSpread {
    fn settle(&mut self, at: usize, base: usize, extra: &mut [u64]) {
        if self.load[at] == base {
            extra[at] += 1;
            self.over -= 1;
        }
        self.load[at] += 1;
    }
}
