//! `corelane txn abort`: the end of a transaction is written to one partition, by its leader, without the coordinator.
//!
//! That is for transactions that hang. One that its coordinator knows is left to it: it might be committed, and then what
//! it has written here would be missing.

use clap::{Args, value_parser};
use serde_json::json;

use super::hanging::{self, Known, Open};
use super::producers::{self, Producer};
use crate::cli::client::{Client, Error, TopicPartition, topic_name};
use crate::cli::confirm::confirm;
use crate::cli::partitions::{Scope, resolve};
use crate::cli::target::Target;
use crate::cli::time;
use crate::protocol::messages::WriteTxnMarkersRequest;
use crate::protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};

#[derive(Args)]
pub(in crate::cli) struct Abort {
    #[arg(long, short = 'T')]
    topic: String,
    #[arg(long, short, value_parser = value_parser!(i32).range(0..))]
    partition: i32,
    #[command(flatten)]
    which: Which,
    /// Of the producer; at least the one that the partition knows.
    #[arg(long, requires = "producer_id", value_parser = value_parser!(i16).range(0..))]
    producer_epoch: Option<i16>,
    /// At least the one that the partition knows; -1: it knows none.
    #[arg(long, requires = "producer_id", allow_negative_numbers = true, value_parser = value_parser!(i32).range(-1..))]
    coordinator_epoch: Option<i32>,
    /// Even if its coordinator knows it, and might commit it elsewhere.
    #[arg(long)]
    force: bool,
    /// Without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Where it begins, as `corelane txn find-hanging` tells it.
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..))]
    start_offset: Option<i64>,
    /// Whose it is, for brokers that do not tell their producers.
    #[arg(
        long,
        value_name = "ID",
        requires_all = ["producer_epoch", "coordinator_epoch"],
        value_parser = value_parser!(i64).range(0..)
    )]
    producer_id: Option<i64>,
}

/// What is written.
#[derive(Debug, PartialEq, Eq)]
struct Marker {
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
}

impl Marker {
    /// A partition that has seen no coordinator takes any: 0, which no other can be below.
    fn new(producer_id: i64, producer_epoch: i16, coordinator_epoch: Option<i32>) -> Marker {
        let coordinator_epoch = coordinator_epoch.unwrap_or(0).max(0);
        Marker { producer_id, producer_epoch, coordinator_epoch }
    }
}

pub(super) fn run(arguments: &Abort) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let scope = Scope { topic: arguments.topic.clone(), partitions: Some([arguments.partition].into()) };
    let of = resolve(&mut client, &[scope])?.into_iter().next().expect("a partition was named");
    let known = known_producers(&mut client, &of)?;
    let open: Option<Open> = match &known {
        Some(producers) => Some(arguments.choose(&of, producers)?),
        None => None,
    };
    if let Some(open) = open.as_ref().filter(|_| !arguments.force) {
        check_that_it_hangs(&mut client, open)?;
    }
    let marker = arguments.marker(open.as_ref())?;
    confirm(arguments.yes.into(), &question(&of, &marker, open.as_ref(), time::ago(0)))?;
    write(&mut client, &of, &marker)?;
    let still = known_producers(&mut client, &of)?;
    let still: Option<Vec<i64>> =
        still.map(|producers| hanging::open(&of, &producers).map(|open| open.start_offset).collect());
    let document = || {
        json!({
            "topic": of.topic,
            "partition": of.partition,
            "start_offset": open.as_ref().map(|open| open.start_offset),
            "producer_id": marker.producer_id,
            "producer_epoch": marker.producer_epoch,
            "coordinator_epoch": marker.coordinator_epoch,
            "still_open_from": still,
        })
    };
    arguments.target.tell(document, || {
        let from = open.as_ref().map(|open| format!(" from offset {}", open.start_offset));
        let told = still.as_ref().map(|still| format!("; {}", left(still)));
        format!(
            "{of}: aborted the transaction of producer {}{}{}\n",
            marker.producer_id,
            from.unwrap_or_default(),
            told.unwrap_or_default()
        )
    })
}

