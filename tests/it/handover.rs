//! Connections that go to the shard that their requests are about, seen from outside: clients notice nothing, the metrics
//! tell.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use crate::admin::Scrape;
use crate::harness::{Broker, Setup};
use crate::wire::{self, FETCH, PRODUCE, Wire, batch};

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds of requests, so that the shards have time to spare: whoever is busy takes no connections.
const PAUSE: Duration = Duration::from_millis(40);
/// More requests than a first window has.
const MANY: usize = 40;

/// Of one shard.
fn of(broker: &Broker, metric: &str, shard: usize) -> f64 {
    Scrape::of(broker).sum(metric, &[("shard", &shard.to_string())])
}

fn connections(broker: &Broker, shard: usize) -> f64 {
    of(broker, "corelane_connections", shard)
}

fn handed_over(broker: &Broker, shard: usize) -> f64 {
    of(broker, "corelane_connections_handed_over_total", shard)
}

/// A topic of one partition, and the shard that has it.
fn topic(broker: &Broker) -> (String, usize) {
    let before = of(broker, "corelane_partitions", 0);
    let topic = wire::unique("lane");
    Wire::connect(broker.bootstrap()).create_topic(&topic, 1, &[]);
    let owner = if of(broker, "corelane_partitions", 0) > before { 0 } else { 1 };
    (topic, owner)
}

/// A connection on this shard: the kernel gives them out as it likes.
fn connect_on(broker: &Broker, shard: usize) -> Wire {
    for _ in 0..64 {
        let before = connections(broker, shard);
        let mut wire = Wire::connect(broker.bootstrap());
        // answered: it is served somewhere
        wire.metadata("nobody");
        if connections(broker, shard) > before {
            return wire;
        }
    }
    panic!("64 connections, and none on shard {shard}");
}

fn value(number: usize) -> Bytes {
    batch(&[Bytes::from(format!("value {number}"))])
}

fn check_values(broker: &Broker, topic: &str, at_least: usize) {
    let records = Wire::connect(broker.bootstrap()).read_all(topic, 0);
    assert!(records.len() >= at_least, "{} of {at_least}", records.len());
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record.value.as_deref(), Some(format!("value {number}").as_bytes()));
    }
}

/// Sends values with the numbers from `next` on, some at a time, until the condition holds.
fn produce_until(
    wire: &mut Wire,
    topic: &str,
    mut next: usize,
    mut condition: impl FnMut() -> bool,
) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        let sent: Vec<_> = (0..MANY)
            .map(|at| wire.send(&wire::produce_request(topic, 0, -1, value(next + at)), PRODUCE))
            .collect();
        for id in sent {
            let mut answer = wire.receive::<ProduceRequest>(id, PRODUCE);
            let answer = answer.responses.remove(0).partition_responses.remove(0);
            assert_eq!((answer.error_code, answer.base_offset), (0, i64::try_from(next).unwrap()));
            next += 1;
        }
        thread::sleep(PAUSE);
    }
    next
}

#[test]
fn a_producer_is_handed_over_and_nothing_is_lost_when_the_broker_is_killed() {
    let mut broker = Setup::new().start();
    let (topic, owner) = topic(&broker);
    let elsewhere = 1 - owner;
    let mut wire = connect_on(&broker, elsewhere);
    let next = produce_until(&mut wire, &topic, 0, || handed_over(&broker, elsewhere) == 1.0);
    // an answer says that it is served again
    let next = produce_until(&mut wire, &topic, next, || connections(&broker, owner) >= 1.0);
    let before = of(&broker, "corelane_shard_messages_sent_total", elsewhere);
    let mut rounds = 0..10;
    let produced = produce_until(&mut wire, &topic, next, || rounds.next().is_none());
    // each scrape is a message and an answer
    let crossed = of(&broker, "corelane_shard_messages_sent_total", elsewhere) - before;
    assert!(crossed < 10.0, "{crossed} messages for what is on one shard");
    assert_eq!(handed_over(&broker, owner), 0.0);
    check_values(&broker, &topic, produced);
    broker.kill();
    broker.restart();
    check_values(&broker, &topic, produced);
}

#[test]
fn a_broker_that_is_told_to_keep_them_does() {
    let broker = Setup::new().set("corelane.connection.handover", false).start();
    let (topic, owner) = topic(&broker);
    let mut wire = connect_on(&broker, 1 - owner);
    let begun = Instant::now();
    produce_until(&mut wire, &topic, 0, || begun.elapsed() > Duration::from_secs(1));
    assert_eq!(Scrape::of(&broker).sum("corelane_connections_handed_over_total", &[]), 0.0);
}

#[test]
fn two_hundred_connections_go_at_once() {
    const CONNECTIONS: usize = 200;
    let mut broker = Setup::new().start();
    let (topic, owner) = topic(&broker);
    let elsewhere = 1 - owner;
    let before = connections(&broker, elsewhere);
    let mut wires: Vec<_> = (0..CONNECTIONS).map(|_| Wire::connect(broker.bootstrap())).collect();
    wires.iter_mut().for_each(|wire| drop(wire.metadata("nobody")));
    let strangers = connections(&broker, elsewhere) - before;
    assert!(strangers > 40.0, "{strangers} of {CONNECTIONS} are on the other shard");
    let deadline = Instant::now() + PATIENCE;
    let mut fetch = wire::fetch_request(&topic, 0, 0, 0);
    fetch.max_bytes = 1; // the first batch
    let mut written = vec![Vec::new(); CONNECTIONS];
    while handed_over(&broker, elsewhere) < strangers {
        assert!(Instant::now() < deadline, "{} of {strangers} moved", handed_over(&broker, elsewhere));
        // a write between reads of each, all of them in flight at once
        let sent: Vec<_> = (wires.iter_mut().enumerate())
            .map(|(number, wire)| {
                let before: Vec<_> = (0..3).map(|_| wire.send(&fetch, FETCH)).collect();
                let value = Bytes::from(format!("{number}:{}", written[number].len()));
                let produced = wire.send(&wire::produce_request(&topic, 0, -1, batch(&[value])), PRODUCE);
                (before, produced)
            })
            .collect();
        for ((wire, (before, produced)), written) in wires.iter_mut().zip(sent).zip(&mut written) {
            for id in before {
                let mut answer = wire.receive::<FetchRequest>(id, FETCH);
                assert_eq!(answer.responses.remove(0).partitions.remove(0).error_code, 0);
            }
            let mut answer = wire.receive::<ProduceRequest>(produced, PRODUCE);
            let answer = answer.responses.remove(0).partition_responses.remove(0);
            assert_eq!(answer.error_code, 0);
            written.push(answer.base_offset);
        }
        thread::sleep(PAUSE);
    }
    // an answer says that it is served
    wires.iter_mut().for_each(|wire| drop(wire.metadata("nobody")));
    assert_eq!(Scrape::of(&broker).sum("corelane_connections", &[]), CONNECTIONS as f64);
    let records = Wire::connect(broker.bootstrap()).read_all(&topic, 0);
    assert_eq!(records.len(), written.iter().map(Vec::len).sum::<usize>());
    for (number, offsets) in written.iter().enumerate() {
        for (at, &offset) in offsets.iter().enumerate() {
            let record = &records[usize::try_from(offset).unwrap()];
            assert_eq!(record.value.as_deref(), Some(format!("{number}:{at}").as_bytes()));
        }
    }
    broker.stop();
}
