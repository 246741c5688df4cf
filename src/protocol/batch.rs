//! A view of a v2 record batch's 61-byte header, in place.
//!
//! Layout (big endian): base offset i64 | batch length i32 (bytes after this field) | partition leader epoch i32 |
//! magic i8 = 2 | CRC-32C u32 of everything after it | attributes i16 | last offset delta i32 | base timestamp i64 |
//! max timestamp i64 | producer id i64 | producer epoch i16 | base sequence i32 | record count i32 | records.
//!
//! Attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 base timestamp is a delete horizon.
//! The broker writes base offset and leader epoch, which the CRC does not cover; whatever else it changes costs a
//! new CRC. The records are [`records`](super::records)'s.

use std::fmt;

use bytes::Bytes;

use super::crc::crc32c;
use crate::model::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Bytes of the header up to the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the batch length counts.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only record format this broker stores.
pub const MAGIC: i8 = 2;
/// No batch is longer: its length is an `i32`.
pub const BYTES_MAX: usize = LENGTH_PREFIX_BYTES + i32::MAX as usize;

const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// What is wrong with a batch or its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes end before the batch does.
    Truncated,
    /// The batch length is negative or too small for a header.
    Length,
    /// Not record format 2.
    Magic(i8),
    /// A record's lengths do not add up, or a varint does not end.
    RecordFraming,
    /// The record at this index has another offset delta than its index.
    OffsetDelta { index: i32 },
    /// More or fewer records than the header counts.
    RecordCount,
    /// The codec bits name none, or the compressed bytes are not that codec's.
    Compression,
    /// The records decompress to more than the caller allows.
    DecompressedTooLarge,
}

impl Error {
    /// What a producer is told. Kafka: a batch that cannot be framed is corrupt, a record that is wrong is invalid.
    #[must_use]
    pub fn error_code(self) -> ErrorCode {
        match self {
            Error::Truncated | Error::Length | Error::Compression => ErrorCode::CorruptMessage,
            Error::Magic(_) | Error::RecordFraming | Error::OffsetDelta { .. } | Error::RecordCount => {
                ErrorCode::InvalidRecord
            }
            Error::DecompressedTooLarge => ErrorCode::MessageTooLarge,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Truncated => f.write_str("batch is cut short"),
            Error::Length => f.write_str("batch length is too small for a header"),
            Error::Magic(magic) => write!(f, "record format is {magic}, only 2 is stored"),
            Error::RecordFraming => f.write_str("record lengths do not add up"),
            Error::OffsetDelta { index } => write!(f, "record {index} has the wrong offset delta"),
            Error::RecordCount => f.write_str("record count does not match the records"),
            Error::Compression => f.write_str("compressed records cannot be read"),
            Error::DecompressedTooLarge => f.write_str("records decompress to more than is allowed"),
        }
    }
}

impl std::error::Error for Error {}

/// How the records of a batch are compressed, as one block behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// As the attributes of a batch say it.
    fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }
}

/// Whose clock the timestamps of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    /// Every record has the batch's max timestamp, whatever its own delta says.
    LogAppendTime,
}

/// A decoded header. `Copy`, about the size of the bytes it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// The whole batch on disk and wire, length prefix included.
    pub total_bytes: usize,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// `N` bytes at a place the caller has checked to be there.
