//! Kafka's names for the files and folders of a log directory: parse and format.
//!
//! Parsing is exact: what parses prints as the same name again, so nothing but our own kind of file is ever taken
//! for one. Source: Kafka's `LogFileUtils`, `LocalLog.parseTopicPartitionName`.

use crate::model::Offset;

pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub const PARTITION_METADATA: &str = "partition.metadata";
pub const META_PROPERTIES: &str = "meta.properties";
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub const REPLICATION_CHECKPOINT: &str = "replication-offset-checkpoint";
pub const CLEANER_OFFSET_CHECKPOINT: &str = "cleaner-offset-checkpoint";
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Ours, one for each shard: `recovery-points.0`. (A dot, for a partition's folder could be called `recovery-points-0`.)
pub const RECOVERY_POINTS_PREFIX: &str = "recovery-points.";
/// Ours, the commit journal of a shard, some files: `journal-0.3`.
pub const JOURNAL_PREFIX: &str = "journal-";
/// Ours, batches of a journal that had no place, one for each partition: `unplaced-journal.<topic id>.<partition>`.
pub const UNPLACED_PREFIX: &str = "unplaced-journal.";
/// Ours, there from a replay of the journal until the boot is done.
pub const JOURNAL_ENDS: &str = "replayed-ends";
/// Ours, one for each shard: `log-start-offsets.0`.
pub const LOG_STARTS_PREFIX: &str = "log-start-offsets.";
/// Ours, one for each shard: `cleaned-offsets.0`.
pub const CLEANED_OFFSETS_PREFIX: &str = "cleaned-offsets.";
/// Ours, in a partition's folder while its log is cut: see `truncation.rs`.
pub const TRUNCATION: &str = "truncation";
/// Held by the process that owns the log directory.
pub const LOCK: &str = ".lock";
/// A checkpoint is written beside itself under this ending, flushed, and renamed into place.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Longest name a Linux file system takes, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Digits of an offset in a file name, so that names sort as offsets do.
const OFFSET_DIGITS: usize = 20;

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

    /// `00000000000000000000.log`. The offset is not negative.
    #[must_use]
    pub fn name(&self) -> String {
        debug_assert!(self.offset >= Offset::ZERO);
        let (offset, kind, state) = (self.offset.0, self.kind.suffix(), self.state.suffix());
        format!("{offset:0OFFSET_DIGITS$}{kind}{state}")
    }

    /// `None` for anything that is not one of a segment's files (checkpoints, strangers).
    #[must_use]
    pub fn parse(name: &str) -> Option<SegmentFile> {
        let (digits, suffixes) = name.split_at_checked(OFFSET_DIGITS)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let offset = Offset(digits.parse().ok()?);
        FileKind::ALL.into_iter().find_map(|kind| {
            let state = suffixes.strip_prefix(kind.suffix())?;
            let state = FileState::ALL.into_iter().find(|known| known.suffix() == state)?;
            Some(SegmentFile { offset, kind, state })
        })
    }
}

impl FileKind {
    pub const ALL: [FileKind; 5] =
        [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex, FileKind::Snapshot];

    fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::OffsetIndex => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TxnIndex => ".txnindex",
            FileKind::Snapshot => ".snapshot",
        }
    }
}

impl FileState {
    const ALL: [FileState; 4] = [FileState::Live, FileState::Deleted, FileState::Cleaned, FileState::Swap];

    fn suffix(self) -> &'static str {
        match self {
            FileState::Live => "",
            FileState::Deleted => ".deleted",
            FileState::Cleaned => ".cleaned",
            FileState::Swap => ".swap",
        }
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

impl FolderState {
    const RENAMED: [FolderState; 3] = [FolderState::Delete, FolderState::Future, FolderState::Stray];

    fn suffix(self) -> &'static str {
        match self {
            FolderState::Live => "",
            FolderState::Delete => "-delete",
            FolderState::Future => "-future",
            FolderState::Stray => "-stray",
        }
    }
}

/// `topic-0`
#[must_use]
pub fn folder_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// `topic-0.0123456789abcdef0123456789abcdef-delete`, at most 255 bytes: a long topic is cut short. `unique` is the
/// caller's random number; `state` is not `Live`. Topic names are ASCII.
#[must_use]
pub fn renamed_folder_name(topic: &str, partition: i32, unique: u128, state: FolderState) -> String {
    debug_assert!(state != FolderState::Live);
    let ending = format!("-{partition}.{unique:032x}{}", state.suffix());
    let mut kept = topic.len().min(NAME_BYTES_MAX - ending.len());
    while !topic.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{ending}", &topic[..kept])
}

