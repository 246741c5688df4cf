//! Markers, the last stable offset, and what readers of committed records are given.

use super::*;
use crate::log::producer_state::EndTxn::{self, Abort, Commit};
use crate::model::{ProducerEpoch, ProducerId};
use crate::storage::testing::{Spec, batch as batch_of, transactional};

/// A transactional batch of one record.
pub(super) fn in_transaction(index: i32, producer: (i64, i16, i32)) -> AppendPartition {
    let spec = Spec { records: 1, producer: Some(producer), ..Spec::default() };
    let (batch, header) = transactional(batch_of(&spec));
    AppendPartition { partition: partition(index), batch, header }
}

pub(super) fn marker(index: i32, producer: i64, epoch: i16, end: EndTxn) -> MarkerPartition {
    MarkerPartition {
        partition: partition(index),
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch: 1,
        end,
        transaction_version: 1,
    }
}

pub(super) fn transaction(support: TransactionSupport) -> Option<Transaction> {
    Some(Transaction { transactional_id: Arc::from("t"), support })
}

/// Says yes to everything.
struct Yes;

impl Verifier for Yes {
    fn verify(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>> {
        Box::pin(std::future::ready(vec![ErrorCode::None; ask.partitions.len()]))
    }
}

fn with_yes<T: 'static>(seed: u64, work: impl AsyncFn(Rc<Shard>) -> T + Clone + 'static) -> T {
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let outcome = with_verifiers(&disk, seed, |shard: &Rc<Shard>| shard.set_verifier(Box::new(Yes)), work);
    outcome.done().swap_remove(0).expect("shard 0 ends with a result")
}

async fn produce(shard: &Rc<Shard>, index: i32, producer: (i64, i16, i32)) -> Offset {
    let batches = vec![in_transaction(index, producer)];
    let outcomes =
        shard.append_in(transaction(TransactionSupport::Classic), Acks::All, 1000, batches).await.1.await;
    assert_eq!(outcomes[0].error, ErrorCode::None, "{producer:?}");
    outcomes[0].base_offset
}

fn committed(request: FetchRequest) -> FetchRequest {
    FetchRequest { isolation: Isolation::ReadCommitted, ..request }
}

async fn latest(shard: &Shard, index: i32, isolation: Isolation) -> Offset {
    let query = OffsetQueryPartition {
        partition: partition(index),
        query: OffsetQuery::Latest,
        current_epoch: LeaderEpoch::NONE,
        isolation,
    };
    let answers = shard.list_offsets(vec![query]).await;
    assert_eq!(answers[0].error, ErrorCode::None);
    answers[0].offset
}

#[test]
fn committed_readers_stop_where_a_transaction_is_open() {
    for index in 0..2 {
        with_yes(1, async move |shard| {
            assert_eq!(
                shard.append(Acks::All, 1000, vec![append(index, 2)]).await.await[0].error,
                ErrorCode::None
            );
            assert_eq!(produce(&shard, index, (7, 0, 0)).await, Offset(2));
            assert_eq!(produce(&shard, index, (8, 0, 0)).await, Offset(3));
            let read_all = async || {
                let request = committed(fetch(vec![read(index, 0)], 1, 0));
                let outcome = shard.fetch(request).await.outcomes.swap_remove(0);
                (record_count(&outcome), outcome.last_stable_offset, outcome.aborted.unwrap_or_default())
            };
            assert_eq!(read_all().await, (2, Offset(2), vec![]));
            assert_eq!(latest(&shard, index, Isolation::ReadCommitted).await, Offset(2));
            assert_eq!(latest(&shard, index, Isolation::ReadUncommitted).await, Offset(4));
            // the later one ends first
            assert_eq!(shard.write_markers(vec![marker(index, 8, 0, Abort)]).await, [ErrorCode::None]);
            assert_eq!(read_all().await, (2, Offset(2), vec![]));
            assert_eq!(shard.write_markers(vec![marker(index, 7, 0, Commit)]).await, [ErrorCode::None]);
            assert_eq!(read_all().await, (6, Offset(6), vec![(ProducerId(8), Offset(3))]));
            assert_eq!(latest(&shard, index, Isolation::ReadCommitted).await, Offset(6));
            // what is read of it decides what is told of
            for (from, expect) in [(2, 1), (3, 1), (4, 1), (5, 0)] {
                let request = committed(fetch(vec![read(index, from)], 1, 0));
                let outcome = shard.fetch(request).await.outcomes.swap_remove(0);
                assert_eq!(outcome.aborted.map(|aborted| aborted.len()), Some(expect), "from {from}");
            }
            let uncommitted = shard.fetch(fetch(vec![read(index, 0)], 1, 0)).await.outcomes.swap_remove(0);
            assert_eq!((record_count(&uncommitted), uncommitted.aborted), (6, None));
        });
    }
}

