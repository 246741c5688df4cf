//! A cleaned segment takes the place of those it was made from, and a crash at any moment leaves either the old ones or
//! the new one.
//!
//! ```text
//!   1  b.log.cleaned, its indexes       written and flushed, names durable      a crash: removed at the next start
//!   2  .cleaned -> .swap, .log last     names durable: from here on it is done  a crash: the next start goes on
//!   3  in memory: readers go to the new segment
//!   4  the others' files go, the indexes' .swap -> in place of b.log's; durable
//!   5  b.log.swap -> b.log              durable
//! ```
//!
//! Names may become durable in any order, hence the flushes of the folder between the steps: while `b.log.swap` is there,
//! the old files may be or not, and count no more; once it is gone, no other old file is left. The next start knows
//! what the new segment replaces from its last batch, which ends where the segments it was made from ended. Offset and time
//! indexes that are in doubt are removed and made again; a transaction index, which cannot be, is always replaced by name.

use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::rewrite::failed;
use super::{Source, Stop, check};
use crate::log::files::{FileKind, FileState, SegmentFile};
use crate::log::indexes::SegmentIndexes;
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::txn_index::TxnIndex;
use crate::model::{LeaderEpoch, Offset, TimestampMs};
use crate::reactor::{self, File, OpenMode, fs};
use crate::storage::recover::Found;
use crate::storage::scan;
use crate::storage::segment::{Aborts, Segment};
use crate::storage::state::LogState;

/// A file that is done, under its `.cleaned` name.
pub struct Cleaned {
    pub base: Offset,
    pub file: File,
    pub length: u64,
    pub indexes: SegmentIndexes,
    pub transactions: TxnIndex,
    /// The segment it replaces, or it, has a transaction index.
    pub has_transactions: bool,
}

/// What describes a log file; all of it can be made again, but for the transaction index.
const INDEXES: [FileKind; 3] = [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex];

pub fn name(offset: Offset, kind: FileKind, state: FileState) -> String {
    SegmentFile { offset, kind, state }.name()
}

/// Removes what a cleaning has written and will not use. What stays goes at the next start.
pub async fn undo(log: &LogState, base: Offset) {
    for kind in [FileKind::Log].into_iter().chain(INDEXES) {
        let _ = fs::remove_file(&log.folder.join(name(base, kind, FileState::Cleaned))).await;
    }
}

/// Puts the segment in the place of its sources.
pub async fn replace(log: &Rc<LogState>, sources: &[Source], cleaned: Cleaned) -> Result<(), Stop> {
    let written = write_indexes(log, &cleaned).await;
    written.map_err(|error| failed(log, &error, 0))?;
    // Whoever reads an old one goes on reading it, under whatever name: its file stays open.
    let mut keepers = Vec::with_capacity(sources.len());
    for Source { segment, .. } in sources {
        let opened = segment.file(&log.folder).await;
        opened.map_err(|error| {
            Stop::Uncleanable(format!("segment {} cannot be opened: {error}", segment.base))
        })?;
        keepers.push(Keeper::open(log, segment).await);
    }
    // Nor may an old one's indexes be written under names that are the new one's by then.
    while sources.iter().any(|source| source.segment.describing.get()) {
        reactor::sleep(PAUSE).await;
    }
    check(log)?;
    {
        let inner = &mut *log.borrow_mut();
        if find(&inner.segments, sources).is_none() {
            return Err(Stop::Gone);
        }
        inner.work.replacing = true;
    }
    let swapped = swap(log, sources, cleaned).await;
    log.borrow_mut().work.replacing = false;
    log.settled.notify();
    let segment = swapped.map_err(|error| {
        // From here on only a start knows what is there.
        log.directory.fail(
            &log.shard,
            &format!("{}: cannot put a compacted segment in place", log.name),
            &error,
        );
        Stop::Gone
    })?;
    log.shard.warm.note(&segment);
    reactor::spawn(release(keepers));
    Ok(())
}

/// Where the sources stand in the log, if they still do.
fn find(segments: &[Rc<Segment>], sources: &[Source]) -> Option<usize> {
    let first = segments.iter().position(|segment| segment.id == sources[0].segment.id)?;
    let there = segments.get(first..first + sources.len())?;
    let same = there.iter().zip(sources).all(|(segment, source)| segment.id == source.segment.id);
    // the last segment is never replaced
    (same && first + sources.len() < segments.len()).then_some(first)
}

