//! The cleaner: rewrites the closed segments of compacted topics without the records that later ones have replaced.
//!
//! One task a shard, with a small share of the shard's time (see [`spawn_background`](crate::reactor::spawn_background));
//! decoding, hashing and compressing are done on the blocking pool in slices of a megabyte, and after each slice it rests
//! as long as the slice took, so that it takes half a core at most. It cleans one log at a time, the dirtiest first, and
//! sleeps for log.cleaner.backoff.ms when none is dirty enough. What it does with records is
//! [`log::compaction`](crate::log::compaction)'s; here are files: [`rewrite`] makes new segments, [`swap`] puts them in
//! place, [`offsets`] says on disk how far each log is clean.
//!
//! Invariants
//! * Only closed segments are read and replaced, below an open transaction, and never the one that is appended to.
//! * A log whose bytes are not as they were written is not cleaned: what is missing would no longer be found missing. It
//!   is reported once, counted, and left alone until the next start.
//! * Groups of segments are swapped one after the other, in order, each durable before the next begins.
//! * Memory: one map (its budget is a setting), a batch's records and what is left of them, a few megabytes of buffers.

pub mod offsets;
mod rewrite;
mod slices;
pub mod swap;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::segment::Segment;
use super::shard::Shard;
use super::state::{LogState, Status};
use super::{Error, indexes, removal};
use crate::log::compaction::plan::{self, Bounds, Candidate, Dirt, Section};
use crate::log::files::FileKind;
use crate::model::{Offset, PartitionId, TimestampMs};
use crate::protocol::batch::BatchHeader;
use crate::reactor::{self, BLOCK_BYTES, fs};

/// Settings of a shard's cleaner.
#[derive(Clone, Copy, Debug)]
pub struct CleanerConfig {
    pub is_on: bool,
    /// Kafka's log.cleaner.backoff.ms.
    pub backoff_ms: u64,
    /// This shard's part of log.cleaner.dedupe.buffer.size.
    pub map_bytes: usize,
}

/// What a shard's cleaner knows.
#[derive(Default)]
pub struct Cleaner {
    /// Left alone until the next start.
    uncleanable: RefCell<BTreeSet<PartitionId>>,
    /// Of the log that was the dirtiest at the last look, in millionths.
    dirtiest_ratio: Cell<u64>,
    /// The operator knows that there is no room.
    told_no_room: Cell<bool>,
}

impl Cleaner {
    pub fn uncleanable(&self) -> u64 {
        self.uncleanable.borrow().len() as u64
    }

    /// Millionths.
    pub fn dirtiest_ratio(&self) -> u64 {
        self.dirtiest_ratio.get()
    }

    /// The log is gone.
    pub fn forget(&self, partition: PartitionId) {
        self.uncleanable.borrow_mut().remove(&partition);
    }
}

/// Why a cleaning ended before its end. What was swapped until then stays; nothing else was changed.
#[derive(Debug)]
pub enum Stop {
    /// The log is deleted or the shard stops, its directory is offline, its segments are other ones now.
    Gone,
    /// The disk is too full; later.
    NoRoom { needed_bytes: u64 },
    /// The log cannot be cleaned as it is: what is wrong, and where.
    Uncleanable(String),
}

/// A closed segment that may be cleaned.
#[derive(Clone)]
pub struct Source {
    pub segment: Rc<Segment>,
    /// Where the next one begins.
    pub end: Offset,
    pub candidate: Candidate,
}

/// A log that may be cleaned, and how dirty it is.
pub struct Job {
    pub log: Rc<LogState>,
    /// All closed ones, oldest first.
    pub sources: Vec<Source>,
    pub section: Section,
    pub dirt: Dirt,
    pub now: TimestampMs,
}

/// Keeps a deletion or a stop from going on before the cleaning has let go of the log's folder.
pub struct Hold<'a>(&'a Rc<LogState>);

