//! What the shard knows of one log: shared by its handles, the commit loop and the tasks that roll and close.

use std::cell::{Cell, OnceCell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use super::directory::Directory;
use super::segment::Segment;
use super::shard::Shard;
use super::tail::Tail;
use super::{Durability, Error, LogConfig};
use crate::log::epoch_cache::EpochCache;
use crate::log::producer_state::ProducerStates;
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::reactor::Instant;
use crate::reactor::sync::{Notify, Sender};

pub struct LogState {
    pub partition: PartitionId,
    /// Unique in the shard: names the log in the read cache.
    pub id: u64,
    /// `topic-index`, for log lines.
    pub name: String,
    pub folder: PathBuf,
    pub directory: Rc<Directory>,
    pub shard: Rc<Shard>,
    /// Something that [`LogState::is_idle`] looks at has changed.
    pub settled: Notify,
    /// [`Work::held`] was given up.
    pub released: Notify,
    /// Grows when segments were taken out, replaced or cut: what was read before and what is asked of the segments after that
    /// need not belong together.
    pub edition: Cell<u64>,
    /// The same log in another directory, once it has moved there: this one is closed.
    pub successor: OnceCell<Rc<LogState>>,
    /// [`Work::writing`] was given up: for drains only, each of which takes it and gives it up again, so that none waits for
    /// a notification that somebody else took.
    pub file_free: Notify,
    inner: RefCell<Inner>,
}

/// Who may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Open,
    /// No more appends; what is queued is committed.
    Stopping,
    /// Deleted, or the stop is done: nothing is written any more.
    Closed,
}

pub struct Inner {
    pub config: LogConfig,
    pub status: Status,
    /// Nothing below it is served; durable (see `log_starts`).
    pub start: Offset,
    /// What it will be once that is on disk; never below `start`.
    pub start_asked: Offset,
    /// Exclusive end of what was appended, queued batches included.
    pub end: Offset,
    /// Exclusive end of what is durable in the topic's sense.
    pub durable_end: Offset,
    /// Exclusive end of what is flushed, as far as the segment being written is concerned.
    pub flushed_end: Offset,
    /// By base offset; appends go to the last one.
    pub segments: Vec<Rc<Segment>>,
    /// The segment that commits go to: the last, or an earlier one while a roll is queued.
    pub committing: Rc<Segment>,
    /// Where the next append goes in the last segment, and the bytes of all segments.
    pub appended_bytes: u64,
    pub total_bytes: u64,
    /// Both include what is queued.
    pub epochs: EpochCache,
    pub producers: ProducerStates,
    pub pending: VecDeque<Pending>,
    pub pending_bytes: usize,
    /// The log is about to go on in another directory from this offset: what is appended behind it is ordered here and
    /// committed there.
    pub boundary: Option<Offset>,
    /// A truncation to here is being decided: what lies above may be gone after a crash, flushed or not.
    pub cut: Option<Offset>,
    /// When the first of `pending` came, or one that was before it.
    pub pending_since: Instant,
    /// What the last block that was written of the committing segment holds, if it is not full.
    pub partial_block: Vec<u8>,
    /// The last journal round with a batch of this log, and the life of the journal file that lists the log.
    pub journaled: u64,
    pub listed_in: u64,
    /// Batches went straight to the segment and are not flushed there.
    pub unflushed: bool,
    pub tail: Tail,
    /// Segments that were rolled and wait to be closed, in order.
    pub unclosed: VecDeque<Unclosed>,
    pub work: Work,
    /// Whoever waits for everything below an offset to be flushed.
    pub flush_waiters: Vec<(Offset, Sender<()>)>,
    /// Appended to since it was opened.
    pub touched: bool,
    /// The log start has moved into another leader epoch's batches, or within one's, and `leader-epoch-checkpoint` does
    /// not say so yet.
    pub epochs_moved: bool,
    /// How often it was truncated since then.
    pub truncations: u64,
}

/// What is under way. At most one of `queued`, `in_round` and `rolling`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// In the directory's list of logs to commit.
    pub queued: bool,
    pub in_round: bool,
    pub rolling: bool,
    pub closing: bool,
    /// The committing segment's file is being written: by a round, or by a drain.
    pub writing: bool,
    /// The files of a segment that was taken out are being removed.
    pub removing: bool,
    /// Somebody waits for flush.ms to be over.
    pub flush_timed: bool,
    /// In the shard's list of logs with segments to remove.
    pub removal_queued: bool,
    /// The cleaner is at work on it; it looks at the log's status now and then.
    pub cleaning: bool,
    /// The cleaner puts a segment in the place of others: nobody else replaces or removes one.
    pub replacing: bool,
    /// A truncation or the end of a move has the log for itself: no roll, no removal, no cleaning, no start that moves;
    /// and no appends, unless they may queue behind [`Inner::boundary`].
    pub held: bool,
    pub hand_over: HandOver,
    /// Its segments are being copied to another directory: no cleaning.
    pub relocating: bool,
    /// Who moves the log start.
    pub moving_starts: u32,
}

