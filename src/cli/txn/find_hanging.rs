//! `corelane txn find-hanging`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::hanging::{self, Known, Open};
use super::producers::{self, Found};
use super::{Within, number_or_dash};
use crate::cli::client::{Client, Error, TopicPartition};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::cli::target::{Target, counted};
use crate::cli::time;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// Partitions that are looked at before it says how far it is.
const SLICE: usize = 5_000;

#[derive(Args)]
pub(in crate::cli) struct FindHanging {
    #[command(flatten)]
    within: Within,
    /// Only in partitions that this broker leads.
    #[arg(long, default_value = "all", value_name = "ID|all", value_parser = broker)]
    broker: Broker,
    /// Only transactions that nobody has written to for longer than any may take: what the brokers' transaction.max.timeout.ms
    /// says.
    #[arg(long, default_value = "15min", value_name = "TIME", value_parser = time::length)]
    max_transaction_timeout: i64,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    All,
    One(i32),
}

fn broker(text: &str) -> Result<Broker, String> {
    match text {
        "all" => Ok(Broker::All),
        id => id.parse().map(Broker::One).map_err(|_| "must be a broker's id, or all".to_owned()),
    }
}

/// What was found.
#[derive(Default)]
struct Search {
    /// Partitions that were looked at.
    looked_at: usize,
    /// Transactions that they have open, of any age.
    open: usize,
    hanging: Vec<(Open, Known)>,
    /// Partitions that nobody could be asked about, each with the reason.
    not_looked_at: Vec<String>,
}

pub(super) fn run(arguments: &FindHanging) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let within = arguments.within.resolve(&mut client)?;
    let all: Vec<TopicPartition> = partitions(&mut client, within, arguments.broker)?.into_iter().collect();
    let mut search = Search::default();
    let mut progress = Progress::new(false);
    let mut old = Vec::new();
    for wanted in all.chunks(SLICE) {
        let found = producers::ask(&mut client, &wanted.iter().cloned().collect())?;
        old.extend(search.take(found, time::ago(arguments.max_transaction_timeout)));
        progress.say(|| format!("{} of {} partitions looked at", search.looked_at, all.len()));
    }
    let known = hanging::look(&mut client, &old)?;
    search.hanging = old.into_iter().zip(known).filter(|(_, known)| known.hangs()).collect();
    search.drop_ended(&mut client)?;
    drop(progress);
    let now_ms = time::ago(0);
    arguments.target.tell(|| search.json(now_ms), || search.text(now_ms))?;
    match search.not_looked_at.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let count = counted(search.not_looked_at.len() as u64, "partition");
            Err(format!("{count} could not be looked at; {first}"))
        }
    }
}

fn partitions(
    client: &mut Client,
    within: Option<BTreeSet<TopicPartition>>,
    broker: Broker,
) -> Result<BTreeSet<TopicPartition>, String> {
    if let Broker::One(id) = broker
        && !client.brokers()?.contains(&id)
    {
        return Err(Error::UnknownBroker(id).into());
    }
    let metadata = client.refresh(None)?;
    let mut found = BTreeSet::new();
    for topic in &metadata.topics {
        let Some(name) = &topic.name else { continue };
        for partition in &topic.partitions {
            let of = TopicPartition::new(name, partition.partition_index);
            let is_within = within.as_ref().is_none_or(|within| within.contains(&of));
            if is_within && [Broker::All, Broker::One(partition.leader_id.0)].contains(&broker) {
                found.insert(of);
            }
        }
    }
    Ok(found)
}

impl Search {
    /// Those open transactions that nobody has written to since `since_ms`.
    fn take(&mut self, found: Found, since_ms: i64) -> Vec<Open> {
        let mut old = Vec::new();
        for (of, producers) in found {
            match producers {
                Ok(producers) => {
                    self.looked_at += 1;
                    let open: Vec<Open> = hanging::open(&of, &producers).collect();
                    self.open += open.len();
                    old.extend(open.into_iter().filter(|open| open.producer.last_written_ms < since_ms));
                }
                // it was deleted meanwhile
                Err(Error::Refused(refusal)) if refusal.code == UNKNOWN_TOPIC_OR_PARTITION => {}
                Err(error) => self.not_looked_at.push(error.to_string()),
            }
        }
        old
    }

    /// Partitions were asked before coordinators: what has ended in between is not there any more.
    fn drop_ended(&mut self, client: &mut Client) -> Result<(), Error> {
        let wanted: BTreeSet<TopicPartition> = self.hanging.iter().map(|(open, _)| open.of.clone()).collect();
        let found = producers::ask(client, &wanted)?;
        self.hanging.retain(|(open, _)| match found.get(&open.of) {
            Some(Ok(producers)) => hanging::open(&open.of, producers).any(|still| is_same(open, &still)),
            _ => true,
        });
        Ok(())
    }

    fn text(&self, now_ms: i64) -> String {
        let looked_at = format!(
            "{} looked at, {} in them",
            counted(self.looked_at as u64, "partition"),
            counted(self.open as u64, "open transaction")
        );
        if self.hanging.is_empty() {
            return format!("nothing hangs: {looked_at}\n");
        }
        let mut text = format!("{}\n", table(&self.hanging, now_ms).text());
        let (count, stop) = match self.hanging.len() {
            1 => ("1 transaction hangs".to_owned(), "it begins"),
            count => (format!("{count} transactions hang"), "they begin"),
        };
        let _ = writeln!(
            text,
            "{count} ({looked_at}); readers of committed records wait where {stop}. To abort:"
        );
        for (open, _) in &self.hanging {
            let Open { of, start_offset, .. } = open;
            let _ = writeln!(
                text,
                "  corelane txn abort --topic {} --partition {} --start-offset {start_offset}",
                of.topic, of.partition
            );
        }
        text
    }

