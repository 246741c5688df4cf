//! Transactions as they are listed (KIP-664, KIP-994, KIP-1152) and described.

use regex::Regex;

use super::state::Transaction;
use super::{Now, TransactionCoordinator};
use crate::coordinator::pattern;
use crate::coordinator::record::TransactionState as State;
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use crate::protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use crate::protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, TransactionalId};

/// States that Kafka knows beside those in the log: nothing is ever seen in them.
const UNSEEN_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// What every coordinator would say of the request, whatever it has: states that are none, or that the pattern is none.
#[must_use]
pub fn unknown_filters(request: &ListTransactionsRequest) -> ListTransactionsResponse {
    let is_known =
        |state: &str| State::ALL.iter().any(|known| known.name() == state) || UNSEEN_STATES.contains(&state);
    let unknown = request.state_filters.iter().filter(|state| !is_known(state)).cloned().collect();
    let error = match compile(request) {
        Ok(_) => ErrorCode::None,
        Err(error) => error,
    };
    ListTransactionsResponse::default().with_error_code(error.code()).with_unknown_state_filters(unknown)
}

/// `None`: it asks for all.
fn compile(request: &ListTransactionsRequest) -> Result<Option<Regex>, ErrorCode> {
    match request.transactional_id_pattern.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => pattern::compile(text).map(Some).map_err(|_| ErrorCode::InvalidRegularExpression),
    }
}

impl TransactionCoordinator {
    /// A transaction for at least so long counts from its beginning to now, also when it is complete; one that was never begun
    /// is older than any.
    pub(super) fn list(&self, now: Now, request: &ListTransactionsRequest) -> ListTransactionsResponse {
        let response = unknown_filters(request);
        let Ok(pattern) = compile(request) else { return response };
        let is_wanted = |id: &str, transaction: &Transaction| {
            let (states, producers) = (&request.state_filters, &request.producer_id_filters);
            let age = now.wall.saturating_sub(transaction.started);
            (producers.is_empty() || producers.iter().any(|id| id.0 == transaction.producer_id.0))
                && (states.is_empty() || states.iter().any(|state| **state == *transaction.state.name()))
                && (request.duration_filter < 0 || age > request.duration_filter)
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
        };
        let wanted = self.transactions.iter().filter(|(id, transaction)| is_wanted(id, transaction));
        let listed = wanted.map(|(id, transaction)| {
            ListedTransaction::default()
                .with_transactional_id(TransactionalId(StrBytes::from_string(id.to_string())))
                .with_producer_id(transaction.producer_id.0.into())
                .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
        });
        response.with_transaction_states(listed.collect())
    }

    pub(super) fn describe(&self, id: TransactionalId) -> TransactionState {
        let known = self.transactions.get(&**id);
        let error = match known {
            _ if id.is_empty() => ErrorCode::InvalidRequest,
            None => ErrorCode::TransactionalIdNotFound,
            Some(_) => ErrorCode::None,
        };
        let described = TransactionState::default().with_error_code(error.code()).with_transactional_id(id);
        let Some(transaction) = known else { return described };
        let topics = transaction.partitions.iter().map(|(topic, partitions)| {
            TopicData::default()
                .with_topic(StrBytes::from_string(topic.to_string()).into())
                .with_partitions(partitions.iter().copied().collect())
        });
        described
            .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
            .with_transaction_timeout_ms(transaction.timeout_ms)
            .with_transaction_start_time_ms(transaction.started)
            .with_producer_id(transaction.producer_id.0.into())
            .with_producer_epoch(transaction.epoch.0)
            .with_topics(topics.collect())
    }
}
