//! A shard's partitions: append, read, waiters; the router, and the messages between shards; the coordinators that keep
//! their state in partitions.
//!
//! [`Shard`] is what the handlers talk to. Every call may be for partitions of any shard: it is split by owner,
//! one message out and one back per owning shard, none if all are local. Where a partition lives is in the image
//! (its recorded shard), the same on every shard.
//!
//! Invariants:
//! * A batch's place is fixed by a plain function; nothing awaits between that and queuing it for the disk.
//! * Appends are answered and fetches woken by one number per partition, the durable end.
//! * Whoever waits is data in the partition (an end offset, a parked fetch); nothing polls.
//! * A transaction begins in a partition only when its coordinator has said that the partition belongs to it ([`verify`]),
//!   and holds back readers of committed records until its marker is below the high watermark ([`stable`]).
//! * Nothing on the mesh waits for room: a request holds a credit that covers its reply.
//!
//! Never here: wire formats, segment files, decisions about the cluster.

mod activity;
mod coordinator;
mod describe;
mod error;
mod fetch;
mod leader;
mod local;
mod markers;
mod measure;
mod message;
mod park;
mod producers;
mod relocate;
mod replay;
mod router;
mod shard;
mod stable;
#[cfg(test)]
mod tests;
mod verify;

pub use activity::Work;
pub use coordinator::{Settings as CoordinatorSettings, partition_of};
pub use fetch::Fetched;
pub use message::*;
pub use router::MESH_DEPTH;
pub use shard::{Concern, Host, Shard};
pub use verify::Verifier;

use crate::model::{PartitionId, TopicId};

/// Kafka's `__cluster_metadata`, whose id is reserved.
pub const METADATA_PARTITION: PartitionId = PartitionId { topic: TopicId(1), index: 0 };
