use super::*;
use crate::metadata::placement::{Placed, place, place_all};

fn shards(placed: &[ShardId]) -> Vec<u16> {
    placed.iter().map(|shard| shard.0).collect()
}

#[test]
fn places_evenly_per_topic_then_in_total() {
    for (load, topic_load, partitions, expected) in [
        (vec![0], vec![0], 3, vec![0, 0, 0]),
        (vec![0, 0], vec![0, 0], 3, vec![0, 1, 0]),
        (vec![1, 0], vec![0, 0], 3, vec![1, 0, 1]),
        // the topic goes first: its second partition does not join the first on the emptier shard
        (vec![9, 0], vec![0, 0], 2, vec![1, 0]),
        (vec![9, 0], vec![0, 3], 2, vec![0, 0]),
        (vec![2, 1, 0], vec![0, 0, 0], 1, vec![2]),
        (vec![5, 5], vec![0, 0], 0, vec![]),
    ] {
        assert_eq!(
            shards(&place(&load, &topic_load, partitions, 1)),
            expected,
            "{load:?} {topic_load:?} {partitions}"
        );
    }
}

#[test]
fn a_busy_shard_is_given_less() {
    // three times as much to do as is expected of each: three topics of one partition go elsewhere first
    let (mut load, mut placed) = (vec![30, 0], Vec::new());
    for _ in 0..6 {
        let shard = place(&load, &[0, 0], 1, 10)[0];
        load[shard.index()] += 10;
        placed.push(shard.0);
    }
    assert_eq!(placed, [1, 1, 1, 0, 1, 0]);
    // but a topic is spread evenly whatever the load
    assert_eq!(shards(&place(&[1_000, 0], &[0, 0], 4, 1)), [1, 0, 1, 0]);
}

fn random_topics(random: &mut Random) -> Vec<usize> {
    (0..1 + random.below(20)).map(|_| 1 + random.below(12)).collect()
}

/// Places topics one after another, as they are created.
fn create_all(topics: &[usize], shard_count: usize) -> Vec<(PartitionId, Option<ShardId>)> {
    let mut load = vec![0; shard_count];
    let mut recorded = Vec::new();
    for (topic, &partitions) in topics.iter().enumerate() {
        for (index, shard) in place(&load, &vec![0; shard_count], partitions, 1).into_iter().enumerate() {
            load[shard.index()] += 1;
            recorded.push((partition(topic, index), Some(shard)));
        }
    }
    recorded
}

fn partition(topic: usize, index: usize) -> PartitionId {
    PartitionId { topic: TopicId(1000 + topic as u128), index: i32::try_from(index).unwrap() }
}

/// No shard has two more than another: of any topic, and of all partitions.
fn assert_even(placed: impl Iterator<Item = (PartitionId, ShardId)>, shard_count: usize) {
    let mut total = vec![0; shard_count];
    let mut topics = std::collections::BTreeMap::new();
    for (partition, shard) in placed {
        total[shard.index()] += 1;
        topics.entry(partition.topic).or_insert_with(|| vec![0; shard_count])[shard.index()] += 1;
    }
    for load in topics.values().chain([&total]) {
        assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 1, "{load:?}");
    }
}

#[test]
fn creation_keeps_shards_even() {
    let mut random = Random(3);
    for _ in 0..300 {
        let (topics, shard_count) = (random_topics(&mut random), 1 + random.below(9));
        let placed = create_all(&topics, shard_count);
        assert_even(placed.into_iter().map(|(partition, shard)| (partition, shard.unwrap())), shard_count);
    }
}

#[test]
fn a_restart_with_as_many_shards_moves_nothing() {
    let mut random = Random(4);
    for _ in 0..300 {
        let (topics, shard_count) = (random_topics(&mut random), 1 + random.below(9));
        let recorded = create_all(&topics, shard_count);
        let placed = place_all(shard_count, &recorded);
        let expected: Vec<Placed> = recorded
            .iter()
            .map(|&(partition, shard)| Placed { partition, shard: shard.unwrap(), moved: false })
            .collect();
        assert_eq!(placed, expected);
    }
}

#[test]
fn a_restart_with_other_shards_places_every_partition_on_one_that_exists() {
    let mut random = Random(5);
    for round in 0..300 {
        let topics = random_topics(&mut random);
        let (before, after) = (1 + random.below(9), 1 + random.below(9));
        let mut recorded = create_all(&topics, before);
        if round % 3 == 0 {
            // a crash before the shard was recorded
            let at = random.below(recorded.len());
            recorded[at].1 = None;
        }
        let placed = place_all(after, &recorded);
        assert_eq!(placed.len(), recorded.len());
        let share = |partitions: usize| partitions.div_ceil(after);
        let mut total = vec![0; after];
        let mut of_topic = std::collections::BTreeMap::new();
        for (placed, recorded) in placed.iter().zip(&recorded) {
            assert_eq!(placed.partition, recorded.0);
            assert!(placed.moved || recorded.1 == Some(placed.shard));
            total[placed.shard.index()] += 1;
            of_topic.entry(placed.partition.topic).or_insert_with(|| vec![0; after])[placed.shard.index()] +=
                1;
        }
        for (topic, &partitions) in topics.iter().enumerate() {
            let load = &of_topic[&partition(topic, 0).topic];
            assert!(load.iter().all(|&load| load <= share(partitions)), "{before} to {after}: {load:?}");
        }
        let spread = total.iter().max().unwrap() - total.iter().min().unwrap();
        assert!(spread <= 1, "{before} to {after}: {total:?}");
    }
}
