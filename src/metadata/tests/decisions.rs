//! Random sequences of requests: what must hold after every decision.

use super::*;

const NAMES: [&str; 6] = ["a", "b.c", "b_c", "d", "no/name", "__x"];
const CONFIGS: [&str; 6] = [
    "retention.ms=5",
    "retention.ms=-2",
    "cleanup.policy=compact",
    "segment.ms",
    "no.such=1",
    "corelane.durability=written",
];
const CHANGES: [&str; 8] = [
    "retention.ms=7",
    "!retention.ms",
    "+cleanup.policy=compact",
    "-cleanup.policy=delete",
    "!cleanup.policy",
    "segment.ms=0",
    "min.insync.replicas=2",
    "!corelane.durability",
];

const LIVE: [&str; 8] = [
    "log.retention.ms=9",
    "!log.retention.ms",
    "min.insync.replicas=3",
    "log.cleaner.min.compaction.lag.ms=5",
    "!min.insync.replicas",
    "share.isolation.level=read_committed",
    "!share.isolation.level",
    "corelane.durability=written",
];

fn random_line(random: &mut Random) -> String {
    let topics = |random: &mut Random, one: fn(&mut Random) -> String| {
        let count = 1 + random.below(3);
        (0..count).map(|_| one(random)).collect::<Vec<_>>().join(";")
    };
    let validate = if random.below(6) == 0 { "validate " } else { "" };
    match random.below(20) {
        0..=3 => format!("create {validate}{}", topics(random, random_topic)),
        4 => {
            let names: Vec<String> = (0..1 + random.below(3))
                .map(|_| format!("{}{}", random.pick(&["", "", "#"]), random.pick(&NAMES)))
                .collect();
            format!("delete {}", names.join(" "))
        }
        5..=7 => {
            format!(
                "alter {validate}{}",
                topics(random, |random| {
                    let changes: Vec<&str> =
                        (0..1 + random.below(2)).map(|_| *random.pick(&CHANGES)).collect();
                    format!("{} {}", random.pick(&NAMES), changes.join(" "))
                })
            )
        }
        12..=13 => format!(
            "grow {validate}{}",
            topics(random, |random| {
                let assignments = *random.pick(&["", "", " @1,2", " @1 @3", " @2,1 @1,3", " @9"]);
                format!("{} {}{assignments}", random.pick(&NAMES), random.below(6))
            })
        ),
        14 => format!(
            "replace {validate}{}",
            topics(random, |random| {
                let configs: Vec<&str> = (0..random.below(3)).map(|_| *random.pick(&CONFIGS)).collect();
                [&[*random.pick(&NAMES)], &configs[..]].concat().join(" ")
            })
        ),
        15 => {
            let election = random.pick(&["preferred", "unclean"]);
            match random.below(2) {
                0 => format!("elect {election} *"),
                _ => {
                    let name = random.pick(&["a", "b.c", "d"]);
                    format!("elect {election} {name}/{} {name}/0 {name}/0", random.below(4))
                }
            }
        }
        16..=17 => {
            let replicas =
                |random: &mut Random| *random.pick(&["1", "2,1", "1,3", "3,2,1", "9", "1,1", "-", ""]);
            let (first, second) = (replicas(random), replicas(random));
            let name = random.pick(&["a", "b.c", "d"]);
            let keeping = random.pick(&["", "keeping "]);
            format!("reassign {keeping}{name}/{}={first} {name}/0={second}", random.below(4))
        }
        18..=19 => format!(
            "alter {validate}{}",
            topics(random, |random| {
                let resource = random.pick(&["broker/", "broker/1", "broker/2", "group/g", "group/h"]);
                format!("{resource} {} {}", random.pick(&LIVE), random.pick(&LIVE))
            })
        ),
        8 => format!("ids {}", 1 + random.below(4)),
        9 => format!("register {} {}", 1 + random.below(3), random.below(40)),
        _ => {
            let replicas: Vec<String> = (0..1 + random.below(3))
                .map(|_| {
                    let (name, index) = (random.pick(&NAMES), random.below(4));
                    format!("{name}/{index}:{}:{}", random.below(3) * 200, random.below(3))
                })
                .collect();
            // names with a slash cannot be written here
            format!("assign {} {}", 1 + random.below(4), replicas.join(" ")).replace("no/name", "d")
        }
    }
}

