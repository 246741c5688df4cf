//! After an unclean stop: which bytes are kept.
//!
//! Everything below the recovery point was flushed and described. So the scan begins with the segment that holds it
//! and goes to the end. At or above the point the log is cut at the first bad batch: what is cut is copied aside
//! first, later segments are renamed aside. Damage below the point is not a torn write but a disk that lost data:
//! it stays, is reported, and answers `Corrupt` when it is read.
//!
//! Indexes, leader epochs and producer state of the scanned part are made from its batches. At the end everything
//! that is kept is flushed, files first, then folders; what lies above the recovery point is [written
//! again](super::again) before that, for nobody knows whether its last flush has failed.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::Error;
use super::open::{Loaded, Opening};
use super::producers::Recovering;
use super::segment::Segment;
use super::state::EndState;
use super::{again, indexes, recovery_points, roll, scan, transactions};
use crate::log::control::replay;
use crate::log::epoch_cache::EpochCache;
use crate::log::files::{FileKind, LEADER_EPOCH_CHECKPOINT, SegmentFile};
use crate::log::indexes::SegmentIndexes;
use crate::log::producer_snapshot;
use crate::log::producer_state::ProducerStates;
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::truncation::Truncation;
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{BLOCK_BYTES, Buf, File, OpenMode, fs};

/// A log's folder.
#[derive(Default)]
pub struct Found {
    /// Base offset and file length, ascending.
    pub segments: Vec<(Offset, u64)>,
    /// Offsets of the producer snapshots, ascending.
    pub snapshots: Vec<Offset>,
    /// Bases of segments that may have a transaction index.
    pub transactions: Vec<Offset>,
    /// The log start as it was written down; zero if it never was.
    pub start: Offset,
    /// What was cut of it just now: everything that stays is flushed.
    pub truncation: Option<Truncation>,
}

/// What the scan has learned so far.
struct Scan<'a> {
    opening: &'a Opening,
    recovery_point: Offset,
    next: Offset,
    epochs: EpochCache,
    producers: ProducerStates,
    /// Batches below it are in `producers` already.
    producers_at: Offset,
    memory: Recovering,
}

/// Recovers the log and flushes what is kept.
pub async fn recover(opening: &Opening, found: &mut Found) -> Result<Loaded, Error> {
    let (mut scan, first) = begin(opening, found).await?;
    let mut segments: Vec<Rc<Segment>> = found.segments[..first]
        .iter()
        .map(|&(base, length)| Rc::new(opening.closed_segment(base, length)))
        .collect();
    let mut rest: VecDeque<Offset> = found.segments[first..].iter().map(|&(base, _)| base).collect();
    while let Some(base) = rest.pop_front() {
        scan.enter(base);
        let file = opening.open_log_file(base).await?;
        let segment = Rc::new(opening.segment(base));
        let offsets = scan.offsets(rest.is_empty());
        found.transactions.push(base);
        let end = scan.segment(&segment, &file, offsets).await.map_err(|failed| match failed {
            again::Failed::Read(error) => opening.unreadable(&opening.folder, &error),
            again::Failed::Write(error) => opening.unwritable(&error),
        })?;
        segment.set_file(file);
        let end = match end {
            End::Good if rest.is_empty() && scan.next < scan.recovery_point => {
                scan.report_lost_end(&segment);
                End::Damaged
            }
            end => end,
        };
        let goes_on = match (end, rest.front()) {
            (End::Good, Some(&next)) => scan.reaches(next),
            (End::Cut, _) | (End::Good, None) => false,
            (End::Damaged, next) => {
                scan.next = next.copied().unwrap_or(scan.next.max(scan.recovery_point));
                true
            }
        };
        segments.push(Rc::clone(&segment));
        if goes_on {
            scan.close(&segment, rest.front().copied()).await.map_err(|error| opening.unwritable(&error))?;
            continue;
        }
        scan.cut(&segment, &rest).await.map_err(|error| opening.unwritable(&error))?;
        rest.clear();
    }
    if segments.last().is_some_and(|last| last.closed.get()) {
        segments.push(scan.new_segment().await.map_err(|error| opening.unwritable(&error))?);
    }
    let kept = scan.keep(segments.last().expect("one was scanned"), &found.snapshots);
    kept.await.map_err(|error| opening.unwritable(&error))?;
    tracing::debug!(
        log = opening.name,
        recovery_point = scan.recovery_point.0,
        end = scan.next.0,
        truncated = found.truncation.is_some(),
        "the log was recovered"
    );
    let Scan { next, epochs, producers, .. } = scan;
    let truncation = found.truncation;
    Ok(Loaded { segments, end: next, epochs, producers, touched: true, truncation })
}

