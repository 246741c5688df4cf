//! Tests of the folder: text tables per request kind, and sequences of random decisions.

mod configs;
mod controller;
mod create_partitions;
mod decisions;
mod features;
mod image;
mod partition_leaders;
mod placement;
mod reassignments;
mod record;
mod snapshot;
mod topic_config;

use super::*;
use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId,
    SecurityProtocol, ShardId, TopicId,
};

/// Splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, exclusive.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A controller one talks to in lines of text; see [`Cluster::request`].
struct Cluster {
    controller: Controller,
    random: Random,
}

impl Cluster {
    /// Brokers 1 to `brokers`, registered, without racks.
    fn new(brokers: i32) -> Cluster {
        Cluster::with(Settings::default(), TopicDefaults::default(), brokers)
    }

    fn with(settings: Settings, defaults: TopicDefaults, brokers: i32) -> Cluster {
        let image = Image::new("cluster", defaults).of_broker(BrokerId(1));
        let controller = Controller::new(settings, image);
        let mut cluster = Cluster { controller, random: Random(1) };
        for broker in 1..=brokers {
            let decision = cluster.decide(&format!("register {broker} 100{broker}"));
            assert!(matches!(decision.reply, Reply::Done));
        }
        cluster
    }

    fn image(&self) -> &Image {
        self.controller.image()
    }

    fn id(&self, name: &str) -> TopicId {
        self.image().topic_by_name(name).map_or(TopicId(0xff), |topic| topic.id)
    }

    fn partition(&self, name: &str, index: i32) -> &Partition {
        self.image().partition(PartitionId { topic: self.id(name), index }).unwrap()
    }

    fn decide(&mut self, line: &str) -> Decision {
        let request = self.request(line);
        let random = &mut self.random;
        self.controller.handle(0, &mut || random.next(), request)
    }

    /// - `create [validate] a 3 2 retention.ms=5; b - - @0=1,2 @1=2,1 cleanup.policy`: name, partitions,
    ///   replication factor, assignments, configs (without `=`: null)
    /// - `grow [validate] a 3; b 5 @1,2 @2,1`: name, partitions in all, brokers of each new one (`@` alone: none of
    ///   them named)
    /// - `replace [validate] a k=v k; b …`: all configs (without `=`: null)
    /// - `elect preferred a/0 b/1`, `elect unclean *`: an election for partitions, or for all
    /// - `reassign a/0=2,1 a/1=- a/2=`, `reassign keeping a/0=1`: brokers of partitions (`-`: an empty list, nothing:
    ///   cancel), keeping the replication factor
    /// - `delete a #b #0`: by name, by the id of b, by the zero id
    /// - `alter [validate] a k=v +k=v -k=v !k k; broker/1 …; broker/ …; group/g …`: set, append, subtract, delete, set
    ///   null
    /// - `finalize [validate] f=2 g=1/safe h=0/unsafe i=1/odd`: levels of features, by an upgrade, a downgrade, or
    ///   nothing that is known
    /// - `register 1 77`: broker, incarnation
    /// - `ids 1`: producer ids for a broker
    /// - `assign 1 a/0:200:3`: broker, topic, partition, directory, shard
    fn request(&self, line: &str) -> Request {
        let (verb, rest) = line.split_once(' ').unwrap();
        let (rest, validate_only) = match rest.strip_prefix("validate ") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let items = rest.split(';').map(str::trim);
        let mut words = rest.split(' ');
        match verb {
            "create" => Request::CreateTopics { topics: items.map(create_topic).collect(), validate_only },
            "grow" => {
                Request::CreatePartitions { topics: items.map(create_partitions).collect(), validate_only }
            }
            "replace" => {
                Request::ReplaceConfigs { resources: items.map(replace_configs).collect(), validate_only }
            }
            "finalize" => {
                Request::UpdateFeatures { updates: words.map(feature_update).collect(), validate_only }
            }
            "alter" => Request::AlterConfigs { resources: items.map(alter_configs).collect(), validate_only },
            "delete" => Request::DeleteTopics {
                topics: words
                    .map(|word| match word.strip_prefix('#') {
                        Some("0") => TopicRef::Id(TopicId::ZERO),
                        Some(name) => TopicRef::Id(self.id(name)),
                        None => TopicRef::Name(word.to_owned()),
                    })
                    .collect(),
            },
            "register" => Request::RegisterBroker {
                broker: BrokerId(words.next().unwrap().parse().unwrap()),
                endpoints: vec![Endpoint {
                    listener: "PLAINTEXT".to_owned(),
                    host: "localhost".to_owned(),
                    port: 9092,
                    protocol: SecurityProtocol::Plaintext,
                    shard_ports: Vec::new(),
                }],
                incarnation: words.next().unwrap().parse().unwrap(),
                rack: words.next().map(str::to_owned),
            },
            "elect" => Request::ElectLeaders {
                election: match words.next().unwrap() {
                    "preferred" => Election::Preferred,
                    "unclean" => Election::Unclean,
                    other => panic!("no election {other}"),
                },
                partitions: (!rest.ends_with('*')).then(|| words.map(partition_ref).collect()),
            },
            "reassign" => Request::ReassignPartitions {
                may_change_replication_factor: !rest.starts_with("keeping "),
                partitions: (rest.strip_prefix("keeping ").unwrap_or(rest).split(' '))
                    .map(|word| {
                        let (partition, replicas) = word.split_once('=').unwrap();
                        Reassignment { partition: partition_ref(partition), replicas: brokers(replicas) }
                    })
                    .collect(),
            },
            "ids" => Request::AllocateProducerIds {
                broker: BrokerId(words.next().unwrap().parse().unwrap()),
                shard: ShardId(0),
            },
            "assign" => Request::AssignReplicas {
                broker: BrokerId(words.next().unwrap().parse().unwrap()),
                replicas: words.map(|word| self.assigned(word)).collect(),
            },
            other => panic!("no request {other}"),
        }
    }

