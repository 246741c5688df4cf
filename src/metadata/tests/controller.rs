use super::*;

#[test]
fn creates_topics() {
    Cluster::new(3).check(&[
        ("create a 3 2", "a None 3x2"),
        ("create b - -; c 1 3", "b None 1x1\nc None 1x3"),
        ("create d -1 -1", "d None 1x1"),
        ("create a 1 1", "a TopicAlreadyExists: topic 'a' already exists"),
        ("create e 1 1; e 2 1", "e InvalidRequest: duplicate topic name\ne InvalidRequest: duplicate topic name"),
        (
            "create f 0 1",
            "f InvalidPartitions: number of partitions 0: must be larger than 0, or -1 for the default",
        ),
        (
            "create f -2 1",
            "f InvalidPartitions: number of partitions -2: must be larger than 0, or -1 for the default",
        ),
        (
            "create f 1 0",
            "f InvalidReplicationFactor: replication factor 0: must be larger than 0, or -1 for the default",
        ),
        (
            "create f 0 -2",
            "f InvalidReplicationFactor: replication factor -2: must be larger than 0, or -1 for the default",
        ),
        (
            "create f 1 4",
            "f InvalidReplicationFactor: unable to replicate the partition 4 time(s): only 3 broker(s) are registered",
        ),
        // one bad topic does not keep the others from being created
        (
            "create g 0 1; h 2 1",
            "g InvalidPartitions: number of partitions 0: must be larger than 0, or -1 for the default\nh None 2x1",
        ),
        (
            "create __cluster_metadata 1 1",
            "__cluster_metadata InvalidRequest: creation of internal topic __cluster_metadata is prohibited",
        ),
    ]);
}

#[test]
fn checks_topic_names() {
    let longest = "n".repeat(249);
    let mut cluster = Cluster::new(1);
    let accepted = |name: &str| format!("{name} None 1x1");
    let refused =
        |name: &str, why: &str| format!("{name} InvalidTopicException: topic name is invalid: {why}");
    let characters = |name: &str| {
        refused(
            name,
            &format!(
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
            ),
        )
    };
    for (name, expected) in [
        ("", refused("", "the empty string is not allowed")),
        (".", refused(".", "'.' is not allowed")),
        ("..", refused("..", "'..' is not allowed")),
        ("...", accepted("...")),
        ("a/b", characters("a/b")),
        ("a\u{e4}", characters("a\u{e4}")),
        ("a,b", characters("a,b")),
        ("A-z.0", accepted("A-z.0")),
        (&longest, accepted(&longest)),
        (
            &format!("{longest}n"),
            refused(&format!("{longest}n"), "its length of 250 is longer than the max allowed length 249"),
        ),
    ] {
        let name = if name.is_empty() { "\"\"" } else { name };
        assert_eq!(cluster.reply(&format!("create {name} 1 1")), expected);
    }
}

#[test]
fn dot_and_underscore_collide() {
    let collides = |name: &str, other: &str| {
        format!(
            "{name} InvalidTopicException: topic '{name}' collides with existing topic: {other} ('.' and '_' count as the same)"
        )
    };
    let mut cluster = Cluster::new(1);
    cluster.check(&[
        ("create a.b_c 1 1", "a.b_c None 1x1"),
        ("create a_b.c 1 1", &collides("a_b.c", "a.b_c")),
        ("create a.b_c 1 1", "a.b_c TopicAlreadyExists: topic 'a.b_c' already exists"),
        ("create a-b-c 1 1", "a-b-c None 1x1"),
        ("create x.y 1 1; x_y 1 1", &format!("x.y None 1x1\n{}", collides("x_y", "x.y"))),
        (
            "create validate v.w 1 1; v_w 1 1",
            &format!("v.w None 1x1\n{}", collides("v_w", "another of this request")),
        ),
        ("create v_w 1 1", "v_w None 1x1"),
        ("delete a.b_c", "a.b_c None 1x1"),
        ("create a_b.c 1 1", "a_b.c None 1x1"),
    ]);
    // a controller that starts from a log knows the names too
    let image = cluster.image().clone();
    cluster.controller = Controller::new(Settings::default(), image);
    cluster.check(&[("create a.b.c 1 1", &collides("a.b.c", "a_b.c"))]);
}

