//! The commands for people, as a shell runs them: what they print as text and as JSON, exit codes, and errors that say
//! what to do.

mod records;

use crate::harness::{Broker, Ended, Setup, TempDir, free_port, run_to_end};
use crate::wire::{Wire, unique};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

fn run(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).env_remove("CORELANE_BOOTSTRAP_SERVER");
    run_to_end(command)
}

/// Runs against a broker and expects success; the lines of stdout.
fn ok(broker: &Broker, arguments: &[&str]) -> Vec<String> {
    let ended = run(&[arguments, &["-b", broker.bootstrap()]].concat());
    assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.stderr, "", "{arguments:?}");
    ended.stdout
}

fn json_of(broker: &Broker, arguments: &[&str]) -> Value {
    let lines = ok(broker, &[arguments, &["--json"]].concat());
    serde_json::from_str(&lines.join("\n")).expect("one JSON document")
}

/// Runs and expects exit code 1, nothing on stdout and one line on stderr, which is given.
fn refused(arguments: &[&str]) -> String {
    let ended = run(arguments);
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, [""; 0], "{arguments:?}");
    let line = ended.stderr.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "{arguments:?}: {line}");
    line.strip_prefix("error: ").expect("it says that it is an error").to_owned()
}

fn refused_by(broker: &Broker, arguments: &[&str]) -> String {
    refused(&[arguments, &["-b", broker.bootstrap()]].concat())
}

#[test]
fn a_topic_is_created_seen_changed_and_deleted() {
    let broker = Broker::start();
    let orders = unique("orders");
    let create = ["topic", "create", &orders, "-p", "3", "--config", "retention.ms=60000"];
    assert_eq!(ok(&broker, &create), [format!("created topic {orders}: 3 partitions, 1 replica")]);
    let listed = ok(&broker, &["topic", "list"]);
    assert_eq!(listed[0].split_whitespace().collect::<Vec<_>>(), ["TOPIC", "PARTITIONS", "REPLICAS"]);
    let cells: Vec<&str> = listed[1].split_whitespace().collect();
    assert_eq!(cells, [&orders, "3", "1"]);
    let listed = json_of(&broker, &["topic", "list"]);
    assert_eq!(listed["topics"][0]["name"], *orders);
    assert_eq!(listed["topics"][0]["partitions"], 3);

    let told = ok(&broker, &["topic", "describe", &orders]);
    assert!(told[0].starts_with(&format!("{orders}: 3 partitions, 1 replica, id ")), "{told:?}");
    assert_eq!(told[1], "  retention.ms=60000");
    assert_eq!(told.len(), 6, "a head and three partitions: {told:?}");
    assert_eq!(told[3].split_whitespace().collect::<Vec<_>>(), ["0", "1", "0", "1", "1", "0", "0", "ok"]);

    let alter = ["topic", "alter", &orders, "-c", "max.message.bytes=2000", "-d", "retention.ms"];
    assert_eq!(ok(&broker, &alter), [format!("changed topic {orders}")]);
    let told = json_of(&broker, &["topic", "describe", &orders]);
    assert_eq!(told["topics"][0]["configs"], json!({ "max.message.bytes": "2000" }));
    assert_eq!(told["topics"][0]["partitions"][2]["end_offset"], 0);

    let again = refused_by(&broker, &["topic", "create", &orders]);
    assert!(again.contains("TOPIC_ALREADY_EXISTS (error 36)"), "{again}");
    let there = ok(&broker, &["topic", "create", &orders, "--if-not-exists"]);
    assert_eq!(there, [format!("topic {orders} is there already")]);
    let mistyped = refused_by(&broker, &["topic", "create", "other", "-c", "retention.sm=1"]);
    assert!(
        mistyped.contains("INVALID_CONFIG (error 40)") && mistyped.ends_with("did you mean retention.ms?"),
        "{mistyped}"
    );

    let mistyped = refused_by(&broker, &["topic", "alter", &orders, "-d", "retention.sm"]);
    assert_eq!(mistyped, format!("topic {orders} has no setting retention.sm, did you mean retention.ms?"));

    assert_eq!(ok(&broker, &["topic", "delete", &orders]), [format!("deleted topic {orders}")]);
    assert_eq!(json_of(&broker, &["topic", "list"])["topics"], json!([]));
    let gone = refused_by(&broker, &["topic", "delete", &orders]);
    assert_eq!(gone, format!("topic {orders} does not exist; `corelane topic list` shows those that do"));
    assert_eq!(json_of(&broker, &["topic", "delete", &orders, "--if-exists"])["deleted"], json!([]));
}