    fn json(&self, now_ms: i64) -> Value {
        let hanging = self.hanging.iter().map(|(open, known)| {
            json!({
                "topic": open.of.topic,
                "partition": open.of.partition,
                "start_offset": open.start_offset,
                "producer_id": open.producer.id,
                "producer_epoch": open.producer.epoch,
                "coordinator_epoch": open.producer.coordinator_epoch,
                "last_written_ms": open.producer.last_written_ms,
                "silent_for_ms": now_ms.saturating_sub(open.producer.last_written_ms),
                "transactional_id": known.transactional_id(),
                "why": known.to_string(),
            })
        });
        json!({
            "partitions": self.looked_at,
            "open": self.open,
            "hanging": hanging.collect::<Vec<_>>(),
            "not_looked_at": self.not_looked_at,
        })
    }
}

fn is_same(one: &Open, other: &Open) -> bool {
    (one.producer.id, one.start_offset) == (other.producer.id, other.start_offset)
}

fn table(hanging: &[(Open, Known)], now_ms: i64) -> Table {
    let heads = [
        "TOPIC",
        "PARTITION",
        "START OFFSET",
        "PRODUCER ID",
        "EPOCH",
        "COORDINATOR EPOCH",
        "SILENT FOR",
        "WHY",
    ];
    let mut table = Table::new(&heads);
    for (open, known) in hanging {
        let producer = &open.producer;
        table.row([
            open.of.topic.clone(),
            open.of.partition.to_string(),
            open.start_offset.to_string(),
            producer.id.to_string(),
            producer.epoch.to_string(),
            number_or_dash(producer.coordinator_epoch.map(i64::from)),
            time::span(now_ms.saturating_sub(producer.last_written_ms)),
            known.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::producers::Producer;
    use super::*;
    use crate::cli::client::Refusal;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        find: FindHanging,
    }

    #[test]
    fn everything_is_searched_unless_it_is_said_where() {
        let line = |words: &str| {
            let line = Line::try_parse_from(format!("find-hanging {words}").split_whitespace());
            line.ok().map(|line| (line.find.broker, line.find.max_transaction_timeout))
        };
        assert_eq!(line(""), Some((Broker::All, 900_000)));
        assert_eq!(line("--broker all -T orders"), Some((Broker::All, 900_000)));
        assert_eq!(line("--broker 7 --max-transaction-timeout 0s"), Some((Broker::One(7), 0)));
        for bad in ["--broker some", "--partition 0", "--max-transaction-timeout 15"] {
            assert_eq!(line(bad), None, "{bad}");
        }
    }

    fn of(index: i32) -> TopicPartition {
        TopicPartition::new("orders", index)
    }

    fn producer(last_written_ms: i64, open_from: Option<i64>) -> Producer {
        Producer {
            id: 4_711,
            epoch: 3,
            coordinator_epoch: None,
            last_sequence: Some(1),
            last_written_ms,
            open_from,
        }
    }

    #[test]
    fn only_what_is_silent_for_long_is_looked_into() {
        let refused = |code| Err(Error::Refused(Refusal::new("the producers of it".to_owned(), code, None)));
        let found = [
            (of(0), Ok(vec![producer(999, Some(5)), producer(1_000, Some(9)), producer(5, None)])),
            (of(1), Ok(Vec::new())),
            (of(2), refused(UNKNOWN_TOPIC_OR_PARTITION)),
            (of(3), refused(5)),
        ];
        let mut search = Search::default();
        let old = search.take(found.into(), 1_000);
        assert_eq!(old.iter().map(|open| open.start_offset).collect::<Vec<_>>(), [5]);
        assert_eq!((search.looked_at, search.open, search.not_looked_at.len()), (2, 2, 1));
        assert_eq!(search.text(0), "nothing hangs: 2 partitions looked at, 2 open transactions in them\n");
    }

    #[test]
    fn what_hangs_is_told_with_the_reason_and_the_way_out() {
        let open = Open { of: of(3), start_offset: 120, producer: producer(1_000, Some(120)) };
        let search = Search {
            looked_at: 4,
            open: 2,
            hanging: vec![(open, Known::ByNobody)],
            not_looked_at: Vec::new(),
        };
        let expect = "\
TOPIC   PARTITION  START OFFSET  PRODUCER ID  EPOCH  COORDINATOR EPOCH  SILENT FOR  WHY
orders          3           120         4711      3                  -  15m 1s      no transactional id has this producer

1 transaction hangs (4 partitions looked at, 2 open transactions in them); readers of committed records wait where it begins. \
To abort:
  corelane txn abort --topic orders --partition 3 --start-offset 120
";
        assert_eq!(search.text(902_000), expect);
        let json = search.json(902_000);
        assert_eq!((&json["partitions"], &json["hanging"][0]["silent_for_ms"]), (&json!(4), &json!(901_000)));
        assert_eq!(json["hanging"][0]["transactional_id"], Value::Null);
    }
}
