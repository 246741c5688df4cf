//! One connection: who waits for whom, what closes it, how many there may be.
//!
//! Hostile bytes are in `records.rs`; the connection loop's own unit tests (`src/server/tests.rs`) hold single
//! requests back, which a client cannot.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};

use crate::harness::{Broker, Setup};
use crate::wire::{self, FETCH, PRODUCE, Wire, batch};

const METADATA: i16 = 12;

fn one_record() -> Bytes {
    batch(&[Bytes::from_static(b"a value")])
}

fn metadata() -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(Vec::new()))
}

/// Longer than a test may wait for anything that is not a failure.
const NEVER_MS: i32 = 600_000;

#[test]
fn replies_come_in_the_order_of_mixed_requests() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("mixed");
    wire.create_topic(&topic, 4, &[]);
    let mut sent = Vec::new();
    for round in 0..100 {
        let produce = wire::produce_request(&topic, round % 4, -1, one_record());
        let produced = wire.send(&produce, PRODUCE);
        let told = wire.send(&metadata(), METADATA);
        // what was produced before it on the connection is there to be read
        let fetched =
            wire.send(&wire::fetch_request(&topic, round % 4, i64::from(round / 4), NEVER_MS), FETCH);
        sent.push((produced, told, fetched));
    }
    for (produced, told, fetched) in sent {
        let mut reply = wire.receive::<ProduceRequest>(produced, PRODUCE);
        assert_eq!(reply.responses.remove(0).partition_responses[0].error_code, 0);
        assert_eq!(wire.receive::<MetadataRequest>(told, METADATA).topics.len(), 0);
        let mut reply = wire.receive::<FetchRequest>(fetched, FETCH);
        let data = reply.responses.remove(0).partitions.remove(0);
        assert_eq!(data.error_code, 0);
        assert!(data.records.is_some_and(|records| !records.is_empty()));
    }
}

#[test]
fn a_waiting_fetch_holds_up_its_own_connection_and_is_woken_by_another() {
    let broker = Broker::start();
    let mut writer = Wire::connect(broker.bootstrap());
    let topic = wire::unique("waits");
    writer.create_topic(&topic, 2, &[]);
    for partition in 0..2 {
        let mut reader = Wire::connect(broker.bootstrap());
        let fetched = reader.send(&wire::fetch_request(&topic, partition, 0, NEVER_MS), FETCH);
        let told = reader.send(&metadata(), METADATA);
        // others are served while it waits
        let mut other = Wire::connect(broker.bootstrap());
        assert_eq!(other.call(&metadata(), METADATA).topics.len(), 0);
        assert_eq!(writer.produce(&topic, partition, -1, one_record()).error_code, 0);
        let mut reply = reader.receive::<FetchRequest>(fetched, FETCH);
        assert!(
            reply.responses.remove(0).partitions.remove(0).records.is_some_and(|found| !found.is_empty())
        );
        reader.receive::<MetadataRequest>(told, METADATA);
    }
}

#[test]
fn a_produce_without_acknowledgement_is_silent_and_closes_when_it_fails() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("silent");
    wire.create_topic(&topic, 1, &[]);
    for _ in 0..10 {
        wire.send(&wire::produce_request(&topic, 0, 0, one_record()), PRODUCE);
    }
    // the next answer is that of the next request that has one
    let answer = wire.produce(&topic, 0, -1, one_record());
    assert_eq!((answer.error_code, answer.base_offset), (0, 10));
    wire.send(&wire::produce_request(&wire::unique("unknown"), 0, 0, one_record()), PRODUCE);
    wire.assert_closed("a failed produce with acks=0");
    assert_eq!(Wire::connect(broker.bootstrap()).end_offset(&topic, 0), 11);
}

