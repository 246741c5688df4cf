//! Records in through `topic produce` and out through `topic consume`.

use super::{json_of, ok, refused_by};
use crate::harness::Broker;
use crate::wire::unique;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

/// Produces what is given on stdin and expects success; what it says.
fn produce(broker: &Broker, input: &[u8], arguments: &[&str]) -> String {
    let ended = try_produce(broker, input, arguments);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(ended.stdout).expect("text")
}

fn try_produce(broker: &Broker, input: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["topic", "produce", "-b", broker.bootstrap()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let written = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(written.is_ok() || !output.status.success(), "it has read its input: {written:?}");
    output
}

fn consume(broker: &Broker, arguments: &[&str]) -> Vec<String> {
    ok(broker, &[&["topic", "consume", "--exit-at-end"], arguments].concat())
}

#[test]
fn lines_go_in_and_come_out() {
    let broker = Broker::start();
    let topic = unique("lines");
    ok(&broker, &["topic", "create", &topic, "-p", "1"]);
    assert_eq!(consume(&broker, &[&topic]), [""; 0], "nothing is in it, and its end is there");
    assert_eq!(produce(&broker, b"one\ntwo\n\nfour", &[&topic]), format!("produced 4 records to {topic}\n"));
    assert_eq!(produce(&broker, b"five\n", &[&topic]), format!("produced 1 record to {topic}\n"));
    assert_eq!(produce(&broker, b"", &[&topic]), format!("produced 0 records to {topic}\n"));
    let all = ["one", "two", "", "four", "five"];
    assert_eq!(consume(&broker, &[&topic]), all);
    for (from, expect) in [
        ("beginning", &all[..]),
        ("end", &[]),
        ("2", &all[2..]),
        ("-2", &all[3..]),
        ("5", &[]),
        ("1h", &all[..]),
    ] {
        assert_eq!(consume(&broker, &[&topic, "--from", from]), expect, "from {from}");
    }
    // without --exit-at-end a count ends it
    assert_eq!(ok(&broker, &["topic", "consume", &topic, "-n", "3"]), all[..3]);
    let told = json_of(&broker, &["topic", "describe", &topic]);
    assert_eq!(told["topics"][0]["partitions"][0]["end_offset"], 5);
}

#[test]
fn keys_headers_and_timestamps_make_the_round_trip() {
    let broker = Broker::start();
    let (first, second) = (unique("first"), unique("second"));
    for topic in [&first, &second] {
        ok(&broker, &["topic", "create", topic, "-p", "3"]);
    }
    let format = "%p %T %k [%h] %v";
    let lines = [
        "0 1700000000000 a [] one",
        "0 1700000000001 b [trace=7,trace=8,note=x\\,y] two words",
        "1 1700000005000 ~ [none=~] ~",
        "2 1700000009000 c [] [in brackets]",
    ];
    let input = lines.join("\n") + "\n";
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let arguments = ["--null", "~", "--codec", codec, "--json", &first, "-f", format];
        let told: Value =
            serde_json::from_str(&produce(&broker, input.as_bytes(), &arguments)).expect("JSON");
        assert_eq!((&told["topic"], &told["records"]), (&json!(first), &json!(4)));
    }
    let read = |topic: &str, arguments: &[&str]| {
        consume(&broker, &[&[topic, "--null", "~", "-f", format], arguments].concat())
    };
    let of_partition: Vec<&str> = [&lines[..2]; 5].concat();
    assert_eq!(read(&first, &["-p", "0"]), of_partition);
    let mut all = read(&first, &[]);
    assert_eq!(all.len(), 20);
    // what one has written the other reads, offset and topic included
    let whole = "%t %o %T %p %k [%h] %v;\\n";
    let written = consume(&broker, &[&first, "--null", "~", "-f", whole]).join("\n") + "\n";
    produce(&broker, written.as_bytes(), &[&second, "--null", "~", "-f", whole]);
    let mut copy = read(&second, &[]);
    all.sort();
    copy.sort();
    assert_eq!(copy, all);
    // from a time on
    let late = read(&first, &["--from", "2023-11-14T22:13:21Z"]);
    assert_eq!(late.len(), 10, "{late:?}");
    assert_eq!(read(&first, &["--from", "@1700000009001"]), [""; 0]);
    // records as JSON, one a line
    let json = ["topic", "consume", &first, "-p", "1", "-n", "1", "--json"];
    let record: Value = serde_json::from_str(&ok(&broker, &json)[0]).expect("JSON");
    let expect = json!({
        "topic": first, "partition": 1, "offset": 0, "timestamp": 1_700_000_005_000_i64,
        "key": null, "value": null, "headers": [["none", null]],
    });
    assert_eq!(record, expect);
}

