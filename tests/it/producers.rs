//! A great many idempotent producers: what the broker remembers of each costs what the setting's description says, and
//! all of it together no more than the setting allows, while they come and after a kill -9.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};

use crate::admin::Scrape;
use crate::harness::{Broker, Setup};
use crate::wire::{self, Producer, Wire, batch};

/// What the description of corelane.shard.producer.state.bytes says.
const BYTES_OF_ONE: f64 = 216.0;
/// The smallest budget there is.
const SMALL_BUDGET: i64 = 1 << 20;
const IN_FLIGHT: usize = 200;

/// New producers with a batch each, round the partitions; the first and the last of them.
fn come(wire: &mut Wire, topic: &str, partitions: i32, count: i32) -> (i64, i64) {
    let value = [Bytes::from_static(b"x")];
    let batch = batch(&value);
    let mut given = VecDeque::new();
    let (mut first, mut last) = (None, -1);
    for number in 0..count {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let correlation_id = wire.send(&request, 4);
        let id = wire.receive::<InitProducerIdRequest>(correlation_id, 4).producer_id.0;
        last = id;
        first = first.or(Some(id));
        given.push_back(id);
        if given.len() == IN_FLIGHT || number == count - 1 {
            send(wire, topic, partitions, &batch, &mut given);
        }
    }
    (first.expect("some came"), last)
}

fn send(wire: &mut Wire, topic: &str, partitions: i32, batch: &Bytes, ids: &mut VecDeque<i64>) {
    let sent: Vec<i32> = (ids.drain(..))
        .map(|id| {
            let partition = i32::try_from(id % i64::from(partitions)).expect("few partitions");
            let stamped = Producer { id, epoch: 0, sequence: 0 }.stamp(batch);
            wire.send(&wire::produce_request(topic, partition, -1, stamped), wire::PRODUCE)
        })
        .collect();
    for correlation_id in sent {
        let mut reply = wire.receive::<ProduceRequest>(correlation_id, wire::PRODUCE);
        assert_eq!(reply.responses.remove(0).partition_responses.remove(0).error_code, 0);
    }
}

fn state_bytes(broker: &Broker) -> f64 {
    Scrape::of(broker).sum("corelane_producer_state_bytes", &[])
}

/// Whether the producer's first batch is taken for a repeat.
fn is_known(wire: &mut Wire, topic: &str, partitions: i32, id: i64) -> bool {
    let partition = i32::try_from(id % i64::from(partitions)).expect("few partitions");
    let end = wire.end_offset(topic, partition);
    let again = Producer { id, epoch: 0, sequence: 0 }.stamp(&batch(&[Bytes::from_static(b"x")]));
    let answer = wire.produce(topic, partition, -1, again);
    assert_eq!(answer.error_code, 0);
    answer.base_offset < end
}

#[test]
fn producers_beyond_the_budget_are_forgotten() {
    const PRODUCERS: i32 = 12_000;
    let setup = Setup::new().shards(1).set("corelane.shard.producer.state.bytes", SMALL_BUDGET);
    for partitions in [1, 4] {
        let mut broker = setup.clone().start();
        let mut wire = Wire::connect(broker.bootstrap());
        wire.create_topic("many", partitions, &[]);
        let (first, some) = come(&mut wire, "many", partitions, 1_000);
        assert_eq!(state_bytes(&broker), 1_000.0 * BYTES_OF_ONE);
        assert!(
            is_known(&mut wire, "many", partitions, first) && is_known(&mut wire, "many", partitions, some)
        );
        let (_, last) = come(&mut wire, "many", partitions, PRODUCERS);
        broker.wait_logged("too many idempotent producers", 1);
        let used = state_bytes(&broker);
        assert!(used <= SMALL_BUDGET as f64 && used > 0.7 * SMALL_BUDGET as f64, "{used}");
        assert!(is_known(&mut wire, "many", partitions, last), "the newest stay");
        assert!(!is_known(&mut wire, "many", partitions, first), "the oldest is forgotten");
        // all of it is read again: within the budget, too
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        let used = state_bytes(&broker);
        assert!(used <= SMALL_BUDGET as f64 && used > 0.5 * SMALL_BUDGET as f64, "{used}");
        assert!(is_known(&mut wire, "many", partitions, last), "the newest stay");
        // of several logs the one that is read first may keep all of its producers
        assert!(partitions > 1 || !is_known(&mut wire, "many", partitions, some), "the oldest is forgotten");
        broker.stop();
    }
}

/// `cargo test --release --test it producers -- --ignored --nocapture`
#[test]
#[ignore = "takes a minute, and measures memory"]
fn a_hundred_thousand_producers() {
    const PRODUCERS: i32 = 100_000;
    for partitions in [1, 16] {
        // Nothing else that fills up meanwhile.
        let setup = Setup::new().shards(1).set("corelane.shard.tail.cache.bytes", 1 << 20);
        let mut broker = setup.set("corelane.shard.journal.bytes", 0).start();
        let mut wire = Wire::connect(broker.bootstrap());
        wire.create_topic("warm", partitions, &[]);
        wire.create_topic("many", partitions, &[]);
        // what a load without producers' state takes
        let batch = batch(&[Bytes::from_static(b"x")]);
        (0..PRODUCERS / IN_FLIGHT as i32).for_each(|_| {
            let mut none: VecDeque<i64> = (0..IN_FLIGHT as i64).map(|number| -1 - number).collect();
            send_without_id(&mut wire, partitions, &batch, &mut none);
        });
        let before = broker.resident_bytes();
        come(&mut wire, "many", partitions, PRODUCERS);
        let after = broker.resident_bytes();
        let counted = state_bytes(&broker);
        let stall = Scrape::of(&broker).sum("corelane_shard_longest_stall_seconds", &[]);
        let grown = after.saturating_sub(before);
        println!(
            "{PRODUCERS} producers on {partitions} partitions: {} KiB counted, {} KiB more resident ({} bytes each), {} MiB in \
             all; longest stall {:.1} ms",
            counted as u64 >> 10,
            grown >> 10,
            grown / PRODUCERS as u64,
            after >> 20,
            stall * 1e3
        );
        assert_eq!(counted, f64::from(PRODUCERS) * BYTES_OF_ONE, "each is remembered");
        // what a log and its indexes take is in it, too: 204 bytes for each were measured on one partition, 285 on 16
        assert!((grown as f64) < 1.5 * counted, "they take much more memory than is counted");
        broker.stop();
        broker.restart();
        assert_eq!(state_bytes(&broker), counted);
        println!("  after a clean restart {} MiB in all", broker.resident_bytes() >> 20);
        broker.kill();
        broker.restart();
        assert_eq!(state_bytes(&broker), counted);
    }
}

fn send_without_id(wire: &mut Wire, partitions: i32, batch: &Bytes, numbers: &mut VecDeque<i64>) {
    let sent: Vec<i32> = (numbers.drain(..))
        .map(|number| {
            let partition = i32::try_from(number.unsigned_abs()).expect("few") % partitions;
            wire.send(&wire::produce_request("warm", partition, -1, batch.clone()), wire::PRODUCE)
        })
        .collect();
    for correlation_id in sent {
        let mut reply = wire.receive::<ProduceRequest>(correlation_id, wire::PRODUCE);
        assert_eq!(reply.responses.remove(0).partition_responses.remove(0).error_code, 0);
    }
}
