//! A port for each shard (corelane.shard.port.offset): clients see a node for each, find what they ask for there, and may
//! send these nodes' ids back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest,
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    ListGroupsRequest, ListTransactionsRequest, OffsetCommitRequest, ProduceRequest, TopicName,
    TransactionalId,
};

use crate::admin::Scrape;
use crate::harness::{Broker, Setup, TempDir, free_ports, run_to_end};
use crate::load::bench;
use crate::wire::{self, PRODUCE, Wire, batch, string};

const NONE: i16 = 0;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;

const OFFSET: &str = "corelane.shard.port.offset";
/// What shards' ids differ by.
const SHARD: i32 = 1_000_000;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Ports from the one behind the listener's on, free for as many shards.
fn setup(shards: u16) -> (Setup, u16) {
    let port = free_ports(1 + shards);
    let setup = Setup::new()
        .shards(usize::from(shards))
        .set("listeners", format!("PLAINTEXT://127.0.0.1:{port}"))
        .set(OFFSET, 1)
        .set("offsets.topic.num.partitions", 8)
        .set("transaction.state.log.num.partitions", 8);
    (setup, port)
}

fn start() -> (Broker, u16) {
    let (setup, port) = setup(2);
    (setup.set("corelane.connection.handover", false).start(), port)
}

/// Node ids and where they are, as Metadata tells them.
fn nodes(bootstrap: &str) -> BTreeMap<i32, String> {
    let answer = Wire::connect(bootstrap).metadata("nobody");
    assert_eq!(answer.controller_id, BrokerId(1));
    let address = |host: &str, port: i32| format!("{host}:{port}");
    answer.brokers.iter().map(|node| (node.node_id.0, address(&node.host, node.port))).collect()
}

fn expected_nodes(first_port: u16, shards: u16) -> BTreeMap<i32, String> {
    let of = |shard: u16| (1 + i32::from(shard) * SHARD, format!("127.0.0.1:{}", first_port + shard));
    (0..shards).map(of).collect()
}

/// The leader of each partition, which has the only replica.
fn leaders(bootstrap: &str, topic: &str) -> Vec<i32> {
    let mut answer = Wire::connect(bootstrap).metadata(topic);
    let mut partitions = answer.topics.remove(0).partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    for partition in &partitions {
        assert_eq!(partition.error_code, NONE);
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
        assert!(partition.offline_replicas.is_empty());
    }
    partitions.iter().map(|partition| partition.leader_id.0).collect()
}

/// The node that coordinates this, and its address.
fn coordinator(wire: &mut Wire, kind: i8, key: &str) -> (i32, String) {
    let request =
        FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![string(key)]);
    let found = wire.call(&request, 6).coordinators.remove(0);
    assert_eq!(found.error_code, NONE);
    (found.node_id.0, format!("{}:{}", found.host, found.port))
}