impl<'a> Hold<'a> {
    fn of(log: &'a Rc<LogState>) -> Hold<'a> {
        log.borrow_mut().work.cleaning = true;
        Hold(log)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().work.cleaning = false;
        self.0.settled.notify();
        if removal::is_due(&self.0.borrow()) {
            removal::enqueue(self.0);
        }
    }
}

/// Cleans while the shard runs and the cleaner is on.
pub async fn run(shard: Rc<Shard>) {
    while !shard.stopping.get() {
        let config = shard.live.get().cleaner;
        if !config.is_on {
            shard.reconfigured.notified().await;
            continue;
        }
        let cleaned = {
            let _background = shard.background();
            !shard.booting.get() && clean_dirtiest(&shard).await
        };
        if !cleaned {
            let backoff = Duration::from_millis(config.backoff_ms.max(1));
            or(reactor::sleep(backoff), shard.reconfigured.notified()).await;
        }
    }
}

/// Cleans one log, if one is due. False if there was nothing to do, or it could not be done.
async fn clean_dirtiest(shard: &Rc<Shard>) -> bool {
    let mut tried = BTreeSet::new();
    // ends: each turn cleans a log, or tries one more
    loop {
        let Some(job) = dirtiest(shard, &tried).await.filter(|_| !shard.stopping.get()) else { return false };
        let log = Rc::clone(&job.log);
        tried.insert(log.partition);
        match clean(job).await {
            Ok(()) => {
                shard.cleaner.told_no_room.set(false);
                return true;
            }
            Err(Stop::Gone) => {}
            Err(Stop::NoRoom { needed_bytes }) => {
                if !shard.cleaner.told_no_room.replace(true) {
                    tracing::warn!(
                        log = log.name,
                        directory = %log.directory.path.display(),
                        needed_bytes,
                        "not enough room above the reserve to compact the log: it is tried again when there is"
                    );
                }
            }
            Err(Stop::Uncleanable(reason)) => {
                tracing::error!(
                    log = log.name,
                    reason,
                    "the log cannot be compacted and grows from here on; repair it (corelane inspect --verify shows \
                     more), then restart the broker"
                );
                shard.cleaner.uncleanable.borrow_mut().insert(log.partition);
            }
        }
    }
}

/// The shard's dirtiest log that is due, those left out that were tried. The others' segments are let go of: whoever wants
/// to remove one waits until nobody holds it.
async fn dirtiest(shard: &Rc<Shard>, tried: &BTreeSet<PartitionId>) -> Option<Job> {
    /// Before the rest of the shard gets a turn: some 50 µs.
    const LOGS_IN_A_ROW: usize = 256;
    let logs: Vec<Rc<LogState>> = shard.logs.borrow().values().cloned().collect();
    let mut best: Option<Job> = None;
    let mut worst_ratio: f64 = 0.0;
    for (index, log) in logs.into_iter().enumerate() {
        if index % LOGS_IN_A_ROW == LOGS_IN_A_ROW - 1 {
            reactor::turn().await;
        }
        if shard.stopping.get() {
            break;
        }
        if tried.contains(&log.partition) || shard.cleaner.uncleanable.borrow().contains(&log.partition) {
            continue;
        }
        let settings = log.borrow().config.compaction;
        match job(&log).await {
            Ok(Some(job)) => {
                worst_ratio = worst_ratio.max(job.dirt.ratio());
                if job.dirt.goes_before(best.as_ref().map(|best| &best.dirt), &settings) {
                    best = Some(job);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(log = log.name, ?error, "the cleaner passes over the log this time")
            }
        }
    }
    if tried.is_empty() {
        shard.cleaner.dirtiest_ratio.set((worst_ratio * 1e6) as u64);
    }
    best
}

/// How dirty the log is; `None` if it is not compacted, or has nothing that may be cleaned.
async fn job(log: &Rc<LogState>) -> Result<Option<Job>, Error> {
    let now = TimestampMs(reactor::wall_clock_ms());
    let stable = log.shard.listener.last_stable_offset(log.partition);
    let (settings, mut sources, bounds) = {
        let inner = log.borrow();
        let is_open = inner.status == Status::Open && !inner.work.held && !inner.work.relocating;
        if !inner.config.cleanup.compact || !is_open || log.directory.is_offline() {
            return Ok(None);
        }
        let sources: Vec<Source> = (inner.segments.windows(2))
            .take_while(|pair| pair[0].closed.get())
            .map(|pair| Source {
                segment: Rc::clone(&pair[0]),
                end: pair[1].base,
                candidate: Candidate {
                    base: pair[0].base,
                    bytes: pair[0].durable_bytes.get(),
                    latest: TimestampMs::NONE,
                    first: TimestampMs::NONE,
                },
            })
            .collect();
        let Some(last) = sources.last() else { return Ok(None) };
        let stable = stable.min(inner.durable_end);
        let bounds = Bounds { log_start: inner.start, log_end: inner.end, limit: stable.min(last.end) };
        (inner.config.compaction, sources, bounds)
    };
    let cleaned_to = log.directory.cleaned.of(log.partition);
    if cleaned_to.is_some_and(|cleaned| (bounds.limit..=bounds.log_end).contains(&cleaned)) {
        return Ok(None);
    }
    // what costs a look at files is asked only where a setting makes it count
    for source in sources.iter_mut().filter(|source| cleaned_to.is_none_or(|cleaned| source.end > cleaned)) {
        if settings.min_lag_ms > 0 {
            source.candidate.latest = latest(log, &source.segment).await?;
        }
        if settings.max_lag_ms < i64::MAX {
            source.candidate.first = first(log, &source.segment).await?;
        }
    }
    let candidates: Vec<Candidate> = sources.iter().map(|source| source.candidate).collect();
    let end_of_closed = sources.last().map_or(bounds.log_start, |source| source.end);
    let section = plan::section(cleaned_to, &bounds, &candidates, &settings, now);
    let dirt = plan::dirt(&section, &candidates, end_of_closed, &settings, now);
    let log = Rc::clone(log);
    Ok((section.end > section.first_dirty).then_some(Job { log, sources, section, dirt, now }))
}

/// The segment's largest record timestamp; where no record has one, when its file was last written.
async fn latest(log: &LogState, segment: &Rc<Segment>) -> Result<TimestampMs, Error> {
    let latest = indexes::latest(log, segment).await?.timestamp;
    if latest.0 >= 0 {
        return Ok(latest);
    }
    let path = log.folder.join(segment.file_name(FileKind::Log));
    Ok(TimestampMs(fs::modified_ms(&path).await.map_err(|_| Error::Offline)?))
}

/// The largest timestamp of the segment's first batch.
async fn first(log: &LogState, segment: &Rc<Segment>) -> Result<TimestampMs, Error> {
    if segment.first_timestamp.get() == TimestampMs::NONE && segment.durable_bytes.get() > 0 {
        let (file, _) = segment.file(&log.folder).await.map_err(|_| Error::Offline)?;
        log.shard.warm.note(segment);
        let block = file.read(0, BLOCK_BYTES).await.map_err(|_| Error::Offline)?;
        let header = BatchHeader::parse(block.as_slice());
        segment.first_timestamp.set(header.map_or(TimestampMs::NONE, |header| header.max_timestamp));
    }
    Ok(segment.first_timestamp.get())
}

/// Cleans one log and notes how far.
async fn clean(job: Job) -> Result<(), Stop> {
    let log = Rc::clone(&job.log);
    let shard = Rc::clone(&log.shard);
    let _hold = Hold::of(&log);
    check(&log)?;
    if job.sources.iter().any(|source| source.segment.retired.get()) {
        // it was truncated since it was looked at
        return Err(Stop::Gone);
    }
    if job.section.checkpoint_is_off {
        tracing::info!(
            log = log.name,
            from = job.section.first_dirty.0,
            "how far the log was compacted lies outside of it now: it is compacted from its start"
        );
    }
    shard.counters.cleaner_runs.increment();
    // Before the first gap can be in the log, it is on disk that the log may have some.
    offsets::note(&log, job.section.first_dirty).await?;
    let cleaned = rewrite::rewrite(&job).await?;
    offsets::note(&log, cleaned.end).await?;
    tracing::info!(
        log = log.name,
        from = job.section.first_dirty.0,
        to = cleaned.end.0,
        keys = cleaned.keys,
        bytes_before = cleaned.bytes_before,
        bytes_after = cleaned.bytes_after,
        "compacted"
    );
    if cleaned.unknown_batches > 0 {
        tracing::warn!(
            log = log.name,
            batches = cleaned.unknown_batches,
            first_offset = cleaned.first_unknown.0,
            "batches that cannot be decoded are kept as they are, and tombstones behind them, too: producers sent \
             records that are not what their headers say, or more than the 64 MiB that are looked into"
        );
    }
    Ok(())
}

/// Whether the log may still be worked on.
fn check(log: &LogState) -> Result<(), Stop> {
    let is_open = {
        let inner = log.borrow();
        inner.status == Status::Open && !inner.work.held && !inner.work.relocating
    };
    if !is_open || log.shard.stopping.get() || log.directory.is_offline() {
        return Err(Stop::Gone);
    }
    Ok(())
}
