use super::*;
use crate::log::producer_snapshot;
use crate::model::LeaderEpoch;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A data batch: producer, epoch, first sequence, records.
pub(crate) fn header(producer: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        total_bytes: 100,
        leader_epoch: LeaderEpoch(0),
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: TimestampMs(1_000),
        max_timestamp: TimestampMs(1_000),
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence,
        record_count: records,
    }
}

fn transactional(header: BatchHeader) -> BatchHeader {
    BatchHeader { attributes: TRANSACTIONAL, ..header }
}

/// One partition's log as the rules see it. The text tables below run on it.
struct Partition {
    states: ProducerStates,
    first: FirstSequence,
    end: i64,
}

impl Default for Partition {
    fn default() -> Partition {
        Partition { states: ProducerStates::default(), first: FirstSequence::Any, end: 0 }
    }
}

impl Partition {
    /// Appends if the verdict says so.
    fn produce(&mut self, header: &BatchHeader) -> Verdict {
        let verdict = self.states.check(header, self.first);
        if verdict == Verdict::Append {
            self.states.apply(header, Offset(self.end));
            self.end += i64::from(header.record_count);
        }
        verdict
    }
}

/// Lines of `epoch first..last -> append | dup BASE..LAST | ERROR`, one producer, in order.
fn check(script: &str) {
    let mut partition = Partition::default();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (batch, expect) = line.split_once(" -> ").unwrap();
        let (epoch, sequences) = batch.split_once(' ').unwrap();
        let (first, last) = sequences.split_once("..").unwrap();
        let (first, last): (i32, i64) = (first.parse().unwrap(), last.parse().unwrap());
        let records = (last - i64::from(first)).rem_euclid(1 << 31) as i32 + 1;
        let answer = match partition.produce(&header(7, epoch.parse().unwrap(), first, records)) {
            Verdict::Append => "append".to_owned(),
            Verdict::Duplicate { base_offset, last_offset, .. } => {
                format!("dup {base_offset}..{last_offset}")
            }
            Verdict::Refuse(error) => format!("{error:?}"),
        };
        assert_eq!(answer, expect, "{line}");
    }
}

#[test]
fn sequences_follow_each_other() {
    check(
        "0 0..4 -> append
         0 5..5 -> append
         0 7..7 -> OutOfOrderSequenceNumber
         0 6..9 -> append
         0 0..0 -> OutOfOrderSequenceNumber",
    );
}

#[test]
fn a_producer_without_state_starts_anywhere() {
    check(
        "3 17..20 -> append
         3 22..22 -> OutOfOrderSequenceNumber
         3 21..21 -> append",
    );
}

#[test]
fn sequences_wrap() {
    check(
        "0 2147483645..2147483646 -> append
         0 2147483647..2147483647 -> append
         0 2147483647..2147483647 -> dup 2..2
         0 1..1 -> OutOfOrderSequenceNumber
         0 0..9 -> append
         0 10..10 -> append",
    );
    // a batch that wraps inside
    check(
        "0 2147483640..2147483645 -> append
         0 2147483646..1 -> append
         0 2147483646..1 -> dup 6..9
         0 2..2 -> append",
    );
}

