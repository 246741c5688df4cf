//! The same script of Kafka's own tools against corelane and against Apache Kafka, side by side: what they print agrees,
//! names, ids and addresses aside. Each run of a tool costs a second or two of a JVM.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use corelane_perf::compare::Process;

use crate::harness::{Setup, TempDir, free_port};
use crate::install::{kafka, kafka_tool};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";

/// What of a tool's output is compared.
#[derive(Clone, Copy)]
enum Shown {
    /// All of it, numbers of things that grow by themselves aside.
    Whole,
    /// What this makes of it.
    As(fn(&str) -> String),
    /// Not at all: it prints times. How it ends is.
    Nothing,
}

pub struct Step {
    class: &'static str,
    arguments: &'static str,
    shown: Shown,
}

pub const fn step(class: &'static str, arguments: &'static str) -> Step {
    Step { class, arguments, shown: Shown::Whole }
}

pub const fn step_as(class: &'static str, arguments: &'static str, told: fn(&str) -> String) -> Step {
    Step { class, arguments, shown: Shown::As(told) }
}

const fn shown(class: &'static str, arguments: &'static str, shown: Shown) -> Step {
    Step { class, arguments, shown }
}

/// `BOOTSTRAP` and `FOLDER` (with the JSON files) are filled in.
const SCRIPT: &[Step] = &[
    step(CLUSTER, "cluster-id --bootstrap-server BOOTSTRAP"),
    step(CLUSTER, "list-endpoints --bootstrap-server BOOTSTRAP"),
    step(
        TOPICS,
        "--bootstrap-server BOOTSTRAP --create --topic orders --partitions 3 --replication-factor 1 --config retention.ms=86400000 --config max.message.bytes=2000000",
    ),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --create --topic orders"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --create --topic bad --config cleanup.policy=never"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --create --topic two --replication-factor 2 --partitions 1"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --list"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --describe --topic orders"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --alter --topic orders --partitions 4"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --alter --topic orders --partitions 2"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --describe --topic nowhere"),
    shown(
        PERF,
        "--bootstrap-server BOOTSTRAP --topic orders --num-records 4000 --record-size 100 --throughput -1",
        Shown::Nothing,
    ),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type topics --entity-name orders --add-config segment.bytes=1048576 --delete-config max.message.bytes",
    ),
    step(CONFIGS, "--bootstrap-server BOOTSTRAP --describe --entity-type topics --entity-name orders"),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type topics --entity-name orders --add-config segment.bytes=no",
    ),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type topics --entity-name orders --add-config no.such.config=1",
    ),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type brokers --entity-name 1 --add-config log.retention.ms=7200000,message.max.bytes=2000000",
    ),
    step(CONFIGS, "--bootstrap-server BOOTSTRAP --describe --entity-type brokers --entity-name 1"),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type brokers --entity-default --add-config log.retention.ms=3600000",
    ),
    step(CONFIGS, "--bootstrap-server BOOTSTRAP --describe --entity-type topics --entity-name orders"),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type brokers --entity-name 1 --add-config log.dirs=elsewhere",
    ),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type brokers --entity-name 1 --delete-config log.retention.ms,message.max.bytes",
    ),
    step(
        CONFIGS,
        "--bootstrap-server BOOTSTRAP --alter --entity-type broker-loggers --entity-name 1 --add-config no.such.Logger=DEBUG",
    ),
    step(DELETE_RECORDS, "--bootstrap-server BOOTSTRAP --offset-json-file FOLDER/delete.json"),
    step(OFFSETS, "--bootstrap-server BOOTSTRAP --topic orders --time earliest"),
    step(OFFSETS, "--bootstrap-server BOOTSTRAP --topic-partitions nowhere:0"),
    step(LOG_DIRS, "--bootstrap-server BOOTSTRAP --describe --topic-list orders"),
    step(REASSIGN, "--bootstrap-server BOOTSTRAP --execute --reassignment-json-file FOLDER/reassign.json"),
    step(REASSIGN, "--bootstrap-server BOOTSTRAP --verify --reassignment-json-file FOLDER/reassign.json"),
    step(REASSIGN, "--bootstrap-server BOOTSTRAP --list"),
    step(ELECTION, "--bootstrap-server BOOTSTRAP --election-type PREFERRED --topic orders --partition 1"),
    step(ELECTION, "--bootstrap-server BOOTSTRAP --election-type UNCLEAN --topic nowhere --partition 0"),
    step_as(QUORUM, "--bootstrap-server BOOTSTRAP describe --status", quorums),
    step_as(QUORUM, "--bootstrap-server BOOTSTRAP describe --replication", quorums),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --delete --topic orders"),
    step(TOPICS, "--bootstrap-server BOOTSTRAP --delete --topic orders"),
];

