use kafka_protocol::records::{Compression, Record, RecordBatchDecoder};

use super::*;
use crate::protocol::batch::rewrite_crc;
use crate::protocol::test_batch::{self, BASE_TIMESTAMP, Spec};

const NOW: TimestampMs = TimestampMs(BASE_TIMESTAMP + 60_000);
const RULES: Rules = Rules {
    version: 11,
    max_message_bytes: 1_048_588,
    segment_bytes: 1 << 30,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    keys: Keys::Optional,
    depth: Depth::Header,
    packing: None,
};

fn batch() -> Vec<u8> {
    test_batch::encode(&Spec::default()).to_vec()
}

fn compressed(compression: Compression) -> Vec<u8> {
    test_batch::encode(&Spec { compression, value_bytes: 500, ..Spec::default() }).to_vec()
}

/// A batch whose records are changed before they are encoded.
fn of_records(change: impl Fn(&mut Vec<Record>)) -> Vec<u8> {
    let mut records = test_batch::records(&Spec::default());
    change(&mut records);
    test_batch::encode_records(&records, Compression::None).to_vec()
}

/// Changes bytes and makes the CRC right again.
fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    rewrite_crc(&mut batch);
    batch
}

fn accept(records: &[u8], rules: &Rules) -> Checked {
    check(records, rules, NOW).unwrap_or_else(|rejection| panic!("{rejection}"))
}

fn refuse(records: &[u8], rules: &Rules, expect: ErrorCode) -> Rejection {
    let rejection = check(records, rules, NOW).expect_err("a batch that is to be refused");
    assert_eq!(rejection.error_code(), expect, "{rejection}");
    assert!(!rejection.to_string().is_empty());
    rejection
}

#[test]
fn what_clients_send_is_taken_as_it_is() {
    let every =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in every {
        let batch = Bytes::from(compressed(compression));
        let checked = accept(&batch, &RULES);
        assert_eq!(checked.rewrite, None, "{compression:?}");
        let (stored, header) = checked.stored(&batch);
        assert_eq!(stored.as_ptr(), batch.as_ptr(), "no copy");
        assert_eq!(header, BatchHeader::parse(&batch).unwrap());
    }
}

#[test]
fn exactly_one_whole_batch_of_format_two() {
    let whole = batch();
    refuse(&[], &RULES, ErrorCode::InvalidRecord);
    for length in 0..whole.len() {
        refuse(&whole[..length], &RULES, ErrorCode::InvalidRecord);
    }
    assert_eq!(
        refuse(&[&whole[..], &whole].concat(), &RULES, ErrorCode::InvalidRecord),
        Rejection::MoreThanOne
    );
    refuse(&[&whole[..], &[0]].concat(), &RULES, ErrorCode::InvalidRecord);
    for (length, expect) in [
        (i32::MIN, ErrorCode::CorruptMessage),
        (-1, ErrorCode::CorruptMessage),
        (13, ErrorCode::CorruptMessage),
        // enough for format 0, not for ours
        (14, ErrorCode::CorruptMessage),
        (48, ErrorCode::CorruptMessage),
        (i32::MAX, ErrorCode::InvalidRecord),
    ] {
        refuse(&with(whole.clone(), 8, &length.to_be_bytes()), &RULES, expect);
    }
    for (magic, expect) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
        (0xff, ErrorCode::CorruptMessage),
    ] {
        refuse(&with(whole.clone(), 16, &[magic]), &RULES, expect);
    }
    // a message of format 1 as an old client sends it: 12 + 22 bytes
    let mut old = vec![0; 34];
    old[11] = 22;
    old[16] = 1;
    assert_eq!(refuse(&old, &RULES, ErrorCode::InvalidRecord), Rejection::Magic(1));
}

#[test]
fn codecs_by_version() {
    let zstd = compressed(Compression::Zstd);
    refuse(&zstd, &Rules { version: 6, ..RULES }, ErrorCode::UnsupportedCompressionType);
    accept(&zstd, &Rules { version: 7, ..RULES });
    accept(&compressed(Compression::Lz4), &Rules { version: 3, ..RULES });
    for codec in 5..8 {
        refuse(&with(batch(), 22, &[codec]), &RULES, ErrorCode::UnsupportedCompressionType);
    }
}

