//! A closed segment's offset and time indexes: loaded when a read first needs them, made again when they are missing, short or
//! corrupt. The indexes of the segment that is appended to are always in memory.

use std::rc::Rc;

use super::segment::{Aborts as InMemory, Segment};
use super::state::LogState;
use super::{Error, roll, scan, transactions};
use crate::log::Damage;
use crate::log::files::FileKind;
use crate::log::indexes::{Placed, SegmentIndexes};
use crate::log::offset_index::OffsetIndex;
use crate::log::producer_state::EndTxn;
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::time_index::{TimeIndex, TimestampOffset};
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::reactor::{self, fs};

/// An index whose last entry is further than this (and the interval) from the segment's end lost its tail.
const SHORT_BYTES: u64 = 16 << 20;

/// Runs `look` on the segment's indexes, in memory or brought there.
pub async fn with<T>(
    log: &LogState,
    segment: &Rc<Segment>,
    look: impl Fn(&SegmentIndexes) -> T,
) -> Result<T, Error> {
    if let Some(indexes) = segment.indexes.borrow().as_ref() {
        return Ok(look(indexes));
    }
    // the files of a segment's name are another's once it is retired
    let loaded = match segment.retired.get() {
        false => load(log, segment).await,
        true => Err(Damage("the segment is being replaced".into())),
    };
    let indexes = match loaded {
        // while they were read, they may have become another's
        Ok(_) if segment.retired.get() => make(log, segment).await?.indexes,
        Ok(indexes) => indexes,
        Err(damage) => {
            if !segment.retired.get() {
                tracing::warn!(log = log.name, segment = segment.base.0, %damage, "index is made again");
            }
            let Made { indexes, aborts, .. } = make(log, segment).await?;
            let found = look(&indexes);
            keep(log, segment, indexes);
            write_back(log, segment, aborts).await;
            return Ok(found);
        }
    };
    let found = look(&indexes);
    keep(log, segment, indexes);
    Ok(found)
}

/// The segment's largest timestamp so far, and the last offset of its batch. Does not bring the indexes of a closed
/// segment to memory: retention and searches by time pass over many.
pub async fn latest(log: &LogState, segment: &Rc<Segment>) -> Result<TimestampOffset, Error> {
    // What is said of a segment that still grows is true only now.
    let closed = segment.closed.get();
    if let Some(latest) = segment.latest.get().filter(|_| closed) {
        return Ok(latest);
    }
    let is_in_memory = segment.indexes.borrow().is_some();
    let loaded = if is_in_memory { None } else { load(log, segment).await.ok() };
    let latest = match loaded {
        Some(indexes) => indexes.max_timestamp(),
        // in memory, or to be made again
        None => with(log, segment, SegmentIndexes::max_timestamp).await?,
    };
    if closed {
        segment.latest.set(Some(latest));
    }
    Ok(latest)
}

/// A bad batch was met on the way the index showed, and the index has not been made again yet.
pub fn may_be_wrong(segment: &Segment) -> bool {
    !segment.rebuilt.get()
}

/// Makes the indexes from the segment's batches.
pub async fn rebuild(log: &LogState, segment: &Rc<Segment>) -> Result<(), Error> {
    let (indexes, aborts) = loop {
        let grows = !segment.closed.get();
        let Made { mut indexes, aborts, end, next } = make(log, segment).await?;
        if grows && segment.closed.get() {
            // what was appended to it meanwhile was not scanned
            continue;
        }
        if let Some(live) = segment.indexes.borrow().as_ref().filter(|_| grows) {
            // of what was appended meanwhile, and of what is not written yet, those in memory tell
            indexes.go_on_as(live, end, next);
        }
        break (indexes, aborts);
    };
    keep(log, segment, indexes);
    write_back(log, segment, aborts).await;
    Ok(())
}

/// What a scan has made.
struct Made {
    indexes: SegmentIndexes,
    aborts: Aborts,
    /// Where the scan has ended, and the offset of what lies there.
    end: u64,
    next: Offset,
}

/// Whether a marker that aborts a transaction was met: then the transaction index may have to be made again, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aborts {
    None,
    Some,
}

