//! The load generator against Apache Kafka: the same counts as against corelane; consumer groups; transactions; and the
//! comparison of both on a small scale.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use corelane_perf::compare::Process;

use crate::harness::TempDir;
use crate::install::{clients, kafka};
use crate::load::{bench, every_kind_and_codec, groups, number, role, transactions};
use crate::run::run;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn bench_counts_right_against_kafka_and_compares_it_with_corelane() {
    let scratch = TempDir::new();
    let port = free_port();
    let started: Process =
        kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    let bootstrap = format!("127.0.0.1:{port}");
    every_kind_and_codec(&bootstrap, scratch.path());
    group(&bootstrap, scratch.path());
    groups(&bootstrap, scratch.path());
    transactions(&bootstrap, scratch.path());
    started.stop().expect("Kafka stops");
    compare(scratch.path());
}

/// The members of a group share the partitions, read everything and commit.
fn group(bootstrap: &str, scratch: &Path) {
    let line = "end-to-end -p 6 --records 6000 --warm-up 0s --group readers --consumers 3";
    let report = bench(bootstrap, scratch, line);
    assert_eq!(number(&role(&report, "end-to-end")["records"]), 6_000.0);
}

fn compare(scratch: &Path) {
    let out = scratch.join("comparison");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args([
        "bench",
        "compare",
        "--rounds",
        "1",
        "--duration",
        "1s",
        "--warm-up",
        "1s",
        "--heat",
        "0s",
    ]);
    command
        .args(["--workloads", "throughput-1k,tail-1k-2000-unread,tail-1k-2000,footprint"])
        .arg("--work")
        .arg(clients())
        .arg("--out")
        .arg(&out);
    let said = run(command).text();
    for system in ["corelane-flushed", "corelane-written", "null", "kafka", "kafka-flushed"] {
        assert!(said.contains(&format!("round 1 of 1: {system}\n")), "{said}");
    }
    let read = |extension: &str| std::fs::read_to_string(out.with_extension(extension)).expect("a result");
    let table = read("md");
    assert!(table.contains("| records/s |") && table.contains("server.properties"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&read("json")).expect("JSON");
    let turns = json["turns"].as_array().expect("turns");
    assert_eq!(turns.len(), 5);
    for turn in turns {
        let reports = turn["reports"].as_array().expect("reports");
        let keeps_nothing = turn["system"] == "null";
        let as_it_comes = turn["system"] == "corelane-flushed" || turn["system"] == "kafka";
        assert_eq!(reports.len(), if as_it_comes { 3 } else { 1 }, "{turn}");
        for report in reports {
            assert!(number(&report["broker"]["cpu_seconds"]) > 0.0, "{report}");
            let command = report["broker"]["command"].as_str().expect("a command");
            assert!(keeps_nothing || command.contains("WORK/data-"), "no paths of this machine: {command}");
        }
        if !keeps_nothing {
            let (start, idle) = (number(&turn["start_up_seconds"]), number(&turn["resident_bytes_idle"]));
            assert!(start > 0.0 && idle > 1e6, "{turn}");
        }
        assert_eq!(turn["footprint"].is_object(), as_it_comes, "{turn}");
    }
    let targets = json["targets"].as_array().expect("targets");
    let told: Vec<_> = targets.iter().filter_map(|row| row["what"].as_str()).collect();
    let of_footprint = told.iter().filter(|what| what.contains("idle") || what.starts_with("start")).count();
    assert!(of_footprint == 5 && told.iter().any(|what| what.contains("produced")), "{told:?}");
    assert!(read("html").contains("corelane-flushed"));
}