#[test]
fn base_offset_size_and_checksum() {
    for offset in [1i64, -1, i64::MIN, i64::MAX] {
        refuse(&with(batch(), 0, &offset.to_be_bytes()), &RULES, ErrorCode::InvalidRecord);
    }
    let bytes = batch().len();
    accept(&batch(), &Rules { max_message_bytes: bytes, segment_bytes: bytes as u64, ..RULES });
    refuse(&batch(), &Rules { max_message_bytes: bytes - 1, ..RULES }, ErrorCode::MessageTooLarge);
    refuse(&batch(), &Rules { segment_bytes: bytes as u64 - 1, ..RULES }, ErrorCode::RecordListTooLarge);
    for at in 17..bytes {
        let mut rotten = batch();
        rotten[at] ^= 0x40;
        refuse(&rotten, &RULES, ErrorCode::CorruptMessage);
    }
}

#[test]
fn the_first_check_that_fails_decides() {
    let mut rotten = batch();
    *rotten.last_mut().unwrap() ^= 1;
    let small = Rules { max_message_bytes: 10, ..RULES };
    refuse(&rotten, &small, ErrorCode::MessageTooLarge);
    let elsewhere = with(rotten.clone(), 0, &5i64.to_be_bytes());
    refuse(&elsewhere, &small, ErrorCode::InvalidRecord);
    refuse(&[&rotten[..], &rotten].concat(), &small, ErrorCode::InvalidRecord);
    // a wrong checksum over a wrong count
    rotten[60] = 9;
    refuse(&rotten, &RULES, ErrorCode::CorruptMessage);
    // wrong records in a batch too large for a segment
    let late = of_records(|records| records[1].timestamp = NOW.0 + 3_600_001);
    refuse(&late, &Rules { segment_bytes: 10, ..RULES }, ErrorCode::InvalidTimestamp);
}

#[test]
fn counts() {
    for (delta, count) in
        [(2, 4), (2, 2), (3, 3), (0, 3), (-1, 0), (-1, 3), (2, -3), (i32::MAX, i32::MIN), (i32::MAX, 3)]
    {
        let changed = with(with(batch(), 23, &i32::to_be_bytes(delta)), 57, &i32::to_be_bytes(count));
        let rejection = refuse(&changed, &RULES, ErrorCode::InvalidRecord);
        assert!(matches!(rejection, Rejection::Count { .. }), "{delta} {count}: {rejection:?}");
    }
    // header in agreement with itself, not with the records
    for count in [1, 2, 4, i32::MAX] {
        let changed = with(with(batch(), 23, &(count - 1).to_be_bytes()), 57, &count.to_be_bytes());
        let rejection = refuse(&changed, &RULES, ErrorCode::InvalidRecord);
        assert!(matches!(rejection, Rejection::Records(_)), "{count}: {rejection:?}");
    }
}

#[test]
fn control_batches_and_sequences() {
    assert_eq!(refuse(&with(batch(), 22, &[1 << 5]), &RULES, ErrorCode::InvalidRecord), Rejection::Control);
    accept(&with(batch(), 22, &[1 << 4]), &RULES);
    let sequence = |sequence: i32| with(batch(), 53, &sequence.to_be_bytes());
    assert_eq!(refuse(&sequence(-1), &RULES, ErrorCode::InvalidRecord), Rejection::Sequence(-1));
    accept(&sequence(i32::MAX), &RULES);
    accept(&with(sequence(-1), 43, &(-1i64).to_be_bytes()), &RULES);
}

#[test]
fn timestamps_within_the_limits() {
    let at = |index: usize, timestamp: i64| of_records(|records| records[index].timestamp = timestamp);
    accept(&at(2, NOW.0 + 3_600_000), &RULES);
    let rejection = refuse(&at(2, NOW.0 + 3_600_001), &RULES, ErrorCode::InvalidTimestamp);
    assert_eq!(rejection.record_indexes(), [2]);
    accept(&at(0, 0), &RULES);
    let bounded = Rules { timestamp_before_max_ms: 100_000, ..RULES };
    accept(&at(1, NOW.0 - 100_000), &bounded);
    let rejection = refuse(&at(1, NOW.0 - 100_001), &bounded, ErrorCode::InvalidTimestamp);
    assert_eq!(rejection.record_indexes(), [1]);
    // no timestamp is always allowed
    accept(&of_records(|records| records.iter_mut().for_each(|record| record.timestamp = -1)), &bounded);
    // of a compressed batch the header is what is known
    let late = with(compressed(Compression::Zstd), 35, &(NOW.0 + 3_600_001).to_be_bytes());
    let rejection = refuse(&late, &RULES, ErrorCode::InvalidTimestamp);
    assert_eq!(rejection.record_indexes(), [0; 0]);
    let early = with(compressed(Compression::Zstd), 27, &(NOW.0 - 100_001).to_be_bytes());
    refuse(&early, &bounded, ErrorCode::InvalidTimestamp);
    // no overflow
    for timestamp in [i64::MIN, i64::MAX] {
        let far = with(compressed(Compression::Gzip), 35, &timestamp.to_be_bytes());
        refuse(&far, &bounded, ErrorCode::InvalidTimestamp);
    }
    // the broker's time makes the producer's irrelevant
    let stamped = Rules { timestamp_type: TimestampType::LogAppendTime, ..bounded };
    accept(&at(2, NOW.0 + 3_600_001), &stamped);
}

