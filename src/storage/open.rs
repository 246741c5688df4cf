//! Opening a log: its folder is made, or found, checked and loaded.
//!
//! After a clean stop the files are believed: lengths, indexes, the producer snapshot at the end. Whatever does not fit
//! sends the log through [`recover`](super::recover), which believes nothing above the recovery point.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::cleaner::{self, swap};
use super::directory::Directory;
use super::journal::unplaced;
use super::recover::{self, Found};
use super::segment::{Aborts, Segment};
use super::shard::Shard;
use super::state::{Identity, Inner, LogState, Status, Work};
use super::{
    Create, Error, LogConfig, OpenLog, indexes, log_starts, producers, recovery_points, removal, roll, scan,
    space, stop, transactions, truncate,
};
use crate::log::checkpoint::{decode_partition_metadata, encode_partition_metadata};
use crate::log::epoch_cache::EpochCache;
use crate::log::files::{
    FileKind, FileState, FolderState, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, SegmentFile, TRUNCATION,
    folder_name,
};
use crate::log::indexes::SegmentIndexes;
use crate::log::offset_index::OffsetIndex;
use crate::log::producer_snapshot;
use crate::log::producer_state::ProducerStates;
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::time_index::TimeIndex;
use crate::log::truncation::Truncation;
use crate::model::{LeaderEpoch, Offset, TimestampMs};
use crate::protocol::batch::BatchHeader;
use crate::reactor::{self, BLOCK_BYTES, File, Instant, OpenMode, fs};

/// One log on its way to be opened.
pub struct Opening {
    pub shard: Rc<Shard>,
    pub directory: Rc<Directory>,
    pub what: OpenLog,
    /// `topic-index`
    pub name: String,
    pub folder: PathBuf,
    /// It is compacted, or was once: its offsets may have gaps.
    pub gaps: bool,
    /// Its files are not as the last stop has left them.
    is_changed: Cell<bool>,
    /// Of a log that is loaded anew: what is known of it, unless its folder tells a truncation.
    known: Option<Truncation>,
    /// It was closed just now, whatever the last stop was like.
    is_closed: bool,
}

/// A log's state as loaded.
pub struct Loaded {
    /// At least one; the last one's file is open for writing and its indexes are in memory.
    pub segments: Vec<Rc<Segment>>,
    pub end: Offset,
    pub epochs: EpochCache,
    pub producers: ProducerStates,
    /// The files are not yet as a clean stop leaves them.
    pub touched: bool,
    /// What was cut of it just now, to be ended with [`truncate::finish`].
    pub truncation: Option<Truncation>,
}

/// See [`Storage::open`](super::Storage::open).
pub async fn open(shard: &Rc<Shard>, what: OpenLog) -> Result<Rc<LogState>, Error> {
    if shard.stopping.get() {
        return Err(Error::Closed);
    }
    let directory = Rc::clone(shard.directories.get(&what.directory).ok_or(Error::Offline)?);
    if directory.is_offline() {
        return Err(Error::Offline);
    }
    if let Some(log) = shard.logs.borrow().get(&what.partition) {
        return Ok(Rc::clone(log));
    }
    if directory.space.is_unknown() {
        space::sample(shard, &directory).await;
    }
    let name = folder_name(&what.topic_name, what.partition.index);
    let folder = directory.path.join(&name);
    let was_cleaned = cleaner::offsets::take(&directory, what.partition).await.is_some();
    let gaps = was_cleaned || what.config.cleanup.compact;
    let opening = Opening {
        shard: Rc::clone(shard),
        directory,
        what,
        name,
        folder,
        gaps,
        is_changed: Cell::new(false),
        known: None,
        is_closed: false,
    };
    let (partition, directory) = (opening.what.partition, Rc::clone(&opening.directory));
    let opened = match opening.load().await {
        Ok(loaded) => opening.finish(loaded).await,
        Err(error) => Err(error),
    };
    if opened.is_err() {
        let starts = log_starts::found(&directory).await;
        directory.log_starts.keep(partition, &starts);
        let point = recovery_points::found(&directory).await.get(&partition).copied();
        directory.kept_points.borrow_mut().extend(point.map(|point| (partition, point)));
    }
    let (log, truncation) = opened?;
    shard.logs.borrow_mut().insert(log.partition, Rc::clone(&log));
    let known = log.borrow().producers.len();
    producers::note(shard, 0, known);
    if let Some(truncation) = truncation {
        tracing::info!(
            log = log.name,
            end = truncation.end.0,
            "a truncation was ended that the last stop has cut off"
        );
        if let Err(error) = truncate::finish(&log).await {
            shard.logs.borrow_mut().remove(&log.partition);
            return Err(error);
        }
    }
    Ok(log)
}

