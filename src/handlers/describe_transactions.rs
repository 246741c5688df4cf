//! DescribeTransactions 0 (key 65, KIP-664): who has a transactional id, and how far its transaction is.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::transactions::may;
use crate::coordinator::transaction::{Body, Reply, Request as Question};
use crate::model::{ErrorCode, PartitionId};
use crate::protocol::messages::describe_transactions_response::TransactionState;
use crate::protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse, TransactionalId};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeTransactionsRequest>()?;
    let mut described = Vec::with_capacity(request.transactional_ids.len());
    let mut by_partition: BTreeMap<PartitionId, Vec<TransactionalId>> = BTreeMap::new();
    for id in request.transactional_ids {
        match broker.shard.transactions_partition(&id) {
            _ if !may(&context, Operation::Describe, &id) => {
                described.push(failed(id, ErrorCode::TransactionalIdAuthorizationFailed));
            }
            Some(partition) => by_partition.entry(partition).or_default().push(id),
            None => described.push(failed(id, ErrorCode::NotCoordinator)),
        }
    }
    for (partition, ids) in by_partition {
        let question = Question { version: context.version(), body: Body::Describe(ids.clone()) };
        match broker.shard.transact(partition, question).await {
            Ok(Reply::Describe(states)) => described.extend(states),
            Ok(_) => unreachable!("Describe is answered in kind"),
            Err(error) => described.extend(ids.into_iter().map(|id| failed(id, error))),
        }
    }
    let mut first_error = ErrorCode::None;
    for state in &mut described {
        note(
            &mut first_error,
            ErrorCode::from_code(state.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
        state.topics.retain(|topic| allowed(&context, Operation::Describe, Resource::Topic(&topic.topic)));
    }
    Ok(context.reply(DescribeTransactionsResponse::default().with_transaction_states(described), first_error))
}

fn failed(id: TransactionalId, error: ErrorCode) -> TransactionState {
    TransactionState::default().with_transactional_id(id).with_error_code(error.code())
}
