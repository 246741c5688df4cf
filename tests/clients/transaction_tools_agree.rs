//! kafka-transactions against corelane and against Apache Kafka, side by side, with the same transactions: what it prints
//! agrees, and so does what it leaves behind.

use std::path::Path;
use std::thread;

use corelane_perf::compare::Process;

use crate::harness::{Setup, TempDir, free_port};
use crate::install::kafka;
use crate::kafka_tools_agree::{Step, agree, step, step_as, transcript};
use crate::scene::{PARTITIONS, Scene, stable_offset};
use crate::wire::Wire;

const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";

/// As the tool has no way to look for all, and its answers have times and producer ids in them.
const fn told(arguments: &'static str) -> Step {
    step_as(TRANSACTIONS, arguments, table)
}

const SCRIPT: &[Step] = &[
    told("--bootstrap-server BOOTSTRAP list"),
    told("--bootstrap-server BOOTSTRAP list --duration-filter 0"),
    told(
        "--bootstrap-server BOOTSTRAP list --duration-filter 3600000 --transactional-id-pattern shop-[do].*",
    ),
    told("--bootstrap-server BOOTSTRAP list --transactional-id-pattern shop-[do].*"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP list --transactional-id-pattern ("),
    told("--bootstrap-server BOOTSTRAP describe --transactional-id shop-open"),
    told("--bootstrap-server BOOTSTRAP describe --transactional-id shop-done"),
    told("--bootstrap-server BOOTSTRAP describe --transactional-id shop-idle"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP describe --transactional-id nobody"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 0"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 1"),
    told("--bootstrap-server BOOTSTRAP describe-producers --broker-id 1 --topic orders --partition 2"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 3"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 4"),
    step(
        TRANSACTIONS,
        "--bootstrap-server BOOTSTRAP describe-producers --broker-id 1 --topic orders --partition 9",
    ),
    told("--bootstrap-server BOOTSTRAP find-hanging --topic orders"),
    told("--bootstrap-server BOOTSTRAP find-hanging --topic orders --max-transaction-timeout 0"),
    told("--bootstrap-server BOOTSTRAP find-hanging --broker-id 1 --max-transaction-timeout 0"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP abort --topic orders --partition 3 --start-offset 1"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP abort --topic orders --partition 3 --start-offset 0"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP abort --topic orders --partition 2 --start-offset 3"),
    told("--bootstrap-server BOOTSTRAP find-hanging --topic orders --max-transaction-timeout 0"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 2"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 3"),
    step(TRANSACTIONS, "--bootstrap-server BOOTSTRAP forceTerminateTransaction --transactionalId shop-open"),
    told("--bootstrap-server BOOTSTRAP describe --transactional-id shop-open"),
    told("--bootstrap-server BOOTSTRAP describe-producers --topic orders --partition 0"),
];

#[test]
fn kafkas_transaction_tool_says_the_same_of_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let theirs: Process =
        kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    let mut ours = Setup::new().shards(2).start();
    let (folder, bootstrap) = (scratch.path().to_owned(), format!("127.0.0.1:{port}"));
    let kafka = thread::spawn(move || said(&bootstrap, &folder));
    let (own, own_offsets) = said(ours.bootstrap(), scratch.path());
    let (kafka, offsets) = kafka.join().expect("the script runs against Kafka");
    agree(SCRIPT, &own, &kafka);
    // and not about nothing
    let hanging = "orders|2|ID|0|0|3|TIME|LONG\norders|3|ID|0|-1|0|TIME|LONG";
    for row in ["shop-open|1|ID|Ongoing", hanging] {
        assert!(own.iter().any(|text| text.contains(row)), "{row}\n{}", own.join("\n"));
    }
    assert_eq!(own_offsets, offsets, "where readers of committed records get");
    theirs.stop().expect("Kafka stops");
    ours.stop();
}

/// Makes the transactions and runs the script; and where readers of committed records get then.
fn said(bootstrap: &str, folder: &Path) -> (Vec<String>, Vec<i64>) {
    let _scene = Scene::make(bootstrap);
    let said = transcript(SCRIPT, bootstrap, folder);
    let mut wire = Wire::connect(bootstrap);
    let offsets = (0..PARTITIONS).map(|partition| stable_offset(&mut wire, partition).expect("it is there"));
    (said, offsets.collect())
}

/// The tool's table: its head, and its rows in the order of their texts, which is not that of the tool. Producer ids and times
/// are what they are at that broker; what they may be is looked at.
fn table(text: &str) -> String {
    let mut lines = text.lines().map(|line| line.trim_end().split('\t').map(str::trim).collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default();
    let mut rows: Vec<String> = lines.map(|cells| cells_of(&head, &cells)).collect();
    rows.sort();
    format!("{}\n{}", head.join("|"), rows.join("\n"))
}

fn cells_of(head: &[&str], cells: &[&str]) -> String {
    let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{head:?}: {cells:?}"));
    let cells = head.iter().zip(cells).map(|(&column, &cell)| match (column, cell) {
        (_, "None") => "None".to_owned(),
        ("ProducerId", id) if number(id) >= 0 => "ID".to_owned(),
        // of the year 2023 or later
        ("LastTimestamp" | "CurrentTransactionStartTimeMs", ms) if number(ms) > 1_700_000_000_000 => {
            "TIME".to_owned()
        }
        ("TransactionDurationMs" | "Duration(min)", time) if number(time) >= 0 => "LONG".to_owned(),
        ("TopicPartitions", partitions) => {
            let mut partitions: Vec<&str> = partitions.split(',').collect();
            partitions.sort_unstable();
            partitions.join(",")
        }
        _ => cell.to_owned(),
    });
    cells.collect::<Vec<_>>().join("|")
}
