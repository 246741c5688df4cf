//! Cleanings of made-up logs beside a model, and the single rules.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::records::{Compression, Record as Wanted, TimestampType as Stamp};

use super::plan::{Candidate, GroupLimits, groups};
use super::*;
use crate::log::producer_state::{FirstSequence, LastBatch, ProducerStates, Verdict};
use crate::log::txn_index::AbortedTxn;
use crate::model::{ProducerId, TimestampMs};
use crate::protocol::batch::{Batches, Rewrite, rewrite_crc, rewritten};
use crate::protocol::test_batch::encode_records;

const SECRET: [u8; 16] = [3; 16];

/// A stream of numbers from a seed (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A record to be written; `None` as value is a tombstone.
type Entry = (Option<String>, Option<String>);

#[derive(Clone, Copy)]
struct Made {
    base: i64,
    timestamp: i64,
    /// Id, epoch, sequence.
    producer: (i64, i16, i32),
    transactional: bool,
    control: bool,
    compression: Compression,
}

impl Default for Made {
    fn default() -> Made {
        Made {
            base: 0,
            timestamp: 1_000,
            producer: (-1, -1, -1),
            transactional: false,
            control: false,
            compression: Compression::None,
        }
    }
}

fn make(made: &Made, entries: &[Entry]) -> Vec<u8> {
    let records: Vec<Wanted> = entries
        .iter()
        .enumerate()
        .map(|(index, (key, value))| {
            let mut record = Wanted {
                transactional: made.transactional,
                control: made.control,
                delete_horizon: false,
                partition_leader_epoch: 5,
                producer_id: made.producer.0,
                producer_epoch: made.producer.1,
                timestamp_type: Stamp::Creation,
                offset: made.base + index as i64,
                // the encoder wants them in step with the offsets; who has none gets none below
                sequence: made.producer.2.max(0) + index as i32,
                timestamp: made.timestamp + 3 * index as i64,
                key: key.clone().map(Bytes::from),
                value: value.clone().map(Bytes::from),
                headers: Default::default(),
            };
            if index % 2 == 0 {
                record.headers.insert("h".into(), Some(Bytes::from_static(b"header")));
            }
            record
        })
        .collect();
    without_sequence(encode_records(&records, made.compression).to_vec(), made.producer.2 < 0)
}

fn without_sequence(mut batch: Vec<u8>, has_none: bool) -> Vec<u8> {
    if has_none {
        batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
        rewrite_crc(&mut batch);
    }
    batch
}

fn entry(key: &str, value: &str) -> Entry {
    (Some(key.to_owned()), Some(value.to_owned()))
}

fn tombstone(key: &str) -> Entry {
    (Some(key.to_owned()), None)
}

