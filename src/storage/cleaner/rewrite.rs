//! One cleaning of one log: the map of its dirty part, then new segments from the log's start to the map's end.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::slices::{Slices, Step};
use super::swap::{self, Cleaned};
use super::{Job, Source, Stop, check};
use crate::log::compaction::plan::{self, Candidate, GroupLimits};
use crate::log::compaction::{Filter, Kept, KeyMap, Mapped, Mapping, Transactions};
use crate::log::files::{FileKind, FileState};
use crate::log::indexes::{Placed, SegmentIndexes};
use crate::log::producer_state::LastBatch;
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::{Offset, ProducerId};
use crate::protocol::batch::BatchHeader;
use crate::reactor::{self, BLOCK_BYTES, Buf, File, OpenMode, fs};
use crate::storage::state::LogState;
use crate::storage::{Reserve, aborted, space};

/// One write.
const WRITE_BYTES: usize = 512 << 10;
/// Producers copied before the rest of the shard gets a turn: some 50 µs.
const PRODUCERS_IN_A_ROW: usize = 1_000;

/// What a cleaning has done.
pub struct Done {
    /// The log is clean up to here (exclusive).
    pub end: Offset,
    pub keys: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub unknown_batches: u64,
    /// Of the first of them.
    pub first_unknown: Offset,
}

/// Maps, rewrites and swaps. The caller holds the log.
pub async fn rewrite(job: &Job) -> Result<Done, Stop> {
    let log = &job.log;
    let aborted = aborted_transactions(log).await?;
    let (map, map_end) = map(job, aborted.clone()).await?;
    let (keys, capacity) = (map.len(), map.capacity());
    log.shard.counters.cleaner_map_keys.set(keys as u64);
    log.shard.counters.cleaner_map_keys_max.set(capacity as u64);
    if map_end <= job.section.first_dirty {
        return Err(Stop::Uncleanable(format!(
            "the batch at offset {map_end} has more keys than the {capacity} that fit in the cleaner's map: raise \
             log.cleaner.dedupe.buffer.size"
        )));
    }
    let filter = Filter::new(
        (map, map_end),
        Transactions::new(aborted, Offset::ZERO),
        last_batches(log).await,
        job.now,
        log.borrow().config.compaction.delete_retention_ms,
    );
    let sources: Vec<Source> =
        job.sources.iter().take_while(|source| source.segment.base < map_end).cloned().collect();
    let candidates: Vec<Candidate> = sources.iter().map(|source| source.candidate).collect();
    let end = sources.last().map_or(map_end, |source| source.end);
    let mut done = Done {
        end: map_end,
        keys,
        bytes_before: 0,
        bytes_after: 0,
        unknown_batches: 0,
        first_unknown: Offset::NONE,
    };
    let mut pass = Some(Pass::new(filter));
    let mut rest = &sources[..];
    for count in plan::groups(&candidates, end, &limits(log)) {
        let (group, behind) = rest.split_at(count);
        rest = behind;
        pass = Some(one_group(log, group, pass.take().expect("it comes back"), &mut done).await?);
    }
    Ok(done)
}

fn limits(log: &LogState) -> GroupLimits {
    let config = &log.borrow().config;
    GroupLimits {
        segment_bytes: config.segment_bytes,
        index_bytes: config.segment_index_bytes,
        index_interval_bytes: config.index_interval_bytes,
    }
}

/// The map of the dirty part, as far as its memory goes, and where it ends.
async fn map(job: &Job, aborted: Vec<AbortedTxn>) -> Result<(KeyMap, Offset), Stop> {
    let log = &job.log;
    let section = job.section;
    let keys_max = u64::try_from(section.end.since(section.first_dirty)).unwrap_or(0);
    let map_bytes = log.shard.live.get().cleaner.map_bytes;
    let is_dirty = |source: &&Source| source.end > section.first_dirty && source.segment.base < section.end;
    let from = job.sources.iter().find(is_dirty).map_or(section.first_dirty, |source| source.segment.base);
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&reactor::random_u64().to_le_bytes());
    secret[8..].copy_from_slice(&reactor::random_u64().to_le_bytes());
    let mut state = reactor::blocking(move || {
        let map = KeyMap::new(map_bytes, keys_max, secret);
        (Mapping::new(map, Transactions::new(aborted, from), section.first_dirty), false)
    })
    .await;
    let step = move |(mapping, is_over): &mut (Mapping, bool), header: &BatchHeader, batch: &[u8]| {
        *is_over = header.base_offset >= section.end || mapping.batch(header, batch) == Mapped::Full;
        !*is_over
    };
    'segments: for source in job.sources.iter().filter(is_dirty) {
        let mut slices = Slices::new(log, source);
        loop {
            let (moved, at) = slices.next(state, step).await?;
            state = moved;
            if state.1 {
                break 'segments;
            }
            if at == Step::End {
                break;
            }
        }
    }
    Ok(state.0.finish())
}

