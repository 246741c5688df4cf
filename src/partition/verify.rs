//! A transaction's first batch in a partition waits until the coordinator says that the partition belongs to it.
//!
//! Without that a batch that comes late, behind the marker of its transaction, would begin one that nobody ends: readers
//! of committed records would wait for ever (KIP-890). So an append of a transactional batch whose producer has no
//! transaction open in the log *parks*, and that producer's later batches on the partition park behind it, while the
//! coordinator is asked: one question for all partitions of an append. Once the first batch is in the log, the open
//! transaction itself vouches for the next ones.
//!
//! Invariants:
//! * No batch is appended on an answer that was asked for before a marker of its producer came: it is asked for anew.
//! * A producer's batches on a partition keep their order; what was behind a refused batch is refused with it, and what
//!   comes later must begin where that did, or below, unless the log knows where the producer is.
//! * No await between a good answer being seen and the batches being queued in the log.
//! * Whoever parks is answered: by the coordinator's answer, after [`PATIENCE`], or when the partition fails.
//!
//! Source of the rules: Kafka's `ReplicaManager.handleProduceAppend`, `AddPartitionsToTxnManager`, `VerificationStateEntry`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::leader::{Partition, PendingAppend};
use super::message::{Acks, AppendPartition, Transaction, TransactionSupport, VerifyMode, VerifyPartitions};
use super::shard::{LocalFuture, Shard};
use crate::log::producer_state::Standing;
use crate::model::{ErrorCode, PartitionId, ProducerEpoch, ProducerId};
use crate::reactor::{self, Instant};

/// A transaction that still ends is asked about again after so long at first, as long again as it has taken in all later, so
/// long at most, and up to so long: the client's own pause would be longer, and the batches would have to be sent again. Its
/// markers are written within a millisecond or two as a rule, and a producer without a pause of its own waits here in each
/// transaction.
const CONCURRENT_PAUSE_MIN: Duration = Duration::from_millis(1);
const CONCURRENT_PAUSE_MAX: Duration = Duration::from_millis(20);
const CONCURRENT_PATIENCE: Duration = Duration::from_millis(100);

/// For all questions about a producer's parked batches. Then the client is to try again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of batches that may be parked on a shard. They are counted in their requests' budget, too, but only as long as their
/// clients are there.
const PARKED_BYTES_MAX: usize = 64 << 20;

/// Producers of a partition whose refusal is remembered.
const REFUSED_MAX: usize = 100;

/// The coordinators of transactional ids, as partitions see them.
pub trait Verifier {
    /// Whether the partitions belong to the producer's transaction, or now do: in their order.
    ///
    /// The appends that wait for it hold credits of the mesh: a question that crosses it must have credits of its own, or
    /// two shards full of them would wait for each other.
    fn verify(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>>;
}

/// The batches of one partition that wait for an answer; lives in the partition.
#[derive(Default)]
pub(super) struct Verifications {
    producers: RefCell<BTreeMap<ProducerId, Verification>>,
    next_question: Cell<u64>,
    /// Producers for whose transaction a coordinator's turn is asked about, and whether a marker has come since.
    turns: RefCell<BTreeMap<ProducerId, Rc<Cell<bool>>>>,
}

/// A question for a coordinator's turn is under way.
struct TurnAsked<'a> {
    verifications: &'a Verifications,
    producer: ProducerId,
    is_stale: Rc<Cell<bool>>,
}

impl Drop for TurnAsked<'_> {
    fn drop(&mut self) {
        let mut turns = self.verifications.turns.borrow_mut();
        let is_ours = |known: &Rc<Cell<bool>>| Rc::ptr_eq(known, &self.is_stale);
        // the map's and this one
        if Rc::strong_count(&self.is_stale) == 2 && turns.get(&self.producer).is_some_and(is_ours) {
            turns.remove(&self.producer);
        }
    }
}

/// Of one producer.
#[derive(Default)]
struct Verification {
    /// Empty: what is left is the memory of a refusal.
    parked: VecDeque<ParkedAppend>,
    /// Which question is under way for them.
    question: u64,
    /// A marker has come since it was asked.
    is_stale: bool,
    refused: Option<Refused>,
}

