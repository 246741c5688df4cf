//! The tail cache: the buffers that were written last stay readable in memory, oldest evicted first over the shard.
//!
//! What lies in the journal and not yet in its segment is pinned: it is read from nowhere else. What was drained to the
//! segment stays until it is flushed there: a flush that fails may take it from the file, and reads go on. The journal's
//! size bounds both, for it holds them so long, and they count against the budget, so that less of the rest is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::Slices;
use super::run::{Place, Run};
use super::segment::Segment;
use super::state::LogState;
use crate::model::Offset;
use crate::reactor::SharedBuf;

/// One log's part of the cache. What it holds ends at the durable end, without gaps between runs.
#[derive(Default)]
pub struct Tail {
    /// In the segment's file.
    runs: VecDeque<Written>,
    /// So many of `runs` are held until they are flushed.
    held: usize,
    /// Behind them, in the journal only.
    pinned: VecDeque<Run>,
    /// Of batches in `pinned`.
    pinned_bytes: usize,
    bytes: usize,
}

/// A run that is in its segment's file.
struct Written {
    run: Run,
    /// In the budget's order; `None` while it is held.
    serial: Option<u64>,
    /// It is held until this one's file is flushed as far as the run goes.
    until_flushed: Option<Rc<Segment>>,
}

/// What became of an entry in the budget's order.
enum Evicted {
    /// The run is gone, now or before.
    Gone,
    /// A run in front of it is held.
    NotYet,
}

/// A buffer that has just been written to the segment's file.
pub struct Published {
    pub buf: SharedBuf,
    /// Where the buffer lies in the segment file.
    pub position: u64,
    /// Base offset of the first new batch.
    pub first: Offset,
    /// The new batches only; what lies before them is the durable part of the first block.
    pub places: Vec<Place>,
    pub end: u32,
}

/// The shard-wide side: how much is held, and in which order it came.
pub struct TailBudget {
    limit: usize,
    used: Cell<usize>,
    /// Bytes of batches that lie in the journal only.
    pinned: Cell<usize>,
    serial: Cell<u64>,
    /// (log, serial of the run). An entry whose run is gone is skipped.
    order: RefCell<VecDeque<(Weak<LogState>, u64)>>,
}

impl Tail {
    /// Adds what was just written. If the buffer before lies wholly in the block that was written again, the new
    /// one takes its place: many small commits to one block cost one buffer. `until_flushed`: it is held until that
    /// segment is flushed as far, and [`Self::release`] is told.
    pub fn publish(
        &mut self,
        new: Published,
        until_flushed: Option<Rc<Segment>>,
        log: &Rc<LogState>,
        budget: &TailBudget,
    ) {
        let mut places = new.places;
        let mut first = new.first;
        let mut inherited = None;
        if let Some(Written { run: last, .. }) = self.runs.back()
            && last.end_position() == new.position + u64::from(places[0].at)
            && last.first_position() >= new.position
        {
            let Written { run: last, serial, until_flushed } = self.runs.pop_back().expect("looked at it");
            self.held -= usize::from(until_flushed.is_some());
            let shift = (last.origin() - new.position.cast_signed()) as u32;
            let mut all: Vec<Place> = Vec::with_capacity(last.places().len() + places.len());
            all.extend(last.places().iter().map(|place| Place { at: place.at + shift, ..*place }));
            all.append(&mut places);
            places = all;
            first = last.first_offset();
            self.account(budget, last.memory_bytes(), 0);
            inherited = serial;
        }
        let serial = match &until_flushed {
            Some(_) => None,
            None => Some(inherited.unwrap_or_else(|| budget.enter(log))),
        };
        self.held += usize::from(until_flushed.is_some());
        let run = Run::new(new.buf, new.position, first, places, new.end);
        self.account(budget, 0, run.memory_bytes());
        self.runs.push_back(Written { run, serial, until_flushed });
    }

    /// A segment was flushed: what was held for that may be evicted from now on.
    pub fn release(&mut self, log: &Rc<LogState>, budget: &TailBudget) {
        if self.held == 0 {
            return;
        }
        let mut left = self.held;
        let mut first = self.runs.len();
        while left > 0 && first > 0 {
            first -= 1;
            left -= usize::from(self.runs[first].until_flushed.is_some());
        }
        for written in self.runs.range_mut(first..) {
            let end = written.run.end_position();
            let is_flushed = |segment: &Rc<Segment>| segment.flushed_bytes.get() >= end;
            if written.until_flushed.as_ref().is_some_and(is_flushed) {
                written.until_flushed = None;
                written.serial = Some(budget.enter(log));
                self.held -= 1;
            }
        }
    }

