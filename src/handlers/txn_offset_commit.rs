//! TxnOffsetCommit 0-5 (key 28, KIP-98): offsets of a group that count when the producer's transaction commits. Answered when
//! they are durable.
//!
//! v2+ leader epochs, v3+ the member that has read (KIP-447), v4+ TRANSACTION_ABORTABLE, v5+ the group's partition of
//! `__consumer_offsets` joins the transaction by this (KIP-890): before, by AddOffsetsToTxn. A group or a member's epoch that
//! is not there (any more) is ILLEGAL_GENERATION. Left out: v6, topics by id (KIP-1319).

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::{groups, transactions};
use crate::coordinator::group::{Body, Reply, refused};
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use crate::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, TransactionalId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};

/// Clients of before may crash when a coordinator tells that it loads.
const LOAD_IN_PROGRESS_FROM: i16 = 2;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<TxnOffsetCommitRequest>()?;
    let producer = (ProducerId(request.producer_id.0), ProducerEpoch(request.producer_epoch));
    let id = request.transactional_id.clone();
    let mut commit = as_commit(request);
    let response = match may_commit(&context, &id, &commit) {
        Err(error) => refused(&commit, error),
        Ok(()) => {
            let (allowed, unreadable) = std::mem::take(&mut commit.topics)
                .into_iter()
                .partition(|topic| allowed(&context, Operation::Read, Resource::Topic(&topic.name)));
            let unreadable = OffsetCommitRequest::default().with_topics(unreadable);
            commit.topics = allowed;
            let mut response = broker.commit_in_transaction(&context, &id, producer, commit).await;
            response.topics.extend(refused(&unreadable, ErrorCode::TopicAuthorizationFailed).topics);
            response
        }
    };
    let (response, first_error) = as_answered(response, context.version());
    Ok(context.reply(response, first_error))
}

fn may_commit(
    context: &RequestContext,
    id: &TransactionalId,
    commit: &OffsetCommitRequest,
) -> Result<(), ErrorCode> {
    if !transactions::may(context, Operation::Write, id) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if !groups::may(context, Operation::Read, &commit.group_id) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    if commit.group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

impl Broker {
    async fn commit_in_transaction(
        &self,
        context: &RequestContext,
        id: &TransactionalId,
        (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
        commit: OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        if !self.has_some_of(&commit) {
            // nothing joins a transaction for that
            return refused(&commit, ErrorCode::UnknownTopicOrPartition);
        }
        let group = commit.group_id.clone();
        // it is needed once more only where the coordinator cannot be asked
        let asked = commit.clone();
        let commit = Box::new(commit);
        let transactional_id = id.to_string();
        let body = Body::CommitInTransaction { transactional_id, producer_id, producer_epoch, commit };
        match self.ask_group(context, &group, body).await {
            Ok(Reply::Commit(response)) => response,
            Ok(_) => unreachable!("CommitInTransaction is answered as Commit is"),
            Err(error) => refused(&asked, error),
        }
    }

    /// Whether any of the partitions exists.
    fn has_some_of(&self, commit: &OffsetCommitRequest) -> bool {
        let image = self.shard.image();
        commit.topics.iter().any(|topic| {
            let count = image.topic_by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
            let exists = |index: i32| usize::try_from(index).is_ok_and(|index| index < count);
            topic.partitions.iter().any(|partition| exists(partition.partition_index))
        })
    }
}

fn as_commit(request: TxnOffsetCommitRequest) -> OffsetCommitRequest {
    let topic = |topic: TxnOffsetCommitRequestTopic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_committed_metadata(partition.committed_metadata)
        });
        OffsetCommitRequestTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    };
    OffsetCommitRequest::default()
        .with_group_id(request.group_id)
        .with_generation_id_or_member_epoch(request.generation_id)
        .with_member_id(request.member_id)
        .with_group_instance_id(request.group_instance_id)
        .with_topics(request.topics.into_iter().map(topic).collect())
}

/// With the first error.
fn as_answered(response: OffsetCommitResponse, version: i16) -> (TxnOffsetCommitResponse, ErrorCode) {
    let mut first_error = ErrorCode::None;
    let topics = response.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let error = ErrorCode::from_code(partition.error_code).unwrap_or(ErrorCode::UnknownServerError);
            let error = known_error(error, version);
            note(&mut first_error, error);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    (TxnOffsetCommitResponse::default().with_topics(topics), first_error)
}

/// As clients of this version know it.
fn known_error(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::StaleMemberEpoch | ErrorCode::GroupIdNotFound => ErrorCode::IllegalGeneration,
        ErrorCode::CoordinatorLoadInProgress if version < LOAD_IN_PROGRESS_FROM => {
            ErrorCode::CoordinatorNotAvailable
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_what_they_know() {
        for (error, version, expect) in [
            (ErrorCode::StaleMemberEpoch, 5, ErrorCode::IllegalGeneration),
            (ErrorCode::GroupIdNotFound, 0, ErrorCode::IllegalGeneration),
            (ErrorCode::CoordinatorLoadInProgress, 1, ErrorCode::CoordinatorNotAvailable),
            (ErrorCode::CoordinatorLoadInProgress, 2, ErrorCode::CoordinatorLoadInProgress),
            (ErrorCode::UnknownMemberId, 5, ErrorCode::UnknownMemberId),
            (ErrorCode::None, 0, ErrorCode::None),
        ] {
            assert_eq!(known_error(error, version), expect, "{error:?} v{version}");
        }
    }
}
