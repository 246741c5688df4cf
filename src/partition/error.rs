//! The one place where a storage condition becomes Kafka's error code.

use crate::model::ErrorCode;
use crate::storage;

pub(super) fn error_code(error: storage::Error) -> ErrorCode {
    match error {
        storage::Error::Offline | storage::Error::Full => ErrorCode::KafkaStorageError,
        storage::Error::OutOfRange => ErrorCode::OffsetOutOfRange,
        storage::Error::Corrupt => ErrorCode::CorruptMessage,
        storage::Error::Refused(code) => code,
        // the topic is being deleted: the client refreshes its metadata and learns that
        storage::Error::Closed => ErrorCode::UnknownTopicOrPartition,
    }
}
