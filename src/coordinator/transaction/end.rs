//! EndTxn, and the aborts that nobody asks for: how a transaction is decided.
//!
//! A client of transaction.version 2 may not know whether there is a transaction at all, since Produce begins one, and may
//! abort where there is none. Each end raises its epoch, so one that comes again is known by the epoch before:
//!
//! | state          | abort, epoch before | abort, current | commit, epoch before | commit, current |
//! |----------------|---------------------|----------------|----------------------|-----------------|
//! | Empty          | PRODUCER_FENCED     | abort          | PRODUCER_FENCED      | INVALID_TXN_STATE |
//! | CompleteAbort  | done                | abort          | INVALID_TXN_STATE    | INVALID_TXN_STATE |
//! | CompleteCommit | INVALID_TXN_STATE   | abort          | done                 | INVALID_TXN_STATE |
//!
//! While the markers are written everybody is to come again (CONCURRENT_TRANSACTIONS), whoever asks: a producer that was just
//! told its next epoch, or its next id, may abort at once what it has not begun.

use super::state::{NO_EPOCH, Transaction, is_last};
use super::{Turn, Version, known_error};
use crate::coordinator::record::TransactionState;
use crate::log::producer_state::EndTxn;
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};
use crate::protocol::messages::{EndTxnRequest, EndTxnResponse};

const PRODUCER_FENCED_FROM: i16 = 2;

/// The first that clients of transaction.version 2 speak, whose reply has the producer's next epoch.
const VERSION_TWO_FROM: i16 = 5;

/// Whom a producer is from now on.
type Successor = (ProducerId, ProducerEpoch);

const NOT_TOLD: Successor = (ProducerId::NONE, NO_EPOCH);

pub(super) fn end_txn(
    transaction: Option<&mut Transaction>,
    turn: &mut Turn,
    version: i16,
    request: &EndTxnRequest,
) -> EndTxnResponse {
    let end = if request.committed { EndTxn::Commit } else { EndTxn::Abort };
    let producer = (ProducerId(request.producer_id.0), ProducerEpoch(request.producer_epoch));
    let ended = match transaction {
        _ if request.transactional_id.is_empty() => Err(ErrorCode::InvalidRequest),
        None => Err(ErrorCode::InvalidProducerIdMapping),
        Some(transaction) if version >= VERSION_TWO_FROM => {
            end_raising_epoch(transaction, turn, producer, end)
        }
        Some(transaction) => end_keeping_epoch(transaction, turn, producer, end).map(|()| NOT_TOLD),
    };
    let (error, (producer_id, epoch)) = match ended {
        Ok(successor) => (ErrorCode::None, successor),
        Err(error) => (known_error(error, version, PRODUCER_FENCED_FROM), NOT_TOLD),
    };
    EndTxnResponse::default()
        .with_error_code(error.code())
        .with_producer_id(producer_id.0.into())
        .with_producer_epoch(epoch.0)
}

/// Of a client of transaction.version 0 or 1.
fn end_keeping_epoch(
    transaction: &mut Transaction,
    turn: &mut Turn,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
    end: EndTxn,
) -> Result<(), ErrorCode> {
    if transaction.producer_id != producer_id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if transaction.epoch != epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    if transaction.is_decided() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match (transaction.state, end) {
        (TransactionState::Ongoing, _) => decide(transaction, turn, end, Version::ZERO),
        (TransactionState::CompleteCommit, EndTxn::Commit)
        | (TransactionState::CompleteAbort, EndTxn::Abort) => Ok(()),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// Of a client of transaction.version 2: see the table above.
fn end_raising_epoch(
    transaction: &mut Transaction,
    turn: &mut Turn,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
    end: EndTxn,
) -> Result<Successor, ErrorCode> {
    if transaction.is_decided() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    // it has not heard of the id that it was given behind its last epoch
    let has_next_id = transaction.previous_producer_id == producer_id
        && is_last(epoch)
        && transaction.epoch == ProducerEpoch(0);
    let has_next_epoch = epoch.0.checked_add(1) == Some(transaction.epoch.0);
    if transaction.producer_id != producer_id && !has_next_id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let is_current = transaction.epoch == epoch;
    let is_repeated = has_next_epoch || has_next_id;
    let has_ended =
        matches!(transaction.state, TransactionState::CompleteCommit | TransactionState::CompleteAbort);
    let may_end = is_current || has_ended && is_repeated;
    if !may_end {
        return Err(ErrorCode::ProducerFenced);
    }
    match (transaction.state, end) {
        (TransactionState::Ongoing, _) | (TransactionState::Empty, EndTxn::Abort) => {
            decide(transaction, turn, end, Version::TWO)?;
        }
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, EndTxn::Abort)
            if !is_repeated =>
        {
            decide(transaction, turn, end, Version::TWO)?;
        }
        (TransactionState::CompleteCommit, EndTxn::Commit)
        | (TransactionState::CompleteAbort, EndTxn::Abort)
            if is_repeated => {}
        _ => return Err(ErrorCode::InvalidTxnState),
    }
    Ok(transaction.successor())
}

/// Aborts the transaction, if one is under way, and fences its producer: it has taken too long, or another producer has come.
///
/// # Errors
/// There is no producer id at hand, and one would be needed. Nothing was done.
pub(super) fn fence(transaction: &mut Transaction, turn: &mut Turn) -> Result<(), ErrorCode> {
    if transaction.state != TransactionState::Ongoing {
        return Ok(());
    }
    let version = turn.version();
    if version.raises_epoch() {
        return decide(transaction, turn, EndTxn::Abort, version);
    }
    transaction.epoch.0 = transaction.epoch.0.saturating_add(1);
    transaction.last_epoch = NO_EPOCH;
    decide(transaction, turn, EndTxn::Abort, Version::ZERO)
}

fn decide(
    transaction: &mut Transaction,
    turn: &mut Turn,
    end: EndTxn,
    version: Version,
) -> Result<(), ErrorCode> {
    let next = if version.raises_epoch() && transaction.is_last_epoch() {
        turn.new_producer_id()?
    } else {
        ProducerId::NONE
    };
    transaction.decide(end, version, next, turn.now.wall);
    turn.cancel_timeout();
    turn.write(transaction);
    turn.command_markers(transaction);
    Ok(())
}