/// A batch was refused, so the producer's next one must not be a later one. Needed only while the log knows nothing of the
/// producer: then it would take any. (And only then right: what was refused may be a late copy of what the log has.)
#[derive(Clone, Copy)]
struct Refused {
    epoch: ProducerEpoch,
    lowest_sequence: i32,
}

/// A batch that waits.
pub(super) struct ParkedAppend {
    pub batch: AppendPartition,
    pub acks: Acks,
    pub timeout_ms: u64,
    pub transaction: Transaction,
    pub request: Rc<PendingAppend>,
    /// Which outcome of the request this is.
    pub place: usize,
}

/// What is asked about: one producer's batches in some partitions.
pub(super) struct Question {
    transaction: Transaction,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    /// With the number of the question there.
    partitions: Vec<(Rc<Partition>, u64)>,
}

/// What an answer leaves to be done for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Ask,
    /// After a pause: the transaction before still ends.
    AskLater,
}

impl Verifications {
    /// Whether this producer's batches park, whatever they are.
    pub(super) fn has_parked(&self, producer: ProducerId) -> bool {
        let producers = self.producers.borrow();
        !producers.is_empty() && producers.get(&producer).is_some_and(|known| !known.parked.is_empty())
    }

    /// The number of the question that must be asked now; `None` if one is under way.
    fn park(&self, append: ParkedAppend) -> Option<u64> {
        let mut producers = self.producers.borrow_mut();
        let known = producers.entry(append.batch.header.producer_id).or_default();
        let is_first = known.parked.is_empty();
        known.parked.push_back(append);
        is_first.then(|| self.ask(known))
    }

    fn ask(&self, known: &mut Verification) -> u64 {
        let number = self.next_question.get() + 1;
        self.next_question.set(number);
        (known.question, known.is_stale) = (number, false);
        number
    }

    /// A marker of this producer was written, or has been before: answers that are on their way say nothing any more.
    pub(super) fn marker_came(&self, producer: ProducerId) {
        if let Some(is_stale) = self.turns.borrow_mut().remove(&producer) {
            is_stale.set(true);
        }
        let mut producers = self.producers.borrow_mut();
        if let Some(known) = producers.get_mut(&producer) {
            (known.is_stale, known.refused) = (true, None);
            if known.parked.is_empty() {
                producers.remove(&producer);
            }
        }
    }

    /// Whether a marker has come since the question was asked; `None`: it is not the one that is under way.
    fn is_stale(&self, producer: ProducerId, question: u64) -> Option<bool> {
        let producers = self.producers.borrow();
        let known = producers.get(&producer).filter(|known| known.question == question)?;
        (!known.parked.is_empty()).then_some(known.is_stale)
    }

    /// Asks the question anew, under another number; false if it is not the one that is under way.
    fn ask_again(&self, producer: ProducerId, question: &mut u64) -> bool {
        let mut producers = self.producers.borrow_mut();
        let Some(known) = producers.get_mut(&producer).filter(|known| known.question == *question) else {
            return false;
        };
        *question = self.ask(known);
        true
    }

    /// Everything that is parked, in order for each producer.
    fn take_all(&self) -> Vec<ParkedAppend> {
        let producers = self.producers.take();
        producers.into_values().flat_map(|known| known.parked).collect()
    }

    /// Takes out the next batch of the producer if it is of this epoch.
    fn next(&self, producer: ProducerId, epoch: ProducerEpoch) -> Option<ParkedAppend> {
        let mut producers = self.producers.borrow_mut();
        let parked = &mut producers.get_mut(&producer)?.parked;
        parked.pop_front_if(|append| append.batch.header.producer_epoch == epoch)
    }

    /// Whether the producer's batches may begin with this one, as far as refusals tell.
    fn may_begin(&self, append: &ParkedAppend) -> bool {
        let header = &append.batch.header;
        let producers = self.producers.borrow();
        let refused = producers.get(&header.producer_id).and_then(|known| known.refused);
        refused.is_none_or(|refused| {
            refused.epoch != header.producer_epoch || header.base_sequence <= refused.lowest_sequence
        })
    }

