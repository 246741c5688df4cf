//! Clients of a broker whose shards have ports of their own, and so are nodes to them: records and groups by kafka-python,
//! confluent-kafka-python and Java, and Kafka's tools, which ask every node.

use std::collections::BTreeSet;

use crate::groups::clients::{Client, confluent, java, kafka_python};
use crate::groups::group::Group;
use crate::harness::{Broker, Setup, free_ports};
use crate::install::{kafka_tool, script};
use crate::run::{run, run_with};
use crate::wire::{self, Wire};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 20_000;

fn broker() -> Broker {
    let port = free_ports(3);
    Setup::new()
        .shards(2)
        .set("listeners", format!("PLAINTEXT://127.0.0.1:{port}"))
        .set("corelane.shard.port.offset", 1)
        .set("group.initial.rebalance.delay.ms", 0)
        .start()
}

/// Records written and read by themselves, and by two members of a group that share them.
fn serve(python: &str, client: Client) {
    let mut broker = broker();
    let prefix = wire::unique("trip");
    Wire::connect(broker.bootstrap()).create_topic(&format!("{prefix}-none"), PARTITIONS, &[]);
    let base_ms = wire::now_ms().to_string();
    for action in ["write", "read"] {
        let mut command = script(python);
        command.arg(action).args(["--bootstrap", broker.bootstrap(), "--prefix", &prefix]);
        command.args(["--codecs", "none", "--partitions", &PARTITIONS.to_string()]);
        command.args(["--base-ms", &base_ms, "--count", &RECORDS.to_string()]);
        run(command);
    }
    group(&broker, client);
    broker.stop();
}

fn group(broker: &Broker, client: Client) {
    let name = wire::unique(client.name);
    let mut group = Group::new(broker.bootstrap(), broker.scratch(), client, &name, 6);
    group.grow(1, RECORDS);
    group.grow(2, RECORDS);
    group.caught_up();
    assert_eq!(group.repeated(), 0);
    group.end();
}

#[test]
fn kafka_python_speaks_to_shards() {
    serve("kafka_python_roundtrip.py", kafka_python("range"));
}

#[test]
fn confluent_kafka_python_speaks_to_shards() {
    serve("confluent_roundtrip.py", confluent("consumer"));
}

#[test]
fn java_and_its_tools_speak_to_shards() {
    let mut broker = broker();
    let topic = wire::unique("tools");
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    let tool = |class: &str, arguments: &str, input: &str| {
        let mut command = kafka_tool(class);
        command.args(["--bootstrap-server", broker.bootstrap()]);
        command.args(arguments.replace("TOPIC", &topic).split_whitespace());
        String::from_utf8(run_with(command, input.to_owned().into_bytes()).stdout).expect("tools print text")
    };
    let values: BTreeSet<String> = (0..200).map(|number| format!("value-{number}")).collect();
    let lines: String = values.iter().map(|value| format!("{value}=x\n")).collect();
    let keyed = "--topic TOPIC --reader-property parse.key=true --reader-property key.separator==";
    tool("org.apache.kafka.tools.ConsoleProducer", keyed, &lines);
    let read = tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "--topic TOPIC --group readers --from-beginning --max-messages 200 --formatter-property print.key=true \
         --formatter-property print.value=false",
        "",
    );
    assert_eq!(read.lines().map(str::to_owned).collect::<BTreeSet<_>>(), values);

    let described = tool("org.apache.kafka.tools.TopicCommand", "--describe --topic TOPIC", "");
    for leader in ["Leader: 1\tReplicas: 1\tIsr: 1\t", "Leader: 1000001\tReplicas: 1000001\tIsr: 1000001\t"] {
        assert_eq!(described.matches(leader).count(), 3, "{described}");
    }
    let groups = tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--list", "");
    assert_eq!(groups, "readers\n", "once");
    let readers = "--describe --group readers";
    let told = tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", readers, "");
    assert_eq!(told.lines().filter(|line| line.contains(&topic)).count(), 6, "{told}");
    let logs = tool("org.apache.kafka.tools.LogDirsCommand", "--describe --topic-list TOPIC", "");
    for partition in 0..PARTITIONS {
        let log = format!("\"partition\":\"{topic}-{partition}\"");
        assert_eq!(logs.matches(&log).count(), 1, "{logs}");
    }
    let set = "--entity-type brokers --entity-name 1000001 --alter --add-config max.connections=5000";
    tool("kafka.admin.ConfigCommand", set, "");
    let set = tool("kafka.admin.ConfigCommand", "--entity-type brokers --entity-name 1 --describe", "");
    assert!(set.contains("max.connections=5000"), "{set}");
    group(&broker, java("cooperative-sticky"));
    broker.stop();
}