#[test]
fn checks_manual_assignments() {
    let mut cluster = Cluster::new(3);
    let invalid = |why: &str| format!("a InvalidReplicaAssignment: {why}");
    cluster.check(&[
        (
            "create a - 2 @0=1,2",
            "a InvalidRequest: a manual partition assignment was specified, but replication factor was not -1",
        ),
        (
            "create a 1 - @0=1,2",
            "a InvalidRequest: a manual partition assignment was specified, but number of partitions was not -1",
        ),
        ("create a - - @0=1,1", &invalid("partition 0: broker 1 occurs more than once")),
        ("create a - - @0=1,9", &invalid("partition 0: broker 9 is not registered")),
        ("create a - - @0=", &invalid("partition 0: the replica list is empty")),
        ("create a - - @0=1,2 @1=3", &invalid("partition 1 has 1 replica(s), but previous partitions have 2")),
        ("create a - - @0=1 @0=2", &invalid("multiple manual assignments for partition 0")),
        ("create a - - @0=1 @2=2", &invalid("partitions should be a consecutive 0-based integer sequence")),
        ("create a - - @-1=1 @0=2", &invalid("partitions should be a consecutive 0-based integer sequence")),
        ("create a -1 -1 @1=3,1 @0=2,3", "a None 2x2"),
    ]);
    assert_eq!(cluster.partition("a", 0).replicas, [BrokerId(2), BrokerId(3)]);
    assert_eq!(cluster.partition("a", 1).replicas, [BrokerId(3), BrokerId(1)]);
    assert_eq!(cluster.partition("a", 1).leader, BrokerId(3));
}

#[test]
fn checks_configs_of_new_topics() {
    let invalid = |key: &str, value: &str, allowed: &str| {
        format!("a InvalidConfig: invalid value {value} for configuration {key}: must be {allowed}")
    };
    let mut cluster = Cluster::new(1);
    cluster.check(&[
        ("create a 1 1 no.such=1", "a InvalidConfig: unknown topic config name: no.such"),
        ("create a 1 1 segment.ms retention.ms", "a InvalidConfig: null value not supported for topic configs: segment.ms,retention.ms"),
        ("create a 1 1 segment.ms=0", &invalid("segment.ms", "0", "a whole number, at least 1")),
        ("create a 1 1 segment.bytes=1048575", &invalid("segment.bytes", "1048575", "a whole number from 1048576 to 2147483647")),
        ("create a 1 1 segment.bytes=2147483648", &invalid("segment.bytes", "2147483648", "a whole number from 1048576 to 2147483647")),
        ("create a 1 1 cleanup.policy=shred", &invalid("cleanup.policy", "shred", "a comma-separated list of compact, delete, each at most once")),
        ("create a 1 1 corelane.durability=maybe", &invalid("corelane.durability", "maybe", "one of flushed, written")),
        (
            "create a 1 1 remote.storage.enable=true",
            "a InvalidConfig: invalid value true for configuration remote.storage.enable: tiered storage is not available, must be false",
        ),
        (
            "create a 1 1 min.compaction.lag.ms=9 max.compaction.lag.ms=8",
            "a InvalidConfig: min.compaction.lag.ms (9) must not be larger than max.compaction.lag.ms (8)",
        ),
        ("create a 1 1 retention.ms=5 cleanup.policy=compact,delete retention.ms=6", "a None 1x1"),
    ]);
    let configs = cluster.image().topic_configs("a");
    assert_eq!(
        configs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["cleanup.policy=compact,delete", "retention.ms=6"]
    );
    assert_eq!(cluster.image().topic_by_name("a").unwrap().settings.retention_ms, 6);

    let long = "x".repeat(32_768);
    assert_eq!(
        cluster.reply(&format!("create b 1 1 compression.type={long}")),
        "b InvalidConfig: the value of compression.type exceeds the maximum of 32767 bytes"
    );
}