/// Puts indexes that were made again on disk, for the next start. If that fails, they are made again then.
async fn write_back(log: &LogState, segment: &Rc<Segment>, aborts: Aborts) {
    // a retired segment's names are another's; one that is about to be is read no more after the next start
    if log.directory.is_offline()
        || !segment.closed.get()
        || segment.retired.get()
        || log.borrow().work.replacing
        || log.borrow().work.held
    {
        return;
    }
    // a replacement waits for this: in a task of its own, so that it ends whoever waits for it
    segment.describing.set(true);
    let (folder, described) = (log.folder.clone(), Rc::clone(segment));
    let (segments, end) = {
        let inner = log.borrow();
        let places = inner.segments.iter().map(|segment| (segment.base, segment.written_bytes.get()));
        (places.collect::<Vec<_>>(), inner.segment_after(segment).map_or(inner.durable_end, |next| next.base))
    };
    let writing = reactor::spawn(async move {
        let mut written = roll::write_indexes(&folder, &described).await;
        // of compacted transactions only the markers are left, and the file says more than the batches
        if written.is_ok() && aborts == Aborts::Some && !described.gaps.get() {
            let rebuilt = transactions::rebuild(&folder, &segments, described.base, end).await;
            written = rebuilt.map(|index| *described.aborts.borrow_mut() = InMemory::Known(index));
        }
        described.describing.set(false);
        written
    });
    if let Err(error) = writing.await {
        tracing::warn!(log = log.name, segment = segment.base.0, %error, "cannot write the index");
    }
}

fn keep(log: &LogState, segment: &Rc<Segment>, indexes: SegmentIndexes) {
    *segment.indexes.borrow_mut() = Some(Box::new(indexes));
    log.shard.warm.note(segment);
}

/// Reads the index files.
async fn load(log: &LogState, segment: &Segment) -> Result<SegmentIndexes, Damage> {
    let log_bytes = segment.written_bytes.get();
    let (end, max_bytes) = {
        let inner = log.borrow();
        let end = inner.segment_after(segment).map_or(inner.durable_end, |next| next.base);
        (end, inner.config.segment_index_bytes as usize)
    };
    let missing = |error: std::io::Error| Damage(error.to_string());
    let offsets =
        fs::read(&log.folder.join(segment.file_name(FileKind::OffsetIndex))).await.map_err(missing)?;
    let times = fs::read(&log.folder.join(segment.file_name(FileKind::TimeIndex))).await.map_err(missing)?;
    let base = segment.base;
    // up to 5 MiB
    let (offsets, times) = reactor::blocking(move || {
        let offsets = OffsetIndex::decode(base, max_bytes.max(offsets.len()), log_bytes, &offsets)?;
        Ok((offsets, TimeIndex::decode(base, max_bytes.max(times.len()), end, &times)?))
    })
    .await?;
    let reach = offsets.last().map_or(0, |last| u64::from(last.position));
    // a closed segment's largest timestamp is always there, unless compaction has left nothing but a header
    if times.is_empty() && log_bytes > HEADER_BYTES as u64 {
        return Err(Damage("the time index is empty".into()));
    }
    if log_bytes - reach > SHORT_BYTES {
        return Err(Damage(format!("the offset index ends at position {reach} of {log_bytes}")));
    }
    Ok(SegmentIndexes::loaded(offsets, times))
}

/// Scans the segment. Damaged batches are passed over where the next good one can be found.
async fn make(log: &LogState, segment: &Rc<Segment>) -> Result<Made, Error> {
    segment.rebuilt.set(true);
    let (interval, max_bytes) = {
        let config = &log.borrow().config;
        (config.index_interval_bytes, config.segment_index_bytes as usize)
    };
    let failed = |error: std::io::Error| {
        tracing::error!(log = log.name, segment = segment.base.0, %error, "cannot read the segment");
        Error::Offline
    };
    let (file, _) = segment.file(&log.folder).await.map_err(failed)?;
    let end = segment.written_bytes.get();
    let mut indexes = SegmentIndexes::new(segment.base, max_bytes);
    let mut position = 0;
    let mut next_offset = segment.base;
    let mut aborts = Aborts::None;
    while position < end {
        let start = Start {
            base_offset: segment.base,
            position,
            next_offset,
            last_epoch: LeaderEpoch::NONE,
            offsets: Offsets::Gaps,
            max_batch_bytes: u64::from(u32::MAX),
        };
        let verdict = scan::scan_with_markers(&file, start, end, |header, at, marker| {
            indexes.append(placed(header, at), interval);
            if marker.is_some_and(|marker| marker.end == EndTxn::Abort) {
                aborts = Aborts::Some;
            }
        })
        .await;
        let verdict = verdict.map_err(failed)?;
        next_offset = verdict.next_offset;
        if verdict.reason == Reason::CleanEnd {
            break;
        }
        let good = scan::next_good(&file, verdict.valid_bytes, end, next_offset).await.map_err(failed)?;
        let Some((at, _)) = good else { break };
        position = at;
    }
    if segment.closed.get() {
        indexes.close();
    }
    Ok(Made { indexes, aborts, end, next: next_offset })
}

/// One batch as the indexes see it.
pub fn placed(header: &BatchHeader, position: u64) -> Placed {
    Placed {
        position: u32::try_from(position).unwrap_or(u32::MAX),
        bytes: u32::try_from(header.total_bytes).unwrap_or(u32::MAX),
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp,
    }
}
