//! The load generator against the broker it is built with: its counts, and the broker's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::harness::{Broker, Setup, TempDir};
use crate::load::{bench, every_kind_and_codec, groups, number, role, transactions};
use crate::wire::Wire;

#[test]
fn every_kind_and_codec_counts_right() {
    let broker = Setup::new().shards(2).start();
    every_kind_and_codec(broker.bootstrap(), broker.scratch());
}

#[test]
fn groups_join_beat_and_rebalance() {
    let broker = Setup::new().shards(2).start();
    groups(broker.bootstrap(), broker.scratch());
}

#[test]
fn transactions_are_committed_and_counted() {
    let broker = Setup::new().shards(2).start();
    transactions(broker.bootstrap(), broker.scratch());
}

/// The sum of a metric over its labels.
fn metric(broker: &Broker, name: &str) -> f64 {
    let mut stream = TcpStream::connect(broker.admin()).expect("the admin listener");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let of_metric = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    of_metric.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn the_broker_counts_what_the_generator_counts() {
    let broker = Setup::new().shards(2).start();
    let line = format!("produce --records 12345 --warm-up 0s -s 64 -p 6 --metrics {}", broker.admin());
    let report = bench(broker.bootstrap(), broker.scratch(), &line);
    let produced = role(&report, "produce");
    assert_eq!(number(&produced["records"]), 12_345.0);
    assert_eq!(metric(&broker, "corelane_topic_received_records_total"), 0.0, "the run's own topic is gone");
    let told = &report["metrics"];
    assert_eq!(number(&told["corelane_topic_received_records_total"]), 12_345.0, "{told}");
    assert_eq!(
        number(&told["corelane_topic_received_bytes_total"]),
        number(&produced["wire_bytes"]),
        "{told}"
    );
}

#[test]
fn a_producer_stays_with_a_partition_of_its_own() {
    let broker = Setup::new().shards(2).start();
    let line = "produce -t own -p 3 --producers 2 --own-partition --records 5000 --warm-up 0s -s 100";
    bench(broker.bootstrap(), broker.scratch(), line);
    let mut wire = Wire::connect(broker.bootstrap());
    let ends = [0, 1, 2].map(|partition| wire.end_offset("own", partition));
    assert!(ends[0] > 0 && ends[1] > 0 && ends[2] == 0 && ends.iter().sum::<i64>() == 5000, "{ends:?}");
}

#[test]
fn the_broker_s_process_is_found_and_watched() {
    let broker = Setup::new().start();
    let report = bench(broker.bootstrap(), broker.scratch(), "produce -d 2s --warm-up 0s");
    let watched = &report["broker"];
    assert!(watched["command"].as_str().is_some_and(|command| command.contains("corelane")), "{watched}");
    assert!(number(&watched["cpu_seconds"]) > 0.0 && number(&watched["written_bytes"]) > 0.0, "{watched}");
    assert!(number(&watched["resident_bytes"]) > 1e6, "{watched}");
}

#[test]
fn the_comparison_holds_corelane_against_its_targets() {
    let scratch = TempDir::new();
    let out = scratch.path().join("comparison");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let line = "bench compare --systems corelane-flushed,null --workloads throughput-1k,footprint --rounds 1 \
                --retries 0 --duration 1s --warm-up 0s --heat 0s";
    command.args(line.split_whitespace()).arg("--work").arg(scratch.path()).arg("--out").arg(&out);
    let output = command.output().expect("the built binary runs");
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && said.contains("## Targets"), "{said}");
    let read = |extension: &str| std::fs::read_to_string(out.with_extension(extension)).expect("a result");
    assert!(read("md").contains("## Targets") && read("html").contains("\"Targets\""));
    let json: serde_json::Value = serde_json::from_str(&read("json")).expect("JSON");

    let footprint = &json["turns"][0]["footprint"];
    let of = |name: &str| number(&footprint[name]);
    assert!(of("start_seconds") > 0.0 && of("start_seconds_partitions") > 0.0, "{footprint}");
    assert!(of("resident_bytes") > 1e6 && of("resident_bytes_partitions") > 1e6, "{footprint}");
    assert!((0.0..1.0).contains(&of("idle_cores")), "{footprint}");
    let shards = std::thread::available_parallelism().expect("CPUs").get();
    let mib = (256 + 64 + 256 + 64 + 64) * shards + 128;
    assert_eq!(of("budget_bytes"), (mib << 20) as f64, "what the settings' table says of {shards} shards");

    let rows = json["targets"].as_array().expect("targets");
    let whats: Vec<_> = rows.iter().filter_map(|row| row["what"].as_str()).collect();
    assert_eq!(whats.len(), 7, "one of CPU, six of the footprint and its budget: {whats:?}");
    let cpu = &rows[0];
    let broker = &cpu["figures"].as_array().expect("figures")[0];
    assert!(broker[0] == "corelane-flushed" && broker[1].is_object(), "{cpu}");
    let verdict = cpu["verdict"].to_string();
    assert!(
        verdict.contains("kafka has no figure") || verdict.contains("is noisy"),
        "Kafka was left out: {cpu}"
    );
}

#[test]
fn errors_say_what_to_do() {
    let broker = Setup::new().start();
    let fails = |line: &str, expect: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        let output =
            command.arg("bench").args(line.split_whitespace()).output().expect("the built binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expect), "bench {line}: {said}");
    };
    fails("produce -b 127.0.0.1:1 --records 1", "is it running?");
    fails(&format!("produce -b {} --records 1 --idempotence --acks 1", broker.bootstrap()), "--acks all");
    fails(&format!("end-to-end -b {} --records 1 -s 10", broker.bootstrap()), "--record-bytes 20");
    let lonely = format!("groups -b {} --members 1 --rebalances 1", broker.bootstrap());
    fails(&lonely, "--members 2");
    let wide = format!("transactions -b {} --partitions 5 --topic-partitions 4", broker.bootstrap());
    fails(&wide, "--topic-partitions");
    // an HTTP port is not a broker
    fails(&format!("produce -b {} --records 1", broker.admin()), "does not answer as a Kafka broker");
    // what the broker refuses ends the run with the broker's word for it
    let line = format!(
        "produce -b {} --records 1 -s 100KiB --batch-bytes 200KiB --topic-config max.message.bytes=1000 -q",
        broker.bootstrap()
    );
    fails(&line, "MessageTooLarge");
}
