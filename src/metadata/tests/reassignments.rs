use super::*;

#[test]
fn brokers_of_a_partition_change_their_order() {
    let mut cluster = Cluster::new(3);
    cluster.reply("create a - - @0=1,2 @1=2,3");
    cluster.reply("assign 1 a/0:200:1");
    cluster.reply("assign 2 a/0:300:2");
    let before = cluster.partition("a", 0).clone();
    assert_eq!(cluster.reply("reassign a/0=2,1 a/1=2,3"), "a/0 None\na/1 None");
    let after = cluster.partition("a", 0);
    assert_eq!(after.replicas, [BrokerId(2), BrokerId(1)]);
    assert_eq!(after.directories, [DirectoryId(300), DirectoryId(200)]);
    assert_eq!(after.shards, [Some(ShardId(2)), Some(ShardId(1))]);
    assert_eq!((after.leader, after.leader_epoch), (before.leader, before.leader_epoch));
    assert!(after.adding.is_empty() && after.removing.is_empty());
    assert_eq!(cluster.partition("a", 1).partition_epoch, PartitionEpoch(0), "it was so already");
    assert!(cluster.decide("reassign a/0=2,1").records.is_empty());
}

#[test]
fn checks_reassignments() {
    let mut cluster = Cluster::new(3);
    cluster.reply("create a 2 2; b - - @0=1,2");
    let invalid = |why: &str| format!("b/0 InvalidReplicaAssignment: {why}");
    let elsewhere = invalid("a partition cannot be moved to other brokers: there is no replication");
    cluster.check(&[
        ("reassign b/0=", "b/0 NoReassignmentInProgress: no partition reassignment is in progress"),
        ("reassign nothing/0=", "nothing/0 UnknownTopicOrPartition: there is no topic nothing"),
        ("reassign b/1=1", "b/1 UnknownTopicOrPartition: there is no partition b-1"),
        ("reassign b/-1=1", "b/-1 UnknownTopicOrPartition: there is no partition b--1"),
        ("reassign b/0=-", &invalid("the replica list is empty")),
        ("reassign b/0=2,2", &invalid("broker 2 occurs more than once")),
        ("reassign b/0=1,9", &invalid("broker 9 is not registered")),
        ("reassign b/0=1,3", &elsewhere),
        ("reassign b/0=1,2,3", &elsewhere),
        ("reassign b/0=1", &elsewhere),
        (
            "reassign keeping b/0=1",
            "b/0 InvalidReplicationFactor: the replication factor would change from 2 to 1",
        ),
        ("reassign keeping b/0=1,2", "b/0 None"),
        // one that is refused does not keep the other from being done
        ("reassign keeping b/0=9,1 b/0=2,1", &format!("{}\nb/0 None", invalid("broker 9 is not registered"))),
    ]);
    assert_eq!(cluster.partition("b", 0).replicas, [BrokerId(2), BrokerId(1)]);
}