#[test]
fn the_last_five_batches_are_remembered() {
    check(
        "0 0..0 -> append
         0 1..2 -> append
         0 3..5 -> append
         0 6..9 -> append
         0 10..14 -> append
         0 0..0 -> dup 0..0
         0 10..14 -> dup 10..14
         0 15..20 -> append
         0 0..0 -> OutOfOrderSequenceNumber
         0 1..2 -> dup 1..2
         0 15..20 -> dup 15..20
         0 1..1 -> OutOfOrderSequenceNumber
         0 2..2 -> OutOfOrderSequenceNumber
         0 1..5 -> OutOfOrderSequenceNumber
         0 21..21 -> append
         0 1..2 -> OutOfOrderSequenceNumber
         0 3..5 -> dup 3..5",
    );
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old() {
    check(
        "5 0..9 -> append
         6 10..10 -> OutOfOrderSequenceNumber
         6 1..1 -> OutOfOrderSequenceNumber
         5 10..10 -> append
         6 0..0 -> append
         5 11..11 -> InvalidProducerEpoch
         5 0..9 -> InvalidProducerEpoch
         6 0..0 -> dup 11..11
         6 1..1 -> append
         32767 0..0 -> append
         6 2..2 -> InvalidProducerEpoch",
    );
}

#[test]
fn producers_do_not_know_each_other() {
    let mut partition = Partition::default();
    for producer in 0..100 {
        assert_eq!(partition.produce(&header(producer, 0, 0, 1)), Verdict::Append);
    }
    for producer in 0..100 {
        let again = partition.produce(&header(producer, 0, 0, 1));
        let at = Offset(producer);
        let timestamp = TimestampMs(1_000);
        assert_eq!(again, Verdict::Duplicate { base_offset: at, last_offset: at, timestamp });
    }
    // batches without a producer leave no trace and are never duplicates
    for _ in 0..2 {
        assert_eq!(partition.produce(&header(-1, -1, -1, 3)), Verdict::Append);
    }
    assert_eq!(partition.states.len(), 100);
}

#[test]
fn transactions_open_and_end() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&header(1, 0, 0, 5)), Verdict::Append);
    assert_eq!(partition.states.first_undecided(), None);
    assert_eq!(partition.produce(&transactional(header(1, 0, 5, 5))), Verdict::Append);
    assert_eq!(partition.produce(&transactional(header(2, 0, 0, 5))), Verdict::Append);
    assert_eq!(partition.produce(&transactional(header(1, 0, 10, 5))), Verdict::Append);
    assert_eq!(partition.states.first_undecided(), Some(Offset(5)));
    let refused = partition.produce(&header(1, 0, 15, 1));
    assert_eq!(refused, Verdict::Refuse(ErrorCode::InvalidTxnState));
    // a repeat is answered before anything else is looked at
    assert!(matches!(partition.produce(&header(1, 0, 10, 5)), Verdict::Duplicate { .. }));

    let marker = |producer: i64, epoch: i16, offset: i64| Marker {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch: 9,
        end: EndTxn::Abort,
        offset: Offset(offset),
        timestamp: TimestampMs(2_000),
    };
    // the marker of transaction version 2 raises the epoch: sequences start again
    let completed = partition.states.apply_marker(marker(1, 1, 20)).unwrap();
    assert_eq!((completed.first_offset, completed.last_offset), (Offset(5), Offset(20)));
    assert_eq!((completed.producer_id, completed.end), (ProducerId(1), EndTxn::Abort));
    assert_eq!(partition.states.first_undecided(), Some(Offset(10)));
    assert_eq!(partition.states.apply_marker(marker(1, 1, 21)), None);
    let refused = partition.produce(&transactional(header(1, 1, 15, 1)));
    assert_eq!(refused, Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(partition.produce(&transactional(header(1, 1, 0, 1))), Verdict::Append);
    // the marker of version 1 keeps it: sequences go on
    assert!(partition.states.apply_marker(marker(2, 0, 23)).is_some());
    assert_eq!(partition.produce(&header(2, 0, 5, 1)), Verdict::Append);
    // a marker for a producer that has no state leaves its epoch
    assert_eq!(partition.states.apply_marker(marker(3, 4, 25)), None);
    assert_eq!(partition.produce(&header(3, 3, 0, 1)), Verdict::Refuse(ErrorCode::InvalidProducerEpoch));
    assert_eq!(partition.produce(&header(3, 4, 8, 1)), Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber));
}

#[test]
fn version_2_begins_at_zero() {
    let mut partition = Partition { first: FirstSequence::Zero, ..Partition::default() };
    let refused = Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(partition.produce(&transactional(header(1, 0, 4, 1))), refused);
    assert_eq!(partition.produce(&transactional(header(1, 0, 0, 1))), Verdict::Append);
    assert_eq!(partition.produce(&transactional(header(1, 0, 1, 1))), Verdict::Append);
    // who is known by a marker only begins at zero in any version
    partition.states.apply_marker(Marker {
        producer_id: ProducerId(2),
        producer_epoch: ProducerEpoch(3),
        coordinator_epoch: 0,
        end: EndTxn::Commit,
        offset: Offset(partition.end),
        timestamp: TimestampMs(1_000),
    });
    partition.end += 1;
    assert_eq!(partition.produce(&transactional(header(2, 3, 1, 1))), refused);
    assert_eq!(partition.produce(&transactional(header(2, 3, 0, 1))), Verdict::Append);
    // without a producer there are no sequences
    assert_eq!(partition.produce(&header(-1, -1, -1, 1)), Verdict::Append);
}

