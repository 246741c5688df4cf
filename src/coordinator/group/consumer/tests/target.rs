use super::*;
use crate::coordinator::group::consumer::ConsumerGroup;
use crate::coordinator::group::consumer::target::topic_hash;
use crate::coordinator::record::RegexValue;
use crate::metadata::Registration;
use crate::model::{BrokerEpoch, BrokerId, DirectoryId};

fn slow() -> Broker {
    let mut broker = Broker::new(Settings::default());
    broker.create("a", 4);
    broker
}

#[test]
fn targets_are_made_only_so_often() {
    let mut broker = slow();
    assert_eq!(broker.beat(join("m", &["a"])).member_epoch, 2);
    let joined = broker.beat(join("n", &["a"]));
    assert_eq!((joined.member_epoch, kinds(&broker.records).as_str()), (2, "MEC"));
    broker.beat(join("o", &["a"]));
    assert_eq!((broker.state().as_str(), broker.describe().group_epoch), ("Assigning", 4));
    assert_eq!(kinds(&broker.wait(999)), "");
    assert_eq!(kinds(&broker.wait(1)), "PPPT", "without a heartbeat");
    assert_eq!(broker.describe().assignment_epoch, 4);
    assert_eq!(told(&broker.beat(heartbeat("m", 2))).unwrap()[&TopicId(1)].len(), 2);
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let mut broker = slow();
    broker.beat(join("m", &["a"]));
    broker.now.wall -= 1_000_000;
    broker.beat(join("n", &["a"]));
    assert_eq!(broker.describe().assignment_epoch, 3);
}

#[test]
fn topics_come_grow_and_go() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a", "c"]));
    broker.grow(TopicId(1), 6);
    let grown = broker.beat(heartbeat("m", 2));
    assert_eq!((grown.member_epoch, told(&grown)), (3, Some(has(&[(1, &[0, 1, 2, 3, 4, 5])]))));
    // one that nobody reads
    broker.create("d", 1);
    broker.beat(heartbeat("m", 3));
    assert_eq!(broker.records, []);
    let c = broker.create("c", 1);
    let came = broker.beat(heartbeat("m", 3));
    assert_eq!((came.member_epoch, told(&came).unwrap().contains_key(&c)), (4, true));
    broker.delete("a");
    let went = broker.beat(heartbeat("m", 4));
    assert_eq!((went.member_epoch, told(&went)), (4, Some(has(&[(c.0, &[0])]))));
    let given_up = broker.beat(heartbeat("m", 4).with_topic_partitions(owned(&[(c.0, &[0])])));
    assert_eq!(given_up.member_epoch, 5);
    // created anew, it is another topic
    let a = broker.create("a", 1);
    assert!(told(&broker.beat(heartbeat("m", 5))).unwrap().contains_key(&a));
}

#[test]
fn what_most_members_ask_for_is_used() {
    let mut broker = Broker::with_topics();
    let ask = |member: &str, assignor: &str| join(member, &["a"]).with_server_assignor(Some(text(assignor)));
    broker.beat(join("m", &["a"]));
    assert_eq!(broker.describe().assignor_name.as_str(), "uniform");
    broker.beat(ask("n", "range"));
    broker.beat(ask("o", "uniform"));
    broker.beat(ask("p", "uniform"));
    assert_eq!(broker.describe().assignor_name.as_str(), "uniform");
    let epoch = broker.describe().group_epoch;
    // nothing but the assignor changes, and that calls for another target
    for member in ["o", "p"] {
        let at = broker
            .describe()
            .members
            .iter()
            .find(|one| one.member_id.as_str() == member)
            .unwrap()
            .member_epoch;
        broker.beat(heartbeat(member, at).with_server_assignor(Some(text("range"))));
    }
    let described = broker.describe();
    assert_eq!((described.assignor_name.as_str(), described.group_epoch), ("range", epoch + 1));
}