    fn refused(&self, append: &ParkedAppend) {
        let header = &append.batch.header;
        let mut producers = self.producers.borrow_mut();
        if producers.len() > REFUSED_MAX {
            producers.retain(|&id, known| id == header.producer_id || !known.parked.is_empty());
        }
        let known = producers.entry(header.producer_id).or_default();
        let lowest_sequence = match known.refused {
            Some(before) if before.epoch == header.producer_epoch => {
                before.lowest_sequence.min(header.base_sequence)
            }
            _ => header.base_sequence,
        };
        known.refused = Some(Refused { epoch: header.producer_epoch, lowest_sequence });
    }

    /// The producer's transaction is open in the log.
    fn has_begun(&self, producer: ProducerId) {
        if let Some(known) = self.producers.borrow_mut().get_mut(&producer) {
            known.refused = None;
        }
    }

    /// The question is answered. The next one, if batches of another epoch are left; whose they are is the first's.
    fn settled(&self, producer: ProducerId) -> Option<(Transaction, ProducerEpoch, u64)> {
        let mut producers = self.producers.borrow_mut();
        let known = producers.get_mut(&producer)?;
        if let Some(first) = known.parked.front() {
            let (transaction, epoch) = (first.transaction.clone(), first.batch.header.producer_epoch);
            return Some((transaction, epoch, self.ask(known)));
        }
        if known.refused.is_none() {
            producers.remove(&producer);
        }
        None
    }

    fn ask_for_turn(&self, producer: ProducerId) -> TurnAsked<'_> {
        let is_stale = Rc::clone(self.turns.borrow_mut().entry(producer).or_default());
        TurnAsked { verifications: self, producer, is_stale }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.producers.borrow().is_empty() && self.turns.borrow().is_empty()
    }
}

impl Partition {
    fn knows(&self, producer: ProducerId) -> bool {
        self.log.as_ref().is_some_and(|log| log.knows_producer(producer))
    }

    fn refused(&self, append: &ParkedAppend) {
        if !self.knows(append.batch.header.producer_id) {
            self.verifications.refused(append);
        }
    }
}

impl Shard {
    /// Has an append wait for the coordinator, which is asked when [`Self::ask_about`] is called with `questions`.
    pub(super) fn park_append(
        &self,
        partition: &Rc<Partition>,
        append: ParkedAppend,
        questions: &mut Vec<Question>,
    ) {
        let parked = self.parked_bytes.get() + append.batch.batch.len();
        if parked > PARKED_BYTES_MAX {
            partition.refused(&append);
            append.request.settle(append.place, ErrorCode::NotEnoughReplicas);
            return;
        }
        self.parked_bytes.set(parked);
        let header = append.batch.header;
        let transaction = append.transaction.clone();
        let Some(number) = partition.verifications.park(append) else { return };
        let is_same = |question: &&mut Question| {
            (question.producer_id, question.producer_epoch) == (header.producer_id, header.producer_epoch)
        };
        match questions.iter_mut().find(is_same) {
            Some(question) => question.partitions.push((Rc::clone(partition), number)),
            None => questions.push(Question {
                transaction,
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                partitions: vec![(Rc::clone(partition), number)],
            }),
        }
    }

    pub(super) fn ask_about(self: &Rc<Self>, questions: Vec<Question>) {
        for question in questions {
            let shard = Rc::clone(self);
            reactor::spawn(async move { shard.verify(question).await });
        }
    }

