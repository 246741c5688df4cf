//! kill -9 under idempotent producers that try again as Kafka's own clients do: every acknowledged record is there once,
//! in each producer's order, and one that was sent and never acknowledged is there at most once.
//!
//! A producer keeps five requests in flight, each with batches for several partitions. When its connection breaks, or a
//! partition answers an error that Kafka's clients take as passing, it connects again and sends what is not acknowledged
//! once more, oldest first, with the same sequence numbers.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TopicName};
use kafka_protocol::records::Compression;

use crate::harness::{Broker, Setup, TempDir, run_to_end};
use crate::log_dirs::Mover;
use crate::wire::{self, Producer, Wire, batch_with, string};

const PRODUCERS: usize = 8;
const PARTITIONS: usize = 64;
/// Requests a producer keeps in flight, as Kafka's own clients do, and so batches of one partition.
const IN_FLIGHT: usize = 5;
const NONE: i16 = 0;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
/// What Kafka's clients try again after, from the request on that was answered so.
const PASSING: [i16; 5] = [3, 5, 6, 7, 56];
const PATIENCE: Duration = Duration::from_secs(60);
const CODECS: [Compression; 4] = [Compression::None, Compression::Lz4, Compression::None, Compression::Zstd];

/// One batch on its way to a partition.
#[derive(Clone)]
struct Part {
    partition: usize,
    first: i64,
    count: i64,
    bytes: Bytes,
}

/// A batch the broker has acknowledged: where it says the batch's first record is.
struct Acknowledged {
    producer: usize,
    partition: usize,
    first: i64,
    base_offset: i64,
}

/// How the broker is doing.
struct Life {
    /// Starts so far: a connection that broke is made again after the next one.
    starts: u64,
    /// No more requests are made, and no connection.
    over: bool,
    acknowledged_requests: u64,
}

/// What the producers and the test share.
struct Load {
    bootstrap: String,
    topic: String,
    /// By producer and partition: records that were sent, records that were acknowledged.
    sent: Vec<AtomicI64>,
    acknowledged: Vec<AtomicI64>,
    life: Mutex<Life>,
    changed: Condvar,
}

fn place(producer: usize, partition: usize) -> usize {
    producer * PARTITIONS + partition
}

/// The same numbers in every run.
fn next_random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

fn value(producer: usize, partition: usize, number: i64) -> Bytes {
    let filling = "~".repeat(number.unsigned_abs() as usize * 37 % 500);
    format!("{producer}/{partition}/{number}/{filling}").into()
}

fn parse(value: &[u8]) -> (usize, usize, i64) {
    let text = std::str::from_utf8(value).expect("our values are text");
    let mut parts = text.split('/').map(|part| part.parse::<i64>().ok());
    let mut next = || parts.next().flatten().unwrap_or_else(|| panic!("nobody wrote {text:?}"));
    let (producer, partition, number) = (next(), next(), next());
    assert_eq!(text.len() - text.find('~').unwrap_or(text.len()), number as usize * 37 % 500, "{text:?}");
    (producer as usize, partition as usize, number)
}

impl Load {
    fn new(broker: &Broker, topic: &str) -> Load {
        let counts = || (0..PRODUCERS * PARTITIONS).map(|_| AtomicI64::new(0)).collect();
        Load {
            bootstrap: broker.bootstrap().to_owned(),
            topic: topic.to_owned(),
            sent: counts(),
            acknowledged: counts(),
            life: Mutex::new(Life { starts: 1, over: false, acknowledged_requests: 0 }),
            changed: Condvar::new(),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Life)) {
        change(&mut self.life());
        self.changed.notify_all();
    }