fn commit(wire: &mut Wire, group: &str, topic: &str) {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(string("")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(string(topic)))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(string(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    assert_eq!(wire.call(&request, 8).topics[0].partitions[0].error_code, NONE);
}

fn groups(wire: &mut Wire) -> Vec<String> {
    let answer = wire.call(&ListGroupsRequest::default(), 5);
    assert_eq!(answer.error_code, NONE);
    answer.groups.iter().map(|group| group.group_id.to_string()).collect()
}

#[test]
fn every_answer_tells_the_same_nodes() {
    let (broker, port) = start();
    let banner = broker.banner().join("\n");
    assert!(banner.contains(&format!("one port per shard: {}-{}", port + 1, port + 2)), "{banner}");
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("t");
    wire.create_topic(&topic, 4, &[]);
    let nodes = nodes(broker.bootstrap());
    assert_eq!(nodes, expected_nodes(port + 1, 2));
    // by any port
    assert_eq!(self::nodes(&nodes[&(1 + SHARD)]), nodes);

    let cluster = wire.call(&DescribeClusterRequest::default().with_endpoint_type(1), 2);
    let told = cluster.brokers.iter();
    let told: BTreeMap<i32, String> =
        told.map(|node| (node.broker_id.0, format!("{}:{}", node.host, node.port))).collect();
    assert_eq!((told, cluster.controller_id), (nodes.clone(), BrokerId(1)));

    let leaders = leaders(broker.bootstrap(), &topic);
    assert_eq!(leaders.iter().collect::<BTreeSet<_>>(), nodes.keys().collect());
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![TopicRequest::default().with_name(TopicName(string(&topic)))])
        .with_response_partition_limit(10);
    let partitions = wire.call(&request, 0).topics.remove(0).partitions;
    for (partition, leader) in partitions.iter().zip(&leaders) {
        assert_eq!(partition.leader_id.0, *leader);
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
    }

    for kind in [GROUP, TRANSACTION] {
        let found: BTreeMap<i32, String> =
            (0..32).map(|number| coordinator(&mut wire, kind, &format!("{number}"))).collect();
        assert_eq!(found, nodes, "each coordinates some of them");
    }
}

#[test]
fn a_leaders_port_leads_to_the_shard_that_has_the_partition() {
    const ROUNDS: usize = 100;
    let (broker, _) = start();
    let nodes = nodes(broker.bootstrap());
    let mut shared = Wire::connect(broker.bootstrap());
    let topic = wire::unique("t");
    shared.create_topic(&topic, 4, &[]);
    let leaders = leaders(broker.bootstrap(), &topic);
    let coordinators: Vec<_> =
        (0..8).map(|group| coordinator(&mut shared, GROUP, &format!("{group}")).1).collect();
    let ask = |wire: &mut Wire, partition: i32| {
        let answer = wire.produce(&topic, partition, -1, batch(&[Bytes::from_static(b"value")]));
        assert_eq!(answer.error_code, NONE);
        let read = wire.fetch(&topic, partition, answer.base_offset, 0);
        assert_eq!(read.error_code, NONE);
        assert!(read.records.is_some_and(|records| !records.is_empty()));
    };
    let crossed = || Scrape::of(&broker).sum("corelane_shard_messages_sent_total", &[]);

    let before = crossed();
    for (partition, leader) in (0..).zip(&leaders) {
        let mut wire = Wire::connect(&nodes[leader]);
        (0..ROUNDS).for_each(|_| ask(&mut wire, partition));
    }
    for (group, address) in coordinators.iter().enumerate() {
        let mut wire = Wire::connect(address);
        (0..ROUNDS).for_each(|_| commit(&mut wire, &format!("{group}"), &topic));
    }
    // the scrapes themselves, and now and then the house-keeping
    let by_own_ports = crossed() - before;
    assert!(by_own_ports < 20.0, "{by_own_ports} messages for {} requests", 16 * ROUNDS);

    // wherever this connection is, half of the partitions are elsewhere: a message and an answer each
    let before = crossed();
    (0..ROUNDS).for_each(|_| (0..4).for_each(|partition| ask(&mut shared, partition)));
    let by_the_shared_port = crossed() - before;
    assert!(by_the_shared_port >= (8 * ROUNDS) as f64, "{by_the_shared_port} messages");
}

/// What a client gets that asks every node and adds the answers up, as the tools do.
#[test]
fn answers_add_up_over_the_nodes() {
    const COUNT: usize = 24;
    let (broker, _) = start();
    let nodes = nodes(broker.bootstrap());
    let mut shared = Wire::connect(broker.bootstrap());
    let topic = wire::unique("t");
    shared.create_topic(&topic, 6, &[]);
    let leaders = leaders(broker.bootstrap(), &topic);
    let names: BTreeSet<String> = (0..COUNT).map(|number| format!("name-{number}")).collect();
    let mut by_coordinator: BTreeMap<(i8, i32), BTreeSet<String>> = BTreeMap::new();
    for name in &names {
        for kind in [GROUP, TRANSACTION] {
            let (node, address) = coordinator(&mut shared, kind, name);
            by_coordinator.entry((kind, node)).or_default().insert(name.clone());
            let mut wire = Wire::connect(&address);
            if kind == GROUP {
                commit(&mut wire, name, &topic);
                continue;
            }
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(string(name))))
                .with_transaction_timeout_ms(60_000);
            assert_eq!(wire.call(&request, 4).error_code, NONE);
        }
    }
    let transactions = |wire: &mut Wire| {
        let request = ListTransactionsRequest::default().with_duration_filter(-1);
        let answer = wire.call(&request, 1);
        assert_eq!(answer.error_code, NONE);
        let ids = answer.transaction_states.iter().map(|state| state.transactional_id.to_string());
        ids.collect::<Vec<_>>()
    };
    let logs = |wire: &mut Wire| {
        let answer = wire.call(&DescribeLogDirsRequest::default().with_topics(None), 4);
        let [directory] = &answer.results[..] else { panic!("one directory: {answer:?}") };
        assert_eq!(directory.error_code, NONE);
        assert!(directory.total_bytes > 0);
        let ours = directory.topics.iter().filter(|told| told.name.as_str() == topic);
        let indexes = ours.flat_map(|told| told.partitions.iter().map(|log| log.partition_index));
        indexes.collect::<Vec<_>>()
    };

    let (mut every_group, mut every_transaction, mut every_log) = (Vec::new(), Vec::new(), Vec::new());
    for (node, address) in &nodes {
        let mut wire = Wire::connect(address);
        let told = groups(&mut wire);
        assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), by_coordinator[&(GROUP, *node)]);
        every_group.extend(told);
        let told = transactions(&mut wire);
        assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), by_coordinator[&(TRANSACTION, *node)]);
        every_transaction.extend(told);
        let told = logs(&mut wire);
        assert!(told.iter().all(|&index| leaders[usize::try_from(index).unwrap()] == *node), "{told:?}");
        every_log.extend(told);
    }
    for mut found in [every_group, groups(&mut shared), every_transaction, transactions(&mut shared)] {
        found.sort();
        let mut expected: Vec<_> = names.iter().cloned().collect();
        expected.sort();
        assert_eq!(found, expected, "each once");
    }
    for mut found in [every_log, logs(&mut shared)] {
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5], "each once");
    }
}

