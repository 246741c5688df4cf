//! `corelane topic produce`: records from stdin, acknowledged by all in-sync replicas.
//!
//! What has been read goes out at once, in batches as large as the input is fast: one thread reads, this one sends and
//! waits. A batch whose answer says that it was not written is sent again while there is time; one whose answer is lost,
//! or says that nobody knows, is not, for it may be there.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::format::{Format, Given};
use crate::cli::client::{Client, Error, PAUSE, Refusal, topic_name};
use crate::cli::progress::Progress;
use crate::cli::target::{Target, counted};
use crate::protocol::batch;
use crate::protocol::compose::{NewRecord, compose};
use crate::protocol::messages::ProduceRequest;
use crate::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

/// Of all that is sent at once: below what topics allow for a batch, unless they allow less.
const GATHERED_BYTES: usize = 512 << 10;
/// What a record adds to its payload, about.
const RECORD_OVERHEAD: usize = 16;
/// Of the input: what comes at once is handed over in pieces of this size, or of one record.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces read ahead.
const READ_AHEAD: usize = 16;

const LEADER_NOT_AVAILABLE: i16 = 5;
const REQUEST_TIMED_OUT: i16 = 7;
const MESSAGE_TOO_LARGE: i16 = 10;
const RECORD_LIST_TOO_LARGE: i16 = 18;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Args)]
pub(in crate::cli) struct Produce {
    topic: String,
    /// How a record looks: %k key, %v value, %h headers (name=value,name=value), %T timestamp in ms, %p partition; %o and
    /// %t are read over; \n \t \xHH. A newline ends a record unless something else stands behind the last token.
    #[arg(long, short, default_value = "%v")]
    format: String,
    /// A key, value or header value that reads like this is none (a value that is none deletes its key from a
    /// compacted topic). An empty key is none without this.
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Where all records go; default: a key decides as in Kafka's own clients, those without one are spread.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    #[arg(long, value_enum, default_value = "none")]
    codec: Codec,
    #[command(flatten)]
    target: Target,
}

impl From<Codec> for batch::Codec {
    fn from(codec: Codec) -> batch::Codec {
        match codec {
            Codec::None => batch::Codec::None,
            Codec::Gzip => batch::Codec::Gzip,
            Codec::Snappy => batch::Codec::Snappy,
            Codec::Lz4 => batch::Codec::Lz4,
            Codec::Zstd => batch::Codec::Zstd,
        }
    }
}

pub(super) fn run(arguments: &Produce) -> Result<(), String> {
    let format = Format::parse(&arguments.format, arguments.null.as_deref())?;
    format.check_input()?;
    let mut client = arguments.target.connect()?;
    let mut producer = Producer {
        leaders: leaders(&mut client, &arguments.topic)?,
        client,
        topic: &arguments.topic,
        partition: arguments.partition,
        codec: arguments.codec.into(),
        turn: usize::try_from(now_ms()).unwrap_or(0),
        records: 0,
        bytes: 0,
    };
    let result = producer.produce_all(&read_ahead(format));
    let (records, bytes) = (producer.records, producer.bytes);
    let told = counted(records, "record");
    result.map_err(|error| format!("{error} (written before it: {told})"))?;
    arguments.target.tell(
        || json!({ "topic": arguments.topic, "records": records, "bytes": bytes }),
        || format!("produced {told} to {}\n", arguments.topic),
    )
}

/// Reads stdin on a thread of its own, and never holds back a record for another that has not come yet. An error is
/// the last.
fn read_ahead(format: Format) -> Receiver<Piece> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(PIECE_BYTES, io::stdin().lock());
        let (mut piece, mut number) = (Vec::new(), 0_u64);
        while let Some(record) = format.read(&mut input).transpose() {
            number += 1;
            let record = record.map_err(|error| format!("record {number} of the input: {error}"));
            let is_last = record.is_err();
            piece.push(record);
            let goes_on = !is_last && format.has_whole(input.buffer());
            if !goes_on && (sender.send(std::mem::take(&mut piece)).is_err() || is_last) {
                return;
            }
        }
    });
    receiver
}

/// Records of the input that came together.
type Piece = Vec<Result<Given, String>>;

struct Producer<'a> {
    client: Client,
    topic: &'a str,
    /// Of each partition; -1: none now.
    leaders: Vec<i32>,
    partition: Option<i32>,
    codec: batch::Codec,
    /// Which partition comes next for records without a key.
    turn: usize,
    /// Acknowledged.
    records: u64,
    bytes: u64,
}

/// By partition, which are numbered from 0.
fn leaders(client: &mut Client, topic: &str) -> Result<Vec<i32>, Error> {
    Ok(client.leaders(topic)?.into_values().collect())
}

type Batches = BTreeMap<i32, Vec<NewRecord>>;

/// How one batch went.
struct Answer {
    partition: i32,
    records: usize,
    result: Result<(), Error>,
}

