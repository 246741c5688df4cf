//! The table's names, and the rendered text.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{Directory, Node, Scrape, Snapshot, Topic};
use super::{Kind, Metric, TABLE, Unit, reference_markdown, render};
use crate::model::{ErrorCode, ShardId};
use crate::protocol::api::Api;

#[test]
fn names_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for metric in TABLE {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is there twice");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(plain) && !name.contains("__"), "{name}");
        assert!(name.starts_with("corelane_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        let base = name.trim_end_matches("_total");
        for suffix in ["_bucket", "_count", "_sum"] {
            assert!(!base.ends_with(suffix), "{name} ends as the parts of histograms do");
        }
        // A quantity in the middle of a name is what something is counted until or of.
        let ends_in_unit = |unit: Unit| {
            base.ends_with(&format!("_{}", unit.name())) || base.contains(&format!("_{}_until_", unit.name()))
        };
        for unit in [Unit::Bytes, Unit::Seconds, Unit::Ratio] {
            assert_eq!(ends_in_unit(unit), metric.unit == unit, "{name} and its unit");
        }
        assert!(
            metric.help.ends_with('.') && !metric.help.contains(['\n', '|', '\\']),
            "{name}: {}",
            metric.help
        );
        for label in metric.labels() {
            assert!(label.chars().all(plain) && *label != "le" && !label.starts_with('_'), "{name}: {label}");
        }
        if metric.kind == Kind::Histogram {
            assert_eq!(metric.unit, Unit::Seconds, "{name}");
        }
    }
    for metric in TABLE {
        assert!(reference_markdown().contains(&format!("| `{}` |", metric.name)), "{}", metric.name);
    }
}

fn topic(name: &str, received_bytes: u64, partitions: u64) -> Topic {
    let topic = Topic::new(Arc::from(name));
    topic.received_bytes.add(received_bytes);
    topic.partitions.set(partitions);
    topic
}

fn directory(path: &str, online: bool, bytes_until_refusal: Option<u64>) -> Directory {
    Directory { path: path.to_owned(), online, bytes_until_refusal }
}

/// Two shards that answered and one that did not.
fn scrape() -> Scrape {
    let mut first = Snapshot { cpu: 1_500_000_000, ..Snapshot::default() };
    first.server.counters.connections_accepted.add(7);
    let produce = first.server.counters.api(Api::Produce);
    produce.count_reply(ErrorCode::None, 40, Duration::from_micros(20));
    produce.count_reply(ErrorCode::CorruptMessage, 2, Duration::from_secs(100));
    first.topics = vec![topic("b", 100, 1), topic("a", 1, 1)];
    first.storage.directories =
        vec![directory("/data/\"x\"\\y\n", true, Some(10)), directory("/z", true, None)];
    let mut second = Snapshot::default();
    let fetch = second.server.counters.api(Api::Produce);
    fetch.count_reply(ErrorCode::None, 1, Duration::from_micros(16));
    second.topics = vec![topic("b", 11, 2)];
    second.storage.directories = vec![directory("/data/\"x\"\\y\n", false, Some(9))];
    Scrape {
        version: "1.2.3",
        node: Node { ready: true, started: 1_700_000_000_120_000_000, ..Node::default() },
        shards: vec![
            (ShardId(0), Some(Box::new(first))),
            (ShardId(1), Some(Box::new(second))),
            (ShardId(2), None),
        ],
    }
}

#[test]
fn renders_every_family_with_its_values() {
    let text = render(&scrape());
    for metric in TABLE {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.name());
        assert_eq!(text.matches(&head).count(), 1, "{}", metric.name);
    }
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    for line in [
        "corelane_build_info{version=\"1.2.3\"} 1",
        "corelane_ready 1",
        "process_start_time_seconds 1700000000.12",
        "corelane_shard_up{shard=\"1\"} 1",
        "corelane_shard_up{shard=\"2\"} 0",
        "corelane_shard_cpu_seconds_total{shard=\"0\"} 1.5",
        "corelane_shard_cpu_seconds_total{shard=\"1\"} 0",
        "corelane_connections_accepted_total{shard=\"0\"} 7",
        "corelane_requests_total{shard=\"0\",api=\"Produce\"} 2",
        "corelane_request_errors_total{shard=\"0\",api=\"Produce\"} 1",
        "corelane_response_bytes_total{shard=\"0\",api=\"Produce\"} 42",
        "corelane_requests_total{shard=\"1\",api=\"Fetch\"} 0",
        // summed over the shards, by name
        "corelane_topic_received_bytes_total{topic=\"a\"} 1",
        "corelane_topic_received_bytes_total{topic=\"b\"} 111",
        "corelane_topic_partitions{topic=\"b\"} 3",
        // the worst that any shard knows
        "corelane_log_dir_online{dir=\"/data/\\\"x\\\"\\\\y\\n\"} 0",
        "corelane_log_dir_bytes_until_refusal{dir=\"/data/\\\"x\\\"\\\\y\\n\"} 9",
        "corelane_log_dir_online{dir=\"/z\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
    }
    assert!(!text.contains("until_refusal{dir=\"/z\"}"), "not known yet");
    assert!(!text.contains("corelane_connections{shard=\"2\"}"), "a shard that is silent tells nothing");
}

#[test]
fn histograms_are_cumulative_over_all_shards() {
    let text = render(&scrape());
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("corelane_request_duration_seconds_") && l.contains("api=\"Produce\""))
        .collect();
    let bucket = |le: &str, count: u64| {
        format!("corelane_request_duration_seconds_bucket{{api=\"Produce\",le=\"{le}\"}} {count}")
    };
    assert_eq!(lines[0], bucket("0.000016", 1));
    assert_eq!(lines[1], bucket("0.000024", 2));
    assert_eq!(lines[44], bucket("67.108864", 2));
    assert_eq!(lines[45], bucket("+Inf", 3));
    assert_eq!(lines[46], "corelane_request_duration_seconds_sum{api=\"Produce\"} 100.000036");
    assert_eq!(lines[47], "corelane_request_duration_seconds_count{api=\"Produce\"} 3");
    assert_eq!(lines.len(), 48);
}

/// The dashboard asks for nothing that is not there, and for everything that is; its panels do not overlap.
#[test]
fn the_dashboard_names_the_metrics_of_the_table() {
    let text = include_str!("../../tuning/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).expect("the dashboard is JSON");
    let mut expressions = Vec::new();
    collect_expressions(&dashboard, &mut expressions);
    assert!(expressions.len() > 20, "{} expressions", expressions.len());
    let mut named = BTreeSet::new();
    for expression in &expressions {
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        named.extend(words.filter(|word| word.starts_with("corelane_") || word.starts_with("process_")));
    }
    let is_of = |name: &str, metric: &Metric| {
        let part = |suffix| metric.kind == Kind::Histogram && name.strip_suffix(suffix) == Some(metric.name);
        name == metric.name || part("_bucket") || part("_sum") || part("_count")
    };
    for name in &named {
        assert!(TABLE.iter().any(|metric| is_of(name, metric)), "{name} is not in the table of metrics");
    }
    for metric in TABLE {
        assert!(
            named.iter().any(|name| is_of(name, metric)),
            "{} has no panel in the dashboard",
            metric.name
        );
    }
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24 && cells.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
    }
}

fn collect_expressions<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if matches!(key.as_str(), "expr" | "query" | "definition") => found.push(text),
                    _ => collect_expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_expressions(value, found)),
        _ => {}
    }
}
