//! One partition's log as the layers above hold it.

use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use super::state::{LogState, Status};
use super::truncate::{self, Cut};
use super::{
    Appended, Durability, Ended, Error, LogConfig, Slices, aborted, append, log_starts, lookup, read,
};
use crate::log::producer_state::{ActiveProducer, FirstSequence, NewMarker, Standing};
use crate::model::{DirectoryId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs};
use crate::protocol::batch::BatchHeader;

/// One partition's log, shared within the shard. It goes along when the log moves to another directory.
#[derive(Clone)]
pub struct Log {
    state: RefCell<Rc<LogState>>,
}

impl Log {
    pub(super) fn new(state: Rc<LogState>) -> Log {
        Log { state: RefCell::new(state) }
    }

    /// The log where it is now.
    pub(super) fn state(&self) -> Rc<LogState> {
        let state = &mut *self.state.borrow_mut();
        while let Some(successor) = state.successor.get().cloned() {
            *state = successor;
        }
        Rc::clone(state)
    }

    /// Does `work`, again if the log has moved to another directory before it could be done.
    async fn wherever_it_is<T>(
        &self,
        work: impl AsyncFn(&Rc<LogState>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let state = self.state();
            match work(&state).await {
                Err(_) if state.successor.get().is_some() => {}
                done => return done,
            }
        }
    }

    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.state.borrow().partition
    }

    /// Fixes the batch's place and queues it for the next commit round; a plain function, no await. `batch` is
    /// one checked v2 batch; base offset and leader epoch are patched in the copy that goes to disk.
    pub fn append(
        &self,
        batch: Bytes,
        header: &BatchHeader,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<Appended, Error> {
        append::append(&self.state(), batch, header, FirstSequence::Any, epoch, now)
    }

    /// As [`Self::append`], of a producer that must begin so where it is not known.
    pub fn append_first(
        &self,
        batch: Bytes,
        header: &BatchHeader,
        first: FirstSequence,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<Appended, Error> {
        append::append(&self.state(), batch, header, first, epoch, now)
    }

    /// As [`Self::append`], the marker that ends a producer's transaction, which may use the space that is kept free. One
    /// that comes again is not appended twice: what says so lies below the end that is told. With the transaction that it
    /// has ended here, if one was open.
    pub fn append_marker(
        &self,
        marker: &NewMarker,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<(Appended, Option<Ended>), Error> {
        append::append_marker(&self.state(), marker, epoch, now)
    }

    /// First offset of the oldest transaction that is open, as of the log's end.
    #[must_use]
    pub fn first_undecided(&self) -> Option<Offset> {
        self.state().borrow().producers.first_undecided()
    }

    /// How the producer's epoch stands to what the log knows, as of its end.
    #[must_use]
    pub fn standing(&self, id: ProducerId, epoch: ProducerEpoch) -> Standing {
        self.state().borrow().producers.standing(id, epoch)
    }

    /// Whether the log knows anything of the producer, as of its end: then it looks at the sequence of every batch.
    #[must_use]
    pub fn knows_producer(&self, id: ProducerId) -> bool {
        self.state().borrow().producers.knows(id)
    }

    /// At most `count` of the producers that the log knows above `after`, by id.
    #[must_use]
    pub fn active_producers(&self, after: Option<ProducerId>, count: usize) -> Vec<ActiveProducer> {
        self.state().borrow().producers.active(after, count)
    }

    /// Which segments the log has: other ones, another edition.
    #[must_use]
    pub fn edition(&self) -> (u64, u64) {
        let state = self.state();
        (state.id, state.edition.get())
    }

    /// The aborted transactions that have a batch in `range`, or may have: producer and first offset, in the order of their
    /// markers. `None`: a transaction index must be read first, see [`Self::aborted`].
    #[must_use]
    pub fn aborted_cached(&self, range: Range<Offset>) -> Option<Vec<(ProducerId, Offset)>> {
        aborted::cached(&self.state(), &range)
    }

    /// As [`Self::aborted_cached`]. True of what was read in the same [edition](Self::edition).
    ///
    /// # Errors
    /// `Offline` when an index cannot be read.
    pub async fn aborted(&self, range: Range<Offset>) -> Result<Vec<(ProducerId, Offset)>, Error> {
        self.wherever_it_is(async |state| aborted::collect(state, &range).await).await
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> DirectoryId {
        self.state().directory.id
    }

    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.state().borrow().start
    }

    /// Exclusive; counts batches that are queued and not yet durable.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.state().borrow().end
    }

    /// Exclusive; below it everything is durable in the topic's sense.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.state().borrow().durable_end
    }

    /// Whole batches from the one that contains `from`, below `limit` (exclusive), at most `max_bytes`, but at
    /// least one batch if `at_least_one`. From memory if it is there, else `None`: use [`Self::read`].
    #[must_use]
    pub fn read_cached(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Slices> {
        read::cached(&self.state(), &read::Request { from, limit, max_bytes, at_least_one })
    }

    /// Has what [`Self::read`] will be asked for read from disk meanwhile, unless it is in memory.
    pub fn prepare(&self, from: Offset, limit: Offset, max_bytes: usize) {
        read::prepare(&self.state(), &read::Request { from, limit, max_bytes, at_least_one: true });
    }

    /// As [`Self::read_cached`], going to disk with read-ahead where it must.
    ///
    /// # Errors
    /// `OutOfRange` outside log start .. log end; `Corrupt` when the batch at `from` does not match its checksum;
    /// `Offline` when the file cannot be read.
    pub fn read(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Slices, Error>>>> {
        let log = self.clone();
        let request = read::Request { from, limit, max_bytes, at_least_one };
        Box::pin(async move { log.wherever_it_is(async |state| read::read(state, request).await).await })
    }

    /// The first record below `limit` with a timestamp at or after `target`: its timestamp, offset and epoch.
    pub async fn find_timestamp(
        &self,
        target: TimestampMs,
        limit: Offset,
    ) -> Result<Option<(TimestampMs, Offset, LeaderEpoch)>, Error> {
        self.wherever_it_is(async |state| lookup::first_at_or_after(state, target, limit).await).await
    }

    /// The record with the largest timestamp below `limit`.
    pub async fn find_max_timestamp(
        &self,
        limit: Offset,
    ) -> Result<Option<(TimestampMs, Offset, LeaderEpoch)>, Error> {
        self.wherever_it_is(async |state| lookup::latest(state, limit).await).await
    }

    /// A leadership begins: the epoch is known from here on, even if it never appends anything.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) {
        let state = self.state();
        let mut inner = state.borrow_mut();
        let end = inner.end;
        inner.epochs.assign(epoch, end);
    }

    /// The newest epoch known; `LeaderEpoch::NONE` when there is none.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.state().borrow().epochs.last_epoch()
    }

    /// The epoch in force at `offset`, for ListOffsets answers.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.state().borrow().epochs.epoch_at(offset)
    }

    /// Kafka's `LeaderEpochFileCache.endOffsetFor`: (epoch, end offset), or (NONE, NONE) when unknown.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = self.state();
        let inner = state.borrow();
        inner.epochs.end_offset_for(epoch, inner.end)
    }

    /// From here on the log obeys these settings. When `durability` becomes `Flushed`, await [`Self::flush`]
    /// before the change is answered.
    pub fn set_config(&self, config: LogConfig) {
        self.state().borrow_mut().config = config;
    }

    /// DeleteRecords: the log starts at `to` or above, for good. Gives the start. Segments wholly below it are removed
    /// in the background.
    ///
    /// # Errors
    /// `OutOfRange` when `to` is not durable yet; `Full` when that cannot be written down; `Offline` or `Closed`.
    pub async fn delete_records(&self, to: Offset) -> Result<Offset, Error> {
        if to > self.durable_end() {
            return Err(Error::OutOfRange);
        }
        self.wherever_it_is(async |state| {
            state.handed_over().await;
            log_starts::advance(state, to).await
        })
        .await
    }

    /// Cuts every batch that has a record at or above `to`; gives the log's end, which is below `to` where that lies within
    /// a batch. Durable when it returns; whatever becomes of the caller, it is done. A `to` below the log's start empties the
    /// log, which starts at `to` then. Appends that were queued behind the cut never become durable; until it has ended,
    /// further ones are refused as `Closed`. The high watermark, and who waits for it, are the caller's.
    ///
    /// # Errors
    /// `Full`: nothing is changed. `Offline`; `Closed`, during the boot, too; `OutOfRange` if the log cannot start so low
    /// before the next clean stop.
    pub async fn truncate_to(&self, to: Offset) -> Result<Offset, Error> {
        self.wherever_it_is(async |state| truncate::truncate(state, Cut::To(to)).await).await
    }

    /// Empties the log, producers and leader epochs included: it starts and ends at `at`, which may lie anywhere. As
    /// [`Self::truncate_to`] otherwise.
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_fully_and_start_at(&self, at: Offset) -> Result<(), Error> {
        self.wherever_it_is(async |state| truncate::truncate(state, Cut::All(at)).await.map(|_| ())).await
    }

    /// Resolves when everything appended so far is flushed, whatever the topic's durability.
    ///
    /// # Errors
    /// `Offline` or `Closed`: it never will be.
    pub async fn flush(&self) -> Result<(), Error> {
        self.wherever_it_is(async |state| state.flush().await).await
    }

    /// What is durable means flushed.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.state().borrow().config.durability == Durability::Flushed
    }

    /// Bytes of all segments, preallocated space not counted.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.state().borrow().total_bytes
    }

    /// The log takes appends: it is neither stopped nor deleted and its directory is online.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let state = self.state();
        state.borrow().status == Status::Open && !state.directory.is_offline()
    }
}