/// How far the end of a move to another directory is; see [`relocate`](super::relocate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandOver {
    #[default]
    None,
    /// The rest is copied and made durable there.
    Closing,
    /// The metadata is told. Whoever deletes the log does not wait for that: the same queue may have both.
    Assigning,
    /// It is opened there.
    Opening,
}

/// A batch whose place is fixed.
pub struct Pending {
    pub batch: Bytes,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub epoch: LeaderEpoch,
    /// The batch is the first of a new segment.
    pub opens: Option<Box<Roll>>,
}

/// A roll whose place in the order is fixed.
pub struct Roll {
    pub segment: Rc<Segment>,
    pub before: EndState,
}

/// What the files at a segment's end say, taken when the append that rolled was ordered: later appends have
/// changed the state in memory, and a snapshot must not know of batches behind its offset.
pub struct EndState {
    pub snapshot: Vec<u8>,
    pub epochs: String,
}

/// A rolled segment that is still to be trimmed and closed.
pub struct Unclosed {
    pub segment: Rc<Segment>,
    /// Base of the next segment.
    pub end: Offset,
    pub state: EndState,
}

impl LogState {
    pub fn new(identity: Identity, inner: Inner) -> Rc<LogState> {
        Rc::new(LogState {
            partition: identity.partition,
            id: identity.id,
            name: identity.name,
            folder: identity.folder,
            directory: identity.directory,
            shard: identity.shard,
            settled: Notify::default(),
            released: Notify::default(),
            edition: Cell::new(0),
            successor: OnceCell::new(),
            file_free: Notify::default(),
            inner: RefCell::new(inner),
        })
    }

    pub fn borrow(&self) -> Ref<'_, Inner> {
        self.inner.borrow()
    }

    pub fn borrow_mut(&self) -> RefMut<'_, Inner> {
        self.inner.borrow_mut()
    }

    /// The segments are not what they were.
    pub fn new_edition(&self) {
        self.edition.set(self.edition.get() + 1);
    }

    /// Nothing of this log is being written and nothing is queued.
    pub fn is_idle(&self) -> bool {
        let inner = self.inner.borrow();
        let work = inner.work;
        let busy = work.in_round || work.rolling || work.closing || work.writing || work.removing;
        !(busy || work.cleaning)
            && (inner.status == Status::Closed || self.directory.is_offline() || inner.pending.is_empty())
    }

    /// As [`Self::is_idle`], for a truncation: nothing else changes the log, and nothing is queued.
    pub fn is_still(&self) -> bool {
        let work = self.inner.borrow().work;
        self.is_idle() && !work.queued && work.moving_starts == 0
    }

    /// Waits until nothing of this log is being written.
    pub async fn idle(&self) {
        // none begins again on a log that is stopped or deleted
        let is_held = || {
            let work = self.inner.borrow().work;
            work.held && work.hand_over != HandOver::Assigning
        };
        while is_held() {
            self.released.notified().await;
        }
        self.released.notify();
        while !self.is_idle() {
            self.settled.notified().await;
        }
        // A notification wakes one: a stop may wait here beside a deletion.
        self.settled.notify();
    }

    /// Waits until it is known in which directory the log goes on, if it is being handed over.
    pub async fn handed_over(&self) {
        while self.inner.borrow().work.hand_over != HandOver::None {
            self.released.notified().await;
        }
        self.released.notify();
    }

    /// Takes the committing segment's file for writing, unless somebody has it.
    pub fn begin_writing(&self) -> bool {
        !std::mem::replace(&mut self.inner.borrow_mut().work.writing, true)
    }

    /// Gives it up.
    pub fn end_writing(&self) {
        self.inner.borrow_mut().work.writing = false;
        self.file_free.notify();
        self.settled.notify();
    }

    /// Lets the commit loop or a roll take up what is queued, unless one already has it. Called after every change
    /// of `pending` or `work`.
    pub fn schedule(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        let work = inner.work;
        let flush = inner.awaits_flush();
        if work.queued || work.in_round || work.rolling || self.directory.is_offline() {
            return;
        }
        let first = inner.pending.front().filter(|first| !inner.is_behind_boundary(first));
        if inner.status == Status::Closed || (first.is_none() && !flush) {
            return;
        }
        if first.is_some_and(|first| first.opens.is_some()) {
            inner.work.rolling = true;
            drop(inner);
            super::roll::spawn(Rc::clone(self));
        } else {
            inner.work.queued = true;
            drop(inner);
            self.directory.enqueue(Rc::clone(self));
        }
    }

    /// Resolves when everything appended so far is flushed, whatever the topic's durability.
    pub async fn flush(self: &Rc<Self>) -> Result<(), Error> {
        let end = self.inner.borrow().end;
        self.flush_up_to(end).await
    }

    /// Resolves when everything below `end` is flushed.
    pub async fn flush_up_to(self: &Rc<Self>, end: Offset) -> Result<(), Error> {
        let receiver = {
            let mut inner = self.inner.borrow_mut();
            if inner.status == Status::Closed {
                return Err(Error::Closed);
            }
            if self.directory.is_offline() {
                return Err(Error::Offline);
            }
            if inner.recovery_point() >= end {
                return Ok(());
            }
            let (sender, receiver) = crate::reactor::sync::oneshot();
            inner.flush_waiters.push((end, sender));
            receiver
        };
        self.schedule();
        receiver.await.ok_or_else(|| if self.directory.is_offline() { Error::Offline } else { Error::Closed })
    }

    /// Gives up the queued batches at or above `offset` and what they have changed of the order; the state at the log's end
    /// is to be loaded again if that was anything. Whether it was.
    pub fn drop_pending_from(&self, offset: Offset) -> bool {
        let waiters: Vec<(Offset, Sender<()>)> = {
            let inner = &mut *self.inner.borrow_mut();
            let first = inner.pending.partition_point(|pending| pending.last_offset < offset);
            let dropped = inner.pending.split_off(first);
            let Some(end) = dropped.front().map(|pending| pending.base_offset) else { return false };
            inner.end = end;
            let bytes: usize = dropped.iter().map(|pending| pending.batch.len()).sum();
            inner.pending_bytes -= bytes;
            self.shard.pending_bytes.set(self.shard.pending_bytes.get() - bytes);
            let opened: Vec<u64> =
                dropped.iter().filter_map(|pending| Some(pending.opens.as_ref()?.segment.id)).collect();
            inner.segments.retain(|segment| !opened.contains(&segment.id));
            // nobody flushes what is gone: they hear of it
            inner.flush_waiters.extract_if(.., |(waited, _)| *waited > end).collect()
        };
        drop(waiters);
        true
    }

    /// Gives up what is queued: the directory failed or the log is deleted.
    pub fn drop_pending(&self) {
        let waiters = {
            let mut inner = self.inner.borrow_mut();
            inner.pending.clear();
            self.shard.pending_bytes.set(self.shard.pending_bytes.get() - inner.pending_bytes);
            inner.pending_bytes = 0;
            std::mem::take(&mut inner.flush_waiters)
        };
        drop(waiters);
        self.settled.notify();
    }
}

