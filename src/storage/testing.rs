//! Batches and settings for the tests of storage, here and in `tests/sim`.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::{
    CleanerConfig, CleanupPolicy, Compaction, Config, Durability, LiveConfig, Log, LogConfig, Reserve,
};
use crate::log::producer_state::EndTxn;
use crate::model::{LeaderEpoch, Offset, ProducerId};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES, patch_base_offset_and_epoch, rewrite_crc};

/// What a test varies of a batch. Values are noise made from `seed`.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub records: i32,
    pub value_bytes: usize,
    pub seed: u64,
    pub base_timestamp: i64,
    /// Record `i` has the base timestamp plus `i` times this.
    pub timestamp_step: i64,
    /// Producer id, epoch, base sequence.
    pub producer: Option<(i64, i16, i32)>,
    /// Records have one of so many keys, and every sixth no value; otherwise none has a key.
    pub keys: Option<u64>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            records: 3,
            value_bytes: 50,
            seed: 1,
            base_timestamp: 1_000,
            timestamp_step: 1,
            producer: None,
            keys: None,
        }
    }
}

/// As a producer sends it: base offset 0, no leader epoch, a right CRC.
pub fn batch(spec: &Spec) -> (Bytes, BatchHeader) {
    let mut bytes = vec![0; HEADER_BYTES];
    let mut noise = Noise(spec.seed);
    for index in 0..spec.records {
        let mut record = vec![0];
        varint(&mut record, i64::from(index) * spec.timestamp_step);
        varint(&mut record, i64::from(index));
        match spec.keys {
            None => varint(&mut record, -1),
            Some(count) => {
                varint(&mut record, 1);
                record.push(noise.below(count.min(256)) as u8);
            }
        }
        if spec.keys.is_some() && noise.one_in(6) {
            varint(&mut record, -1);
        } else {
            varint(&mut record, spec.value_bytes as i64);
            for _ in 0..spec.value_bytes.div_ceil(8) {
                record.extend_from_slice(&noise.next().to_le_bytes());
            }
            record.truncate(record.len() - (spec.value_bytes.next_multiple_of(8) - spec.value_bytes));
        }
        varint(&mut record, 0);
        varint(&mut bytes, record.len() as i64);
        bytes.extend_from_slice(&record);
    }
    let (id, epoch, sequence) = spec.producer.unwrap_or((-1, -1, -1));
    let last = spec.records - 1;
    let length = (bytes.len() - 12) as i32;
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &length.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(23, &last.to_be_bytes());
    put(27, &spec.base_timestamp.to_be_bytes());
    put(35, &(spec.base_timestamp + (i64::from(last) * spec.timestamp_step).max(0)).to_be_bytes());
    put(43, &id.to_be_bytes());
    put(51, &epoch.to_be_bytes());
    put(53, &sequence.to_be_bytes());
    put(57, &spec.records.to_be_bytes());
    rewrite_crc(&mut bytes);
    let header = BatchHeader::parse(&bytes).expect("it was just made");
    (Bytes::from(bytes), header)
}

/// The same batch as part of a transaction.
pub fn transactional((batch, _): (Bytes, BatchHeader)) -> (Bytes, BatchHeader) {
    let mut bytes = batch.to_vec();
    bytes[22] |= 0x10;
    rewrite_crc(&mut bytes);
    let header = BatchHeader::parse(&bytes).expect("it was a batch before");
    (Bytes::from(bytes), header)
}

/// The batch as it must be on disk.
pub fn stored(batch: &Bytes, base_offset: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    let mut stored = batch.to_vec();
    patch_base_offset_and_epoch(&mut stored, base_offset, epoch);
    stored
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// What the batches of a log say of its transactions, made from them one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Producer, first offset, marker; in the order of the markers.
    pub aborted: Vec<(i64, i64, i64)>,
    /// First offsets by producer.
    pub open: BTreeMap<i64, i64>,
}

impl Decided {
    /// A transactional batch of the producer.
    pub fn data(&mut self, producer: i64, base: Offset) {
        self.open.entry(producer).or_insert(base.0);
    }

    pub fn marker(&mut self, producer: i64, end: EndTxn, at: Offset) {
        let first = self.open.remove(&producer);
        if let Some(first) = first.filter(|_| end == EndTxn::Abort) {
            self.aborted.push((producer, first, at.0));
        }
    }

    pub fn first_undecided(&self) -> Option<Offset> {
        self.open.values().copied().min().map(Offset)
    }

    /// Those that a reader of `range` is told of.
    pub fn overlapping(&self, range: Range<Offset>) -> Vec<(ProducerId, Offset)> {
        let overlaps = |&&(_, first, last): &&(i64, i64, i64)| last >= range.start.0 && first < range.end.0;
        self.aborted.iter().filter(overlaps).map(|&(id, first, _)| (ProducerId(id), Offset(first))).collect()
    }
}

/// Has the closed segments' transaction indexes read again from disk.
pub fn forget_aborts(log: &Log) {
    let state = log.state();
    let inner = state.borrow();
    inner.segments.iter().filter(|segment| segment.closed.get()).for_each(|segment| segment.drop_aborts());
}

/// Where the segment begins that is appended to.
pub fn active_base(log: &Log) -> Offset {
    log.state().borrow().segments.last().expect("a log has a segment").base
}

/// Cleanings of the log's shard that have begun.
pub fn cleaner_runs(log: &Log) -> u64 {
    log.state().shard.counters.cleaner_runs.get()
}

/// A stream of numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

pub fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 30,
        segment_ms: 7 * 24 * 3_600 * 1_000,
        segment_jitter_ms: 0,
        segment_index_bytes: 10 << 20,
        index_interval_bytes: 4_096,
        preallocate: false,
        cleanup: CleanupPolicy { delete: true, compact: false },
        retention_ms: -1,
        retention_bytes: -1,
        compaction: Compaction::default(),
        durability: Durability::Flushed,
        flush_messages: i64::MAX,
        flush_ms: i64::MAX,
        reserve: Reserve::Kept,
    }
}

pub fn config() -> Config {
    Config {
        journal_bytes: 1 << 20,
        tail_cache_bytes: 16 << 20,
        read_ahead_bytes: 16 << 20,
        reserve_bytes: 0,
        checkpoint_interval_ms: 60_000,
        retention_check_interval_ms: 300_000,
        producer_state_bytes: 16 << 20,
        live: LiveConfig {
            producer_expiration_ms: i64::MAX,
            cleaner: CleanerConfig { backoff_ms: 15_000, map_bytes: 1 << 20, is_on: false },
            relocation_bytes_per_second: u64::MAX,
        },
    }
}
