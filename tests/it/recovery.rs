//! kill -9 under load: everything acknowledged is there afterwards, offsets are dense, and space that the broker has
//! set aside at the end of a segment never shows as data.

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch};
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Record;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const PARTITIONS: i32 = 4;
const PRODUCERS: usize = 8;
/// Requests a producer keeps in flight, as Kafka's own clients do.
const IN_FLIGHT: usize = 5;
/// Acknowledged batches after which the broker is killed.
const ENOUGH: usize = 1_500;

/// One batch the broker has acknowledged.
struct Acknowledged {
    partition: i32,
    base_offset: i64,
    values: Vec<Bytes>,
}

/// Value `number` of a producer: its name, the number, and a filling whose length varies so that batches end anywhere
/// in a sector.
fn value(producer: &str, number: usize) -> Bytes {
    format!("{producer}/{number}/{}", "~".repeat(number * 37 % 700)).into()
}

fn producer_and_number(value: &[u8]) -> (&str, usize) {
    let text = std::str::from_utf8(value).expect("our values are text");
    let mut parts = text.split('/');
    match (parts.next(), parts.next().and_then(|number| number.parse().ok())) {
        (Some(producer), Some(number)) => (producer, number),
        _ => panic!("nobody wrote {text:?}"),
    }
}

/// Produces to one partition until the connection breaks; acknowledged batches go to `acknowledged` in order.
fn produce_until_the_end(
    bootstrap: &str,
    topic: &str,
    index: usize,
    round: usize,
    acknowledged: &Sender<Acknowledged>,
) {
    let producer = format!("producer {index} round {round}");
    let partition = i32::try_from(index).expect("few producers") % PARTITIONS;
    let acks = if index.is_multiple_of(2) { -1 } else { 1 };
    let mut wire = Wire::connect(bootstrap);
    let mut in_flight = VecDeque::new();
    let mut numbers = 0..;
    for size in (1..).map(|step| step * 7 % 20 + 1) {
        while in_flight.len() < IN_FLIGHT {
            let values: Vec<Bytes> =
                numbers.by_ref().take(size).map(|number| value(&producer, number)).collect();
            let request = wire::produce_request(topic, partition, acks, batch(&values));
            match wire.try_send(&request, wire::PRODUCE) {
                Ok(correlation_id) => in_flight.push_back((correlation_id, values)),
                Err(_) => break,
            }
        }
        let Some((correlation_id, values)) = in_flight.pop_front() else { return };
        let Ok(mut reply) = wire.try_receive::<ProduceRequest>(correlation_id, wire::PRODUCE) else { return };
        let answer = reply.responses.remove(0).partition_responses.remove(0);
        assert_eq!(answer.error_code, 0, "{producer}: {answer:?}");
        let _ = acknowledged.send(Acknowledged { partition, base_offset: answer.base_offset, values });
    }
}

/// Runs the producers until `ENOUGH` batches are acknowledged, kills the broker under them, and returns everything
/// that was acknowledged until then.
fn load_and_kill(broker: &mut Broker, topic: &str, round: usize) -> Vec<Acknowledged> {
    let bootstrap = broker.bootstrap().to_owned();
    let (sender, acknowledged) = channel();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for index in 0..PRODUCERS {
            let (bootstrap, sender) = (bootstrap.as_str(), sender.clone());
            scope.spawn(move || produce_until_the_end(bootstrap, topic, index, round, &sender));
        }
        drop(sender);
        while all.len() < ENOUGH {
            all.push(acknowledged.recv_timeout(Duration::from_secs(30)).expect("producers make progress"));
        }
        broker.kill();
        // The rest that was acknowledged before the connections broke.
        all.extend(acknowledged);
    });
    all
}

