//! `corelane txn describe`: transactional ids, or the producers of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::producers::{self, Found, Producer};
use super::transaction::{self, Transaction, is_open};
use super::{Within, number_or_dash};
use crate::cli::client::{Client, Error, TopicPartition};
use crate::cli::table::Table;
use crate::cli::target::{Target, counted};
use crate::cli::time;

#[derive(Args)]
pub(in crate::cli) struct Describe {
    /// How far their transactions are.
    #[arg(value_name = "TRANSACTIONAL_ID", required_unless_present = "topic", conflicts_with_all = ["topic", "partition"])]
    ids: Vec<String>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Describe) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let Some(wanted) = arguments.within.resolve(&mut client)? else {
        return transactions(&mut client, &arguments.ids, &arguments.target);
    };
    let mut found = BTreeMap::new();
    for (of, producers) in producers::ask(&mut client, &wanted)? {
        found.insert(of, producers?);
    }
    if let Some(silent) = wanted.iter().find(|of| !found.contains_key(of)) {
        return Err(Error::Silent(format!("the producers of {silent}")).into());
    }
    arguments.target.tell(|| producers_json(&found), || producers_text(&found))
}

/// All that is told of a transactional id.
struct Told {
    transaction: Transaction,
    /// Where its coordinator listens.
    coordinator: String,
    /// Where it has to be ended, and what its producer has done there, if the partition's leader tells.
    partitions: BTreeMap<TopicPartition, Option<Producer>>,
}

fn transactions(client: &mut Client, ids: &[String], target: &Target) -> Result<(), String> {
    let described = ids.iter().map(|id| transaction::describe(client, id)).collect::<Result<Vec<_>, _>>()?;
    let wanted: BTreeSet<TopicPartition> = described.iter().flat_map(partitions).collect();
    let found = producers::ask(client, &wanted)?;
    let told: Vec<Told> = described.into_iter().map(|one| Told::new(client, one, &found)).collect();
    let now_ms = time::ago(0);
    target.tell(
        || json!({ "transactions": told.iter().map(|told| told.json(now_ms)).collect::<Vec<_>>() }),
        || told.iter().map(|told| told.text(now_ms)).collect::<Vec<_>>().join("\n"),
    )
}

fn partitions(transaction: &Transaction) -> impl Iterator<Item = TopicPartition> {
    let topics = transaction.partitions.iter();
    topics.flat_map(|(topic, indexes)| indexes.iter().map(move |&index| TopicPartition::new(topic, index)))
}

impl Told {
    fn new(client: &Client, transaction: Transaction, found: &Found) -> Told {
        let partitions = partitions(&transaction).map(|of| {
            let producers = found.get(&of).and_then(|producers| producers.as_ref().ok());
            let of_id = |producer: &&Producer| producer.id == transaction.producer_id;
            let producer = producers.and_then(|producers| producers.iter().find(of_id));
            let producer = producer.cloned();
            (of, producer)
        });
        Told {
            partitions: partitions.collect(),
            coordinator: client.address(transaction.coordinator).unwrap_or_default().to_owned(),
            transaction,
        }
    }

    fn text(&self, now_ms: i64) -> String {
        let transaction = &self.transaction;
        let open_for = transaction.open_for(now_ms).map(|ms| format!(" for {}", time::span(ms)));
        let mut text = format!(
            "{}: {}{}, coordinator broker {} ({})\n",
            transaction.id,
            transaction.state,
            open_for.unwrap_or_default(),
            transaction.coordinator,
            self.coordinator
        );
        let _ = write!(
            text,
            "  producer {}, epoch {}, timeout {}",
            transaction.producer_id,
            transaction.epoch,
            time::span(transaction.timeout_ms)
        );
        match transaction.began_ms.map(time::text) {
            None => text += ", no transaction yet\n",
            Some(began) if is_open(&transaction.state) => text = text + ", began " + &began + "\n",
            Some(began) => text = text + ", its last transaction began " + &began + "\n",
        }
        if !self.partitions.is_empty() {
            let mut table = Table::new(&["TOPIC", "PARTITION", "OPEN FROM", "LAST WRITTEN"]);
            for (of, producer) in &self.partitions {
                let written = producer.as_ref().map(|producer| time::text(producer.last_written_ms));
                table.row([
                    of.topic.clone(),
                    of.partition.to_string(),
                    number_or_dash(producer.as_ref().and_then(|producer| producer.open_from)),
                    written.unwrap_or_else(|| "-".to_owned()),
                ]);
            }
            text += &table.text();
        }
        text
    }

