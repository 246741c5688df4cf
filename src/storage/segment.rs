//! One segment: its file, how far it is durable, its indexes while they are in memory.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;

use crate::log::files::{FileKind, SegmentFile};
use crate::log::indexes::SegmentIndexes;
use crate::log::time_index::TimestampOffset;
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::{Offset, TimestampMs};
use crate::reactor::{BLOCK_BYTES, File, OpenMode};

/// Preallocation grows a segment by as much as it already holds, within these bounds: writes into reserved space are
/// a third faster than extending the file (machine-limits: 74 against 111 µs for 16 KiB), and a partition with
/// little data keeps little disk. So `du` never shows more than data + max(64 KiB, min(data, 16 MiB)) for the active
/// segment, and no more than the data for any other. An empty segment reserves nothing. With preallocate the first write
/// reserves all of segment.bytes.
const ALLOCATE_MIN_BYTES: u64 = 64 << 10;
const ALLOCATE_MAX_BYTES: u64 = 16 << 20;

pub struct Segment {
    pub base: Offset,
    /// Unique in the shard: names the segment in the read cache.
    pub id: u64,
    file: RefCell<Option<File>>,
    /// Bytes of durable batches: what may be read. Equals the file's length once the segment is closed.
    pub durable_bytes: Cell<u64>,
    /// So many of them are in the file; the rest is in the journal, and in the tail cache for reads.
    pub written_bytes: Cell<u64>,
    /// So many of those in the file are flushed there.
    pub flushed_bytes: Cell<u64>,
    /// The file is at least this long.
    pub allocated: Cell<u64>,
    /// Trimmed, flushed, its indexes and the state at its end written.
    pub closed: Cell<bool>,
    /// Compaction may have left gaps between its offsets.
    pub gaps: Cell<bool>,
    /// Compaction has put another segment in its place: its file stays open for whoever still reads it, and its names are
    /// not its own any more.
    pub retired: Cell<bool>,
    /// Its index files are being written again, under its names.
    pub describing: Cell<bool>,
    /// The first batch's max timestamp and when the segment was made, for the roll rule.
    pub first_timestamp: Cell<TimestampMs>,
    pub created: TimestampMs,
    /// The largest timestamp; final once the segment is closed.
    pub latest: Cell<Option<TimestampOffset>>,
    /// Position of the damage that was logged last.
    pub reported: Cell<Option<u64>>,
    /// The indexes were made from the batches, so they are not what is wrong.
    pub rebuilt: Cell<bool>,
    /// Always there for the segment that is appended to, in which it counts batches that are still queued.
    pub indexes: RefCell<Option<Box<SegmentIndexes>>>,
    /// Always [`Aborts::Known`] for the segment that is appended to, where it counts markers that are still queued.
    pub aborts: RefCell<Aborts>,
}

/// The aborted transactions whose marker lies in a segment.
pub enum Aborts {
    /// All of them. Most segments have none, which takes no memory.
    Known(TxnIndex),
    /// The transaction index on disk tells.
    OnDisk,
}

impl Segment {
    pub fn new(base: Offset, id: u64, created: TimestampMs) -> Segment {
        Segment {
            base,
            id,
            file: RefCell::new(None),
            durable_bytes: Cell::new(0),
            written_bytes: Cell::new(0),
            flushed_bytes: Cell::new(0),
            allocated: Cell::new(0),
            closed: Cell::new(false),
            gaps: Cell::new(false),
            retired: Cell::new(false),
            describing: Cell::new(false),
            first_timestamp: Cell::new(TimestampMs::NONE),
            created,
            latest: Cell::new(None),
            reported: Cell::new(None),
            rebuilt: Cell::new(false),
            indexes: RefCell::new(None),
            aborts: RefCell::new(Aborts::Known(TxnIndex::default())),
        }
    }

    /// The file was found with so many bytes of batches.
    pub fn found(&self, bytes: u64) {
        self.durable_bytes.set(bytes);
        self.written_bytes.set(bytes);
        self.flushed_bytes.set(bytes);
    }

    /// A marker was appended that aborts a transaction.
    pub fn add_abort(&self, txn: AbortedTxn) {
        let Aborts::Known(index) = &mut *self.aborts.borrow_mut() else {
            unreachable!("the aborts of the segment that is appended to are in memory")
        };
        assert!(index.append(txn), "offsets grow");
    }