    /// Waits until `holds`.
    fn wait(&self, what: &str, mut holds: impl FnMut(&Life) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut life = self.life();
        while !holds(&life) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not after {PATIENCE:?}: {what}");
            life = self.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for so many more acknowledged requests.
    fn wait_acknowledged(&self, more: u64) {
        let aim = self.life().acknowledged_requests + more;
        self.wait("producers make progress", |life| {
            assert!(!life.over, "a producer has failed");
            life.acknowledged_requests >= aim
        });
    }

    fn request(&self, parts: &[Part]) -> ProduceRequest {
        let data = parts.iter().map(|part| {
            PartitionProduceData::default()
                .with_index(part.partition as i32)
                .with_records(Some(part.bytes.clone()))
        });
        let topic = TopicProduceData::default()
            .with_name(TopicName(string(&self.topic)))
            .with_partition_data(data.collect());
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
    }

    /// Produces until it is over; what was acknowledged, in order.
    fn produce(&self, index: usize) -> Vec<Acknowledged> {
        let random = 0x9e37_79b9 + index as u64;
        let _over = Over(self);
        let mut sender = Sender {
            load: self,
            index,
            id: None,
            random,
            waiting: VecDeque::new(),
            acknowledged: Vec::new(),
        };
        let (mut seen, mut over) = (0, false);
        while !over {
            // a connection that breaks is the end of this life of the broker
            if sender.run().is_err() {
                self.wait("the broker starts again", |life| {
                    over = life.over;
                    over || std::mem::replace(&mut seen, life.starts) < life.starts
                });
            } else {
                break;
            }
        }
        sender.acknowledged
    }
}

struct Sender<'a> {
    load: &'a Load,
    index: usize,
    /// The producer id, once it was given one.
    id: Option<i64>,
    random: u64,
    /// Requests that are not acknowledged, oldest first.
    waiting: VecDeque<Vec<Part>>,
    acknowledged: Vec<Acknowledged>,
}

impl Sender<'_> {
    /// One life of the broker: what was not acknowledged is sent again, then more, until it is over.
    fn run(&mut self) -> io::Result<()> {
        'connections: loop {
            let mut wire = Wire::try_connect(&self.load.bootstrap)?;
            if self.id.is_none() {
                let request = InitProducerIdRequest::default().with_transactional_id(None);
                let id = wire.try_send(&request, 4)?;
                let answer = wire.try_receive::<InitProducerIdRequest>(id, 4)?;
                assert_eq!(answer.error_code, NONE);
                self.id = Some(answer.producer_id.0);
            }
            let mut sent = VecDeque::new();
            for parts in &self.waiting {
                sent.push_back(wire.try_send(&self.load.request(parts), wire::PRODUCE)?);
            }
            while !self.load.life().over {
                while sent.len() < IN_FLIGHT {
                    let parts = self.next_parts();
                    let request = self.load.request(&parts);
                    self.waiting.push_back(parts);
                    sent.push_back(wire.try_send(&request, wire::PRODUCE)?);
                }
                let correlation_id = sent.pop_front().expect("some are in flight");
                let mut reply = wire.try_receive::<ProduceRequest>(correlation_id, wire::PRODUCE)?;
                if !self.answered(reply.responses.remove(0).partition_responses) {
                    // What was sent behind it is refused for its order now: all of it once more.
                    continue 'connections;
                }
            }
            return Ok(());
        }
    }

    /// Batches for some partitions, which count as sent.
    fn next_parts(&mut self) -> Vec<Part> {
        let (first, count) = (next_random(&mut self.random), 1 + next_random(&mut self.random) % 12);
        let parts = (0..count).map(|step| {
            let partition = (first + step * 11) % PARTITIONS;
            let sent = &self.load.sent[place(self.index, partition)];
            let (first, count) =
                (sent.load(Ordering::Relaxed), 1 + next_random(&mut self.random) as i64 % 20);
            let values: Vec<Bytes> =
                (first..first + count).map(|number| value(self.index, partition, number)).collect();
            let codec = CODECS[first as usize % CODECS.len()];
            let sequence = i32::try_from(first).expect("a test sends less");
            let bytes = Producer { id: self.id.expect("it has one"), epoch: 0, sequence }
                .stamp(&batch_with(&values, codec));
            sent.store(first + count, Ordering::Release);
            Part { partition, first, count, bytes }
        });
        parts.collect()
    }

    /// Takes the answer to the oldest request; false if a part of it has to be sent again.
    fn answered(&mut self, answers: Vec<PartitionProduceResponse>) -> bool {
        let mut parts = self.waiting.pop_front().expect("an answer is to a request");
        assert_eq!(answers.len(), parts.len());
        for answer in answers {
            let at = parts.iter().position(|part| part.partition as i32 == answer.index);
            let place_of = at.expect("an answer is for a partition that was asked for");
            match answer.error_code {
                NONE | DUPLICATE_SEQUENCE_NUMBER => {
                    let part = parts.swap_remove(place_of);
                    let acknowledged = &self.load.acknowledged[place(self.index, part.partition)];
                    let before = acknowledged.swap(part.first + part.count, Ordering::AcqRel);
                    assert_eq!(before, part.first, "acknowledged in order");
                    if answer.error_code == NONE {
                        self.acknowledged.push(Acknowledged {
                            producer: self.index,
                            partition: part.partition,
                            first: part.first,
                            base_offset: answer.base_offset,
                        });
                    }
                }
                error if PASSING.contains(&error) => {}
                _ => panic!("producer {} from record {}: {answer:?}", self.index, parts[place_of].first),
            }
        }
        if parts.is_empty() {
            self.load.tell(|life| life.acknowledged_requests += 1);
            return true;
        }
        self.waiting.push_front(parts);
        false
    }
}

