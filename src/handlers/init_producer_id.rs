//! InitProducerId 0-5 (key 22): an id for an idempotent producer (KIP-98), never given out twice; with a transactional id, the id
//! and the epoch by which its transactions are known from now on, and whoever had it is fenced.
//!
//! Without a transactional id the request's own producer id and epoch (v3+, KIP-360) do not matter: a new id and
//! epoch 0, always. v4+ PRODUCER_FENCED. Left out: v6, two-phase commit (KIP-939).

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::service::{CloseReason, Outcome, Request};
use super::transactions::may;
use crate::coordinator::transaction::{Body, Reply};
use crate::model::{ErrorCode, ProducerId};
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// What a producer epoch or id says when there is none.
const NONE: i16 = -1;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<InitProducerIdRequest>()?;
    let id_given = request.producer_id.0 != ProducerId::NONE.0;
    let epoch_given = request.producer_epoch != NONE;
    let response = InitProducerIdResponse::default();
    let answered = match request.transactional_id.clone() {
        Some(id) if !may(&context, Operation::Write, &id) => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        }
        None if !allowed(&context, Operation::IdempotentWrite, Resource::Cluster) => {
            Err(ErrorCode::ClusterAuthorizationFailed)
        }
        _ if id_given != epoch_given => Err(ErrorCode::InvalidRequest),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(id) => match broker.ask_transaction(&context, &id, Body::InitProducerId(request)).await {
            Ok(Reply::InitProducerId(response)) => Ok(response),
            Ok(_) => unreachable!("InitProducerId is answered in kind"),
            Err(error) => Err(error),
        },
        None => {
            let new = broker.shard.next_producer_id().await;
            new.map(|id| response.clone().with_producer_id(id.0.into()).with_producer_epoch(0))
        }
    };
    let response = answered.unwrap_or_else(|error| {
        response
            .with_error_code(error.code())
            .with_producer_id(ProducerId::NONE.0.into())
            .with_producer_epoch(NONE)
    });
    Ok(context.reply_coded(response.error_code, response))
}