impl Abort {
    /// The open transaction that is meant.
    fn choose(&self, of: &TopicPartition, producers: &[Producer]) -> Result<Open, String> {
        let Which { start_offset, producer_id } = self.which;
        let is_meant = |open: &Open| {
            start_offset.is_none_or(|offset| open.start_offset == offset)
                && producer_id.is_none_or(|id| open.producer.id == id)
        };
        let all: Vec<Open> = hanging::open(of, producers).collect();
        if let Some(open) = all.iter().find(|open| is_meant(open)) {
            return Ok(open.clone());
        }
        let asked = match (start_offset, producer_id) {
            (Some(offset), _) => format!("no transaction is open from offset {offset}"),
            (None, id) => format!("producer {} has no open transaction", id.unwrap_or(-1)),
        };
        let mut offsets: Vec<i64> = all.iter().map(|open| open.start_offset).collect();
        offsets.sort_unstable();
        Err(format!("{of}: {asked}; {}, nothing was done", left(&offsets)))
    }

    fn marker(&self, open: Option<&Open>) -> Result<Marker, String> {
        let Which { producer_id, .. } = self.which;
        if let (Some(id), Some(epoch), Some(coordinator)) =
            (producer_id, self.producer_epoch, self.coordinator_epoch)
        {
            return Ok(Marker::new(id, epoch, Some(coordinator)));
        }
        let producer =
            &open.ok_or("the broker does not tell its producers: name this one with --producer-id")?.producer;
        let epoch = i16::try_from(producer.epoch)
            .map_err(|_| format!("the broker tells epoch {} of producer {}", producer.epoch, producer.id))?;
        Ok(Marker::new(producer.id, epoch, producer.coordinator_epoch))
    }
}

/// Of the open transactions of a partition, by where they begin.
fn left(offsets: &[i64]) -> String {
    match offsets {
        [] => "none is open there".to_owned(),
        [one] => format!("one is open there, from offset {one}"),
        [first, ..] => format!("{} are open there, the first from offset {first}", offsets.len()),
    }
}