/// Asserts that `stored` holds every acknowledged batch at its offset, densely, in each producer's order.
fn check_partition(partition: i32, stored: &[Record], acknowledged: &[Acknowledged]) {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (expected, record) in (0..).zip(stored) {
        assert_eq!(record.offset, expected, "partition {partition} is not dense");
        let value = record.value.as_deref().expect("our records have values");
        let (producer, number) = producer_and_number(value);
        let previous = last.insert(producer, number);
        // A producer's first record is number 0, and none is missing or doubled between its first and last.
        assert_eq!(number, previous.map_or(0, |previous| previous + 1), "partition {partition}, {producer}");
        assert_eq!(value, self::value(producer, number), "partition {partition}, offset {expected}");
    }
    for batch in acknowledged.iter().filter(|batch| batch.partition == partition) {
        let from = usize::try_from(batch.base_offset).expect("an acknowledged batch has an offset");
        let found: Vec<&[u8]> = stored
            .iter()
            .skip(from)
            .take(batch.values.len())
            .filter_map(|record| record.value.as_deref())
            .collect();
        assert_eq!(
            found,
            batch.values,
            "partition {partition}: acknowledged at {from}, the log ends at {}",
            stored.len()
        );
    }
}

fn check_all(broker: &Broker, topic: &str, acknowledged: &[Acknowledged]) {
    let mut wire = Wire::connect(broker.bootstrap());
    for partition in 0..PARTITIONS {
        let stored = wire.read_all(topic, partition);
        check_partition(partition, &stored, acknowledged);
        // Behind the last record there is nothing: no error, no bytes, no space that was set aside.
        let end = i64::try_from(stored.len()).expect("few records");
        let behind = wire.fetch(topic, partition, end, 0);
        assert_eq!((behind.error_code, behind.high_watermark), (0, end));
        assert!(
            behind.records.is_none_or(|bytes| bytes.is_empty()),
            "bytes behind the end of partition {partition}"
        );
    }
}