#[test]
fn kafkas_tools_say_the_same_of_kafka() {
    let scratch = TempDir::new();
    std::fs::write(
        scratch.path().join("delete.json"),
        r#"{"version":1,"partitions":[{"topic":"orders","partition":0,"offset":0},{"topic":"orders","partition":1,"offset":99999999}]}"#,
    )
    .expect("target/tmp is writable");
    std::fs::write(
        scratch.path().join("reassign.json"),
        r#"{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1]},{"topic":"orders","partition":2,"replicas":[1]}]}"#,
    )
    .expect("target/tmp is writable");
    let port = free_port();
    let theirs: Process =
        kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    // what Kafka's settings here say of topics
    let mut ours = Setup::new()
        .shards(2)
        .set("log.segment.bytes", 1_073_741_824)
        .set("log.retention.hours", 168)
        .set("min.insync.replicas", 1)
        .start();

    let (folder, bootstrap) = (scratch.path().to_owned(), format!("127.0.0.1:{port}"));
    let kafka = thread::spawn(move || transcript(SCRIPT, &bootstrap, &folder));
    let own = transcript(SCRIPT, ours.bootstrap(), scratch.path());
    agree(SCRIPT, &own, &kafka.join().expect("the script runs against Kafka"));

    let bootstraps = [ours.bootstrap(), &format!("127.0.0.1:{port}")];
    compare_features(bootstraps.map(features));

    // what corelane serves, Kafka does in these versions, too, and its own tool finds a usable one of each
    let [own, kafka] = bootstraps.map(api_versions);
    for (api, (first, last)) in &own {
        let (theirs_first, theirs_last) = kafka.get(api).unwrap_or_else(|| panic!("Kafka has no {api}"));
        assert!(first >= theirs_first && last <= theirs_last, "{api}: {first} to {last}");
    }
    assert!(own.contains_key("Produce(0)") && own.contains_key("Fetch(1)"), "{own:?}");
    theirs.stop().expect("Kafka stops");
    ours.stop();
}