#[test]
fn groups_have_configs_of_their_own() {
    let mut broker = slow();
    broker.set_group_config("consumer.session.timeout.ms", "50000");
    broker.set_group_config("consumer.heartbeat.interval.ms", "7000");
    broker.set_group_config("consumer.assignment.interval.ms", "0");
    assert_eq!(broker.beat(join("m", &["a"])).heartbeat_interval_ms, 7_000);
    broker.beat(join("n", &["a"]));
    assert_eq!(broker.describe().assignment_epoch, 3);
    assert_eq!(kinds(&broker.wait(49_999)), "");
    assert_ne!(kinds(&broker.wait(1)), "");
    broker.set_group_config("consumer.assignment.interval.ms", "-1");
    broker.beat(join("o", &["a"]));
    broker.beat(join("p", &["a"]));
    assert_eq!(broker.state(), "Assigning", "the broker's interval");
}

/// A heartbeat that brings nothing new costs the same in a large group.
#[test]
fn a_large_group_is_assigned_at_once() {
    let mut broker = Broker::new(Settings::default());
    broker.checks_log = false;
    for topic in 0..10 {
        broker.create(&format!("topic-{topic}"), 100);
    }
    let topics: Vec<String> = (0..10).map(|topic| format!("topic-{topic}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut epochs: Vec<i32> =
        (0..500).map(|member| broker.beat(join(&format!("m{member}"), &topics)).member_epoch).collect();
    let mut owns: Vec<Has> = vec![Has::new(); 500];
    for round in 0..6 {
        broker.pass(2_000);
        for member in 0..500 {
            let parts: Vec<(u128, Vec<i32>)> =
                owns[member].iter().map(|(id, parts)| (id.0, parts.iter().copied().collect())).collect();
            let parts: Vec<(u128, &[i32])> =
                parts.iter().map(|(id, parts)| (*id, parts.as_slice())).collect();
            let said = heartbeat(&format!("m{member}"), epochs[member]).with_topic_partitions(owned(&parts));
            let response = broker.beat(said);
            epochs[member] = response.member_epoch;
            if let Some(told) = told(&response) {
                owns[member] = told;
            }
            assert!(round < 5 || broker.records.is_empty(), "the group is stable");
        }
    }
    assert_eq!(broker.state(), "Stable");
    assert!(owns.iter().all(|owns| owns.values().map(BTreeSet::len).sum::<usize>() == 2));
    broker.check_log();
}

/// Computed by Kafka 4.3's own code, for brokers without racks and with.
#[test]
fn topics_are_hashed_as_kafka_does() {
    let id = TopicId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
    let mut image = Image::new("cluster", TopicDefaults::default());
    image.replay(&MetadataRecord::Topic { name: "foo".to_owned(), id }).unwrap();
    for (broker, rack) in [(1, "rack1"), (2, "rack0")] {
        let registration = Registration {
            broker: BrokerId(broker),
            incarnation: 1,
            epoch: BrokerEpoch(i64::from(broker)),
            rack: Some(rack.to_owned()),
            endpoints: Vec::new(),
            features: Vec::new(),
            fenced: false,
        };
        image.replay(&MetadataRecord::RegisterBroker(registration)).unwrap();
    }
    let mut racked = image.clone();
    for (index, replicas) in [(0, vec![BrokerId(1), BrokerId(2)]), (1, vec![BrokerId(1)])] {
        let partition = PartitionId { topic: id, index };
        let without = NewPartition { partition, ..Default::default() };
        image.replay(&MetadataRecord::Partition(without)).unwrap();
        let directories = vec![DirectoryId::UNASSIGNED; replicas.len()];
        let with = NewPartition { partition, replicas, directories, ..Default::default() };
        racked.replay(&MetadataRecord::Partition(with)).unwrap();
    }
    let of = |image: &Image| topic_hash(image.topic(id).unwrap(), image).cast_signed();
    assert_eq!((of(&image), of(&racked)), (-7_646_759_818_435_901_242, -2_397_665_636_932_337_815));
    let mut group = ConsumerGroup::new();
    let topics = vec!["foo".to_owned()];
    let value = Some(RegexValue { topics, version: 0, timestamp: 0 });
    group.replay(Record::Regex { group: GROUP.to_owned(), regex: "f.*".to_owned(), value });
    assert_eq!(group.hash(&image), 6_843_227_916_852_944_822);
    assert_eq!(ConsumerGroup::new().hash(&image), 0);
}
