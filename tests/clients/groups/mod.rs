//! Consumer groups with real clients: members join, leave, freeze, crash and come back, the broker is killed under them,
//! and every record is read; exactly once, as long as nobody crashes.

pub mod clients;
pub mod group;

use std::thread;

use crate::harness::{Broker, Setup};
use crate::wire;
use clients::{Client, confluent, franz_go, java, kafka_python, kafkajs};
use group::Group;

/// How large a group's life is.
struct Size {
    records: usize,
    partitions: usize,
    /// It grows to each of these.
    members: [usize; 3],
}

const SHORT: Size = Size { records: 100_000, partitions: 6, members: [1, 2, 3] };
const FULL: Size = Size { records: 1_000_000, partitions: 12, members: [1, 3, 10] };
/// Records are written in so many parts, one for each thing that happens.
const PARTS: usize = 8;

/// Sessions end soon, and a group of the consumer protocol does not wait for a slow heart.
fn broker() -> Broker {
    Setup::new()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("group.consumer.session.timeout.ms", 6_000)
        .set("group.consumer.heartbeat.interval.ms", 500)
        .start()
}

fn life(client: Client, size: &Size) {
    let mut broker = broker();
    let name = wire::unique(&format!("{}-{}", client.name, client.protocol));
    let mut group = Group::new(broker.bootstrap(), broker.scratch(), client, &name, size.partitions);
    let part = size.records / PARTS;

    for members in size.members {
        group.grow(members, part);
        group.caught_up();
    }
    group.write(part);
    group.leave(1);
    group.settled();
    group.caught_up();
    assert_eq!(group.repeated(), 0);

    frozen(&mut group, part);

    // a crash, and it comes back
    group.write(part);
    let members: Vec<usize> = group.running().collect();
    group.kill(members[0]);
    group.settled();
    group.caught_up();
    group.grow(members.len(), 0);

    if !broker.is_external() {
        group.write(part);
        broker.kill();
        broker.restart();
        group.caught_up();

        group.write(part);
        broker.kill();
        for number in group.running().collect::<Vec<_>>() {
            group.kill(number);
        }
        broker.restart();
        group.grow(members.len(), 0);
        group.caught_up();
    }
    eprintln!("{} {}: {} records read more than once", client.name, client.protocol, group.repeated());
    group.end();
    if !broker.is_external() {
        broker.stop();
    }
}

/// A member stands still and another leaves, so the partitions are shared out anew; in a cooperative group the others read
/// on while the coordinator waits for the one.
fn frozen(group: &mut Group, records: usize) {
    let members = group.running().count();
    group.grow(members + 1, 0);
    let running: Vec<usize> = group.running().collect();
    let (frozen, leaving) = (running[members], running[members - 1]);
    group.freeze(frozen);
    group.leave(leaving);
    if group.reads_on_while_rebalanced() {
        group.reads_on(frozen);
    }
    group.write(records);
    group.settled();
    group.caught_up();
    group.kill(frozen);
    group.grow(members, 0);
}

/// A library by each of its protocols, with a broker for each, side by side: they wait most of the time.
fn lives(library: fn(&'static str) -> Client, protocols: &[&'static str]) {
    thread::scope(|scope| {
        for protocol in protocols {
            scope.spawn(|| life(library(protocol), &SHORT));
        }
    });
}

#[test]
fn confluent_kafka_python_in_groups() {
    lives(confluent, &["range", "cooperative-sticky", "consumer"]);
}

#[test]
fn java_in_groups() {
    lives(java, &["range", "cooperative-sticky", "consumer"]);
}

#[test]
fn franz_go_in_groups() {
    lives(franz_go, &["range", "cooperative-sticky", "consumer"]);
}

#[test]
fn kafka_python_in_groups() {
    lives(kafka_python, &["range", "cooperative-sticky"]);
}

#[test]
fn kafkajs_in_groups() {
    lives(kafkajs, &["roundrobin"]);
}

#[test]
#[ignore = "a million records and ten members for each client and protocol: minutes"]
fn full() {
    for protocol in ["range", "cooperative-sticky", "consumer"] {
        for library in [confluent, java, franz_go] {
            life(library(protocol), &FULL);
        }
    }
    for protocol in ["range", "cooperative-sticky"] {
        life(kafka_python(protocol), &FULL);
    }
    life(kafkajs("roundrobin"), &FULL);
}