fn random_topic(random: &mut Random) -> String {
    let name = random.pick(&NAMES);
    let configs: Vec<&str> = (0..random.below(2)).map(|_| *random.pick(&CONFIGS)).collect();
    let shape = match random.below(4) {
        0 => "- - @0=1,2 @1=2,3".to_owned(),
        1 => format!("- - @0=1 @{}=3", random.below(3)),
        _ => format!("{} {}", random.below(4), random.below(4)),
    };
    [&[*name, shape.as_str()][..], &configs].concat().join(" ")
}

/// Through bytes, as the metadata log gives them back.
fn through_the_log(records: &[Record]) -> Vec<Record> {
    let mut log = Vec::new();
    for record in records {
        record.encode(&mut log);
    }
    let mut input = log.as_slice();
    let mut read = Vec::new();
    while !input.is_empty() {
        read.push(Record::decode(&mut input).unwrap());
    }
    assert_eq!(read, records);
    read
}

#[test]
fn the_records_add_up_to_the_controllers_image() {
    let mut kinds = std::collections::BTreeMap::new();
    for seed in 0..200 {
        let mut cluster = Cluster::new(0);
        cluster.random = Random(seed);
        let mut follower = cluster.image().clone();
        let mut blocks = Vec::new();
        for step in 0..60 {
            let line = random_line(&mut cluster.random);
            let before = cluster.image().clone();
            let decision = cluster.decide(&line);
            for record in through_the_log(&decision.records) {
                let kind = format!("{record:?}").split([' ', '(']).next().unwrap().to_owned();
                *kinds.entry(kind).or_insert(0) += 1;
                follower.replay(&record).unwrap();
            }
            assert_eq!(follower, *cluster.image(), "seed {seed} step {step}: {line}");
            if decision.records.is_empty() {
                assert_eq!(before, *cluster.image(), "seed {seed} step {step}: {line}");
            }
            never_goes_back(&before, cluster.image());
            if let Reply::ProducerIds { first, count } = decision.reply {
                blocks.push((first.0, first.0 + count));
            }
        }
        assert!(blocks.windows(2).all(|pair| pair[0].1 <= pair[1].0), "seed {seed}: {blocks:?}");

        // the image as records of its own gives the image again, and a controller that goes on the same way
        let mut rebuilt = Image::new("cluster", TopicDefaults::default()).of_broker(BrokerId(1));
        for record in through_the_log(&follower.records()) {
            rebuilt.replay(&record).unwrap();
        }
        assert_eq!(rebuilt, follower, "seed {seed}");
        let mut successor =
            Cluster { controller: Controller::new(Settings::default(), rebuilt), random: Random(seed) };
        cluster.random = Random(seed);
        for _ in 0..10 {
            let line = random_line(&mut successor.random);
            assert_eq!(line, random_line(&mut cluster.random));
            assert_eq!(successor.decide(&line).records, cluster.decide(&line).records, "seed {seed}: {line}");
        }
    }
    assert_eq!(kinds.len(), 9, "a kind of record never occurred: {kinds:?}");
}

/// What clients and replicas rely on between two images.
fn never_goes_back(before: &Image, after: &Image) {
    for topic in before.topics() {
        let Some(now) = after.topic(topic.id) else { continue };
        assert_eq!(now.name, topic.name);
        assert!(now.partitions.len() >= topic.partitions.len());
        for (old, new) in topic.partitions.iter().zip(&now.partitions) {
            assert!(new.leader_epoch >= old.leader_epoch);
            assert!(new.partition_epoch >= old.partition_epoch);
            assert!(new.leader == old.leader || new.leader_epoch > old.leader_epoch);
        }
    }
    assert!(after.next_producer_id() >= before.next_producer_id());
    assert!(after.last_broker_epoch() >= before.last_broker_epoch());
}

#[test]
fn the_same_requests_and_numbers_give_the_same_records() {
    let run = || {
        let mut cluster = Cluster::new(3);
        (0..100)
            .flat_map(|_| {
                let line = random_line(&mut cluster.random);
                cluster.decide(&line).records
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