/// `None` for a folder that is no partition's.
#[must_use]
pub fn parse_folder(name: &str) -> Option<Folder> {
    let renamed = FolderState::RENAMED.into_iter().find(|state| name.ends_with(state.suffix()));
    let (live_name, state) = match renamed {
        Some(state) => {
            let (live_name, unique) = name[..name.len() - state.suffix().len()].rsplit_once('.')?;
            if unique.is_empty() {
                return None;
            }
            (live_name, state)
        }
        None => (name, FolderState::Live),
    };
    let (topic, digits) = live_name.rsplit_once('-')?;
    let partition: i32 = digits.parse().ok()?;
    let exact = partition >= 0 && partition.to_string() == digits;
    (exact && is_topic_name(topic)).then(|| Folder { topic: topic.to_owned(), partition, state })
}

/// The characters Kafka allows in a topic name.
fn is_topic_name(topic: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !topic.is_empty() && topic != "." && topic != ".." && topic.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(name: &str, expect: Option<(i64, FileKind, FileState)>) {
        let expect = expect.map(|(offset, kind, state)| SegmentFile { offset: Offset(offset), kind, state });
        assert_eq!(SegmentFile::parse(name), expect, "{name}");
        if let Some(file) = expect {
            assert_eq!(file.name(), name);
        }
    }

    #[test]
    fn segment_files() {
        use FileKind::*;
        use FileState::*;
        check_file("00000000000000000000.log", Some((0, Log, Live)));
        check_file("00000000000000000042.index", Some((42, OffsetIndex, Live)));
        check_file("00000000000000000042.timeindex", Some((42, TimeIndex, Live)));
        check_file("00000000000000000042.txnindex", Some((42, TxnIndex, Live)));
        check_file("09223372036854775807.snapshot", Some((i64::MAX, Snapshot, Live)));
        check_file("00000000000000000042.log.deleted", Some((42, Log, Deleted)));
        check_file("00000000000000000042.index.cleaned", Some((42, OffsetIndex, Cleaned)));
        check_file("00000000000000000042.timeindex.swap", Some((42, TimeIndex, Swap)));
        check_file("00000000000000000042.snapshot.deleted", Some((42, Snapshot, Deleted)));
        // past i64
        check_file("09223372036854775808.log", None);
        check_file("99999999999999999999.log", None);
        check_file("0000000000000000042.log", None);
        check_file("000000000000000000042.log", None);
        check_file("+0000000000000000042.log", None);
        check_file("-0000000000000000042.log", None);
        check_file("00000000000000000042", None);
        check_file("00000000000000000042.", None);
        check_file("00000000000000000042.log.", None);
        check_file("00000000000000000042.log.deleted.deleted", None);
        check_file("00000000000000000042.logs", None);
        check_file("0000000000000000004\u{e9}.log", None);
        check_file(LEADER_EPOCH_CHECKPOINT, None);
        check_file(PARTITION_METADATA, None);
        check_file("", None);
    }

    #[test]
    fn folders() {
        let check = |name: &str, expect: Option<(&str, i32, FolderState)>| {
            let expect =
                expect.map(|(topic, partition, state)| Folder { topic: topic.to_owned(), partition, state });
            assert_eq!(parse_folder(name), expect, "{name}");
        };
        check("topic-0", Some(("topic", 0, FolderState::Live)));
        check("a.b-c_d-2147483647", Some(("a.b-c_d", i32::MAX, FolderState::Live)));
        check("topic-7-0", Some(("topic-7", 0, FolderState::Live)));
        check("x-delete-3", Some(("x-delete", 3, FolderState::Live)));
        check("t-1.0123abcd-delete", Some(("t", 1, FolderState::Delete)));
        check("a.b-c-12.ff-stray", Some(("a.b-c", 12, FolderState::Stray)));
        check("a-1.ff-future", Some(("a", 1, FolderState::Future)));
        for stranger in [
            "",
            "-",
            "-0",
            "topic",
            "topic-",
            "topic-x",
            "topic-01",
            "topic-+1",
            "topic--1x",
            "topic-2147483648",
            "lost+found-1",
            "..-1",
            "t-1-delete",
            "t-1.-delete",
            "t.ff-delete",
            "t-\u{663}",
            "a b-1",
        ] {
            check(stranger, None);
        }
    }

    #[test]
    fn renamed_folders_fit_a_file_name_and_parse() {
        for length in [1, 100, 200, 249] {
            let topic = "t".repeat(length);
            for state in FolderState::RENAMED {
                let name = renamed_folder_name(&topic, i32::MAX, 7, state);
                assert!(name.len() <= NAME_BYTES_MAX);
                let folder = parse_folder(&name).unwrap();
                assert!(topic.starts_with(&folder.topic));
                assert_eq!((folder.partition, folder.state), (i32::MAX, state));
            }
        }
        assert_eq!(
            renamed_folder_name("orders", 3, 0xff, FolderState::Delete),
            "orders-3.000000000000000000000000000000ff-delete"
        );
    }
}
