//! Idempotence: what each producer last appended to one partition, and the verdict on its next batch.
//!
//! A producer numbers the records it sends to a partition 0, 1, 2 … 2^31-1, 0 …; a batch carries the number of its
//! first. The partition remembers the last five batches of each producer, so that a batch that comes again is
//! answered as the first time, and one that does not follow the last is refused.
//!
//! The state moves when a batch gets its place, before it is durable: a repeat that arrives meanwhile is found, and
//! its answer waits for the same offset. It is made again from a snapshot and the batches after it, see
//! [`producer_snapshot`](super::producer_snapshot).
//!
//! Lives on the partition's shard. Source: Kafka's `ProducerStateManager`, `ProducerStateEntry`,
//! `ProducerAppendInfo`, `UnifiedLog.analyzeAndValidateProducerState`.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::{ErrorCode, Offset, ProducerEpoch, ProducerId, TimestampMs};
use crate::protocol::batch::BatchHeader;

/// Batches remembered per producer: what a client may have in flight.
pub const BATCHES_RETAINED: usize = 5;
/// What one producer is counted as against the memory budget: its entry, the allocation's rounding and its share of
/// the map.
pub const ENTRY_MEMORY_BYTES: usize = size_of::<ProducerEntry>() + 64;

/// The batch by which a producer is known: compaction keeps it, for its sequence or its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// Its last offset.
    Data(Offset),
    /// No data is known, only markers of this epoch.
    Marker(ProducerEpoch),
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// Already in the log (not necessarily durable yet): answer success with these. Inclusive last offset; the
    /// timestamp is the batch's largest.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        timestamp: TimestampMs,
    },
    Refuse(ErrorCode),
}

/// With which sequence a producer may begin of whom the partition knows no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSequence {
    /// With any: its state may have expired (KIP-360).
    Any,
    /// With 0: transactions of version 2 raise the epoch with every transaction (KIP-890), so nobody is ever in the
    /// middle of one without the partition knowing.
    Zero,
}

/// What to do with the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerVerdict {
    Append,
    /// The log has this one already (not necessarily durable yet), and nothing was begun since.
    Repeated,
    Refuse(ErrorCode),
}

/// The end of a transaction as its coordinator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMarker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub coordinator_epoch: i32,
    pub end: EndTxn,
    /// Kafka's transaction.version of the transaction: from 2 on the marker carries an epoch above that of its batches.
    pub transaction_version: i8,
}

/// What one producer is known by, for those who describe it. -1 stands for "none" as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub last_sequence: i32,
    pub last_timestamp: TimestampMs,
    pub coordinator_epoch: i32,
    /// First offset of the open transaction.
    pub txn_start_offset: Offset,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndTxn {
    Commit,
    Abort,
}

/// How a producer's epoch stands to what a partition knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A higher epoch is known.
    Fenced,
    /// It has a transaction open.
    InTransaction,
    /// It has none open.
    Outside,
}

/// A transaction that a marker has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker's.
    pub last_offset: Offset,
    pub end: EndTxn,
}

/// The payload of a control batch that ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub coordinator_epoch: i32,
    pub end: EndTxn,
    pub offset: Offset,
    pub timestamp: TimestampMs,
}

/// No epoch, no sequence, no timestamp, no offset.
const NONE: i8 = -1;

/// One remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RememberedBatch {
    pub last_sequence: i32,
    /// Records in it, less one.
    pub offset_delta: i32,
    pub last_offset: i64,
    pub timestamp: i64,
}

impl RememberedBatch {
    fn first_sequence(&self) -> i32 {
        let unwrapped = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        i32::try_from(unwrapped.rem_euclid(1 << 31)).expect("a remainder of 2^31")
    }

    fn base_offset(&self) -> i64 {
        self.last_offset.saturating_sub(i64::from(self.offset_delta))
    }
}

/// One producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerEntry {
    pub epoch: i16,
    /// Of the transaction coordinator that wrote the last marker.
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    /// First offset of the open transaction.
    pub txn_first_offset: Option<i64>,
    /// Batches of `epoch`, oldest first; `remembered` of them count.
    batches: [RememberedBatch; BATCHES_RETAINED],
    remembered: u8,
}

impl ProducerEntry {
    pub fn new(epoch: i16) -> ProducerEntry {
        ProducerEntry {
            epoch,
            coordinator_epoch: i32::from(NONE),
            last_timestamp: i64::from(NONE),
            txn_first_offset: None,
            batches: Default::default(),
            remembered: 0,
        }
    }

