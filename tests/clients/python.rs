//! kafka-python and confluent-kafka-python write 100,000 records over 8 partitions with every codec and read back
//! exactly those, in order: at once, after a clean restart, after kill -9. A broker is killed under a producer. And
//! kafka-python's admin client deletes records.

use crate::harness::{Broker, Process, Setup};
use crate::install::script;
use crate::run::{run, run_with};
use crate::wire::{self, Wire};
use std::process::Command;

const PARTITIONS: i32 = 8;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Acknowledgements after which the broker under a producer is killed.
const ENOUGH: u32 = 10_000;

/// A run of `script` on the topics `prefix`-CODEC.
struct Client<'a> {
    script: &'a str,
    prefix: &'a str,
    base_ms: i64,
}

impl Client<'_> {
    fn command(&self, broker: &Broker, action: &str) -> Command {
        let mut command = script(self.script);
        command.arg(action).args(["--bootstrap", broker.bootstrap(), "--prefix", self.prefix]);
        command.arg("--base-ms").arg(self.base_ms.to_string());
        command
    }
}

fn create_topics(broker: &Broker, prefix: &str) {
    let mut wire = Wire::connect(broker.bootstrap());
    for codec in CODECS {
        wire.create_topic(&format!("{prefix}-{codec}"), PARTITIONS, &[]);
    }
}

fn round_trip(script: &str) {
    let mut broker = Setup::new().shards(2).start();
    let prefix = wire::unique("trip");
    create_topics(&broker, &prefix);
    let client = Client { script, prefix: &prefix, base_ms: wire::now_ms() };
    run(client.command(&broker, "write"));
    run(client.command(&broker, "read"));
    if broker.is_external() {
        return;
    }
    broker.stop();
    broker.restart();
    run(client.command(&broker, "read"));
    broker.kill();
    broker.restart();
    run(client.command(&broker, "read"));
    broker.stop();
}

#[test]
fn confluent_kafka_python_reads_exactly_what_it_wrote() {
    round_trip("confluent_roundtrip.py");
}

#[test]
fn kafka_python_reads_exactly_what_it_wrote() {
    round_trip("kafka_python_roundtrip.py");
}

/// Kills the broker under a producer; what the producer was told is stored must be there after a restart.
fn killed_under(script: &str) {
    let mut broker = Setup::new().shards(2).start();
    for (codec, acks) in [("none", "all"), ("lz4", "1")] {
        let prefix = wire::unique("cut");
        Wire::connect(broker.bootstrap()).create_topic(&format!("{prefix}-{codec}"), PARTITIONS, &[]);
        let client = Client { script, prefix: &prefix, base_ms: wire::now_ms() };
        let mut command = client.command(&broker, "endless");
        command.args(["--codecs", codec, "--acks", acks, "--enough"]).arg(ENOUGH.to_string());
        let mut producer = Process::spawn(command);
        let mut acknowledged = producer.lines_until("enough");
        acknowledged.pop();
        broker.kill();
        acknowledged.extend(producer.lines_to_end());
        let status = producer.wait_exit();
        assert!(status.success(), "{status}\n{}", producer.stderr());
        broker.restart();
        let check = Client { script: "confluent_roundtrip.py", ..client };
        let mut command = check.command(&broker, "check");
        command.args(["--codecs", codec]);
        run_with(command, acknowledged.join("\n").into_bytes());
    }
}

#[test]
fn confluent_kafka_python_loses_nothing_acknowledged_to_kill_9() {
    killed_under("confluent_roundtrip.py");
}

#[test]
fn kafka_python_loses_nothing_acknowledged_to_kill_9() {
    killed_under("kafka_python_roundtrip.py");
}

#[test]
fn kafka_python_deletes_records_and_they_stay_deleted() {
    let mut broker = Setup::new().shards(2).start();
    let topic = wire::unique("shortened");
    Wire::connect(broker.bootstrap()).create_topic(&topic, 2, &[]);
    let act = |broker: &Broker, action: &str| {
        let mut command = script("kafka_python_delete_records.py");
        command.args([action, "--bootstrap", broker.bootstrap(), "--topic", &topic]);
        run(command);
    };
    for action in ["write", "delete", "read"] {
        act(&broker, action);
    }
    if broker.is_external() {
        return;
    }
    broker.kill();
    broker.restart();
    act(&broker, "read");
    broker.stop();
    broker.restart();
    act(&broker, "read");
    broker.stop();
}