impl Load {
    /// Moves partitions about while the broker lives, life after life.
    fn keep_moving(&self, mover: &Mover) {
        let (mut state, mut seen, mut over) = (0x6f7e, 0, false);
        while !over {
            let ended = mover.run(&self.bootstrap, &mut || next_random(&mut state), &|| self.life().over);
            if ended.is_ok() {
                return;
            }
            self.wait("the broker starts again", |life| {
                over = life.over;
                over || std::mem::replace(&mut seen, life.starts) < life.starts
            });
        }
    }

    /// Reads everything: each producer's records in order, each once, none missing that was acknowledged before this
    /// began. Gives the records by offset, of each partition.
    fn check(&self) -> Vec<Vec<(usize, i64)>> {
        let counts = |of: &[AtomicI64]| of.iter().map(|count| count.load(Ordering::Acquire)).collect();
        let acknowledged: Vec<i64> = counts(&self.acknowledged);
        let mut wire = Wire::connect(&self.bootstrap);
        let mut next = vec![0; PRODUCERS * PARTITIONS];
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let mut found = Vec::new();
            for (offset, record) in (0..).zip(wire.read_all(&self.topic, partition as i32)) {
                assert_eq!(record.offset, offset, "partition {partition} is not dense");
                let value = record.value.as_deref().expect("our records have values");
                let (producer, written_to, number) = parse(value);
                assert_eq!(written_to, partition);
                let expected = &mut next[place(producer, partition)];
                assert_eq!(
                    number, *expected,
                    "partition {partition}, offset {offset}: producer {producer}'s records are not once and in order"
                );
                *expected += 1;
                found.push((producer, number));
            }
            all.push(found);
        }
        let sent: Vec<i64> = counts(&self.sent);
        for producer in 0..PRODUCERS {
            for partition in 0..PARTITIONS {
                let at = place(producer, partition);
                assert!(
                    (acknowledged[at]..=sent[at]).contains(&next[at]),
                    "partition {partition} has {} records of producer {producer}: {} were acknowledged, {} sent",
                    next[at],
                    acknowledged[at],
                    sent[at]
                );
            }
        }
        all
    }
}

/// One run of rounds.
struct Rounds {
    count: usize,
    /// Requests acknowledged between two ends of the broker, at most.
    requests: usize,
    /// All records are read after so many rounds.
    check_every: usize,
}

/// Each round ends with a kill, some with a clean stop, and goes on with another number of shards.
fn survive(setup: Setup, rounds: &Rounds) {
    survive_moves(setup, rounds, Vec::new());
}