/// Those of all of the log's transaction indexes, the one of the segment that is appended to included: a transaction of
/// closed segments may have ended there.
async fn aborted_transactions(log: &LogState) -> Result<Vec<AbortedTxn>, Stop> {
    aborted::all(log)
        .await
        .map_err(|error| Stop::Uncleanable(format!("the transaction indexes cannot be read: {error:?}")))
}

/// Of the producers that are known now. One that goes on meanwhile keeps a batch more than it needs.
async fn last_batches(log: &LogState) -> BTreeMap<ProducerId, LastBatch> {
    let mut all = BTreeMap::new();
    // ends: each turn goes on behind the last producer
    loop {
        let after = all.last_key_value().map(|(id, _)| *id);
        let some = log.borrow().producers.last_batches(after, PRODUCERS_IN_A_ROW);
        let is_last = some.len() < PRODUCERS_IN_A_ROW;
        all.extend(some);
        if is_last {
            return all;
        }
        reactor::turn().await;
    }
}

/// What the second pass carries from slice to slice.
struct Pass {
    filter: Filter,
    /// What is left of a slice's batches, and where the indexes find them.
    left: Vec<u8>,
    placed: Vec<Left>,
    /// A batch of the group is not what it was.
    is_changed: bool,
    unknown_batches: u64,
    first_unknown: Offset,
}

/// One batch that is left.
struct Left {
    bytes: u32,
    header: BatchHeader,
}

impl Pass {
    fn new(filter: Filter) -> Pass {
        Pass {
            filter,
            left: Vec::new(),
            placed: Vec::new(),
            is_changed: false,
            unknown_batches: 0,
            first_unknown: Offset::NONE,
        }
    }

    fn batch(&mut self, header: &BatchHeader, batch: &[u8]) {
        let kept = self.filter.batch(header, batch);
        let bytes = match &kept {
            Kept::Whole => batch,
            Kept::Unknown => {
                if self.unknown_batches == 0 {
                    self.first_unknown = header.base_offset;
                }
                self.unknown_batches += 1;
                batch
            }
            Kept::Changed(changed) | Kept::Emptied(changed) => changed,
            Kept::Nothing => &[],
        };
        self.is_changed |= !matches!(kept, Kept::Whole | Kept::Unknown);
        if !bytes.is_empty() {
            let header = BatchHeader::parse(bytes).expect("it was parsed or made just now");
            self.left.extend_from_slice(bytes);
            self.placed.push(Left { bytes: bytes.len() as u32, header });
        }
    }
}

/// Rewrites a run of segments into one and puts it in their place, unless nothing has changed.
async fn one_group(
    log: &Rc<LogState>,
    group: &[Source],
    mut pass: Pass,
    done: &mut Done,
) -> Result<Pass, Stop> {
    check(log)?;
    let bytes: u64 = group.iter().map(|source| source.candidate.bytes).sum();
    ask_for_room(log, bytes)?;
    let (base, end) = (group[0].segment.base, group[group.len() - 1].end);
    pass.filter.begin_segment(end);
    pass.is_changed = group.len() > 1;
    let mut writer = Writer::create(log, base).await?;
    let written = async {
        let mut pass = write_group(log, group, pass, &mut writer).await?;
        let aborted = pass.filter.end_segment();
        if !pass.is_changed {
            return Ok((pass, None));
        }
        Ok((pass, Some(writer.finish(aborted).await?)))
    };
    let replaced = match written.await {
        Ok((pass, Some(cleaned))) => {
            done.bytes_after += cleaned.length;
            swap::replace(log, group, cleaned).await.map(|()| pass)
        }
        Ok((pass, None)) => {
            done.bytes_after += bytes;
            swap::undo(log, base).await;
            Ok(pass)
        }
        Err(stop) => Err(stop),
    };
    done.bytes_before += bytes;
    match replaced {
        Ok(pass) => {
            (done.unknown_batches, done.first_unknown) = (pass.unknown_batches, pass.first_unknown);
            Ok(pass)
        }
        Err(stop) => {
            swap::undo(log, base).await;
            Err(stop)
        }
    }
}

async fn write_group(
    log: &Rc<LogState>,
    group: &[Source],
    mut pass: Pass,
    writer: &mut Writer,
) -> Result<Pass, Stop> {
    for source in group {
        let mut slices = Slices::new(log, source);
        loop {
            let (moved, at) = slices
                .next(pass, |pass: &mut Pass, header, batch| {
                    pass.batch(header, batch);
                    true
                })
                .await?;
            pass = moved;
            writer.append(&pass.left, &pass.placed).await?;
            pass.left.clear();
            pass.placed.clear();
            // one slice may have held a large batch
            pass.left.shrink_to(2 * WRITE_BYTES);
            if at == Step::End {
                break;
            }
        }
    }
    Ok(pass)
}

