//! EndTxn 0-5 (key 26, KIP-98): commits or aborts a transaction. Answered when the decision is durable; its partitions hear of it
//! later. v2+ PRODUCER_FENCED, v5+ the epoch rises, and the reply has it (KIP-890).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::service::{CloseReason, Outcome, Request};
use super::transactions::may;
use crate::coordinator::transaction::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::{EndTxnRequest, EndTxnResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<EndTxnRequest>()?;
    let id = request.transactional_id.clone();
    let asked = match may(&context, Operation::Write, &id) {
        true => broker.ask_transaction(&context, &id, Body::EndTxn(request)).await,
        false => Err(ErrorCode::TransactionalIdAuthorizationFailed),
    };
    let response = match asked {
        Ok(Reply::EndTxn(response)) => response,
        Ok(_) => unreachable!("EndTxn is answered in kind"),
        Err(error) => EndTxnResponse::default().with_error_code(error.code()),
    };
    Ok(context.reply_coded(response.error_code, response))
}
