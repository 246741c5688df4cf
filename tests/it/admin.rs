//! The admin listener over plain TCP: what a scrape says, to the record, and what a health check says; that nobody
//! who comes this way does any harm. `src/server/admin/tests.rs` has silent shards and clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelane::metrics::{Kind, TABLE};
use kafka_protocol::messages::FetchRequest;

use crate::harness::{Broker, Process, Setup, TempDir, binary, free_port, run_to_end};
use crate::wire::{self, FETCH, PRODUCE, Wire, batch};

const PATIENCE: Duration = Duration::from_secs(30);

struct Answer {
    status: u16,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: String,
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// What comes until the broker closes; an abrupt end is one, too.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

fn ask(address: &str, method: &str, path: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it is taken");
    parse_answer(read_to_end(&mut stream))
}

fn parse_answer(bytes: Vec<u8>) -> Answer {
    let text = String::from_utf8(bytes).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a header has a value");
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Answer {
        status: status[..3].parse().expect("a status"),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

pub fn get(address: &str, path: &str) -> (u16, String) {
    let answer = ask(address, "GET", path);
    (answer.status, answer.body)
}

/// One family of an exposition.
#[derive(Default)]
struct Family {
    kind: String,
    /// By name with suffix and labels, in the order of the labels' names.
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// A strict reader of the text format 0.0.4: refuses whatever it leaves open.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line ends, too");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("HELP has a name and a text");
            assert!(!help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("TYPE has a name and a kind");
            assert_eq!(helped, name, "HELP stands before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family { kind: kind.to_owned(), series: BTreeMap::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = match series.split_once('{') {
                None => (series, BTreeMap::new()),
                Some((name, labels)) => (name, parse_labels(labels, line)),
            };
            let suffix =
                name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} outside of its family"));
            let family = families.get_mut(&current).expect("a sample follows its TYPE");
            let expected: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(expected.contains(&suffix), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(family.series.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
        }
    }
    families.iter().filter(|(_, family)| family.kind == "histogram").for_each(check_histograms);
    families
}

/// The labels behind `{`, up to and with `}`.
fn parse_labels(text: &str, line: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty(), "{line}");
        let mut unescaped = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("{line}")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next().map(|(_, c)| c) {
                    Some(c @ ('\\' | '"')) => unescaped.push(c),
                    Some('n') => unescaped.push('\n'),
                    _ => panic!("a strange escape: {line}"),
                },
                (_, c) => unescaped.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), unescaped).is_none(), "{line}");
        match &value[end + 1..] {
            "}" => return labels,
            more => rest = more.strip_prefix(',').unwrap_or_else(|| panic!("{line}")),
        }
    }
}

/// Buckets rise to the count, the last at infinity, for every set of labels.
fn check_histograms((name, family): (&String, &Family)) {
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for ((series, labels), value) in &family.series {
        if series.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound");
            let bound =
                if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound is a number") };
            buckets.entry(labels).or_default().push((bound, *value));
        }
    }
    assert_eq!(
        buckets.len() * 2,
        family.series.keys().filter(|(s, _)| !s.ends_with("_bucket")).count(),
        "{name}"
    );
    for (labels, mut buckets) in buckets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?} {buckets:?}");
        let (bound, last) = *buckets.last().expect("at least one");
        assert_eq!(bound, f64::INFINITY);
        assert_eq!(family.series[&(format!("{name}_count"), labels.clone())], last, "{name} {labels:?}");
        assert!(family.series.contains_key(&(format!("{name}_sum"), labels)));
    }
}

/// Everything a broker tells of itself.
pub struct Scrape(BTreeMap<String, Family>);

impl Scrape {
    pub fn of(broker: &Broker) -> Scrape {
        Scrape::page(broker, "/metrics")
    }

    pub fn page(broker: &Broker, path: &str) -> Scrape {
        let answer = ask(broker.admin(), "GET", path);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
        Scrape(parse(&answer.body))
    }