#[test]
fn a_committed_fetch_wakes_when_the_transaction_ends() {
    sim::check_seeds(20, |seed| {
        with_yes(seed, async move |shard| {
            let index = i32::try_from(seed % 2).unwrap();
            produce(&shard, index, (7, 0, 0)).await;
            let begin = reactor::now();
            let later = Rc::clone(&shard);
            let ends = reactor::spawn(async move {
                reactor::sleep(Duration::from_millis(100)).await;
                // of the same transaction, which ends nothing yet
                produce(&later, index, (7, 0, 1)).await;
                reactor::sleep(Duration::from_millis(100)).await;
                later.write_markers(vec![marker(index, 7, 0, Commit)]).await
            });
            let request = committed(fetch(vec![read(index, 0)], 1, 60_000));
            let outcome = shard.fetch(request).await.outcomes.swap_remove(0);
            assert_eq!(record_count(&outcome), 3);
            let waited = reactor::now().since(begin);
            assert!(waited >= Duration::from_millis(200) && waited < Duration::from_secs(5), "{waited:?}");
            assert_eq!(ends.await, [ErrorCode::None]);
            waited
        })
    });
}

#[test]
fn markers_are_checked_and_may_come_again() {
    with_yes(2, async |shard| {
        produce(&shard, 0, (7, 3, 0)).await;
        let end = async |markers: Vec<MarkerPartition>| shard.write_markers(markers).await;
        assert_eq!(end(vec![marker(0, 7, 2, Commit)]).await, [ErrorCode::InvalidProducerEpoch]);
        // several at once, on both shards, one of which nobody has
        let nowhere = MarkerPartition { partition: partition(9), ..marker(0, 7, 3, Abort) };
        let all = vec![marker(1, 7, 3, Abort), nowhere, marker(0, 7, 3, Abort), marker(2, 7, 3, Abort)];
        let expect = [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::None, ErrorCode::None];
        assert_eq!(end(all.clone()).await, expect);
        assert_eq!(end(all).await, expect, "again");
        let log = shard.log(partition(0)).unwrap();
        assert_eq!(log.end_offset(), Offset(2), "it was written once");
        let older = MarkerPartition { coordinator_epoch: 0, ..marker(0, 7, 3, Abort) };
        assert_eq!(end(vec![older]).await, [ErrorCode::TransactionCoordinatorFenced]);
        let producers = shard.describe_producers(vec![partition(0), partition(1), partition(9)]).await;
        let of =
            |at: usize| producers[at].as_ref().map(|all| all.iter().map(|one| one.id.0).collect::<Vec<_>>());
        assert_eq!((of(0), of(1)), (Ok(vec![7]), Ok(vec![7])));
        assert_eq!(of(2), Err(&ErrorCode::UnknownTopicOrPartition));
    });
}

/// DeleteRecords may pass an open transaction, and takes the last stable offset along.
#[test]
fn a_log_start_may_pass_an_open_transaction() {
    with_yes(3, async |shard| {
        produce(&shard, 0, (7, 0, 0)).await;
        shard.append(Acks::All, 1000, vec![append(0, 3)]).await.await;
        let deletion =
            DeleteRecordsPartition { partition: partition(0), before: DeleteBefore::Offset(Offset(2)) };
        assert_eq!(shard.delete_records(vec![deletion]).await[0].error, ErrorCode::None);
        assert_eq!(latest(&shard, 0, Isolation::ReadCommitted).await, Offset(2));
        let request = committed(fetch(vec![read(0, 2)], 1, 0));
        let outcome = shard.fetch(request).await.outcomes.swap_remove(0);
        assert_eq!((outcome.error, record_count(&outcome)), (ErrorCode::None, 0));
        assert_eq!(shard.write_markers(vec![marker(0, 7, 0, Abort)]).await, [ErrorCode::None]);
        assert_eq!(latest(&shard, 0, Isolation::ReadCommitted).await, Offset(5));
    });
}
