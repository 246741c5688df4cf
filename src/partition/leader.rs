//! One partition as its leader's shard holds it: the log, the high watermark, and who waits for it to move.
//!
//! Waiters are data, not futures: an append waits for an end offset, a parked fetch for any movement.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::message::AppendOutcome;
use super::park::Parked;
use crate::metrics::snapshot::Topic;
use crate::model::{DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionId};
use crate::reactor::Instant;
use crate::reactor::sync::Sender;
use crate::storage::Log;

pub(super) struct Partition {
    pub(super) id: PartitionId,
    /// As it was opened; the log may have moved since.
    directory: DirectoryId,
    /// `None`: the folder is missing or could not be recovered; every request gets KAFKA_STORAGE_ERROR.
    pub(super) log: Option<Log>,
    /// What the topic counts on this shard, shared by its partitions.
    pub(super) topic: Rc<Topic>,
    pub(super) leader_epoch: Cell<LeaderEpoch>,
    high_watermark: Cell<Offset>,
    appends: RefCell<VecDeque<AppendWaiter>>,
    parked: RefCell<Vec<Rc<Parked>>>,
}

struct AppendWaiter {
    end: Offset,
    /// When to answer REQUEST_TIMED_OUT; the data stays in the log.
    deadline: Option<Instant>,
    request: Rc<PendingAppend>,
    /// Which outcome of the request this is.
    place: usize,
}

/// One append request of this shard, answered when its last partition is.
pub(super) struct PendingAppend {
    outcomes: RefCell<Vec<AppendOutcome>>,
    remaining: Cell<usize>,
    sender: RefCell<Option<Sender<Vec<AppendOutcome>>>>,
}

impl PendingAppend {
    /// `outcomes` already say what happens if all goes well; `remaining` of them still wait.
    pub(super) fn new(
        outcomes: Vec<AppendOutcome>,
        remaining: usize,
        sender: Sender<Vec<AppendOutcome>>,
    ) -> Rc<PendingAppend> {
        Rc::new(PendingAppend {
            outcomes: RefCell::new(outcomes),
            remaining: Cell::new(remaining),
            sender: RefCell::new(Some(sender)),
        })
    }

    fn settle(&self, place: usize, error: ErrorCode) {
        if !error.is_none() {
            self.outcomes.borrow_mut()[place] = AppendOutcome::failed(error);
        }
        self.remaining.set(self.remaining.get() - 1);
        if self.remaining.get() == 0 {
            let sender = self.sender.take().expect("a request is settled once");
            sender.send(self.outcomes.take());
        }
    }
}

impl Partition {
    pub(super) fn new(
        id: PartitionId,
        directory: DirectoryId,
        log: Option<Log>,
        topic: Rc<Topic>,
        epoch: LeaderEpoch,
    ) -> Partition {
        // The only in-sync replica: everything recovered is durable, so all of it may be read.
        let high_watermark = log.as_ref().map_or(Offset::ZERO, Log::durable_end);
        Partition {
            id,
            directory,
            log,
            topic,
            leader_epoch: Cell::new(epoch),
            high_watermark: Cell::new(high_watermark),
            appends: RefCell::default(),
            parked: RefCell::default(),
        }
    }

    pub(super) fn directory(&self) -> DirectoryId {
        self.log.as_ref().map_or(self.directory, Log::directory)
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.high_watermark.get()
    }

    /// Where read_committed readers stop; transactions will hold it back.
    pub(super) fn last_stable_offset(&self) -> Offset {
        self.high_watermark.get()
    }

    /// Settles `place` of `request` once the high watermark reaches `end`.
    pub(super) fn wait_for(
        &self,
        end: Offset,
        deadline: Option<Instant>,
        request: Rc<PendingAppend>,
        place: usize,
    ) {
        let mut appends = self.appends.borrow_mut();
        // A duplicate of a queued batch waits for an end below the newest: keep the queue sorted.
        let at = appends.partition_point(|waiter| waiter.end <= end);
        appends.insert(at, AppendWaiter { end, deadline, request, place });
    }

    /// The durable end moved: with one in-sync replica the high watermark moves with it.
    pub(super) fn advance(&self, durable_end: Offset) {
        assert!(durable_end >= self.high_watermark.get(), "the high watermark never moves back");
        self.high_watermark.set(durable_end);
        loop {
            let waiter = {
                let mut appends = self.appends.borrow_mut();
                match appends.front() {
                    Some(front) if front.end <= durable_end => appends.pop_front(),
                    _ => None,
                }
            };
            let Some(waiter) = waiter else { break };
            waiter.request.settle(waiter.place, ErrorCode::None);
        }
        self.wake_parked();
    }

    /// Nothing more will become durable here: answers everyone who waits.
    pub(super) fn fail_waiters(&self, error: ErrorCode) {
        for waiter in self.appends.take() {
            waiter.request.settle(waiter.place, error);
        }
        self.wake_parked();
    }

    /// Answers the appends whose time is over.
    pub(super) fn expire(&self, now: Instant) {
        let expired: Vec<AppendWaiter> = {
            let mut appends = self.appends.borrow_mut();
            if !appends.iter().any(|waiter| waiter.deadline.is_some_and(|deadline| deadline <= now)) {
                return;
            }
            let (expired, kept) = std::mem::take(&mut *appends)
                .into_iter()
                .partition(|waiter| waiter.deadline.is_some_and(|deadline| deadline <= now));
            *appends = kept;
            expired.into()
        };
        for waiter in expired {
            waiter.request.settle(waiter.place, ErrorCode::RequestTimedOut);
        }
    }

    pub(super) fn park(&self, parked: &Rc<Parked>) {
        self.parked.borrow_mut().push(Rc::clone(parked));
    }

    pub(super) fn unpark(&self, parked: &Rc<Parked>) {
        self.parked.borrow_mut().retain(|other| !Rc::ptr_eq(other, parked));
    }

    fn wake_parked(&self) {
        for parked in self.parked.borrow().iter() {
            parked.moved.notify();
        }
    }
}
