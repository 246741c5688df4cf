//! Records in transactions: readers of committed records see a transaction whole or not at all, and nobody writes to one
//! that is not his, or is over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, BrokerId, FetchRequest, ListOffsetsRequest, ProduceRequest, ProducerId,
    TopicName,
};
use kafka_protocol::records::RecordBatchDecoder;

use super::{
    CONCURRENT_TRANSACTIONS, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, NONE, PATIENCE, PRODUCER_FENCED,
    Producer, Ways, add, describe, end, find, id, init, init_for, init_once, started, wait_for_state,
};
use crate::admin::Scrape;
use crate::harness::Setup;
use crate::wire::{self, Wire, batch, header, seal, string};

const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const TRANSACTION_ABORTABLE: i16 = 120;

/// One value and its number in the producer's sequence; without an id, outside of transactions. The error.
fn produce(
    wire: &mut Wire,
    transactional: Option<&str>,
    who: Producer,
    (topic, partition): (&str, i32),
    (sequence, value): (i32, &str),
    version: i16,
) -> i16 {
    let request = produce_request(transactional, who, (topic, partition), (sequence, value));
    let correlation_id = wire.send(&request, version);
    let mut answer = wire.receive::<ProduceRequest>(correlation_id, version);
    answer.responses.remove(0).partition_responses.remove(0).error_code
}

fn produce_request(
    transactional: Option<&str>,
    (producer, epoch): Producer,
    (topic, partition): (&str, i32),
    (sequence, value): (i32, &str),
) -> ProduceRequest {
    let bytes = batch(&[Bytes::from(value.to_owned())]);
    let bytes = match transactional {
        None => bytes,
        Some(_) => {
            let mut bytes = wire::Producer { id: producer, epoch, sequence }.stamp(&bytes).to_vec();
            bytes[header::ATTRIBUTES + 1] |= 0x10;
            seal(bytes)
        }
    };
    wire::produce_request(topic, partition, -1, bytes).with_transactional_id(transactional.map(id))
}

fn plain(wire: &mut Wire, topic: &str, partition: i32, value: &str) {
    assert_eq!(produce(wire, None, (-1, -1), (topic, partition), (-1, value), 12), NONE);
}

fn committed_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    wire::fetch_request(topic, partition, offset, max_wait_ms).with_isolation_level(1)
}

