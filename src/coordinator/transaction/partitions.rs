//! AddPartitionsToTxn: partitions become part of a transaction, or are looked for in it (KIP-890).

use super::state::Transaction;
use super::{Turn, Version, known_error};
use crate::coordinator::record::TransactionState;
use crate::metadata::Image;
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};
use crate::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use crate::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};

const PRODUCER_FENCED_FROM: i16 = 2;

/// By whom a request speaks transaction.version 2.
const VERSION_TWO_FROM: i16 = 5;

/// All of them or none: if one is not there, the others are OPERATION_NOT_ATTEMPTED.
pub(super) fn add(
    transaction: Option<&mut Transaction>,
    turn: &mut Turn,
    version: i16,
    request: &AddPartitionsToTxnTransaction,
) -> AddPartitionsToTxnResult {
    let image = turn.image;
    if (partitions(request)).any(|(topic, partition)| !exists(image, topic, partition)) {
        return result(request, |topic, partition| match exists(image, topic, partition) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        });
    }
    let error = known_error(add_all(transaction, turn, version, request), version, PRODUCER_FENCED_FROM);
    result(request, |_, _| error)
}

fn add_all(
    transaction: Option<&mut Transaction>,
    turn: &mut Turn,
    version: i16,
    request: &AddPartitionsToTxnTransaction,
) -> ErrorCode {
    // first: the producer may have the id that takes the place of one without epochs when the markers are written
    if !request.transactional_id.is_empty() && transaction.as_ref().is_some_and(|one| one.is_decided()) {
        return ErrorCode::ConcurrentTransactions;
    }
    let transaction = match check(transaction.as_deref(), request) {
        ErrorCode::None => transaction.expect("checked so"),
        error => return error,
    };
    let was_under_way = transaction.state == TransactionState::Ongoing;
    if was_under_way && (partitions(request)).all(|(topic, index)| transaction.holds(topic, index)) {
        return ErrorCode::None;
    }
    let client = if version >= VERSION_TWO_FROM { Version::TWO } else { Version::ZERO };
    let added = request.topics.iter().map(|topic| (&**topic.name, &topic.partitions[..]));
    transaction.add(added, client, turn.now.wall);
    if !was_under_way && let Some(time) = transaction.remaining(turn.now.wall) {
        turn.set_timeout(time);
    }
    turn.write(transaction);
    ErrorCode::None
}

/// Whether each is part of the transaction that is under way; TRANSACTION_ABORTABLE if not.
pub(super) fn verify(
    transaction: Option<&Transaction>,
    request: &AddPartitionsToTxnTransaction,
) -> AddPartitionsToTxnResult {
    let error = check(transaction, request);
    result(request, |topic, partition| match transaction {
        Some(transaction) if error.is_none() => match transaction.holds(topic, partition) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        },
        _ => error,
    })
}

/// Whether the producer may have a transaction now.
fn check(transaction: Option<&Transaction>, request: &AddPartitionsToTxnTransaction) -> ErrorCode {
    if request.transactional_id.is_empty() {
        return ErrorCode::InvalidRequest;
    }
    match transaction {
        Some(transaction) if transaction.producer_id == ProducerId(request.producer_id.0) => {
            if transaction.epoch != ProducerEpoch(request.producer_epoch) {
                ErrorCode::ProducerFenced
            } else if transaction.is_decided() {
                ErrorCode::ConcurrentTransactions
            } else {
                ErrorCode::None
            }
        }
        _ => ErrorCode::InvalidProducerIdMapping,
    }
}

fn partitions(request: &AddPartitionsToTxnTransaction) -> impl Iterator<Item = (&str, i32)> {
    request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&**topic.name, *index)))
}

fn exists(image: &Image, topic: &str, partition: i32) -> bool {
    let topic = image.topic_by_name(topic);
    topic.is_some_and(|topic| usize::try_from(partition).is_ok_and(|index| index < topic.partitions.len()))
}

/// What is answered in the coordinator's place, topic by topic.
#[must_use]
pub fn refused(
    request: &AddPartitionsToTxnTransaction,
    error: impl Fn(&str) -> ErrorCode,
) -> AddPartitionsToTxnResult {
    result(request, |topic, _| error(topic))
}

/// Each partition's answer.
fn result(
    request: &AddPartitionsToTxnTransaction,
    error: impl Fn(&str, i32) -> ErrorCode,
) -> AddPartitionsToTxnResult {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error(&topic.name, *index).code())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResult::default()
        .with_transactional_id(request.transactional_id.clone())
        .with_topic_results(topics.collect())
}