/// It speaks to the node it has connected to, wherever the broker serves it.
#[test]
fn a_connection_that_is_handed_over_stays_its_nodes() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let broker = setup(2).0.start();
    let nodes = nodes(broker.bootstrap());
    let mut shared = Wire::connect(broker.bootstrap());
    let topic = wire::unique("t");
    shared.create_topic(&topic, 2, &[]);
    let elsewhere = leaders(broker.bootstrap(), &topic).iter().position(|&leader| leader == 1 + SHARD);
    let elsewhere = i32::try_from(elsewhere.expect("each shard has one")).unwrap();
    coordinator(&mut shared, GROUP, "0");
    (0..16).for_each(|group| commit(&mut shared, &format!("{group}"), &topic));
    let mut wire = Wire::connect(&nodes[&1]);
    let before = groups(&mut wire);
    assert!(!before.is_empty() && before.len() < 16, "{before:?}");
    let begun = Instant::now();
    while Scrape::of(&broker).sum("corelane_connections_handed_over_total", &[("shard", "0")]) == 0.0 {
        assert!(begun.elapsed() < PATIENCE, "not handed over within {PATIENCE:?}");
        let request = wire::produce_request(&topic, elsewhere, -1, batch(&[Bytes::from_static(b"value")]));
        let sent: Vec<_> = (0..40).map(|_| wire.send(&request, PRODUCE)).collect();
        sent.into_iter().for_each(|id| drop(wire.receive::<ProduceRequest>(id, PRODUCE)));
        // a shard that is busy takes no connections
        thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(groups(&mut wire), before);
}