#[test]
fn keys_and_versions_that_are_not_served_close_without_an_answer() {
    let broker = Broker::start();
    let mut witness = Wire::connect(broker.bootstrap());
    let request = |key: i16, version: i16| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        wire::framed(&bytes)
    };
    let refused = [
        ("an unknown key", request(12_345, 0)),
        ("a negative key", request(-1, 0)),
        ("a key Kafka has removed", request(4, 0)),
        ("a controller's key", request(52, 0)),
        ("Produce 2, though 0 is advertised", request(0, 2)),
        ("Fetch 3", request(1, 3)),
        ("Metadata 14", request(3, 14)),
        ("a negative version", request(3, -1)),
    ];
    for (what, bytes) in refused {
        let mut wire = Wire::connect(broker.bootstrap());
        // in front of it a request that has an answer, to be sent first
        let told = wire.send(&metadata(), METADATA);
        wire.send_bytes(&bytes);
        wire.receive::<MetadataRequest>(told, METADATA);
        wire.assert_closed(what);
        assert_eq!(witness.call(&ApiVersionsRequest::default(), 0).error_code, 0, "after {what}");
    }
}

#[test]
fn an_idle_connection_is_closed_and_one_whose_request_waits_is_not() {
    let broker = Setup::new().set("connections.max.idle.ms", 400).start();
    let mut setup = Wire::connect(broker.bootstrap());
    let topic = wire::unique("idle");
    setup.create_topic(&topic, 1, &[]);
    let mut waiting = Wire::connect(broker.bootstrap());
    let began = Instant::now();
    let fetched = waiting.send(&wire::fetch_request(&topic, 0, 0, 1_500), FETCH);
    Wire::connect(broker.bootstrap()).assert_closed("a connection that never said a word");
    assert!(began.elapsed() >= Duration::from_millis(400));
    setup.assert_closed("a connection that has fallen silent");
    waiting.receive::<FetchRequest>(fetched, FETCH);
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    waiting.assert_closed("now it is idle");
}

#[test]
fn an_address_may_have_so_many_connections_and_no_more() {
    let broker = Setup::new().set("max.connections.per.ip", 3).start();
    let mut open: Vec<Wire> = (0..3).map(|_| Wire::connect(broker.bootstrap())).collect();
    for wire in &mut open {
        assert_eq!(wire.call(&ApiVersionsRequest::default(), 0).error_code, 0);
    }
    Wire::connect(broker.bootstrap()).assert_closed("the fourth from this address");
    drop(open.pop());
    // the broker learns of the end a moment later
    let served = |mut wire: Wire| {
        wire.try_send(&metadata(), METADATA)
            .is_ok_and(|id| wire.try_receive::<MetadataRequest>(id, METADATA).is_ok())
    };
    while !served(Wire::connect(broker.bootstrap())) {}
}

#[test]
fn a_full_broker_lets_newcomers_wait() {
    let broker = Setup::new().set("max.connections", 2).start();
    let mut open: Vec<Wire> = (0..2).map(|_| Wire::connect(broker.bootstrap())).collect();
    for wire in &mut open {
        assert_eq!(wire.call(&ApiVersionsRequest::default(), 0).error_code, 0);
    }
    let mut third = Wire::connect(broker.bootstrap());
    let sent = third.send(&metadata(), METADATA);
    assert_eq!(open[0].call(&ApiVersionsRequest::default(), 0).error_code, 0);
    drop(open.pop());
    third.receive::<MetadataRequest>(sent, METADATA);
}

#[test]
fn what_is_in_flight_at_a_stop_is_answered() {
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("stop");
    wire.create_topic(&topic, 2, &[]);
    let mut waiting = Wire::connect(broker.bootstrap());
    // both in one segment: when the first is answered, the second is being handled
    let fetch = wire::fetch_request(&topic, 0, 0, 1_000);
    let mut both = wire::framed(&wire::request_bytes(&metadata(), METADATA, 1));
    both.extend(wire::framed(&wire::request_bytes(&fetch, FETCH, 2)));
    waiting.send_bytes(&both);
    waiting.receive::<MetadataRequest>(1, METADATA);
    let bootstrap = broker.bootstrap().to_owned();
    broker.stop();
    let mut reply = waiting.receive::<FetchRequest>(2, FETCH);
    assert_eq!(reply.responses.remove(0).partitions.remove(0).error_code, 0);
    waiting.assert_closed("the broker has stopped");
    wire.assert_closed("the broker has stopped");
    assert!(std::net::TcpStream::connect(bootstrap).is_err());
}
