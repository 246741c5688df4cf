//! Where a producer's records come from: sizes, keys, headers and the bytes of the values.

use std::sync::Arc;

use super::random::Random;
use crate::options::{self, Payload};
use crate::units::ByteRange;
use crate::wire::batch::{self, Record};
use crate::wire::stamp::{self, Stamp};

/// Values are cut from so many bytes.
const POOL_BYTES: usize = 1 << 20;
/// A key begins with its number in so many hexadecimal digits.
const KEY_DIGITS: usize = 8;

/// What the records of all producers have in common.
#[derive(Clone)]
pub struct RecordPlan {
    value_bytes: ByteRange,
    keys: Option<u64>,
    key_bytes: usize,
    headers: Arc<[u8]>,
    pool: Arc<[u8]>,
    is_stamped: bool,
    run: u32,
}

impl RecordPlan {
    /// `run` tells the records of this run from others in the same topic.
    #[must_use]
    pub fn new(options: &options::Produce, run: u32) -> RecordPlan {
        let value = vec![b'h'; options.header_bytes as usize];
        let headers: Vec<_> = (0..options.headers).map(|i| (format!("header-{i}"), value.clone())).collect();
        RecordPlan {
            value_bytes: options.record_bytes,
            keys: options.keys,
            key_bytes: options.key_bytes as usize,
            headers: batch::encode_headers(&headers).into(),
            pool: pool(options.payload, options.record_bytes.max as usize).into(),
            is_stamped: options.record_bytes.min as usize >= stamp::BYTES,
            run,
        }
    }

    /// Values of one size and nothing else.
    #[must_use]
    pub fn of_values(value_bytes: u32, payload: Payload) -> RecordPlan {
        RecordPlan {
            value_bytes: ByteRange { min: value_bytes, max: value_bytes },
            keys: None,
            key_bytes: 0,
            headers: batch::encode_headers(&[]).into(),
            pool: pool(payload, value_bytes as usize).into(),
            is_stamped: false,
            run: 0,
        }
    }

    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }
}

/// One producer's own source.
pub struct RecordSource {
    plan: RecordPlan,
    random: Random,
    key: Vec<u8>,
    stamp: [u8; stamp::BYTES],
    value_bytes: usize,
}

impl RecordSource {
    #[must_use]
    pub fn new(plan: &RecordPlan, seed: u64) -> RecordSource {
        let key = vec![b'.'; plan.key_bytes];
        RecordSource {
            plan: plan.clone(),
            random: Random::new(seed),
            key,
            stamp: [0; stamp::BYTES],
            value_bytes: 0,
        }
    }

    /// Draws the next record's size and key; gives the key.
    pub fn draw(&mut self) -> Option<&[u8]> {
        let ByteRange { min, max } = self.plan.value_bytes;
        self.value_bytes = min as usize;
        if min < max {
            self.value_bytes += self.random.below(u64::from(max - min) + 1) as usize;
        }
        let mut number = self.random.below(self.plan.keys?);
        for digit in self.key[..KEY_DIGITS].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(number & 15) as usize];
            number >>= 4;
        }
        Some(&self.key)
    }

    /// The record that was drawn.
    pub fn record(&mut self, due_nanos: u64, timestamp_ms: i64, producer: u32, sequence: u32) -> Record<'_> {
        let plan = &self.plan;
        let stamp_bytes = if plan.is_stamped { stamp::BYTES } else { 0 };
        if plan.is_stamped {
            self.stamp = Stamp { due_nanos, run: plan.run, producer, sequence }.encode();
        }
        let rest = self.value_bytes - stamp_bytes;
        // at a multiple of 64, so that copying begins at a cache line
        let begin = self.random.below((POOL_BYTES / 64) as u64) as usize * 64;
        Record {
            key: plan.keys.map(|_| self.key.as_slice()),
            value: [&self.stamp[..stamp_bytes], &plan.pool[begin..begin + rest]],
            headers: &plan.headers,
            timestamp_ms,
            due_nanos,
        }
    }
}

/// The bytes that values are cut from: one value longer than the places they begin at.
fn pool(payload: Payload, value_bytes_max: usize) -> Vec<u8> {
    let length = POOL_BYTES + value_bytes_max;
    let mut random = Random::new(42);
    let mut pool = Vec::with_capacity(length + 16);
    match payload {
        Payload::Zeros => pool.resize(length, 0),
        Payload::Random => {
            while pool.len() < length {
                pool.extend_from_slice(&random.next().to_le_bytes());
            }
        }
        Payload::Text => {
            let words: Vec<Vec<u8>> = (0..4096)
                .map(|_| (0..3 + random.below(8)).map(|_| b'a' + random.below(26) as u8).collect())
                .collect();
            while pool.len() < length {
                // the smaller of two draws: some words are more frequent than others
                let word = random.below(4096).min(random.below(4096)) as usize;
                pool.extend_from_slice(&words[word]);
                pool.push(b' ');
            }
        }
    }
    pool.truncate(length);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        produce: options::Produce,
    }

    fn source(arguments: &str) -> RecordSource {
        let line = Line::parse_from(std::iter::once("test").chain(arguments.split_whitespace()));
        RecordSource::new(&RecordPlan::new(&line.produce, 9), 1)
    }

    #[test]
    fn sizes_and_keys_are_drawn_from_their_ranges() {
        let mut source = source("--record-bytes 20..40 --keys 10 --key-bytes 12");
        let (mut sizes, mut keys) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for sequence in 0..1000 {
            keys.insert(source.draw().expect("a key").to_vec());
            let record = source.record(77, 0, 3, sequence);
            let value = record.value.concat();
            sizes.insert(value.len());
            assert_eq!(Stamp::decode(&value), Some(Stamp { due_nanos: 77, run: 9, producer: 3, sequence }));
        }
        assert_eq!(sizes, (20..=40).collect());
        assert_eq!(keys.len(), 10);
        assert!(keys.iter().all(|key| key.len() == 12));
    }

    #[test]
    fn small_values_have_no_stamp_and_records_without_keys_none() {
        let mut source = source("--record-bytes 5 --headers 2");
        assert_eq!(source.draw(), None);
        let record = source.record(1, 2, 3, 4);
        assert_eq!((record.key, record.value.concat().len()), (None, 5));
    }

    #[test]
    fn text_shrinks_and_random_bytes_do_not() {
        let shrunk = |payload| zstd_bytes(&pool(payload, 0)) as f64 / POOL_BYTES as f64;
        assert!((0.2..0.6).contains(&shrunk(Payload::Text)), "{}", shrunk(Payload::Text));
        assert!(shrunk(Payload::Random) > 0.99);
    }

    fn zstd_bytes(data: &[u8]) -> usize {
        use kafka_protocol::compression::{Compressor, Zstd};
        let mut out = bytes::BytesMut::new();
        Zstd::compress(&mut out, |into: &mut bytes::BytesMut| {
            into.extend_from_slice(data);
            anyhow::Ok(())
        })
        .expect("zstd");
        out.len()
    }
}
