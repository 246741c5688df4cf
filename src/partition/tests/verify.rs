//! Batches that wait for the coordinator: what they wait for, in which order they go on, and how it ends otherwise.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::stable::{in_transaction, marker, transaction};
use super::*;
use crate::log::producer_state::EndTxn::{Abort, Commit};
use crate::model::{ProducerEpoch, ProducerId};
use crate::reactor::Task;
use crate::reactor::sync::{Sender, oneshot};

/// A coordinator that answers when the test does.
#[derive(Default)]
struct Asked {
    questions: RefCell<VecDeque<(VerifyPartitions, Sender<Vec<ErrorCode>>)>>,
    count: Cell<u32>,
    heard: Notify,
}

struct Double(Rc<Asked>);

impl Verifier for Double {
    fn verify(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>> {
        let (sender, receiver) = oneshot();
        self.0.questions.borrow_mut().push_back((ask, sender));
        self.0.count.set(self.0.count.get() + 1);
        self.0.heard.notify();
        Box::pin(async move { receiver.await.expect("the test answers, or the question is given up") })
    }
}

impl Asked {
    async fn next(&self) -> (VerifyPartitions, Sender<Vec<ErrorCode>>) {
        loop {
            if let Some(next) = self.questions.borrow_mut().pop_front() {
                return next;
            }
            self.heard.notified().await;
        }
    }

    /// The next question is answered like that for all its partitions.
    async fn answer(&self, answer: ErrorCode) -> VerifyPartitions {
        let (ask, sender) = self.next().await;
        sender.send(vec![answer; ask.partitions.len()]);
        ask
    }