impl Producer<'_> {
    fn produce_all(&mut self, input: &Receiver<Piece>) -> Result<(), String> {
        let mut progress = Progress::new(false);
        // ends when the thread that reads has ended
        while let Ok(first) = input.recv() {
            let mut next = Some(first);
            let (mut batches, mut gathered, mut failure) = (Batches::new(), 0, None);
            self.turn = self.turn.wrapping_add(1);
            while let Some(piece) = next.take() {
                for given in piece {
                    match given.and_then(|given| self.place(given)) {
                        Ok((partition, record)) => {
                            gathered += record.payload_bytes() + RECORD_OVERHEAD;
                            batches.entry(partition).or_default().push(record);
                        }
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
                if gathered < GATHERED_BYTES && failure.is_none() {
                    next = input.try_recv().ok();
                }
            }
            // what came before an error is written
            self.send(batches)?;
            if let Some(error) = failure {
                return Err(error);
            }
            progress.tell(self.records, self.bytes);
        }
        Ok(())
    }

    fn place(&self, given: Given) -> Result<(i32, NewRecord), String> {
        let count = self.leaders.len();
        let index = match (given.partition.or(self.partition), &given.key) {
            (Some(index), _) => index,
            (None, Some(key)) => corelane_perf::place_of_key(key, count) as i32,
            (None, None) => (self.turn % count) as i32,
        };
        if usize::try_from(index).is_ok_and(|index| index < count) {
            let timestamp = given.timestamp.unwrap_or_else(now_ms);
            let record = NewRecord { timestamp, key: given.key, value: given.value, headers: given.headers };
            Ok((index, record))
        } else {
            Err(format!("topic {} has no partition {index}: it has 0 to {}", self.topic, count - 1))
        }
    }

    /// Until all are acknowledged. A batch that is too large goes in halves; of each partition one batch is in flight.
    fn send(&mut self, mut left: Batches) -> Result<(), String> {
        let mut deadline = Instant::now() + self.client.timeout();
        // records of a batch: fewer, once that many were too large
        let mut records_max = usize::MAX;
        while !left.is_empty() {
            let (mut written, mut passing) = (false, None);
            for Answer { partition, records, result } in self.send_once(&left, records_max)? {
                match result {
                    Ok(()) => {
                        written = true;
                        self.acknowledged(&mut left, partition, records);
                    }
                    Err(Error::Refused(refusal))
                        if [MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE].contains(&refusal.code)
                            && records > 1 =>
                    {
                        records_max = records_max.min(records / 2);
                    }
                    Err(error) if error.passes() && !may_be_written(&error) => passing = Some(error),
                    Err(error) => return Err(error.into()),
                }
            }
            if written {
                deadline = Instant::now() + self.client.timeout();
            }
            if let Some(error) = passing {
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                std::thread::sleep(PAUSE);
                self.leaders = leaders(&mut self.client, self.topic)?;
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, left: &mut Batches, partition: i32, count: usize) {
        let records = left.get_mut(&partition).expect("only what was sent is answered");
        self.records += count as u64;
        self.bytes += records[..count].iter().map(|record| record.payload_bytes() as u64).sum::<u64>();
        records.drain(..count);
        if records.is_empty() {
            left.remove(&partition);
        }
    }

    /// One batch of each partition, to all leaders at once.
    fn send_once(&mut self, left: &Batches, records_max: usize) -> Result<Vec<Answer>, Error> {
        let (mut answers, mut by_leader) = (Vec::new(), BTreeMap::<i32, Vec<PartitionProduceData>>::new());
        let mut counts = BTreeMap::new();
        for (&partition, records) in left {
            let count = records.len().min(records_max);
            let leader = self.leaders.get(partition as usize).copied().unwrap_or(-1);
            if leader < 0 {
                let result = self.refusal(partition, LEADER_NOT_AVAILABLE, None);
                answers.push(Answer { partition, records: count, result });
                continue;
            }
            let batch = compose(&records[..count], self.codec).expect("a few records make a batch");
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
            by_leader.entry(leader).or_default().push(data);
            counts.insert(partition, count);
        }
        let mut pending = Vec::new();
        for (leader, data) in by_leader {
            let topic =
                TopicProduceData::default().with_name(topic_name(self.topic)).with_partition_data(data);
            let request = ProduceRequest::default()
                .with_acks(-1)
                .with_timeout_ms(self.client.timeout_ms())
                .with_topic_data(vec![topic]);
            pending.push((leader, self.client.send(leader, &request)?));
        }
        for (leader, pending) in pending {
            let response = self.client.receive::<ProduceRequest>(leader, pending)?;
            for answer in response.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                let Some(count) = counts.remove(&answer.index) else { continue };
                let message = answer.error_message.as_deref();
                let result = self.refusal(answer.index, answer.error_code, message);
                answers.push(Answer { partition: answer.index, records: count, result });
            }
        }
        match counts.keys().next() {
            None => Ok(answers),
            Some(partition) => Err(Error::Silent(format!("writing to {} partition {partition}", self.topic))),
        }
    }

    fn refusal(&self, partition: i32, code: i16, message: Option<&str>) -> Result<(), Error> {
        Refusal::check(code, message, || format!("writing to {} partition {partition}", self.topic))
    }
}

/// To be sent again it must be known that it was not written.
fn may_be_written(error: &Error) -> bool {
    let codes = [REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND];
    matches!(error, Error::Refused(refusal) if codes.contains(&refusal.code))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