/// The fixed part of a [`LogState`].
pub struct Identity {
    pub partition: PartitionId,
    pub id: u64,
    pub name: String,
    pub folder: PathBuf,
    pub directory: Rc<Directory>,
    pub shard: Rc<Shard>,
}

impl Inner {
    /// Everything below it is flushed, lies in closed segments or in the one being written, and is not about to be cut.
    pub fn recovery_point(&self) -> Offset {
        let whole = self.unclosed.front().map_or(self.flushed_end, |oldest| oldest.segment.base);
        whole.min(self.flushed_end).min(self.cut.unwrap_or(whole))
    }

    pub fn flushes(&self) -> bool {
        let unflushed = self.end.0 - self.flushed_end.0;
        self.config.durability == Durability::Flushed
            || self.awaits_flush()
            || unflushed >= self.config.flush_messages
    }

    fn awaits_flush(&self) -> bool {
        let here = self.boundary.unwrap_or(Offset(i64::MAX));
        self.flush_waiters.iter().any(|(end, _)| here.min(*end) > self.flushed_end)
    }

    /// The batch is for the directory that the log goes on in.
    pub fn is_behind_boundary(&self, pending: &Pending) -> bool {
        self.boundary.is_some_and(|boundary| pending.base_offset >= boundary)
    }

    /// Takes out those who waited for what is flushed now.
    pub fn satisfied_waiters(&mut self) -> Vec<Sender<()>> {
        let point = self.recovery_point();
        let mut satisfied = Vec::new();
        let mut index = 0;
        while index < self.flush_waiters.len() {
            if self.flush_waiters[index].0 <= point {
                satisfied.push(self.flush_waiters.swap_remove(index).1);
            } else {
                index += 1;
            }
        }
        satisfied
    }

    /// The segment behind `segment`.
    pub fn segment_after(&self, segment: &Segment) -> Option<&Rc<Segment>> {
        self.segments.get(self.segments.partition_point(|other| other.base <= segment.base))
    }
}
