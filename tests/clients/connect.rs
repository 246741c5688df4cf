//! Kafka Connect, distributed: two workers share a file source and a file sink, one is killed, and the other goes on with
//! both; each line of the one file gets to the other.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Broker, Process, Setup, free_port};
use crate::install::{connect, kafka};
use crate::wire::{self, Wire};

const PATIENCE: Duration = Duration::from_secs(120);

/// Beside what Kafka's programs say: what is waited for.
const LOGGING: &str = "    Logger:
      - name: org.apache.kafka.connect.runtime
        level: INFO
";

struct Worker {
    process: Process,
    port: u16,
}

impl Worker {
    fn start(broker: &Broker, group: &str) -> Worker {
        let port = free_port();
        let (bootstrap, folder) = (broker.bootstrap(), broker.scratch());
        let properties = folder.join(format!("worker-{port}.properties"));
        let text = format!(
            "bootstrap.servers={bootstrap}\n\
             group.id={group}\n\
             listeners=http://127.0.0.1:{port}\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             config.storage.topic={group}-configs\n\
             offset.storage.topic={group}-offsets\n\
             offset.storage.partitions=5\n\
             status.storage.topic={group}-status\n\
             config.storage.replication.factor=1\n\
             offset.storage.replication.factor=1\n\
             status.storage.replication.factor=1\n\
             offset.flush.interval.ms=500\n\
             session.timeout.ms=6000\n\
             heartbeat.interval.ms=1000\n\
             consumer.session.timeout.ms=6000\n\
             # the tasks of a worker that is gone are another's at once\n\
             scheduled.rebalance.max.delay.ms=0\n"
        );
        std::fs::write(&properties, text).expect("target/tmp is writable");
        let logging = folder.join("connect-log4j2.yaml");
        let all = std::fs::read_to_string(kafka().logging()).expect("Kafka is installed") + LOGGING;
        std::fs::write(&logging, all).expect("target/tmp is writable");
        let mut command = connect(&logging, "org.apache.kafka.connect.cli.ConnectDistributed");
        command.arg(&properties);
        let process = Process::spawn(command);
        process.wait_logged("Finished starting connectors and tasks", 1);
        Worker { process, port }
    }

    /// A request to the worker's own interface; its answer, once it is the status that is wanted.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the worker listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("the worker reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the worker answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).expect("a status");
        // 409: a rebalance is going on
        status.starts_with('2').then(|| serde_json::from_str(body).expect("JSON"))
    }

    /// Sets up a connector.
    fn configure(&self, name: &str, config: &Value) {
        eventually(name, || {
            self.ask("PUT", &format!("/connectors/{name}/config"), &config.to_string()).is_some()
        });
    }

    /// Which workers run the connector's tasks, when all of it runs.
    fn runs(&self, name: &str) -> Option<BTreeSet<String>> {
        let status = self.ask("GET", &format!("/connectors/{name}/status"), "")?;
        let tasks = status["tasks"].as_array()?;
        let running = |part: &&Value| part["state"] == "RUNNING";
        let all = tasks.len() == 1 && tasks.iter().chain([&status["connector"]]).all(|part| running(&part));
        all.then(|| tasks.iter().filter_map(|task| Some(task["worker_id"].as_str()?.to_owned())).collect())
    }

    fn id(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Looks again until it is so. Each look asks a worker, so this does not spin.
fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
    }
}

fn append(path: &Path, lines: std::ops::Range<usize>) {
    let text: String = lines.map(|line| format!("line {line}\n")).collect();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file to write");
    file.write_all(text.as_bytes()).expect("a file to write");
}

#[test]
fn kafka_connect_carries_a_file() {
    let mut broker = Setup::new().set("group.initial.rebalance.delay.ms", 0).start();
    let group = wire::unique("connect");
    let topic = format!("{group}-lines");
    Wire::connect(broker.bootstrap()).create_topic(&topic, 2, &[]);
    let [from, to] = ["from.txt", "to.txt"].map(|name| broker.scratch().join(name));
    let first = Worker::start(&broker, &group);
    let mut second = Worker::start(&broker, &group);

    append(&from, 0..1000);
    let file = "org.apache.kafka.connect.file.FileStream";
    first.configure(
        "source",
        &json!({"connector.class": format!("{file}SourceConnector"), "tasks.max": "1", "file": from, "topic": topic}),
    );
    second.configure(
        "sink",
        &json!({"connector.class": format!("{file}SinkConnector"), "tasks.max": "1", "file": to, "topics": topic}),
    );
    let carried = |worker: &Worker, count: usize| {
        let wanted: BTreeSet<String> = (0..count).map(|line| format!("line {line}")).collect();
        eventually(&format!("{count} lines"), || {
            let text = std::fs::read_to_string(&to).unwrap_or_default();
            worker.runs("sink").is_some()
                && text.lines().map(str::to_owned).collect::<BTreeSet<_>>() == wanted
        });
    };
    carried(&first, 1000);
    append(&from, 1000..2000);
    carried(&second, 2000);

    second.process.signal(libc::SIGKILL);
    second.process.wait_exit();
    append(&from, 2000..3000);
    let alone = BTreeSet::from([first.id()]);
    for name in ["source", "sink"] {
        eventually("the first worker runs all", || first.runs(name).as_ref() == Some(&alone));
    }
    carried(&first, 3000);

    let third = Worker::start(&broker, &group);
    append(&from, 3000..4000);
    carried(&third, 4000);
    drop((first, second, third));
    if !broker.is_external() {
        broker.stop();
    }
}
