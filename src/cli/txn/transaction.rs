//! What coordinators know of transactional ids: ListTransactions and DescribeTransactions.

use std::collections::BTreeMap;

use crate::cli::client::{Client, Coordinated, Error, Refusal, string, transactional_id};
use crate::cli::partitions::Partitions;
use crate::config::nearest;
use crate::protocol::messages::describe_transactions_response::TransactionState;
use crate::protocol::messages::{DescribeTransactionsRequest, ListTransactionsRequest};

const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

/// Transactional ids that a broker is asked about in one request.
const ASKED_AT_ONCE: usize = 100;

/// All that brokers name, but for those that nobody sees: Dead.
pub(super) const STATES: [&str; 7] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "PrepareEpochFence",
    "CompleteCommit",
    "CompleteAbort",
];

/// Whether a transaction has begun and its end is not written everywhere.
pub(super) fn is_open(state: &str) -> bool {
    ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"].contains(&state)
}

/// All of it must be met; what is empty always is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// As [`STATES`] has them.
    pub(super) states: Vec<String>,
    pub(super) producer_ids: Vec<i64>,
    /// Only transactions that began longer ago, in milliseconds; ended ones, too.
    pub(super) longer_than_ms: Option<i64>,
    /// A regular expression for the whole of the transactional id.
    pub(super) pattern: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) producer_id: i64,
    pub(super) state: String,
    pub(super) coordinator: i32,
}

/// All that a coordinator tells of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) coordinator: i32,
    pub(super) state: String,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    pub(super) timeout_ms: i64,
    /// When it began, or the last one that was ended, in milliseconds since 1970; `None`: there was none.
    pub(super) began_ms: Option<i64>,
    /// Where its end is still to be written.
    pub(super) partitions: Partitions,
}

impl Transaction {
    fn new(state: &TransactionState, coordinator: i32) -> Transaction {
        let mut partitions = Partitions::new();
        for topic in &state.topics {
            partitions.entry(topic.topic.to_string()).or_default().extend(&topic.partitions);
        }
        Transaction {
            id: state.transactional_id.to_string(),
            coordinator,
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id.0,
            epoch: state.producer_epoch,
            timeout_ms: state.transaction_timeout_ms.into(),
            began_ms: Some(state.transaction_start_time_ms).filter(|ms| *ms >= 0),
            partitions,
        }
    }

    /// Milliseconds since it began; `None`: none is open.
    pub(super) fn open_for(&self, now_ms: i64) -> Option<i64> {
        self.began_ms.filter(|_| is_open(&self.state)).map(|began| now_ms.saturating_sub(began).max(0))
    }
}

/// Of every coordinator, by transactional id. Waits while one has not loaded its transactions.
pub(super) fn list(client: &mut Client, filter: &Filter) -> Result<Vec<Listed>, Error> {
    let request = ListTransactionsRequest::default()
        .with_state_filters(filter.states.iter().map(|state| string(state)).collect())
        .with_producer_id_filters(filter.producer_ids.iter().map(|id| (*id).into()).collect())
        .with_duration_filter(filter.longer_than_ms.unwrap_or(-1))
        .with_transactional_id_pattern(filter.pattern.as_deref().map(string));
    let mut all = Vec::new();
    for broker in client.brokers()? {
        let response = client.patiently(|client| {
            let response = client.call_broker(broker, &request)?;
            Refusal::check(response.error_code, None, || format!("the transactions of broker {broker}"))?;
            Ok(response)
        })?;
        // a state that a broker does not know none of its transactions can have
        all.extend(response.transaction_states.iter().map(|listed| Listed {
            id: listed.transactional_id.to_string(),
            producer_id: listed.producer_id.0,
            state: listed.transaction_state.to_string(),
            coordinator: broker,
        }));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all.dedup_by(|a, b| a.id == b.id);
    for listed in &all {
        client.remember_coordinator(Coordinated::TransactionalId(&listed.id), listed.coordinator);
    }
    Ok(all)
}

/// `None`: no producer has that transactional id.
pub(super) fn find(client: &mut Client, id: &str) -> Result<Option<Transaction>, Error> {
    client.at_coordinator(Coordinated::TransactionalId(id), |client, broker| {
        let answer = ask(client, broker, &[id])?.remove(id);
        match answer.ok_or_else(|| Error::Silent(format!("transactional id {id}")))? {
            Ok(transaction) => Ok(Some(transaction)),
            Err(refusal) if refusal.code == TRANSACTIONAL_ID_NOT_FOUND => Ok(None),
            Err(refusal) => Err(Error::Refused(refusal)),
        }
    })
}

/// One that does not exist is an error that tells a near one.
pub(super) fn describe(client: &mut Client, id: &str) -> Result<Transaction, Error> {
    if let Some(found) = find(client, id)? {
        return Ok(found);
    }
    let all = list(client, &Filter::default())?;
    let near = nearest(id, all.iter().map(|listed| listed.id.as_str())).map(str::to_owned);
    Err(Error::UnknownTransactionalId { id: id.to_owned(), near })
}

/// By transactional id; what is gone meanwhile is missing.
pub(super) fn describe_all<'a>(
    client: &mut Client,
    listed: impl IntoIterator<Item = &'a Listed>,
) -> Result<BTreeMap<String, Transaction>, Error> {
    let mut by_coordinator: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for one in listed {
        by_coordinator.entry(one.coordinator).or_default().push(&one.id);
    }
    let mut found = BTreeMap::new();
    for (coordinator, ids) in by_coordinator {
        for ids in ids.chunks(ASKED_AT_ONCE) {
            for (id, answer) in ask(client, coordinator, ids)? {
                let transaction = match answer {
                    Ok(transaction) => Some(transaction),
                    // it has another coordinator now, or is gone, or says why not
                    Err(_) => find(client, &id)?,
                };
                found.extend(transaction.map(|transaction| (id, transaction)));
            }
        }
    }
    Ok(found)
}

/// Asks one broker about transactional ids that it coordinates.
fn ask(
    client: &mut Client,
    broker: i32,
    ids: &[&str],
) -> Result<BTreeMap<String, Result<Transaction, Refusal>>, Error> {
    let request = DescribeTransactionsRequest::default()
        .with_transactional_ids(ids.iter().map(|id| transactional_id(id)).collect());
    let states = client.call_broker(broker, &request)?.transaction_states;
    let answers = states.iter().map(|state| {
        let id = state.transactional_id.to_string();
        let answer = match state.error_code {
            0 => Ok(Transaction::new(state, broker)),
            code => Err(Refusal::new(format!("describing transactional id {id}"), code, None)),
        };
        (id, answer)
    });
    Ok(answers.collect())
}