    fn batches(&self) -> &[RememberedBatch] {
        &self.batches[..usize::from(self.remembered)]
    }

    pub fn last_batch(&self) -> Option<&RememberedBatch> {
        self.batches().last()
    }

    /// All but the last.
    pub fn older_batches(&self) -> &[RememberedBatch] {
        self.batches().split_last().map_or(&[], |(_, older)| older)
    }

    /// -1 if only markers are known.
    fn last_offset(&self) -> i64 {
        self.last_batch().map_or(i64::from(NONE), |batch| batch.last_offset)
    }

    fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(i32::from(NONE), |batch| batch.last_sequence)
    }

    fn find(&self, first_sequence: i32, last_sequence: i32) -> Option<&RememberedBatch> {
        self.batches()
            .iter()
            .find(|batch| batch.last_sequence == last_sequence && batch.first_sequence() == first_sequence)
    }

    /// A new epoch, lower or higher, starts without batches.
    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.remembered = 0;
        }
    }

    pub fn push(&mut self, epoch: i16, batch: RememberedBatch) {
        self.set_epoch(epoch);
        if usize::from(self.remembered) == BATCHES_RETAINED {
            self.batches.copy_within(1.., 0);
            self.remembered -= 1;
        }
        self.batches[usize::from(self.remembered)] = batch;
        self.remembered += 1;
        self.last_timestamp = batch.timestamp;
    }
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    // ordered, so that a snapshot's bytes depend on the state only; boxed, so that a small map stays small
    producers: BTreeMap<ProducerId, Box<ProducerEntry>>,
    /// Open transactions by their first offset.
    open_txns: BTreeMap<Offset, ProducerId>,
}

