//! A view of a v2 record batch's 61-byte header, in place.
//!
//! Layout (big endian): base offset i64 | batch length i32 (bytes after this field) | partition leader epoch i32 |
//! magic i8 = 2 | CRC-32C u32 of everything after it | attributes i16 | last offset delta i32 | base timestamp i64 |
//! max timestamp i64 | producer id i64 | producer epoch i16 | base sequence i32 | record count i32 | records.

use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Bytes of the header up to the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the batch length counts.
pub const LENGTH_PREFIX_BYTES: usize = 12;

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
