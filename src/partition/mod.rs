//! A shard's partitions: append, read, waiters; the shard table, the router, and the messages between shards.
//!
//! [`Shard`] is what the handlers talk to. Every call may be for partitions of any shard: the router splits it,
//! one message out and one back per owning shard, none if all are local.

mod message;
mod shard;

pub use message::*;
pub use shard::Shard;