impl Opening {
    /// Of a log that is open and loaded anew.
    pub fn again(log: &LogState, known: Option<Truncation>) -> Opening {
        let config = log.borrow().config.clone();
        let gaps = log.directory.cleaned.of(log.partition).is_some() || config.cleanup.compact;
        let what = OpenLog {
            partition: log.partition,
            topic_name: log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic).to_owned(),
            directory: log.directory.id,
            config,
            create: Create::Never,
        };
        Opening {
            shard: Rc::clone(&log.shard),
            directory: Rc::clone(&log.directory),
            what,
            name: log.name.clone(),
            folder: log.folder.clone(),
            gaps,
            is_changed: Cell::new(false),
            known,
            is_closed: false,
        }
    }

    /// Of a log whose copy in another directory is to be opened.
    pub fn moved(log: &LogState, directory: &Rc<Directory>, folder: PathBuf) -> Opening {
        let opening = Opening::again(log, None);
        let what = OpenLog { directory: directory.id, ..opening.what };
        Opening { what, directory: Rc::clone(directory), folder, is_closed: true, ..opening }
    }

    pub async fn load(&self) -> Result<Loaded, Error> {
        let Some(mut found) = self.find().await? else { return self.create().await };
        if found.segments.is_empty() {
            if self.what.create == Create::Never {
                tracing::error!(
                    log = self.name,
                    "the folder has no segment: the partition is offline; restore the folder from a copy"
                );
                return Err(Error::Offline);
            }
            return self.create().await;
        }
        let mut loaded = None;
        if (self.directory.clean || self.is_closed) && !self.is_changed.get() && found.truncation.is_none() {
            loaded = self.load_clean(&found).await?;
            if loaded.is_none() {
                tracing::warn!(log = self.name, "the files are not as a clean stop leaves them: recovering");
            }
        }
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => recover::recover(self, &mut found).await?,
        };
        self.know_transactions(&found.transactions, &loaded)
            .await
            .map_err(|error| self.unwritable(&error))?;
        Ok(loaded)
    }

    /// Notes which segments have a transaction index, and makes those again that cannot be read. `bases`: where there may be
    /// one. That of the segment that is appended to is brought to memory.
    async fn know_transactions(&self, bases: &[Offset], loaded: &Loaded) -> io::Result<()> {
        let segments: Vec<(Offset, u64)> =
            loaded.segments.iter().map(|segment| (segment.base, segment.durable_bytes.get())).collect();
        for &base in bases {
            let Ok(at) = segments.binary_search_by_key(&base, |&(base, _)| base) else { continue };
            let end = segments.get(at + 1).map_or(loaded.end, |&(next, _)| next);
            let mut index = transactions::load(&self.folder, base, end).await?;
            if index.is_none() {
                tracing::warn!(log = self.name, segment = base.0, "the transaction index is made again");
                index = Some(transactions::rebuild(&self.folder, &segments, base, end).await?);
            }
            let index = index.unwrap_or_default();
            let is_last = at + 1 == segments.len();
            *loaded.segments[at].aborts.borrow_mut() = match is_last || index.entries().is_empty() {
                true => Aborts::Known(index),
                false => Aborts::OnDisk,
            };
        }
        Ok(())
    }

    /// What the folder holds, leftovers removed; `None` if there is no folder and one may be made.
    async fn find(&self) -> Result<Option<Found>, Error> {
        let entries = match fs::list(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.what.create == Create::IfMissing {
                    return Ok(None);
                }
                tracing::error!(
                    log = self.name,
                    folder = %self.folder.display(),
                    "the partition's folder is missing: it is offline; restore the folder or delete the topic"
                );
                return Err(Error::Offline);
            }
            Err(error) => return Err(self.unreadable(&self.folder, &error)),
        };
        if !self.check_topic(entries.iter().any(|entry| entry.name == PARTITION_METADATA)).await? {
            return Ok(None);
        }
        let mut found = Found { truncation: self.known, ..Found::default() };
        let mut entries = entries;
        if entries.iter().any(|entry| entry.name == TRUNCATION) {
            let truncation =
                truncate::found(&self.folder).await.map_err(|error| self.unreadable(&self.folder, &error))?;
            truncate::cut_files(self, &truncation).await.map_err(|error| self.unwritable(&error))?;
            entries = fs::list(&self.folder).await.map_err(|error| self.unreadable(&self.folder, &error))?;
            found.truncation = Some(truncation);
        }
        let mut described = Vec::new();
        let (mut swaps, mut cleaned) = (Vec::new(), None::<Offset>);
        for entry in &entries {
            match SegmentFile::parse(&entry.name) {
                Some(SegmentFile { offset, kind: FileKind::Log, state: FileState::Swap }) => {
                    swaps.push(offset)
                }
                Some(SegmentFile { offset, kind: FileKind::Log, state: FileState::Cleaned }) => {
                    cleaned = Some(cleaned.map_or(offset, |lowest| lowest.min(offset)));
                }
                _ => {}
            }
        }
        for entry in entries {
            match SegmentFile::parse(&entry.name) {
                Some(SegmentFile { offset, kind: FileKind::Log, state: FileState::Live }) => {
                    found.segments.push((offset, entry.len));
                }
                Some(SegmentFile { offset, kind: FileKind::Snapshot, state: FileState::Live }) => {
                    found.snapshots.push(offset);
                }
                Some(file @ SegmentFile { state: FileState::Live, .. }) => {
                    if file.kind == FileKind::TxnIndex {
                        found.transactions.push(file.offset);
                    }
                    described.push(file);
                }
                Some(SegmentFile { offset, state: FileState::Swap, .. }) if swaps.contains(&offset) => {}
                Some(_) => self.remove(&entry.name).await,
                None if entry.name.ends_with(".tmp") => self.remove(&entry.name).await,
                None => {}
            }
        }
        found.segments.sort_unstable();
        found.snapshots.sort_unstable();
        // what is put in place now may have one
        found.transactions.extend(&swaps);
        let completed = swap::complete(&self.folder, &self.name, &mut found, swaps, cleaned).await;
        completed.map_err(|error| self.unwritable(&error))?;
        found.start = match found.truncation {
            // it may have gone back, or not be written down yet
            Some(truncation) => truncation.start,
            None => log_starts::found(&self.directory).await.of(self.what.partition),
        };
        self.finish_removals(&mut found, &described).await;
        Ok(Some(found))
    }

    /// Removes the files that a removal has not come to: those of segments wholly below the log start (names go in any
    /// order, so there may be holes between them), snapshots of what is gone, indexes without a segment. A segment that
    /// no snapshot is behind was not closed yet: recovery needs it for the producers and the leader epochs.
    async fn finish_removals(&self, found: &mut Found, described: &[SegmentFile]) {
        let described_end = found.snapshots.last().copied().unwrap_or(Offset::ZERO);
        let start = found.start.min(described_end);
        let kept = found.segments.partition_point(|&(base, _)| base <= start).saturating_sub(1);
        for (base, _) in found.segments.drain(..kept) {
            self.remove(&SegmentFile::live(base, FileKind::Log).name()).await;
        }
        let Some(&(first, _)) = found.segments.first() else { return };
        let stale = found.snapshots.partition_point(|&offset| offset < first);
        for offset in found.snapshots.drain(..stale) {
            self.remove(&SegmentFile::live(offset, FileKind::Snapshot).name()).await;
        }
        for file in described {
            if found.segments.binary_search_by_key(&file.offset, |&(base, _)| base).is_err() {
                self.remove(&file.name()).await;
            }
        }
    }

    /// Whether the folder is this topic's. Another topic's of the same name was deleted and is set aside.
    async fn check_topic(&self, has_metadata: bool) -> Result<bool, Error> {
        let path = self.folder.join(PARTITION_METADATA);
        let topic = self.what.partition.topic;
        if has_metadata {
            let bytes = fs::read(&path).await.map_err(|error| self.unreadable(&path, &error))?;
            match decode_partition_metadata(&String::from_utf8_lossy(&bytes)) {
                Ok(found) if found == topic => return Ok(true),
                Ok(found) if self.what.create == Create::IfMissing => {
                    tracing::info!(log = self.name, %found, %topic, "the folder is a deleted topic's: removing it");
                    let renamed = stop::set_aside(
                        &self.shard,
                        &self.directory,
                        &self.folder,
                        &self.what.topic_name,
                        self.what.partition.index,
                        FolderState::Delete,
                    );
                    renamed.await.map_err(|error| self.unwritable(&error))?;
                    return Ok(false);
                }
                Ok(found) => {
                    tracing::error!(log = self.name, %found, %topic, "the folder is another topic's: offline");
                    return Err(Error::Offline);
                }
                Err(damage) => {
                    tracing::warn!(log = self.name, %damage, "partition.metadata is written again")
                }
            }
        }
        let placed = unplaced::place(&self.directory.path, self.what.partition, &self.folder).await;
        if placed.map_err(|error| self.unwritable(&error))? {
            self.is_changed.set(true);
        }
        let text = encode_partition_metadata(topic);
        fs::write_durable(&path, text.into_bytes()).await.map_err(|error| self.unwritable(&error))?;
        Ok(true)
    }

    /// Makes the folder and the first segment, durable when it returns.
    async fn create(&self) -> Result<Loaded, Error> {
        self.create_files().await.map_err(|error| self.unwritable(&error))
    }

    async fn create_files(&self) -> io::Result<Loaded> {
        match fs::create_dir(&self.folder).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let metadata = encode_partition_metadata(self.what.partition.topic);
        fs::write_durable(&self.folder.join(PARTITION_METADATA), metadata.into_bytes()).await?;
        let segment = self.segment(Offset::ZERO);
        segment.gaps.set(false);
        roll::create_segment_file(&self.folder, &segment).await?;
        if let Some(file) = segment.open_file() {
            file.sync_data().await?;
        }
        fs::sync_dir(&self.directory.path).await?;
        *segment.indexes.borrow_mut() = Some(Box::new(self.new_indexes(Offset::ZERO)));
        Ok(Loaded {
            segments: vec![Rc::new(segment)],
            end: Offset::ZERO,
            epochs: EpochCache::default(),
            producers: ProducerStates::default(),
            touched: false,
            truncation: None,
        })
    }

    /// Loads a log that was closed; `None` if anything is not as it should be.
    async fn load_clean(&self, found: &Found) -> Result<Option<Loaded>, Error> {
        let &(base, length) = found.segments.last().expect("checked before");
        let segments: Vec<Rc<Segment>> =
            found.segments.iter().map(|&(base, length)| Rc::new(self.closed_segment(base, length))).collect();
        let segment = segments.last().expect("as many as found");
        let file = self.open_log_file(base).await?;
        let tail = self.clean_tail(segment, &file, length).await;
        let Some(end) = tail.map_err(|error| self.unreadable(&self.folder, &error))? else { return Ok(None) };
        segment.set_file(file);
        segment.closed.set(false);
        let Some(epochs) = self.epochs().await else { return Ok(None) };
        let producers = if found.snapshots.contains(&end) {
            self.snapshot(end).await
        } else {
            // nothing was ever written
            (end == found.segments[0].0).then(ProducerStates::default)
        };
        Ok(producers.map(|producers| Loaded {
            segments,
            end,
            epochs,
            producers,
            touched: false,
            truncation: None,
        }))
    }

    /// Loads the last segment's indexes and walks what lies behind their last entry; the log's end, if all fits.
    async fn clean_tail(&self, segment: &Segment, file: &File, length: u64) -> io::Result<Option<Offset>> {
        let base = segment.base;
        let mut indexes = self.new_indexes(base);
        let mut start = Start {
            base_offset: base,
            position: 0,
            next_offset: base,
            last_epoch: LeaderEpoch::NONE,
            offsets: if self.gaps { Offsets::Gaps } else { Offsets::Dense },
            max_batch_bytes: u64::from(u32::MAX),
        };
        let mut last_entry = None;
        if length > 0 {
            let Some(loaded) = self.index_files(base, length).await else { return Ok(None) };
            last_entry = loaded.offsets.last();
            indexes = loaded;
        }
        if let Some(entry) = last_entry {
            (start.position, start.offsets) = (u64::from(entry.position), Offsets::Gaps);
        }
        let interval = self.what.config.index_interval_bytes;
        let mut fits = true;
        let verdict = scan::scan(file, start, length, |header, position| {
            if last_entry.is_some_and(|entry| u64::from(entry.position) == position) {
                fits &= last_entry.is_some_and(|entry| entry.offset == header.last_offset());
            } else {
                indexes.append(indexes::placed(header, position), interval);
            }
        })
        .await?;
        *segment.indexes.borrow_mut() = Some(Box::new(indexes));
        let clean = fits && verdict.reason == Reason::CleanEnd && verdict.valid_bytes == length;
        Ok(clean.then_some(verdict.next_offset))
    }

    async fn index_files(&self, base: Offset, length: u64) -> Option<SegmentIndexes> {
        let path = |kind| self.folder.join(SegmentFile::live(base, kind).name());
        let offsets = fs::read(&path(FileKind::OffsetIndex)).await.ok()?;
        let times = fs::read(&path(FileKind::TimeIndex)).await.ok()?;
        let max_bytes = self.what.config.segment_index_bytes as usize;
        let offsets = OffsetIndex::decode(base, max_bytes.max(offsets.len()), length, &offsets).ok()?;
        let times = TimeIndex::decode(base, max_bytes.max(times.len()), Offset(i64::MAX), &times).ok()?;
        if times.is_empty() {
            return None;
        }
        Some(SegmentIndexes::loaded(offsets, times))
    }

    /// Builds the log from what was loaded.
    pub async fn finish(self, loaded: Loaded) -> Result<(Rc<LogState>, Option<Truncation>), Error> {
        let truncation = loaded.truncation;
        let inner = self.inner(loaded).await?;
        let starts = log_starts::found(&self.directory).await;
        self.directory.log_starts.comes(self.what.partition, &starts);
        let Opening { shard, directory, what, name, folder, .. } = self;
        let id = shard.next_id();
        let log =
            LogState::new(Identity { partition: what.partition, id, name, folder, directory, shard }, inner);
        if removal::is_due(&log.borrow()) {
            removal::enqueue(&log);
        }
        Ok((log, truncation))
    }

    /// The log's state, from what was loaded.
    pub async fn inner(&self, loaded: Loaded) -> Result<Inner, Error> {
        let active = Rc::clone(loaded.segments.last().expect("at least one segment"));
        let length = active.durable_bytes.get();
        let file = active.open_file().expect("the last segment is open");
        let ends = self.read_ends(&file, length).await;
        let (first_timestamp, partial_block) = ends.map_err(|error| self.unreadable(&self.folder, &error))?;
        active.first_timestamp.set(first_timestamp);
        let written = match loaded.truncation {
            Some(truncation) => truncation.start,
            None => log_starts::found(&self.directory).await.of(self.what.partition),
        };
        let start = self.start(written, &loaded);
        let mut epochs = loaded.epochs;
        let epochs_moved = epochs.truncate_from_start(start);
        Ok(Inner {
            config: self.what.config.clone(),
            status: Status::Open,
            start,
            start_asked: start,
            end: loaded.end,
            durable_end: loaded.end,
            flushed_end: loaded.end,
            committing: active,
            appended_bytes: length,
            total_bytes: loaded.segments.iter().map(|segment| segment.durable_bytes.get()).sum(),
            segments: loaded.segments,
            epochs,
            producers: loaded.producers,
            pending: Default::default(),
            pending_bytes: 0,
            boundary: None,
            cut: None,
            pending_since: Instant::default(),
            partial_block,
            journaled: 0,
            listed_in: 0,
            unflushed: false,
            tail: Default::default(),
            unclosed: Default::default(),
            work: Work::default(),
            flush_waiters: Vec::new(),
            touched: loaded.touched,
            epochs_moved,
            truncations: 0,
        })
    }

    /// The start that was written down, within what the log holds.
    fn start(&self, written: Offset, loaded: &Loaded) -> Offset {
        let (first, end) = (loaded.segments[0].base, loaded.end);
        if written > end {
            tracing::error!(
                log = self.name,
                log_start = written.0,
                end = end.0,
                "the log ends below its start: records that were flushed are lost"
            );
        }
        written.max(first).min(end)
    }

    /// The first batch's max timestamp and the bytes behind the last block boundary.
    async fn read_ends(&self, file: &File, length: u64) -> io::Result<(TimestampMs, Vec<u8>)> {
        if length == 0 {
            return Ok((TimestampMs::NONE, Vec::new()));
        }
        let first = file.read(0, BLOCK_BYTES).await?;
        let header = BatchHeader::parse(first.as_slice());
        let timestamp = header.map_or(TimestampMs::NONE, |header| header.max_timestamp);
        let behind = (length % BLOCK_BYTES as u64) as usize;
        // these bytes are written again with the next commit: they must not be another place's, so two reads agree
        let position = length - behind as u64;
        let (block, again) =
            (file.read(position, BLOCK_BYTES).await?, file.read(position, BLOCK_BYTES).await?);
        match (block.as_slice().get(..behind), again.as_slice().get(..behind)) {
            (Some(bytes), Some(again)) if bytes == again => Ok((timestamp, bytes.to_vec())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the segment's last block cannot be read")),
        }
    }

    /// A segment whose length is believed.
    pub fn closed_segment(&self, base: Offset, length: u64) -> Segment {
        let segment = self.segment(base);
        segment.found(length);
        segment.allocated.set(length);
        segment.closed.set(true);
        segment
    }

    pub fn segment(&self, base: Offset) -> Segment {
        let segment = Segment::new(base, self.shard.next_id(), TimestampMs(reactor::wall_clock_ms()));
        segment.gaps.set(self.gaps);
        segment
    }

    pub fn new_indexes(&self, base: Offset) -> SegmentIndexes {
        SegmentIndexes::new(base, self.what.config.segment_index_bytes as usize)
    }

    pub async fn open_log_file(&self, base: Offset) -> Result<File, Error> {
        let path = self.folder.join(SegmentFile::live(base, FileKind::Log).name());
        File::open(&path, OpenMode::ReadWrite).await.map_err(|error| self.unreadable(&path, &error))
    }

    /// The leader epochs on disk; empty if none were written, `None` if they cannot be read.
    pub async fn epochs(&self) -> Option<EpochCache> {
        let bytes = match fs::read(&self.folder.join(LEADER_EPOCH_CHECKPOINT)).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(EpochCache::default()),
            Err(_) => return None,
        };
        EpochCache::decode(&String::from_utf8_lossy(&bytes)).ok()
    }

    /// The producers as of `offset`, if the snapshot can be read.
    pub async fn snapshot(&self, offset: Offset) -> Option<ProducerStates> {
        let name = SegmentFile::live(offset, FileKind::Snapshot).name();
        let bytes = fs::read(&self.folder.join(name)).await.ok()?;
        producer_snapshot::decode(&bytes).ok()
    }

    /// Removes what a crash left half-way. What stays is met again at the next start.
    pub async fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(&self.folder.join(name)).await {
            tracing::warn!(log = self.name, file = name, %error, "cannot remove a leftover");
        }
    }

    pub fn unreadable(&self, path: &Path, error: &io::Error) -> Error {
        tracing::error!(log = self.name, path = %path.display(), %error, "cannot read: the partition is offline");
        Error::Offline
    }

    pub fn unwritable(&self, error: &io::Error) -> Error {
        if reactor::is_shortage(error) {
            tracing::error!(log = self.name, %error, "no room to open the log: make room or raise the limit");
            return Error::Full;
        }
        self.directory.fail(&self.shard, &format!("{}: cannot open", self.name), error);
        Error::Offline
    }

    pub fn config(&self) -> &LogConfig {
        &self.what.config
    }
}