#[inline]
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a field inside the header")
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end before the batch does.
    ///
    /// Only what the framing needs is checked: 61 bytes are there and the length is at least a header's. A magic
    /// other than 2 is an error only where the bytes are too few for this layout; otherwise it is the caller's to
    /// refuse, and the fields after it mean nothing. Sign and size of all other fields are the sender's word.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, Error> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(other_magic(bytes).unwrap_or(Error::Truncated));
        };
        let length = i32::from_be_bytes(field(header, LENGTH_AT));
        let total_bytes = match usize::try_from(length) {
            Ok(length) if length >= HEADER_BYTES - LENGTH_PREFIX_BYTES => LENGTH_PREFIX_BYTES + length,
            _ => return Err(other_magic(bytes).unwrap_or(Error::Length)),
        };
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(header, 0))),
            total_bytes,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(header, EPOCH_AT))),
            magic: header[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: TimestampMs(i64::from_be_bytes(field(header, 27))),
            max_timestamp: TimestampMs(i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT))),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// `None`: the bits name a codec that does not exist.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        match self.attributes & CODEC_BITS {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Holds a transaction's end or another marker of the broker's own, no client data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id != ProducerId::NONE
    }

    /// When compaction may drop the batch's tombstones.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// The offset of the last record, or of the last before compaction. Stays in range on any header.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset after the batch. Stays in range on any header.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The sequence of the last record; sequences go on at 0 after 2^31-1. -1 if the batch has none.
    ///
    /// Example: base sequence 2147483646 and last offset delta 3 give 1.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == -1 {
            return -1;
        }
        let unwrapped = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(unwrapped.rem_euclid(1 << 31)).expect("a remainder of 2^31")
    }
}

/// Makes a batch of the broker's own part of a producer's transaction, as coordinators write them: without a sequence.
/// `is_control`: it is the transaction's end.
pub fn put_in_transaction(
    batch: &mut [u8],
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    is_control: bool,
) {
    let control = if is_control { CONTROL_BIT } else { 0 };
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let mut put = |at: usize, field: &[u8]| batch[at..at + field.len()].copy_from_slice(field);
    put(ATTRIBUTES_AT, &(attributes | TRANSACTIONAL_BIT | control).to_be_bytes());
    put(PRODUCER_ID_AT, &producer_id.0.to_be_bytes());
    put(PRODUCER_EPOCH_AT, &producer_epoch.0.to_be_bytes());
    put(BASE_SEQUENCE_AT, &(-1_i32).to_be_bytes());
    rewrite_crc(batch);
}

/// The error that says more than a length: both fields stand where older formats have them too.
fn other_magic(bytes: &[u8]) -> Option<Error> {
    let magic = *bytes.get(MAGIC_AT)? as i8;
    (magic != MAGIC).then_some(Error::Magic(magic))
}

/// Whether the CRC in the header is that of the bytes behind it. `batch` is one whole batch and nothing more.
#[must_use]
pub fn crc_matches(batch: &[u8]) -> bool {
    let Some((header, _)) = batch.split_at_checked(HEADER_BYTES) else {
        return false;
    };
    let expected = u32::from_be_bytes(header[CRC_AT..ATTRIBUTES_AT].try_into().expect("four bytes"));
    crc32c(&batch[ATTRIBUTES_AT..]) == expected
}

/// Writes what the leader decides into a batch that is about to be stored. The CRC covers neither.
///
/// `batch` holds at least a header, which the caller has parsed.
pub fn patch_base_offset_and_epoch(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_BYTES, "the header was parsed before");
    batch[..LENGTH_AT].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&epoch.0.to_be_bytes());
}

/// What the broker changes of a producer's batch under the CRC. The records and their deltas are not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The topic has the broker's time: timestamp type and max timestamp are new.
    LogAppendTime(TimestampMs),
    /// The producer's max timestamp is not that of its records: Kafka corrects it.
    MaxTimestamp(TimestampMs),
}

impl Rewrite {
    fn put(self, batch: &mut [u8]) {
        let timestamp = match self {
            Rewrite::MaxTimestamp(timestamp) => timestamp,
            Rewrite::LogAppendTime(now) => {
                put_attributes(batch, |attributes| attributes | LOG_APPEND_TIME_BIT);
                now
            }
        };
        put(batch, MAX_TIMESTAMP_AT, timestamp.0.to_be_bytes());
    }
}

