//! `corelane topic consume`: records to stdout, in each partition's order.
//!
//! No group: it reads what it is told to, and nobody remembers how far it came. Records of transactions that are open
//! or were aborted are given too (read_uncommitted), as Kafka's own console consumer does.

mod begin;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use clap::Args;

use super::format::{Format, Told};
use crate::cli::client::{Client, EARLIEST, Error, LATEST, PAUSE, Refusal, topic_name};
use crate::cli::progress::Progress;
use crate::cli::target::{Target, write_out};
use crate::protocol::batch::{
    BatchHeader, Batches, Codec, Error as BatchError, HEADER_BYTES, MAGIC, crc_matches,
};
use crate::protocol::compose::headers;
use crate::protocol::compression::decompress;
use crate::protocol::messages::FetchRequest;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::records::Records;
use begin::Begin;

/// What a broker may wait for records; half of --timeout where that is less.
const MAX_WAIT_MS: i32 = 500;
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// What a batch may be when it is decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

const OFFSET_OUT_OF_RANGE: i16 = 1;

#[derive(Args)]
pub(in crate::cli) struct Consume {
    topic: String,
    /// How a record looks: %k key, %v value, %h headers (name=value,name=value), %T timestamp in ms, %p partition, %o
    /// offset, %t topic; \n \t \xHH. A newline ends a record unless something else stands behind the last token.
    #[arg(long, short, default_value = "%v")]
    format: String,
    /// What is written for a key, value or header value that is none; default: nothing.
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Where to begin: beginning, end, an offset, -N for the last N of each partition, a time (2026-07-01T12:00:00Z, or
    /// @ and milliseconds since 1970), or how long ago (10min).
    #[arg(long, default_value = "beginning", allow_hyphen_values = true)]
    from: Begin,
    /// Stop after this many records.
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Stop where the partitions end now; otherwise it waits for more.
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Only this partition; may be given several times.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    #[command(flatten)]
    target: Target,
}

/// Where a partition is read.
struct Position {
    leader: i32,
    next: i64,
    /// Exclusive.
    end: Option<i64>,
}

struct Consumer<'a> {
    client: Client,
    topic: &'a str,
    positions: BTreeMap<i32, Position>,
    format: Format,
    json: bool,
    /// `None`: no limit.
    left: Option<u64>,
    records: u64,
    bytes: u64,
    /// Which partition comes first in a fetch: the first alone is given a batch that is larger than a part of a fetch.
    turn: usize,
}

pub(super) fn run(arguments: &Consume) -> Result<(), String> {
    let format = Format::parse(&arguments.format, arguments.null.as_deref())?;
    let topic = &arguments.topic;
    let mut client = arguments.target.connect()?;
    let mut led = client.leaders(topic)?;
    if let Some(missing) = arguments.partition.iter().find(|index| !led.contains_key(index)) {
        return Err(format!("topic {topic} has no partition {missing}: it has {}", led.len()));
    }
    if !arguments.partition.is_empty() {
        led.retain(|index, _| arguments.partition.contains(index));
    }
    let led: Vec<(i32, i32)> = led.into_iter().collect();
    let starts = begin::resolve(&arguments.from, &mut client, topic, &led)?;
    let ends = match arguments.exit_at_end {
        true => client.offsets(topic, &led, LATEST)?,
        false => BTreeMap::new(),
    };
    let positions = led.iter().map(|&(index, leader)| {
        let next = starts.get(&index).copied().unwrap_or(0);
        (index, Position { leader, next, end: ends.get(&index).copied() })
    });
    let mut consumer = Consumer {
        positions: positions.collect(),
        client,
        topic,
        format,
        json: arguments.target.json,
        left: arguments.count,
        records: 0,
        bytes: 0,
        turn: 0,
    };
    consumer.consume_all()
}

impl Position {
    fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

impl Consumer<'_> {
    fn consume_all(&mut self) -> Result<(), String> {
        let mut progress = Progress::new(true);
        let mut deadline = Instant::now() + self.client.timeout();
        while self.left != Some(0) && !self.positions.values().all(Position::is_at_end) {
            let (mut out, mut passing) = (Vec::new(), None);
            for data in self.fetch()? {
                match self.take(&data, &mut out) {
                    Ok(()) => deadline = Instant::now() + self.client.timeout(),
                    Err(Failure::Broker(error)) if error.passes() => passing = Some(error),
                    Err(failure) => {
                        write_out(&out)?;
                        return Err(failure.text());
                    }
                }
            }
            if !write_out(&out)? {
                return Ok(());
            }
            progress.tell(self.records, self.bytes);
            if let Some(error) = passing {
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                std::thread::sleep(PAUSE);
                self.find_leaders()?;
            }
        }
        Ok(())
    }

    fn find_leaders(&mut self) -> Result<(), Error> {
        let leaders = self.client.leaders(self.topic)?;
        for (index, position) in &mut self.positions {
            position.leader = leaders.get(index).copied().unwrap_or(-1);
        }
        Ok(())
    }