    fn json(&self, now_ms: i64) -> Value {
        let transaction = &self.transaction;
        let partitions = self.partitions.iter().map(|(of, producer)| {
            json!({
                "topic": of.topic,
                "partition": of.partition,
                "start_offset": producer.as_ref().and_then(|producer| producer.open_from),
                "last_written_ms": producer.as_ref().map(|producer| producer.last_written_ms),
            })
        });
        json!({
            "transactional_id": transaction.id,
            "coordinator": transaction.coordinator,
            "state": transaction.state,
            "producer_id": transaction.producer_id,
            "producer_epoch": transaction.epoch,
            "timeout_ms": transaction.timeout_ms,
            "began_ms": transaction.began_ms,
            "open_for_ms": transaction.open_for(now_ms),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }
}

fn producers_text(found: &BTreeMap<TopicPartition, Vec<Producer>>) -> String {
    let all = || found.values().flatten();
    let mut text = format!(
        "{}, {}, {}\n",
        counted(found.len() as u64, "partition"),
        counted(all().count() as u64, "producer"),
        counted(all().filter(|producer| producer.open_from.is_some()).count() as u64, "open transaction")
    );
    if let Some(of) = found.keys().next() {
        text = format!("{}: {text}", of.topic);
    }
    if all().next().is_some() {
        let heads = [
            "PARTITION",
            "PRODUCER ID",
            "EPOCH",
            "COORDINATOR EPOCH",
            "LAST SEQUENCE",
            "LAST WRITTEN",
            "OPEN FROM",
        ];
        let mut table = Table::new(&heads);
        for (of, producer) in found.iter().flat_map(|(of, all)| all.iter().map(move |one| (of, one))) {
            table.row([
                of.partition.to_string(),
                producer.id.to_string(),
                producer.epoch.to_string(),
                number_or_dash(producer.coordinator_epoch.map(i64::from)),
                number_or_dash(producer.last_sequence.map(i64::from)),
                time::text(producer.last_written_ms),
                number_or_dash(producer.open_from),
            ]);
        }
        text += &table.text();
    }
    text
}

fn producers_json(found: &BTreeMap<TopicPartition, Vec<Producer>>) -> Value {
    let partitions = found.iter().map(|(of, producers)| {
        let producers = producers.iter().map(|producer| {
            json!({
                "producer_id": producer.id,
                "producer_epoch": producer.epoch,
                "coordinator_epoch": producer.coordinator_epoch,
                "last_sequence": producer.last_sequence,
                "last_written_ms": producer.last_written_ms,
                "start_offset": producer.open_from,
            })
        });
        json!({
            "topic": of.topic,
            "partition": of.partition,
            "producers": producers.collect::<Vec<_>>(),
        })
    });
    json!({ "partitions": partitions.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        describe: Describe,
    }

    #[test]
    fn it_is_transactional_ids_or_a_topic() {
        let check = |words: &str, is_fine: bool| {
            let line = Line::try_parse_from(format!("describe {words}").split_whitespace());
            assert_eq!(line.is_ok(), is_fine, "{words}");
        };
        for fine in ["a", "a b", "-T orders", "--topic orders --partition 0", "-T orders -p 0,4-7"] {
            check(fine, true);
        }
        for bad in ["", "a --topic orders", "a --partition 0", "--partition 0", "-T orders -p x"] {
            check(bad, false);
        }
    }

    fn producer(id: i64, open_from: Option<i64>) -> Producer {
        Producer {
            id,
            epoch: 3,
            coordinator_epoch: open_from.is_none().then_some(5),
            last_sequence: open_from.and(Some(41)),
            last_written_ms: 1_700_000_000_000,
            open_from,
        }
    }

    fn told(state: &str, partitions: &[(i32, Option<Producer>)]) -> Told {
        let transaction = Transaction {
            id: "checkout".to_owned(),
            coordinator: 1,
            state: state.to_owned(),
            producer_id: 4_711,
            epoch: 3,
            timeout_ms: 60_000,
            began_ms: (state != "Empty").then_some(1_700_000_000_000),
            partitions: [("orders".to_owned(), partitions.iter().map(|(index, _)| *index).collect())].into(),
        };
        let partitions = partitions.iter().cloned();
        let partitions =
            partitions.map(|(index, producer)| (TopicPartition::new("orders", index), producer)).collect();
        Told { transaction, coordinator: "localhost:9092".to_owned(), partitions }
    }

    #[test]
    fn a_transaction_is_told_with_where_it_is_open() {
        let text =
            told("Ongoing", &[(0, Some(producer(4_711, Some(120)))), (1, None)]).text(1_700_000_061_500);
        let expect = "\
checkout: Ongoing for 1m 1s, coordinator broker 1 (localhost:9092)
  producer 4711, epoch 3, timeout 1m, began 2023-11-14T22:13:20.000Z
TOPIC   PARTITION  OPEN FROM  LAST WRITTEN
orders          0        120  2023-11-14T22:13:20.000Z
orders          1          -  -
";
        assert_eq!(text, expect);
        let ended = told("CompleteAbort", &[]).text(1_700_000_061_500);
        let expect = "\
checkout: CompleteAbort, coordinator broker 1 (localhost:9092)
  producer 4711, epoch 3, timeout 1m, its last transaction began 2023-11-14T22:13:20.000Z
";
        assert_eq!(ended, expect);
        assert!(told("Empty", &[]).text(0).ends_with(", timeout 1m, no transaction yet\n"));
        let json = told("PrepareCommit", &[(1, None)]).json(1_700_000_061_500);
        assert_eq!(
            (&json["open_for_ms"], &json["began_ms"]),
            (&json!(61_500), &json!(1_700_000_000_000_i64))
        );
        assert_eq!(json["partitions"][0]["start_offset"], Value::Null);
    }

    #[test]
    fn producers_are_told_by_partition() {
        let of = |index| TopicPartition::new("orders", index);
        let found =
            [(of(0), vec![producer(7, None), producer(4_711, Some(120))]), (of(1), Vec::new())].into();
        let expect = "\
orders: 2 partitions, 2 producers, 1 open transaction
PARTITION  PRODUCER ID  EPOCH  COORDINATOR EPOCH  LAST SEQUENCE  LAST WRITTEN              OPEN FROM
        0            7      3                  5              -  2023-11-14T22:13:20.000Z          -
        0         4711      3                  -             41  2023-11-14T22:13:20.000Z        120
";
        assert_eq!(producers_text(&found), expect);
        let json = producers_json(&found);
        assert_eq!(json["partitions"][0]["producers"][1]["start_offset"], 120);
        assert_eq!(json["partitions"][1]["producers"], json!([]));
        let none = producers_text(&[(of(1), Vec::new())].into());
        assert_eq!(none, "orders: 1 partition, 0 producers, 0 open transactions\n");
    }
}
