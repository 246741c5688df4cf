//! The nouns every folder shares: newtypes with their arithmetic. Imports nothing of the project.
//!
//! An offset is not a position is not a count: each is its own type, so that mixing them up does not compile.
//! All of them are `Copy` (except names) and cost what the integer inside costs.

mod cleanup_policy;
mod durability;
mod error_code;
mod ids;
mod offset;
mod security_protocol;

pub use cleanup_policy::CleanupPolicy;
pub use durability::Durability;
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, DirectoryId, NodeId, PartitionEpoch, PartitionId, ProducerEpoch, ProducerId,
    ShardId, TopicId,
};
pub use offset::{LeaderEpoch, Offset, TimestampMs};
pub use security_protocol::SecurityProtocol;
