//! The copy of a log's segments while the log is in use.
//!
//! What is in a segment's file does not change any more, so it is copied as far as the file goes: of a closed segment all, of
//! the one that is appended to whole blocks. What is on the destination's disk is read back and checked before it counts:
//! the source is removed afterwards. What is damaged in the source is copied as it is, and is found there as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::{End, Relocation, check};
use crate::log::files::{
    FileKind, FileState, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, SegmentFile, TEMPORARY_SUFFIX,
    TRUNCATION,
};
use crate::log::recovery::{Offsets, Reason, Start, Verdict};
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{self, BLOCK_BYTES, Buf, File, Instant, OpenMode, SharedBuf, fs};
use crate::storage::segment::{Segment, WasOpen};
use crate::storage::space;
use crate::storage::state::LogState;
use crate::storage::{Reserve, scan, space::Kept};

/// One read and one write; in tests little, so that a segment takes several.
const SLICE_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 2 << 20 };
/// The longest rest after a slice.
const REST_MAX: Duration = Duration::from_millis(100);
/// How soon a change of the limit counts.
const PACE_MAX: Duration = Duration::from_millis(500);
/// Between two looks at whether index files are being written.
const PAUSE: Duration = Duration::from_millis(5);
/// A place whose copy is not what the source has is copied so often.
const TRIES: u32 = 3;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A log's copy while it is made.
pub struct Copy<'a> {
    log: &'a Rc<LogState>,
    relocation: &'a Relocation,
    segments: BTreeMap<Offset, Copied>,
    /// Producer snapshots that are there.
    snapshots: BTreeSet<Offset>,
    /// What else lies in the folder was copied.
    has_rest: bool,
    /// How often the log had been cut when this began.
    truncations: u64,
    haste: Haste,
    /// When the last slice began, and what it took of the limit.
    since: Instant,
    owed: u64,
}

/// One segment's copy.
struct Copied {
    file: File,
    /// So many bytes are in it; whole blocks until all are.
    bytes: u64,
    /// It was read back up to here: position, and the offset of what follows.
    checked: u64,
    next: Offset,
    tries: u32,
    /// All of it is there, flushed and read back, with what describes it.
    is_done: bool,
}

/// Whether somebody waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    None,
    /// Appends do: no rest, no limit.
    Appends,
}

/// What is read back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The last batch may be cut.
    Part,
    All,
}

/// How far a segment can be copied now.
struct Source {
    segment: Rc<Segment>,
    bytes: u64,
    /// It will not grow.
    is_whole: bool,
}

