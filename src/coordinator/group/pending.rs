//! Offsets of one group that open transactions are about to commit.
//!
//! What lies later in the log counts: an offset that was committed behind one that was pending overtakes it, and then the
//! end of its transaction does not bring it back. A removal takes the pending ones along.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::coordinator::record::OffsetValue;
use crate::log::producer_state::EndTxn;
use crate::model::ProducerId;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PendingOffsets {
    /// By topic and partition, in the order of the log, one of a producer at most.
    topics: BTreeMap<Rc<str>, BTreeMap<i32, Vec<Pending>>>,
    /// Of which partitions each producer has some.
    producers: BTreeMap<ProducerId, BTreeSet<(Rc<str>, i32)>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    producer: ProducerId,
    /// `None`: overtaken. The transaction is still open.
    value: Option<OffsetValue>,
}

/// What a transaction has committed.
pub(super) type Committed = (Rc<str>, i32, OffsetValue);

impl PendingOffsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// By topic, then partition.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, i32)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.keys().map(|index| (&**topic, *index)))
    }

    pub fn put(&mut self, producer: ProducerId, topic: &str, partition: i32, value: OffsetValue) {
        let topic =
            self.topics.get_key_value(topic).map_or_else(|| Rc::from(topic), |(topic, _)| Rc::clone(topic));
        let pending = self.topics.entry(Rc::clone(&topic)).or_default().entry(partition).or_default();
        pending.retain(|pending| pending.producer != producer);
        pending.push(Pending { producer, value: Some(value) });
        self.producers.entry(producer).or_default().insert((topic, partition));
    }

    /// An offset was committed behind those that are pending.
    pub fn overtake(&mut self, topic: &str, partition: i32) {
        let pending = self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition));
        for pending in pending.into_iter().flatten() {
            pending.value = None;
        }
    }

    /// The partition's offsets were removed.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        for producer in self.take(topic, partition, |_| true) {
            let of_producer = self.producers.get_mut(&producer.producer).expect("it has this one");
            of_producer.retain(|(of_topic, index)| (&**of_topic, *index) != (topic, partition));
            if of_producer.is_empty() {
                self.producers.remove(&producer.producer);
            }
        }
    }

    /// The producer's transaction has ended: what is committed by that.
    pub fn end(&mut self, producer: ProducerId, end: EndTxn) -> Vec<Committed> {
        let mut committed = Vec::new();
        for (topic, partition) in self.producers.remove(&producer).unwrap_or_default() {
            if end == EndTxn::Commit {
                self.overtake_before(producer, &topic, partition);
            }
            let ended = self.take(&topic, partition, |pending| pending.producer == producer);
            let value = ended.into_iter().find_map(|pending| pending.value).filter(|_| end == EndTxn::Commit);
            committed.extend(value.map(|value| (topic, partition, value)));
        }
        committed
    }

    /// Those of others that lie in front of this producer's.
    fn overtake_before(&mut self, producer: ProducerId, topic: &str, partition: i32) {
        let pending = self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition));
        let before = pending.into_iter().flatten().take_while(|pending| pending.producer != producer);
        before.for_each(|pending| pending.value = None);
    }

    fn take(&mut self, topic: &str, partition: i32, which: impl FnMut(&mut Pending) -> bool) -> Vec<Pending> {
        let Some(partitions) = self.topics.get_mut(topic) else { return Vec::new() };
        let Some(pending) = partitions.get_mut(&partition) else { return Vec::new() };
        let taken = pending.extract_if(.., which).collect();
        if pending.is_empty() {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProducerId = ProducerId(1);
    const B: ProducerId = ProducerId(2);

    fn offset(offset: i64) -> OffsetValue {
        OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 0,
            expire_timestamp: -1,
        }
    }

    fn ended(pending: &mut PendingOffsets, producer: ProducerId, end: EndTxn) -> Vec<(String, i32, i64)> {
        let committed = pending.end(producer, end).into_iter();
        committed.map(|(topic, partition, value)| (topic.to_string(), partition, value.offset)).collect()
    }

    #[test]
    fn a_transaction_commits_the_last_of_each_partition_or_nothing() {
        for end in [EndTxn::Commit, EndTxn::Abort] {
            let mut pending = PendingOffsets::default();
            pending.put(A, "t", 0, offset(1));
            pending.put(A, "t", 1, offset(2));
            pending.put(A, "t", 0, offset(3));
            assert!(pending.contains("t", 0) && !pending.contains("t", 2) && !pending.contains("u", 0));
            assert_eq!(pending.partitions().collect::<Vec<_>>(), [("t", 0), ("t", 1)]);
            let expect = match end {
                EndTxn::Commit => vec![("t".to_owned(), 0, 3), ("t".to_owned(), 1, 2)],
                EndTxn::Abort => Vec::new(),
            };
            assert_eq!(ended(&mut pending, A, end), expect);
            assert_eq!(pending, PendingOffsets::default());
        }
    }

    #[test]
    fn what_lies_later_in_the_log_counts() {
        let mut pending = PendingOffsets::default();
        pending.put(A, "t", 0, offset(1));
        pending.put(B, "t", 0, offset(2));
        assert_eq!(ended(&mut pending, B, EndTxn::Commit), [("t".to_owned(), 0, 2)]);
        assert!(pending.contains("t", 0), "A's transaction is open");
        assert_eq!(ended(&mut pending, A, EndTxn::Commit), [], "B's lay behind it");

        pending.put(A, "t", 0, offset(1));
        pending.put(B, "t", 0, offset(2));
        assert_eq!(ended(&mut pending, A, EndTxn::Commit), [("t".to_owned(), 0, 1)]);
        assert_eq!(ended(&mut pending, B, EndTxn::Commit), [("t".to_owned(), 0, 2)]);

        // an abort overtakes nothing
        pending.put(A, "t", 0, offset(1));
        pending.put(B, "t", 0, offset(2));
        assert_eq!(ended(&mut pending, B, EndTxn::Abort), []);
        assert_eq!(ended(&mut pending, A, EndTxn::Commit), [("t".to_owned(), 0, 1)]);

        // a commit without a transaction
        pending.put(A, "t", 0, offset(1));
        pending.overtake("t", 0);
        pending.put(B, "t", 0, offset(2));
        assert_eq!(ended(&mut pending, A, EndTxn::Commit), []);
        assert_eq!(ended(&mut pending, B, EndTxn::Commit), [("t".to_owned(), 0, 2)]);
        assert_eq!(pending, PendingOffsets::default());
    }

    #[test]
    fn a_removal_takes_pending_ones_along() {
        let mut pending = PendingOffsets::default();
        pending.put(A, "t", 0, offset(1));
        pending.put(B, "t", 0, offset(2));
        pending.put(B, "u", 0, offset(3));
        pending.remove("t", 0);
        assert!(!pending.contains("t", 0));
        assert_eq!(ended(&mut pending, A, EndTxn::Commit), []);
        assert_eq!(ended(&mut pending, B, EndTxn::Commit), [("u".to_owned(), 0, 3)]);
        assert_eq!(pending, PendingOffsets::default());
    }
}