#[test]
fn the_broker_may_have_to_write_the_header_anew() {
    let stamped = Rules { timestamp_type: TimestampType::LogAppendTime, ..RULES };
    for compression in [Compression::None, Compression::Zstd] {
        let batch = Bytes::from(compressed(compression));
        let checked = accept(&batch, &stamped);
        let (stored, header) = checked.stored(&batch);
        assert!(crc_matches(&stored));
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.max_timestamp, NOW);
        assert_eq!(stored[HEADER_BYTES..], batch[HEADER_BYTES..]);
    }
    // a max timestamp that is not that of the records
    let wrong = Bytes::from(with(batch(), 35, &(BASE_TIMESTAMP + 21).to_be_bytes()));
    let (stored, header) = accept(&wrong, &RULES).stored(&wrong);
    assert!(crc_matches(&stored));
    assert_eq!(header, BatchHeader::parse(&batch()).unwrap());
    assert_eq!(stored, batch());
    // the bit is the broker's to set
    for rules in [RULES, stamped] {
        refuse(&with(batch(), 22, &[1 << 3]), &rules, ErrorCode::InvalidTimestamp);
        refuse(&with(compressed(Compression::Lz4), 22, &[1 << 3 | 3]), &rules, ErrorCode::InvalidTimestamp);
    }
}

#[test]
fn keys_on_compacted_topics() {
    let required = Rules { keys: Keys::Required, ..RULES };
    accept(&batch(), &required);
    let keyless = of_records(|records| records[1].key = None);
    accept(&keyless, &RULES);
    let rejection = refuse(&keyless, &required, ErrorCode::InvalidRecord);
    assert_eq!(rejection, Rejection::NoKey { records: vec![1] });
    assert_eq!(rejection.record_indexes(), [1]);
    // an empty key is a key
    accept(&of_records(|records| records[1].key = Some(Bytes::new())), &required);
    // a bad timestamp is told first
    let both = of_records(|records| {
        records[0].key = None;
        records[2].timestamp = NOW.0 + 3_600_001;
    });
    refuse(&both, &required, ErrorCode::InvalidTimestamp);
}

#[test]
fn keys_in_compressed_batches() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let look = |change: &dyn Fn(&mut Vec<Record>), limit: usize| {
            let mut records = test_batch::records(&Spec { records: 300, ..Spec::default() });
            change(&mut records);
            let batch = test_batch::encode_records(&records, compression);
            let rules = Rules { keys: Keys::Required, ..RULES };
            let checked = accept(&batch, &rules);
            assert!(rules.looks_inside(&checked.header));
            open(&checked, &batch, &rules, NOW, limit).map(|(stored, _)| assert_eq!(stored, batch))
        };
        assert_eq!(look(&|_| {}, 1 << 20), Ok(()));
        let two = |records: &mut Vec<Record>| (records[7].key, records[299].key) = (None, None);
        let rejection = look(&two, 1 << 20).expect_err("two have no key");
        assert_eq!(rejection, Rejection::NoKey { records: vec![7, 299] });
        assert_eq!(rejection.error_code(), ErrorCode::InvalidRecord);
        let all = |records: &mut Vec<Record>| records.iter_mut().for_each(|record| record.key = None);
        let rejection = look(&all, 1 << 20).expect_err("none has a key");
        assert_eq!(rejection.record_indexes().len(), RECORD_ERRORS_MAX);
        let rejection = look(&|_| {}, 1_000).expect_err("more than the limit");
        assert_eq!(rejection.error_code(), ErrorCode::MessageTooLarge);
    }
    let garbled = Bytes::from(with(compressed(Compression::Zstd), HEADER_BYTES, &[0xff; 20]));
    let checked = accept(&garbled, &RULES);
    let rejection = open(&checked, &garbled, &RULES, NOW, 1 << 20).expect_err("it cannot be read");
    assert_eq!(rejection.error_code(), ErrorCode::CorruptMessage);
}

