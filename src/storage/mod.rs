//! Direct-I/O segment files of one shard's partitions: appender, group commit, reads, tail cache, recovery.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

pub use crate::model::Durability;
use crate::model::{DirectoryId, LeaderEpoch, Offset, PartitionId, TimestampMs};
use crate::protocol::batch::BatchHeader;

/// Settings of one partition's log: the topic's, resolved against the broker's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Kafka's segment.bytes.
    pub segment_bytes: u64,
    /// Kafka's segment.ms.
    pub segment_ms: i64,
    /// Kafka's segment.index.bytes.
    pub segment_index_bytes: u64,
    /// Kafka's index.interval.bytes.
    pub index_interval_bytes: u64,
    /// corelane.durability.
    pub durability: Durability,
}

/// Settings of the shard's storage.
#[derive(Clone, Debug)]
pub struct Config {
    /// Budget of the tail cache and read-ahead, each, in bytes.
    pub tail_cache_bytes: usize,
    pub read_ahead_bytes: usize,
    /// Produce is refused when the file system has less free than this.
    pub reserve_bytes: u64,
    /// How often recovery points are written.
    pub checkpoint_interval_ms: u64,
}

/// One log directory as this shard sees it.
#[derive(Clone, Debug)]
pub struct LogDir {
    pub id: DirectoryId,
    pub path: PathBuf,
    /// The last stop was clean: nothing needs to be scanned.
    pub clean: bool,
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

/// Whole batches, in order; each slice holds one or more of them.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    pub parts: Vec<Bytes>,
    pub bytes: usize,
}

/// Storage calls this on the shard after a commit round, once per partition whose durable end moved.
pub trait Listener {
    fn durable(&self, partition: PartitionId, end: Offset);
    /// A write or flush failed: nothing more becomes durable in this directory.
    fn failed(&self, directory: DirectoryId, reason: &str);
}

/// All logs of one shard.
pub struct Storage {
    _todo: (),
}

/// One partition's log, shared within the shard.
#[derive(Clone)]
pub struct Log {
    _todo: (),
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

impl Storage {
    /// Starts the shard's commit loop and housekeeping on the current shard.
    #[must_use]
    pub fn start(config: Config, directories: Vec<LogDir>, listener: Rc<dyn Listener>) -> Rc<Storage> {
        let _ = (config, directories, listener);
        unimplemented!()
    }

    /// Opens or creates one log, recovering it first if the last stop was not clean. Everything it keeps is
    /// durable when this returns.
    pub async fn open(&self, what: OpenLog) -> Result<Log, Error> {
        let _ = what;
        unimplemented!()
    }

    /// Renames the folder away and removes it later; readers of lent slices are not disturbed.
    pub async fn delete(&self, log: &Log) -> Result<(), Error> {
        let _ = log;
        unimplemented!()
    }

    /// Clean stop: commits what is queued, trims preallocated space, writes indexes, snapshots and recovery
    /// points, flushes all of it. The caller writes the clean-shutdown mark after every shard has returned.
    pub async fn stop(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

impl Log {
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        unimplemented!()
    }

    /// Fixes the batch's place and queues it for the next commit round; a plain function, no await. `batch` is
    /// one checked v2 batch; base offset and leader epoch are patched in the copy that goes to disk.
    pub fn append(
        &self,
        batch: Bytes,
        header: &BatchHeader,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<Appended, Error> {
        let _ = (batch, header, epoch, now);
        unimplemented!()
    }

    #[must_use]
    pub fn start_offset(&self) -> Offset {
        unimplemented!()
    }

    /// Exclusive; counts batches that are queued and not yet durable.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        unimplemented!()
    }

    /// Exclusive; below it everything is durable in the topic's sense.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        unimplemented!()
    }

    /// Whole batches from the one that contains `from`, below `limit` (exclusive), at most `max_bytes`, but at
    /// least one batch if `at_least_one`. From the tail cache if it is there, else `None`: use [`Self::read`].
    #[must_use]
    pub fn read_cached(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Slices> {
        let _ = (from, limit, max_bytes, at_least_one);
        unimplemented!()
    }

    /// As [`Self::read_cached`], going to disk with read-ahead where it must.
    pub fn read(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Slices, Error>>>> {
        let _ = (from, limit, max_bytes, at_least_one);
        unimplemented!()
    }

    /// The first record below `limit` with a timestamp at or after `target`: its timestamp, offset and epoch.
    pub async fn find_timestamp(
        &self,
        target: TimestampMs,
        limit: Offset,
    ) -> Result<Option<(TimestampMs, Offset, LeaderEpoch)>, Error> {
        let _ = (target, limit);
        unimplemented!()
    }

    /// The record with the largest timestamp below `limit`.
    pub async fn find_max_timestamp(
        &self,
        limit: Offset,
    ) -> Result<Option<(TimestampMs, Offset, LeaderEpoch)>, Error> {
        let _ = limit;
        unimplemented!()
    }

    /// The epoch of the last batch; `LeaderEpoch::NONE` when empty.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        unimplemented!()
    }

    /// The epoch in force at `offset`, for ListOffsets answers.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let _ = offset;
        unimplemented!()
    }

    /// Kafka's `LeaderEpochFileCache.endOffsetFor`: (epoch, end offset), or (NONE, NONE) when unknown.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let _ = epoch;
        unimplemented!()
    }

    pub fn set_config(&self, config: LogConfig) {
        let _ = config;
        unimplemented!()
    }

    /// Bytes of all segments, preallocated space not counted.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }
}