    /// Takes out the run with this serial, if it is the oldest.
    fn evict(&mut self, serial: u64, budget: &TailBudget) -> Evicted {
        match self.runs.front() {
            Some(oldest) if oldest.serial == Some(serial) => {
                self.pop_oldest(budget);
                Evicted::Gone
            }
            Some(oldest) if oldest.until_flushed.is_some() => Evicted::NotYet,
            _ => Evicted::Gone,
        }
    }

    fn pop_oldest(&mut self, budget: &TailBudget) {
        let Some(Written { run, until_flushed, .. }) = self.runs.pop_front() else { return };
        self.held -= usize::from(until_flushed.is_some());
        self.account(budget, run.memory_bytes(), 0);
    }

    /// As [`Log::read_cached`](super::Log::read_cached): `None` when `from` is not here.
    pub fn read(&self, from: Offset, limit: Offset, max_bytes: usize, at_least_one: bool) -> Option<Slices> {
        if self.begins_at().is_none_or(|begin| from < begin) {
            return None;
        }
        let first = self.runs.partition_point(|written| written.run.end_offset() <= from);
        let pinned = if first < self.runs.len() {
            0
        } else {
            self.pinned.partition_point(|run| run.end_offset() <= from)
        };
        let mut slices = Slices::none_from(from);
        let runs = self.runs.iter().skip(first).map(|written| &written.run);
        for run in runs.chain(self.pinned.iter().skip(pinned)) {
            let wanted = at_least_one && slices.bytes == 0;
            let room = max_bytes.saturating_sub(slices.bytes);
            let Some(taken) = run.take(slices.next, limit, room, wanted) else { break };
            slices.bytes += taken.bytes.len();
            slices.parts.push(taken.bytes);
            slices.next = taken.next;
            if !taken.to_end || slices.bytes >= max_bytes {
                break;
            }
        }
        Some(slices)
    }

    /// The first offset that is surely here, if anything is.
    pub fn begins_at(&self) -> Option<Offset> {
        self.runs.front().map(|written| &written.run).or(self.pinned.front()).map(Run::first_offset)
    }

    /// Adds what has just become durable in the journal.
    pub fn pin(&mut self, run: Run, budget: &TailBudget) {
        self.account(budget, 0, run.memory_bytes());
        self.pinned_bytes += run.bytes().len();
        budget.pinned.set(budget.pinned.get() + run.bytes().len());
        self.pinned.push_back(run);
    }

    /// Takes out the first `count` runs of [`Self::pinned`]: their batches are in the segment's file now.
    pub fn unpin(&mut self, count: usize, budget: &TailBudget) {
        for _ in 0..count {
            let Some(run) = self.pinned.pop_front() else { return };
            self.account(budget, run.memory_bytes(), 0);
            self.pinned_bytes -= run.bytes().len();
            budget.pinned.set(budget.pinned.get() - run.bytes().len());
        }
    }

    /// What lies in the journal only, in order.
    pub fn pinned(&self) -> &VecDeque<Run> {
        &self.pinned
    }

    /// Bytes of its batches.
    pub fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// Compaction has rewritten what lies below: it is read from disk from now on, or a record that is gone would be seen
    /// for as long as there is memory.
    pub fn forget_below(&mut self, end: Offset, budget: &TailBudget) {
        while self.runs.front().is_some_and(|oldest| oldest.run.end_offset() <= end) {
            self.pop_oldest(budget);
        }
    }

    pub fn clear(&mut self, budget: &TailBudget) {
        self.unpin(self.pinned.len(), budget);
        self.runs.clear();
        self.held = 0;
        self.account(budget, self.bytes, 0);
    }

    fn account(&mut self, budget: &TailBudget, minus: usize, plus: usize) {
        self.bytes = self.bytes + plus - minus;
        budget.used.set(budget.used.get() + plus - minus);
    }
}

impl TailBudget {
    pub fn new(limit: usize) -> TailBudget {
        TailBudget {
            limit,
            used: Cell::new(0),
            pinned: Cell::new(0),
            serial: Cell::new(0),
            order: RefCell::default(),
        }
    }

    pub fn used_bytes(&self) -> usize {
        self.used.get()
    }

    pub fn pinned_bytes(&self) -> usize {
        self.pinned.get()
    }

    fn enter(&self, log: &Rc<LogState>) -> u64 {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        self.order.borrow_mut().push_back((Rc::downgrade(log), serial));
        serial
    }

    /// Evicts until the budget holds. No log may be borrowed.
    pub fn trim(&self) {
        let mut left = self.order.borrow().len();
        while self.used.get() > self.limit && left > 0 {
            left -= 1;
            let Some((weak, serial)) = self.order.borrow_mut().pop_front() else { return };
            let Some(log) = weak.upgrade() else { continue };
            if let Evicted::NotYet = log.borrow_mut().tail.evict(serial, self) {
                self.order.borrow_mut().push_back((weak, serial));
            }
        }
    }
}
