//! ListTransactions 0-2 (key 66, KIP-664): the transactions this broker coordinates, by state and producer; v1+ by how long they
//! take (KIP-994), v2+ by a regular expression of their ids (KIP-1152).
//!
//! Clients ask every node and add the answers up: by a shard's own port it tells that shard's transactions alone.

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::service::{CloseReason, Outcome, Request};
use super::transactions::may;
use crate::protocol::messages::ListTransactionsRequest;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ListTransactionsRequest>()?;
    let mut response = broker.shard.list_transactions(context.connection.entrance, request).await;
    response.transaction_states.retain(|state| may(&context, Operation::Describe, &state.transactional_id));
    Ok(context.reply_coded(response.error_code, response))
}
