//! What one commit round takes: which logs, how much of each, and which way. Small parts of many logs go into one buffer for
//! the journal; a large one goes straight to its segment.

use std::rc::Rc;

use super::directory::Directory;
use super::run::Place;
use super::segment::Segment;
use super::state::{Inner, LogState, Status};
use super::truncate::Mark;
use super::write::{self, Write};
use crate::log::journal::{Entry, Kind, RoundWriter, Unsealed, round_bytes};
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{Buf, File, Instant, now};

/// What one log may write in a round (a single larger batch still goes out), so that no log holds up the others,
/// and where a flush takes 4 ms one partition still reaches a gigabyte a second.
const LOG_ROUND_BYTES: usize = 4 << 20;
/// A round takes no further log when it has this much. Its copies are made before the first real wait: about 60 µs
/// a MiB, and only under backlog.
const ROUND_BYTES: usize = 4 << 20;
/// A log that has so much queued writes it to its segment at once: through the journal it would be written twice. Measured
/// with batches of one size (perf/runs/2026-11-23-storage.md): at 16 KiB the journal gives up to half more records, at 64 KiB
/// a little more with 16 partitions and a fifth less with one, at 128 KiB a quarter less with one.
const DIRECT_BYTES: usize = 64 << 10;

#[derive(Default)]
pub struct Round {
    pub direct: Vec<Direct>,
    pub journaled: Option<Journaled>,
    /// Something in the journal has to be flushed.
    pub flush_journal: bool,
    /// Truncations that the journal's part has, too.
    pub marks: Vec<Mark>,
    /// Empty between rounds.
    chosen: Vec<Chosen>,
}

/// New batches of one log: how many bytes and batches, and when the first of them came.
#[derive(Clone, Copy)]
pub struct Batches {
    pub bytes: usize,
    pub count: usize,
    pub since: Instant,
}

/// A log that is written or flushed by itself.
pub struct Direct {
    pub log: Rc<LogState>,
    /// What is being written; `None` if only a flush is asked for.
    pub written: Option<(Write, Batches)>,
    pub segment: Rc<Segment>,
    pub file: File,
    pub sync: Sync,
    /// Bytes of the segment's file that were written when its flush began.
    pub covers: u64,
    pub result: std::io::Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Yes,
    No,
}

/// The journal's part of a round.
pub struct Journaled {
    /// `None` once it is written.
    pub buf: Option<Buf>,
    pub round: Unsealed,
    pub parts: Vec<Part>,
}

/// One log's part of the journal's.
pub struct Part {
    pub log: Rc<LogState>,
    pub segment: Rc<Segment>,
    pub first: Offset,
    /// Exclusive end of the batches, as offset and in the buffer.
    pub end: Offset,
    pub end_at: u32,
    pub places: Vec<Place>,
    pub batches: Batches,
}

/// A log whose batches go to the journal.
struct Chosen {
    log: Rc<LogState>,
    count: usize,
    bytes: usize,
}

impl Round {
    pub fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.journaled.is_none()
    }

    /// Takes logs from the directory's queue and copies what they have queued.
    pub fn gather(&mut self, directory: &Directory) {
        let journal = directory.journal.as_ref().filter(|journal| journal.is_open());
        let journal_max = journal.map_or(0, |journal| journal.round_bytes_max());
        let flushed = journal.map_or(0, |journal| journal.flushed());
        let (mut bytes, mut journal_bytes) = (0, 0);
        while bytes < ROUND_BYTES && !directory.is_offline() {
            let Some(log) = directory.next_dirty() else { break };
            let mut guard = log.borrow_mut();
            let inner = &mut *guard;
            inner.work.queued = false;
            if inner.status == Status::Closed {
                log.settled.notify();
                continue;
            }
            let (count, log_bytes) = takes(inner);
            let small = log_bytes < DIRECT_BYTES && round_bytes(1, log_bytes) <= journal_max;
            if count > 0 && small {
                if round_bytes(self.chosen.len() + 1, journal_bytes + log_bytes) > journal_max {
                    inner.work.queued = true;
                    drop(guard);
                    directory.put_back(log);
                    break;
                }
                self.flush_journal |= inner.flushes();
                journal_bytes += log_bytes;
                inner.work.in_round = true;
                self.chosen.push(Chosen { log: Rc::clone(&log), count, bytes: log_bytes });
            } else if count > 0 && inner.work.writing {
                // a drain has the file, and lets the log go on when it has ended
                continue;
            } else {
                self.flush_journal |= inner.flushes() && inner.journaled > flushed && count == 0;
                inner.work.in_round = true;
                inner.work.writing |= count > 0;
                self.direct.push(direct(&log, inner, count));
            }
            bytes += log_bytes;
        }
        while !directory.is_offline()
            && round_bytes(self.chosen.len() + self.marks.len() + 1, journal_bytes) <= journal_max
        {
            let Some(mark) = directory.marks.borrow_mut().pop_front() else { break };
            self.flush_journal = true;
            self.marks.push(mark);
        }
        if !self.chosen.is_empty() || !self.marks.is_empty() {
            self.journaled = Some(copy(&mut self.chosen, journal_bytes, &self.marks));
        }
    }
}

