//! The checks of a produced batch, in Kafka's order: the first that fails decides the error code a client sees.
//!
//! 1. the request: a batch is there, its length and format can be, the codec is allowed, nothing follows it;
//! 2. the log: base offset 0, not above max.message.bytes, CRC;
//! 3. the batch: count and offset range, no control batch, a sequence if there is a producer;
//! 4. the records: framing and offset deltas, timestamps, keys; of a compressed batch only the header's timestamps,
//!    it is trusted behind its CRC, unless the topic asks for more ([`Rules::looks_inside`]): then [`open`] decompresses
//!    it, and compresses it anew where the topic has a codec of its own;
//! 5. not above segment.bytes, nor after compressing above max.message.bytes.
//!
//! Runs on the connection's shard, before the batch goes to its partition. Stricter than Kafka in four places no
//! client library depends on: bytes after the batch, offset deltas with gaps (Kafka writes the batch anew), the log
//! append time bit from a producer (Kafka clears it where the topic has create time), and an unknown codec (Kafka
//! answers UNKNOWN_SERVER_ERROR).
//!
//! Source: Kafka's `ProduceRequest.validateRecords`, `ByteBufferLogInputStream`, `UnifiedLog.append`,
//! `LogValidator`.

mod inside;

use std::fmt;

use bytes::Bytes;

pub use self::inside::open;
use crate::model::{ErrorCode, Offset, TimestampMs};
pub use crate::protocol::batch::TimestampType;
use crate::protocol::batch::{
    self, BatchHeader, Codec, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, Rewrite, crc_matches, rewritten,
};
use crate::protocol::compression::Packing;
use crate::protocol::records::{Records, walk};

/// Bytes up to and with the format's number, which stands at the same place in every format.
const THROUGH_MAGIC_BYTES: usize = 17;
/// A batch length below this is of no format: the overhead of format 0.
const LENGTH_MIN: i32 = 14;
/// So many records at fault are named: an answer is not many times larger than its request.
pub const RECORD_ERRORS_MAX: usize = 100;
/// The first version of Produce that may carry zstd.
const ZSTD_VERSION: i16 = 7;

/// Whether every record must have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Optional,
    /// cleanup.policy has `compact`.
    Required,
}

/// How much of a compressed batch is looked at: corelane.validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Header,
    Records,
}

/// What the topic and the request's version allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Version of the Produce request.
    pub version: i16,
    /// max.message.bytes
    pub max_message_bytes: usize,
    /// segment.bytes
    pub segment_bytes: u64,
    /// message.timestamp.type
    pub timestamp_type: TimestampType,
    /// message.timestamp.before.max.ms
    pub timestamp_before_max_ms: i64,
    /// message.timestamp.after.max.ms
    pub timestamp_after_max_ms: i64,
    pub keys: Keys,
    pub depth: Depth,
    /// compression.type and its level; `None`: as the producer has it.
    pub packing: Option<Packing>,
}

impl Rules {
    /// How batches of this codec are compressed anew; `None`: they stay as they are, whatever the level.
    #[must_use]
    pub fn repacks(&self, codec: Codec) -> Option<Packing> {
        self.packing.filter(|packing| packing.codec() != codec)
    }

    /// Whether [`check`] is not all there is to do: [`open`] comes behind it.
    #[must_use]
    pub fn looks_inside(&self, header: &BatchHeader) -> bool {
        let Some(codec) = header.codec() else { return false };
        let is_asked = self.keys == Keys::Required || self.depth == Depth::Records;
        self.repacks(codec).is_some() || (codec != Codec::None && is_asked)
    }
}

/// A batch that may be appended, if the rules do not look inside: then it is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// As the producer sent it.
    pub header: BatchHeader,
    /// What must be changed under the CRC before it is stored; for most batches nothing.
    pub rewrite: Option<Rewrite>,
}

impl Checked {
    /// The batch as it is to be stored, and its header. `batch` is what was checked.
    #[must_use]
    pub fn stored(&self, batch: &Bytes) -> (Bytes, BatchHeader) {
        let Some(rewrite) = self.rewrite else { return (batch.clone(), self.header) };
        let stored = rewritten(batch, rewrite);
        let header = BatchHeader::parse(&stored).expect("a header that was parsed before");
        (stored, header)
    }
}

/// Why a batch is refused. `Display` is the response's error_message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nothing there, or a batch cut short.
    NoBatch,
    /// The batch length cannot be.
    Length(i32),
    /// No record format has this number.
    UnknownMagic(i8),
    /// An old record format.
    Magic(i8),
    ZstdTooEarly {
        version: i16,
    },
    /// Bytes after the batch.
    MoreThanOne,
    BaseOffset(Offset),
    /// Above max.message.bytes.
    TooLarge {
        bytes: usize,
        max: usize,
    },
    Crc {
        stored: u32,
    },
    /// The codec bits name none.
    UnknownCodec,
    /// Count and offset range do not agree, or are empty.
    Count {
        last_offset_delta: i32,
        record_count: i32,
    },
    Control,
    /// A producer id with a negative sequence.
    Sequence(i32),
    Records(batch::Error),
    Timestamp {
        /// Unknown in a compressed batch.
        record: Option<i32>,
        timestamp: TimestampMs,
        earliest: TimestampMs,
        latest: TimestampMs,
    },
    /// The producer set the log append time bit.
    LogAppendTime,
    /// The first [`RECORD_ERRORS_MAX`] of the records without one.
    NoKey {
        records: Vec<i32>,
    },
    /// The records cannot be compressed as the topic wants them.
    CannotCompress,
    /// Above segment.bytes.
    LargerThanSegment {
        bytes: usize,
        max: u64,
    },
}