fn create(wire: &mut Wire, topic: &str, brokers: &[i32]) -> i16 {
    let ids = brokers.iter().copied().map(BrokerId).collect();
    let assignment = CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(ids);
    let topic = CreatableTopic::default()
        .with_name(TopicName(string(topic)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(&request, 7).topics[0].error_code
}

fn extend(wire: &mut Wire, topic: &str, count: i32, brokers: &[i32]) -> i16 {
    let ids = brokers.iter().copied().map(BrokerId).collect();
    let topic = CreatePartitionsTopic::default()
        .with_name(TopicName(string(topic)))
        .with_count(count)
        .with_assignments(Some(vec![CreatePartitionsAssignment::default().with_broker_ids(ids)]));
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(&request, 3).results[0].error_code
}

fn reassign(wire: &mut Wire, topic: &str, brokers: &[i32]) -> i16 {
    let ids = brokers.iter().copied().map(BrokerId).collect();
    let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(Some(ids));
    let topic =
        ReassignableTopic::default().with_name(TopicName(string(topic))).with_partitions(vec![partition]);
    let request =
        AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(&request, 1).responses[0].partitions[0].error_code
}

const BROKER: i8 = 4;
const LOGGER: i8 = 8;

/// Of each named broker the name it is told by, the error and the value of this key.
fn describe(wire: &mut Wire, kind: i8, names: &[&str], key: &str) -> Vec<(String, i16, Option<String>)> {
    let resource = |name: &&str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(string(name))
            .with_configuration_keys(Some(vec![string(key)]))
    };
    let request = DescribeConfigsRequest::default().with_resources(names.iter().map(resource).collect());
    let results = wire.call(&request, 4).results.into_iter();
    let told = results.map(|result| {
        let value = result.configs.first().and_then(|config| config.value.as_ref());
        (result.resource_name.to_string(), result.error_code, value.map(ToString::to_string))
    });
    told.collect()
}

fn alter(wire: &mut Wire, names: &[&str], key: &str, value: &str) -> Vec<(String, i16)> {
    let config = AlterableConfig::default().with_name(string(key)).with_value(Some(string(value)));
    let resource = |name: &&str| {
        AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(string(name))
            .with_configs(vec![config.clone()])
    };
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(names.iter().map(resource).collect());
    let responses = wire.call(&request, 1).responses.into_iter();
    responses.map(|response| (response.resource_name.to_string(), response.error_code)).collect()
}

#[test]
fn ids_are_understood_when_they_are_sent_back() {
    let (broker, _) = start();
    let mut wire = Wire::connect(broker.bootstrap());
    let wire = &mut wire;
    let (one, other) = (1, 1 + SHARD);
    for (number, brokers, error) in [
        (0, &[one][..], NONE),
        (1, &[other], NONE),
        (2, &[one, other], INVALID_REPLICA_ASSIGNMENT),
        (3, &[1 + 2 * SHARD], INVALID_REPLICA_ASSIGNMENT),
        (4, &[2], INVALID_REPLICA_ASSIGNMENT),
        (5, &[2 + SHARD], INVALID_REPLICA_ASSIGNMENT),
        (6, &[-1], INVALID_REPLICA_ASSIGNMENT),
    ] {
        assert_eq!(create(wire, &format!("t{number}"), brokers), error, "{brokers:?}");
    }
    assert_eq!(extend(wire, "t0", 2, &[other]), NONE);
    assert_eq!(extend(wire, "t0", 3, &[other, one]), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(wire, "t0", &[other]), NONE);
    assert_eq!(reassign(wire, "t1", &[one]), NONE);
    assert_eq!(reassign(wire, "t1", &[one, other]), INVALID_REPLICA_ASSIGNMENT);

    let told = |name: &str, value: &str| (name.to_owned(), NONE, Some(value.to_owned()));
    let refused = |name: &str| (name.to_owned(), INVALID_REQUEST, None);
    assert_eq!(describe(wire, BROKER, &["1000001"], "node.id"), [told("1000001", "1")]);
    assert_eq!(
        describe(wire, BROKER, &["1000001", "1", "2000001", "+1000001", "1000002"], "node.id"),
        [told("1000001", "1"), told("1", "1"), refused("2000001"), refused("+1000001"), refused("1000002")]
    );
    assert_eq!(describe(wire, LOGGER, &["1000001", "2000001"], "root")[0].1, NONE);
    assert_eq!(describe(wire, LOGGER, &["1000001", "2000001"], "root")[1].1, INVALID_REQUEST);

    let key = "max.connections";
    assert_eq!(alter(wire, &["1000001"], key, "5000"), [("1000001".to_owned(), NONE)]);
    assert_eq!(describe(wire, BROKER, &["1"], key), [told("1", "5000")]);
    let twice = ["1", "1000001"].map(|name| (name.to_owned(), INVALID_REQUEST));
    assert_eq!(alter(wire, &["1", "1000001"], key, "6000"), twice);
    assert_eq!(alter(wire, &["2000001"], key, "6000")[0].1, INVALID_REQUEST);
    assert_eq!(describe(wire, BROKER, &["1000001"], key), [told("1000001", "5000")]);
}

#[test]
fn without_the_option_nothing_is_different() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("t");
    wire.create_topic(&topic, 4, &[]);
    assert_eq!(nodes(broker.bootstrap()), [(1, broker.bootstrap().to_owned())].into());
    assert_eq!(leaders(broker.bootstrap(), &topic), [1; 4]);
    let (node, address) = coordinator(&mut wire, GROUP, "g");
    assert_eq!((node, &*address), (1, broker.bootstrap()));
    assert_eq!(create(&mut wire, "assigned", &[1 + SHARD]), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(describe(&mut wire, BROKER, &["1000001"], "node.id")[0].1, INVALID_REQUEST);
    assert!(!broker.banner().join("\n").contains("per shard"));
}

#[test]
fn restarts_with_other_shards_keep_everything() {
    const PARTITIONS: i32 = 6;
    let (setup, port) = setup(3);
    let mut broker = setup.shards(2).start();
    let topic = wire::unique("t");
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    let mut written = 0;
    let mut write_and_read = |broker: &Broker| {
        let nodes = nodes(broker.bootstrap());
        let leaders = leaders(broker.bootstrap(), &topic);
        assert_eq!(leaders.iter().collect::<BTreeSet<_>>(), nodes.keys().collect());
        written += 1;
        for (partition, leader) in (0..).zip(&leaders) {
            let mut wire = Wire::connect(&nodes[leader]);
            let value = Bytes::from(format!("{written}"));
            assert_eq!(wire.produce(&topic, partition, -1, batch(&[value])).error_code, NONE);
            assert_eq!(wire.read_all(&topic, partition).len(), written);
        }
        nodes
    };
    assert_eq!(write_and_read(&broker), expected_nodes(port + 1, 2));
    for shards in [3, 1, 2] {
        broker.stop();
        broker.restart_on(usize::from(shards));
        assert_eq!(write_and_read(&broker), expected_nodes(port + 1, shards));
    }
    broker.kill();
    broker.restart_with(&["--set", &format!("{OFFSET}=0")]);
    assert_eq!(write_and_read(&broker), [(1, broker.bootstrap().to_owned())].into());
    broker.kill();
    broker.restart();
    assert_eq!(write_and_read(&broker), expected_nodes(port + 1, 2));
}

#[test]
fn any_free_ports_are_advertised_as_they_are() {
    let broker = Setup::new().set("listeners", "PLAINTEXT://127.0.0.1:0").set(OFFSET, 1).start();
    let nodes = nodes(broker.bootstrap());
    assert_eq!(nodes.keys().collect::<Vec<_>>(), [&1, &(1 + SHARD)]);
    for address in nodes.values() {
        assert_ne!(address, broker.bootstrap());
        assert_eq!(self::nodes(address), nodes);
    }
}

/// Expects a start that fails and says what to change.
fn refused(command: Command, words: &[&str]) {
    let ended = run_to_end(command);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let line = ended.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
    words.iter().for_each(|word| assert!(line.contains(word), "no `{word}` in {line}"));
}

#[test]
fn ports_that_others_have_are_refused() {
    let dir = TempDir::new();
    let data = dir.path().join("data");
    let port = free_ports(6);
    let listen = |port: u16, more: &str| format!("PLAINTEXT://127.0.0.1:{port}{more}");
    let start = |listeners: String, offset: u16| {
        Setup::new().set("listeners", listeners).set(OFFSET, offset).command(&data, 0)
    };
    // in the settings
    let other = format!(",OTHER://127.0.0.1:{}", port + 2);
    let mut two = start(listen(port, &other), 1);
    two.args(["--set", "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT"]);
    refused(two, &[OFFSET, "of shard 1", &(port + 2).to_string(), "the listener OTHER"]);
    refused(start(listen(port, ""), 60_000), &[OFFSET, "above 65535"]);
    let mut admin = start(listen(port, ""), 1);
    admin.args(["--set", &format!("admin.listener=127.0.0.1:{}", port + 1)]);
    refused(admin, &[OFFSET, "of shard 0", "admin.listener"]);
    // of another process
    let taken = TcpListener::bind(("127.0.0.1", port + 2)).expect("it was free");
    refused(start(listen(port, ""), 1), &[OFFSET, "of shard 1", &(port + 2).to_string(), "in use"]);
    drop(taken);
    // of another broker, which shares no port with anybody
    let (first, second) = (listen(port + 3, ""), listen(port, ""));
    let broker = Setup::new().set("listeners", first).set(OFFSET, 1).start();
    refused(start(second, 4), &[OFFSET, "of shard 0", &(port + 4).to_string(), "in use"]);
    assert_eq!(nodes(broker.bootstrap()), expected_nodes(port + 4, 2));
}

#[test]
fn the_commands_for_people_find_their_way() {
    let (broker, _) = start();
    let ok = |arguments: &[&str]| {
        let mut command = Command::new(crate::harness::binary());
        command.args(arguments).args(["-b", broker.bootstrap()]);
        let ended = run_to_end(command);
        assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    };
    ok(&["topic", "create", "t", "-p", "4"]);
    let mut shared = Wire::connect(broker.bootstrap());
    for partition in 0..4 {
        let value = Bytes::from(format!("value {partition}"));
        assert_eq!(shared.produce("t", partition, -1, batch(&[value])).error_code, NONE);
    }
    let read: BTreeSet<String> = ok(&["topic", "consume", "t", "--exit-at-end"]).into_iter().collect();
    assert_eq!(read, (0..4).map(|partition| format!("value {partition}")).collect());
    let told = ok(&["topic", "describe", "t"]);
    let leads = |node: &str| told.iter().filter(|line| line.split_whitespace().nth(1) == Some(node)).count();
    assert_eq!((leads("1"), leads("1000001")), (2, 2), "{told:?}");

    let groups: Vec<String> = (0..8).map(|group| format!("group-{group}")).collect();
    for group in &groups {
        coordinator(&mut shared, GROUP, group);
        commit(&mut shared, group, "t");
        let described = ok(&["group", "describe", group]).join("\n");
        assert!(described.contains(group.as_str()), "{described}");
    }
    let listed = ok(&["group", "list"]);
    let listed: Vec<_> = listed.iter().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, groups, "each once");
    let line = "produce --records 2000 --warm-up 0s -s 100 -p 4";
    let report = bench(broker.bootstrap(), broker.scratch(), line);
    assert!(report["broker"].is_object(), "one process, whatever its nodes: {report}");
}