fn committed(wire: &mut Wire, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> PartitionData {
    wire.call(&committed_request(topic, partition, offset, max_wait_ms), wire::FETCH)
        .responses
        .remove(0)
        .partitions
        .remove(0)
}

/// What a client gives to its user: records of aborted transactions and control records are left out.
fn visible(data: &PartitionData) -> Vec<String> {
    assert_eq!(data.error_code, NONE);
    let mut aborted: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for transaction in data.aborted_transactions.iter().flatten() {
        aborted.entry(transaction.first_offset).or_default().insert(transaction.producer_id.0);
    }
    let mut bytes = data.records.clone().unwrap_or_default();
    let sets = RecordBatchDecoder::decode_all(&mut bytes).expect("what is stored decodes");
    let (mut values, mut aborting) = (Vec::new(), BTreeSet::new());
    for record in sets.into_iter().flat_map(|set| set.records) {
        let begun: Vec<i64> = aborted.range(..=record.offset).map(|(first, _)| *first).collect();
        begun.into_iter().for_each(|first| aborting.extend(aborted.remove(&first).unwrap_or_default()));
        if record.control {
            aborting.remove(&record.producer_id);
        } else if !(record.transactional && aborting.contains(&record.producer_id)) {
            values.push(String::from_utf8(record.value.expect("a value").to_vec()).expect("text"));
        }
    }
    values
}

/// Everything that readers of committed records see from `offset` up to the last record, once all of that is decided.
fn read_to_end(wire: &mut Wire, topic: &str, partition: i32) -> Vec<String> {
    let end = wire.end_offset(topic, partition);
    let (mut next, mut values) = (0, Vec::new());
    while next < end {
        let data = committed(wire, topic, partition, next, 30_000);
        let mut bytes = data.records.clone().unwrap_or_default();
        assert!(!bytes.is_empty(), "{topic}-{partition} is not decided at {next} of {end}: {data:?}");
        values.extend(visible(&data));
        let sets = RecordBatchDecoder::decode_all(&mut bytes).expect("what is stored decodes");
        next =
            sets.iter().flat_map(|set| &set.records).map(|record| record.offset).max().expect("a record") + 1;
    }
    values
}

/// The end of a partition for readers of all records and of committed ones.
fn ends(wire: &mut Wire, topic: &str, partition: i32) -> [i64; 2] {
    [0, 1].map(|isolation| {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(-1);
        let topic =
            ListOffsetsTopic::default().with_name(TopicName(string(topic))).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let answer = wire.call(&request, 7).topics.remove(0).partitions.remove(0);
        assert_eq!(answer.error_code, NONE);
        answer.offset
    })
}

#[test]
fn a_transaction_is_read_whole_or_not_at_all() {
    let (broker, mut wire) = started(2);
    for ways in Ways::ALL {
        let (topic, name) = (wire::unique("whole"), wire::unique("id"));
        wire.create_topic(&topic, 2, &[]);
        let first = init(&mut wire, &name, 4);
        ways.add(&mut wire, &name, first, &topic, &[0, 1]);
        for (partition, sequence, value) in [(0, 0, "a"), (1, 0, "b"), (0, 1, "c")] {
            let at = (&*topic, partition);
            assert_eq!(produce(&mut wire, Some(&name), first, at, (sequence, value), ways.produce), NONE);
        }
        plain(&mut wire, &topic, 0, "plain");
        // nobody knows yet what becomes of it
        let open = committed(&mut wire, &topic, 0, 0, 0);
        assert_eq!((open.last_stable_offset, open.high_watermark), (0, 3), "{ways:?}");
        assert_eq!(visible(&open), [""; 0]);
        assert_eq!(ends(&mut wire, &topic, 0), [3, 0]);
        assert_eq!(ends(&mut wire, &topic, 1), [1, 0]);
        assert_eq!(visible(&wire.fetch(&topic, 0, 0, 0)), ["a", "c", "plain"]);

        // a reader that waits is woken by the end
        let mut reader = Wire::connect(broker.bootstrap());
        let asked = reader.send(&committed_request(&topic, 0, 0, 30_000), wire::FETCH);
        let second = end(&mut wire, &name, first, true, ways.end).unwrap();
        let woken =
            reader.receive::<FetchRequest>(asked, wire::FETCH).responses.remove(0).partitions.remove(0);
        assert_eq!(visible(&woken), ["a", "c", "plain"]);
        assert_eq!(woken.last_stable_offset, 4, "behind the marker");
        assert_eq!(woken.aborted_transactions.as_deref(), Some(&[][..]));
        assert_eq!(read_to_end(&mut wire, &topic, 1), ["b"]);
        assert_eq!([ends(&mut wire, &topic, 0), ends(&mut wire, &topic, 1)], [[4, 4], [2, 2]]);

        // one that is aborted
        wait_for_state(&mut wire, &name, "CompleteCommit");
        ways.add(&mut wire, &name, second, &topic, &[0]);
        let sequence = if ways.raises_epoch() { 0 } else { 2 };
        let at = (&*topic, 0);
        assert_eq!(produce(&mut wire, Some(&name), second, at, (sequence, "lost"), ways.produce), NONE);
        plain(&mut wire, &topic, 0, "late");
        assert_eq!(ends(&mut wire, &topic, 0), [6, 4]);
        end(&mut wire, &name, second, false, ways.end).unwrap();
        wait_for_state(&mut wire, &name, "CompleteAbort");
        let all = committed(&mut wire, &topic, 0, 0, 30_000);
        assert_eq!(visible(&all), ["a", "c", "plain", "late"]);
        let aborted = all.aborted_transactions.expect("a reader of committed records is told");
        let aborted: Vec<_> = aborted.iter().map(|one| (one.producer_id.0, one.first_offset)).collect();
        assert_eq!(aborted, [(second.0, 4)], "{ways:?}");
        // below it nothing is aborted, and others are not told
        assert_eq!(wire.fetch(&topic, 0, 0, 0).aborted_transactions, None);
        assert_eq!(visible(&wire.fetch(&topic, 0, 0, 0)), ["a", "c", "plain", "lost", "late"]);
    }
    let counts = Scrape::of(&broker);
    let rounds = Ways::ALL.len() as f64;
    assert_eq!(counts.sum("corelane_committed_transactions_total", &[]), rounds);
    assert_eq!(counts.sum("corelane_aborted_transactions_total", &[]), rounds);
    assert_eq!(counts.sum("corelane_timed_out_transactions_total", &[]), 0.0);
    assert_eq!(counts.sum("corelane_open_transactions", &[]), 0.0);
    assert_eq!(counts.sum("corelane_transactional_ids", &[]), rounds);
}

/// A client of transaction.version 2 aborts what it has not begun, too, and does not wait for the last one's markers.
#[test]
fn what_was_not_begun_is_aborted_right_behind_another() {
    let (_broker, mut wire) = started(2);
    let (topic, name) = (wire::unique("behind"), wire::unique("id"));
    wire.create_topic(&topic, 1, &[]);
    let mut who = init(&mut wire, &name, 4);
    for _ in 0..30 {
        let at = (&*topic, 0);
        let produced = loop {
            match produce(&mut wire, Some(&name), who, at, (0, "value"), 12) {
                CONCURRENT_TRANSACTIONS => {}
                error => break error,
            }
        };
        assert_eq!(produced, NONE);
        for committed in [true, false] {
            who = loop {
                match end(&mut wire, &name, who, committed, 5) {
                    Ok(next) => break next,
                    Err(error) => assert_eq!(error, CONCURRENT_TRANSACTIONS),
                }
            };
        }
    }
    assert_eq!(read_to_end(&mut wire, &topic, 0).len(), 30);
}

#[test]
fn a_new_producer_of_the_same_id_fences_the_old_one() {
    let (_broker, mut wire) = started(2);
    for ways in Ways::ALL {
        let (topic, name) = (wire::unique("fenced"), wire::unique("id"));
        wire.create_topic(&topic, 2, &[]);
        let old = init(&mut wire, &name, 4);
        ways.add(&mut wire, &name, old, &topic, &[0, 1]);
        assert_eq!(produce(&mut wire, Some(&name), old, (&topic, 0), (0, "old"), ways.produce), NONE);
        // what is open is aborted first
        assert_eq!(init_once(&mut wire, &name, 4), Err(CONCURRENT_TRANSACTIONS));
        let new = init(&mut wire, &name, 4);
        assert_eq!((new.0, new.1), (old.0, old.1 + 2), "{ways:?}");
        for partition in [0, 1] {
            let at = (&*topic, partition);
            let error = produce(&mut wire, Some(&name), old, at, (1, "late"), ways.produce);
            assert_eq!(error, INVALID_PRODUCER_EPOCH, "{ways:?} {partition}");
        }
        assert_eq!(end(&mut wire, &name, old, true, ways.end), Err(ways.fenced()));
        ways.add(&mut wire, &name, new, &topic, &[0]);
        assert_eq!(produce(&mut wire, Some(&name), new, (&topic, 0), (0, "new"), ways.produce), NONE);
        end(&mut wire, &name, new, true, ways.end).unwrap();
        assert_eq!(read_to_end(&mut wire, &topic, 0), ["new"]);
        assert_eq!(read_to_end(&mut wire, &topic, 1), [""; 0]);
    }
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let broker = Setup::new()
        .shards(2)
        .set("transaction.state.log.num.partitions", 4)
        .set("transaction.abort.timed.out.transaction.cleanup.interval.ms", 50)
        .start();
    let mut wire = Wire::connect(broker.bootstrap());
    find(&mut wire);
    for ways in Ways::ALL {
        let (topic, name) = (wire::unique("slow"), wire::unique("id"));
        wire.create_topic(&topic, 1, &[]);
        let who = init_for(&mut wire, &name, 300, 4).unwrap();
        ways.add(&mut wire, &name, who, &topic, &[0]);
        let at = (&*topic, 0);
        assert_eq!(produce(&mut wire, Some(&name), who, at, (0, "slow"), ways.produce), NONE);
        plain(&mut wire, &topic, 0, "plain");
        // the reader waits for the end
        assert_eq!(read_to_end(&mut wire, &topic, 0), ["plain"], "{ways:?}");
        let ended = wait_for_state(&mut wire, &name, "CompleteAbort");
        assert_eq!((ended.producer_id.0, ended.producer_epoch), (who.0, who.1 + 1));
        let late = produce(&mut wire, Some(&name), who, at, (1, "late"), ways.produce);
        assert_eq!(late, INVALID_PRODUCER_EPOCH);
        assert_eq!(ends(&mut wire, &topic, 0), [3, 3]);
    }
    let counts = Scrape::of(&broker);
    assert_eq!(counts.sum("corelane_timed_out_transactions_total", &[]), Ways::ALL.len() as f64);
    assert_eq!(counts.sum("corelane_aborted_transactions_total", &[]), Ways::ALL.len() as f64);
}

/// By version of Produce: who adds partitions himself must have done so.
#[test]
fn a_partition_that_is_not_in_the_transaction_is_refused() {
    let (_broker, mut wire) = started(2);
    let topic = wire::unique("verified");
    wire.create_topic(&topic, 4, &[]);
    let name = wire::unique("id");
    let who = init(&mut wire, &name, 4);
    for partition in 0..4 {
        for (version, refused) in
            [(3, INVALID_TXN_STATE), (10, INVALID_TXN_STATE), (11, TRANSACTION_ABORTABLE)]
        {
            let at = (&*topic, partition);
            let error = produce(&mut wire, Some(&name), who, at, (0, "early"), version);
            assert_eq!(error, refused, "v{version}: there is no transaction");
        }
        if partition == 0 {
            let stranger = (who.0 + 1_000_000, 0);
            let error = produce(&mut wire, Some(&name), stranger, (&topic, 0), (0, "stranger"), 11);
            assert_eq!(error, INVALID_PRODUCER_ID_MAPPING);
            let unknown = produce(&mut wire, Some("nobody"), who, (&topic, 0), (0, "nobody"), 11);
            assert_eq!(unknown, INVALID_PRODUCER_ID_MAPPING);
        }
        assert_eq!(add(&mut wire, &name, who, &topic, &[partition], 3), [NONE]);
        assert_eq!(produce(&mut wire, Some(&name), who, (&topic, partition), (0, "added"), 11), NONE);
    }
    assert_eq!(end(&mut wire, &name, who, true, 4), Ok(who));
    for partition in 0..4 {
        assert_eq!(read_to_end(&mut wire, &topic, partition), ["added"]);
    }
    // the next transaction is another one
    wait_for_state(&mut wire, &name, "CompleteCommit");
    let late = produce(&mut wire, Some(&name), who, (&topic, 0), (1, "late"), 11);
    assert_eq!(late, TRANSACTION_ABORTABLE);
    // by version 12 the batch itself adds
    let name = wire::unique("adds");
    let who = init(&mut wire, &name, 5);
    assert_eq!(produce(&mut wire, Some(&name), who, (&topic, 2), (0, "adds"), 12), NONE);
    let described = describe(&mut wire, &name);
    assert_eq!(&*described.transaction_state, "Ongoing");
    assert_eq!(described.topics.iter().map(|topic| &topic.partitions[..]).collect::<Vec<_>>(), [[2]]);
}

/// Between brokers: partitions are looked for, and nothing changes.
#[test]
fn partitions_are_looked_for_without_being_added() {
    let (_broker, mut wire) = started(1);
    let topic = wire::unique("looked");
    wire.create_topic(&topic, 2, &[]);
    let name = wire::unique("id");
    let who = init(&mut wire, &name, 5);
    let verify = |wire: &mut Wire, partitions: &[i32], epoch: i16, version: i16| {
        let asked = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(string(&topic)))
            .with_partitions(partitions.to_vec());
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(id(&name))
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(epoch)
            .with_verify_only(true)
            .with_topics(vec![asked]);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let result = wire.call(&request, version).results_by_transaction.remove(0);
        let partitions = result.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
        partitions.map(|partition| partition.partition_error_code).collect::<Vec<i16>>()
    };
    for version in [4, 5] {
        assert_eq!(verify(&mut wire, &[0, 7], who.1, version), [TRANSACTION_ABORTABLE; 2]);
        assert_eq!(&*describe(&mut wire, &name).transaction_state, "Empty");
    }
    assert_eq!(add(&mut wire, &name, who, &topic, &[1], 3), [NONE]);
    for version in [4, 5] {
        assert_eq!(
            verify(&mut wire, &[0, 1, 7], who.1, version),
            [TRANSACTION_ABORTABLE, NONE, TRANSACTION_ABORTABLE]
        );
        assert_eq!(verify(&mut wire, &[1], who.1 + 1, version), [PRODUCER_FENCED]);
    }
}