/// Walks the batches of a segment file from its first byte to its last; returns the offset after the last batch.
fn walk_segment(path: &Path) -> i64 {
    let bytes = std::fs::read(path).expect("a segment can be read");
    let mut at = 0;
    let mut next =
        path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("named by its base offset");
    while at < bytes.len() {
        let batch = &bytes[at..];
        assert!(batch.len() >= 61, "{}: {} bytes behind the last batch at {at}", path.display(), batch.len());
        let int32 = |from: usize| i32::from_be_bytes(batch[from..from + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(batch[..8].try_into().expect("eight bytes"));
        assert_eq!(base, next, "{}: offset at byte {at}", path.display());
        let size = usize::try_from(int32(wire::header::BATCH_LENGTH)).expect("a length") + 12;
        let crc = u32::from_be_bytes(
            batch[wire::header::CRC..wire::header::ATTRIBUTES].try_into().expect("four bytes"),
        );
        assert_eq!(
            crc,
            crc32c::crc32c(&batch[wire::header::ATTRIBUTES..size]),
            "{}: batch at {at}",
            path.display()
        );
        next = base + i64::from(int32(wire::header::LAST_OFFSET_DELTA)) + 1;
        at += size;
    }
    next
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    // Small segments, so that kills also fall into rolls.
    let mut broker = Setup::new().set("log.segment.bytes", 1 << 20).start();
    let topic = wire::unique("killed");
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        acknowledged.extend(load_and_kill(&mut broker, &topic, round));
        broker.restart();
        check_all(&broker, &topic, &acknowledged);
    }
    // What was recovered survives a clean stop too, and the files then hold batches and nothing else.
    let ends: Vec<i64> = (0..PARTITIONS)
        .map(|partition| Wire::connect(broker.bootstrap()).end_offset(&topic, partition))
        .collect();
    broker.stop();
    for (partition, end) in (0..).zip(&ends) {
        let folder = broker.data().join(format!("{topic}-{partition}"));
        let mut segments: Vec<_> = std::fs::read_dir(&folder)
            .expect("a partition has a folder")
            .map(|entry| entry.expect("it can be listed").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        segments.sort();
        assert!(segments.len() > 1, "partition {partition} never rolled: the test writes too little");
        for pair in segments.windows(2) {
            let next = walk_segment(&pair[0]);
            assert!(pair[1].ends_with(format!("{next:020}.log")), "{} ends at {next}", pair[0].display());
        }
        assert_eq!(walk_segment(segments.last().expect("there is one")), *end, "partition {partition}");
    }
    broker.restart();
    check_all(&broker, &topic, &acknowledged);
    broker.stop();
}

/// Each start is a new leadership; one that appended nothing is known all the same, or clients see a truncation.
#[test]
fn a_leadership_without_records_is_no_truncation() {
    let mut broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("epochs", 1, &[]);
    assert_eq!(wire.produce("epochs", 0, -1, batch(&[Bytes::from_static(b"a")])).error_code, 0);
    for round in 1..4 {
        if round % 2 == 0 {
            broker.stop();
        } else {
            broker.kill();
        }
        broker.restart();
        let mut wire = Wire::connect(broker.bootstrap());
        for epoch in 0..=round {
            let (error, known, end) = wire.end_of_epoch("epochs", 0, epoch);
            assert!(
                error == 0 && end == 1 && (0..=epoch).contains(&known),
                "{round} {epoch}: {error} {known} {end}"
            );
        }
        assert_eq!(wire.end_of_epoch("epochs", 0, round + 1), (0, -1, -1));
    }
}

/// A disk that refuses writes (here by a limit on file sizes) takes its log directory offline for writing and loses
/// nothing; such a stop is not a clean one.
#[test]
fn a_failed_write_refuses_produce_and_loses_nothing() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let mut broker = Setup::new().shards(1).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("full", 1, &[]);
    broker.limit_file_size(6 << 20);
    let values = [Bytes::from(vec![b'~'; 512 << 10])];
    let mut stored = 0;
    let refused = loop {
        let answer = wire.produce("full", 0, -1, batch(&values));
        match answer.error_code {
            0 => stored += 1,
            error => break error,
        }
    };
    assert_eq!(refused, KAFKA_STORAGE_ERROR);
    assert!(stored >= 8, "{stored} batches fit below the limit");
    assert_eq!(wire.read_all("full", 0).len(), stored, "what was stored is still served");
    let status = broker.stop_uncleanly();
    assert_eq!(status.code(), Some(1));
    assert!(broker.stderr().contains("error: stopped, but not cleanly"), "{}", broker.stderr());
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(wire.read_all("full", 0).len(), stored);
    let again = wire.produce("full", 0, -1, batch(&values));
    assert_eq!((again.error_code, again.base_offset), (0, stored as i64));
}

/// Batches that were acknowledged and are in the journal only, of a folder that does not say whose it is, wait beside the
/// journal, are told by `corelane inspect`, and are there once the folder is.
#[test]
fn what_the_journal_has_for_a_folder_that_cannot_be_told_is_not_lost() {
    let mut broker = Setup::new().shards(1).start();
    let topic = wire::unique("untold");
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic(&topic, 1, &[]);
    for number in 0..20 {
        assert_eq!(wire.produce(&topic, 0, -1, batch(&[value("one", number)])).error_code, 0);
    }
    broker.kill();
    let (folder, other) = (broker.data().join(format!("{topic}-0")), broker.data().join("misplaced-0"));
    std::fs::rename(&folder, &other).expect("the broker is gone");
    std::fs::write(other.join("partition.metadata"), "nonsense").expect("the folder is there");
    broker.restart();
    broker.stop();
    let mut inspect = std::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
    inspect.arg("inspect").arg(broker.data());
    let told = crate::harness::run_to_end(inspect).stdout.join("\n");
    assert!(told.contains("unplaced-journal.") && told.contains("offsets 0 to 19"), "{told}");
    let names = || std::fs::read_dir(broker.data()).expect("it is there").map(|entry| entry.unwrap().path());
    let stray = names().find(|path| path.to_string_lossy().ends_with("-stray")).expect("it was set aside");
    std::fs::rename(stray, folder).expect("the broker is stopped");
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(wire.read_all(&topic, 0).len(), 20);
    assert_eq!(wire.produce(&topic, 0, -1, batch(&[value("one", 20)])).base_offset, 20);
    broker.stop();
    let names = std::fs::read_dir(broker.data()).expect("it is there").map(|entry| entry.unwrap().path());
    assert_eq!(names.filter(|path| path.to_string_lossy().contains("unplaced")).count(), 0);
}