    /// Until a coordinator's turn may write to its partition in the producer's transaction: what is written in the poll in
    /// which this ends belongs to it.
    ///
    /// # Errors
    /// What the client is to be told instead.
    pub(super) async fn verify_turn(
        &self,
        partition: &Partition,
        transaction: &Transaction,
        (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
    ) -> Result<(), ErrorCode> {
        let standing = || {
            let log = partition.log.as_ref().ok_or(ErrorCode::NotCoordinator)?;
            match log.standing(producer_id, producer_epoch) {
                Standing::Fenced => Err(ErrorCode::InvalidProducerEpoch),
                standing => Ok(standing),
            }
        };
        let begun = reactor::now();
        // ends: when its time is over an answer counts, whatever it is
        loop {
            if standing()? == Standing::InTransaction || !self.verifies(transaction.support) {
                return Ok(());
            }
            let asked = partition.verifications.ask_for_turn(producer_id);
            let ask = ask(transaction, (producer_id, producer_epoch), vec![partition.id]);
            let answer = self.ask_in_time(ask, begun).await[0];
            let waited = reactor::now().since(begun);
            if asked.is_stale.get() {
                if waited < PATIENCE {
                    continue;
                }
                return Err(turn_error(ErrorCode::NetworkException, transaction.support));
            }
            if is_to_be_asked_again(answer, transaction.support, waited) {
                drop(asked);
                reactor::sleep(concurrent_pause(waited)).await;
                continue;
            }
            return match answer {
                ErrorCode::None => standing().map(|_| ()),
                error => Err(turn_error(error, transaction.support)),
            };
        }
    }

    /// Asks until every partition has an answer that counts.
    async fn verify(self: Rc<Self>, mut question: Question) {
        let begun = reactor::now();
        // ends: when its time is over an answer counts, whatever it is
        while !question.partitions.is_empty() {
            let partitions = question.partitions.iter().map(|(partition, _)| partition.id).collect();
            let producer = (question.producer_id, question.producer_epoch);
            let answers = self.ask_in_time(ask(&question.transaction, producer, partitions), begun).await;
            assert_eq!(answers.len(), question.partitions.len(), "one answer per partition");
            let mut pause = Duration::ZERO;
            let asked = std::mem::take(&mut question.partitions);
            for ((partition, number), answer) in asked.into_iter().zip(answers) {
                let left = self.answered(&partition, &question, number, answer, begun);
                if left == Left::Nothing {
                    continue;
                }
                if left == Left::AskLater {
                    pause = concurrent_pause(reactor::now().since(begun));
                }
                question.partitions.push((partition, number));
            }
            if !pause.is_zero() {
                reactor::sleep(pause).await;
            }
            // those that have failed meanwhile are not asked about
            let (id, partitions) = (question.producer_id, &mut question.partitions);
            partitions.retain_mut(|(partition, number)| partition.verifications.ask_again(id, number));
        }
    }

    /// NETWORK_EXCEPTION when the time of all questions is over.
    async fn ask_in_time(&self, ask: VerifyPartitions, begun: Instant) -> Vec<ErrorCode> {
        let none = vec![ErrorCode::NetworkException; ask.partitions.len()];
        let timeout = async {
            reactor::sleep_until(begun.after(PATIENCE)).await;
            none
        };
        let counters = &self.measures.counters;
        counters.verifications.increment();
        let answers = or(self.ask_transaction(ask), timeout).await;
        counters.failed_verifications.add(answers.iter().filter(|answer| !answer.is_none()).count() as u64);
        answers
    }

    /// The coordinator of a transactional id, wherever it is.
    fn ask_transaction(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>> {
        match self.verifier.get() {
            Some(verifier) => verifier.verify(ask),
            None => {
                let nobody = vec![ErrorCode::CoordinatorNotAvailable; ask.partitions.len()];
                Box::pin(std::future::ready(nobody))
            }
        }
    }

    /// Appends or refuses what the answer is about: a plain function.
    fn answered(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        question: &Question,
        number: u64,
        answer: ErrorCode,
        begun: Instant,
    ) -> Left {
        let (id, epoch) = (question.producer_id, question.producer_epoch);
        let verifications = &partition.verifications;
        let waited = reactor::now().since(begun);
        match verifications.is_stale(id, number) {
            // they were answered otherwise
            None => return Left::Nothing,
            Some(true) if waited < PATIENCE => return Left::Ask,
            Some(is_stale) => {
                if is_to_be_asked_again(answer, question.transaction.support, waited) {
                    return Left::AskLater;
                }
                let answer = if is_stale { ErrorCode::NetworkException } else { answer };
                while let Some(append) = verifications.next(id, epoch) {
                    self.unpark(partition, append, answer);
                }
            }
        }
        if let Some((transaction, producer_epoch, number)) = verifications.settled(id) {
            let partitions = vec![(Rc::clone(partition), number)];
            self.ask_about(vec![Question { transaction, producer_id: id, producer_epoch, partitions }]);
        }
        Left::Nothing
    }

    fn unpark(&self, partition: &Rc<Partition>, append: ParkedAppend, answer: ErrorCode) {
        self.parked_bytes.set(self.parked_bytes.get() - append.batch.batch.len());
        let verifications = &partition.verifications;
        if !answer.is_none() {
            partition.refused(&append);
            append.request.settle(append.place, produce_error(answer, append.transaction.support));
            return;
        }
        let is_known = partition.knows(append.batch.header.producer_id);
        if !is_known && !verifications.may_begin(&append) {
            append.request.settle(append.place, ErrorCode::OutOfOrderSequenceNumber);
            return;
        }
        if self.append_parked(partition, &append) {
            verifications.has_begun(append.batch.header.producer_id);
        }
    }

    /// Nothing that is parked in the partition will be appended.
    pub(super) fn fail_parked(&self, partition: &Partition, error: ErrorCode) {
        for append in partition.verifications.take_all() {
            self.parked_bytes.set(self.parked_bytes.get() - append.batch.batch.len());
            append.request.settle(append.place, error);
        }
    }

    /// Whether such clients' first batches wait for the coordinator's word (transaction.partition.verification.enable; one that
    /// adds partitions by producing to them could not do without).
    pub(super) fn verifies(&self, support: TransactionSupport) -> bool {
        support == TransactionSupport::Adds || self.verifies_added.get()
    }

    /// transaction.partition.verification.enable is this from now on.
    pub fn set_verification(&self, is_on: bool) {
        self.verifies_added.set(is_on);
    }

    /// Who is asked whether a partition belongs to a transaction. To be said once, before clients are served; until then no
    /// coordinator is available.
    pub(super) fn set_verifier(&self, verifier: Box<dyn Verifier>) {
        assert!(self.verifier.set(verifier).is_ok(), "a shard has one verifier");
    }
}

fn ask(
    transaction: &Transaction,
    (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
    partitions: Vec<PartitionId>,
) -> VerifyPartitions {
    let mode = match transaction.support {
        TransactionSupport::Adds => VerifyMode::Add,
        TransactionSupport::Classic | TransactionSupport::Abortable => VerifyMode::VerifyOnly,
    };
    let transactional_id = transaction.transactional_id.clone();
    VerifyPartitions { transactional_id, producer_id, producer_epoch, partitions, mode }
}

/// Until the coordinator is asked again about a transaction that still ends.
fn concurrent_pause(waited: Duration) -> Duration {
    waited.clamp(CONCURRENT_PAUSE_MIN, CONCURRENT_PAUSE_MAX)
}

/// The transaction before still ends.
fn is_to_be_asked_again(answer: ErrorCode, support: TransactionSupport, waited: Duration) -> bool {
    let adds = support == TransactionSupport::Adds;
    answer == ErrorCode::ConcurrentTransactions && adds && waited < CONCURRENT_PATIENCE
}

/// What a client is told when its offsets were not verified. Producers take COORDINATOR_LOAD_IN_PROGRESS for a reason to try
/// again where they are.
fn turn_error(answer: ErrorCode, support: TransactionSupport) -> ErrorCode {
    match answer {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if support == TransactionSupport::Classic => {
            ErrorCode::InvalidTxnState
        }
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::UnknownTopicOrPartition => ErrorCode::CoordinatorNotAvailable,
        other => other,
    }
}

/// What a client is told when its batch was not verified: what its version knows and how it then does the right thing.
/// NOT_ENOUGH_REPLICAS makes any client send the batch again without asking where to.
fn produce_error(answer: ErrorCode, support: TransactionSupport) -> ErrorCode {
    match answer {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if support == TransactionSupport::Classic => {
            ErrorCode::InvalidTxnState
        }
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if support != TransactionSupport::Adds => {
            ErrorCode::NotEnoughReplicas
        }
        other => other,
    }
}
