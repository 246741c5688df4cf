use super::*;

fn image() -> (Cluster, Image) {
    let mut cluster = Cluster::new(3);
    cluster.reply("create b 2 2 retention.ms=5; a 1 1; c 1 1");
    let image = cluster.image().clone();
    (cluster, image)
}

#[test]
fn finds_topics_and_partitions() {
    let (cluster, image) = image();
    let b = cluster.id("b");
    assert_eq!(image.topics().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(image.topic(b).unwrap().name, "b");
    assert_eq!(image.topic_by_name("b").unwrap().id, b);
    assert!(image.topic_by_name("d").is_none());
    for (index, found) in [(0, true), (1, true), (2, false), (-1, false), (i32::MIN, false)] {
        assert_eq!(image.partition(PartitionId { topic: b, index }).is_some(), found, "{index}");
    }
    assert!(image.partition(PartitionId { topic: TopicId::ZERO, index: 0 }).is_none());
    assert_eq!(image.brokers().map(|broker| broker.broker.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(image.cluster_id(), "cluster");
    assert_eq!(image.feature_level(METADATA_VERSION), METADATA_VERSION_LEVEL);
    assert_eq!(image.feature_level("other"), 0);
}

#[test]
fn settings_follow_the_configs() {
    let (mut cluster, image) = image();
    let retention = |image: &Image| image.topic_by_name("b").unwrap().settings.retention_ms;
    assert_eq!(retention(&image), 5);
    cluster.reply("alter b !retention.ms");
    assert_eq!(retention(cluster.image()), 604_800_000);
    assert!(cluster.image().configs(&ConfigResource::topic("b")).is_none());
}

#[test]
fn a_change_of_replicas_keeps_the_shards_of_those_that_stay() {
    let (mut cluster, _) = image();
    cluster.reply("create m - - @0=1,2");
    cluster.reply("assign 1 m/0:200:4");
    cluster.reply("assign 2 m/0:201:5");
    let mut image = cluster.image().clone();
    let partition = PartitionId { topic: cluster.id("m"), index: 0 };
    let change = PartitionChange {
        partition,
        partition_epoch: PartitionEpoch(9),
        replicas: Some([3, 2].map(BrokerId).to_vec()),
        ..PartitionChange::default()
    };
    image.replay(&Record::PartitionChange(change)).unwrap();
    assert_eq!(image.partition(partition).unwrap().shards, [None, Some(ShardId(5))]);
}

/// A record that contradicts the log before it is an error and changes nothing.
#[test]
fn contradictions_are_errors() {
    let (cluster, image) = image();
    let b = cluster.id("b");
    let at = |index| PartitionId { topic: b, index };
    let nowhere = PartitionId { topic: TopicId(5), index: 0 };
    let new = |partition, directories: usize| {
        Record::Partition(NewPartition {
            partition,
            replicas: vec![BrokerId(1)],
            directories: vec![DirectoryId::UNASSIGNED; directories],
            ..NewPartition::default()
        })
    };
    let change = PartitionChange {
        partition: at(0),
        partition_epoch: PartitionEpoch(1),
        ..PartitionChange::default()
    };
    let registration = image.broker(BrokerId(1)).unwrap().clone();
    let topic = |name: &str, id| Record::Topic { name: name.to_owned(), id };
    let shard = |broker, partition| Record::ReplicaShard { broker, partition, shard: ShardId(0) };
    let stranger =
        [1, 2, 3].map(BrokerId).into_iter().find(|id| !cluster.partition("b", 0).replicas.contains(id));
    for (record, why) in [
        (topic("b", TopicId(200)), "a topic name that is taken"),
        (topic("new", b), "a topic id that is taken"),
        (topic("new", TopicId::ZERO), "a topic without an id"),
        (new(at(3), 1), "a partition that is not its topic's next"),
        (new(at(1), 1), "a partition that is not its topic's next"),
        (new(at(-1), 1), "a partition that is not its topic's next"),
        (new(at(2), 2), "a partition whose directories do not match its replicas"),
        (new(nowhere, 1), "a partition of an unknown topic"),
        (
            Record::PartitionChange(PartitionChange { partition: nowhere, ..change.clone() }),
            "a change of an unknown partition",
        ),
        (
            Record::PartitionChange(PartitionChange { partition_epoch: PartitionEpoch(0), ..change.clone() }),
            "a partition epoch that is not new",
        ),
        (
            Record::PartitionChange(PartitionChange {
                leader_epoch: Some(LeaderEpoch(-1)),
                ..change.clone()
            }),
            "a leader epoch that goes back",
        ),
        (
            Record::PartitionChange(PartitionChange { replicas: Some(vec![]), ..change.clone() }),
            "a change whose directories do not match its replicas",
        ),
        (Record::RemoveTopic { id: TopicId(5) }, "the removal of an unknown topic"),
        (
            Record::Config { resource: ConfigResource::topic("new"), key: "k".to_owned(), value: None },
            "a config of an unknown topic",
        ),
        (
            Record::ProducerIds { broker: BrokerId(1), broker_epoch: BrokerEpoch(0), next: ProducerId(0) },
            "producer ids that were given out already",
        ),
        (Record::RegisterBroker(registration), "a broker epoch that is not new"),
        (shard(BrokerId(1), nowhere), "a shard for an unknown partition"),
        (shard(stranger.unwrap(), at(0)), "a shard where there is no replica"),
        (
            Record::FeatureLevel { name: METADATA_VERSION.to_owned(), level: METADATA_VERSION_LEVEL + 1 },
            "a feature level that only a newer version understands",
        ),
    ] {
        let mut changed = image.clone();
        assert_eq!(changed.replay(&record), Err(Inconsistent(why)), "{record:?}");
        assert_eq!(changed, image, "{record:?}");
    }
}