/// Panics with all the steps that did not print the same.
pub fn agree(script: &[Step], own: &[String], kafka: &[String]) {
    let mut differ = Vec::new();
    for ((step, own), kafka) in script.iter().zip(own).zip(kafka) {
        if own != kafka {
            differ.push(format!("## {} {}\n# corelane\n{own}\n# Kafka\n{kafka}", step.class, step.arguments));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What each step prints, without what differs from broker to broker.
pub fn transcript(script: &[Step], bootstrap: &str, folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("paths of tests are text");
    script
        .iter()
        .map(|step| {
            let mut command = kafka_tool(step.class);
            let arguments = step.arguments.replace("BOOTSTRAP", bootstrap).replace("FOLDER", folder);
            command.args(arguments.split(' '));
            let output = command.output().expect("java starts");
            let text = [&output.stdout[..], &output.stderr[..]].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let said = match step.shown {
                Shown::Whole => plain(&text, bootstrap),
                Shown::As(told) => told(&text),
                Shown::Nothing => String::new(),
            };
            format!("{said}\n{}", output.status)
        })
        .collect()
}

fn quorums(text: &str) -> String {
    text.lines().map(quorum).collect::<Vec<_>>().join("\n")
}

/// A line about the metadata log's quorum: nodes, their roles, the leader's epoch, lags. What cannot agree is only looked
/// at for its form: ids; how far the log has got and when, which Kafka's moves by itself; and the voters' directories and
/// endpoints, since Kafka runs here with a fixed set of voters, which has no directory ids, and a listener for the
/// quorum, where corelane says its directory and its listeners.
fn quorum(line: &str) -> String {
    if let Some((key, value)) = line.split_once(':') {
        let value = value.trim();
        let value = if key == "CurrentVoters" { voters(value) } else { part(value) };
        return format!("{key}: {}", if key == "HighWatermark" { number(&value) } else { value });
    }
    let cells = line.split('\t').map(str::trim).enumerate().map(|(column, cell)| match column {
        // LogEndOffset, LastFetchTimestamp, LastCaughtUpTimestamp
        2 | 4 | 5 => number(cell),
        _ => part(cell),
    });
    cells.collect::<Vec<_>>().join("|")
}

/// One word for every number above 0.
fn number(text: &str) -> String {
    if text.parse().is_ok_and(|number: u64| number > 0) { "NUMBER".to_owned() } else { text.to_owned() }
}

/// The voters' ids, and how many endpoints each has.
fn voters(json: &str) -> String {
    let mut voters: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    for voter in voters.as_array_mut().expect("voters are a list") {
        let voter = voter.as_object_mut().expect("a voter has fields");
        voter.remove("directoryId");
        let endpoints = voter["endpoints"].as_array().expect("endpoints are a list").len();
        voter.insert("endpoints".to_owned(), endpoints.into());
    }
    voters.to_string()
}

/// Ids, addresses, paths, times, sizes, the words of errors and Java's stacks left out, and the order of lines and configs.
fn plain(text: &str, bootstrap: &str) -> String {
    let port = bootstrap.rsplit(':').next().expect("host:port");
    let mut lines: Vec<String> = (text.lines())
        .filter(|line| !line.starts_with("\tat ") && !line.trim().is_empty())
        .map(|line| line.replace(bootstrap, "BOOTSTRAP").replace(port, "PORT"))
        .map(|line| without_time(&cut_behind(&cut_behind(&line, "Exception: "), "command : ")))
        .map(|line| without_sizes(&line))
        // tables are as wide as what is in them
        .map(|line| line.split(' ').filter(|word| !word.is_empty()).map(word).collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Each broker says in its own words what is wrong.
fn cut_behind(line: &str, mark: &str) -> String {
    line.find(mark).map_or(line, |at| &line[..at + mark.len()]).to_owned()
}

fn without_time(line: &str) -> String {
    match line.strip_prefix("[20").and_then(|rest| rest.split_once("] ")) {
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    }
}

/// Batches are as the producer's moments made them.
fn without_sizes(line: &str) -> String {
    const MARK: &str = "\"size\":";
    let mut parts = line.split(MARK);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        done + MARK + rest
    })
}

/// A word with what is the broker's own taken out.
fn word(word: &str) -> String {
    let mut parts: Vec<String> = word.split_inclusive(['\t', ',', '{', '}', '"', ':']).map(part).collect();
    if parts.len() > 1 && word.contains('=') {
        parts.sort();
    }
    parts.concat()
}

fn part(part: &str) -> String {
    let is_id = |text: &str| {
        text.len() == 22
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let end = part.trim_end_matches(['\t', ',', '{', '}', '"', ':']).len();
    let (value, mark) = part.split_at(end);
    let value = match value {
        _ if is_id(value) => "ID",
        _ if value.starts_with('/') => "PATH",
        // a member of a group: its client's id and what the broker makes of it
        _ => match value.len().checked_sub(36).and_then(|at| value.split_at_checked(at)) {
            Some((client, id)) if is_uuid(id) => return format!("{client}UUID{mark}"),
            _ => value,
        },
    };
    format!("{value}{mark}")
}

fn is_uuid(text: &str) -> bool {
    let mut parts = text.split('-');
    [8, 4, 4, 4, 12].iter().all(|length| {
        parts.next().is_some_and(|part| part.len() == *length && part.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// The levels of a feature that a broker supports, and the one it runs at. A level of metadata.version is a release's
/// name.
#[derive(Debug)]
struct Levels {
    least: Vec<u32>,
    most: Vec<u32>,
    now: Vec<u32>,
}

/// By name, what kafka-features tells. It tells an epoch, too, on each line: a number of the broker's own.
fn features(bootstrap: &str) -> BTreeMap<String, Levels> {
    let mut command = kafka_tool(FEATURES);
    command.args(["--bootstrap-server", bootstrap, "describe"]);
    let output = command.output().expect("java starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let features = text.lines().map(|line| {
        // Feature: metadata.version  SupportedMinVersion: 3.3-IV3  SupportedMaxVersion: 4.3-IV0  FinalizedVersionLevel: 4.3-IV0  Epoch: 614
        let words: Vec<&str> = line.split_whitespace().collect();
        let [
            "Feature:",
            name,
            "SupportedMinVersion:",
            least,
            "SupportedMaxVersion:",
            most,
            "FinalizedVersionLevel:",
            now,
            "Epoch:",
            epoch,
        ] = words[..]
        else {
            panic!("{line}")
        };
        assert!(epoch.parse().is_ok_and(|epoch: i64| epoch >= 0), "{line}");
        let level = |text: &str| -> Vec<u32> {
            let numbers = text.split(['.', '-']).map(|number| number.trim_start_matches("IV").parse());
            numbers.collect::<Result<_, _>>().unwrap_or_else(|_| panic!("{line}"))
        };
        (name.to_owned(), Levels { least: level(least), most: level(most), now: level(now) })
    });
    features.collect()
}

/// Which features there are, and their levels, cannot be the same: a level is a promise, and Kafka makes some that
/// corelane does not (see `metadata/features.rs`). But what corelane promises, Kafka knows under that name, and no level
/// is above Kafka's. What is corelane's own says so by its name.
fn compare_features([own, kafka]: [BTreeMap<String, Levels>; 2]) {
    for (name, levels) in &own {
        assert!(levels.least <= levels.now && levels.now <= levels.most, "{name}: {levels:?}");
        if name.starts_with("corelane.") {
            continue;
        }
        let theirs = kafka.get(name).unwrap_or_else(|| panic!("Kafka has no feature {name}"));
        assert!(theirs.least <= levels.least && levels.most <= theirs.most, "{name}: {levels:?}, {theirs:?}");
        assert!(levels.now <= theirs.now, "{name}: {levels:?}, {theirs:?}");
    }
    assert!(own.contains_key("metadata.version") && own.contains_key("corelane.metadata.version"), "{own:?}");
}

/// By API, the versions that the tool is told.
fn api_versions(bootstrap: &str) -> BTreeMap<String, (i16, i16)> {
    let mut command = kafka_tool(API_VERSIONS);
    command.args(["--bootstrap-server", bootstrap]);
    let output = command.output().expect("java starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut versions = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        // Produce(0): 0 to 13 [usable: 13],
        let Some((api, told)) = line.split_once("): ") else { continue };
        let Some((range, usable)) = told.split_once(" [usable: ") else { continue };
        assert!(usable.starts_with(|digit: char| digit.is_ascii_digit()), "{line}");
        let (first, last) = range.split_once(" to ").unwrap_or((range, range));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{line}"));
        versions.insert(format!("{api})"), (number(first), number(last)));
    }
    versions
}