/// Lines of `begin EPOCH | (commit|abort) vVERSION EPOCH COORDINATOR -> append | repeated | ERROR`, one producer.
fn check_markers(script: &str) {
    let (id, mut partition) = (ProducerId(7), Partition::default());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["begin", epoch] = words[..] {
            let batch = transactional(header(id.0, epoch.parse().unwrap(), 0, 1));
            assert_eq!(partition.produce(&batch), Verdict::Append, "{line}");
            continue;
        }
        let [end, version, epoch, coordinator, "->", expect] = words[..] else { panic!("{line}") };
        let marker = NewMarker {
            producer_id: id,
            producer_epoch: ProducerEpoch(epoch.parse().unwrap()),
            coordinator_epoch: coordinator.parse().unwrap(),
            end: if end == "commit" { EndTxn::Commit } else { EndTxn::Abort },
            transaction_version: version[1..].parse().unwrap(),
        };
        let verdict = partition.states.check_marker(&marker);
        let answer = match verdict {
            MarkerVerdict::Append => "append".to_owned(),
            MarkerVerdict::Repeated => "repeated".to_owned(),
            MarkerVerdict::Refuse(error) => format!("{error:?}"),
        };
        assert_eq!(answer, expect, "{line}");
        if verdict == MarkerVerdict::Append {
            partition.states.apply_marker(Marker {
                producer_id: id,
                producer_epoch: marker.producer_epoch,
                coordinator_epoch: marker.coordinator_epoch,
                end: marker.end,
                offset: Offset(partition.end),
                timestamp: TimestampMs(1_000),
            });
            partition.end += 1;
            assert_eq!(partition.states.open_txn(id), None, "{line}");
        }
    }
}

#[test]
fn markers_fence_by_epoch_and_coordinator() {
    // of a producer nobody knows, and once more; another coordinator says it anew, an older one is fenced
    check_markers(
        "commit v1 3 5 -> append
         commit v1 3 5 -> repeated
         commit v1 3 6 -> append
         commit v1 3 5 -> TransactionCoordinatorFenced
         commit v1 2 6 -> InvalidProducerEpoch",
    );
    // version 1 keeps the epoch, or raises it to fence the producer
    check_markers(
        "begin 3
         commit v1 2 5 -> InvalidProducerEpoch
         commit v1 3 5 -> append
         begin 4
         abort v0 5 5 -> append
         abort v0 5 5 -> repeated
         abort v0 4 5 -> InvalidProducerEpoch",
    );
    // version 2: a marker of the transaction's own epoch is late
    check_markers(
        "begin 3
         commit v2 3 5 -> InvalidProducerEpoch
         commit v2 4 5 -> append
         commit v2 4 5 -> repeated
         commit v2 4 6 -> append
         begin 4
         commit v2 4 6 -> InvalidProducerEpoch
         abort v2 5 4 -> TransactionCoordinatorFenced
         abort v2 5 6 -> append",
    );
    check_markers(
        "begin 32767
         abort v2 32767 5 -> append",
    );
}

#[test]
fn a_producer_stands_inside_or_outside_its_transaction() {
    let mut partition = Partition::default();
    let (one, epoch) = (ProducerId(1), ProducerEpoch);
    assert_eq!(partition.states.standing(one, epoch(0)), Standing::Outside);
    partition.produce(&transactional(header(1, 4, 0, 1)));
    assert_eq!(partition.states.standing(one, epoch(4)), Standing::InTransaction);
    assert_eq!(partition.states.standing(one, epoch(3)), Standing::Fenced);
    assert_eq!(partition.states.standing(one, epoch(5)), Standing::Outside, "that transaction is another's");
    let described = partition.states.active(None, 10);
    let expect = ActiveProducer {
        id: one,
        epoch: epoch(4),
        last_sequence: 0,
        last_timestamp: TimestampMs(1_000),
        coordinator_epoch: -1,
        txn_start_offset: Offset(0),
    };
    assert_eq!(described, [expect]);
    assert_eq!(partition.states.active(Some(one), 10), []);
}

