//! Whether a transaction hangs: a partition has it open, and its coordinator will not end it there.
//!
//! That is so, as for Kafka's own tool, when no transactional id has the producer, or the transaction that its
//! transactional id has now does not have the partition. A coordinator tells a partition until the end is written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::producers::Producer;
use super::transaction::{self, Filter, Transaction};
use crate::cli::client::{Client, Error, TopicPartition};

/// In one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) of: TopicPartition,
    pub(super) start_offset: i64,
    pub(super) producer: Producer,
}

/// Those that a partition has.
pub(super) fn open<'a>(of: &TopicPartition, producers: &'a [Producer]) -> impl Iterator<Item = Open> + 'a {
    let of = of.clone();
    producers.iter().filter_map(move |producer| {
        let start_offset = producer.open_from?;
        Some(Open { of: of.clone(), start_offset, producer: producer.clone() })
    })
}

/// What coordinators know of an open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It will be ended.
    Alive(Transaction),
    /// No transactional id has its producer.
    ByNobody,
    /// The transactional id has a transaction without the partition, or none, or is gone.
    Not { id: String, state: Option<String> },
}

impl Known {
    fn new(of: &TopicPartition, id: Option<&String>, transaction: Option<&Transaction>) -> Known {
        let Some(id) = id else { return Known::ByNobody };
        match transaction {
            Some(transaction) if has(transaction, of) => Known::Alive(transaction.clone()),
            other => Known::Not { id: id.clone(), state: other.map(|transaction| transaction.state.clone()) },
        }
    }

    pub(super) fn hangs(&self) -> bool {
        !matches!(self, Known::Alive(_))
    }

    pub(super) fn transactional_id(&self) -> Option<&str> {
        match self {
            Known::Alive(transaction) => Some(&transaction.id),
            Known::ByNobody => None,
            Known::Not { id, .. } => Some(id),
        }
    }
}

fn has(transaction: &Transaction, of: &TopicPartition) -> bool {
    transaction.partitions.get(&of.topic).is_some_and(|indexes| indexes.contains(&of.partition))
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Known::Alive(transaction) => write!(f, "{} is {} with it", transaction.id, transaction.state),
            Known::ByNobody => f.write_str("no transactional id has this producer"),
            Known::Not { id, state: None } => write!(f, "transactional id {id} is gone"),
            Known::Not { id, state: Some(state) } => write!(f, "{id} is {state} without it"),
        }
    }
}

/// What coordinators know of each, asked of all at once.
pub(super) fn look(client: &mut Client, open: &[Open]) -> Result<Vec<Known>, Error> {
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let producer_ids: BTreeSet<i64> = open.iter().map(|open| open.producer.id).collect();
    let filter = Filter { producer_ids: producer_ids.iter().copied().collect(), ..Filter::default() };
    let listed = transaction::list(client, &filter)?;
    let ids: BTreeMap<i64, &String> = listed.iter().map(|listed| (listed.producer_id, &listed.id)).collect();
    let described = transaction::describe_all(client, &listed)?;
    let known = open.iter().map(|open| {
        let id = ids.get(&open.producer.id).copied();
        Known::new(&open.of, id, id.and_then(|id| described.get(id)))
    });
    Ok(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_coordinator_will_end_hangs() {
        let of = TopicPartition::new("orders", 3);
        let transaction = |topic: &str, index: i32| Transaction {
            id: "checkout".to_owned(),
            coordinator: 1,
            state: "PrepareCommit".to_owned(),
            producer_id: 4_711,
            epoch: 0,
            timeout_ms: 60_000,
            began_ms: Some(1_000),
            partitions: [(topic.to_owned(), [index].into())].into(),
        };
        let id = "checkout".to_owned();
        let check = |id: Option<&String>, transaction: Option<&Transaction>, expect: (bool, &str)| {
            let known = Known::new(&of, id, transaction);
            assert_eq!((known.hangs(), known.to_string().as_str()), expect);
        };
        check(None, None, (true, "no transactional id has this producer"));
        check(Some(&id), None, (true, "transactional id checkout is gone"));
        for other in [transaction("orders", 4), transaction("payments", 3)] {
            check(Some(&id), Some(&other), (true, "checkout is PrepareCommit without it"));
        }
        check(Some(&id), Some(&transaction("orders", 3)), (false, "checkout is PrepareCommit with it"));
    }

    #[test]
    fn a_producer_without_a_transaction_has_none_open() {
        let producer = |id, open_from| Producer {
            id,
            epoch: 0,
            coordinator_epoch: None,
            last_sequence: Some(0),
            last_written_ms: 1_000,
            open_from,
        };
        let of = TopicPartition::new("orders", 3);
        let producers = [producer(1, None), producer(2, Some(0)), producer(3, Some(17))];
        let open: Vec<_> = open(&of, &producers).map(|open| (open.producer.id, open.start_offset)).collect();
        assert_eq!(open, [(2, 0), (3, 17)]);
    }
}