    fn is_quiet(&self) -> bool {
        self.questions.borrow().is_empty()
    }
}

fn with_double(seed: u64, work: impl AsyncFn(Rc<Shard>, Rc<Asked>) + Clone + 'static) -> u64 {
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let asked = Rc::new(Asked::default());
    let double = Rc::clone(&asked);
    let prepare = move |shard: &Rc<Shard>| shard.set_verifier(Box::new(Double(Rc::clone(&double))));
    let outcome = with_verifiers(&disk, seed, prepare, async move |shard: Rc<Shard>| {
        work(Rc::clone(&shard), Rc::clone(&asked)).await;
        // nothing of it is left
        assert_eq!(shard.parked_bytes.get(), 0);
        for partition in shard.partitions.borrow().values() {
            assert!(!partition.verifications.has_parked(ProducerId(7)));
        }
    });
    let trace = outcome.trace;
    outcome.done();
    trace
}

/// Appends in a task: its place in the order is fixed when this returns.
async fn produce(
    shard: &Rc<Shard>,
    support: TransactionSupport,
    batches: Vec<AppendPartition>,
) -> Task<Vec<AppendOutcome>> {
    let (_, appended) = shard.append_in(transaction(support), Acks::All, 1000, batches).await;
    reactor::spawn(appended)
}

fn told(outcomes: &[AppendOutcome]) -> Vec<(ErrorCode, i64)> {
    outcomes.iter().map(|outcome| (outcome.error, outcome.base_offset.0)).collect()
}

const OK: ErrorCode = ErrorCode::None;

#[test]
fn a_first_batch_waits_and_the_next_ones_wait_behind_it() {
    sim::check_seeds(30, |seed| {
        with_double(seed, async move |shard, asked| {
            let index = i32::try_from(seed % 2).unwrap();
            let support = TransactionSupport::Classic;
            let first = produce(&shard, support, vec![in_transaction(index, (7, 0, 0))]).await;
            let second = produce(&shard, support, vec![in_transaction(index, (7, 0, 1))]).await;
            // others do not wait
            let other = shard.append(Acks::All, 1000, vec![append(index, 2)]).await.await;
            assert_eq!(told(&other), [(OK, 0)]);
            let ask = asked.answer(OK).await;
            assert_eq!((ask.producer_id, ask.producer_epoch.0), (ProducerId(7), 0));
            assert_eq!((&*ask.transactional_id, ask.mode), ("t", VerifyMode::VerifyOnly));
            assert_eq!(ask.partitions, [partition(index)]);
            assert_eq!(told(&first.await), [(OK, 2)]);
            assert_eq!(told(&second.await), [(OK, 3)]);
            // the open transaction vouches for what comes next
            let third = produce(&shard, support, vec![in_transaction(index, (7, 0, 2))]).await;
            assert_eq!(told(&third.await), [(OK, 4)]);
            assert_eq!(asked.count.get(), 1);
            // a new one is asked about again
            assert_eq!(shard.write_markers(vec![marker(index, 7, 0, Commit)]).await, [OK]);
            let next = produce(&shard, support, vec![in_transaction(index, (7, 0, 3))]).await;
            asked.answer(OK).await;
            assert_eq!(told(&next.await), [(OK, 6)]);
        })
    });
}

#[test]
fn one_question_is_for_all_partitions_of_a_shard() {
    with_double(1, async |shard, asked| {
        let all = (0..4).map(|index| in_transaction(index, (7, 0, 0))).collect();
        let produced = produce(&shard, TransactionSupport::Adds, all).await;
        let mut partitions = Vec::new();
        for _ in 0..2 {
            let (ask, sender) = asked.next().await;
            assert_eq!(ask.mode, VerifyMode::Add);
            sender.send(vec![OK, ErrorCode::TransactionAbortable]);
            partitions.push(ask.partitions);
        }
        partitions.sort();
        assert_eq!(partitions, [[partition(0), partition(2)], [partition(1), partition(3)]]);
        let refused = ErrorCode::TransactionAbortable;
        assert_eq!(told(&produced.await), [(OK, 0), (OK, 0), (refused, -1), (refused, -1)]);
        assert!(asked.is_quiet());
    });
}

/// What each answer of the coordinator becomes for each kind of client.
#[test]
fn answers_are_told_as_the_client_understands_them() {
    use TransactionSupport::{Abortable, Adds, Classic};
    let check = |support, answer: ErrorCode, expect: ErrorCode| {
        with_double(2, async move |shard, asked| {
            let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
            asked.answer(answer).await;
            assert_eq!(told(&produced.await), [(expect, -1)], "{support:?} {answer:?}");
        });
    };
    for support in [Classic, Abortable, Adds] {
        check(support, ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch);
        check(support, ErrorCode::InvalidTxnState, ErrorCode::InvalidTxnState);
        check(support, ErrorCode::InvalidProducerIdMapping, ErrorCode::InvalidProducerIdMapping);
        for retriable in [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::NetworkException,
        ] {
            check(support, retriable, ErrorCode::NotEnoughReplicas);
        }
    }
    check(Classic, ErrorCode::TransactionAbortable, ErrorCode::InvalidTxnState);
    check(Abortable, ErrorCode::TransactionAbortable, ErrorCode::TransactionAbortable);
    check(Adds, ErrorCode::TransactionAbortable, ErrorCode::TransactionAbortable);
    check(Classic, ErrorCode::ConcurrentTransactions, ErrorCode::NotEnoughReplicas);
    check(Abortable, ErrorCode::ConcurrentTransactions, ErrorCode::NotEnoughReplicas);
}

#[test]
fn a_transaction_that_still_ends_is_asked_about_again() {
    with_double(3, async |shard, asked| {
        let adds = TransactionSupport::Adds;
        let produced = produce(&shard, adds, vec![in_transaction(0, (7, 0, 0))]).await;
        let begun = reactor::now();
        asked.answer(ErrorCode::ConcurrentTransactions).await;
        asked.answer(ErrorCode::ConcurrentTransactions).await;
        asked.answer(OK).await;
        assert_eq!(told(&produced.await), [(OK, 0)]);
        let waited = reactor::now().since(begun);
        assert!((2..20).contains(&waited.as_millis()), "soon at first: {waited:?}");
        // not for long, and later not often
        assert_eq!(shard.write_markers(vec![marker(0, 7, 1, Commit)]).await, [OK]);
        let produced = produce(&shard, adds, vec![in_transaction(0, (7, 1, 0))]).await;
        let begun = reactor::now();
        let mut questions = 0;
        while reactor::now().since(begun) < Duration::from_millis(100) {
            asked.answer(ErrorCode::ConcurrentTransactions).await;
            questions += 1;
        }
        assert!((5..=12).contains(&questions), "{questions}");
        assert_eq!(told(&produced.await), [(ErrorCode::ConcurrentTransactions, -1)]);
    });
}

/// What was behind it is refused with it, and what comes later must not be appended in its place.
#[test]
fn behind_a_refused_batch_nothing_is_appended() {
    with_double(4, async |shard, asked| {
        let support = TransactionSupport::Classic;
        let one =
            async |sequence: i32| produce(&shard, support, vec![in_transaction(0, (7, 0, sequence))]).await;
        let (first, second) = (one(0).await, one(1).await);
        asked.answer(ErrorCode::CoordinatorLoadInProgress).await;
        let again = (ErrorCode::NotEnoughReplicas, -1);
        assert_eq!((told(&first.await), told(&second.await)), (vec![again], vec![again]));
        // it was on its way already
        let third = one(2).await;
        asked.answer(OK).await;
        assert_eq!(told(&third.await), [(ErrorCode::OutOfOrderSequenceNumber, -1)]);
        let (first, second) = (one(0).await, one(1).await);
        asked.answer(OK).await;
        assert_eq!((told(&first.await), told(&second.await)), (vec![(OK, 0)], vec![(OK, 1)]));
        assert!(shard.local(partition(0)).unwrap().verifications.is_empty());
    });
}

/// The answer is older than the marker: the batch is of a transaction that is over.
#[test]
fn an_answer_from_before_a_marker_does_not_count() {
    sim::check_seeds(20, |seed| {
        with_double(seed, async move |shard, asked| {
            let index = i32::try_from(seed % 2).unwrap();
            let support = TransactionSupport::Abortable;
            let produced = produce(&shard, support, vec![in_transaction(index, (7, 0, 0))]).await;
            let (_, sender) = asked.next().await;
            let written = if seed % 3 == 0 { 2 } else { 1 };
            for _ in 0..written {
                // the second changes nothing in the log, and says the same
                assert_eq!(shard.write_markers(vec![marker(index, 7, 0, Abort)]).await, [OK]);
            }
            sender.send(vec![OK]);
            asked.answer(ErrorCode::TransactionAbortable).await;
            assert_eq!(told(&produced.await), [(ErrorCode::TransactionAbortable, -1)]);
            let producers = shard.describe_producers(vec![partition(index)]).await.swap_remove(0).unwrap();
            assert_eq!(producers[0].txn_start_offset, Offset::NONE);
        })
    });
}

/// A producer that was fenced meanwhile, and its successor behind it: each is asked about.
#[test]
fn epochs_are_asked_about_one_by_one() {
    with_double(5, async |shard, asked| {
        let support = TransactionSupport::Classic;
        let old = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        let new = produce(&shard, support, vec![in_transaction(0, (7, 1, 0))]).await;
        assert_eq!(asked.answer(ErrorCode::ProducerFenced).await.producer_epoch.0, 0);
        assert_eq!(asked.answer(OK).await.producer_epoch.0, 1);
        assert_eq!(told(&old.await), [(ErrorCode::InvalidProducerEpoch, -1)]);
        assert_eq!(told(&new.await), [(OK, 0)]);
        // an older epoch is refused without a question
        let fenced = produce(&shard, support, vec![in_transaction(0, (7, 0, 1))]).await;
        assert_eq!(told(&fenced.await), [(ErrorCode::InvalidProducerEpoch, -1)]);
        assert!(asked.is_quiet());
    });
}

/// Version 2 begins at sequence 0, or the partition would not notice that the first batch is missing.
#[test]
fn version_2_begins_at_sequence_zero() {
    with_double(6, async |shard, asked| {
        for (support, expect) in [
            (TransactionSupport::Adds, (ErrorCode::OutOfOrderSequenceNumber, -1)),
            (TransactionSupport::Classic, (OK, 0)),
        ] {
            let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 3))]).await;
            asked.answer(OK).await;
            assert_eq!(told(&produced.await), [expect], "{support:?}");
        }
    });
}