impl Rejection {
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Rejection::Length(_) | Rejection::UnknownMagic(_) | Rejection::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            Rejection::NoBatch
            | Rejection::Magic(_)
            | Rejection::MoreThanOne
            | Rejection::BaseOffset(_)
            | Rejection::Count { .. }
            | Rejection::Control
            | Rejection::Sequence(_)
            | Rejection::NoKey { .. } => ErrorCode::InvalidRecord,
            Rejection::Records(error) => error.error_code(),
            Rejection::ZstdTooEarly { .. } | Rejection::UnknownCodec => ErrorCode::UnsupportedCompressionType,
            Rejection::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Rejection::Timestamp { .. } | Rejection::LogAppendTime => ErrorCode::InvalidTimestamp,
            Rejection::CannotCompress => ErrorCode::UnknownServerError,
            Rejection::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        }
    }

    /// The records at fault, for the response's record_errors.
    #[must_use]
    pub fn record_indexes(&self) -> &[i32] {
        match self {
            Rejection::Timestamp { record, .. } => record.as_slice(),
            Rejection::NoKey { records } => records,
            Rejection::Records(batch::Error::OffsetDelta { index }) => std::slice::from_ref(index),
            _ => &[],
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::NoBatch => f.write_str("a produce request must have one record batch per partition"),
            Rejection::Length(length) => write!(f, "batch length {length} cannot be"),
            Rejection::UnknownMagic(magic) => write!(f, "no record format has magic {magic}"),
            Rejection::Magic(magic) => {
                write!(f, "record batches must have magic 2, this one has {magic}")
            }
            Rejection::ZstdTooEarly { version } => {
                write!(f, "produce requests of version {version} may not use zstd compression")
            }
            Rejection::MoreThanOne => {
                f.write_str("a produce request must have exactly one record batch per partition")
            }
            Rejection::BaseOffset(offset) => {
                write!(f, "the base offset of the record batch should be 0, but it is {offset}")
            }
            Rejection::TooLarge { bytes, max } => {
                write!(f, "the record batch has {bytes} bytes, max.message.bytes is {max}")
            }
            Rejection::Crc { stored } => write!(f, "the record batch is corrupt (stored crc = {stored})"),
            Rejection::UnknownCodec => f.write_str("the record batch has an unknown compression type"),
            Rejection::Count { last_offset_delta, record_count } => write!(
                f,
                "the record batch counts {record_count} records and has last offset delta {last_offset_delta}"
            ),
            Rejection::Control => f.write_str("clients are not allowed to write control records"),
            Rejection::Sequence(sequence) => {
                write!(f, "invalid sequence number {sequence} in a record batch with a producer id")
            }
            Rejection::Records(error) => error.fmt(f),
            Rejection::Timestamp { timestamp, earliest, latest, .. } => write!(
                f,
                "timestamp {} is out of range, it should be within [{}, {}]",
                timestamp.0, earliest.0, latest.0
            ),
            Rejection::LogAppendTime => {
                f.write_str("producers should not set the timestamp type to log append time")
            }
            Rejection::NoKey { .. } => f.write_str("a compacted topic does not take records without a key"),
            Rejection::CannotCompress => {
                f.write_str("the record batch cannot be compressed as compression.type says")
            }
            Rejection::LargerThanSegment { bytes, max } => {
                write!(f, "the record batch has {bytes} bytes, segment.bytes is {max}")
            }
        }
    }
}

impl std::error::Error for Rejection {}

/// Checks the records field of one partition of a Produce request, which is one batch if this is `Ok`. `now` is the
/// wall clock.
///
/// # Errors
/// The first check that fails.
pub fn check(records: &[u8], rules: &Rules, now: TimestampMs) -> Result<Checked, Rejection> {
    let header = check_framing(records, rules.version)?;
    if header.base_offset != Offset::ZERO {
        return Err(Rejection::BaseOffset(header.base_offset));
    }
    if header.total_bytes > rules.max_message_bytes {
        return Err(Rejection::TooLarge { bytes: header.total_bytes, max: rules.max_message_bytes });
    }
    if !crc_matches(records) {
        return Err(Rejection::Crc { stored: header.crc });
    }
    let codec = header.codec().ok_or(Rejection::UnknownCodec)?;
    check_header(&header)?;
    let rewrite = match codec {
        Codec::None => check_records(&header, &records[HEADER_BYTES..], rules, now)?,
        _ if rules.looks_inside(&header) => None,
        _ => {
            check_time(&header, header.base_timestamp, None, rules, now)?;
            check_time(&header, header.max_timestamp, None, rules, now)?;
            match rules.timestamp_type {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(Rewrite::LogAppendTime(now)),
            }
        }
    };
    // what is compressed anew has its size then
    if rules.repacks(codec).is_none() {
        check_fits_segment(&header, rules)?;
    }
    Ok(Checked { header, rewrite })
}

