//! AddPartitionsToTxn 0-5 (key 24, KIP-98): partitions become part of a transaction before anything is produced to them, all or
//! none. v2+ PRODUCER_FENCED.
//!
//! v4+ (KIP-890) are spoken by brokers only: several transactions, partitions of any topic, and `verify_only`: nothing is added.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::transactions::may;
use crate::coordinator::transaction::{Body, Reply, refused};
use crate::metadata::is_internal;
use crate::model::ErrorCode;
use crate::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use crate::protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use crate::protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

/// From here on a request is another broker's.
const OF_BROKERS_FROM: i16 = 4;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<AddPartitionsToTxnRequest>()?;
    let response = AddPartitionsToTxnResponse::default();
    if context.version() < OF_BROKERS_FROM {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let result = match check(&context, &transaction) {
            Some(refused) => refused,
            None => broker.add_partitions(&context, transaction).await,
        };
        let error = first_error(&result);
        return Ok(context.reply(response.with_results_by_topic_v3_and_below(result.topic_results), error));
    }
    if !allowed(&context, Operation::ClusterAction, Resource::Cluster) {
        let error = ErrorCode::ClusterAuthorizationFailed;
        return Ok(context.reply(response.with_error_code(error.code()), error));
    }
    let (mut results, mut error) = (Vec::with_capacity(request.transactions.len()), ErrorCode::None);
    for transaction in request.transactions {
        let result = broker.add_partitions(&context, transaction).await;
        note(&mut error, first_error(&result));
        results.push(result);
    }
    Ok(context.reply(response.with_results_by_transaction(results), error))
}

/// What a client may not do; then the other partitions are not added, either. Nobody asks for internal topics' partitions this
/// way.
fn check(
    context: &RequestContext,
    transaction: &AddPartitionsToTxnTransaction,
) -> Option<AddPartitionsToTxnResult> {
    if !may(context, Operation::Write, &transaction.transactional_id) {
        return Some(refused(transaction, |_| ErrorCode::TransactionalIdAuthorizationFailed));
    }
    let may_write =
        |topic: &str| !is_internal(topic) && allowed(context, Operation::Write, Resource::Topic(topic));
    if transaction.topics.iter().all(|topic| may_write(&topic.name)) {
        return None;
    }
    Some(refused(transaction, |topic| match may_write(topic) {
        true => ErrorCode::OperationNotAttempted,
        false => ErrorCode::TopicAuthorizationFailed,
    }))
}

fn first_error(result: &AddPartitionsToTxnResult) -> ErrorCode {
    let mut codes = (result.topic_results.iter())
        .flat_map(|topic| topic.results_by_partition.iter().map(|partition| partition.partition_error_code));
    let code = codes.find(|code| *code != ErrorCode::None.code());
    code.map_or(ErrorCode::None, |code| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError))
}

impl Broker {
    async fn add_partitions(
        &self,
        context: &RequestContext,
        transaction: AddPartitionsToTxnTransaction,
    ) -> AddPartitionsToTxnResult {
        let id = transaction.transactional_id.clone();
        match self.ask_transaction(context, &id, Body::AddPartitions(transaction.clone())).await {
            Ok(Reply::AddPartitions(result)) => result,
            Ok(_) => unreachable!("AddPartitions is answered in kind"),
            Err(error) => refused(&transaction, |_| error),
        }
    }
}