/// Where the scan begins: the recovery point, the segment, and the state at its first batch.
async fn begin<'a>(opening: &'a Opening, found: &Found) -> Result<(Scan<'a>, usize), Error> {
    let points = recovery_points::found(&opening.directory).await;
    // a start is moved only over what is flushed and described
    let mut recovery_point = match found.truncation {
        Some(truncation) => truncation.end,
        None => points.get(&opening.what.partition).copied().unwrap_or(Offset::ZERO).max(found.start),
    };
    let floor =
        |offset: Offset| found.segments.partition_point(|&(base, _)| base <= offset).saturating_sub(1);

    // the newest snapshot is a recovery point too; the newest below the first scanned segment is where producer
    // state begins
    let mut start = None;
    for &offset in found.snapshots.iter().rev() {
        let Some(producers) = opening.snapshot(offset).await else { continue };
        recovery_point = recovery_point.max(offset);
        if offset <= found.segments[floor(recovery_point)].0 {
            start = Some((offset, producers));
            break;
        }
    }
    let (producers_at, producers) = start.unwrap_or_default();
    let mut first = floor(producers_at);
    let mut epochs = opening.epochs().await.unwrap_or_else(|| {
        tracing::warn!(log = opening.name, "the leader epochs are made again from all batches");
        first = 0;
        EpochCache::default()
    });
    let base = found.segments[first].0;
    if epochs.last_epoch() == LeaderEpoch::NONE {
        first = 0;
    }
    // what the scanned batches tell comes again, but the epoch in force at a log start may have no batch left
    let is_start = base == found.start && base > Offset::ZERO;
    epochs.truncate_from_end(if is_start { base.plus(1) } else { base });
    let next = found.segments[first].0;
    let memory = Recovering::new(&opening.shard, &producers);
    Ok((Scan { opening, recovery_point, next, epochs, producers, producers_at, memory }, first))
}

enum End {
    /// Good batches up to the end, or to zeros.
    Good,
    /// Bad at or above the recovery point.
    Cut,
    /// Bad below the recovery point, and nothing good behind it.
    Damaged,
}

/// What a segment's batches tell of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Everything,
    /// Compacted, or damaged: the transaction index may say more.
    Parts,
}

