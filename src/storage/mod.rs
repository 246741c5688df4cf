//! Direct-I/O segment files of one shard's partitions: appender, group commit, reads, tail cache, recovery.
//!
//! Life of an append: [`Log::append`] (a plain function) fixes offset, segment and position and queues the batch;
//! [`commit`] gathers what is queued in a [`round`], copies it once into an aligned buffer, writes it to the [`journal`] (a
//! large one to its segment), flushes, moves the durable end and publishes the buffer into [`tail`]. [`drain`] brings
//! what lies in the journal to the segments, in large pieces. Life of a read: the tail cache, else [`chunks`] (read-ahead cache), else
//! the segment file through its index ([`read`]). Life of a segment: made and closed by [`roll`]; found again,
//! judged and repaired by [`open`] and [`recover`]; of a compacted topic, rewritten by [`cleaner`]; given up by
//! [`retention`] or DeleteRecords, which move the log's start ([`log_starts`]), and removed by [`removal`]; cut by
//! [`truncate`]; moved to another directory by [`relocate`]. What describes it ([`indexes`], [`transactions`]) is made again from its batches when it is missing or wrong;
//! readers of committed records ask [`aborted`] what to leave out.
//!
//! Invariants
//! * What is appended is ordered by the call, not by any task: no await between fixing a place and queuing it.
//! * Nothing above the durable end is read, indexed on disk, snapshotted or named in a checkpoint.
//! * What is durable is in its segment, or in the journal and pinned in the tail, where it stays until it is flushed in its
//!   segment; a segment has no hole; a journal file is used again only when every log has what the file holds flushed in
//!   its segments.
//! * One write per segment is in flight, so two writes never meet in one 4 KiB block. The bytes below the written end in
//!   a rewritten block are the same bytes.
//! * A log start is durable before anybody is told, and before anything below it is removed; a truncation before anything
//!   is cut.
//! * A write or flush error takes the directory offline for writing, once and for good; nothing is tried again.
//! * Every segment below the one that holds the recovery point is closed: trimmed, flushed, its producer snapshot
//!   and the leader epochs on disk.
//! * No `RefCell` borrow is held across an await or a call to the [`Listener`].
//!
//! Never here: what an acknowledgement means, who leads. One number leaves, the durable end, and one is asked for: the
//! high watermark, before anything is deleted.

mod aborted;
pub(crate) mod again;
mod append;
mod chunks;
mod cleaner;
pub(crate) mod commit;
mod concurrent;
mod directory;
mod drain;
mod handle;
mod indexes;
mod journal;
mod largest;
pub(crate) mod log_starts;
mod lookup;
mod open;
mod producers;
mod read;
mod recover;
mod recovery_points;
mod relocate;
mod removal;
mod retention;
mod roll;
mod round;
mod run;
mod scan;
mod segment;
mod shard;
mod space;
mod state;
mod stop;
mod strays;
mod tail;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transactions;
mod truncate;
mod warm;
mod write;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;

pub use crate::log::compaction::Settings as Compaction;
pub use crate::model::{CleanupPolicy, Durability};
use crate::model::{DirectoryId, Offset, PartitionId};

pub use cleaner::CleanerConfig;
pub use handle::Log;
pub use shard::Storage;
pub use strays::Inventory;

/// Settings of one partition's log: the topic's, resolved against the broker's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Kafka's segment.bytes.
    pub segment_bytes: u64,
    /// Kafka's segment.ms.
    pub segment_ms: i64,
    /// Kafka's segment.jitter.ms.
    pub segment_jitter_ms: i64,
    /// Kafka's segment.index.bytes.
    pub segment_index_bytes: u64,
    /// Kafka's index.interval.bytes.
    pub index_interval_bytes: u64,
    /// Kafka's preallocate.
    pub preallocate: bool,
    /// Kafka's cleanup.policy.
    pub cleanup: CleanupPolicy,
    /// Kafka's retention.ms and retention.bytes: below zero there is no limit.
    pub retention_ms: i64,
    pub retention_bytes: i64,
    /// What counts if that has `compact`.
    pub compaction: Compaction,
    /// corelane.durability.
    pub durability: Durability,
    /// Kafka's flush.messages and flush.ms: what may be unflushed of a log that is only written.
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub reserve: Reserve,
}

/// Whether a log may use the space that is kept when the disk is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Refused below the reserve: what clients produce.
    Kept,
    /// May use it: the logs without which the node could not go on.
    Usable,
}