impl<'a> Copy<'a> {
    pub fn new(log: &'a Rc<LogState>, relocation: &'a Relocation) -> Copy<'a> {
        let truncations = log.borrow().truncations;
        let (segments, snapshots) = (BTreeMap::new(), BTreeSet::new());
        let (since, owed) = (reactor::now(), 0);
        Copy {
            log,
            relocation,
            segments,
            snapshots,
            has_rest: false,
            truncations,
            haste: Haste::None,
            since,
            owed,
        }
    }

    /// Copies what can be copied now. What the log has given up since the last time is given up here, too.
    pub async fn catch_up(&mut self) -> Result<(), End> {
        self.start_over_if_cut().await?;
        self.drop_removed().await?;
        for base in self.bases() {
            self.segment(base).await?;
        }
        if !std::mem::replace(&mut self.has_rest, true) {
            self.rest_of_folder().await?;
        }
        Ok(())
    }

    /// Bytes of the log that are not in the copy, those that are queued included.
    pub fn left(&self) -> u64 {
        self.log.borrow().total_bytes.saturating_sub(self.copied_bytes())
    }

    /// Appends wait from here on, and nothing of the log is queued, or lies in the journal only: copies the rest, durably.
    pub async fn finish(&mut self) -> Result<(), End> {
        self.haste = Haste::Appends;
        self.catch_up().await?;
        let all_done =
            self.bases().iter().all(|base| self.segments.get(base).is_some_and(|copied| copied.is_done));
        assert!(all_done, "nothing of the log grows any more");
        Ok(())
    }

    fn copied_bytes(&self) -> u64 {
        self.segments.values().map(|copied| copied.bytes).sum()
    }

    /// Of the segments that have files.
    fn bases(&self) -> Vec<Offset> {
        let inner = self.log.borrow();
        let have_files = inner.segments.iter().take_while(|segment| segment.base <= inner.committing.base);
        have_files.map(|segment| segment.base).collect()
    }

    async fn start_over_if_cut(&mut self) -> Result<(), End> {
        let truncations = self.log.borrow().truncations;
        if self.truncations != truncations {
            self.truncations = truncations;
            for base in std::mem::take(&mut self.segments).into_keys() {
                self.remove(base).await?;
            }
            for offset in std::mem::take(&mut self.snapshots) {
                self.remove_file(&SegmentFile::live(offset, FileKind::Snapshot)).await?;
            }
        }
        Ok(())
    }

    async fn drop_removed(&mut self) -> Result<(), End> {
        let bases = self.bases();
        let gone: Vec<Offset> =
            self.segments.keys().copied().filter(|base| bases.binary_search(base).is_err()).collect();
        for base in gone {
            self.segments.remove(&base);
            self.remove(base).await?;
        }
        Ok(())
    }

    async fn remove(&self, base: Offset) -> Result<(), End> {
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex, FileKind::Log] {
            self.remove_file(&SegmentFile::live(base, kind)).await?;
        }
        Ok(())
    }

    async fn remove_file(&self, file: &SegmentFile) -> Result<(), End> {
        match fs::remove_file(&self.relocation.folder.join(file.name())).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// What there is of the segment now; `None` if it is gone.
    fn source(&self, base: Offset) -> Option<Source> {
        let inner = self.log.borrow();
        let at = inner.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        let segment = Rc::clone(&inner.segments[at]);
        let is_whole = segment.closed.get() || self.haste == Haste::Appends;
        let written = segment.written_bytes.get();
        let bytes = if is_whole { written } else { written / BLOCK * BLOCK };
        Some(Source { segment, bytes, is_whole })
    }

    /// Copies the segment as far as it goes, and what describes it if that is all.
    async fn segment(&mut self, base: Offset) -> Result<(), End> {
        // ends: each turn copies a slice, or is one of the tries
        loop {
            check(self.log, self.relocation)?;
            if self.segments.get(&base).is_some_and(|copied| copied.is_done) {
                return Ok(());
            }
            let Some(source) = self.source(base) else { return Ok(()) };
            if !self.segments.contains_key(&base) {
                self.snapshot(base).await?;
                self.create(&source).await?;
            }
            if self.segments[&base].bytes < source.bytes {
                drop(source);
                self.pace().await?;
                self.slice(base).await?;
                continue;
            }
            if !source.is_whole {
                return Ok(());
            }
            self.end_file(&source).await?;
            if self.is_good(base, Extent::All).await? {
                return self.describe(&source).await;
            }
        }
    }

    async fn create(&mut self, source: &Source) -> Result<(), End> {
        let base = source.segment.base;
        let path = self.relocation.folder.join(source.segment.file_name(FileKind::Log));
        let file = File::open(&path, OpenMode::CreateNew).await.map_err(|error| self.unwritable(&error))?;
        if source.is_whole && source.bytes > 0 {
            // in one piece where the file system can; the slices say whether there is room
            let _ = file.allocate(source.bytes).await;
        }
        let copied = Copied { file, bytes: 0, checked: 0, next: base, tries: 0, is_done: false };
        self.segments.insert(base, copied);
        Ok(())
    }

    /// Copies a slice. Nobody is kept from removing the segment for longer than that.
    async fn slice(&mut self, base: Offset) -> Result<(), End> {
        let Some(source) = self.source(base) else { return Ok(()) };
        let (file, position) = {
            let copied = &self.segments[&base];
            (copied.file.clone(), copied.bytes)
        };
        let bytes = source.bytes.saturating_sub(position).min(SLICE_BYTES);
        if bytes == 0 {
            return Ok(());
        }
        self.reserve(bytes).await?;
        let begun = reactor::now();
        let read = read(&source.segment, self.log, position, bytes).await;
        let buf = read.map_err(|error| End::source(&error))?;
        drop(source);
        file.write(&buf, position).await.map_err(|error| self.unwritable(&error))?;
        self.segments.get_mut(&base).expect("it was there").bytes = position + bytes;
        // if it is not good, it is copied again
        self.is_good(base, Extent::Part).await?;
        self.relocation.copied_bytes.set(self.copied_bytes());
        self.rest(begun, bytes).await;
        Ok(())
    }

    /// Takes the bytes from what is free in the destination.
    async fn reserve(&self, bytes: u64) -> Result<(), End> {
        let (shard, space) = (&self.log.shard, &self.relocation.destination.space);
        let kept = match self.log.borrow().config.reserve {
            Reserve::Kept => shard.kept_space(),
            Reserve::Usable => Kept::NOTHING,
        };
        if !space.reserve(bytes, kept) {
            space::sample(shard, &self.relocation.destination).await;
            if !space.reserve(bytes, kept) {
                return Err(End::Impossible(
                    "there is no room for it above corelane.disk.reserve.bytes".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Waits until the limit allows the next slice. It may change at any time, and 0 allows none.
    pub async fn pace(&mut self) -> Result<(), End> {
        if self.haste != Haste::None {
            return Ok(());
        }
        loop {
            check(self.log, self.relocation)?;
            let left = match self.log.shard.live.get().relocation_bytes_per_second {
                0 => PACE_MAX,
                limit => {
                    let takes = Duration::from_secs_f64(self.owed as f64 / limit as f64);
                    self.since.after(takes).since(reactor::now())
                }
            };
            if left.is_zero() {
                return Ok(());
            }
            or(reactor::sleep(left.min(PACE_MAX)), self.relocation.called.notified()).await;
        }
    }

    /// As long as the slice took.
    async fn rest(&mut self, begun: Instant, bytes: u64) {
        (self.since, self.owed) = (begun, bytes);
        if self.haste == Haste::None {
            let took = reactor::now().since(begun).min(REST_MAX);
            or(reactor::sleep(took), self.relocation.called.notified()).await;
        }
    }

    /// The whole segment is in the file: gives it its length and flushes it.
    async fn end_file(&self, source: &Source) -> Result<(), End> {
        let file = &self.segments[&source.segment.base].file;
        let ended = async {
            file.truncate(source.bytes).await?;
            file.sync_data().await
        };
        ended.await.map_err(|error| self.unwritable(&error))
    }

    /// Reads back what was not read back yet. False if it is not what the source has: then that is to be copied again.
    async fn is_good(&mut self, base: Offset, extent: Extent) -> Result<bool, End> {
        let Copied { file, bytes, checked, next, tries, .. } = &self.segments[&base];
        let (bytes, tries) = (*bytes, *tries);
        let start = Start {
            base_offset: base,
            position: *checked,
            next_offset: *next,
            last_epoch: LeaderEpoch::NONE,
            offsets: Offsets::Gaps,
            max_batch_bytes: u64::from(u32::MAX),
        };
        let found = scan::scan(file, start, bytes, |_, _| {}).await;
        let found = found.map_err(|error| self.unwritable(&error))?;
        let is_cut = extent == Extent::Part && matches!(found.reason, Reason::Torn { .. });
        let is_good = is_cut
            || found.valid_bytes == bytes
            || match self.source(base) {
                // it was removed meanwhile
                None => true,
                Some(Source { segment, .. }) => {
                    let there = scan_source(&segment, self.log, start, bytes).await;
                    there.map_err(|error| End::source(&error))?.valid_bytes == found.valid_bytes
                }
            };
        let Verdict { valid_bytes, next_offset, .. } = found;
        let copied = self.segments.get_mut(&base).expect("it was there");
        (copied.checked, copied.next) = (valid_bytes, next_offset);
        self.relocation.copied_to.set(next_offset.max(self.relocation.copied_to.get()));
        if is_good {
            return Ok(true);
        }
        if tries + 1 >= TRIES {
            return Err(End::Impossible(format!(
                "segment {base}, position {valid_bytes}: what is read back there is not what was written: look after the disk"
            )));
        }
        (copied.tries, copied.bytes) = (tries + 1, valid_bytes / BLOCK * BLOCK);
        Ok(false)
    }

    /// Copies the segment's indexes, and the producer snapshot in front of it. Those of the segment that is appended to are
    /// [`hand_over`](super::hand_over)'s.
    async fn describe(&mut self, source: &Source) -> Result<(), End> {
        let Source { segment, .. } = source;
        self.snapshot(segment.base).await?;
        while segment.describing.get() {
            reactor::sleep(PAUSE).await;
        }
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex] {
            self.small_file(&segment.file_name(kind)).await?;
        }
        self.segments.get_mut(&segment.base).expect("it was there").is_done = true;
        Ok(())
    }

    async fn snapshot(&mut self, offset: Offset) -> Result<(), End> {
        if self.snapshots.contains(&offset) {
            return Ok(());
        }
        if self.small_file(&SegmentFile::live(offset, FileKind::Snapshot).name()).await? {
            self.snapshots.insert(offset);
        }
        Ok(())
    }

    /// Copies a file that is written as a whole, durably but for its name. False if there is none.
    async fn small_file(&self, name: &str) -> Result<bool, End> {
        let bytes = match fs::read(&self.log.folder.join(name)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.map_err(|error| End::source(&error))?,
        };
        let path = self.relocation.folder.join(name);
        let written = async {
            fs::write(&path, bytes).await?;
            File::open(&path, OpenMode::ReadWrite).await?.sync_data().await
        };
        written.await.map_err(|error| self.unwritable(&error))?;
        Ok(true)
    }

    /// What else lies in the folder: what recoveries have set aside, for the operator.
    async fn rest_of_folder(&mut self) -> Result<(), End> {
        let entries = fs::list(&self.log.folder).await.map_err(|error| End::source(&error))?;
        for entry in entries {
            // a truncation that is under way in the source is none of the copy's: there it would be carried out at the next start
            let is_ours =
                matches!(entry.name.as_str(), LEADER_EPOCH_CHECKPOINT | PARTITION_METADATA | TRUNCATION);
            let is_passing = entry.name.ends_with(TEMPORARY_SUFFIX)
                || SegmentFile::parse(&entry.name).is_some_and(|file| file.state != FileState::Deleted);
            if entry.is_dir || is_ours || is_passing || entry.len == 0 {
                continue;
            }
            self.stranger(&entry.name, entry.len).await?;
        }
        Ok(())
    }

    async fn stranger(&mut self, name: &str, bytes: u64) -> Result<(), End> {
        let from = File::open(&self.log.folder.join(name), OpenMode::Read).await;
        let from = from.map_err(|error| End::source(&error))?;
        let to = File::open(&self.relocation.folder.join(name), OpenMode::CreateNew).await;
        let to = to.map_err(|error| self.unwritable(&error))?;
        let mut position = 0;
        while position < bytes {
            check(self.log, self.relocation)?;
            self.pace().await?;
            let length = (bytes - position).min(SLICE_BYTES);
            self.reserve(length).await?;
            let begun = reactor::now();
            let buf = read_from(&from, position, length).await.map_err(|error| End::source(&error))?;
            to.write(&buf, position).await.map_err(|error| self.unwritable(&error))?;
            position += length;
            self.rest(begun, length).await;
        }
        let ended = async {
            to.truncate(bytes).await?;
            to.sync_data().await
        };
        ended.await.map_err(|error| self.unwritable(&error))
    }

    fn unwritable(&self, error: &io::Error) -> End {
        End::destination(self.relocation, &self.log.shard, error)
    }
}

async fn open(segment: &Rc<Segment>, log: &LogState) -> io::Result<File> {
    let (file, was_open) = segment.file(&log.folder).await?;
    if was_open == WasOpen::No {
        log.shard.warm.note(segment);
    }
    Ok(file)
}

async fn read(segment: &Rc<Segment>, log: &LogState, position: u64, bytes: u64) -> io::Result<SharedBuf> {
    let file = open(segment, log).await?;
    read_from(&file, position, bytes).await
}

async fn scan_source(segment: &Rc<Segment>, log: &LogState, start: Start, bytes: u64) -> io::Result<Verdict> {
    let file = open(segment, log).await?;
    scan::scan(&file, start, bytes, |_, _| {}).await
}

/// `bytes` from an aligned position on, filled up with zeros to a whole block.
async fn read_from(file: &File, position: u64, bytes: u64) -> io::Result<SharedBuf> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let length = bytes.next_multiple_of(BLOCK_BYTES);
    let buf = file.read(position, length).await?;
    let there = buf.as_slice();
    if there.len() < bytes {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
    }
    if there.len() == bytes && bytes == length {
        return Ok(buf);
    }
    let mut whole = Buf::new(length);
    whole.as_mut_slice()[..bytes].copy_from_slice(&there[..bytes]);
    whole.as_mut_slice()[bytes..].fill(0);
    Ok(whole.freeze())
}