/// The same, while the partitions move about between these log directories, if there are any.
fn survive_moves(setup: Setup, rounds: &Rounds, directories: Vec<PathBuf>) {
    let begun = Instant::now();
    let mut broker = setup.start();
    let topic = wire::unique("once");
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS as i32, &[]);
    let load = Load::new(&broker, &topic);
    let mover = Mover { topic: topic.clone(), partitions: PARTITIONS, directories };
    let (mut kills, mut stops, mut moves) = (0, 0, 0);
    let acknowledged: Vec<Acknowledged> = thread::scope(|scope| {
        let load = &load;
        let producers: Vec<_> =
            (0..PRODUCERS).map(|index| scope.spawn(move || load.produce(index))).collect();
        let moving = (!mover.directories.is_empty()).then(|| scope.spawn(|| load.keep_moving(&mover)));
        let _over = Over(load);
        let mut random = 0x5eed;
        for round in 1..=rounds.count {
            // now and then hardly anything was done since the start
            let most = if round % 7 == 3 { 10 } else { rounds.requests };
            load.wait_acknowledged(1 + (next_random(&mut random) % most) as u64);
            if round % 5 == 2 {
                broker.stop();
                stops += 1;
            } else {
                broker.kill();
                kills += 1;
            }
            if round == rounds.count {
                // Nothing is tried again: what was in flight is never acknowledged.
                load.tell(|life| life.over = true);
            }
            moves += broker.stderr().matches("the log has moved").count();
            broker.restart_on(1 + round % 3);
            load.tell(|life| life.starts += 1);
            if round % rounds.check_every == 0 {
                load.check();
            }
        }
        if let Some(moving) = moving {
            moving.join().expect("moves are accepted");
            mover.check(&broker);
            moves += broker.stderr().matches("the log has moved").count();
            assert!(moves > 10, "only {moves} moves came to their end");
        }
        producers.into_iter().flat_map(|producer| producer.join().expect("a producer is answered")).collect()
    });
    let stored = load.check();
    for batch in &acknowledged {
        let at = usize::try_from(batch.base_offset).expect("an acknowledged batch has an offset");
        assert_eq!(
            stored[batch.partition].get(at),
            Some(&(batch.producer, batch.first)),
            "partition {}: acknowledged at {at}",
            batch.partition
        );
    }
    broker.stop();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("inspect").arg(mover.directories.first().cloned().unwrap_or(broker.data())).arg("--verify");
    let ended = run_to_end(command);
    assert!(ended.status.success(), "{:?} {}", ended.stdout, ended.stderr);
    println!(
        "{kills} kills, {stops} stops and {moves} moves: {} batches acknowledged, {} records stored, {:.1} s",
        acknowledged.len(),
        stored.iter().map(Vec::len).sum::<usize>(),
        begun.elapsed().as_secs_f64()
    );
}

/// Ends all producers when the test or one of them fails.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.tell(|life| life.over = true);
        }
    }
}

#[test]
fn kills_lose_and_double_nothing_of_idempotent_producers() {
    // Small segments and a small journal, so that rolls, drains and recycled journal files are cut short, too.
    let setup = || Setup::new().set("corelane.segment.bytes.min", 65_536).set("log.segment.bytes", 65_536);
    let rounds = Rounds { count: 3, requests: 60, check_every: 2 };
    survive(setup().set("corelane.shard.journal.bytes", 1 << 20), &rounds);
    survive(setup().set("corelane.shard.journal.bytes", 0), &rounds);
}

#[test]
fn moves_between_log_directories_lose_and_double_nothing() {
    let scratch = TempDir::new();
    let (directories, setup) = Mover::setup(&scratch);
    let small = setup.set("corelane.segment.bytes.min", 65_536).set("log.segment.bytes", 262_144);
    let rounds = Rounds { count: 6, requests: 250, check_every: 3 };
    survive_moves(small.set("corelane.shard.journal.bytes", 1 << 20), &rounds, directories);
}

/// `cargo test --release --test it exactly_once -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_kills() {
    let rounds = Rounds { count: 50, requests: 1_500, check_every: 10 };
    let small = || Setup::new().set("log.segment.bytes", 1 << 20);
    for (what, setup) in [
        ("as it comes", Setup::new()),
        ("segments of 1 MiB, a journal of 4 MiB", small().set("corelane.shard.journal.bytes", 4 << 20)),
        ("segments of 1 MiB, no journal", small().set("corelane.shard.journal.bytes", 0)),
    ] {
        print!("{what}: ");
        survive(setup, &rounds);
    }
}