fn marker(base: i64, producer: i64, kind: u8) -> Vec<u8> {
    let made =
        Made { base, producer: (producer, 0, -1), transactional: true, control: true, ..Made::default() };
    let mut records = make(&made, &[(Some("\0\0\0\0".to_owned()), Some("\0\0\0\0\0\0".to_owned()))]);
    // length | attributes | timestamp delta | offset delta | key length | key
    records[HEADER_BYTES + 8] = kind;
    rewrite_crc(&mut records);
    records
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// A key or a value as it is in a record.
type Part = Option<Vec<u8>>;

/// (offset, timestamp, key, value) of a batch's records.
fn contents(batch: &[u8]) -> Vec<(i64, i64, Part, Part)> {
    let header = header(batch);
    let Some(bytes) = decode(&header, batch) else { return Vec::new() };
    let part = |range: Option<core::ops::Range<usize>>| range.map(|range| bytes[range].to_vec());
    each_record(&header, &bytes)
        .map(|record| {
            let offset = offset_of(&header, &record);
            (offset.0, record.timestamp(&header).0, part(record.key), part(record.value))
        })
        .collect()
}

/// A log in memory: segments with their base, the last one is appended to.
#[derive(Clone, Default)]
struct Log {
    segments: Vec<(i64, Vec<Vec<u8>>)>,
    aborted: Vec<AbortedTxn>,
    states: ProducerStates,
    cleaned_to: i64,
    end: i64,
}

impl Log {
    fn append(&mut self, batch: Vec<u8>) {
        let header = header(&batch);
        assert_eq!(header.base_offset.0, self.end);
        self.end = header.next_offset().0;
        self.states.apply(&header, header.base_offset);
        if self.segments.is_empty() {
            self.roll();
        }
        self.segments.last_mut().unwrap().1.push(batch);
    }

    fn roll(&mut self) {
        let base = self.segments.last().map_or(0, |_| self.end);
        self.segments.push((base, Vec::new()));
    }

    fn batches(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.segments.iter().flat_map(|(_, batches)| batches)
    }

    /// Cleans all but the last segment as the shell does; how many batches stayed whole and how many did not.
    fn clean(
        &mut self,
        now: i64,
        delete_retention_ms: i64,
        map_bytes: usize,
        group_bytes: u64,
    ) -> (usize, usize) {
        let Some(closed) = self.segments.len().checked_sub(1) else { return (0, 0) };
        let limit = self.segments[closed].0;
        let map = KeyMap::new(map_bytes, u64::MAX, SECRET);
        let fed = self.segments.iter().rev().map(|(base, _)| *base).find(|base| *base <= self.cleaned_to);
        let transactions = Transactions::new(self.aborted.clone(), Offset(fed.unwrap_or(0)));
        let mut mapping = Mapping::new(map, transactions, Offset(self.cleaned_to));
        for (base, batches) in &self.segments[..closed] {
            let end = self.segments.iter().map(|(base, _)| *base).find(|other| other > base).unwrap();
            let bytes: Vec<u8> = batches.concat();
            let mut walk = Walk { next: Offset(*base), end: Offset(end), is_dense: false };
            let mut full = false;
            walk.batches(&bytes, |header, batch| {
                full = end > self.cleaned_to && mapping.batch(header, batch) == Mapped::Full;
                !full
            })
            .unwrap();
            if full {
                break;
            }
        }
        let (map, map_end) = mapping.finish();
        let segments: Vec<_> = self.segments.drain(..closed).filter(|(base, _)| *base < limit).collect();
        let candidates: Vec<Candidate> = segments
            .iter()
            .map(|(base, batches)| Candidate {
                base: Offset(*base),
                bytes: batches.iter().map(|batch| batch.len() as u64).sum(),
                latest: TimestampMs(0),
                first: TimestampMs(0),
            })
            .collect();
        let last_batches = self.states.last_batches(None, usize::MAX).into_iter().collect();
        let transactions = Transactions::new(self.aborted.clone(), Offset::ZERO);
        self.aborted.retain(|txn| txn.last_offset.0 >= limit);
        let mut filter =
            Filter::new((map, map_end), transactions, last_batches, TimestampMs(now), delete_retention_ms);
        let limits =
            GroupLimits { segment_bytes: group_bytes, index_bytes: 1 << 20, index_interval_bytes: 4_096 };
        let (mut at, mut cleaned, mut counts) = (0, Vec::new(), (0, 0));
        for count in groups(&candidates, Offset(limit), &limits) {
            let group = &segments[at..at + count];
            at += count;
            let end = segments.get(at).map_or(limit, |(base, _)| *base);
            filter.begin_segment(Offset(end));
            let mut left = Vec::new();
            for batch in group.iter().flat_map(|(_, batches)| batches) {
                let header = header(batch);
                match filter.batch(&header, batch) {
                    Kept::Whole | Kept::Unknown => {
                        counts.0 += 1;
                        left.push(batch.clone());
                    }
                    Kept::Changed(bytes) | Kept::Emptied(bytes) => {
                        counts.1 += 1;
                        left.push(bytes);
                    }
                    Kept::Nothing => counts.1 += 1,
                }
            }
            // the new segment's transaction index
            self.aborted.extend(filter.end_segment());
            let last = left.last().map(|batch| self::header(batch).next_offset().0);
            assert_eq!(last, Some(end), "a segment ends where the next begins");
            cleaned.push((group[0].0, left));
        }
        self.cleaned_to = map_end.0.max(self.cleaned_to);
        cleaned.append(&mut self.segments);
        self.segments = cleaned;
        counts
    }

    /// The last value of each key; a tombstone is none. What was aborted does not count.
    fn values(&self, aborted: &[(i64, i64, i64)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut values = BTreeMap::new();
        for batch in self.batches() {
            let header = header(batch);
            let is_aborted = header.is_transactional()
                && aborted.iter().any(|&(producer, first, last)| {
                    producer == header.producer_id.0 && (first..last).contains(&header.base_offset.0)
                });
            if header.is_control() || is_aborted {
                continue;
            }
            for (_, _, key, value) in contents(batch) {
                let Some(key) = key else { continue };
                match value {
                    Some(value) => values.insert(key, value),
                    None => values.remove(&key),
                };
            }
        }
        values
    }
}

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// One log of its own kind: appended to, cleaned again and again, and held against what was written.
fn walk(seed: u64) {
    let mut noise = Noise(seed);
    let mut log = Log::default();
    let mut written: BTreeMap<i64, (i64, Part, Part)> = BTreeMap::new();
    let mut ranges: BTreeMap<i64, BatchHeader> = BTreeMap::new();
    let mut unknown: Vec<Vec<u8>> = Vec::new();
    let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
    let mut last_headers: BTreeMap<i64, BatchHeader> = BTreeMap::new();
    // producer, first offset, marker
    let mut aborted: Vec<(i64, i64, i64)> = Vec::new();
    let mut open: BTreeMap<i64, i64> = BTreeMap::new();
    let mut dropped_transactions: BTreeMap<i64, bool> = BTreeMap::new();
    let keys = 1 + noise.below(30);
    let map_bytes = if noise.one_in(3) { 24 * (8 + noise.below(40)) as usize } else { 1 << 16 };
    let delete_retention_ms = [0, 5, 1_000_000][noise.below(3) as usize];
    for round in 0..4_i64 {
        for step in 0..noise.below(40) {
            let now = round * 1_000 + step as i64;
            let producer = noise.below(6) as i64;
            let transactional = producer == 5;
            let base = log.end;
            let entries: Vec<Entry> = (0..1 + noise.below(6))
                .map(|number| {
                    let key = (!noise.one_in(15)).then(|| format!("key {}", noise.below(keys)));
                    let value = (!noise.one_in(5))
                        .then(|| format!("{base}+{number}{}", "~".repeat(noise.below(60) as usize)));
                    (key, value)
                })
                .collect();
            let idempotent = producer >= 3;
            let sequence = sequences.entry(producer).or_default();
            let made = Made {
                base,
                timestamp: now,
                producer: if idempotent { (producer, 0, *sequence) } else { (-1, -1, -1) },
                transactional,
                compression: CODECS[noise.below(5) as usize],
                ..Made::default()
            };
            let mut batch = make(&made, &entries);
            if noise.one_in(10) {
                batch = rewritten(&batch, Rewrite::LogAppendTime(TimestampMs(now))).to_vec();
            }
            let is_unknown =
                !transactional && header(&batch).codec() != Some(Codec::None) && noise.one_in(12);
            if is_unknown {
                batch[HEADER_BYTES] ^= 0xff;
                let last = batch.len() - 1;
                batch[last] ^= 0xff;
                batch[HEADER_BYTES + 1..last].fill(0xee);
                rewrite_crc(&mut batch);
                assert!(decode(&header(&batch), &batch).is_none());
                unknown.push(batch.clone());
            }
            ranges.insert(base, header(&batch));
            for (offset, timestamp, key, value) in contents(&batch) {
                written.insert(offset, (timestamp, key, value));
            }
            if idempotent {
                *sequence += entries.len() as i32;
                last_headers.insert(producer, header(&batch));
            }
            log.append(batch);
            if transactional {
                open.entry(producer).or_insert(base);
            }
            if noise.one_in(6)
                && let Some(first) = open.remove(&5)
            {
                let at = log.end;
                let abort = noise.one_in(2);
                ranges.insert(at, header(&marker(at, 5, u8::from(!abort))));
                if abort {
                    aborted.push((5, first, at));
                    log.aborted.push(AbortedTxn {
                        producer_id: ProducerId(5),
                        first_offset: Offset(first),
                        last_offset: Offset(at),
                        last_stable_offset: Offset(at + 1),
                    });
                }
                dropped_transactions.insert(at, abort);
                log.append(marker(at, 5, u8::from(!abort)));
            }
            if noise.one_in(8) && open.is_empty() {
                log.roll();
            }
        }
        // the shell never cleans above an open transaction: here none reaches into a closed segment
        let before = log.values(&aborted);
        for time in [round * 1_000 + 500, round * 1_000 + 600] {
            log.clean(time, delete_retention_ms, map_bytes, 200 + noise.below(20_000));
            assert_eq!(log.values(&aborted), before, "seed {seed}: the last values changed");
            let mut next = 0;
            for batch in log.batches() {
                let found = header(batch);
                assert!(crc_matches(batch) && found.base_offset.0 >= next, "seed {seed}");
                next = found.next_offset().0;
                let was = ranges[&found.base_offset.0];
                assert_eq!(
                    (found.last_offset_delta, found.leader_epoch, found.producer_id, found.base_sequence),
                    (was.last_offset_delta, was.leader_epoch, was.producer_id, was.base_sequence),
                    "seed {seed}"
                );
                assert_eq!(found.timestamp_type(), was.timestamp_type());
                if found.is_control() {
                    continue;
                }
                let left = contents(batch);
                let latest = left.iter().map(|record| record.1).max();
                assert!(latest.is_none_or(|latest| latest == found.max_timestamp.0), "seed {seed}");
                for (offset, timestamp, key, value) in left {
                    assert_eq!(written[&offset], (timestamp, key, value), "seed {seed}: offset {offset}");
                }
            }
            for batch in &unknown {
                assert!(log.batches().any(|left| left == batch), "seed {seed}: what is unknown stays");
            }
            let mut states = ProducerStates::default();
            log.batches().for_each(|batch| states.apply(&header(batch), header(batch).base_offset));
            for (producer, last) in &last_headers {
                let again = states.check(last, FirstSequence::Any);
                assert!(
                    matches!(again, Verdict::Duplicate { .. }),
                    "seed {seed}: producer {producer}: {again:?}"
                );
            }
        }
    }
}

#[test]
fn cleanings_of_any_number_keep_the_last_values_and_sequences() {
    (0..400).for_each(walk);
}

#[test]
fn what_is_clean_stays_byte_for_byte() {
    for compression in CODECS {
        let mut log = Log::default();
        for round in 0..10 {
            for number in 0..3 {
                let made = Made { base: log.end, compression, ..Made::default() };
                log.append(make(
                    &made,
                    &[entry(&format!("a{number}"), "x"), entry(&format!("{round}"), "y")],
                ));
            }
            log.roll();
        }
        let (_, changed) = log.clean(5, 0, 1 << 20, 1 << 20);
        assert!(changed > 0);
        let once: Vec<_> = log.batches().cloned().collect();
        log.cleaned_to = 0;
        let (whole, changed) = log.clean(5, 0, 1 << 20, 1 << 20);
        assert!(log.batches().eq(once.iter()) && whole == once.len() && changed == 0, "{compression:?}");
    }
}

/// What is left of `batch` where the map knows `later` (key, offset), in a segment that goes on.
fn filtered(batch: &[u8], later: &[(&str, i64)], map_end: i64, now: i64, last: Option<LastBatch>) -> Kept {
    let mut map = KeyMap::new(1 << 10, u64::MAX, SECRET);
    for (key, offset) in later {
        assert!(map.put(key.as_bytes(), Offset(*offset)));
    }
    let header = header(batch);
    let last_batches = last.map(|last| (header.producer_id, last)).into_iter().collect();
    let mut filter =
        Filter::new((map, Offset(map_end)), Transactions::default(), last_batches, TimestampMs(now), 100);
    filter.begin_segment(Offset(1_000));
    filter.batch(&header, batch)
}

#[test]
fn a_tombstone_stays_until_its_time_is_over() {
    for compression in CODECS {
        let made = Made { base: 10, timestamp: 50, compression, ..Made::default() };
        let batch = make(&made, &[tombstone("a"), entry("b", "1"), tombstone("c")]);
        let Kept::Changed(cleaned) = filtered(&batch, &[("c", 99)], 100, 1_000, None) else {
            panic!("its horizon is set")
        };
        let found = header(&cleaned);
        assert_eq!(found.delete_horizon(), Some(TimestampMs(1_100)));
        assert_eq!(found.codec(), header(&batch).codec());
        assert_eq!(contents(&cleaned), contents(&batch)[..2], "{compression:?}");
        assert_eq!((found.max_timestamp, found.last_offset_delta), (TimestampMs(53), 2));
        // not yet
        assert_eq!(filtered(&cleaned, &[], 100, 1_099, None), Kept::Whole);
        let Kept::Changed(over) = filtered(&cleaned, &[], 100, 1_100, None) else { panic!("it is over") };
        assert_eq!(contents(&over), contents(&batch)[1..2]);
        assert_eq!(header(&over).delete_horizon(), Some(TimestampMs(1_100)));
        // what the map does not know yet has no time running
        assert_eq!(filtered(&batch, &[], 10, 1_000, None), Kept::Whole);
    }
}

#[test]
fn the_brokers_time_stays_the_records_time() {
    let batch = rewritten(
        &make(&Made::default(), &[tombstone("a"), entry("b", "1")]),
        Rewrite::LogAppendTime(TimestampMs(77)),
    );
    let Kept::Changed(cleaned) = filtered(&batch, &[], 100, 1_000, None) else {
        panic!("its horizon is set")
    };
    assert_eq!(contents(&cleaned), contents(&batch));
    assert_eq!(header(&cleaned).max_timestamp, TimestampMs(77));
}

#[test]
fn times_at_the_ends_of_their_range_do_not_overflow() {
    for timestamp in [i64::MIN + 10, -1, i64::MAX - 10] {
        let mut batch = make(&Made { timestamp: 0, ..Made::default() }, &[tombstone("a")]);
        batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
        rewrite_crc(&mut batch);
        let Kept::Changed(cleaned) = filtered(&batch, &[], 100, i64::MAX, None) else {
            panic!("{timestamp}")
        };
        assert_eq!(header(&cleaned).delete_horizon(), Some(TimestampMs(i64::MAX)));
        assert_eq!(contents(&cleaned).len(), 1, "{timestamp}");
    }
}

#[test]
fn the_last_batch_of_a_producer_stays_emptied() {
    let made = Made { base: 10, producer: (4, 2, 30), compression: Compression::Zstd, ..Made::default() };
    let batch = make(&made, &[entry("a", "1"), entry("a", "2")]);
    let later = [("a", 50)];
    assert_eq!(filtered(&batch, &later, 100, 1_000, None), Kept::Nothing);
    assert_eq!(filtered(&batch, &later, 100, 1_000, Some(LastBatch::Data(Offset(60)))), Kept::Nothing);
    let last = Some(LastBatch::Data(Offset(11)));
    let Kept::Emptied(emptied) = filtered(&batch, &later, 100, 1_000, last) else { panic!("it stays") };
    let (was, is) = (header(&batch), header(&emptied));
    assert_eq!((is.record_count, is.total_bytes, is.codec()), (0, HEADER_BYTES, Some(Codec::None)));
    assert_eq!(
        (is.base_offset, is.last_offset(), is.last_sequence()),
        (was.base_offset, was.last_offset(), 31)
    );
    assert_eq!((is.producer_epoch, is.max_timestamp), (was.producer_epoch, was.max_timestamp));
    assert!(crc_matches(&emptied));
    // again and again, until the producer goes on
    assert_eq!(filtered(&emptied, &later, 100, 2_000, last), Kept::Whole);
    assert_eq!(filtered(&emptied, &later, 100, 2_000, Some(LastBatch::Data(Offset(60)))), Kept::Nothing);
}

#[test]
fn a_record_without_a_key_goes_and_a_later_one_of_its_key_stays() {
    let batch = make(
        &Made { base: 10, ..Made::default() },
        &[(None, Some("x".into())), entry("a", "1"), entry("a", "2")],
    );
    let Kept::Changed(cleaned) = filtered(&batch, &[("a", 12)], 100, 0, None) else { panic!("two go") };
    assert_eq!(contents(&cleaned), contents(&batch)[2..]);
    // a map that was full has noted what lies behind its end
    let Kept::Changed(cleaned) = filtered(&batch, &[("a", 12)], 12, 0, None) else { panic!("two go") };
    assert_eq!(contents(&cleaned), contents(&batch)[2..]);
    assert_eq!(filtered(&batch, &[("a", 50)], 10, 0, None), Kept::Whole);
}

#[test]
fn behind_a_batch_that_cannot_be_decoded_tombstones_stay() {
    let mut bad = make(&Made { compression: Compression::Gzip, ..Made::default() }, &[entry("a", "1")]);
    bad[HEADER_BYTES] = 0;
    rewrite_crc(&mut bad);
    let horizon = Made { base: 5, ..Made::default() };
    let Kept::Changed(over) = filtered(&make(&horizon, &[tombstone("a")]), &[], 100, 0, None) else {
        panic!()
    };
    let map = || (KeyMap::new(100, 1, SECRET), Offset(100));
    let filter = || Filter::new(map(), Transactions::default(), BTreeMap::new(), TimestampMs(1_000), 0);
    let mut knowing = filter();
    assert_eq!(knowing.batch(&header(&over), &over), Kept::Nothing);
    let mut unknowing = filter();
    assert_eq!(unknowing.batch(&header(&bad), &bad), Kept::Unknown);
    assert_eq!(unknowing.batch(&header(&over), &over), Kept::Whole);
    // a codec that does not exist, and records that are not what they say
    for (at, byte) in [(22, 7), (60, 9)] {
        let mut bad = make(&Made::default(), &[entry("a", "1")]);
        bad[at] = byte;
        rewrite_crc(&mut bad);
        assert_eq!(filter().batch(&header(&bad), &bad), Kept::Unknown);
    }
}

#[test]
fn a_marker_stays_as_long_as_a_batch_of_its_transaction() {
    let data = |base| {
        make(&Made { base, producer: (9, 0, 0), transactional: true, ..Made::default() }, &[entry("a", "1")])
    };
    let aborted = AbortedTxn {
        producer_id: ProducerId(9),
        first_offset: Offset(0),
        last_offset: Offset(1),
        last_stable_offset: Offset(2),
    };
    let filter = |now, aborted: &[AbortedTxn]| {
        let map = (KeyMap::new(100, 1, SECRET), Offset(100));
        Filter::new(
            map,
            Transactions::new(aborted.to_vec(), Offset::ZERO),
            BTreeMap::new(),
            TimestampMs(now),
            10,
        )
    };
    // the data goes at once, the marker's time begins to run in the cleaning that no longer meets data of it
    let (batch, abort) = (data(0), marker(1, 9, 0));
    let mut first = filter(100, &[aborted]);
    assert_eq!(first.batch(&header(&batch), &batch), Kept::Nothing);
    assert_eq!(first.batch(&header(&abort), &abort), Kept::Whole);
    assert_eq!(first.end_segment(), [aborted]);
    let mut second = filter(200, &[aborted]);
    let Kept::Changed(running) = second.batch(&header(&abort), &abort) else { panic!("its time begins") };
    assert_eq!(header(&running).delete_horizon(), Some(TimestampMs(210)));
    assert_eq!(contents(&running), contents(&abort));
    assert!(second.end_segment().is_empty());
    assert_eq!(filter(209, &[aborted]).batch(&header(&running), &running), Kept::Whole);
    assert_eq!(filter(210, &[aborted]).batch(&header(&running), &running), Kept::Nothing);
    // a commit marker likewise; the data counts as anybody's
    let commit = marker(1, 9, 1);
    let mut first = filter(100, &[]);
    assert_eq!(first.batch(&header(&batch), &batch), Kept::Whole);
    assert_eq!(first.batch(&header(&commit), &commit), Kept::Whole);
    assert!(matches!(filter(100, &[]).batch(&header(&commit), &commit), Kept::Changed(_)));
    // the last thing known of a producer stays
    let mut last = filter(300, &[]);
    last.last_batches_for_test(ProducerId(9), LastBatch::Marker(crate::model::ProducerEpoch(0)));
    assert!(matches!(last.batch(&header(&running), &running), Kept::Emptied(_)));
}

#[test]
fn a_walk_stops_at_what_was_never_written_there() {
    let batches: Vec<Vec<u8>> = (0..3)
        .map(|n| make(&Made { base: n * 2, ..Made::default() }, &[entry("a", "1"), entry("b", "2")]))
        .collect();
    let bytes = batches.concat();
    let walked = |bytes: &[u8], next: i64, end: i64, is_dense: bool| {
        let mut seen = Vec::new();
        let mut walk = Walk { next: Offset(next), end: Offset(end), is_dense };
        let end = walk.batches(bytes, |header, _| {
            seen.push(header.base_offset.0);
            true
        });
        (seen, end)
    };
    let whole = |bytes| Ok(Walked { bytes, needs: None });
    assert_eq!(walked(&bytes, 0, 6, true), (vec![0, 2, 4], whole(bytes.len())));
    let one = batches[0].len();
    // gaps may be where a cleaning was, an order that is wrong may not
    assert_eq!(walked(&batches[2], 1, 6, false).0, [4]);
    assert!(walked(&batches[2], 1, 6, true).1.is_err());
    assert!(walked(&bytes, 1, 6, false).1.is_err());
    assert_eq!(walked(&bytes, 0, 5, false), (vec![0, 2], whole(2 * one)));
    assert!(walked(&batches[2], 0, 5, false).1.is_err());
    let cut = &bytes[..2 * one - 1];
    assert_eq!(walked(cut, 0, 6, true), (vec![0], Ok(Walked { bytes: one, needs: Some(one) })));
    assert_eq!(walked(&bytes[..one + 60], 0, 6, true).1, whole(one));
    for at in [16, 23, 57, 70, 8] {
        let mut bad = bytes.clone();
        bad[one + at] ^= 0x80;
        assert_eq!(walked(&bad, 0, 6, false), (vec![0], whole(one)), "{at}");
        assert!(walked(&bad[one..], 2, 6, false).1.is_err(), "{at}");
    }
    assert!(walked(&[0; 100], 0, 100, false).1.is_err());
    assert_eq!(Batches::new(&bytes).count(), 3);
}