    /// One fetch from each leader, all under way at once.
    fn fetch(&mut self) -> Result<Vec<PartitionData>, Error> {
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        for (&index, position) in self.positions.iter().filter(|(_, position)| !position.is_at_end()) {
            let asked = FetchPartition::default()
                .with_partition(index)
                .with_fetch_offset(position.next)
                .with_partition_max_bytes(PARTITION_BYTES);
            by_leader.entry(position.leader).or_default().push(asked);
        }
        if by_leader.contains_key(&-1) {
            self.find_leaders()?;
            if self.positions.values().any(|position| position.leader == -1) {
                return Err(Error::UnknownBroker(-1));
            }
            return Ok(Vec::new());
        }
        self.turn = self.turn.wrapping_add(1);
        let mut pending = Vec::new();
        for (leader, mut asked) in by_leader {
            let first = self.turn % asked.len();
            asked.rotate_left(first);
            let topic = FetchTopic::default().with_topic(topic_name(self.topic)).with_partitions(asked);
            let request = FetchRequest::default()
                .with_max_wait_ms(MAX_WAIT_MS.min(self.client.timeout_ms() / 2))
                .with_min_bytes(1)
                .with_max_bytes(FETCH_BYTES)
                .with_session_epoch(-1)
                .with_topics(vec![topic]);
            pending.push((leader, self.client.send(leader, &request)?));
        }
        let mut found = Vec::new();
        for (leader, pending) in pending {
            let response = self.client.receive::<FetchRequest>(leader, pending)?;
            Refusal::check(response.error_code, None, || format!("reading {}", self.topic))?;
            found.extend(response.responses.into_iter().flat_map(|topic| topic.partitions));
        }
        Ok(found)
    }

    fn take(&mut self, data: &PartitionData, out: &mut Vec<u8>) -> Result<(), Failure> {
        let index = data.partition_index;
        let what = || format!("reading {} partition {index}", self.topic);
        if data.error_code == OFFSET_OUT_OF_RANGE {
            return self.skip_deleted(index);
        }
        Refusal::check(data.error_code, None, what)?;
        let bytes = data.records.clone().unwrap_or_default();
        for found in Batches::new(&bytes) {
            let (header, batch) = match found {
                // the broker has cut it where the fetch ended; the next begins with it
                Err(BatchError::Truncated) => break,
                other => other.map_err(|error| self.damaged(index, &error))?,
            };
            let Some(position) = self.positions.get_mut(&index) else { break };
            if header.magic != MAGIC {
                let topic = self.topic;
                return Err(Failure::Records(format!(
                    "{topic} partition {index} has records of an old format at offset {}, which this cannot read",
                    header.base_offset.0
                )));
            }
            if header.next_offset().0 <= position.next {
                continue;
            }
            if !crc_matches(batch) {
                return Err(self.damaged(index, &"its checksum is another"));
            }
            if !header.is_control() {
                let plain = match header.codec() {
                    Some(Codec::None) => bytes.slice_ref(&batch[HEADER_BYTES..]),
                    Some(codec) => decompress(codec, &batch[HEADER_BYTES..], DECOMPRESSED_BYTES_MAX)
                        .map_err(|error| self.damaged(index, &error))?,
                    None => return Err(self.damaged(index, &"its codec is unknown")),
                };
                self.tell_records(index, &header, &plain, out)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
            if let Some(position) = self.positions.get_mut(&index) {
                position.next = header.next_offset().0;
            }
        }
        Ok(())
    }

    fn tell_records(
        &mut self,
        partition: i32,
        header: &BatchHeader,
        plain: &Bytes,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let position = &self.positions[&partition];
        let wanted = position.next..position.end.unwrap_or(i64::MAX);
        for record in Records::new(header, plain) {
            let record = record.map_err(|error| self.damaged(partition, &error))?;
            let offset = header.base_offset.0 + i64::from(record.offset_delta);
            if !wanted.contains(&offset) || self.left == Some(0) {
                continue;
            }
            let headers = headers(&plain[record.headers.clone()], record.header_count)
                .ok_or_else(|| self.damaged(partition, &"its headers cannot be read"))?;
            let told = Told {
                topic: self.topic,
                partition,
                offset,
                timestamp: record.timestamp(header).0,
                key: record.key.as_ref().map(|range| &plain[range.clone()]),
                value: record.value.as_ref().map(|range| &plain[range.clone()]),
                headers: &headers,
            };
            match self.json {
                true => told.write_json(out),
                false => self.format.write(&told, out),
            }
            self.records += 1;
            self.bytes += record.span.len() as u64;
            self.left = self.left.map(|left| left - 1);
        }
        Ok(())
    }

    /// Retention has deleted what was to be read next.
    fn skip_deleted(&mut self, index: i32) -> Result<(), Failure> {
        let position = &self.positions[&index];
        let asked = [(index, position.leader)];
        let start = self.client.offsets(self.topic, &asked, EARLIEST)?.get(&index).copied().unwrap_or(0);
        if start <= position.next {
            let what = format!("reading {} partition {index} at {}", self.topic, position.next);
            return Err(Failure::Broker(Error::Refused(Refusal::new(what, OFFSET_OUT_OF_RANGE, None))));
        }
        eprintln!("note: partition {index}: offsets {} to {start} (exclusive) were deleted", position.next);
        if let Some(position) = self.positions.get_mut(&index) {
            position.next = start;
        }
        Ok(())
    }

    fn damaged(&self, index: i32, why: &dyn std::fmt::Display) -> Failure {
        let at = self.positions.get(&index).map_or(0, |position| position.next);
        Failure::Records(format!(
            "{} partition {index} has a damaged batch at offset {at} or behind it: {why}",
            self.topic
        ))
    }
}

/// Why a partition cannot be read on.
enum Failure {
    Broker(Error),
    Records(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Broker(error)
    }
}

impl Failure {
    fn text(self) -> String {
        match self {
            Failure::Broker(error) => error.into(),
            Failure::Records(text) => text,
        }
    }
}
