//! Kafka's protocol as a load generator needs it.
//!
//! What is sent and received once goes through the `kafka-protocol` crate over a blocking connection ([`control`]).
//! What is sent and received per request under load is written and read here, in place, into buffers that are used
//! again: [`batch`], [`produce`], [`fetch`]. Their tests hold them against the crate.

pub mod assignment;
pub mod batch;
pub mod control;
mod cursor;
pub mod fetch;
pub mod partitioner;
pub mod produce;
pub mod stamp;
#[cfg(test)]
pub mod testing;

pub use cursor::{Cursor, Malformed};

/// Error codes that coordinators answer and that are no failure.
pub mod code {
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    /// With it a leader tells producers of before transaction.version 2 that it could not ask their coordinator.
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const CONCURRENT_TRANSACTIONS: i16 = 51;
    /// Of a partition, because of another one in the same request.
    pub const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
}

/// Kafka's name of an error code, for messages.
#[must_use]
pub fn error_name(code: i16) -> String {
    match kafka_protocol::ResponseError::try_from_code(code) {
        None => "NONE (0)".to_owned(),
        Some(kafka_protocol::ResponseError::Unknown(code)) => format!("error {code}"),
        Some(error) => format!("{error:?} ({code})"),
    }
}