#[test]
fn whoever_is_not_answered_is_told_to_try_again() {
    with_double(7, async |shard, asked| {
        let begun = reactor::now();
        let produced = produce(&shard, TransactionSupport::Adds, vec![in_transaction(0, (7, 0, 0))]).await;
        let (_, sender) = asked.next().await;
        assert_eq!(told(&produced.await), [(ErrorCode::NotEnoughReplicas, -1)]);
        let waited = reactor::now().since(begun);
        assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(31), "{waited:?}");
        sender.send(vec![OK]);
    });
    // a shard without a coordinator says so at once
    with_two_shards(7, async |shard| {
        let produced = produce(&shard, TransactionSupport::Adds, vec![in_transaction(1, (7, 0, 0))]).await;
        assert_eq!(told(&produced.await), [(ErrorCode::NotEnoughReplicas, -1)]);
        // nor is anything taken without its transaction
        let outcomes = shard.append(Acks::All, 1000, vec![in_transaction(0, (7, 0, 0))]).await.await;
        assert_eq!(outcomes[0].error, ErrorCode::InvalidTxnState);
    });
}

#[test]
fn what_waits_ends_with_the_partition_and_with_the_node() {
    with_double(8, async |shard, asked| {
        let support = TransactionSupport::Classic;
        let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        let (_, late) = asked.next().await;
        shard.end_waits();
        assert_eq!(told(&produced.await), [(ErrorCode::NotEnoughReplicas, -1)]);
        // the answer comes when others wait: it is not theirs
        let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        let (_, sender) = asked.next().await;
        late.send(vec![OK]);
        reactor::sleep(Duration::from_millis(10)).await;
        assert_eq!(shard.log(partition(0)).unwrap().end_offset(), Offset::ZERO);
        sender.send(vec![OK]);
        assert_eq!(told(&produced.await), [(OK, 0)]);
        // the topic goes
        let produced = produce(&shard, support, vec![in_transaction(2, (7, 0, 0))]).await;
        let (_, late) = asked.next().await;
        let removal = Arc::new(vec![metadata::Record::RemoveTopic { id: TOPIC }]);
        shard.ask(ShardId::ZERO, ShardRequest::Replay(removal)).await;
        assert_eq!(told(&produced.await), [(ErrorCode::UnknownTopicOrPartition, -1)]);
        late.send(vec![OK]);
    });
}