#[test]
fn control_batches_are_not_data() {
    let mut states = ProducerStates::default();
    states.apply(&BatchHeader { attributes: CONTROL | TRANSACTIONAL, ..header(1, 0, -1, 1) }, Offset(0));
    assert!(states.is_empty());
}

#[test]
fn silent_producers_expire() {
    let mut states = ProducerStates::default();
    states.apply(&BatchHeader { max_timestamp: TimestampMs(1_000), ..header(1, 0, 0, 1) }, Offset(0));
    states.apply(&BatchHeader { max_timestamp: TimestampMs(1_001), ..header(2, 0, 0, 1) }, Offset(1));
    states.apply(&transactional(header(3, 0, 0, 1)), Offset(2));
    let expire = |states: &mut ProducerStates, now: i64| {
        // in slices of two, to the end
        let mut from = None;
        loop {
            from = states.expire(TimestampMs(now), 1_000, from, 2);
            if from.is_none() {
                return;
            }
        }
    };
    expire(&mut states, 1_999);
    assert_eq!(states.len(), 3);
    expire(&mut states, 2_000);
    assert_eq!(states.len(), 2);
    assert_eq!(states.check(&header(1, 0, 77, 1), FirstSequence::Any), Verdict::Append);
    expire(&mut states, i64::MAX);
    assert_eq!(states.entries().map(|(id, _)| id.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn the_longest_silent_are_forgotten_in_slices() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&transactional(header(100, 0, 0, 1))), Verdict::Append);
    for producer in 0..10 {
        assert_eq!(partition.produce(&header(producer, 0, 0, 1)), Verdict::Append);
    }
    assert_eq!(partition.produce(&header(0, 0, 1, 1)), Verdict::Append);
    let states = &mut partition.states;
    assert_eq!(states.memory_bytes(), 11 * ENTRY_MEMORY_BYTES);
    let (mut offsets, mut from, mut slices) = (Vec::new(), None, 0);
    loop {
        from = states.last_offsets(from, 4, &mut offsets);
        slices += 1;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(
        (slices, offsets),
        (3, [11, 2, 3, 4, 5, 6, 7, 8, 9, 10].to_vec()),
        "not who is in a transaction"
    );
    assert_eq!(states.forget_up_to(8, None, 4), (3, Some(ProducerId(3))));
    assert_eq!(states.forget_up_to(8, Some(ProducerId(3)), 4), (4, Some(ProducerId(7))));
    assert_eq!(states.forget_up_to(8, Some(ProducerId(7)), 4), (0, None));
    assert_eq!(states.entries().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 8, 9, 100]);
    states.shed(2);
    assert_eq!(states.entries().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 100]);
    states.shed(0);
    states.shed(10);
    assert_eq!(states.entries().map(|(id, _)| id.0).collect::<Vec<_>>(), [100]);
}