/// How many of the queued batches go next, up to the next roll, the end of the log in this directory and the round's
/// limit, and their bytes.
fn takes(inner: &Inner) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for pending in &inner.pending {
        // the first one may have opened this segment: then its mark is gone
        let is_last = pending.opens.is_some() || inner.is_behind_boundary(pending);
        if is_last || (count > 0 && bytes + pending.batch.len() > LOG_ROUND_BYTES) {
            break;
        }
        count += 1;
        bytes += pending.batch.len();
    }
    (count, bytes)
}

fn direct(log: &Rc<LogState>, inner: &mut Inner, count: usize) -> Direct {
    let batches = begin(inner, count);
    let written = if count > 0 { write::build(inner, 0, count) } else { None };
    let written = written.map(|write| (write, end(inner, batches)));
    let sync = if inner.flushes() { Sync::Yes } else { Sync::No };
    let segment = Rc::clone(&inner.committing);
    let file = segment.open_file().expect("the segment that is written to is open");
    Direct { log: Rc::clone(log), written, segment, file, sync, covers: 0, result: Ok(()) }
}

/// What is about to be taken; the bytes are what was queued before.
fn begin(inner: &Inner, count: usize) -> Batches {
    Batches { bytes: inner.pending_bytes, count, since: inner.pending_since }
}

/// It has been taken.
fn end(inner: &mut Inner, batches: Batches) -> Batches {
    if !inner.pending.is_empty() {
        // what is left came since, or waits for one round more than is told: no clock is read for each batch
        inner.pending_since = now();
    }
    Batches { bytes: batches.bytes - inner.pending_bytes, ..batches }
}

/// One exact-size buffer with what all the chosen logs have queued.
fn copy(chosen: &mut Vec<Chosen>, bytes: usize, marks: &[Mark]) -> Journaled {
    let mut buf = Buf::new(round_bytes(chosen.len() + marks.len(), bytes));
    let mut writer = RoundWriter::new(buf.as_mut_slice());
    let mut parts = Vec::with_capacity(chosen.len());
    for Chosen { log, count, bytes } in chosen.drain(..) {
        let part = {
            let inner = &mut *log.borrow_mut();
            let segment = Rc::clone(&inner.committing);
            let last = inner.pending.get(count - 1);
            let entry = Entry {
                partition: log.partition,
                segment: segment.base,
                position: u32::try_from(segment.durable_bytes.get())
                    .expect("a segment is shorter than 2 GiB"),
                epoch: last.map_or(LeaderEpoch::NONE, |last| last.epoch),
                base: inner.durable_end,
                end: last.map_or(inner.durable_end, |last| last.last_offset.plus(1)),
                kind: if inner.unflushed { Kind::Batches } else { Kind::Settled },
            };
            let batches = begin(inner, count);
            let mut places = Vec::with_capacity(count);
            let (at, out) = writer.entry(&entry, bytes);
            write::copy_queued(inner, count, out, 0, &mut places);
            places.iter_mut().for_each(|place| place.at += at as u32);
            let batches = end(inner, batches);
            let (first, end, end_at) = (entry.base, entry.end, (at + bytes) as u32);
            Part { log: Rc::clone(&log), segment, first, end, end_at, places, batches }
        };
        parts.push(part);
    }
    for mark in marks {
        writer.entry(&mark.entry, 0);
    }
    let round = writer.done();
    Journaled { buf: Some(buf), round, parts }
}

/// What the journal's buffer costs the cache for each of its parts: their bytes, and a share of the rest.
pub struct Shares {
    each: usize,
}

impl Shares {
    pub fn of(parts: &[Part], buf_bytes: usize) -> Shares {
        let batch_bytes: usize = parts.iter().map(|part| part.batches.bytes).sum();
        Shares { each: buf_bytes.saturating_sub(batch_bytes) / parts.len().max(1) }
    }

    pub fn of_part(&self, part: &Part) -> usize {
        part.batches.bytes + self.each
    }
}