    /// The sum of all series that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let parts = ["", "_bucket", "_sum", "_count"].into_iter();
        let mut families = parts.filter_map(|part| self.0.get(name.strip_suffix(part)?));
        let family = families.next().unwrap_or_else(|| panic!("no {name}"));
        let fits = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let found: Vec<f64> = (family.series.iter())
            .filter(|((series, labels), _)| series == name && fits(labels))
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "no {name} with {labels:?}");
        found.iter().sum()
    }
}

fn values(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(format!("value {number}"))).collect()
}

#[test]
fn a_scrape_counts_every_record_and_byte() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("four", 4, &[]);
    wire.create_topic("one", 1, &[("corelane.durability", "written")]);
    let before = Scrape::of(&broker);
    for topic in ["four", "one"] {
        assert_eq!(before.sum("corelane_topic_received_records_total", &[("topic", topic)]), 0.0);
    }
    assert_eq!(before.sum("corelane_topic_partitions", &[("topic", "four")]), 4.0);
    assert_eq!(before.sum("corelane_partitions", &[]), 6.0, "the metadata log, too");

    let (mut bytes, mut records, mut batches) = (0, 0, 0);
    for round in 0..10_usize {
        for partition in 0..4 {
            let batch = batch(&values(round + 1));
            bytes += batch.len();
            records += round + 1;
            batches += 1;
            assert_eq!(wire.produce("four", partition, -1, batch).error_code, 0);
        }
    }
    let single = batch(&values(3));
    assert_eq!(wire.produce("one", 0, 1, single.clone()).error_code, 0);
    assert_ne!(wire.produce("one", 7, 1, single.clone()).error_code, 0, "there is no such partition");
    for partition in 0..4 {
        assert_eq!(wire.read_all("four", partition).len(), records / 4);
    }
    let after = Scrape::of(&broker);
    let delta = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let four = [("topic", "four")];
    assert_eq!(delta("corelane_topic_received_records_total", &four), records as f64);
    assert_eq!(delta("corelane_topic_received_bytes_total", &four), bytes as f64);
    assert_eq!(delta("corelane_topic_sent_records_total", &four), records as f64);
    assert_eq!(delta("corelane_topic_sent_bytes_total", &four), bytes as f64);
    assert_eq!(delta("corelane_topic_received_bytes_total", &[("topic", "one")]), single.len() as f64);
    assert_eq!(delta("corelane_topic_received_records_total", &[("topic", "one")]), 3.0);
    assert_eq!(delta("corelane_topic_sent_bytes_total", &[("topic", "one")]), 0.0);

    let produce = [("api", "Produce")];
    let requests = f64::from(batches + 2);
    assert_eq!(delta("corelane_requests_total", &produce), requests);
    assert_eq!(delta("corelane_request_errors_total", &produce), 1.0);
    assert_eq!(delta("corelane_request_duration_seconds_count", &produce), requests);
    assert!(delta("corelane_request_duration_seconds_sum", &produce) > 0.0);
    assert!(delta("corelane_request_bytes_total", &produce) > (bytes + 2 * single.len()) as f64);
    assert!(delta("corelane_response_bytes_total", &[("api", "Fetch")]) > bytes as f64);
    assert_eq!(
        delta("corelane_requests_total", &[("api", "Fetch")]),
        delta("corelane_cache_hits_total", &[])
    );
    assert_eq!(delta("corelane_cache_misses_total", &[]), 0.0, "everything was in memory");

    assert_eq!(delta("corelane_commit_batches_total", &[]), f64::from(batches + 1));
    assert_eq!(delta("corelane_commit_batch_bytes_total", &[]), (bytes + single.len()) as f64);
    assert!(
        delta("corelane_commit_written_bytes_total", &[]) >= delta("corelane_commit_batch_bytes_total", &[])
    );
    assert_eq!(
        delta("corelane_flushes_total", &[]),
        f64::from(batches),
        "the topic that is `written` needs none"
    );
    assert_eq!(delta("corelane_commit_duration_seconds_count", &[]), f64::from(batches + 1));
    assert!(delta("corelane_shard_messages_sent_total", &[]) > 0.0, "two shards have the partitions");
    assert_eq!(after.sum("corelane_connections", &[]), 1.0);
    assert_eq!(after.sum("corelane_ready", &[]), 1.0);
    assert_eq!(after.sum("corelane_shard_up", &[]), 2.0);
    assert!(after.sum("corelane_tail_cache_bytes", &[]) >= bytes as f64);

    wire.delete_topic("four");
    let gone = Scrape::of(&broker);
    let topics = &gone.0["corelane_topic_partitions"].series;
    let names: Vec<&String> = topics.keys().map(|(_, labels)| &labels["topic"]).collect();
    assert_eq!(names, ["one"], "a deleted topic tells nothing");
}