#[test]
fn snapshot_bytes_are_kafkas() {
    let mut states = ProducerStates::default();
    states.apply(&header(3, 1, 10, 5), Offset(100));
    states.apply_marker(Marker {
        producer_id: ProducerId(2),
        producer_epoch: ProducerEpoch(4),
        coordinator_epoch: 6,
        end: EndTxn::Commit,
        offset: Offset(105),
        timestamp: TimestampMs(7),
    });
    let bytes = producer_snapshot::encode(&states);
    let entry = |fields: [i64; 8]| {
        let [id, epoch, sequence, offset, delta, timestamp, coordinator, txn] = fields;
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend((epoch as i16).to_be_bytes());
        bytes.extend((sequence as i32).to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend((delta as i32).to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend((coordinator as i32).to_be_bytes());
        bytes.extend(txn.to_be_bytes());
        bytes
    };
    let mut body = 2i32.to_be_bytes().to_vec();
    body.extend(entry([2, 4, -1, -1, 0, 7, 6, -1]));
    body.extend(entry([3, 1, 14, 104, 4, 1_000, -1, -1]));
    let mut expect = vec![0, 1];
    expect.extend(crc32c::crc32c(&body).to_be_bytes());
    expect.extend(&body);
    assert_eq!(bytes, expect);
}

#[test]
fn a_snapshot_brings_back_the_remembered_batches_and_the_open_transactions() {
    let mut partition = Partition::default();
    for sequence in 0..8 {
        assert_eq!(partition.produce(&header(1, 2, sequence, 1)), Verdict::Append);
    }
    assert_eq!(partition.produce(&transactional(header(2, 0, 0, 3))), Verdict::Append);
    let mut reread = Partition {
        states: producer_snapshot::decode(&producer_snapshot::encode(&partition.states)).unwrap(),
        end: partition.end,
        ..Partition::default()
    };
    assert_eq!(reread.states.first_undecided(), Some(Offset(8)));
    assert_eq!(reread.states, partition.states);
    for sequence in 3..8 {
        let base_offset = Offset(i64::from(sequence));
        let verdict = reread.produce(&header(1, 2, sequence, 1));
        let expect =
            Verdict::Duplicate { base_offset, last_offset: base_offset, timestamp: TimestampMs(1_000) };
        assert_eq!(verdict, expect, "what was in flight comes again");
    }
    assert_eq!(reread.produce(&header(1, 2, 2, 1)), Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(reread.produce(&header(1, 1, 8, 1)), Verdict::Refuse(ErrorCode::InvalidProducerEpoch));
    assert_eq!(reread.produce(&header(1, 2, 8, 1)), Verdict::Append);
    assert_eq!(
        producer_snapshot::decode(&producer_snapshot::encode(&ProducerStates::default())).unwrap(),
        ProducerStates::default()
    );
}

/// Kafka's reader takes a producer's last entry; ours takes no more from entries that do not follow each other.
#[test]
fn a_snapshots_last_entry_of_a_producer_counts() {
    let decode = |batches: &[(i16, i32, i64)]| {
        let entries: Vec<u8> = (batches.iter())
            .flat_map(|&(epoch, sequence, offset)| {
                let mut states = ProducerStates::default();
                states.apply(&header(1, epoch, sequence, 1), Offset(offset));
                producer_snapshot::encode(&states)[10..].to_vec()
            })
            .collect();
        let mut body = (batches.len() as i32).to_be_bytes().to_vec();
        body.extend(entries);
        let mut bytes = vec![0, 1];
        bytes.extend(crc32c::crc32c(&body).to_be_bytes());
        bytes.extend(&body);
        producer_snapshot::decode(&bytes).unwrap()
    };
    let known = |states: &ProducerStates, epoch: i16| {
        let is_known = |sequence: &i32| {
            matches!(
                states.check(&header(1, epoch, *sequence, 1), FirstSequence::Any),
                Verdict::Duplicate { .. }
            )
        };
        (0..20).filter(is_known).collect::<Vec<_>>()
    };
    assert_eq!(known(&decode(&[(0, 5, 50), (0, 6, 51), (0, 7, 60)]), 0), [5, 6, 7]);
    assert_eq!(known(&decode(&[(0, 5, 50), (0, 6, 50)]), 0), [6], "at one place");
    assert_eq!(known(&decode(&[(0, 5, 50), (0, 6, 40)]), 0), [6], "backwards");
    assert_eq!(known(&decode(&[(0, 5, 50), (1, 0, 60)]), 1), [0], "of another epoch");
    let eight: Vec<_> = (0..8).map(|number| (0, number, i64::from(number))).collect();
    assert_eq!(known(&decode(&eight), 0), [3, 4, 5, 6, 7], "more than there can be");
}

#[test]
fn a_snapshot_of_too_many_producers_has_their_last_batches() {
    let bytes_of = |producers: i64| {
        let mut states = ProducerStates::default();
        for sequence in 0..2 {
            for id in 0..producers {
                states.apply(&header(id, 0, sequence, 1), Offset(i64::from(sequence) * producers + id));
            }
        }
        producer_snapshot::encode(&states).len()
    };
    assert_eq!(bytes_of(10_000), 10 + 20_000 * 46);
    assert_eq!(bytes_of(10_001), 10 + 10_001 * 46);
}

#[test]
fn snapshot_damage_is_found() {
    let mut states = ProducerStates::default();
    states.apply(&header(3, 1, 10, 5), Offset(100));
    states.apply(&header(4, 1, 10, 5), Offset(105));
    let bytes = producer_snapshot::encode(&states);
    for length in 0..bytes.len() {
        assert!(producer_snapshot::decode(&bytes[..length]).is_err(), "cut to {length}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(producer_snapshot::decode(&damaged).is_err(), "byte {at}");
    }
    let with_crc = |body: &[u8]| {
        let mut bytes = vec![0, 1];
        bytes.extend(crc32c::crc32c(body).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    // a right checksum over counts and entries that cannot be
    for count in [-1i32, 1, 3, i32::MAX] {
        let mut body = bytes[6..].to_vec();
        body[..4].copy_from_slice(&count.to_be_bytes());
        assert!(producer_snapshot::decode(&with_crc(&body)).is_err(), "{count}");
    }
    let mut body = bytes[6..].to_vec();
    body[4..12].copy_from_slice(&(-5i64).to_be_bytes());
    assert!(producer_snapshot::decode(&with_crc(&body)).is_err(), "negative producer id");
}

/// Against a model that keeps everything: the verdict of a random walk of repeats, gaps and new epochs is what
/// Kafka's rules say, and duplicates point at where the batch is.
#[test]
fn random_walk_agrees_with_a_model_that_forgets_nothing() {
    struct Sent {
        epoch: i16,
        first: i32,
        records: i32,
        offset: i64,
    }
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut partition = Partition::default();
    let mut sent: Vec<Sent> = Vec::new();
    for _ in 0..20_000 {
        let epoch = sent.last().map_or(0, |last| last.epoch);
        let in_epoch: Vec<&Sent> = sent.iter().rev().take_while(|batch| batch.epoch == epoch).collect();
        let expected_first = in_epoch
            .first()
            .map_or(0, |last| ((i64::from(last.first) + i64::from(last.records)) % (1 << 31)) as i32);
        let records = next(5) as i32 + 1;
        let (epoch_now, first, records) = match next(20) {
            0 => (epoch + 1, 0, records),
            1 => (epoch + 1, 1 + next(5) as i32, records),
            2 if epoch > 0 => (epoch - 1, expected_first, records),
            3 => (epoch, expected_first.wrapping_add(1 + next(9) as i32) & i32::MAX, records),
            4..=9 if !in_epoch.is_empty() => {
                let again = in_epoch[next(in_epoch.len().min(7) as u64) as usize];
                (epoch, again.first, again.records)
            }
            10 => (epoch, expected_first, 1_000_000_000),
            _ => (epoch, expected_first, records),
        };
        let repeat = in_epoch
            .iter()
            .take(BATCHES_RETAINED)
            .find(|batch| epoch_now == epoch && batch.first == first && batch.records == records);
        let expect = if let Some(batch) = repeat {
            Verdict::Duplicate {
                base_offset: Offset(batch.offset),
                last_offset: Offset(batch.offset + i64::from(batch.records) - 1),
                timestamp: TimestampMs(1_000),
            }
        } else if sent.is_empty() {
            Verdict::Append
        } else if epoch_now < epoch {
            Verdict::Refuse(ErrorCode::InvalidProducerEpoch)
        } else if (epoch_now > epoch && first != 0) || (epoch_now == epoch && first != expected_first) {
            Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber)
        } else {
            Verdict::Append
        };
        let offset = partition.end;
        assert_eq!(partition.produce(&header(7, epoch_now, first, records)), expect);
        if expect == Verdict::Append {
            sent.push(Sent { epoch: epoch_now, first, records, offset });
        }
    }
    assert!(sent.len() > 5_000);
}

/// What the group coordinator writes into a transaction.
#[test]
fn batches_without_a_sequence_need_an_epoch_only() {
    let mut partition = Partition::default();
    let own = |epoch, records| transactional(header(7, epoch, -1, records));
    for _ in 0..2 {
        assert_eq!(partition.produce(&own(3, 1)), Verdict::Append);
        assert_eq!(partition.produce(&own(3, 4)), Verdict::Append);
    }
    assert_eq!(partition.states.open_txn(ProducerId(7)), Some(Offset(0)));
    assert_eq!(partition.produce(&own(2, 1)), Verdict::Refuse(ErrorCode::InvalidProducerEpoch));
    assert_eq!(partition.produce(&own(4, 1)), Verdict::Append);
    assert_eq!(partition.states.standing(ProducerId(7), ProducerEpoch(4)), Standing::InTransaction);
}