async fn write_indexes(log: &LogState, cleaned: &Cleaned) -> io::Result<()> {
    let (mut offsets, mut times, mut transactions) = (Vec::new(), Vec::new(), Vec::new());
    cleaned.indexes.offsets.encode(0, &mut offsets);
    cleaned.indexes.times.encode(0, &mut times);
    cleaned.transactions.encode(0, &mut transactions);
    for (kind, bytes) in INDEXES.into_iter().zip([offsets, times, transactions]) {
        if kind == FileKind::TxnIndex && !cleaned.has_transactions {
            continue;
        }
        let path = log.folder.join(name(cleaned.base, kind, FileState::Cleaned));
        fs::write(&path, bytes).await?;
        File::open(&path, OpenMode::ReadWrite).await?.sync_data().await?;
    }
    fs::sync_dir(&log.folder).await
}

/// Steps 2 to 5; the new segment.
async fn swap(log: &Rc<LogState>, sources: &[Source], cleaned: Cleaned) -> io::Result<Rc<Segment>> {
    let Cleaned { base, file, length, indexes, transactions, has_transactions } = cleaned;
    let kinds: Vec<FileKind> =
        INDEXES.into_iter().filter(|kind| *kind != FileKind::TxnIndex || has_transactions).collect();
    for &kind in kinds.iter().chain(&[FileKind::Log]) {
        rename(&log.folder, base, kind, FileState::Cleaned, FileState::Swap).await?;
    }
    fs::sync_dir(&log.folder).await?;

    let segment = Segment::new(base, log.shard.next_id(), TimestampMs(reactor::wall_clock_ms()));
    segment.found(length);
    segment.allocated.set(length);
    segment.closed.set(true);
    segment.gaps.set(true);
    segment.rebuilt.set(true);
    segment.latest.set(Some(indexes.max_timestamp()));
    *segment.indexes.borrow_mut() = Some(Box::new(indexes));
    *segment.aborts.borrow_mut() = Aborts::Known(transactions);
    // Its name is an old one's until the end. It is not among those that `warm` closes, so nobody opens it by name.
    segment.set_file(file);
    let segment = Rc::new(segment);
    {
        let inner = &mut *log.borrow_mut();
        let first =
            find(&inner.segments, sources).expect("nobody else replaces or removes segments meanwhile");
        inner.segments.splice(first..first + sources.len(), [Rc::clone(&segment)]);
        log.new_edition();
        let before: u64 = sources.iter().map(|source| source.segment.durable_bytes.get()).sum();
        inner.total_bytes = inner.total_bytes - before + length;
        inner.tail.forget_below(sources[sources.len() - 1].end, &log.shard.tails);
    }
    let ids: Vec<u64> = sources.iter().map(|source| source.segment.id).collect();
    sources.iter().for_each(|source| source.segment.retired.set(true));
    log.shard.chunks.forget_segments(log.id, &ids);

    let others: Vec<Offset> = sources[1..].iter().map(|source| source.segment.base).collect();
    put_in_place(&log.folder, base, &others, &others).await?;
    Ok(segment)
}

/// Steps 4 and 5. `others`: bases of the other segments it replaces; `snapshots`: those between them.
async fn put_in_place(
    folder: &Path,
    base: Offset,
    others: &[Offset],
    snapshots: &[Offset],
) -> io::Result<()> {
    for &other in others {
        for kind in INDEXES.into_iter().chain([FileKind::Log]) {
            remove(folder, other, kind).await?;
        }
    }
    for &snapshot in snapshots {
        remove(folder, snapshot, FileKind::Snapshot).await?;
    }
    for kind in INDEXES {
        match rename(folder, base, kind, FileState::Swap, FileState::Live).await {
            // what is there may be the old segment's, unless it was renamed before a crash
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if kind != FileKind::TxnIndex {
                    remove(folder, base, kind).await?;
                }
            }
            renamed => renamed?,
        }
    }
    fs::sync_dir(folder).await?;
    rename(folder, base, FileKind::Log, FileState::Swap, FileState::Live).await?;
    fs::sync_dir(folder).await
}

async fn rename(
    folder: &Path,
    base: Offset,
    kind: FileKind,
    from: FileState,
    to: FileState,
) -> io::Result<()> {
    fs::rename(&folder.join(name(base, kind, from)), &folder.join(name(base, kind, to))).await
}

