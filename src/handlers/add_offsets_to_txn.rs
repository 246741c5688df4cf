//! AddOffsetsToTxn 0-4 (key 25, KIP-98): offsets of a group are going to be committed in a transaction, so the group's
//! partition of `__consumer_offsets` becomes part of it. v2+ PRODUCER_FENCED. Clients of transaction.version 2 do without.

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::context::RequestContext;
use super::service::{CloseReason, Outcome, Request};
use super::{groups, transactions};
use crate::coordinator::transaction::{Body, Reply};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<AddOffsetsToTxnRequest>()?;
    let error = broker.add_offsets(&context, request).await.err().unwrap_or(ErrorCode::None);
    Ok(context.reply(AddOffsetsToTxnResponse::default().with_error_code(error.code()), error))
}

impl Broker {
    async fn add_offsets(
        self: &Rc<Self>,
        context: &RequestContext,
        request: AddOffsetsToTxnRequest,
    ) -> Result<(), ErrorCode> {
        let id = request.transactional_id;
        if !transactions::may(context, Operation::Write, &id) {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if !groups::may(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        let partition = self.offsets_partition(&request.group_id).await;
        let partition = partition.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(StrBytes::from_static_str(OFFSETS_TOPIC).into())
            .with_partitions(vec![partition.index]);
        let added = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(id.clone())
            .with_producer_id(request.producer_id)
            .with_producer_epoch(request.producer_epoch)
            .with_topics(vec![topic]);
        match self.ask_transaction(context, &id, Body::AddPartitions(added)).await? {
            Reply::AddPartitions(result) => {
                let code = result.topic_results[0].results_by_partition[0].partition_error_code;
                match ErrorCode::from_code(code) {
                    Some(ErrorCode::None) => Ok(()),
                    error => Err(error.unwrap_or(ErrorCode::UnknownServerError)),
                }
            }
            _ => unreachable!("AddPartitions is answered in kind"),
        }
    }
}