/// A copy of `batch` with a changed header and a CRC to match.
///
/// `batch` is one whole batch, whose header the caller has parsed.
#[must_use]
pub fn rewritten(batch: &[u8], rewrite: Rewrite) -> Bytes {
    assert!(batch.len() >= HEADER_BYTES, "the header was parsed before");
    let mut changed = batch.to_vec();
    rewrite.put(&mut changed);
    rewrite_crc(&mut changed);
    Bytes::from(changed)
}

/// `batch` with the same records in another codec: `packed`. `None` if it would be longer than a batch can be.
///
/// `batch` is one whole batch, whose header the caller has parsed.
#[must_use]
pub fn repacked(batch: &[u8], codec: Codec, rewrite: Option<Rewrite>, packed: &[u8]) -> Option<Bytes> {
    let mut changed = with_body(batch, packed)?;
    put_attributes(&mut changed, |attributes| attributes & !CODEC_BITS | codec.bits());
    if let Some(rewrite) = rewrite {
        rewrite.put(&mut changed);
    }
    rewrite_crc(&mut changed);
    Some(Bytes::from(changed))
}

/// What compaction changes of a batch beside its records.
#[derive(Clone, Copy, Debug)]
pub struct Rewritten {
    /// The new base timestamp; `None`: it stays what it is.
    pub delete_horizon: Option<TimestampMs>,
    pub max_timestamp: TimestampMs,
    pub record_count: i32,
}

/// `batch` with other records, which are compressed as its header says. Offsets, sequence, epochs and attributes stay;
/// `None` if it would be longer than a batch can be.
///
/// `batch` is one whole batch, whose header the caller has parsed.
#[must_use]
pub fn with_records(batch: &[u8], change: &Rewritten, records: &[u8]) -> Option<Vec<u8>> {
    let mut changed = with_body(batch, records)?;
    if let Some(horizon) = change.delete_horizon {
        put_attributes(&mut changed, |attributes| attributes | DELETE_HORIZON_BIT);
        put(&mut changed, BASE_TIMESTAMP_AT, horizon.0.to_be_bytes());
    }
    put(&mut changed, MAX_TIMESTAMP_AT, change.max_timestamp.0.to_be_bytes());
    put(&mut changed, RECORD_COUNT_AT, change.record_count.to_be_bytes());
    rewrite_crc(&mut changed);
    Some(changed)
}

