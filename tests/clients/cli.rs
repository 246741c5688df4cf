//! `corelane topic`, `config` and `cluster` against Apache Kafka: they speak to any broker. And the partition that a key
//! has: the same as by Java's producer.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use corelane_perf::compare::Process;
use serde_json::{Value, json};

use crate::harness::{TempDir, free_port};
use crate::install::{kafka, kafka_tool};
use crate::run::run_with;

#[test]
fn the_commands_for_people_work_against_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let started: Process =
        kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    let bootstrap = format!("127.0.0.1:{port}");
    let corelane = |words: &str, input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(words.split(' ')).args(["-b", &bootstrap]);
        String::from_utf8(run_with(command, input.as_bytes().to_vec()).stdout).expect("text")
    };
    let json_of = |words: &str| -> Value {
        serde_json::from_str(&corelane(&format!("{words} --json"), "")).expect("one JSON document")
    };

    let created = corelane("topic create orders -p 2 -c retention.ms=60000", "");
    assert_eq!(created, "created topic orders: 2 partitions, 1 replica\n");
    corelane("topic alter orders -p 7 -c max.message.bytes=2000 -d retention.ms", "");
    let told = json_of("topic describe orders");
    assert_eq!(told["topics"][0]["configs"], json!({ "max.message.bytes": "2000" }));
    assert_eq!(told["topics"][0]["partitions"].as_array().map(Vec::len), Some(7));
    assert_eq!(json_of("cluster describe")["partitions"], 7);
    let node = json_of("config describe broker --all");
    let configs = node["configs"].as_array().expect("configs");
    assert!(configs.iter().any(|config| config["name"] == "num.io.threads"), "{node}");

    keys(&corelane, &bootstrap);

    // timestamps, headers and what is none, through a copy
    let lines = "0 1700000000000 a [] one\n0 1700000000001 ~ [trace=7,none=~] two words\n1 5 c [] ~\n";
    corelane("topic create first -p 2", "");
    corelane("topic create second -p 2", "");
    let format = "%p\\x20%T\\x20%k\\x20[%h]\\x20%v";
    let produce = |topic: &str, codec: &str, input: &str| {
        corelane(&format!("topic produce {topic} --null ~ --codec {codec} -f {format}"), input)
    };
    let consume = |topic: &str| corelane(&format!("topic consume {topic} --null ~ -e -f {format}"), "");
    produce("first", "zstd", lines);
    assert_eq!(sorted(&consume("first")), sorted(lines));
    produce("second", "none", &consume("first"));
    assert_eq!(sorted(&consume("second")), sorted(lines));
    let late = corelane("topic consume first --from @1700000000001 -p 0 -e", "");
    assert_eq!(late, "two words\n");

    assert_eq!(json_of("topic delete orders first")["deleted"], json!(["orders", "first"]));
    // Kafka answers before its own copy of the metadata has followed
    let deadline = Instant::now() + Duration::from_secs(30);
    let names = || -> Vec<Value> {
        let listed = json_of("topic list");
        listed["topics"].as_array().expect("topics").iter().map(|topic| topic["name"].clone()).collect()
    };
    while names() != ["by-java", "second"] {
        assert!(Instant::now() < deadline, "{:?}", names());
    }
    started.stop().expect("Kafka stops");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Keys of every length up to 40, through Java's producer and through ours.
fn keys(corelane: &impl Fn(&str, &str) -> String, bootstrap: &str) {
    let input: String = (1..=40)
        .map(|length| format!("{}=x\n", &"k1-rel3:name/of+any~sort_wanted".repeat(2)[..length]))
        .collect();
    corelane("topic create by-java -p 7", "");
    let mut java = kafka_tool("org.apache.kafka.tools.ConsoleProducer");
    java.args(["--bootstrap-server", bootstrap, "--topic", "by-java"]);
    java.args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=="]);
    run_with(java, input.clone().into_bytes());
    corelane("topic produce orders -f %k=%v", &input);
    let places = |topic: &str| -> BTreeMap<String, String> {
        let text = corelane(&format!("topic consume {topic} -e -f %k=%p"), "");
        text.lines()
            .map(|line| line.split_once('=').expect("key and partition"))
            .map(|(key, partition)| (key.to_owned(), partition.to_owned()))
            .collect()
    };
    let by_java = places("by-java");
    assert_eq!(by_java.len(), 40);
    assert_eq!(places("orders"), by_java);
}