fn check_fits_segment(header: &BatchHeader, rules: &Rules) -> Result<(), Rejection> {
    if header.total_bytes as u64 > rules.segment_bytes {
        return Err(Rejection::LargerThanSegment { bytes: header.total_bytes, max: rules.segment_bytes });
    }
    Ok(())
}

/// One whole batch of format 2 and nothing else.
fn check_framing(records: &[u8], version: i16) -> Result<BatchHeader, Rejection> {
    let Some(prefix) = records.first_chunk::<LENGTH_PREFIX_BYTES>() else {
        return Err(Rejection::NoBatch);
    };
    let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    if length < LENGTH_MIN {
        return Err(Rejection::Length(length));
    }
    let Some(start) = records.first_chunk::<THROUGH_MAGIC_BYTES>() else {
        return Err(Rejection::NoBatch);
    };
    let magic = start[THROUGH_MAGIC_BYTES - 1] as i8;
    if !(0..=MAGIC).contains(&magic) {
        return Err(Rejection::UnknownMagic(magic));
    }
    let total_bytes = LENGTH_PREFIX_BYTES + usize::try_from(length).expect("not negative");
    if records.len() < total_bytes {
        return Err(Rejection::NoBatch);
    }
    if magic != MAGIC {
        return Err(Rejection::Magic(magic));
    }
    let header = BatchHeader::parse(records).map_err(|_| Rejection::Length(length))?;
    if version < ZSTD_VERSION && header.codec() == Some(Codec::Zstd) {
        return Err(Rejection::ZstdTooEarly { version });
    }
    if records.len() > total_bytes {
        return Err(Rejection::MoreThanOne);
    }
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), Rejection> {
    let BatchHeader { last_offset_delta, record_count, .. } = *header;
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(Rejection::Count { last_offset_delta, record_count });
    }
    if header.is_control() {
        return Err(Rejection::Control);
    }
    // only -1 and below mean "none", and only -1 is ever sent
    if header.producer_id.0 >= 0 && header.base_sequence < 0 {
        return Err(Rejection::Sequence(header.base_sequence));
    }
    Ok(())
}

/// The records of an uncompressed batch, and what their timestamps make of the header.
fn check_records(
    header: &BatchHeader,
    records: &[u8],
    rules: &Rules,
    now: TimestampMs,
) -> Result<Option<Rewrite>, Rejection> {
    let walked = walk(header, records).map_err(Rejection::Records)?;
    for timestamp in [walked.min_timestamp, walked.max_timestamp] {
        check_time(header, timestamp, Some(records), rules, now)?;
    }
    if rules.keys == Keys::Required && !walked.all_have_keys {
        return Err(no_keys(header, records));
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        return Ok(Some(Rewrite::LogAppendTime(now)));
    }
    let true_max = walked.max_timestamp.max(TimestampMs::NONE);
    Ok((true_max != header.max_timestamp).then_some(Rewrite::MaxTimestamp(true_max)))
}

fn no_keys(header: &BatchHeader, records: &[u8]) -> Rejection {
    let without = Records::new(header, records)
        .map_while(Result::ok)
        .filter(|record| record.key.is_none())
        .map(|record| record.offset_delta);
    Rejection::NoKey { records: without.take(RECORD_ERRORS_MAX).collect() }
}

/// One timestamp of the batch against the topic's limits. `records` is where to look for the record that has it.
fn check_time(
    header: &BatchHeader,
    timestamp: TimestampMs,
    records: Option<&[u8]>,
    rules: &Rules,
    now: TimestampMs,
) -> Result<(), Rejection> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Rejection::LogAppendTime);
    }
    if rules.timestamp_type == TimestampType::LogAppendTime || timestamp == TimestampMs::NONE {
        return Ok(());
    }
    let earliest = TimestampMs(now.0.saturating_sub(rules.timestamp_before_max_ms));
    let latest = TimestampMs(now.0.saturating_add(rules.timestamp_after_max_ms));
    if (earliest..=latest).contains(&timestamp) {
        return Ok(());
    }
    let has_it = |record: Result<_, _>| {
        record.is_ok_and(|r: crate::protocol::records::Record| r.timestamp(header) == timestamp)
    };
    let record = records.and_then(|records| as_index(Records::new(header, records).position(has_it)));
    Err(Rejection::Timestamp { record, timestamp, earliest, latest })
}

fn as_index(position: Option<usize>) -> Option<i32> {
    position.and_then(|position| i32::try_from(position).ok())
}

#[cfg(test)]
mod tests;