const EVERY: [(Packing, Compression); 5] = [
    (Packing::None, Compression::None),
    (Packing::Gzip { level: 9 }, Compression::Gzip),
    (Packing::Snappy, Compression::Snappy),
    (Packing::Lz4 { level: 12 }, Compression::Lz4),
    (Packing::Zstd { level: -1 }, Compression::Zstd),
];

fn read(batch: &Bytes) -> Vec<Record> {
    let sets = RecordBatchDecoder::decode_all(&mut batch.clone()).expect("others can read it");
    sets.into_iter().flat_map(|set| set.records).collect()
}

/// The crate's decoder says what is in the batch before and after.
#[test]
fn the_topic_s_codec_takes_the_place_of_the_producer_s() {
    for (packing, to) in EVERY {
        for (_, from) in EVERY {
            let rules = Rules { packing: Some(packing), ..RULES };
            let batch = Bytes::from(compressed(from));
            let checked = accept(&batch, &rules);
            assert_eq!(rules.looks_inside(&checked.header), from != to, "{from:?} {to:?}");
            let (stored, header) = open(&checked, &batch, &rules, NOW, 1 << 20).expect("it is stored");
            if from == to {
                assert_eq!(stored, batch, "the level is for what is compressed anew");
                continue;
            }
            assert!(crc_matches(&stored) && header == BatchHeader::parse(&stored).unwrap());
            assert_eq!(header.codec(), Some(packing.codec()));
            assert_eq!(read(&stored), read(&batch), "{from:?} {to:?}");
            let same = BatchHeader {
                total_bytes: header.total_bytes,
                crc: header.crc,
                attributes: header.attributes,
                ..checked.header
            };
            assert_eq!(header, same, "producer, sequence, counts and times stay");
        }
    }
}

#[test]
fn what_is_compressed_anew_is_checked_and_stamped_like_the_rest() {
    for (packing, _) in EVERY {
        let rules = Rules { packing: Some(packing), ..RULES };
        for (_, from) in EVERY.into_iter().filter(|(other, _)| other.codec() != packing.codec()) {
            let stored = |batch: &Bytes, rules: &Rules| {
                check(batch, rules, NOW).and_then(|checked| open(&checked, batch, rules, NOW, 1 << 20))
            };
            let of = |change: &dyn Fn(&mut Vec<Record>)| {
                let mut records = test_batch::records(&Spec::default());
                change(&mut records);
                test_batch::encode_records(&records, from)
            };
            // the broker's time, in the header alone
            let stamped = Rules { timestamp_type: TimestampType::LogAppendTime, ..rules };
            let (batch, header) = stored(&of(&|_| {}), &stamped).expect("it is stored");
            assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, NOW));
            assert!(crc_matches(&batch));
            assert_eq!(read(&batch).len(), 3);
            // a transactional batch stays one
            let transactional = Bytes::from(with(of(&|_| {}).to_vec(), 22, &[of(&|_| {})[22] | 1 << 4]));
            assert!(stored(&transactional, &rules).expect("it is stored").1.is_transactional());
            // a wrong max timestamp is put right
            let wrong = Bytes::from(with(of(&|_| {}).to_vec(), 35, &NOW.0.to_be_bytes()));
            assert_eq!(stored(&wrong, &rules).expect("it is stored").1.max_timestamp.0, BASE_TIMESTAMP + 20);
            // every record's time counts, not the header's
            let late = of(&|records| records[1].timestamp = NOW.0 + 3_600_001);
            let rejection = stored(&late, &rules).expect_err("it is too late");
            assert_eq!(rejection.error_code(), ErrorCode::InvalidTimestamp, "{from:?}");
            assert_eq!(rejection.record_indexes(), [1]);
            let keyless = of(&|records| records[2].key = None);
            let rejection = stored(&keyless, &Rules { keys: Keys::Required, ..rules }).expect_err("no key");
            assert_eq!(rejection, Rejection::NoKey { records: vec![2] });
        }
    }
}