#[test]
fn a_client_that_goes_leaves_nothing_behind() {
    sim::check_seeds(10, |seed| {
        with_double(seed, async move |shard, asked| {
            let index = i32::try_from(seed % 2).unwrap();
            let batches = vec![in_transaction(index, (7, 0, 0))];
            let transaction = transaction(TransactionSupport::Classic);
            drop(shard.append_in(transaction, Acks::None, 1000, batches).await);
            let answer = if seed % 4 < 2 { OK } else { ErrorCode::InvalidTxnState };
            asked.answer(answer).await;
            reactor::sleep(Duration::from_millis(10)).await;
            // whatever became of it: a next one of the same producer ends the transaction
            assert_eq!(shard.write_markers(vec![marker(index, 7, 1, Abort)]).await, [OK]);
            let producers = shard.describe_producers(vec![partition(index)]).await.swap_remove(0).unwrap();
            assert_eq!(producers[0].txn_start_offset, Offset::NONE);
        })
    });
}

#[test]
fn parked_batches_are_bounded() {
    with_double(9, async |shard, asked| {
        let support = TransactionSupport::Classic;
        shard.parked_bytes.set((64 << 20) - 1);
        let refused = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        assert_eq!(told(&refused.await), [(ErrorCode::NotEnoughReplicas, -1)]);
        assert!(asked.is_quiet());
        shard.parked_bytes.set(0);
        let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        asked.answer(OK).await;
        assert_eq!(told(&produced.await), [(OK, 0)]);
    });
}

/// Asks for a coordinator's turn in a task.
fn turn(shard: &Rc<Shard>, support: TransactionSupport, producer: (i64, i16)) -> Task<Result<(), ErrorCode>> {
    let (shard, transaction) = (Rc::clone(shard), transaction(support).unwrap());
    reactor::spawn(async move {
        let leads = shard.local(partition(0)).unwrap();
        shard.verify_turn(&leads, &transaction, (ProducerId(producer.0), ProducerEpoch(producer.1))).await
    })
}