/// Settings of the shard's storage.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size of the commit journal in each log directory, in bytes; 0 for none.
    pub journal_bytes: u64,
    /// Budget of the tail cache and read-ahead, each, in bytes.
    pub tail_cache_bytes: usize,
    pub read_ahead_bytes: usize,
    /// Produce is refused when the file system has less free than this.
    pub reserve_bytes: u64,
    /// How often recovery points are written.
    pub checkpoint_interval_ms: u64,
    /// How often logs are looked at for what has expired.
    pub retention_check_interval_ms: u64,
    /// As it begins.
    pub live: LiveConfig,
    /// Budget of idempotent producers' state, in bytes.
    pub producer_state_bytes: usize,
}

/// Settings of the shard's storage that may change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct LiveConfig {
    /// Kafka's producer.id.expiration.ms.
    pub producer_expiration_ms: i64,
    pub cleaner: CleanerConfig,
    /// This shard's part of Kafka's replica.alter.log.dirs.io.max.bytes.per.second; 0: nothing is moved.
    pub relocation_bytes_per_second: u64,
}

/// One log directory as this shard sees it.
#[derive(Clone, Debug)]
pub struct LogDir {
    pub id: DirectoryId,
    pub path: PathBuf,
    /// The last stop was clean: nothing needs to be scanned.
    pub clean: bool,
    /// Common to all shards.
    latest_free: space::LatestAnswer,
}

impl LogDir {
    /// The other shards have clones of it.
    pub fn new(id: DirectoryId, path: PathBuf, clean: bool) -> LogDir {
        LogDir { id, path, clean, latest_free: space::LatestAnswer::default() }
    }
}

/// How a log directory is, as this shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryState {
    pub id: DirectoryId,
    pub path: PathBuf,
    /// It has had no write or flush error.
    pub online: bool,
}

/// Why storage could not do it. `partition` maps it to an error code in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The directory had a write or flush error, or its folder is missing.
    Offline,
    /// Less free space than the reserve.
    Full,
    /// The offset lies outside log start .. log end.
    OutOfRange,
    /// A batch on disk does not match its checksum.
    Corrupt,
    /// Producer state says no; the Kafka error code to answer.
    Refused(crate::model::ErrorCode),
    /// The log is closed or deleted.
    Closed,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    /// Exclusive end: acknowledged once the durable end reaches it.
    pub end_offset: Offset,
    /// Nothing was appended: the batch is already at `base_offset`.
    pub duplicate: bool,
}

impl Appended {
    /// Offsets are dense, so this is how many records the batch has.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        u64::try_from(self.end_offset.0 - self.base_offset.0).expect("a batch has an end behind its base")
    }
}

/// A transaction that a marker has ended in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub first_offset: Offset,
    /// The marker's, which need not be durable yet.
    pub marker: Offset,
}

/// Whole batches, in order; each slice holds one or more of them.
#[derive(Clone, Debug)]
pub struct Slices {
    pub parts: Vec<Bytes>,
    pub bytes: usize,
    /// Where reading goes on.
    pub next: Offset,
}

impl Slices {
    fn none_from(next: Offset) -> Slices {
        Slices { parts: Vec::new(), bytes: 0, next }
    }
}

/// Storage calls this on the shard after a commit round, once per partition whose durable end moved.
pub trait Listener {
    fn durable(&self, partition: PartitionId, end: Offset);
    /// All of the log lies in that directory: has the metadata say that it counts there from now on.
    fn assign(
        &self,
        partition: PartitionId,
        directory: DirectoryId,
    ) -> Pin<Box<dyn Future<Output = Assigned>>>;
    /// A write or flush failed: nothing more becomes durable in this directory.
    fn failed(&self, directory: DirectoryId);
    /// Exclusive end of what every reader may have seen: nothing at or above it is deleted.
    fn high_watermark(&self, partition: PartitionId) -> Offset;
    /// At or below that; all transactions below it have ended for good: nothing at or above it is compacted.
    fn last_stable_offset(&self, partition: PartitionId) -> Offset;
}

/// Whether a log counts in another directory now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigned {
    Yes,
    /// Nothing has changed: the topic is gone, or nobody decides any more.
    No,
}

/// A log's copy that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureLog {
    pub directory: DirectoryId,
    pub size_bytes: u64,
    /// Exclusive end of what was copied.
    pub end_offset: Offset,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct OpenLog {
    pub partition: PartitionId,
    /// For the folder name `topic-index` and the log lines.
    pub topic_name: String,
    pub directory: DirectoryId,
    pub config: LogConfig,
    pub create: Create,
}

/// Whether the folder may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// The metadata has no directory for it yet: create it, or take over what a crash left of an earlier try.
    IfMissing,
    /// It must be there; a missing folder is [`Error::Offline`].
    Never,
}