impl ProducerStates {
    /// Kafka's rules for a client's batch; a batch without a producer id is always `Append`. One of a producer without a
    /// sequence is a coordinator's, written into the producer's transaction: only its epoch is looked at. Changes nothing.
    #[must_use]
    pub fn check(&self, header: &BatchHeader, first: FirstSequence) -> Verdict {
        let Some(entry) = self.producers.get(&header.producer_id) else {
            return match first {
                FirstSequence::Zero if header.is_idempotent() && header.base_sequence != 0 => {
                    Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber)
                }
                _ => Verdict::Append,
            };
        };
        let epoch = header.producer_epoch.0;
        if header.base_sequence < 0 {
            return match epoch < entry.epoch {
                true => Verdict::Refuse(ErrorCode::InvalidProducerEpoch),
                false => Verdict::Append,
            };
        }
        if epoch == entry.epoch
            && let Some(batch) = entry.find(header.base_sequence, header.last_sequence())
        {
            return Verdict::Duplicate {
                base_offset: Offset(batch.base_offset()),
                last_offset: Offset(batch.last_offset),
                timestamp: TimestampMs(batch.timestamp),
            };
        }
        if epoch < entry.epoch {
            return Verdict::Refuse(ErrorCode::InvalidProducerEpoch);
        }
        let in_sequence = match entry.epoch {
            known if known < 0 => true,
            known if known == epoch => follows(entry.last_sequence(), header.base_sequence),
            _ => header.base_sequence == 0,
        };
        if !in_sequence {
            return Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber);
        }
        if entry.txn_first_offset.is_some() && !header.is_transactional() {
            return Verdict::Refuse(ErrorCode::InvalidTxnState);
        }
        Verdict::Append
    }

    /// Kafka's rules for the end of a transaction. Changes nothing.
    ///
    /// A marker fences: it leaves its epoch and its coordinator's, also where nothing of the transaction was written. From
    /// version 2 on its epoch is above that of the transaction's batches, so one that is not, and yet meets an open
    /// transaction, is late: the next transaction has begun. (32767 is the epoch of producers that Kafka once let go too
    /// far; their transactions must end all the same.)
    #[must_use]
    pub fn check_marker(&self, marker: &NewMarker) -> MarkerVerdict {
        let Some(entry) = self.producers.get(&marker.producer_id) else { return MarkerVerdict::Append };
        let epoch = marker.producer_epoch.0;
        let is_open = entry.txn_first_offset.is_some();
        let raises_epoch = marker.transaction_version >= 2;
        if epoch < entry.epoch || (raises_epoch && epoch == entry.epoch && is_open && epoch != i16::MAX) {
            return MarkerVerdict::Refuse(ErrorCode::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            return MarkerVerdict::Refuse(ErrorCode::TransactionCoordinatorFenced);
        }
        let leaves_nothing = epoch == entry.epoch && marker.coordinator_epoch == entry.coordinator_epoch;
        if leaves_nothing && !is_open { MarkerVerdict::Repeated } else { MarkerVerdict::Append }
    }

    /// First offset of the producer's open transaction.
    #[must_use]
    pub fn open_txn(&self, id: ProducerId) -> Option<Offset> {
        self.producers.get(&id)?.txn_first_offset.map(Offset)
    }

    /// Whether anything is known of the producer, so that its next batch has to follow.
    #[must_use]
    pub fn knows(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    /// What is known of the producer's epoch, and whether it has a transaction open in which this epoch goes on.
    #[must_use]
    pub fn standing(&self, id: ProducerId, epoch: ProducerEpoch) -> Standing {
        match self.producers.get(&id) {
            Some(entry) if epoch.0 < entry.epoch => Standing::Fenced,
            Some(entry) if epoch.0 == entry.epoch && entry.txn_first_offset.is_some() => {
                Standing::InTransaction
            }
            _ => Standing::Outside,
        }
    }

    /// At most `count` producers above `after`, by producer id.
    #[must_use]
    pub fn active(&self, after: Option<ProducerId>, count: usize) -> Vec<ActiveProducer> {
        let describe = |id: ProducerId, entry: &ProducerEntry| ActiveProducer {
            id,
            epoch: ProducerEpoch(entry.epoch),
            last_sequence: entry.last_sequence(),
            last_timestamp: TimestampMs(entry.last_timestamp),
            coordinator_epoch: entry.coordinator_epoch,
            txn_start_offset: entry.txn_first_offset.map_or(Offset::NONE, Offset),
        };
        self.above(after).take(count).map(|(&id, entry)| describe(id, entry)).collect()
    }

    /// Notes a data batch that was given `base_offset`. Called when its place is fixed, before it is durable, and for
    /// every batch that is read at recovery. Does not check. Control batches are [`Self::apply_marker`]'s: here they
    /// change nothing.
    pub fn apply(&mut self, header: &BatchHeader, base_offset: Offset) {
        if header.producer_id < ProducerId(0) || header.is_control() {
            return;
        }
        let entry = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Box::new(ProducerEntry::new(header.producer_epoch.0)));
        let batch = RememberedBatch {
            last_sequence: header.last_sequence(),
            offset_delta: header.last_offset_delta,
            last_offset: base_offset.0.saturating_add(i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp.0,
        };
        entry.push(header.producer_epoch.0, batch);
        if header.is_transactional() && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(base_offset.0);
            self.open_txns.insert(base_offset, header.producer_id);
        }
    }

    /// Notes a control batch. Gives the transaction it ended, if one was open here.
    pub fn apply_marker(&mut self, marker: Marker) -> Option<CompletedTxn> {
        let entry = self
            .producers
            .entry(marker.producer_id)
            .or_insert_with(|| Box::new(ProducerEntry::new(marker.producer_epoch.0)));
        entry.set_epoch(marker.producer_epoch.0);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = marker.timestamp.0;
        let first_offset = Offset(entry.txn_first_offset.take()?);
        self.open_txns.remove(&first_offset);
        Some(CompletedTxn {
            producer_id: marker.producer_id,
            first_offset,
            last_offset: marker.offset,
            end: marker.end,
        })
    }

    /// Looks at `count` producers above `from` and forgets those without an open transaction whose last timestamp is
    /// `after_ms` or more ago (producer.id.expiration.ms). Record time, as in Kafka: what a producer dated long ago is
    /// forgotten soon. Gives where to go on, `None` at the end.
    pub fn expire(
        &mut self,
        now: TimestampMs,
        after_ms: i64,
        from: Option<ProducerId>,
        count: usize,
    ) -> Option<ProducerId> {
        self.forget(from, count, |entry| now.0.saturating_sub(entry.last_timestamp) >= after_ms).1
    }

    /// Adds the last offsets of those of the next `count` producers above `from` that may be forgotten: the lower, the
    /// longer silent. Gives where to go on, `None` at the end.
    pub fn last_offsets(
        &self,
        from: Option<ProducerId>,
        count: usize,
        offsets: &mut Vec<i64>,
    ) -> Option<ProducerId> {
        let mut seen = (0, None);
        for (&id, entry) in self.above(from).take(count) {
            seen = (seen.0 + 1, Some(id));
            if entry.txn_first_offset.is_none() {
                offsets.push(entry.last_offset());
            }
        }
        seen.1.filter(|_| seen.0 == count)
    }

    /// Looks at `count` producers above `from` and forgets those without an open transaction whose last offset is
    /// `offset` or below. Gives how many those were, and where to go on, `None` at the end.
    pub fn forget_up_to(
        &mut self,
        offset: i64,
        from: Option<ProducerId>,
        count: usize,
    ) -> (usize, Option<ProducerId>) {
        self.forget(from, count, |entry| entry.last_offset() <= offset)
    }

    /// Forgets the `count` producers without an open transaction that were silent longest, at one go: where nobody waits.
    pub fn shed(&mut self, count: usize) {
        let mut offsets = Vec::new();
        self.last_offsets(None, usize::MAX, &mut offsets);
        if let Some(last) = count.min(offsets.len()).checked_sub(1) {
            let silent = *offsets.select_nth_unstable(last).1;
            self.forget_up_to(silent, None, usize::MAX);
        }
    }

    fn forget(
        &mut self,
        from: Option<ProducerId>,
        count: usize,
        is_due: impl Fn(&ProducerEntry) -> bool,
    ) -> (usize, Option<ProducerId>) {
        let (mut due, mut seen) = (Vec::new(), (0, None));
        for (&id, entry) in self.above(from).take(count) {
            seen = (seen.0 + 1, Some(id));
            if entry.txn_first_offset.is_none() && is_due(entry) {
                due.push(id);
            }
        }
        for id in &due {
            self.producers.remove(id);
        }
        (due.len(), seen.1.filter(|_| seen.0 == count))
    }

    fn above(&self, from: Option<ProducerId>) -> impl Iterator<Item = (&ProducerId, &Box<ProducerEntry>)> {
        self.producers.range((from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// The last batches of at most `count` producers above `after`, by producer id.
    #[must_use]
    pub fn last_batches(&self, after: Option<ProducerId>, count: usize) -> Vec<(ProducerId, LastBatch)> {
        let last = |entry: &ProducerEntry| match entry.last_batch() {
            Some(batch) => LastBatch::Data(Offset(batch.last_offset)),
            None => LastBatch::Marker(ProducerEpoch(entry.epoch)),
        };
        self.above(after).take(count).map(|(&id, entry)| (id, last(entry))).collect()
    }

    /// First offset of the oldest open transaction.
    #[must_use]
    pub fn first_undecided(&self) -> Option<Offset> {
        self.open_txns.first_key_value().map(|(&first_offset, _)| first_offset)
    }

    /// What the producers are counted as against the memory budget.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.len() * ENTRY_MEMORY_BYTES
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub fn clear(&mut self) {
        self.producers.clear();
        self.open_txns.clear();
    }

    /// By producer id.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(&id, entry)| (id, &**entry))
    }

    /// Takes an entry of a snapshot. A further one of a producer is behind the batches of those before, if it can be;
    /// else it is the only one, as Kafka has it.
    pub(super) fn insert_next(&mut self, id: ProducerId, mut entry: ProducerEntry) {
        if let Some(known) = self.producers.remove(&id) {
            known.txn_first_offset.map(|first_offset| self.open_txns.remove(&Offset(first_offset)));
            if let Some(&batch) = entry.last_batch()
                && known.epoch == entry.epoch
                && known.last_offset() < entry.last_offset()
            {
                let ProducerEntry { coordinator_epoch, last_timestamp, txn_first_offset, .. } = entry;
                entry = *known;
                entry.push(entry.epoch, batch);
                entry = ProducerEntry { coordinator_epoch, last_timestamp, txn_first_offset, ..entry };
            }
        }
        if let Some(first_offset) = entry.txn_first_offset {
            self.open_txns.insert(Offset(first_offset), id);
        }
        self.producers.insert(id, Box::new(entry));
    }
}

/// Whether `next` is the sequence after `last`. The first of an epoch follows -1.
fn follows(last: i32, next: i32) -> bool {
    match last {
        i32::MAX => next == 0,
        _ => next == last + 1,
    }
}

#[cfg(test)]
mod tests;
