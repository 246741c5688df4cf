//! `corelane bench` as a process: every kind of run and every codec against a broker, and what its reports must say.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Makes a run and gives its report. `scratch` is a folder for the JSON.
pub fn bench(bootstrap: &str, scratch: &Path, line: &str) -> Value {
    let json = scratch.join("report.json");
    let _ = std::fs::remove_file(&json);
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("bench").args(line.split_whitespace()).args(["--quiet", "--bootstrap", bootstrap]);
    let output = command.arg("--json").arg(&json).output().expect("the built binary runs");
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "bench {line}: {}\n{said}", output.status);
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    sane(&report, line);
    report
}

/// What is true of every report.
fn sane(report: &Value, line: &str) {
    let warnings = report["warnings"].as_array().expect("warnings");
    let harmless = ["the run ended within its warm-up", "the rate was not reached"];
    for warning in warnings.iter().filter_map(Value::as_str) {
        assert!(harmless.iter().any(|start| warning.starts_with(start)), "bench {line}: {warning}");
    }
    assert_eq!(report["errors"].as_object().map(serde_json::Map::len), Some(0), "bench {line}");
    let steal = report["steal_percent"].as_f64().expect("steal");
    assert_eq!(report["is_noisy"].as_bool(), Some(steal > 3.0));
    for role in report["roles"].as_array().expect("roles") {
        let (records, latency) = (number(&role["records"]), &role["latency"]);
        assert!(records > 0.0, "bench {line}: {role}");
        let percentiles =
            ["min", "p50", "p90", "p99", "p999", "p9999", "max"].map(|name| number(&latency[name]));
        assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "bench {line}: {percentiles:?}");
        if ["produce", "end-to-end", "heartbeat", "transaction", "commit"]
            .contains(&role["role"].as_str().expect("a role"))
        {
            assert_eq!(number(&latency["count"]), records, "bench {line}: one latency each");
        }
        // the seconds add up to the whole; what a warm-up has taken comes before
        let seconds = role["series"].as_array().expect("series").iter();
        let measured: f64 =
            seconds.filter(|s| number(&s["second"]) >= 0.0).map(|s| number(&s["records"])).sum();
        assert_eq!(measured, records, "bench {line}");
    }
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// One role's part of a report.
pub fn role<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut roles = report["roles"].as_array().expect("roles").iter();
    roles.find(|role| role["role"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Every kind of run and every codec, with counts that must be exact.
pub fn every_kind_and_codec(bootstrap: &str, scratch: &Path) {
    for codec in CODECS {
        let topic = format!("bench-{codec}");
        let line = format!(
            "produce -t {topic} -p 4 --records 20000 --warm-up 0s --codec {codec} -s 100..500 --keys 1000 --headers 2"
        );
        let report = bench(bootstrap, scratch, &line);
        assert_eq!(number(&role(&report, "produce")["records"]), 20_000.0, "{codec}");
        // every record of the topic is looked at, its checksum too
        let line = format!("consume -t {topic} --records 20000 --warm-up 0s --verify");
        let report = bench(bootstrap, scratch, &line);
        assert!(number(&role(&report, "consume")["records"]) >= 20_000.0, "{codec}");
        let line = format!(
            "end-to-end -p 4 --records 5000 --warm-up 0s --codec {codec} --idempotence --consumers 3"
        );
        let report = bench(bootstrap, scratch, &line);
        let [sent, received] = ["produce", "end-to-end"].map(|name| number(&role(&report, name)["records"]));
        assert_eq!((sent, received), (5_000.0, 5_000.0), "{codec}");
    }
    for acks in ["0", "1", "all"] {
        let line =
            format!("end-to-end --topics 3 -p 2 --records 3000 --warm-up 0s --acks {acks} --linger 2ms");
        let report = bench(bootstrap, scratch, &line);
        assert_eq!(number(&role(&report, "end-to-end")["records"]), 3_000.0, "acks={acks}");
    }
    let report = bench(bootstrap, scratch, "end-to-end -p 4 --records 3000 --warm-up 0s --fan-out 3");
    assert_eq!(number(&role(&report, "produce")["records"]), 3_000.0);
    assert_eq!(number(&role(&report, "end-to-end")["records"]), 9_000.0, "each record is read three times");
    // at a fixed rate every record that is due is sent
    let report = bench(bootstrap, scratch, "produce -r 1000 -d 2s --warm-up 1s --threads 2");
    let measured = number(&role(&report, "produce")["records"]);
    assert!((1_900.0..=2_100.0).contains(&measured), "{measured} of 2000 records in two seconds");
    let report = bench(bootstrap, scratch, "mixed -r 500 -d 2s --warm-up 0s --preload 2MiB");
    assert_eq!(number(&role(&report, "produce")["records"]), 1_000.0);
    assert_eq!(number(&role(&report, "end-to-end")["records"]), 1_000.0);
    assert!(number(&role(&report, "catch-up")["records"]) > 1_900.0, "2 MiB of records of 1 KiB were there");
}

/// Groups of both protocols: every heartbeat that is due is answered, every rebalance comes to its end, nothing is left.
pub fn groups(bootstrap: &str, scratch: &Path) {
    for protocol in ["classic", "consumer"] {
        let line = format!(
            "groups --groups 3 --members 4 -p 6 --protocol {protocol} --heartbeat 200ms --rebalances 4 \
             --idle 0s --warm-up 0s -d 1s --threads 2"
        );
        let report = bench(bootstrap, scratch, &line);
        let heartbeats = number(&role(&report, "heartbeat")["records"]);
        assert_eq!(heartbeats, 60.0, "{protocol}: five of each of twelve members in a second");
        let groups = &report["groups"];
        assert!(number(&groups["stable_seconds"]) > 0.0, "{groups}");
        let rebalances = groups["rebalances"].as_array().expect("rebalances");
        let triggers: Vec<_> = rebalances.iter().map(|rebalance| rebalance["trigger"].as_str()).collect();
        assert_eq!(triggers, ["leaves", "joins", "leaves", "joins"].map(Some), "{groups}");
        for rebalance in rebalances {
            assert!(number(&rebalance["requests"]) >= 4.0, "all members are told: {rebalance}");
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let listed = command.args(["group", "list", "-b", bootstrap]).output().expect("the built binary runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(!listed.contains("bench-"), "its groups are deleted: {listed}");
}

/// Transactions of every protocol: those that are due are committed, each of them whole, and nothing is left of them.
pub fn transactions(bootstrap: &str, scratch: &Path) {
    for protocol in ["v2", "classic", "none"] {
        let line = format!(
            "transactions --producers 3 --partitions 5 --topic-partitions 7 --records 4 --record-bytes 50 \
             --protocol {protocol} -r 10 --warm-up 1s -d 2s --threads 2"
        );
        let report = bench(bootstrap, scratch, &line);
        let done = role(&report, "transaction");
        assert_eq!(number(&done["records"]), 20.0, "{protocol}: ten in a second");
        assert_eq!(
            number(&done["payload_bytes"]),
            20.0 * 5.0 * 4.0 * 51.0,
            "{protocol}: no headers are a byte"
        );
        let roles = report["roles"].as_array().expect("roles");
        assert_eq!(roles.len(), if protocol == "none" { 1 } else { 2 }, "{protocol}");
        let of_all = number(&done["latency"]["p50"]);
        if protocol != "none" {
            let commit = role(&report, "commit");
            assert_eq!(number(&commit["records"]), 20.0, "{protocol}");
            assert!(number(&commit["latency"]["p50"]) < of_all, "{protocol}: a commit is a part of it");
        }
        let told = &report["transactions"];
        assert_eq!(told["protocol"], protocol);
        // none at all if the broker needs less than a tick of the kernel's clock, 10 ms, for the twenty
        let cpu = number(&told["cpu_micros_per_transaction"]);
        let of_partition = number(&told["cpu_micros_per_partition"]);
        assert!(cpu >= 0.0 && (of_partition * 5.0 - cpu).abs() <= cpu * 1e-6, "{told}");
    }
    // a producer that does not wait meets its own last transaction: it is told so, and goes on
    let report = bench(bootstrap, scratch, "transactions --protocol classic --warm-up 0s -d 1s");
    let retries = report["transactions"]["retries"].as_object().expect("retries");
    let of_first = retries.get("AddPartitionsToTxn: ConcurrentTransactions (51)");
    assert!(of_first.map_or(0.0, number) > 0.0 && retries.len() == 1, "{retries:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let listed = command.args(["txn", "list", "-b", bootstrap]).output().expect("the built binary runs");
    let listed = String::from_utf8_lossy(&listed.stdout);
    let mut of_run = listed.lines().filter(|line| line.contains("bench-"));
    assert!(of_run.all(|line| line.contains("CompleteCommit")), "no transaction is open: {listed}");
}
