//! kill -9 amid changes of topics: after the restart every change that was answered is there, and the one that was not
//! is there as a whole or not at all. Snapshots come every few dozen changes. (`tests/sim/metadata.rs` has the power cuts.)

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use crate::harness::{Broker, Setup};
use crate::wire::{Wire, string};

/// That change things side by side, each its own topics: when one of them is answered, the others are anywhere.
const CLIENTS: usize = 3;
const TOPICS: u64 = 4;
const TOPIC_RESOURCE: i8 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Topic {
    /// Nil until somebody has told it.
    id: Uuid,
    partitions: i32,
    retention: String,
}

type Topics = BTreeMap<String, Topic>;

/// What a client was told, and what it asked for last and was not told about.
struct Known {
    client: usize,
    answered: Topics,
    asked: Option<Topics>,
    changes: usize,
    noise: Noise,
}

/// A stream of numbers from a seed (splitmix64).
#[derive(Clone)]
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[test]
fn kills_amid_metadata_changes_lose_none_and_halve_none() {
    survive(300);
}

/// `cargo test --release --test it metadata_kills -- --ignored --nocapture`
#[test]
#[ignore = "takes a minute"]
fn a_thousand_metadata_changes() {
    survive(1_000);
}

fn survive(changes: usize) {
    let seed = u64::from(std::process::id());
    let setup = Setup::new().shards(2).set("metadata.log.max.record.bytes.between.snapshots", 8_192);
    let mut broker = setup.start();
    let mut noise = Noise(seed);
    let mut clients: Vec<Known> = (0..CLIENTS)
        .map(|client| Known {
            client,
            answered: Topics::new(),
            asked: None,
            changes: 0,
            noise: Noise(seed + 1 + client as u64),
        })
        .collect();
    let mut kills = 0;
    let done = |clients: &[Known]| clients.iter().map(|known| known.changes).sum::<usize>();
    while done(&clients) < changes {
        let (answers, answered) = mpsc::channel();
        let running: Vec<_> = (clients.into_iter())
            .map(|mut known| {
                let (wire, answers) = (Wire::connect(broker.bootstrap()), answers.clone());
                std::thread::spawn(move || {
                    known.change_until_killed(wire, &answers);
                    known
                })
            })
            .collect();
        (0..noise.below(30)).for_each(|_| answered.recv().expect("the clients go on"));
        broker.kill();
        kills += 1;
        clients = running.into_iter().map(|client| client.join().expect("it ends with its broker")).collect();
        broker.restart_on(1 + usize::try_from(noise.below(3)).expect("small"));
        let place = format!("seed {seed}, kill {kills}");
        clients.iter_mut().for_each(|known| known.check(&broker, &place));
    }
    println!("{kills} kills amid {} changes, seed {seed}", done(&clients));
    let folder = broker.data().join("__cluster_metadata-0");
    let files = std::fs::read_dir(&folder).expect("the metadata log has a folder");
    let names = files.map(|file| file.expect("a name").file_name().into_string().expect("text"));
    let snapshots = names.filter(|name| name.ends_with(".checkpoint")).count();
    assert_eq!(snapshots, 2, "the newest snapshot and the one before it are in {}", folder.display());
    broker.stop();
}

impl Known {
    fn change_until_killed(&mut self, mut wire: Wire, answers: &mpsc::Sender<()>) {
        while let Ok(()) = self.change(&mut wire) {
            self.changes += 1;
            // after the kill nobody counts them
            let _ = answers.send(());
        }
    }

    fn prefix(&self) -> String {
        format!("t{}-", self.client)
    }