impl Scan<'_> {
    /// Where gaps may be. Only closed segments are compacted, which lie below the recovery point.
    fn offsets(&self, is_last: bool) -> Offsets {
        match (self.opening.gaps, is_last) {
            (false, _) => Offsets::Dense,
            (true, true) => Offsets::DenseFrom(self.recovery_point),
            (true, false) => Offsets::Gaps,
        }
    }

    /// A segment with this base comes next. A compacted one ends where the next begins, too.
    fn enter(&mut self, base: Offset) {
        if base != self.next {
            tracing::error!(
                log = self.opening.name,
                from = self.next.0,
                to = base.0,
                "records below the recovery point are missing: they were on disk and are lost"
            );
            self.next = base;
        }
    }

    /// Whether the next segment follows on what was scanned. If it does not, but everything up to it was durable
    /// once, then what is missing is damage, and the next segment is kept.
    fn reaches(&self, base: Offset) -> bool {
        base == self.next || (base > self.next && base <= self.recovery_point)
    }

    /// Scans one segment: its durable bytes and indexes, and the state behind it.
    async fn segment(
        &mut self,
        segment: &Segment,
        file: &File,
        offsets: Offsets,
    ) -> Result<End, again::Failed> {
        let config = self.opening.config();
        let mut indexes = self.opening.new_indexes(segment.base);
        let mut transactions = TxnIndex::default();
        let length = file.len().await?;
        segment.allocated.set(length);
        let (mut position, mut is_damaged) = (0, false);
        let end = loop {
            let start = Start {
                base_offset: segment.base,
                position,
                next_offset: self.next,
                last_epoch: self.epochs.last_epoch(),
                offsets,
                max_batch_bytes: u64::from(u32::MAX),
            };
            let verdict = again::scan(file, start, length, self.recovery_point, |header, at, marker| {
                indexes.append(indexes::placed(header, at), config.index_interval_bytes);
                if header.base_offset >= self.producers_at {
                    if let Some(aborted) = replay(&mut self.producers, header, marker) {
                        transactions.append(aborted);
                    }
                    self.memory.note(&mut self.producers);
                }
                self.epochs.assign(header.leader_epoch, header.base_offset);
            })
            .await?;
            self.next = verdict.next_offset;
            segment.found(verdict.valid_bytes);
            if verdict.reason == Reason::CleanEnd {
                break End::Good;
            }
            if self.next >= self.recovery_point {
                self.report_cut(segment, verdict.valid_bytes, length, &verdict.reason);
                break End::Cut;
            }
            self.report_damage(segment, verdict.valid_bytes, &verdict.reason);
            is_damaged = true;
            match scan::next_good(file, verdict.valid_bytes, length, self.next).await? {
                Some((at, base)) => (position, self.next) = (at, base),
                None => {
                    segment.found(length);
                    self.next = self.recovery_point;
                    break End::Damaged;
                }
            }
        };
        self.finish_indexes(segment, indexes);
        let tell = if self.opening.gaps || is_damaged { Tell::Parts } else { Tell::Everything };
        self.finish_transactions(segment, file, transactions, tell).await?;
        Ok(end)
    }

    /// Has the segment's transaction index say what its batches do. Nothing is written where it does already, as with
    /// most segments, which have none.
    async fn finish_transactions(
        &self,
        segment: &Segment,
        file: &File,
        scanned: TxnIndex,
        tell: Tell,
    ) -> io::Result<()> {
        let folder = &self.opening.folder;
        let found = transactions::load(folder, segment.base, self.next).await?;
        if found.is_none() && segment.base < self.producers_at {
            return Ok(()); // its first markers were not scanned for: it is made again when the log is open
        }
        // what is on disk tells of them
        let known = found.as_ref().map_or(&[][..], TxnIndex::entries);
        let mut index = TxnIndex::default();
        let below = known.iter().filter(|txn| txn.last_offset < self.producers_at);
        for aborted in below.chain(scanned.entries()) {
            index.append(*aborted);
        }
        let has = |txn: &AbortedTxn| known.iter().any(|known| known.last_offset == txn.last_offset);
        let is_sound = tell == Tell::Parts && index.entries().iter().all(has);
        if found.as_ref().is_some_and(|found| is_sound || *found == index) {
            return Ok(());
        }
        let (log, base) = (&self.opening.name, segment.base.0);
        if found.is_some() && index.entries().starts_with(known) {
            // that of the segment that was appended to was in memory
            tracing::debug!(log, segment = base, "the transaction index is brought up to date");
        } else {
            tracing::warn!(log, segment = base, "the transaction index is made again");
        }
        file.sync_data().await?;
        transactions::write(folder, segment.base, &index).await
    }

    fn finish_indexes(&self, segment: &Segment, indexes: SegmentIndexes) {
        *segment.indexes.borrow_mut() = Some(Box::new(indexes));
        segment.rebuilt.set(true);
    }

    /// Closes a segment that is not the last: trims, flushes, writes what describes it.
    async fn close(&mut self, segment: &Rc<Segment>, next: Option<Offset>) -> io::Result<()> {
        let end = next.unwrap_or(self.next);
        let state =
            EndState { snapshot: producer_snapshot::encode(&self.producers), epochs: self.epochs.encode() };
        let file = segment.open_file().expect("it was just scanned");
        again::set_length(&file, segment.durable_bytes.get()).await?;
        roll::close_segment(&self.opening.directory, &self.opening.folder, segment, end, state).await?;
        self.opening.shard.warm.note(segment);
        Ok(())
    }

    /// Saves aside and cuts what lies behind the segment's good batches, and the segments behind it. Writes of a killed
    /// process may still be on their way to the disk; the kernel's truncation waits for them, so that none lands on
    /// what is appended next.
    async fn cut(&self, segment: &Segment, later: &VecDeque<Offset>) -> io::Result<()> {
        let file = segment.open_file().expect("it was just scanned");
        let keep = segment.durable_bytes.get();
        if file.len().await? != keep {
            self.save_aside(segment, &file).await?;
        }
        again::set_length(&file, keep).await?;
        segment.allocated.set(keep);
        for &base in later {
            let name = SegmentFile::live(base, FileKind::Log).name();
            let aside = self.free_name(&name, 0).await?;
            tracing::error!(
                log = self.opening.name,
                segment = name,
                saved_as = aside,
                "a later segment does not follow on the log's end: set aside"
            );
            fs::rename(&self.opening.folder.join(&name), &self.opening.folder.join(&aside)).await?;
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex] {
                let path = self.opening.folder.join(SegmentFile::live(base, kind).name());
                if fs::exists(&path).await? {
                    fs::remove_file(&path).await?;
                }
            }
        }
        Ok(())
    }

    /// Copies what will be cut into a file beside the segment, unless it is nothing but zeros.
    async fn save_aside(&self, segment: &Segment, file: &File) -> io::Result<()> {
        let length = file.len().await?;
        let from = segment.durable_bytes.get();
        let end = last_data(file, from, length).await?;
        if end <= from {
            return Ok(());
        }
        let name = self.free_name(&segment.file_name(FileKind::Log), from).await?;
        let copy = File::open(&self.opening.folder.join(&name), OpenMode::CreateNew).await?;
        let mut position = from;
        while position < end {
            let mut buf =
                Buf::new(COPY_BYTES.min((end - position).next_multiple_of(BLOCK_BYTES as u64) as usize));
            let mut filled = 0;
            while filled < buf.len() && position + (filled as u64) < end {
                let Some((piece, range)) = scan::read_from(file, position + filled as u64, end).await? else {
                    break;
                };
                let count = range.len().min(buf.len() - filled);
                buf.as_mut_slice()[filled..filled + count]
                    .copy_from_slice(&piece.as_slice()[range.start..range.start + count]);
                filled += count;
            }
            if filled == 0 {
                break;
            }
            buf.as_mut_slice()[filled..].fill(0);
            copy.write(&buf.freeze(), position - from).await?;
            position += filled as u64;
        }
        copy.truncate(position - from).await?;
        copy.sync_data().await?;
        fs::sync_dir(&self.opening.folder).await?;
        tracing::warn!(
            log = self.opening.name,
            segment = segment.base.0,
            position = from,
            offset = self.next.0,
            bytes = position - from,
            saved_as = name,
            "what was cut is saved aside"
        );
        Ok(())
    }

    /// A name for what is cut from `name` at `position` that nothing has yet.
    async fn free_name(&self, name: &str, position: u64) -> io::Result<String> {
        for attempt in 0_u32.. {
            let aside = match attempt {
                0 => format!("{name}.cut-{position}"),
                _ => format!("{name}.cut-{position}.{attempt}"),
            };
            if !fs::exists(&self.opening.folder.join(&aside)).await? {
                return Ok(aside);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// An empty last segment, behind one whose end is damaged.
    async fn new_segment(&self) -> io::Result<Rc<Segment>> {
        let segment = Rc::new(self.opening.segment(self.next));
        segment.gaps.set(false);
        roll::create_segment_file(&self.opening.folder, &segment).await?;
        *segment.indexes.borrow_mut() = Some(Box::new(self.opening.new_indexes(self.next)));
        Ok(segment)
    }

    /// Makes durable what is kept: the last segment, the epochs, the names. Snapshots above the end go first.
    async fn keep(&self, last: &Segment, snapshots: &[Offset]) -> io::Result<()> {
        for &offset in snapshots.iter().filter(|offset| **offset > self.next) {
            self.opening.remove(&SegmentFile::live(offset, FileKind::Snapshot).name()).await;
        }
        last.open_file().expect("the last segment is open").sync_data().await?;
        let path = self.opening.folder.join(LEADER_EPOCH_CHECKPOINT);
        fs::write_durable(&path, self.epochs.encode().into_bytes()).await?;
        fs::sync_dir(&self.opening.folder).await?;
        fs::sync_dir(&self.opening.directory.path).await
    }

    fn report_cut(&self, segment: &Segment, position: u64, length: u64, reason: &Reason) {
        tracing::warn!(
            log = self.opening.name,
            segment = segment.base.0,
            position,
            length,
            offset = self.next.0,
            ?reason,
            "the log is cut at the first bad batch above the recovery point"
        );
    }

    fn report_lost_end(&self, segment: &Segment) {
        tracing::error!(
            log = self.opening.name,
            segment = segment.base.0,
            from = self.next.0,
            to = self.recovery_point.0,
            "records below the recovery point are missing: they were on disk and are lost; the log goes on behind them"
        );
    }

    fn report_damage(&self, segment: &Segment, position: u64, reason: &Reason) {
        tracing::error!(
            log = self.opening.name,
            segment = segment.base.0,
            position,
            offset = self.next.0,
            recovery_point = self.recovery_point.0,
            ?reason,
            "damage below the recovery point: it stays, and reads of it are refused"
        );
    }
}

/// One piece of a copy.
const COPY_BYTES: usize = 512 << 10;

/// Where the last byte behind `from` that is not zero ends.
async fn last_data(file: &File, from: u64, length: u64) -> io::Result<u64> {
    let mut position = from;
    let mut last = from;
    while let Some((buf, range)) = scan::read_from(file, position, length).await? {
        let bytes = &buf.as_slice()[range];
        if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
            last = position + at as u64 + 1;
        }
        position += bytes.len() as u64;
    }
    Ok(last)
}