/// The series that must not fall: counters, and all parts of histograms.
fn growing(scrape: &Scrape) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let families = scrape.0.values().filter(|family| family.kind != "gauge");
    families.flat_map(|family| family.series.clone()).collect()
}

#[test]
fn every_partitions_offsets_have_a_page_of_their_own() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("two", 2, &[]);
    wire.create_topic("gone", 3, &[]);
    wire.delete_topic("gone");
    for _ in 0..3 {
        assert_eq!(wire.produce("two", 1, -1, batch(&values(5))).error_code, 0);
    }
    assert_eq!(crate::retention::delete(&mut wire, 2, "two", &[(1, 4)]), [(0, 4)]);
    let answer = ask(broker.admin(), "GET", "/metrics/partitions");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = Scrape(parse(&answer.body));
    let of = |name: &str, partition: &str| {
        page.sum(&format!("corelane_partition_{name}"), &[("topic", "two"), ("partition", partition)])
    };
    for (name, empty, written) in
        [("log_start_offset", 0.0, 4.0), ("high_watermark", 0.0, 15.0), ("log_end_offset", 0.0, 15.0)]
    {
        assert_eq!((of(name, "0"), of(name, "1")), (empty, written), "{name}");
    }
    assert!(of("size_bytes", "0") == 0.0 && of("size_bytes", "1") > 0.0);
    assert!(!answer.body.contains("gone") && !answer.body.contains("__cluster_metadata"), "{}", answer.body);
}

#[test]
fn the_metadata_log_is_measured() {
    let mut broker = Setup::new().set("metadata.log.max.record.bytes.between.snapshots", 1).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let before = Scrape::of(&broker);
    wire.create_topic("one", 1, &[]);
    // the next change waits for the snapshot behind the one before it
    wire.alter_topic("one", &[("retention.ms", Some("5"))]);
    let after = Scrape::of(&broker);
    let grew = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    assert!(grew("corelane_metadata_commit_duration_seconds_count") >= 2.0);
    assert!(grew("corelane_metadata_apply_duration_seconds_count") >= 2.0);
    assert!(grew("corelane_metadata_log_end_offset") >= 3.0, "a topic, a partition, a config");
    assert!(grew("corelane_metadata_snapshots_total") >= 1.0);
    let end = after.sum("corelane_metadata_snapshot_end_offset", &[]);
    assert!(end > 0.0 && end <= after.sum("corelane_metadata_log_end_offset", &[]));
    assert_eq!(after.sum("corelane_metadata_term", &[]), 1.0);
    broker.stop();
    broker.restart();
    assert_eq!(Scrape::of(&broker).sum("corelane_metadata_term", &[]), 2.0, "elected anew");
}

#[test]
fn counters_never_fall_and_keep_their_series() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("grows", 2, &[]);
    let mut before = growing(&Scrape::of(&broker));
    for round in 0..5 {
        assert_eq!(wire.produce("grows", round % 2, -1, batch(&values(10))).error_code, 0);
        assert_eq!(wire.fetch("grows", round % 2, 0, 1000).error_code, 0);
        let after = growing(&Scrape::of(&broker));
        for (series, value) in &before {
            assert!(after.get(series).is_some_and(|after| after >= value), "{series:?}");
        }
        before = after;
    }
}

