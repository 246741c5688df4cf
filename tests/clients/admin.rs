//! Admin clients: each operation that is served, and its main error, by kafka-python, confluent-kafka-python and
//! franz-go's kadm. The same programs find Apache Kafka to answer the same.

use crate::franz_go::franz_go;
use crate::harness::{Setup, TempDir, free_port};
use crate::install::{kafka, script};
use crate::run::run;
use std::process::Command;

/// Each leaves a broker as it has found it.
const CLIENTS: [fn() -> Command; 3] = [confluent_kafka_python, kafka_python, kadm];

fn confluent_kafka_python() -> Command {
    script("confluent_admin.py")
}

fn kafka_python() -> Command {
    script("kafka_python_admin.py")
}

fn kadm() -> Command {
    let mut command = franz_go("admin");
    command.arg("--prefix").arg(crate::wire::unique("kadm"));
    command
}

fn administer(mut client: Command, bootstrap: &str) {
    client.args(["--bootstrap", bootstrap]);
    assert_eq!(String::from_utf8_lossy(&run(client).stdout), "done\n");
}

#[test]
fn confluent_kafka_python_administers() {
    administer(confluent_kafka_python(), Setup::new().shards(2).start().bootstrap());
}

#[test]
fn kafka_python_administers() {
    administer(kafka_python(), Setup::new().shards(2).start().bootstrap());
}

#[test]
fn franz_go_administers() {
    administer(kadm(), Setup::new().shards(2).start().bootstrap());
}

/// One Kafka for all of them: to start it takes longer than they do.
#[test]
fn admin_clients_find_the_same_of_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let broker = kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    for client in CLIENTS {
        administer(client(), &format!("127.0.0.1:{port}"));
    }
    broker.stop().expect("Kafka stops");
}