    fn assigned(&self, word: &str) -> AssignedReplica {
        let (partition, place) = word.split_once(':').unwrap();
        let (topic, index) = partition.split_once('/').unwrap();
        let (directory, shard) = place.split_once(':').unwrap();
        AssignedReplica {
            partition: PartitionId { topic: self.id(topic), index: index.parse().unwrap() },
            directory: DirectoryId(directory.parse().unwrap()),
            shard: ShardId(shard.parse().unwrap()),
        }
    }

    /// The reply in a line per topic or resource: `a None 3x2`, or `a InvalidConfig: why`.
    fn reply(&mut self, line: &str) -> String {
        match self.decide(line).reply {
            Reply::Topics(results) => results.iter().map(show_result).collect::<Vec<_>>().join("\n"),
            Reply::Configs(results) => results.iter().map(show_configs).collect::<Vec<_>>().join("\n"),
            Reply::Partitions(results) => results.iter().map(show_partition).collect::<Vec<_>>().join("\n"),
            Reply::Features(Ok(())) => "done".to_owned(),
            Reply::Features(Err((error, message))) => format!("{error:?}: {message}"),
            Reply::ProducerIds { first, count } => format!("{}+{count}", first.0),
            Reply::Done => "done".to_owned(),
            Reply::Failed(error) => format!("failed {error:?}"),
        }
    }

    /// Every (request, reply) in turn, on one cluster.
    fn check(&mut self, table: &[(&str, &str)]) {
        for (request, expected) in table {
            assert_eq!(self.reply(request), *expected, "{request}");
        }
    }
}

fn show_result(result: &TopicResult) -> String {
    match &result.message {
        None => {
            assert_eq!(result.error, ErrorCode::None);
            format!("{} None {}x{}", result.name, result.partitions, result.replication_factor)
        }
        Some(message) => {
            assert_ne!(result.error, ErrorCode::None);
            format!("{} {:?}: {message}", result.name, result.error)
        }
    }
}

fn show_configs(result: &ConfigResult) -> String {
    assert_eq!(result.message.is_some(), !result.error.is_none());
    let name = match result.resource.kind {
        ResourceKind::Topic => result.resource.name.clone(),
        ResourceKind::Broker => format!("broker/{}", result.resource.name),
        ResourceKind::Group => format!("group/{}", result.resource.name),
    };
    match &result.message {
        None => format!("{name} None"),
        Some(message) => format!("{name} {:?}: {message}", result.error),
    }
}

