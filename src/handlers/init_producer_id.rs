//! InitProducerId 0-5 (key 22): an id for an idempotent producer (KIP-98), never given out twice.
//!
//! Without a transactional id the request's own producer id and epoch (v3+, KIP-360) do not matter: a new id and
//! epoch 0, always. Left out: transactions. A transactional id is answered UNSUPPORTED_VERSION, which clients take
//! as final; COORDINATOR_NOT_AVAILABLE would have them try for ever.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::service::{CloseReason, Outcome, Request};
use crate::model::{ErrorCode, ProducerId};
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// What a producer epoch or id says when there is none.
const NONE: i16 = -1;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<InitProducerIdRequest>()?;
    let id_given = request.producer_id.0 != ProducerId::NONE.0;
    let epoch_given = request.producer_epoch != NONE;
    let result = match &request.transactional_id {
        Some(id) if !allowed(&context, Operation::Write, Resource::TransactionalId(id)) => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        }
        None if !allowed(&context, Operation::IdempotentWrite, Resource::Cluster) => {
            Err(ErrorCode::ClusterAuthorizationFailed)
        }
        _ if id_given != epoch_given => Err(ErrorCode::InvalidRequest),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None => broker.shard.next_producer_id().await,
    };
    let response = InitProducerIdResponse::default();
    Ok(match result {
        Ok(id) => {
            context.reply(response.with_producer_id(id.0.into()).with_producer_epoch(0), ErrorCode::None)
        }
        Err(error) => context.reply(
            response
                .with_error_code(error.code())
                .with_producer_id(ProducerId::NONE.0.into())
                .with_producer_epoch(NONE),
            error,
        ),
    })
}