#[test]
fn a_scrape_has_the_metrics_of_the_table_and_no_others() {
    let broker = Broker::start();
    Wire::connect(broker.bootstrap()).create_topic("topic", 1, &[]);
    let scrape = Scrape::of(&broker);
    let told: BTreeSet<&str> = scrape.0.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(told, listed);
    for metric in TABLE {
        let family = &scrape.0[metric.name];
        assert_eq!(family.kind, metric.kind.name(), "{}", metric.name);
        assert!(!family.series.is_empty(), "{} has no series", metric.name);
        for (_, labels) in family.series.keys() {
            let mut names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
            if metric.kind == Kind::Histogram {
                names.remove("le");
            }
            assert_eq!(names, metric.labels().iter().copied().collect(), "{}", metric.name);
        }
    }
}

#[test]
fn answers_what_http_asks_for() {
    let broker = Broker::start();
    let admin = broker.admin();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(admin, path), (200, "ok\n".to_owned()), "{path}");
    }
    let index = ask(admin, "GET", "/");
    assert_eq!(index.status, 200);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(index.body.contains(path), "{}", index.body);
        let head = ask(admin, "HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_ne!(head.headers["content-length"], "0", "as long as the answer to GET");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let refused = ask(admin, method, path);
            assert_eq!(
                (refused.status, refused.headers["allow"].as_str()),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
        }
    }
    for path in ["/metric", "/metrics/", "/../metrics", "//metrics", "/admin"] {
        assert_eq!(get(admin, path).0, 404, "{path}");
    }
    assert_eq!(get(admin, "/metrics?name=x").0, 200, "a query changes nothing");

    // One connection, several requests.
    let mut stream = connect(admin);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n");
    write!(stream, "{request}\r\n{request}\r\n{request}Connection: close\r\n\r\n").expect("they are taken");
    let answers = String::from_utf8(read_to_end(&mut stream)).expect("text");
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
}

#[test]
fn garbage_closes_its_own_connection() {
    let broker = Broker::start();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let kafka = wire::framed(&wire::request_bytes(&wire::fetch_request("x", 0, 0, 0), FETCH, 1));
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200], b"\r\n\r\n"].concat();
    let garbage: [&[u8]; 7] = [
        b"\r\n\r\nnonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        long.as_bytes(),
        fields.as_bytes(),
        &kafka,
        &tls,
        &[0xff; 70_000],
    ];
    for bytes in garbage {
        let mut stream = connect(broker.admin());
        // It may have closed before the end.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = read_to_end(&mut stream);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(get(broker.admin(), "/healthz"), (200, "ok\n".to_owned()));
}

