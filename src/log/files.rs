//! Kafka's names for the files and folders of a log directory: parse and format.

use crate::model::Offset;

pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub const PARTITION_METADATA: &str = "partition.metadata";
pub const META_PROPERTIES: &str = "meta.properties";
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub const REPLICATION_CHECKPOINT: &str = "replication-offset-checkpoint";
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Held by the process that owns the log directory.
pub const LOCK: &str = ".lock";
/// A checkpoint is written beside itself under this ending, flushed, and renamed into place.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a file of a partition folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    /// Producer state up to (exclusive) the offset in the name.
    Snapshot,
}

/// Where in its life a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileState {
    Live,
    /// `.deleted`: no longer part of the log, removed later.
    Deleted,
    /// `.cleaned`: a compaction that has not finished.
    Cleaned,
    /// `.swap`: a compaction that has finished and is being put in place.
    Swap,
}

/// A parsed file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentFile {
    /// First offset the segment may hold; for a snapshot its exclusive end.
    pub offset: Offset,
    pub kind: FileKind,
    pub state: FileState,
}

impl SegmentFile {
    #[must_use]
    pub fn live(offset: Offset, kind: FileKind) -> SegmentFile {
        SegmentFile { offset, kind, state: FileState::Live }
    }

    /// `00000000000000000000.log`
    #[must_use]
    pub fn name(&self) -> String {
        unimplemented!()
    }

    /// `None` for anything that is not one of a segment's files (checkpoints, strangers).
    #[must_use]
    pub fn parse(name: &str) -> Option<SegmentFile> {
        let _ = name;
        unimplemented!()
    }
}

/// Where in its life a partition folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FolderState {
    Live,
    /// `-delete`: the topic is gone, the folder is removed later.
    Delete,
    /// `-future`: being filled to replace the live one of another directory.
    Future,
    /// `-stray`: metadata does not know it.
    Stray,
}

/// A parsed folder name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Cut short in a `-delete` or `-stray` name when the topic's is long.
    pub topic: String,
    pub partition: i32,
    pub state: FolderState,
}

/// `topic-0`
#[must_use]
pub fn folder_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// `topic-0.0123456789abcdef0123456789abcdef-delete`, at most 255 bytes. `unique` is the caller's random number.
#[must_use]
pub fn renamed_folder_name(topic: &str, partition: i32, unique: u128, state: FolderState) -> String {
    let _ = (topic, partition, unique, state);
    unimplemented!()
}

#[must_use]
pub fn parse_folder(name: &str) -> Option<Folder> {
    let _ = name;
    unimplemented!()
}