/// `batch` without its records: what is left of one that compaction has emptied, for its producer's sequence and for
/// its place. Neither compression nor delete horizon; the largest timestamp stays where there is a producer, who is
/// forgotten by it.
///
/// `batch` is one whole batch, whose header the caller has parsed.
#[must_use]
pub fn without_records(batch: &[u8]) -> Vec<u8> {
    let mut emptied = batch[..HEADER_BYTES].to_vec();
    put(&mut emptied, LENGTH_AT, ((HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32).to_be_bytes());
    put_attributes(&mut emptied, |attributes| attributes & !(CODEC_BITS | DELETE_HORIZON_BIT));
    put(&mut emptied, BASE_TIMESTAMP_AT, TimestampMs::NONE.0.to_be_bytes());
    put(&mut emptied, RECORD_COUNT_AT, 0_i32.to_be_bytes());
    if emptied[PRODUCER_ID_AT..PRODUCER_ID_AT + 8] == ProducerId::NONE.0.to_be_bytes() {
        put(&mut emptied, MAX_TIMESTAMP_AT, TimestampMs::NONE.0.to_be_bytes());
    }
    rewrite_crc(&mut emptied);
    emptied
}

/// The header of `batch` and other bytes behind it, with a length to match; the CRC is still the old one.
fn with_body(batch: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let mut changed = Vec::with_capacity(HEADER_BYTES + body.len());
    changed.extend_from_slice(&batch[..HEADER_BYTES]);
    changed.extend_from_slice(body);
    let length = i32::try_from(changed.len() - LENGTH_PREFIX_BYTES).ok()?;
    put(&mut changed, LENGTH_AT, length.to_be_bytes());
    Some(changed)
}

fn put_attributes(batch: &mut [u8], change: impl Fn(i16) -> i16) {
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    put(batch, ATTRIBUTES_AT, change(attributes).to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, field: [u8; N]) {
    batch[at..at + N].copy_from_slice(&field);
}

/// Makes the CRC that of the bytes behind it. `batch` is one whole batch.
pub fn rewrite_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// The batches that lie one behind the other in `bytes`. Ends after the first error; a last batch that is cut
/// short is `Truncated`.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Batches<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { bytes, position: 0 }
    }

    /// Bytes in front of the batch that comes next; after an error, in front of the one that is wrong.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return None;
        }
        let batch = BatchHeader::parse(rest).and_then(|header| {
            let batch = rest.get(..header.total_bytes).ok_or(Error::Truncated)?;
            Ok((header, batch))
        });
        match batch {
            Ok((header, _)) => self.position += header.total_bytes,
            Err(_) => self.bytes = &self.bytes[..self.position],
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::test_batch::{self, encode};

    #[test]
    fn fields_are_where_the_crate_puts_them() {
        let batch = encode(&test_batch::Spec { records: 5, base_offset: 100, ..Default::default() });
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.total_bytes, batch.len());
        assert_eq!(header.base_offset, Offset(100));
        assert_eq!(header.last_offset(), Offset(104));
        assert_eq!(header.next_offset(), Offset(105));
        assert_eq!(header.leader_epoch, LeaderEpoch(7));
        assert_eq!(header.magic, MAGIC);
        assert_eq!((header.record_count, header.last_offset_delta), (5, 4));
        assert_eq!(header.base_timestamp, TimestampMs(test_batch::BASE_TIMESTAMP));
        assert_eq!(header.max_timestamp, TimestampMs(test_batch::BASE_TIMESTAMP + 40));
        assert_eq!(header.producer_id, ProducerId(12));
        assert_eq!(header.producer_epoch, ProducerEpoch(3));
        assert_eq!((header.base_sequence, header.last_sequence()), (50, 54));
        assert_eq!(header.codec(), Some(Codec::None));
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert!(!header.is_transactional() && !header.is_control() && header.delete_horizon().is_none());
        assert!(crc_matches(&batch));
    }

    #[test]
    fn attribute_bits() {
        let mut header = BatchHeader::parse(&encode(&Default::default())).unwrap();
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        for bits in 0..8 {
            header.attributes = bits;
            assert_eq!(header.codec(), codecs.get(bits as usize).copied());
        }
        header.attributes = 1 << 3;
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        header.attributes = 1 << 4;
        assert!(header.is_transactional() && !header.is_control());
        header.attributes = 1 << 5;
        assert!(header.is_control() && !header.is_transactional());
        header.attributes = 1 << 6;
        assert_eq!(header.delete_horizon(), Some(header.base_timestamp));
    }

    #[test]
    fn sequences_wrap_and_hostile_numbers_do_not_overflow() {
        let mut header = BatchHeader::parse(&encode(&Default::default())).unwrap();
        let mut last = |base_sequence, last_offset_delta| {
            (header.base_sequence, header.last_offset_delta) = (base_sequence, last_offset_delta);
            header.last_sequence()
        };
        assert_eq!(last(0, 9), 9);
        assert_eq!(last(i32::MAX, 0), i32::MAX);
        assert_eq!(last(i32::MAX, 1), 0);
        assert_eq!(last(i32::MAX - 1, 3), 1);
        assert_eq!(last(i32::MAX, i32::MAX), i32::MAX - 1);
        assert_eq!(last(-1, 5), -1);
        last(i32::MIN, i32::MIN);
        header.base_offset = Offset(i64::MAX);
        header.last_offset_delta = i32::MAX;
        assert_eq!(header.next_offset(), Offset(i64::MAX));
        header.base_offset = Offset(i64::MIN);
        header.last_offset_delta = i32::MIN;
        assert_eq!(header.last_offset(), Offset(i64::MIN));
    }

    #[test]
    fn bad_lengths_are_told_apart() {
        let batch = encode(&Default::default());
        let with_length = |length: i32| {
            let mut batch = batch.to_vec();
            batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
            BatchHeader::parse(&batch)
        };
        for length in [-1, 0, 48, i32::MIN] {
            assert_eq!(with_length(length), Err(Error::Length), "{length}");
        }
        assert_eq!(with_length(49).unwrap().total_bytes, HEADER_BYTES);
        assert_eq!(with_length(i32::MAX).unwrap().total_bytes, BYTES_MAX);
        for cut in 0..HEADER_BYTES {
            assert_eq!(BatchHeader::parse(&batch[..cut]), Err(Error::Truncated));
        }
        // a message of format 1 is shorter than our header
        let mut old = batch[..34].to_vec();
        old[MAGIC_AT] = 1;
        assert_eq!(BatchHeader::parse(&old), Err(Error::Magic(1)));
    }

    #[test]
    fn batches_follow_each_other_until_one_is_cut() {
        let one = encode(&test_batch::Spec { base_offset: 0, records: 3, ..Default::default() });
        let two = encode(&test_batch::Spec { base_offset: 3, records: 2, ..Default::default() });
        let log = [&one[..], &two[..]].concat();
        let mut batches = Batches::new(&log);
        let (header, bytes) = batches.next().unwrap().unwrap();
        assert_eq!((header.base_offset, bytes), (Offset(0), &one[..]));
        assert_eq!(batches.position(), one.len());
        let (header, bytes) = batches.next().unwrap().unwrap();
        assert_eq!((header.base_offset, bytes), (Offset(3), &two[..]));
        assert!(batches.next().is_none());

        for cut in one.len() + 1..log.len() {
            let mut batches = Batches::new(&log[..cut]);
            assert!(batches.next().unwrap().is_ok());
            assert_eq!(batches.next(), Some(Err(Error::Truncated)));
            assert_eq!(batches.position(), one.len());
            assert!(batches.next().is_none(), "an error is the end");
        }
    }

    #[test]
    fn every_flipped_bit_behind_the_crc_shows() {
        let batch = encode(&Default::default());
        for at in CRC_AT..batch.len() {
            let mut bad = batch.to_vec();
            bad[at] ^= 0x10;
            assert!(!crc_matches(&bad), "byte {at}");
        }
        assert!(!crc_matches(&batch[..HEADER_BYTES - 1]));
        assert!(!crc_matches(&[]));
    }

    #[test]
    fn the_leaders_fields_leave_the_crc_alone() {
        let mut batch = encode(&Default::default()).to_vec();
        patch_base_offset_and_epoch(&mut batch, Offset(123_456), LeaderEpoch(9));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(123_456), LeaderEpoch(9)));
        assert!(crc_matches(&batch));
    }

    #[test]
    fn log_append_time_is_stamped_under_a_new_crc() {
        let batch = encode(&Default::default());
        let stamped = rewritten(&batch, Rewrite::LogAppendTime(TimestampMs(42)));
        let (before, after) = (BatchHeader::parse(&batch).unwrap(), BatchHeader::parse(&stamped).unwrap());
        assert_eq!(after.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(after.max_timestamp, TimestampMs(42));
        assert!(crc_matches(&stamped));
        let back = BatchHeader {
            attributes: before.attributes,
            crc: before.crc,
            max_timestamp: before.max_timestamp,
            ..after
        };
        assert_eq!(back, before);
        assert_eq!(stamped[HEADER_BYTES..], batch[HEADER_BYTES..]);

        let corrected = rewritten(&batch, Rewrite::MaxTimestamp(TimestampMs(77)));
        let header = BatchHeader::parse(&corrected).unwrap();
        assert_eq!(header.max_timestamp, TimestampMs(77));
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert!(crc_matches(&corrected));
    }
}