#[test]
fn a_topic_gets_more_partitions_or_nothing_is_changed() {
    let broker = Broker::start();
    let topic = unique("grown");
    ok(&broker, &["topic", "create", &topic]);
    let alter = |count| ["topic", "alter", &topic, "-c", "retention.ms=5", "--partitions", count];
    let seen = || {
        let told = json_of(&broker, &["topic", "describe", &topic]);
        let topic = &told["topics"][0];
        (topic["partitions"].as_array().map(Vec::len), topic["configs"].clone())
    };
    let refused = refused_by(&broker, &alter("1"));
    assert!(refused.contains("INVALID_PARTITIONS (error 37)"), "{refused}");
    assert_eq!(seen(), (Some(1), json!({})));
    assert_eq!(ok(&broker, &alter("3")), [format!("changed topic {topic}")]);
    assert_eq!(seen(), (Some(3), json!({ "retention.ms": "5" })));
    let unknown = refused_by(&broker, &["topic", "alter", "nowhere", "-p", "3"]);
    assert_eq!(unknown, "topic nowhere does not exist; `corelane topic list` shows those that do");
}

#[test]
fn an_unknown_topic_is_told_with_a_near_name() {
    let broker = Broker::start();
    Wire::connect(broker.bootstrap()).create_topic("payments", 1, &[]);
    for arguments in [
        &["topic", "describe", "paymets"][..],
        &["topic", "delete", "paymets"],
        &["topic", "alter", "paymets", "-c", "retention.ms=5"],
        &["config", "describe", "topic", "paymets"],
        &["config", "alter", "topic", "paymets", "--set", "retention.ms=5"],
    ] {
        let told = refused_by(&broker, arguments);
        assert_eq!(told, "topic paymets does not exist, did you mean payments?", "{arguments:?}");
    }
    assert_eq!(json_of(&broker, &["topic", "list"])["topics"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_cluster_is_told() {
    let broker = Broker::start();
    Wire::connect(broker.bootstrap()).create_topic("told", 4, &[]);
    let told = json_of(&broker, &["cluster", "describe"]);
    assert_eq!((&told["controller"], &told["brokers"][0]["id"]), (&json!(1), &json!(1)));
    assert_eq!((&told["topics"], &told["partitions"]), (&json!(1), &json!(4)));
    let port: u64 = broker.bootstrap().rsplit(':').next().expect("a port").parse().expect("a number");
    assert_eq!(told["brokers"][0]["port"], port);
    let text = ok(&broker, &["cluster", "describe"]);
    let id = told["cluster_id"].as_str().expect("an id");
    let head =
        format!("cluster {id}: 1 topic, 4 partitions, 0 without a leader, 0 with replicas not in sync");
    assert_eq!(text[0], head);
    assert!(text.iter().any(|line| line.starts_with("1*") && line.contains(&format!(":{port}"))), "{text:?}");
}

#[test]
fn settings_are_told_and_changed() {
    let broker = Setup::new().set("num.partitions", 7).start();
    let topic = unique("set");
    ok(&broker, &["topic", "create", &topic]);
    let partitions = &json_of(&broker, &["topic", "describe", &topic])["topics"][0]["partitions"];
    assert_eq!(partitions.as_array().map(Vec::len), Some(7), "the broker's default");
    let told = ok(&broker, &["config", "describe", "broker"]);
    let row: Vec<&str> = told
        .iter()
        .find(|line| line.starts_with("num.partitions "))
        .expect("it is set")
        .split_whitespace()
        .collect();
    assert_eq!(row, ["num.partitions", "7", "file"]);
    assert!(!told.iter().any(|line| line.starts_with("num.io.threads")), "{told:?}");
    let all = json_of(&broker, &["config", "describe", "broker", "1", "--all"]);
    let all = all["configs"].as_array().expect("configs");
    assert!(all.iter().any(|config| config["name"] == "num.io.threads" && config["source"] == "default"));

    let alter = ["config", "alter", "topic", &topic, "--set", "retention.ms=777", "--set", "segment.ms=1000"];
    assert_eq!(ok(&broker, &alter), [format!("changed topic {topic}")]);
    ok(&broker, &["config", "alter", "topic", &topic, "--delete", "segment.ms"]);
    let told = json_of(&broker, &["config", "describe", "topic", &topic]);
    let own: Vec<&Value> = told["configs"]
        .as_array()
        .expect("configs")
        .iter()
        .filter(|config| config["source"] == "topic")
        .collect();
    assert_eq!(own.len(), 1, "{told}");
    assert_eq!((&own[0]["name"], &own[0]["value"]), (&json!("retention.ms"), &json!("777")));
    let bad = refused_by(&broker, &["config", "alter", "topic", &topic, "--set", "retention.ms=soon"]);
    assert!(bad.contains("INVALID_CONFIG (error 40)") && bad.contains("soon"), "{bad}");
    let nobody = refused_by(&broker, &["config", "describe", "broker", "9"]);
    assert_eq!(nobody, "broker 9 is not in the cluster now; `corelane cluster describe` shows which are");
}

#[test]
fn nobody_there_or_nobody_who_speaks_kafka_is_said() {
    let port = free_port();
    let nobody = refused(&["topic", "list", "-b", &format!("127.0.0.1:{port}")]);
    let expect = format!(
        "cannot connect to 127.0.0.1:{port}: connection refused, nobody listens there; start a broker there, or say \
         with --bootstrap-server where one is"
    );
    assert_eq!(nobody, expect);
    let broker = Broker::start();
    // the second is asked when the first is not there
    let both = format!("127.0.0.1:{port},{}", broker.bootstrap());
    assert!(run(&["topic", "list", "-b", &both]).status.success());
    let http = refused(&["topic", "list", "-b", broker.admin(), "--timeout", "5s"]);
    assert!(
        http.contains("does not answer as a Kafka broker") || http.contains("ended: the broker closed it"),
        "{http}"
    );
    // accepts, and says nothing
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address").to_string();
    let silence = refused(&["topic", "list", "-b", &address, "--timeout", "50ms"]);
    assert!(silence.starts_with(&format!("{address} did not answer within 50ms")), "{silence}");
}

#[test]
fn a_file_of_settings_is_checked() {
    let dir = TempDir::new();
    let path = dir.path().join("server.properties");
    let path = path.to_str().expect("a path of letters");
    let write = |text: &str| std::fs::write(path, text).expect("it can be written");

    write("node.id=4\nnum.partitions=8\nlog.retention.hours=168\n");
    let good = run(&["config", "check", path, "--set", "log.segment.bytes=2000000"]);
    assert!(good.status.success(), "{}", good.stderr);
    let rows: Vec<Vec<&str>> = good.stdout.iter().map(|line| line.split_whitespace().collect()).collect();
    let expect = [
        vec!["SETTING", "VALUE", "DEFAULT"],
        vec!["log.segment.bytes", "2000000", "1073741824"],
        vec!["node.id", "4", "1"],
        vec!["num.partitions", "8", "1"],
    ];
    assert_eq!(rows, expect, "what is set to its default is not told");

    write("num.partition=8\nzookeeper.connect=a:1\n");
    let warned = run(&["config", "check", path]);
    assert!(warned.status.success(), "a broker would start: {}", warned.stderr);
    assert_eq!(warned.stdout[0], "every setting has its default");
    let warning =
        format!("warning: {path}:1: unknown setting num.partition is ignored, did you mean num.partitions?");
    assert_eq!(warned.stdout[1], warning);
    assert!(warned.stdout[2].starts_with("note: "), "{:?}", warned.stdout);

    write("num.partitions=0\n\nsocket.request.max.bytes=many\n");
    let bad = run(&["config", "check", path, "--json"]);
    assert_eq!(bad.status.code(), Some(1));
    let document: Value = serde_json::from_str(&bad.stdout.join("\n")).expect("JSON");
    let errors: Vec<&str> =
        document["errors"].as_array().expect("errors").iter().filter_map(Value::as_str).collect();
    assert_eq!(errors.len(), 2, "every bad value is told: {errors:?}");
    assert!(errors[0].starts_with(&format!("{path}:1: invalid value 0 for num.partitions: ")), "{errors:?}");
    assert!(errors[1].starts_with(&format!("{path}:3: invalid value many for socket.request.max.bytes: ")));
    assert_eq!(document["starts"], false);

    write("corelane.cores=x-y\n");
    let cores = run(&["config", "check", path]);
    assert_eq!(cores.status.code(), Some(1), "{:?}", cores.stdout);
    let missing = refused(&["config", "check", "/nowhere/at.all"]);
    assert!(missing.starts_with("cannot read the configuration /nowhere/at.all: "), "{missing}");
}

#[test]
fn shells_are_given_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert!(ended.status.success(), "{}", ended.stderr);
        let script = ended.stdout.join("\n");
        for word in ["corelane", "topic", "reset-offsets", "bootstrap-server", "inspect"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash starts");
    let script = run(&["completions", "bash"]).stdout.join("\n");
    bash.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("bash reads it");
    assert!(bash.wait().expect("bash ends").success(), "bash cannot parse its script");
}
