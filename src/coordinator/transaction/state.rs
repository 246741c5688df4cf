//! One transactional id: who has it, and how far its transaction is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Decided, Version, WriteMarkers};
use crate::coordinator::record::{TransactionPartitions, TransactionState, TransactionValue};
use crate::log::producer_state::EndTxn;
use crate::model::{ProducerEpoch, ProducerId};

/// A producer never has the highest epoch: it is kept, so that whoever has the last one can be fenced.
const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

pub(super) const NO_EPOCH: ProducerEpoch = ProducerEpoch(-1);
const NO_TIME: i64 = -1;

/// A timeout for ever: of a producer that another coordinator decides for (KIP-939), in a log of Kafka's.
const TIMEOUT_NEVER: i32 = i32::MAX;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Transaction {
    pub producer_id: ProducerId,
    /// Before the last change of state; by it a producer is known that has not heard of its new id. `NONE`: none.
    pub previous_producer_id: ProducerId,
    /// In place of `producer_id` when the transaction is complete: its epochs are used up. `NONE`: none.
    pub next_producer_id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of the producer before it was given `epoch`: it may ask again. Not in the log.
    pub last_epoch: ProducerEpoch,
    /// By which the client speaks.
    pub version: Version,
    pub state: TransactionState,
    pub timeout_ms: i32,
    /// Milliseconds since 1970; -1: there was no transaction since the producer's last InitProducerId.
    pub started: i64,
    /// Milliseconds since 1970.
    pub updated: i64,
    /// By topic; empty without an open transaction.
    pub partitions: BTreeMap<Box<str>, BTreeSet<i32>>,
}

impl Transaction {
    /// An id that was never seen before.
    pub fn new(producer_id: ProducerId, timeout_ms: i32, now: i64) -> Transaction {
        Transaction {
            producer_id,
            previous_producer_id: producer_id,
            next_producer_id: ProducerId::NONE,
            epoch: ProducerEpoch(0),
            last_epoch: NO_EPOCH,
            version: Version::ZERO,
            state: TransactionState::Empty,
            timeout_ms,
            started: NO_TIME,
            updated: now,
            partitions: BTreeMap::new(),
        }
    }

    pub fn replayed(value: TransactionValue) -> Transaction {
        let partitions = value.partitions.into_iter();
        Transaction {
            producer_id: ProducerId(value.producer_id),
            previous_producer_id: ProducerId(value.previous_producer_id),
            next_producer_id: ProducerId(value.next_producer_id),
            epoch: ProducerEpoch(value.producer_epoch),
            last_epoch: NO_EPOCH,
            version: Version(value.client_version),
            state: value.state,
            timeout_ms: value.timeout_ms,
            started: value.started,
            updated: value.updated,
            partitions: partitions
                .map(|topic| (topic.topic.into_boxed_str(), topic.partitions.into_iter().collect()))
                .collect(),
        }
    }

    /// For the log of a cluster at this level. What a client of a later version has begun is written as it needs.
    pub fn value(&self, level: Version) -> TransactionValue {
        let version = level.record_version().max(self.version.record_version());
        let is_short = version == 0;
        let tag = |id: ProducerId| if is_short { ProducerId::NONE.0 } else { id.0 };
        let partitions = self.partitions.iter().map(|(topic, partitions)| TransactionPartitions {
            topic: topic.to_string(),
            partitions: partitions.iter().copied().collect(),
        });
        TransactionValue {
            version,
            producer_id: self.producer_id.0,
            previous_producer_id: tag(self.previous_producer_id),
            next_producer_id: tag(self.next_producer_id),
            producer_epoch: self.epoch.0,
            timeout_ms: self.timeout_ms,
            state: self.state,
            partitions: partitions.collect(),
            updated: self.updated,
            started: self.started,
            client_version: self.version.0,
        }
    }

