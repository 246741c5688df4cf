//! InitProducerId: a producer takes a transactional id, and whoever had it is fenced.

use super::state::{NO_EPOCH, Transaction, is_last};
use super::{Turn, end, known_error};
use crate::coordinator::record::{TEXT_BYTES_MAX, TransactionState};
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

const PRODUCER_FENCED_FROM: i16 = 4;

/// Whom the producer takes itself for.
#[derive(Clone, Copy)]
struct Expected {
    producer_id: ProducerId,
    epoch: ProducerEpoch,
}

pub(super) fn init_producer_id(
    transaction: &mut Option<Transaction>,
    turn: &mut Turn,
    version: i16,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    match check(turn, request).and_then(|expected| take(transaction, turn, request, expected)) {
        Ok((producer_id, epoch)) => {
            response.with_producer_id(producer_id.0.into()).with_producer_epoch(epoch.0)
        }
        Err(error) => response
            .with_error_code(known_error(error, version, PRODUCER_FENCED_FROM).code())
            .with_producer_id(ProducerId::NONE.0.into())
            .with_producer_epoch(NO_EPOCH.0),
    }
}

/// Kafka without two-phase commit (KIP-939) has no transactions that outlive their producer.
fn check(turn: &Turn, request: &InitProducerIdRequest) -> Result<Option<Expected>, ErrorCode> {
    let (producer_id, epoch) = (ProducerId(request.producer_id.0), ProducerEpoch(request.producer_epoch));
    let expected = match (producer_id == ProducerId::NONE, epoch == NO_EPOCH) {
        (true, true) => None,
        (false, false) => Some(Expected { producer_id, epoch }),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if turn.id.is_empty() || turn.id.len() > TEXT_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    if request.enable_2_pc {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if request.keep_prepared_txn {
        return Err(ErrorCode::UnsupportedVersion);
    }
    if !(1..=turn.settings.timeout_ms_max).contains(&request.transaction_timeout_ms) {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    Ok(expected)
}

fn take(
    known: &mut Option<Transaction>,
    turn: &mut Turn,
    request: &InitProducerIdRequest,
    expected: Option<Expected>,
) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
    let (timeout_ms, now) = (request.transaction_timeout_ms, turn.now.wall);
    let Some(transaction) = known else {
        let new = known.insert(Transaction::new(turn.new_producer_id()?, timeout_ms, now));
        turn.write(new);
        return Ok((new.producer_id, new.epoch));
    };
    // first: it may have the id that takes the place of one without epochs when the markers are written
    if transaction.is_decided() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if expected.is_some_and(|expected| !may_be(transaction, expected)) {
        return Err(ErrorCode::ProducerFenced);
    }
    if transaction.state == TransactionState::Ongoing {
        // Kafka lets a producer that is fenced already abort the transaction, and tells it only when it comes again
        if expected.is_some_and(|expected| expected.epoch != transaction.epoch) {
            return Err(ErrorCode::ProducerFenced);
        }
        end::fence(transaction, turn)?;
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match expected {
        // the reply to this has got lost
        Some(expected) if expected.epoch != transaction.epoch => {
            if expected.epoch != transaction.last_epoch {
                return Err(ErrorCode::ProducerFenced);
            }
            transaction.empty(timeout_ms, now);
        }
        _ => {
            let last_epoch = expected.map_or(NO_EPOCH, |expected| expected.epoch);
            if transaction.is_last_epoch() {
                let next = turn.new_producer_id()?;
                transaction.replace_producer_id(next, last_epoch, timeout_ms, now);
            } else {
                transaction.raise_epoch(last_epoch, timeout_ms, now);
            }
        }
    }
    turn.write(transaction);
    Ok((transaction.producer_id, transaction.epoch))
}

/// Whether the producer may be the one that has the transactional id, by its producer id: the current one, or the one before
/// if all epochs of that are used up and the producer may not have heard of the next.
fn may_be(transaction: &Transaction, expected: Expected) -> bool {
    expected.producer_id == transaction.producer_id
        || (expected.producer_id == transaction.previous_producer_id && is_last(expected.epoch))
}