#[test]
fn a_coordinators_turn_waits_until_the_partition_belongs_to_the_transaction() {
    with_double(10, async |shard, asked| {
        for (support, mode) in [
            (TransactionSupport::Classic, VerifyMode::VerifyOnly),
            (TransactionSupport::Abortable, VerifyMode::VerifyOnly),
            (TransactionSupport::Adds, VerifyMode::Add),
        ] {
            let turn = turn(&shard, support, (7, 0));
            let ask = asked.answer(OK).await;
            assert_eq!((ask.mode, ask.partitions), (mode, vec![partition(0)]));
            assert_eq!(turn.await, Ok(()));
        }
        // the open transaction vouches for it
        let produced = produce(&shard, TransactionSupport::Classic, vec![in_transaction(0, (7, 1, 0))]).await;
        asked.answer(OK).await;
        assert_eq!(told(&produced.await), [(OK, 0)]);
        assert_eq!(turn(&shard, TransactionSupport::Adds, (7, 1)).await, Ok(()));
        // and refuses who was fenced, without a question
        let fenced = turn(&shard, TransactionSupport::Adds, (7, 0)).await;
        assert_eq!(fenced, Err(ErrorCode::InvalidProducerEpoch));
        assert!(asked.is_quiet());
        assert!(shard.local(partition(0)).unwrap().verifications.is_empty());
    });
}

#[test]
fn a_turn_is_asked_for_again_when_a_marker_came_meanwhile() {
    with_double(11, async |shard, asked| {
        let waits = turn(&shard, TransactionSupport::Abortable, (7, 0));
        let (_, first) = asked.next().await;
        // another one of the same producer, and one of a producer without a marker
        let beside = turn(&shard, TransactionSupport::Abortable, (7, 0));
        let (_, second) = asked.next().await;
        let other = turn(&shard, TransactionSupport::Abortable, (8, 0));
        let (_, of_other) = asked.next().await;
        assert_eq!(shard.write_markers(vec![marker(0, 7, 0, Abort)]).await, [OK]);
        [first, second, of_other].into_iter().for_each(|sender| sender.send(vec![OK]));
        assert_eq!(other.await, Ok(()));
        for _ in 0..2 {
            asked.answer(ErrorCode::TransactionAbortable).await;
        }
        let abortable = Err(ErrorCode::TransactionAbortable);
        assert_eq!((waits.await, beside.await), (abortable, abortable));
        // the marker of another life fences
        let waits = turn(&shard, TransactionSupport::Adds, (9, 0));
        let (_, sender) = asked.next().await;
        assert_eq!(shard.write_markers(vec![marker(0, 9, 1, Abort)]).await, [OK]);
        sender.send(vec![OK]);
        assert_eq!(waits.await, Err(ErrorCode::InvalidProducerEpoch));
        assert!(asked.is_quiet());
        assert!(shard.local(partition(0)).unwrap().verifications.is_empty());
    });
}

#[test]
fn a_turn_is_refused_as_the_client_understands_it() {
    use TransactionSupport::{Abortable, Adds, Classic};
    with_double(12, async |shard, asked| {
        for (support, answer, expect) in [
            (Classic, ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch),
            (Classic, ErrorCode::TransactionAbortable, ErrorCode::InvalidTxnState),
            (Abortable, ErrorCode::TransactionAbortable, ErrorCode::TransactionAbortable),
            (Adds, ErrorCode::InvalidProducerIdMapping, ErrorCode::InvalidProducerIdMapping),
            (Adds, ErrorCode::NetworkException, ErrorCode::CoordinatorLoadInProgress),
            (Adds, ErrorCode::UnknownTopicOrPartition, ErrorCode::CoordinatorNotAvailable),
            (Classic, ErrorCode::ConcurrentTransactions, ErrorCode::ConcurrentTransactions),
        ] {
            let waits = turn(&shard, support, (7, 0));
            asked.answer(answer).await;
            assert_eq!(waits.await, Err(expect), "{support:?} {answer:?}");
        }
        // the transaction before ends
        let waits = turn(&shard, Adds, (7, 0));
        asked.answer(ErrorCode::ConcurrentTransactions).await;
        asked.answer(OK).await;
        assert_eq!(waits.await, Ok(()));
    });
}

/// transaction.partition.verification.enable=false
#[test]
fn without_verification_only_those_are_asked_for_who_add_by_producing() {
    with_double(13, async |shard, asked| {
        shard.set_verification(false);
        let support = TransactionSupport::Classic;
        assert_eq!(turn(&shard, support, (7, 0)).await, Ok(()));
        let produced = produce(&shard, support, vec![in_transaction(0, (7, 0, 0))]).await;
        assert_eq!(told(&produced.await), [(OK, 0)]);
        assert!(asked.is_quiet());
        let produced = produce(&shard, TransactionSupport::Adds, vec![in_transaction(0, (8, 0, 0))]).await;
        asked.answer(OK).await;
        assert_eq!(told(&produced.await), [(OK, 1)]);
    });
}
