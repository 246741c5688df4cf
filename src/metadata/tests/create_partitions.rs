use super::*;

#[test]
fn grows_topics() {
    let mut cluster = Cluster::new(3);
    cluster.check(&[
        ("create a 2 2; b 1 1", "a None 2x2\nb None 1x1"),
        ("grow a 3; b 4", "a None 3x2\nb None 4x1"),
        ("grow a 3", "a InvalidPartitions: topic already has 3 partition(s)"),
        (
            "grow a 2",
            "a InvalidPartitions: the topic currently has 3 partition(s); 2 would not be an increase",
        ),
        (
            "grow a 0",
            "a InvalidPartitions: the topic currently has 3 partition(s); 0 would not be an increase",
        ),
        (
            "grow a -1",
            "a InvalidPartitions: the topic currently has 3 partition(s); -1 would not be an increase",
        ),
        (
            "grow nothing 3; b 5",
            "nothing UnknownTopicOrPartition: this server does not host this topic\nb None 5x1",
        ),
        ("grow a 4; a 5", "a InvalidRequest: duplicate topic name\na InvalidRequest: duplicate topic name"),
    ]);
    for (name, replicas) in [("a", 2), ("b", 1)] {
        let topic = cluster.image().topic_by_name(name).unwrap();
        for partition in &topic.partitions {
            assert_eq!(partition.replicas.len(), replicas);
            assert_eq!(partition.isr, partition.replicas);
            assert_eq!(partition.leader, partition.replicas[0]);
        }
    }
}

#[test]
fn what_a_topic_had_stays_as_it_is() {
    let mut cluster = Cluster::new(2);
    cluster.reply("create a 2 1 retention.ms=5");
    cluster.reply("assign 1 a/0:200:3");
    cluster.reply("register 1 50");
    let before = cluster.image().topic_by_name("a").unwrap().clone();
    let records = cluster.decide("grow a 4").records;
    assert!(records.iter().all(|record| matches!(record, Record::Partition(_))), "{records:?}");
    assert_eq!(records.len(), 2);
    let after = cluster.image().topic_by_name("a").unwrap();
    assert_eq!(after.partitions[..2], before.partitions);
    assert_eq!((&after.settings, after.id), (&before.settings, before.id));
    for new in &after.partitions[2..] {
        assert_eq!((new.leader_epoch, new.partition_epoch), (LeaderEpoch(0), PartitionEpoch(0)));
        assert_eq!(new.directories, [DirectoryId::UNASSIGNED]);
    }
}

#[test]
fn checks_assignments_of_new_partitions() {
    let mut cluster = Cluster::new(3);
    cluster.reply("create a 1 2");
    let invalid = |why: &str| format!("a InvalidReplicaAssignment: {why}");
    let few = |added: usize, given: usize| {
        invalid(&format!("attempted to add {added} partition(s), but {given} assignment(s) were specified"))
    };
    cluster.check(&[
        ("grow a 3 @1,2", &few(2, 1)),
        ("grow a 3 @", &few(2, 0)),
        ("grow a 2 @1,2 @2,1", &few(1, 2)),
        ("grow a 3 @1,2 @1", &invalid("partition 2 has 1 replica(s), but previous partitions have 2")),
        ("grow a 3 @1,2,3 @1,2", &invalid("partition 1 has 3 replica(s), but previous partitions have 2")),
        ("grow a 3 @1,2 @3,3", &invalid("partition 2: broker 3 occurs more than once")),
        ("grow a 3 @1,9 @3,2", &invalid("partition 1: broker 9 is not registered")),
        ("grow a 3 @1,2 @-", &invalid("partition 2: the replica list is empty")),
        // the count is looked at first
        ("grow a 1 @1,9", "a InvalidPartitions: topic already has 1 partition(s)"),
        ("grow a 3 @3,1 @2,3", "a None 3x2"),
    ]);
    assert_eq!(cluster.partition("a", 1).replicas, [BrokerId(3), BrokerId(1)]);
    assert_eq!(cluster.partition("a", 2).replicas, [BrokerId(2), BrokerId(3)]);
    assert_eq!(cluster.partition("a", 2).leader, BrokerId(2));
}

#[test]
fn growing_is_bounded_and_can_be_tried() {
    let settings = Settings { changes_per_request_max: 5, ..Settings::default() };
    let mut cluster = Cluster::with(settings, TopicDefaults::default(), 1);
    let too_many =
        "PolicyViolation: excessively large number of partitions per request, at most 5 are allowed";
    cluster.check(&[
        ("create a 3 1; b 1 1", "a None 3x1\nb None 1x1"),
        ("grow a 2147483647", &format!("a {too_many}")),
        ("grow a 6; b 4", &format!("a {too_many}\nb {too_many}")),
        ("grow validate a 6; b 3", "a None 6x1\nb None 3x1"),
        ("grow validate a 3", "a InvalidPartitions: topic already has 3 partition(s)"),
    ]);
    assert!(cluster.decide("grow validate a 6").records.is_empty());
    cluster.check(&[("grow a 6; b 3", "a None 6x1\nb None 3x1"), ("grow a 11", "a None 11x1")]);
}