    /// Entries of the transaction index that are in memory.
    pub fn aborts_in_memory(&self) -> usize {
        match &*self.aborts.borrow() {
            Aborts::Known(index) => index.entries().len(),
            Aborts::OnDisk => 0,
        }
    }

    /// Gives up what the transaction index on disk can tell again. Only of a segment that is closed.
    pub fn drop_aborts(&self) {
        if self.aborts_in_memory() > 0 && !self.retired.get() {
            *self.aborts.borrow_mut() = Aborts::OnDisk;
        }
    }

    pub fn file_name(&self, kind: FileKind) -> String {
        SegmentFile::live(self.base, kind).name()
    }

    pub fn set_file(&self, file: File) {
        *self.file.borrow_mut() = Some(file);
    }

    /// The file if it is open.
    pub fn open_file(&self) -> Option<File> {
        self.file.borrow().clone()
    }

    pub fn drop_file(&self) {
        if !self.retired.get() {
            *self.file.borrow_mut() = None;
        }
    }

    /// The file, opened for reading if it is not open.
    pub async fn file(&self, folder: &Path) -> io::Result<(File, WasOpen)> {
        if let Some(file) = self.open_file() {
            return Ok((file, WasOpen::Yes));
        }
        let file = File::open(&folder.join(self.file_name(FileKind::Log)), OpenMode::Read).await?;
        // while it was being opened, another may have opened it, and its name may have gone to another segment
        if let Some(file) = self.open_file() {
            return Ok((file, WasOpen::Yes));
        }
        self.set_file(file.clone());
        Ok((file, WasOpen::No))
    }

    /// How long the file should be made before `needed` bytes are written, if it is too short.
    pub fn allocation(&self, needed: u64, segment_bytes: u64, ahead: Ahead) -> Option<u64> {
        if needed <= self.allocated.get() {
            return None;
        }
        if ahead == Ahead::Whole {
            return Some(segment_bytes.next_multiple_of(BLOCK_BYTES as u64).max(needed));
        }
        let data = self.written_bytes.get();
        let step = data.next_power_of_two().clamp(ALLOCATE_MIN_BYTES, ALLOCATE_MAX_BYTES);
        let wanted = data.next_multiple_of(ALLOCATE_MIN_BYTES) + step;
        Some(wanted.min(segment_bytes.next_multiple_of(ALLOCATE_MIN_BYTES)).max(needed))
    }
}

/// How much of a segment is reserved at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    Step,
    /// preallocate
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasOpen {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_doubles_within_bounds() {
        let check = |data: u64, allocated: u64, needed: u64, segment_bytes: u64, expect: Option<u64>| {
            let segment = Segment::new(Offset::ZERO, 0, TimestampMs::NONE);
            segment.written_bytes.set(data);
            segment.allocated.set(allocated);
            let length = segment.allocation(needed, segment_bytes, Ahead::Step);
            assert_eq!(length, expect, "{data} {allocated} {needed}");
        };
        check(0, 0, 4096, 1 << 30, Some(64 << 10));
        check(0, 64 << 10, 4096, 1 << 30, None);
        check(64 << 10, 64 << 10, 68 << 10, 1 << 30, Some(128 << 10));
        check(1 << 20, 1 << 20, (1 << 20) + 4096, 1 << 30, Some(2 << 20));
        check(100 << 20, 100 << 20, (100 << 20) + 4096, 1 << 30, Some(116 << 20));
        // one write may need more than the step, and the segment's end is a bound unless a batch passes it
        check(0, 0, 1 << 20, 1 << 30, Some(1 << 20));
        check(0, 0, 4096, 16 << 10, Some(64 << 10));
        check(100 << 20, 100 << 20, (100 << 20) + 4096, 101 << 20, Some(101 << 20));
        let segment = Segment::new(Offset::ZERO, 0, TimestampMs::NONE);
        assert_eq!(segment.allocation(4096, 1 << 20, Ahead::Whole), Some(1 << 20));
        assert_eq!(segment.allocation(2 << 20, 1 << 20, Ahead::Whole), Some(2 << 20));
        segment.allocated.set(1 << 20);
        assert_eq!(segment.allocation(1 << 20, 1 << 20, Ahead::Whole), None);
    }
}