    fn change(&mut self, wire: &mut Wire) -> io::Result<()> {
        let name = format!("{}{}", self.prefix(), self.noise.below(TOPICS));
        let mut asked = self.answered.clone();
        let retention = (1 + self.noise.below(1_000_000)).to_string();
        let what = self.noise.below(4);
        let (error, id) = match (asked.get_mut(&name), what) {
            (None, _) => {
                let partitions = 1 + i32::try_from(self.noise.below(20)).expect("small");
                let topic = Topic { id: Uuid::nil(), partitions, retention };
                asked.insert(name.clone(), topic.clone());
                self.asked = Some(asked.clone());
                create(wire, &name, &topic)?
            }
            (Some(_), 0) => {
                asked.remove(&name);
                self.asked = Some(asked.clone());
                delete(wire, &name)?
            }
            (Some(topic), 1) => {
                topic.partitions += 3;
                let count = topic.partitions;
                self.asked = Some(asked.clone());
                grow(wire, &name, count)?
            }
            (Some(topic), _) => {
                topic.retention.clone_from(&retention);
                self.asked = Some(asked.clone());
                alter(wire, &name, &retention)?
            }
        };
        assert_eq!(error, 0, "{name}: {asked:?}");
        if let (Some(id), Some(topic)) = (id, asked.get_mut(&name)) {
            topic.id = id;
        }
        (self.answered, self.asked) = (asked, None);
        Ok(())
    }

    fn check(&mut self, broker: &Broker, place: &str) {
        let mut wire = Wire::connect(broker.bootstrap());
        let found = found(&mut wire, &self.prefix());
        let as_asked = self.asked.take().map(|mut asked| {
            for (name, topic) in asked.iter_mut().filter(|(_, topic)| topic.id.is_nil()) {
                topic.id = found.get(name).map_or(Uuid::nil(), |topic| topic.id);
            }
            asked
        });
        assert!(
            found == self.answered || as_asked.as_ref() == Some(&found),
            "{place}: answered {:#?}, asked {as_asked:#?}, found {found:#?}",
            self.answered
        );
        for (name, topic) in &found {
            (0..topic.partitions).for_each(|partition| assert_eq!(wire.end_offset(name, partition), 0));
        }
        self.answered = found;
    }
}

fn try_call<R: Request>(wire: &mut Wire, request: &R, version: i16) -> io::Result<R::Response> {
    let id = wire.try_send(request, version)?;
    wire.try_receive::<R>(id, version)
}

type Told = io::Result<(i16, Option<Uuid>)>;

fn create(wire: &mut Wire, name: &str, topic: &Topic) -> Told {
    let config = CreatableTopicConfig::default()
        .with_name(string("retention.ms"))
        .with_value(Some(string(&topic.retention)));
    let topic = CreatableTopic::default()
        .with_name(TopicName(string(name)))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let told = try_call(wire, &request, 7)?.topics.remove(0);
    Ok((told.error_code, Some(told.topic_id)))
}

fn delete(wire: &mut Wire, name: &str) -> Told {
    let names = vec![TopicName(string(name))];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
    Ok((try_call(wire, &request, 5)?.responses.remove(0).error_code, None))
}

fn grow(wire: &mut Wire, name: &str, count: i32) -> Told {
    let topic = CreatePartitionsTopic::default()
        .with_name(TopicName(string(name)))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    Ok((try_call(wire, &request, 3)?.results.remove(0).error_code, None))
}

fn alter(wire: &mut Wire, name: &str, retention: &str) -> Told {
    let config =
        AlterableConfig::default().with_name(string("retention.ms")).with_value(Some(string(retention)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(string(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    Ok((try_call(wire, &request, 1)?.responses.remove(0).error_code, None))
}

fn found(wire: &mut Wire, prefix: &str) -> Topics {
    let topics = wire.call(&MetadataRequest::default().with_topics(None), 12).topics;
    let mut found = Topics::new();
    for topic in topics {
        let name = topic.name.expect("a topic has a name").to_string();
        if !name.starts_with(prefix) {
            continue;
        }
        assert!(topic.partitions.iter().all(|partition| partition.error_code == 0), "{name} is served");
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(string(&name))
            .with_configuration_keys(Some(vec![string("retention.ms")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let config = wire.call(&request, 4).results.remove(0).configs.remove(0);
        let partitions = i32::try_from(topic.partitions.len()).expect("few");
        let retention = config.value.expect("it is set").to_string();
        found.insert(name, Topic { id: topic.topic_id, partitions, retention });
    }
    found
}