#[test]
fn validating_changes_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.reply("create a 1 1 retention.ms=5");
    let before = cluster.image().clone();
    for (request, expected) in [
        ("create validate b 3 2 retention.ms=5", "b None 3x2"),
        (
            "create validate b 3 3",
            "b InvalidReplicationFactor: unable to replicate the partition 3 time(s): only 2 broker(s) are registered",
        ),
        ("create validate a 3 1", "a TopicAlreadyExists: topic 'a' already exists"),
        ("alter validate a retention.ms=9", "a None"),
    ] {
        let request_again = cluster.decide(request);
        assert!(request_again.records.is_empty(), "{request}");
        assert_eq!(cluster.reply(request), expected);
    }
    assert_eq!(*cluster.image(), before);
}

#[test]
fn new_topics_have_random_ids_that_nobody_reserved() {
    let mut cluster = Cluster::new(1);
    for topic in 0..200 {
        cluster.reply(&format!("create t{topic} 1 1"));
    }
    let mut ids: Vec<TopicId> = cluster.image().topics().map(|topic| topic.id).collect();
    for id in &ids {
        assert!(id.0 > 100);
        assert_eq!(id.0 >> 76 & 0xf, 4, "version");
        assert_eq!(id.0 >> 62 & 3, 2, "variant");
        assert!(!id.to_string().starts_with('-'));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[test]
fn even_a_stuck_random_source_gives_distinct_ids() {
    let mut cluster = Cluster::new(1);
    // the second would print with a leading dash
    for stuck in [0, 0xf8 << 56] {
        for name in ["a", "b"] {
            let request = cluster.request(&format!("create {name}{stuck} 1 1"));
            cluster.controller.handle(0, &mut || stuck, request);
        }
        assert_ne!(cluster.id(&format!("a{stuck}")), cluster.id(&format!("b{stuck}")));
        assert!(!cluster.id(&format!("a{stuck}")).to_string().starts_with('-'));
    }
}

#[test]
fn one_request_is_bounded() {
    let settings = Settings { changes_per_request_max: 5, ..Settings::default() };
    let mut cluster = Cluster::with(settings, TopicDefaults::default(), 1);
    let too_many =
        "PolicyViolation: excessively large number of partitions per request, at most 5 are allowed";
    cluster.check(&[
        ("create a 3 1; b 3 1", &format!("a {too_many}\nb {too_many}")),
        ("create a 2147483647 1", &format!("a {too_many}")),
        ("create a 2147483647 1; b 2147483647 1", &format!("a {too_many}\nb {too_many}")),
        ("create a 3 1; b - -", "a None 3x1\nb None 1x1"),
        (
            "delete a b c d e f",
            &["a", "b", "c", "d", "e", "f"]
                .map(|name| {
                    format!("{name} PolicyViolation: excessively large number of topics per request, at most 5 are allowed")
                })
                .join("\n"),
        ),
        (
            "alter a k=1 l=1 m=1 n=1 o=1 p=1",
            "a PolicyViolation: excessively large number of changes per request, at most 5 are allowed",
        ),
    ]);
}

#[test]
fn deletes_topics() {
    let mut cluster = Cluster::new(1);
    let duplicate = "InvalidRequest: duplicate topic name or id";
    cluster.check(&[
        ("create a 2 1; b 1 1; c 1 1; d 1 1 retention.ms=5", "a None 2x1\nb None 1x1\nc None 1x1\nd None 1x1"),
        (
            "delete a nothing #b #nothing #0",
            "a None 2x1\nnothing UnknownTopicOrPartition: this server does not host this topic\nb None 1x1\n \
             UnknownTopicId: this server does not host this topic id\n InvalidRequest: neither topic name nor id \
             were specified",
        ),
        ("delete c c", &format!("c {duplicate}\nc {duplicate}")),
        ("delete c #c", &format!("c {duplicate}\n {duplicate}")),
        ("delete x x", &format!("x {duplicate}\nx {duplicate}")),
        ("delete c", "c None 1x1"),
        ("delete d", "d None 1x1"),
        ("create d 1 1", "d None 1x1"),
    ]);
    assert!(cluster.image().topic_configs("d").is_empty(), "the old topic's configs went with it");
    assert_eq!(cluster.image().topic_count(), 1);
}

#[test]
fn deletion_can_be_disabled() {
    let settings = Settings { delete_topic_enable: false, ..Settings::default() };
    let mut cluster = Cluster::with(settings, TopicDefaults::default(), 1);
    cluster.check(&[
        ("create a 1 1", "a None 1x1"),
        ("delete a", "a TopicDeletionDisabled: topic deletion is disabled (delete.topic.enable=false)"),
        ("create a 1 1", "a TopicAlreadyExists: topic 'a' already exists"),
    ]);
}

#[test]
fn alters_configs() {
    let mut cluster = Cluster::new(1);
    cluster.reply("create a 1 1; b 1 1");
    let ok = "a None";
    // each request, what it answers, and the overrides of `a` afterwards
    for (request, expected, overrides) in [
        ("alter a retention.ms=5 segment.ms=7", ok, "retention.ms=5 segment.ms=7"),
        ("alter a !retention.ms", ok, "segment.ms=7"),
        ("alter a !retention.ms !no.such.key", ok, "segment.ms=7"),
        ("alter a +cleanup.policy=compact", ok, "cleanup.policy=delete,compact segment.ms=7"),
        ("alter a +cleanup.policy=compact,delete", ok, "cleanup.policy=delete,compact segment.ms=7"),
        ("alter a -cleanup.policy=delete", ok, "cleanup.policy=compact segment.ms=7"),
        ("alter a -cleanup.policy=compact,delete", ok, "cleanup.policy= segment.ms=7"),
        ("alter a !cleanup.policy !segment.ms", ok, ""),
        (
            "alter a +segment.ms=4",
            "a InvalidConfig: can't append to key segment.ms because its type is not LIST",
            "",
        ),
        (
            "alter a -no.such=4",
            "a InvalidConfig: can't subtract to key no.such because its type is not LIST",
            "",
        ),
        ("alter a no.such=4", "a InvalidConfig: unknown topic config name: no.such", ""),
        // all or nothing within a resource, each resource by itself
        (
            "alter a retention.ms=5 segment.ms=0; b segment.ms=9",
            "a InvalidConfig: invalid value 0 for configuration segment.ms: must be a whole number, at least 1\nb None",
            "",
        ),
        ("alter a segment.ms=5 segment.ms=6", "a InvalidRequest: duplicate config keys", ""),
        (
            "alter a segment.ms=5; a segment.ms=6",
            "a InvalidRequest: each resource must appear at most once\na InvalidRequest: each resource must appear at \
             most once",
            "",
        ),
        (
            "alter a segment.ms +cleanup.policy",
            "a InvalidRequest: null value not supported for: segment.ms, cleanup.policy",
            "",
        ),
        (
            "alter nothing segment.ms=5",
            "nothing UnknownTopicOrPartition: the topic 'nothing' does not exist",
            "",
        ),
        ("alter \"\" segment.ms=5", " InvalidRequest: default topic resources are not allowed", ""),
        (
            "alter a/b segment.ms=5",
            "a/b InvalidTopicException: topic name is invalid: 'a/b' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'",
            "",
        ),
        ("alter a min.compaction.lag.ms=9", ok, "min.compaction.lag.ms=9"),
        (
            "alter a max.compaction.lag.ms=8",
            "a InvalidConfig: min.compaction.lag.ms (9) must not be larger than max.compaction.lag.ms (8)",
            "min.compaction.lag.ms=9",
        ),
        ("alter a max.compaction.lag.ms=8 !min.compaction.lag.ms", ok, "max.compaction.lag.ms=8"),
        ("alter a !max.compaction.lag.ms preallocate=TRUE", ok, "preallocate=true"),
    ] {
        assert_eq!(cluster.reply(request), expected, "{request}");
        let now = cluster.image().topic_configs("a");
        let now: Vec<String> = now.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(now.join(" "), overrides, "{request}");
    }
    assert!(cluster.image().topic_by_name("a").unwrap().settings.preallocate);
    assert!(
        cluster.decide("alter a preallocate=true").records.is_empty(),
        "what is so already is not written"
    );
}

#[test]
fn replaces_configs() {
    let mut cluster = Cluster::new(1);
    cluster.reply("create a 1 1 retention.ms=5 segment.ms=7; b 1 1 retention.ms=5");
    let ok = "a None";
    // each request, what it answers, and the overrides of `a` afterwards
    for (request, expected, overrides) in [
        ("replace validate a", ok, "retention.ms=5 segment.ms=7"),
        ("replace a segment.ms=8 cleanup.policy=compact", ok, "cleanup.policy=compact segment.ms=8"),
        ("replace a segment.ms=8", ok, "segment.ms=8"),
        (
            "replace a segment.ms",
            "a InvalidRequest: null value not supported for: segment.ms",
            "segment.ms=8",
        ),
        ("replace a segment.ms=1 segment.ms=2", "a InvalidRequest: duplicate config keys", "segment.ms=8"),
        ("replace a no.such=1", "a InvalidConfig: unknown topic config name: no.such", "segment.ms=8"),
        (
            "replace nothing segment.ms=5",
            "nothing UnknownTopicOrPartition: the topic 'nothing' does not exist",
            "segment.ms=8",
        ),
        (
            "replace a; a",
            "a InvalidRequest: each resource must appear at most once\na InvalidRequest: each resource must appear at \
             most once",
            "segment.ms=8",
        ),
        ("replace b min.compaction.lag.ms=9", "b None", "segment.ms=8"),
        // what goes does not stand in the way of what comes
        ("replace b max.compaction.lag.ms=8", "b None", "segment.ms=8"),
        ("replace a", ok, ""),
    ] {
        assert_eq!(cluster.reply(request), expected, "{request}");
        let now = cluster.image().topic_configs("a");
        let now: Vec<String> = now.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(now.join(" "), overrides, "{request}");
    }
    assert_eq!(cluster.image().topic_configs("b").len(), 1);
    assert!(
        cluster.decide("replace b max.compaction.lag.ms=8").records.is_empty(),
        "what is so already is not written"
    );
    let settings = Settings { changes_per_request_max: 2, ..Settings::default() };
    let mut cluster = Cluster::with(settings, TopicDefaults::default(), 1);
    cluster.check(&[
        ("create a 1 1 retention.ms=5 segment.ms=7", "a None 1x1"),
        (
            "replace a cleanup.policy=compact",
            "a PolicyViolation: excessively large number of changes per request, at most 2 are allowed",
        ),
    ]);
}

#[test]
fn appending_begins_from_the_value_in_force() {
    let mut defaults = TopicDefaults::default();
    defaults.set("log.cleanup.policy", "compact").unwrap();
    let mut cluster = Cluster::with(Settings::default(), defaults, 1);
    cluster.reply("create a 1 1");
    cluster.reply("alter a +cleanup.policy=delete");
    assert_eq!(cluster.image().topic_configs("a")["cleanup.policy"], "compact,delete");
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap() {
    Cluster::new(2).check(&[
        ("ids 1", "0+1000"),
        ("ids 2", "1000+1000"),
        ("ids 1", "2000+1000"),
        ("ids 9", "failed BrokerIdNotRegistered"),
        ("ids 2", "3000+1000"),
    ]);
}

#[test]
fn producer_ids_can_run_out() {
    let mut cluster = Cluster::new(1);
    let mut image = cluster.image().clone();
    let next = ProducerId(i64::MAX - 1500);
    image.replay(&Record::ProducerIds { broker: BrokerId(1), broker_epoch: BrokerEpoch(0), next }).unwrap();
    cluster.controller = Controller::new(Settings::default(), image);
    assert_eq!(cluster.reply("ids 1"), format!("{}+1000", next.0));
    assert_eq!(cluster.reply("ids 1"), "failed UnknownServerError");
}

#[test]
fn the_first_registration_begins_the_log() {
    let mut cluster = Cluster::new(0);
    let records = cluster.decide("register 1 7").records;
    assert_eq!(
        records[0],
        Record::FeatureLevel { name: METADATA_VERSION.to_owned(), level: METADATA_VERSION_LEVEL }
    );
    let Record::RegisterBroker(registration) = &records[3] else { panic!("{records:?}") };
    assert_eq!((registration.broker, registration.epoch), (BrokerId(1), BrokerEpoch(0)));
    assert_eq!(records.len(), 4);
    assert_eq!(cluster.decide("register 2 8").records.len(), 1);
}

#[test]
fn every_start_of_a_broker_raises_the_epochs_it_leads_by() {
    let mut cluster = Cluster::new(2);
    cluster.reply("create a - - @0=1,2 @1=2,1 @2=1,2");
    let epochs = |cluster: &Cluster| [0, 1, 2].map(|index| cluster.partition("a", index).leader_epoch.0);
    assert_eq!(epochs(&cluster), [0, 0, 0]);
    let before = cluster.image().broker(BrokerId(1)).unwrap().epoch;
    assert_eq!(cluster.reply("register 1 50"), "done");
    assert_eq!(epochs(&cluster), [1, 0, 1]);
    assert_eq!(cluster.partition("a", 0).partition_epoch, PartitionEpoch(1));
    assert_eq!(cluster.partition("a", 1).partition_epoch, PartitionEpoch(0));
    let after = cluster.image().broker(BrokerId(1)).unwrap().epoch;
    assert!(after > before && after > cluster.image().broker(BrokerId(2)).unwrap().epoch);

    assert!(cluster.decide("register 1 50").records.is_empty(), "the same life of the process asks again");
    assert_eq!(cluster.reply("register 1 51"), "done");
    assert_eq!(epochs(&cluster), [2, 0, 2]);
}

#[test]
fn a_broker_that_returns_leads_what_nobody_leads() {
    let mut cluster = Cluster::new(1);
    cluster.reply("create a 1 1; b 1 1");
    let mut image = cluster.image().clone();
    for (name, isr) in [("a", vec![BrokerId(1)]), ("b", vec![])] {
        let partition = PartitionId { topic: cluster.id(name), index: 0 };
        let change = PartitionChange {
            partition,
            partition_epoch: PartitionEpoch(1),
            leader: Some(BrokerId::NONE),
            leader_epoch: Some(LeaderEpoch(1)),
            isr: Some(isr),
            ..PartitionChange::default()
        };
        image.replay(&Record::PartitionChange(change)).unwrap();
    }
    cluster.controller = Controller::new(Settings::default(), image);
    assert_eq!(cluster.reply("register 1 99"), "done");
    assert_eq!(
        (cluster.partition("a", 0).leader, cluster.partition("a", 0).leader_epoch),
        (BrokerId(1), LeaderEpoch(2))
    );
    assert_eq!(cluster.partition("b", 0).leader, BrokerId::NONE, "not in sync: it may lack records");
}

#[test]
fn epochs_that_are_used_up_are_refused() {
    let mut cluster = Cluster::new(1);
    cluster.reply("create a 1 1");
    let mut image = cluster.image().clone();
    let partition = PartitionId { topic: cluster.id("a"), index: 0 };
    let change = PartitionChange {
        partition,
        partition_epoch: PartitionEpoch(i32::MAX),
        leader_epoch: Some(LeaderEpoch(i32::MAX)),
        ..PartitionChange::default()
    };
    image.replay(&Record::PartitionChange(change)).unwrap();
    cluster.controller = Controller::new(Settings::default(), image);
    let before = cluster.image().clone();
    cluster.check(&[
        ("register 1 99", "failed UnknownServerError"),
        ("assign 1 a/0:200:0", "failed UnknownServerError"),
    ]);
    assert_eq!(*cluster.image(), before, "a refusal changes nothing");
}

#[test]
fn assigns_directories_and_shards() {
    let mut cluster = Cluster::new(2);
    cluster.reply("create a - - @0=1,2 @1=2,1");
    let broker = BrokerId(1);
    assert_eq!(cluster.partition("a", 0).directory_of(broker), Some(DirectoryId::UNASSIGNED));
    assert_eq!(cluster.partition("a", 0).shard_of(broker), None);

    assert_eq!(cluster.reply("assign 1 a/0:200:3 a/1:201:0 a/7:200:0 gone/0:200:0"), "done");
    let shown = |index| {
        let partition = cluster.partition("a", index);
        (partition.directories.iter().map(|id| id.0).collect::<Vec<_>>(), partition.shards.clone())
    };
    assert_eq!(shown(0), (vec![200, 0], vec![Some(ShardId(3)), None]));
    assert_eq!(shown(1), (vec![0, 201], vec![None, Some(ShardId(0))]));
    assert_eq!(cluster.partition("a", 0).leader_epoch, LeaderEpoch(0), "nobody began to lead");

    assert!(cluster.decide("assign 1 a/0:200:3").records.is_empty(), "what is so already is not written");
    assert_eq!(cluster.decide("assign 1 a/0:200:4").records.len(), 1, "the shard only");
    assert_eq!(cluster.decide("assign 9 a/0:200:4").records.len(), 0, "no replica there");
}

#[test]
fn replicas_are_spread_over_brokers_and_racks() {
    let mut cluster = Cluster::new(0);
    for (broker, rack) in [(1, "east"), (2, "east"), (3, "west"), (4, "west"), (5, "north"), (6, "north")] {
        cluster.reply(&format!("register {broker} {broker} {rack}"));
    }
    assert_eq!(cluster.reply("create a 60 3"), "a None 60x3");
    let topic = cluster.image().topic_by_name("a").unwrap();
    let mut leaders = [0; 7];
    let mut replicas = [0; 7];
    for partition in &topic.partitions {
        assert_eq!(partition.leader, partition.replicas[0]);
        assert_eq!(partition.isr, partition.replicas);
        leaders[usize::try_from(partition.leader.0).unwrap()] += 1;
        let mut racks: Vec<_> = partition
            .replicas
            .iter()
            .map(|&broker| cluster.image().broker(broker).unwrap().rack.clone().unwrap())
            .collect();
        for broker in &partition.replicas {
            replicas[usize::try_from(broker.0).unwrap()] += 1;
        }
        racks.sort();
        assert_eq!(racks, ["east", "north", "west"]);
    }
    assert_eq!(leaders[1..], [10; 6]);
    assert!(replicas[1..].iter().all(|&count| (20..=40).contains(&count)), "{replicas:?}");
}

#[test]
fn fenced_brokers_get_no_replicas() {
    let mut cluster = Cluster::new(2);
    let mut image = cluster.image().clone();
    let registration =
        Registration { fenced: true, epoch: BrokerEpoch(9), ..image.broker(BrokerId(2)).unwrap().clone() };
    image.replay(&Record::RegisterBroker(registration)).unwrap();
    cluster.controller = Controller::new(Settings::default(), image);
    cluster.check(&[
        (
            "create a 1 2",
            "a InvalidReplicationFactor: unable to replicate the partition 2 time(s): only 1 broker(s) are registered",
        ),
        (
            "create a - - @0=2",
            "a InvalidReplicaAssignment: partition 0: all brokers of the assignment are fenced",
        ),
        ("create a - - @0=2,1", "a None 1x2"),
    ]);
    assert_eq!(cluster.partition("a", 0).isr, [BrokerId(1)]);
    assert_eq!(cluster.partition("a", 0).leader, BrokerId(1));
}
