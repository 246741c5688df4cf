//! The checks of a produced batch, in Kafka's order.

use crate::model::{ErrorCode, TimestampMs};
use crate::protocol::batch::BatchHeader;

/// message.timestamp.type
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// Whether every record must have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Optional,
    /// cleanup.policy has `compact`.
    Required,
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
    pub timestamp_type: TimestampType,
    /// message.timestamp.before.max.ms
    pub timestamp_before_max_ms: i64,
    /// message.timestamp.after.max.ms
    pub timestamp_after_max_ms: i64,
    pub keys: Keys,
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub header: BatchHeader,
    /// The header must be rewritten (and its CRC with it) before the batch is stored.
    pub rewrite: Option<Rewrite>,
}

/// New values inside the CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub attributes: i16,
    pub max_timestamp: TimestampMs,
}

/// Why a batch is refused. `Display` is the response's error_message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    Todo,
}

impl Rejection {
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        unimplemented!()
    }

    /// The record at fault, for the response's record_errors.
    #[must_use]
    pub fn record_index(&self) -> Option<i32> {
        unimplemented!()
    }
}

/// Checks the records field of one partition of a Produce request.
///
/// # Errors
/// The first check that fails.
pub fn check(records: &[u8], rules: &Rules, now: TimestampMs) -> Result<Checked, Rejection> {
    let _ = (records, rules, now);
    unimplemented!()
}