#[test]
fn what_has_become_too_large_is_refused() {
    let packed = Bytes::from(compressed(Compression::Zstd));
    let plain = compressed(Compression::None).len();
    let to = |packing: Packing, max: usize, segment: usize| {
        let rules =
            Rules { packing: Some(packing), max_message_bytes: max, segment_bytes: segment as u64, ..RULES };
        open(&accept(&packed, &rules), &packed, &rules, NOW, 1 << 20).map(|(stored, _)| stored.len())
    };
    assert!(packed.len() < plain / 2);
    assert_eq!(to(Packing::None, plain, plain), Ok(plain));
    let code = |result: Result<usize, Rejection>| result.expect_err("too large").error_code();
    assert_eq!(code(to(Packing::None, plain - 1, plain)), ErrorCode::MessageTooLarge);
    assert_eq!(code(to(Packing::None, plain, plain - 1)), ErrorCode::RecordListTooLarge);
    let gzip = to(Packing::Gzip { level: -1 }, plain, plain).expect("it is stored");
    assert!(gzip > packed.len(), "gzip needs more here");
    assert_eq!(code(to(Packing::Gzip { level: -1 }, gzip - 1, plain)), ErrorCode::MessageTooLarge);
    // an uncompressed batch larger than a segment fits when it is compressed
    let batch = Bytes::from(compressed(Compression::None));
    let rules = Rules { segment_bytes: plain as u64 - 1, packing: Some(Packing::Snappy), ..RULES };
    open(&accept(&batch, &rules), &batch, &rules, NOW, 1 << 20).expect("it fits");
}

#[test]
fn full_validation_reads_every_record() {
    let full = Rules { depth: Depth::Records, ..RULES };
    for (_, from) in EVERY.into_iter().skip(1) {
        let mut records = test_batch::records(&Spec::default());
        records[1].timestamp = NOW.0 + 3_600_001;
        // a header that hides it
        let hides = test_batch::encode_records(&records, from).to_vec();
        let hides = Bytes::from(with(hides, 35, &BASE_TIMESTAMP.to_be_bytes()));
        assert!(!RULES.looks_inside(&accept(&hides, &RULES).header), "trusted otherwise");
        let checked = accept(&hides, &full);
        assert!(full.looks_inside(&checked.header));
        let rejection = open(&checked, &hides, &full, NOW, 1 << 20).expect_err("one is too late");
        assert_eq!(rejection.record_indexes(), [1], "{from:?}");
        let gap = with(with(compressed(from), 23, &3i32.to_be_bytes()), 57, &4i32.to_be_bytes());
        let gap = Bytes::from(gap);
        let rejection = open(&accept(&gap, &full), &gap, &full, NOW, 1 << 20).expect_err("three are there");
        assert_eq!(rejection.error_code(), ErrorCode::InvalidRecord);
    }
    assert!(!full.looks_inside(&accept(&batch(), &full).header), "it is read already");
}

#[test]
fn record_framing() {
    let mut grown = batch();
    grown.push(0);
    let length = (grown.len() - LENGTH_PREFIX_BYTES) as i32;
    refuse(&with(grown, 8, &length.to_be_bytes()), &RULES, ErrorCode::InvalidRecord);
    // the first record's length
    refuse(&with(batch(), HEADER_BYTES, &[1]), &RULES, ErrorCode::InvalidRecord);
    let gap = of_records(|records| {
        records.remove(1);
        records[1].sequence = records[0].sequence + 2;
    });
    let gap = with(gap, 23, &1i32.to_be_bytes());
    let rejection = refuse(&gap, &RULES, ErrorCode::InvalidRecord);
    assert_eq!(rejection.record_indexes(), [1]);
}

/// Whatever the bytes, an answer and no panic; what is accepted is one batch with a right checksum.
#[test]
fn any_bytes_get_an_answer() {
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let seeds = [batch(), compressed(Compression::Lz4)];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = seeds[round % 2].clone();
        for _ in 0..next(3) {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        if next(10) == 0 {
            let length = next(bytes.len() + 1);
            bytes.truncate(length);
        }
        if next(3) > 0 && bytes.len() > HEADER_BYTES {
            rewrite_crc(&mut bytes);
        }
        match check(&bytes, &RULES, NOW) {
            Ok(checked) => {
                accepted += 1;
                assert_eq!(checked.header.total_bytes, bytes.len());
                assert!(crc_matches(&bytes));
                let (stored, header) = checked.stored(&Bytes::from(bytes));
                assert!(crc_matches(&stored) && header.total_bytes == stored.len());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} {refused}");
}