/// Clients that send nothing, or half a request, or take nothing, keep neither scrapes nor records waiting.
#[test]
fn slow_clients_hold_nobody_up() {
    let broker = Broker::start();
    let admin = broker.admin();
    let mut slow: Vec<TcpStream> = (0..20).map(|_| connect(admin)).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let text = match number % 3 {
            0 => "",
            1 => "GET /metrics HTTP/1.1\r\nHost",
            _ => "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n",
        };
        stream.write_all(text.as_bytes()).expect("it is taken");
    }
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("busy", 1, &[]);
    assert_eq!(wire.produce("busy", 0, -1, batch(&values(1))).error_code, 0);
    assert_eq!(get(admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(Scrape::of(&broker).sum("corelane_topic_received_records_total", &[("topic", "busy")]), 1.0);
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("many", 2, &[]);
    let scrapes: Vec<_> = (0..50)
        .map(|_| {
            let admin = broker.admin().to_owned();
            thread::spawn(move || {
                let (status, text) = get(&admin, "/metrics");
                assert_eq!(status, 200);
                parse(&text).len()
            })
        })
        .collect();
    for round in 0..100 {
        assert_eq!(wire.produce("many", round % 2, -1, batch(&values(1))).error_code, 0);
    }
    for scrape in scrapes {
        assert_eq!(scrape.join().expect("the scrape is sound"), TABLE.len());
    }
    // Whoever asks after the last was answered is told of all that was before.
    assert_eq!(Scrape::of(&broker).sum("corelane_topic_received_records_total", &[("topic", "many")]), 100.0);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mut broker = Setup::new().shards(1).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("full", 1, &[]);
    broker.limit_file_size(1 << 20);
    let values = [Bytes::from(vec![b'~'; 512 << 10])];
    while wire.produce("full", 0, -1, batch(&values)).error_code == 0 {}
    let (status, reason) = get(broker.admin(), "/readyz");
    assert_eq!(status, 503);
    assert!(reason.contains(&broker.data().display().to_string()) && reason.contains("offline"), "{reason}");
    assert_eq!(get(broker.admin(), "/healthz").0, 200, "it is alive");
    assert_eq!(Scrape::of(&broker).sum("corelane_log_dir_online", &[]), 0.0);
    assert_eq!(broker.stop_uncleanly().code(), Some(1));
}

/// A stop that waits for a client says so as long as it takes.
#[test]
fn a_stopping_broker_is_not_ready() {
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("stops", 1, &[]);
    let mut waiting = Wire::connect(broker.bootstrap());
    waiting.send::<FetchRequest>(&wire::fetch_request("stops", 0, 0, 60_000), FETCH);
    while Scrape::of(&broker).sum("corelane_waiting_fetches", &[]) == 0.0 {}
    let admin = broker.admin().to_owned();
    broker.signal(libc::SIGTERM);
    loop {
        match get(&admin, "/readyz") {
            (200, _) => {}
            (status, reason) => {
                assert_eq!((status, reason.as_str()), (503, "stopping\n"));
                break;
            }
        }
    }
    assert_eq!(get(&admin, "/healthz").0, 200);
    let stopping = Scrape::of(&broker);
    assert_eq!(stopping.sum("corelane_ready", &[]), 0.0);
    assert_eq!(stopping.sum("corelane_connections_accepted_total", &[]), 2.0, "what was counted stays");
    broker.wait_stopped();
}

#[test]
fn it_can_be_off() {
    let broker = Setup::new().set("admin.listener", "none").start();
    assert!(!broker.banner().iter().any(|line| line.contains("admin")), "{:?}", broker.banner());
    let correlation_id = {
        let mut wire = Wire::connect(broker.bootstrap());
        wire.create_topic("off", 1, &[]);
        wire.send(&wire::produce_request("off", 0, 1, batch(&values(1))), PRODUCE)
    };
    assert!(correlation_id > 0);
}

#[test]
fn a_port_that_was_asked_for_must_be_free() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let dir = TempDir::new();
    let command = Setup::new().set("admin.listener", &address).command(&dir.path().join("data"), 0);
    let ended = run_to_end(command);
    assert_eq!(ended.status.code(), Some(1));
    let port = address.rsplit(':').next().expect("host:port");
    assert!(ended.stderr.contains("admin.listener") && ended.stderr.contains(port), "{}", ended.stderr);
}

/// Whatever names they are given: clients must not land on the admin listener.
#[test]
fn a_listener_and_the_admin_listener_do_not_share_a_port() {
    let port = free_port();
    for (listener, admin) in [("127.0.0.1", "localhost"), ("localhost", "127.0.0.1"), ("", "127.0.0.1")] {
        let dir = TempDir::new();
        let setup = Setup::new().set("listeners", format!("PLAINTEXT://{listener}:{port}"));
        let command =
            setup.set("admin.listener", format!("{admin}:{port}")).command(&dir.path().join("data"), port);
        let ended = run_to_end(command);
        assert_eq!(ended.status.code(), Some(1), "{listener} {admin}");
        assert!(ended.stderr.contains("admin.listener"), "{}", ended.stderr);
    }
}

/// Two brokers on one machine, neither of which says anything about the admin listener.
#[test]
fn the_default_port_may_be_taken() {
    // Whoever has it, it is taken.
    let _taken = TcpListener::bind("127.0.0.1:9644");
    let dir = TempDir::new();
    let mut command = Command::new(binary());
    command
        .args(["start", "--shards", "1", "--set"])
        .arg(format!("log.dirs={}", dir.path().join("data").display()));
    command.args(["--set", &format!("listeners=PLAINTEXT://127.0.0.1:{}", free_port())]);
    let mut process = Process::spawn(command);
    let banner = process.wait_ready();
    assert!(!banner.iter().any(|line| line.contains("admin")), "{banner:?}");
    let stderr = process.stderr();
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("admin.listener")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("WARN") && warnings[0].contains("9644"), "{stderr}");
    process.signal(libc::SIGTERM);
    assert!(process.wait_exit().success());
}