#[test]
fn keys_choose_the_partition_as_in_kafka_s_clients() {
    let broker = Broker::start();
    let topic = unique("keyed");
    ok(&broker, &["topic", "create", &topic, "-p", "7"]);
    // murmur2 as in Kafka's UtilsTest: (-973932308 & 0x7fffffff) % 7, and so on
    let keys = [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)];
    for (key, _) in keys {
        produce(&broker, format!("{key}=x\n").as_bytes(), &[&topic, "-f", "%k=%v"]);
    }
    let mut expect: Vec<String> =
        keys.iter().map(|(key, hash)| format!("{} {key}", (hash & 0x7fff_ffff) % 7)).collect();
    expect.sort();
    let mut found = consume(&broker, &[&topic, "-f", "%p %k"]);
    found.sort();
    assert_eq!(found, expect);
    assert_eq!(
        json_of(&broker, &["topic", "describe", &topic])["topics"][0]["partitions"][0]["start_offset"],
        0
    );
}

#[test]
fn much_goes_through_and_batches_fit_the_topic() {
    let broker = Broker::start();
    let topic = unique("much");
    ok(&broker, &["topic", "create", &topic, "-p", "3", "-c", "max.message.bytes=3000"]);
    let lines: Vec<String> = (0..20_000).map(|number| format!("{number} {}", "~".repeat(40))).collect();
    let input = lines.join("\n");
    let told = produce(&broker, input.as_bytes(), &[&topic, "-p", "1"]);
    assert_eq!(told, format!("produced 20000 records to {topic}\n"));
    assert_eq!(consume(&broker, &[&topic]), lines, "in order, each once");
    // one that fits no batch
    let large = [b"small\n", &[b'x'; 4000][..]].concat();
    let refused = try_produce(&broker, &large, &[&topic, "-p", "0"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains("MESSAGE_TOO_LARGE (error 10)"), "{told}");
    assert_eq!(consume(&broker, &[&topic, "-p", "0"]), ["small"]);
    assert!(told.contains("(written before it: 1 record)"), "{told}");
}

#[test]
fn what_cannot_be_produced_or_consumed_is_said() {
    let broker = Broker::start();
    ok(&broker, &["topic", "create", "readings", "-p", "2"]);
    let failed = |input: &str, arguments: &[&str]| {
        let output = try_produce(&broker, input.as_bytes(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text").trim_end().to_owned()
    };
    let near = "error: topic reading does not exist, did you mean readings?";
    assert_eq!(failed("a\n", &["reading"]), near);
    assert_eq!(format!("error: {}", refused_by(&broker, &["topic", "consume", "reading"])), near);
    assert_eq!(
        json_of(&broker, &["topic", "list"])["topics"].as_array().map(Vec::len),
        Some(1),
        "none is made"
    );
    let told = failed("a:b\nc\nd:e\n", &["readings", "-f", "%k:%v"]);
    let expect =
        "error: record 2 of the input: \":\" is missing behind the key (written before it: 1 record)";
    assert_eq!(told, expect);
    assert_eq!(consume(&broker, &["readings", "-f", "%k:%v"]), ["a:b"]);
    let told = failed("a\n", &["readings", "-p", "2"]);
    assert!(told.starts_with("error: topic readings has no partition 2: it has 0 to 1"), "{told}");
    let told = failed("a\n", &["readings", "-f", "%k%v"]);
    assert_eq!(told, "error: --format has two tokens side by side: nothing says where the first ends");
    let told = refused_by(&broker, &["topic", "consume", "readings", "-f", "%q"]);
    assert_eq!(told, "--format: %q is no token; there are %k %v %h %T %p %o %t and %%");
    let told = refused_by(&broker, &["topic", "consume", "readings", "--from", "9"]);
    assert!(told.contains("has no offset 9: it has 0 to "), "{told}");
    let told = refused_by(&broker, &["topic", "consume", "readings", "-p", "4"]);
    assert_eq!(told, "topic readings has no partition 4: it has 2");
}

/// What is read goes out at once, though the input has not ended; a reader at the end gets it.
#[test]
fn a_record_passes_while_both_ends_are_open() {
    let broker = Broker::start();
    let topic = unique("live");
    ok(&broker, &["topic", "create", &topic, "-p", "2"]);
    let mut reader = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["topic", "consume", "-b", broker.bootstrap(), &topic, "-f", "%v", "-n", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut writer = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["topic", "produce", "-b", broker.bootstrap(), &topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut input = writer.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(reader.stdout.take().expect("it is piped")).lines();
    for word in ["first", "second"] {
        writeln!(input, "{word}").expect("it reads");
        assert_eq!(lines.next().expect("a line").expect("text"), word);
    }
    assert!(reader.wait().expect("it ends").success(), "a count ends it");
    drop(input);
    assert!(writer.wait().expect("it ends").success());
}

/// Brokers close a connection on which nothing comes for long; the next record goes on another.
#[test]
fn a_record_goes_though_the_broker_has_closed_the_connection() {
    let mut broker = Broker::start();
    let topic = unique("idle");
    ok(&broker, &["topic", "create", &topic, "-p", "1"]);
    let mut writer = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["topic", "produce", "-b", broker.bootstrap(), &topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut input = writer.stdin.take().expect("it is piped");
    writeln!(input, "before").expect("it reads");
    assert_eq!(ok(&broker, &["topic", "consume", &topic, "-n", "1"]), ["before"]);
    broker.stop();
    broker.restart();
    writeln!(input, "behind").expect("it reads");
    drop(input);
    assert!(writer.wait().expect("it ends").success());
    assert_eq!(consume(&broker, &[&topic]), ["before", "behind"]);
}