fn show_partition(result: &PartitionResult) -> String {
    let PartitionRef { topic, index } = &result.partition;
    assert_eq!(result.message.is_some(), !result.error.is_none());
    match &result.message {
        None => format!("{topic}/{index} None"),
        Some(message) => format!("{topic}/{index} {:?}: {message}", result.error),
    }
}

fn partition_ref(text: &str) -> PartitionRef {
    let (topic, index) = text.split_once('/').unwrap();
    PartitionRef { topic: topic.to_owned(), index: index.parse().unwrap() }
}

fn create_topic(text: &str) -> CreateTopic {
    let mut words = text.split(' ');
    let name = words.next().unwrap().replace('"', "");
    let partitions = words.next().unwrap().parse().ok();
    let replication_factor = words.next().unwrap().parse().ok();
    let mut topic =
        CreateTopic { name, partitions, replication_factor, assignments: Vec::new(), configs: Vec::new() };
    for word in words {
        match (word.strip_prefix('@'), word.split_once('=')) {
            (Some(assignment), _) => {
                let (partition, brokers) = assignment.split_once('=').unwrap();
                let brokers = brokers.split(',').filter_map(|broker| broker.parse().ok().map(BrokerId));
                topic.assignments.push((partition.parse().unwrap(), brokers.collect()));
            }
            (None, Some((key, value))) => topic.configs.push((key.to_owned(), Some(value.to_owned()))),
            (None, None) => topic.configs.push((word.to_owned(), None)),
        }
    }
    topic
}

fn feature_update(text: &str) -> FeatureUpdate {
    let (feature, level) = text.split_once('=').unwrap();
    let (level, upgrade) = level.split_once('/').unwrap_or((level, "upgrade"));
    let upgrade = match upgrade {
        "upgrade" => Some(UpgradeType::Upgrade),
        "safe" => Some(UpgradeType::SafeDowngrade),
        "unsafe" => Some(UpgradeType::UnsafeDowngrade),
        _ => None,
    };
    FeatureUpdate { feature: feature.to_owned(), level: level.parse().unwrap(), upgrade }
}

fn create_partitions(text: &str) -> CreatePartitions {
    let mut words = text.split(' ');
    let topic = words.next().unwrap().to_owned();
    let count = words.next().unwrap().parse().unwrap();
    let assignments: Vec<&str> = words.map(|word| word.strip_prefix('@').unwrap()).collect();
    CreatePartitions {
        topic,
        count,
        assignments: (!assignments.is_empty()).then(|| assignments.into_iter().filter_map(brokers).collect()),
    }
}

/// `1,2`; `-` is an empty list and nothing is none.
fn brokers(text: &str) -> Option<Vec<BrokerId>> {
    match text {
        "" => None,
        "-" => Some(Vec::new()),
        ids => Some(ids.split(',').map(|id| BrokerId(id.parse().unwrap())).collect()),
    }
}

/// `a`, `broker/1`, `broker/`, `group/g`
fn config_resource(text: &str) -> ConfigResource {
    let text = text.replace('"', "");
    let (kind, name) = match text.split_once('/') {
        Some(("broker", name)) => (ResourceKind::Broker, name),
        Some(("group", name)) => (ResourceKind::Group, name),
        _ => (ResourceKind::Topic, text.as_str()),
    };
    ConfigResource { kind, name: name.to_owned() }
}

fn replace_configs(text: &str) -> ReplaceConfigs {
    let mut words = text.split(' ');
    let resource = config_resource(words.next().unwrap());
    let configs = words.map(|word| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    });
    ReplaceConfigs { resource, configs: configs.collect() }
}

fn alter_configs(text: &str) -> AlterConfigs {
    let mut words = text.split(' ');
    let resource = config_resource(words.next().unwrap());
    let changes = words.map(|word| {
        let (operation, word) = match word.as_bytes()[0] {
            b'+' => (ConfigOperation::Append, &word[1..]),
            b'-' => (ConfigOperation::Subtract, &word[1..]),
            b'!' => (ConfigOperation::Delete, &word[1..]),
            _ => (ConfigOperation::Set, word),
        };
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        ConfigChange { key: key.to_owned(), operation, value }
    });
    AlterConfigs { resource, changes: changes.collect() }
}
