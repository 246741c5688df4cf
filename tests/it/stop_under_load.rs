//! SIGTERM while producers and consumers are at work: the broker ends in time and cleanly, and what it has acknowledged or
//! handed out is there after the restart, at its offset.
//!
//! The producers have no sequence numbers and never try again, so every record is there once at most, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use kafka_protocol::records::RecordBatchDecoder;

use crate::harness::Setup;
use crate::wire::{self, Wire, batch};

const PARTITIONS: i32 = 6;
const PRODUCERS: usize = 5;
/// Requests a producer has on their way.
const IN_FLIGHT: usize = 5;
/// What Kafka's clients try again after, on another connection.
const PASSING: [i16; 5] = [3, 5, 6, 7, 56];
const CONSUMERS: usize = 3;
/// Answers that each client has had, at least, before the signal comes.
const ANSWERS: usize = 40;
/// How long a consumer's fetch waits for records: Kafka's default. A stop ends the wait.
const MAX_WAIT_MS: i32 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a record is, and what it says.
type Place = (i32, i64);
type Found = BTreeMap<Place, Bytes>;

/// Produces to all partitions in turn until the broker no longer answers; what was acknowledged.
fn produce(mut wire: Wire, topic: &str, name: &str, answered: impl Fn()) -> Found {
    let mut acknowledged = Found::new();
    let mut run = || -> io::Result<()> {
        let mut waiting = VecDeque::new();
        let mut number = 0;
        loop {
            while waiting.len() < IN_FLIGHT {
                let partition = number % PARTITIONS;
                let values: Vec<Bytes> = (0..1 + number % 7)
                    .map(|record| format!("{name}/{number}/{record}/{}", "~".repeat(300)).into())
                    .collect();
                let request = wire::produce_request(topic, partition, -1, batch(&values));
                waiting.push_back((wire.try_send(&request, wire::PRODUCE)?, partition, values));
                number += 1;
            }
            let (id, partition, values) = waiting.pop_front().expect("some are on their way");
            let mut answer = wire.try_receive::<ProduceRequest>(id, wire::PRODUCE)?;
            let answer = answer.responses.remove(0).partition_responses.remove(0);
            match answer.error_code {
                0 => acknowledged.extend(
                    (answer.base_offset..).zip(values).map(|(offset, value)| ((partition, offset), value)),
                ),
                error => assert!(PASSING.contains(&error), "{answer:?}"),
            }
            answered();
        }
    };
    // the end of the broker is the end of the connection
    let ended = run().expect_err("it goes on for ever");
    assert!(is_closed(&ended), "{ended}");
    acknowledged
}

/// Reads one partition after the other, from where it is and waiting for more, until the broker no longer answers.
fn consume(mut wire: Wire, topic: &str, answered: impl Fn()) -> Found {
    let mut received = Found::new();
    let mut next = [0; PARTITIONS as usize];
    let mut run = || -> io::Result<()> {
        for partition in (0..PARTITIONS).cycle() {
            let next = &mut next[partition as usize];
            let request = wire::fetch_request(topic, partition, *next, MAX_WAIT_MS);
            let id = wire.try_send(&request, wire::FETCH)?;
            let mut answer = wire.try_receive::<FetchRequest>(id, wire::FETCH)?;
            let Some(mut topic) = answer.responses.pop() else { continue };
            let data = topic.partitions.remove(0);
            assert!(data.error_code == 0 || PASSING.contains(&data.error_code), "{}", data.error_code);
            let mut bytes = data.records.unwrap_or_default();
            for set in RecordBatchDecoder::decode_all(&mut bytes).expect("what is handed out decodes") {
                for record in set.records.into_iter().filter(|record| record.offset >= *next) {
                    received.insert((partition, record.offset), record.value.expect("ours have values"));
                }
            }
            let last = received.range((partition, 0)..(partition + 1, 0)).next_back();
            *next = last.map_or(0, |((_, offset), _)| offset + 1);
            answered();
        }
        Ok(())
    };
    let ended = run().expect_err("it goes on for ever");
    assert!(is_closed(&ended), "{ended}");
    received
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Waits until each of so many clients has had its answers; they come as the clients' numbers.
fn wait_for_all(clients: usize, answers: &Receiver<usize>) {
    let mut had = vec![0; clients];
    while had.iter().any(|&had| had < ANSWERS) {
        had[answers.recv_timeout(PATIENCE).expect("every client gets on")] += 1;
    }
}

#[test]
fn sigterm_under_load_is_a_clean_stop() {
    const TELL: [&str; 2] = ["--log", "corelane::storage=debug,info"];
    // Small segments: some are being closed when the signal comes.
    let setup = Setup::new().set("corelane.segment.bytes.min", 65_536).set("log.segment.bytes", 65_536);
    let mut broker = setup.start();
    let topic = wire::unique("load");
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    let mut promised = Found::new();
    for (round, shards) in [2, 3, 1, 2].into_iter().enumerate() {
        let topic = topic.as_str();
        // Connected before any of them begins, so that none comes when the broker is gone.
        let wires: Vec<Wire> =
            (0..PRODUCERS + CONSUMERS).map(|_| Wire::connect(broker.bootstrap())).collect();
        let (sender, answers) = channel();
        thread::scope(|scope| {
            let mut clients = Vec::new();
            for (index, wire) in wires.into_iter().enumerate() {
                let sender = sender.clone();
                let answered = move || sender.send(index).unwrap_or_default();
                clients.push(scope.spawn(move || match index < PRODUCERS {
                    true => produce(wire, topic, &format!("{round}/{index}"), answered),
                    false => consume(wire, topic, answered),
                }));
            }
            wait_for_all(PRODUCERS + CONSUMERS, &answers);
            // asserts exit code 0, and that it takes seconds only
            broker.stop();
            for client in clients {
                promised.append(&mut client.join().expect("a client sees the end of its connection"));
            }
        });
        broker.restart_on_with(shards, &TELL);
        let opened = broker.wait_logged("opened the logs", 1);
        assert!(opened.contains("after_clean_stop=true"), "{opened}");
        let log = broker.stderr();
        assert!(!log.contains("the log was recovered"), "{log}");

        let mut wire = Wire::connect(broker.bootstrap());
        let mut stored = Found::new();
        for partition in 0..PARTITIONS {
            let records = wire.read_all(topic, partition).into_iter();
            stored.extend(
                records.map(|record| ((partition, record.offset), record.value.expect("ours have values"))),
            );
        }
        for (place, value) in &promised {
            assert_eq!(stored.get(place), Some(value), "round {round}: partition and offset {place:?}");
        }
        let distinct: BTreeSet<&Bytes> = stored.values().collect();
        assert_eq!(distinct.len(), stored.len(), "a record is there once");
        assert!(promised.len() > PRODUCERS * ANSWERS * (round + 1), "there was a load");
    }
    broker.stop();
}
