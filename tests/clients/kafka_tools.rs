//! Kafka's own tools, as far as the APIs served reach: kafka-topics, kafka-configs, kafka-get-offsets,
//! kafka-producer-perf-test, kafka-console-consumer on one partition, kafka-cluster, kafka-broker-api-versions,
//! kafka-reassign-partitions between log directories.

use crate::harness::{Broker, Setup, TempDir};
use crate::install::kafka_tool;
use crate::run::{Output, run};
use crate::wire::{self, Wire, batch};
use std::process::Command;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const CONSOLE: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";

fn tool(broker: &Broker, class: &str, arguments: &str) -> Command {
    let mut command = kafka_tool(class);
    command.args(arguments.split_whitespace());
    command.args(["--bootstrap-server", broker.bootstrap()]);
    command
}

fn stdout(output: Output) -> String {
    String::from_utf8(output.stdout).expect("tools print text")
}

/// Runs a tool that must fail and say `words`.
fn refused(mut command: Command, words: &str) {
    let output = command.output().expect("java starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains(words), "{command:?} should say `{words}`:\n{text}");
}

/// One test, one broker: each run of a tool costs a second of a JVM, so they follow one topic through its life.
#[test]
fn a_topics_life_by_kafkas_tools() {
    let broker = Setup::new().shards(2).start();
    let topic = wire::unique("tools");
    let on =
        |class: &str, arguments: &str| stdout(run(tool(&broker, class, &arguments.replace("TOPIC", &topic))));

    let created = on(
        TOPICS,
        "--create --topic TOPIC --partitions 3 --replication-factor 1 --config retention.ms=123456789",
    );
    assert_eq!(created, format!("Created topic {topic}.\n"));
    refused(
        tool(&broker, TOPICS, &format!("--create --topic {topic}")),
        &format!("opic '{topic}' already exists"),
    );
    assert!(on(TOPICS, "--list").lines().any(|line| line == topic));
    let described = on(TOPICS, "--describe --topic TOPIC");
    assert!(described.contains("PartitionCount: 3\tReplicationFactor: 1\tConfigs: "), "{described}");
    assert!(described.contains("retention.ms=123456789"), "{described}");
    for partition in 0..3 {
        assert!(
            described.contains(&format!("\tTopic: {topic}\tPartition: {partition}\tLeader: ")),
            "{described}"
        );
    }

    let produced = on(
        PERF,
        "--topic TOPIC --num-records 20000 --record-size 100 --throughput -1 --command-property acks=all",
    );
    assert!(produced.contains("20000 records sent"), "{produced}");
    let sum = |text: &str| -> usize {
        text.lines()
            .map(|line| {
                line.rsplit(':')
                    .next()
                    .and_then(|end| end.parse::<usize>().ok())
                    .expect("topic:partition:offset")
            })
            .sum()
    };
    let latest = on(OFFSETS, "--topic TOPIC");
    assert_eq!((latest.lines().count(), sum(&latest)), (3, 20_000), "{latest}");
    assert_eq!(
        on(OFFSETS, "--topic TOPIC --time earliest"),
        format!("{topic}:0:0\n{topic}:1:0\n{topic}:2:0\n")
    );
    let read = on(CONSOLE, "--topic TOPIC --partition 1 --offset earliest --max-messages 500");
    assert_eq!(read.lines().filter(|line| line.len() == 100).count(), 500, "records of 100 bytes");

    let dynamic = on(CONFIGS, "--describe --entity-type topics --entity-name TOPIC");
    assert!(dynamic.contains("  retention.ms=123456789 "), "{dynamic}");
    assert!(dynamic.contains("DYNAMIC_TOPIC_CONFIG:retention.ms=123456789"), "{dynamic}");
    let altered =
        on(CONFIGS, "--alter --entity-type topics --entity-name TOPIC --add-config max.message.bytes=2000");
    assert_eq!(altered, format!("Completed updating config for topic {topic}.\n"));
    let all = on(CONFIGS, "--describe --all --entity-type topics --entity-name TOPIC");
    for line in [
        "  max.message.bytes=2000 ",
        "  cleanup.policy=delete ",
        "  compression.type=producer ",
        "  segment.bytes=1073741824 ",
    ] {
        assert!(all.contains(line), "no `{line}` in\n{all}");
    }
    on(CONFIGS, "--alter --entity-type topics --entity-name TOPIC --delete-config max.message.bytes");
    let dynamic = on(CONFIGS, "--describe --entity-type topics --entity-name TOPIC");
    assert!(!dynamic.contains("max.message.bytes"), "{dynamic}");
    refused(
        tool(
            &broker,
            CONFIGS,
            &format!("--alter --entity-type topics --entity-name {topic} --add-config no.such.config=1"),
        ),
        "InvalidConfigurationException",
    );

    assert!(on(CLUSTER, "cluster-id").starts_with("Cluster ID: "));
    let versions = on(API_VERSIONS, "");
    assert!(versions.contains("Produce(0): 0 to 13 [usable: 13]"), "{versions}");

    assert_eq!(on(TOPICS, "--delete --topic TOPIC"), "");
    assert!(!on(TOPICS, "--list").lines().any(|line| line == topic));
    refused(tool(&broker, TOPICS, &format!("--describe --topic {topic}")), "does not exist as expected");
}

/// As an operator moves a partition to another disk.
#[test]
fn kafkas_tool_moves_a_replica_to_another_log_directory() {
    let scratch = TempDir::new();
    let directories = ["one", "two"].map(|name| scratch.path().join(name));
    let paths = directories.each_ref().map(|path| path.display().to_string());
    let broker = Setup::new().set("log.dirs", paths.join(",")).start();
    let topic = wire::unique("moved");
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic(&topic, 1, &[]);
    for number in 0..100 {
        let answer = wire.produce(&topic, 0, -1, batch(&[format!("{number}").into()]));
        assert_eq!((answer.error_code, answer.base_offset), (0, number));
    }
    let folder = format!("{topic}-0");
    let from = directories.iter().position(|directory| directory.join(&folder).is_dir());
    let to = &directories[1 - from.expect("the partition has a folder")];
    let plan = scratch.path().join("plan.json");
    let partition =
        format!(r#"{{"topic":"{topic}","partition":0,"replicas":[1],"log_dirs":["{}"]}}"#, to.display());
    std::fs::write(&plan, format!(r#"{{"version":1,"partitions":[{partition}]}}"#))
        .expect("target/tmp is writable");
    let reassign = |what: &str| {
        stdout(run(tool(&broker, REASSIGN, &format!("{what} --reassignment-json-file {}", plan.display()))))
    };
    let executed = reassign("--execute");
    assert!(executed.contains("Successfully started moving log directory to "), "{executed}");
    // each run takes the tool a second or two
    let told = (0..30).map(|_| reassign("--verify")).find(|told| !told.contains("is still in progress"));
    let told = told.expect("a small log moves in less than a minute");
    assert!(told.contains(&format!("Reassignment of replica {topic}-0-1 completed successfully.")), "{told}");
    assert!(to.join(&folder).is_dir());
    assert_eq!(wire.read_all(&topic, 0).len(), 100);
}