/// Room for all of a group, above what is kept in reserve.
fn ask_for_room(log: &LogState, needed_bytes: u64) -> Result<(), Stop> {
    let kept = if log.borrow().config.reserve == Reserve::Kept { log.shard.config.reserve_bytes } else { 0 };
    match log.directory.space.until_refusal(kept) {
        Some(room) if room < needed_bytes => Err(Stop::NoRoom { needed_bytes }),
        _ => Ok(()),
    }
}

/// The new segment while it is written.
struct Writer {
    log: Rc<LogState>,
    base: Offset,
    file: File,
    buf: Buf,
    filled: usize,
    /// Of what was appended, and of that in the file.
    length: u64,
    written: u64,
    indexes: SegmentIndexes,
}

impl Writer {
    async fn create(log: &Rc<LogState>, base: Offset) -> Result<Writer, Stop> {
        let name = swap::name(base, FileKind::Log, FileState::Cleaned);
        let path = log.folder.join(name);
        // an earlier cleaning may have left it
        let _ = fs::remove_file(&path).await;
        let file = File::open(&path, OpenMode::CreateNew).await.map_err(|error| failed(log, &error, 0))?;
        let index_bytes = usize::try_from(log.borrow().config.segment_index_bytes).unwrap_or(usize::MAX);
        Ok(Writer {
            log: Rc::clone(log),
            base,
            file,
            buf: Buf::new(WRITE_BYTES),
            filled: 0,
            length: 0,
            written: 0,
            indexes: SegmentIndexes::new(base, index_bytes),
        })
    }

    async fn append(&mut self, mut bytes: &[u8], placed: &[Left]) -> Result<(), Stop> {
        let interval = self.log.borrow().config.index_interval_bytes;
        for left in placed {
            let position = u32::try_from(self.length).ok().filter(|at| *at <= i32::MAX as u32 - left.bytes);
            let Some(position) = position else {
                return Err(Stop::Uncleanable(format!(
                    "segment {} would become larger than 2 GiB: lower segment.bytes",
                    self.base
                )));
            };
            let placed = Placed {
                position,
                bytes: left.bytes,
                last_offset: left.header.last_offset(),
                max_timestamp: left.header.max_timestamp,
            };
            self.indexes.append(placed, interval);
            self.length += u64::from(left.bytes);
        }
        while !bytes.is_empty() {
            let count = bytes.len().min(WRITE_BYTES - self.filled);
            let (now, later) = bytes.split_at(count);
            self.buf.as_mut_slice()[self.filled..self.filled + count].copy_from_slice(now);
            self.filled += count;
            bytes = later;
            if self.filled == WRITE_BYTES {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer, filled up with zeros.
    async fn write(&mut self) -> Result<(), Stop> {
        ask_for_room(&self.log, WRITE_BYTES as u64)?;
        self.log.directory.space.reserve(WRITE_BYTES as u64, space::Kept::NOTHING);
        let mut buf = std::mem::replace(&mut self.buf, Buf::new(WRITE_BYTES));
        let used = self.filled.next_multiple_of(BLOCK_BYTES);
        buf.as_mut_slice()[self.filled..].fill(0);
        let frozen = if used == WRITE_BYTES {
            buf.freeze()
        } else {
            let mut short = Buf::new(used);
            short.as_mut_slice().copy_from_slice(&buf.as_mut_slice()[..used]);
            short.freeze()
        };
        let result = self.file.write(&frozen, self.written).await;
        result.map_err(|error| failed(&self.log, &error, used as u64))?;
        self.log.shard.counters.cleaner_written_bytes.add(used as u64);
        self.written += used as u64;
        self.filled = 0;
        Ok(())
    }

    /// Everything is in the file, which is as long as its batches and flushed.
    async fn finish(mut self, aborted: Vec<AbortedTxn>) -> Result<Cleaned, Stop> {
        if self.filled > 0 {
            self.write().await?;
        }
        let result = async {
            self.file.truncate(self.length).await?;
            self.file.sync_data().await
        };
        result.await.map_err(|error| failed(&self.log, &error, 0))?;
        self.indexes.close();
        let mut transactions = TxnIndex::default();
        for txn in aborted {
            transactions.append(txn);
        }
        let before = self.log.folder.join(swap::name(self.base, FileKind::TxnIndex, FileState::Live));
        let had_transactions = fs::exists(&before).await.map_err(|error| failed(&self.log, &error, 0))?;
        Ok(Cleaned {
            base: self.base,
            file: self.file,
            length: self.length,
            indexes: self.indexes,
            has_transactions: had_transactions || !transactions.entries().is_empty(),
            transactions,
        })
    }
}

/// A write or flush that failed is the directory's end, as everywhere; a shortage is not.
pub fn failed(log: &LogState, error: &io::Error, needed_bytes: u64) -> Stop {
    if reactor::is_shortage(error) {
        return Stop::NoRoom { needed_bytes };
    }
    log.directory.fail(&log.shard, &format!("{}: cannot write a compacted segment", log.name), error);
    Stop::Gone
}