#[test]
fn without_verification_clients_are_taken_at_their_word() {
    let broker = Setup::new()
        .shards(2)
        .set("transaction.state.log.num.partitions", 4)
        .set("transaction.partition.verification.enable", false)
        .start();
    let mut wire = Wire::connect(broker.bootstrap());
    find(&mut wire);
    wire.create_topic("t", 2, &[]);
    let who = init(&mut wire, "id", 4);
    for partition in [0, 1] {
        assert_eq!(produce(&mut wire, Some("id"), who, ("t", partition), (0, "early"), 9), NONE);
    }
    assert_eq!(add(&mut wire, "id", who, "t", &[0, 1], 3), [NONE; 2]);
    assert_eq!(end(&mut wire, "id", who, true, 4), Ok(who));
    for partition in [0, 1] {
        assert_eq!(read_to_end(&mut wire, "t", partition), ["early"]);
    }
    // who adds by producing is asked for all the same
    let name = wire::unique("adds");
    let who = init(&mut wire, &name, 5);
    assert_eq!(produce(&mut wire, Some(&name), who, ("t", 0), (0, "adds"), 12), NONE);
    assert_eq!(&*describe(&mut wire, &name).transaction_state, "Ongoing");
}

/// A decision that was answered reaches every partition, whatever is killed when; and what was not decided is aborted by the
/// next producer.
#[test]
fn a_decision_reaches_every_partition_after_a_kill() {
    let (mut broker, mut wire) = started(2);
    let topic = wire::unique("killed");
    wire.create_topic(&topic, 6, &[]);
    let mut expected = Vec::new();
    for round in 0..4 {
        for ways in Ways::ALL {
            let (decided, open) = (wire::unique("decided"), wire::unique("open"));
            let (who, other) = (init(&mut wire, &decided, 4), init(&mut wire, &open, 4));
            let all = [0, 1, 2, 3, 4, 5];
            ways.add(&mut wire, &decided, who, &topic, &all);
            ways.add(&mut wire, &open, other, &topic, &all);
            let value = format!("{round} {ways:?}");
            for partition in all {
                let at = (&*topic, partition);
                let lost = format!("open {value}");
                assert_eq!(produce(&mut wire, Some(&open), other, at, (0, &lost), ways.produce), NONE);
                assert_eq!(produce(&mut wire, Some(&decided), who, at, (0, &value), ways.produce), NONE);
            }
            let commits = round % 2 == 0;
            let after = end(&mut wire, &decided, who, commits, ways.end).unwrap();
            if commits {
                expected.push(value);
            }
            broker.kill();
            broker.restart();
            wire = Wire::connect(broker.bootstrap());
            let begun = std::time::Instant::now();
            while describe(&mut wire, &decided).error_code != NONE
                || describe(&mut wire, &open).error_code != NONE
            {
                assert!(begun.elapsed() < PATIENCE, "the coordinator is never there");
            }
            let state = if commits { "CompleteCommit" } else { "CompleteAbort" };
            let ended = wait_for_state(&mut wire, &decided, state);
            assert_eq!((ended.producer_id.0, ended.producer_epoch), after, "{ways:?}");
            wait_for_state(&mut wire, &open, "Ongoing");
            init(&mut wire, &open, 4);
            for partition in all {
                assert_eq!(read_to_end(&mut wire, &topic, partition), expected, "{ways:?} {partition}");
            }
        }
    }
}
