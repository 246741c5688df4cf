//! One partition as its leader's shard holds it: the log, the high watermark, and who waits for it to move.
//!
//! Waiters are data, not futures: an append waits for an end offset, a parked fetch for any movement.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::error::error_code;
use super::message::AppendOutcome;
use super::park::Parked;
use super::stable::StableEnd;
use super::verify::Verifications;
use crate::log::producer_state::{NewMarker, Standing};
use crate::metrics::snapshot::Topic;
use crate::model::{DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionId, TimestampMs};
use crate::protocol::batch::BatchHeader;
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
    stable: StableEnd,
    appends: RefCell<VecDeque<AppendWaiter>>,
    /// Batches that have no place in the log yet.
    pub(super) verifications: Verifications,
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

    /// One that still waits has another outcome, if all goes well.
    pub(super) fn expect(&self, place: usize, outcome: AppendOutcome) {
        self.outcomes.borrow_mut()[place] = outcome;
    }

    pub(super) fn settle(&self, place: usize, error: ErrorCode) {
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
        let stable = StableEnd::default();
        stable.advance(high_watermark, log.as_ref().and_then(Log::first_undecided));
        Partition {
            id,
            directory,
            log,
            topic,
            leader_epoch: Cell::new(epoch),
            high_watermark: Cell::new(high_watermark),
            stable,
            appends: RefCell::default(),
            verifications: Verifications::default(),
            parked: RefCell::default(),
        }
    }

    pub(super) fn directory(&self) -> DirectoryId {
        self.log.as_ref().map_or(self.directory, Log::directory)
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.high_watermark.get()
    }

    /// Where read_committed readers stop: all transactions below have ended, and their markers are below the high
    /// watermark. A log start may pass open transactions, and takes it along.
    pub(super) fn last_stable_offset(&self) -> Offset {
        let start = self.log.as_ref().map_or(Offset::ZERO, Log::start_offset);
        self.stable.get().max(start).min(self.high_watermark.get())
    }

    /// Offsets that readers of committed records wait for; moves with the high watermark only (a log start that passes an
    /// open transaction is not counted).
    pub(super) fn stable_lag(&self) -> u64 {
        let lag = self.high_watermark.get().0 - self.stable.get().0;
        u64::try_from(lag).expect("the last stable offset is not above the high watermark")
    }

    /// Appends the marker that ends a producer's transaction: exclusive end of what must be durable for it. A plain
    /// function, as every append.
    pub(super) fn append_marker(&self, marker: &NewMarker, now: TimestampMs) -> Result<Offset, ErrorCode> {
        // also if it is refused: whoever writes markers knows more than the answers that are on their way
        self.verifications.marker_came(marker.producer_id);
        let log = self.log.as_ref().ok_or(ErrorCode::KafkaStorageError)?;
        let (appended, ended) =
            log.append_marker(marker, self.leader_epoch.get(), now).map_err(error_code)?;
        if let Some(ended) = ended {
            self.stable.ended(ended);
        }
        Ok(appended.end_offset)
    }

    /// Whether a batch must wait until the coordinator has said that it belongs to a transaction, or behind one that does.
    /// `is_trusted`: its client is taken at its word.
    pub(super) fn must_verify(&self, header: &BatchHeader, is_trusted: bool) -> bool {
        if self.verifications.has_parked(header.producer_id) {
            return true;
        }
        let is_outside =
            |log: &Log| log.standing(header.producer_id, header.producer_epoch) == Standing::Outside;
        header.is_transactional() && !is_trusted && self.log.as_ref().is_some_and(is_outside)
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
        let lag = self.stable_lag();
        self.high_watermark.set(durable_end);
        self.stable.advance(durable_end, self.log.as_ref().and_then(Log::first_undecided));
        self.topic.stable_lag.replace(lag, self.stable_lag());
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