/// `None`: the broker is from before it could be asked.
fn known_producers(client: &mut Client, of: &TopicPartition) -> Result<Option<Vec<Producer>>, Error> {
    match producers::of(client, of) {
        Err(Error::NotServed { .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn check_that_it_hangs(client: &mut Client, open: &Open) -> Result<(), String> {
    let known = hanging::look(client, std::slice::from_ref(open))?;
    match known.first() {
        Some(Known::Alive(transaction)) => Err(format!(
            "{}: the transaction from offset {} does not hang, {} is {} with it; its coordinator ends it (timeout {}), \
             --force aborts it here alone; nothing was done",
            open.of,
            open.start_offset,
            transaction.id,
            transaction.state,
            time::span(transaction.timeout_ms)
        )),
        _ => Ok(()),
    }
}

fn question(of: &TopicPartition, marker: &Marker, open: Option<&Open>, now_ms: i64) -> String {
    let from = open.map(|open| {
        let silent = time::span(now_ms.saturating_sub(open.producer.last_written_ms));
        format!(", open from offset {} and silent for {silent}", open.start_offset)
    });
    format!(
        "{of}: abort the transaction of producer {} (epoch {}{})",
        marker.producer_id,
        marker.producer_epoch,
        from.unwrap_or_default()
    )
}

fn write(client: &mut Client, of: &TopicPartition, marker: &Marker) -> Result<(), Error> {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(topic_name(&of.topic))
        .with_partition_indexes(vec![of.partition]);
    let written = WritableTxnMarker::default()
        .with_producer_id(marker.producer_id.into())
        .with_producer_epoch(marker.producer_epoch)
        .with_transaction_result(false)
        .with_coordinator_epoch(marker.coordinator_epoch)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![written]);
    let answers = client.each_at_leader("aborting in", &[of.clone()].into(), |client, leader, _| {
        let response = client.call_broker(leader, &request)?;
        let topics = response.markers.into_iter().flat_map(|marker| marker.topics);
        let answers = topics.flat_map(|topic| {
            topic.partitions.into_iter().map(move |answer| {
                let of = TopicPartition::new(&topic.name, answer.partition_index);
                (of, if answer.error_code == 0 { Ok(()) } else { Err(answer.error_code) })
            })
        });
        Ok(answers.collect())
    })?;
    let answer = answers.into_iter().next().ok_or_else(|| Error::Silent(format!("aborting in {of}")))?;
    answer.1
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        abort: Abort,
    }

    fn line(words: &str) -> Option<Abort> {
        let words = format!("abort --topic orders --partition 3 {words}");
        Line::try_parse_from(words.split_whitespace()).ok().map(|line| line.abort)
    }

    fn of() -> TopicPartition {
        TopicPartition::new("orders", 3)
    }

    fn producer(id: i64, coordinator_epoch: Option<i32>, open_from: Option<i64>) -> Producer {
        Producer {
            id,
            epoch: 2,
            coordinator_epoch,
            last_sequence: Some(1),
            last_written_ms: 1_000,
            open_from,
        }
    }

    #[test]
    fn it_is_named_by_its_start_or_its_producer() {
        for fine in ["--start-offset 7", "--producer-id 1 --producer-epoch 0 --coordinator-epoch -1"] {
            assert!(line(fine).is_some(), "{fine}");
        }
        for bad in [
            "",
            "--start-offset -1",
            "--producer-id 1",
            "--producer-id 1 --producer-epoch 0",
            "--start-offset 7 --producer-epoch 0",
            "--start-offset 7 --producer-id 1 --producer-epoch 0 --coordinator-epoch 0",
        ] {
            assert!(line(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_transaction_must_be_open() {
        let producers = [producer(1, Some(5), Some(7)), producer(2, None, None), producer(3, None, Some(9))];
        let check = |words: &str, producers: &[Producer], expect: Result<i64, &str>| {
            let chosen = line(words).expect("options").choose(&of(), producers).map(|open| open.producer.id);
            assert_eq!(chosen, expect.map_err(str::to_owned), "{words}");
        };
        let by_id = |id| format!("--producer-id {id} --producer-epoch 2 --coordinator-epoch 0");
        check("--start-offset 9", &producers, Ok(3));
        check(&by_id(1), &producers, Ok(1));
        let expect = "orders partition 3: no transaction is open from offset 8; 2 are open there, the first from offset 7, \
                      nothing was done";
        check("--start-offset 8", &producers, Err(expect));
        let expect = "orders partition 3: producer 2 has no open transaction; one is open there, from offset 9, nothing was done";
        check(&by_id(2), &producers[1..], Err(expect));
        let expect =
            "orders partition 3: no transaction is open from offset 0; none is open there, nothing was done";
        check("--start-offset 0", &[], Err(expect));
    }

    #[test]
    fn the_marker_is_the_producers() {
        let check = |words: &str, producer: Option<Producer>, expect: Option<(i64, i16, i32)>| {
            let open = producer.map(|producer| Open { of: of(), start_offset: 7, producer });
            let expect = expect.map(|(producer_id, producer_epoch, coordinator_epoch)| Marker {
                producer_id,
                producer_epoch,
                coordinator_epoch,
            });
            assert_eq!(line(words).expect("options").marker(open.as_ref()).ok(), expect, "{words}");
        };
        check("--start-offset 7", Some(producer(1, Some(5), Some(7))), Some((1, 2, 5)));
        check("--start-offset 7", Some(producer(1, None, Some(7))), Some((1, 2, 0)));
        check("--start-offset 7", None, None);
        let by_id =
            |coordinator| format!("--producer-id 1 --producer-epoch 4 --coordinator-epoch {coordinator}");
        check(&by_id(8), Some(producer(1, Some(5), Some(7))), Some((1, 4, 8)));
        check(&by_id(-1), None, Some((1, 4, 0)));
    }

    #[test]
    fn the_question_says_all_that_is_known() {
        let open = Open { of: of(), start_offset: 7, producer: producer(1, None, Some(7)) };
        let marker = Marker::new(1, 2, None);
        assert_eq!(
            question(&of(), &marker, Some(&open), 901_000),
            "orders partition 3: abort the transaction of producer 1 (epoch 2, open from offset 7 and silent for 15m)"
        );
        assert_eq!(
            question(&of(), &marker, None, 901_000),
            "orders partition 3: abort the transaction of producer 1 (epoch 2)"
        );
    }
}