async fn remove(folder: &Path, offset: Offset, kind: FileKind) -> io::Result<()> {
    match fs::remove_file(&folder.join(name(offset, kind, FileState::Live))).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A replaced segment's file, to be shortened before it goes: to remove a large one at once holds up flushes.
struct Keeper {
    segment: Weak<Segment>,
    file: File,
    length: u64,
}

/// A file is shortened by this much at once.
const STEP_BYTES: u64 = 4 << 20;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(5);

impl Keeper {
    /// Only for large files, and only if it can be had.
    async fn open(log: &LogState, segment: &Rc<Segment>) -> Option<Keeper> {
        let length = segment.durable_bytes.get();
        if length <= STEP_BYTES {
            return None;
        }
        let path = log.folder.join(segment.file_name(FileKind::Log));
        let file = File::open(&path, OpenMode::ReadWrite).await.ok()?;
        Some(Keeper { segment: Rc::downgrade(segment), file, length })
    }
}

/// Gives back the space of files that have no name any more, when their last reader is gone.
async fn release(keepers: Vec<Option<Keeper>>) {
    for Keeper { segment, file, mut length } in keepers.into_iter().flatten() {
        while segment.strong_count() > 0 {
            reactor::sleep(PAUSE).await;
        }
        while length > STEP_BYTES {
            length -= STEP_BYTES;
            if file.truncate(length).await.is_err() {
                break;
            }
            reactor::sleep(PAUSE).await;
        }
    }
}

/// At boot: completes the swaps that a crash has interrupted behind step 2. `found` becomes what the folder holds then.
/// `swaps` are bases of `.log.swap` files; `cleaned` the lowest of `.log.cleaned` files, if there is any: Kafka may have
/// cut one segment into several, which count only when all of them are there.
pub async fn complete(
    folder: &Path,
    log: &str,
    found: &mut Found,
    mut swaps: Vec<Offset>,
    cleaned: Option<Offset>,
) -> io::Result<()> {
    swaps.sort_unstable();
    if !swaps.is_empty() {
        // the `.swap` names may not be durable yet, and nothing they replace may go before they are
        fs::sync_dir(folder).await?;
    }
    for base in swaps {
        if cleaned.is_some_and(|cleaned| base >= cleaned) {
            fs::remove_file(&folder.join(name(base, FileKind::Log, FileState::Swap))).await?;
            continue;
        }
        let path = folder.join(name(base, FileKind::Log, FileState::Swap));
        let Some((end, length)) = whole(&path, base).await? else {
            let aside = path.with_extension("swap.damaged");
            tracing::error!(
                log,
                file = %path.display(),
                set_aside_as = %aside.display(),
                "a compacted segment that was being put in place is damaged: it is not used"
            );
            fs::rename(&path, &aside).await?;
            fs::sync_dir(folder).await?;
            continue;
        };
        let inside = |offset: &Offset| *offset > base && *offset < end;
        let others: Vec<Offset> = found.segments.iter().map(|(base, _)| *base).filter(inside).collect();
        let snapshots: Vec<Offset> = found.snapshots.iter().copied().filter(inside).collect();
        put_in_place(folder, base, &others, &snapshots).await?;
        found.segments.retain(|(other, _)| *other != base && !inside(other));
        found.segments.push((base, length));
        found.segments.sort_unstable();
        found.snapshots.retain(|offset| !inside(offset));
        tracing::info!(log, segment = base.0, end = end.0, "a compacted segment was put in place");
    }
    Ok(())
}

/// The exclusive end and the length of a segment file, if all of it is good.
async fn whole(path: &Path, base: Offset) -> io::Result<Option<(Offset, u64)>> {
    let file = File::open(path, OpenMode::Read).await?;
    let length = file.len().await?;
    let start = Start {
        base_offset: base,
        position: 0,
        next_offset: base,
        last_epoch: LeaderEpoch::NONE,
        offsets: Offsets::Gaps,
        max_batch_bytes: u64::from(u32::MAX),
    };
    let verdict = scan::scan(&file, start, length, |_, _| {}).await?;
    let good = verdict.reason == Reason::CleanEnd && verdict.valid_bytes == length && length > 0;
    Ok(good.then_some((verdict.next_offset, length)))
}