    pub fn is_decided(&self) -> bool {
        matches!(self.state, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }

    /// There is nothing to be done for it.
    pub fn state_is_final(&self) -> bool {
        !self.is_decided() && self.state != TransactionState::Ongoing
    }

    pub fn is_last_epoch(&self) -> bool {
        is_last(self.epoch)
    }

    /// What it has left of its time, milliseconds; `None`: it has no end.
    pub fn remaining(&self, now: i64) -> Option<u64> {
        if self.timeout_ms == TIMEOUT_NEVER {
            return None;
        }
        let end = self.started.saturating_add(i64::from(self.timeout_ms));
        Some(u64::try_from(end.saturating_sub(now)).unwrap_or(0))
    }

    /// InitProducerId: the producer goes on with the next epoch.
    pub fn raise_epoch(&mut self, last_epoch: ProducerEpoch, timeout_ms: i32, now: i64) {
        self.previous_producer_id = self.producer_id;
        self.epoch.0 += 1;
        self.last_epoch = last_epoch;
        self.empty(timeout_ms, now);
    }

    /// InitProducerId: the producer goes on with another id, since the epochs of its own are used up.
    pub fn replace_producer_id(
        &mut self,
        next: ProducerId,
        last_epoch: ProducerEpoch,
        timeout_ms: i32,
        now: i64,
    ) {
        self.previous_producer_id = self.producer_id;
        self.producer_id = next;
        self.epoch = ProducerEpoch(0);
        self.last_epoch = last_epoch;
        self.empty(timeout_ms, now);
    }

    /// No transaction yet.
    pub fn empty(&mut self, timeout_ms: i32, now: i64) {
        self.state = TransactionState::Empty;
        self.timeout_ms = timeout_ms;
        self.started = NO_TIME;
        self.updated = now;
    }

    /// Begins, if there is none under way.
    pub fn add<'a>(
        &mut self,
        partitions: impl Iterator<Item = (&'a str, &'a [i32])>,
        version: Version,
        now: i64,
    ) {
        if self.state != TransactionState::Ongoing {
            self.started = now;
        }
        self.previous_producer_id = self.producer_id;
        self.state = TransactionState::Ongoing;
        self.version = version;
        self.updated = now;
        for (topic, indexes) in partitions {
            match self.partitions.get_mut(topic) {
                Some(known) => known.extend(indexes),
                None => {
                    self.partitions.insert(Box::from(topic), indexes.iter().copied().collect());
                }
            }
        }
    }

    pub fn holds(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// From version 2 on the epoch is raised, also in the markers: nothing that the producer sent before comes behind them.
    /// `next` is the id to go on with if this one's epochs are used up.
    pub fn decide(&mut self, end: EndTxn, version: Version, next: ProducerId, now: i64) {
        self.previous_producer_id = self.producer_id;
        if version.raises_epoch() {
            self.last_epoch = self.epoch;
            self.epoch.0 = self.epoch.0.saturating_add(1);
        }
        if self.state != TransactionState::Ongoing {
            // without a partition there was no beginning
            self.started = now;
        }
        self.next_producer_id = next;
        self.version = version;
        self.updated = now;
        self.state = match end {
            EndTxn::Commit => TransactionState::PrepareCommit,
            EndTxn::Abort => TransactionState::PrepareAbort,
        };
    }

    /// Whom the producer is when the transaction is complete.
    pub fn successor(&self) -> (ProducerId, ProducerEpoch) {
        if self.version.raises_epoch() && self.next_producer_id != ProducerId::NONE {
            (self.next_producer_id, ProducerEpoch(0))
        } else {
            (self.producer_id, self.epoch)
        }
    }

    /// Its markers are written.
    pub fn complete(&mut self, now: i64) {
        self.previous_producer_id = self.producer_id;
        (self.producer_id, self.epoch) = self.successor();
        self.next_producer_id = ProducerId::NONE;
        self.partitions = BTreeMap::new();
        self.updated = now;
        self.state = match self.end() {
            EndTxn::Commit => TransactionState::CompleteCommit,
            EndTxn::Abort => TransactionState::CompleteAbort,
        };
    }

    /// The decision.
    fn end(&self) -> EndTxn {
        match self.state {
            TransactionState::PrepareCommit => EndTxn::Commit,
            TransactionState::PrepareAbort => EndTxn::Abort,
            _ => unreachable!("it is decided"),
        }
    }

    pub fn markers(&self, transactional_id: Rc<str>) -> WriteMarkers {
        let partitions = self.partitions.iter();
        WriteMarkers {
            decided: Decided { transactional_id, producer_id: self.producer_id, producer_epoch: self.epoch },
            end: self.end(),
            version: self.version,
            partitions: partitions
                .map(|(topic, indexes)| (topic.to_string(), indexes.iter().copied().collect()))
                .collect(),
        }
    }
}

/// No producer has a higher one.
pub(super) fn is_last(epoch: ProducerEpoch) -> bool {
    epoch >= LAST_EPOCH
}
