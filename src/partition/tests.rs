//! Two shards on the virtual reactor: appends and fetches that cross the mesh, waiting and being woken.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::shard::LocalFuture;
use super::*;
use crate::metadata::{self, Image, NewPartition, TopicDefaults};
use crate::metrics::snapshot::Server;
use crate::model::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, Offset, ShardId};
use crate::protocol::batch::{BatchHeader, Batches};
use crate::reactor::sim::{self, CrashKind, Disk, Simulation};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::storage::{self, Create, LogDir};

mod stable;
mod transactions;
mod verify;

const BROKER: BrokerId = BrokerId(1);
const TOPIC: TopicId = TopicId(1000);
const DIRECTORY: DirectoryId = DirectoryId(2000);
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// Partitions 0 and 2 live on shard 0, 1 and 3 on shard 1.
fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TOPIC, index }
}

struct TestHost(Rc<Notify>);

impl Host for TestHost {
    fn reconfigured(&self) {}

    fn control(&self, _: metadata::Request) -> LocalFuture<metadata::Reply> {
        Box::pin(std::future::ready(metadata::Reply::Done))
    }

    fn lifecycle(&self, _: Lifecycle) -> LocalFuture<()> {
        self.0.notify();
        Box::pin(std::future::ready(()))
    }

    fn measure(&self) -> Server {
        Server::default()
    }
}

fn records() -> Vec<metadata::Record> {
    let mut records = vec![metadata::Record::Topic { name: "t".to_owned(), id: TOPIC }];
    for index in 0..4 {
        records.push(metadata::Record::Partition(NewPartition {
            partition: partition(index),
            replicas: vec![BROKER],
            directories: vec![DIRECTORY],
            isr: vec![BROKER],
            leader: BROKER,
            leader_epoch: EPOCH,
            ..NewPartition::default()
        }));
        let shard = ShardId(u16::try_from(index % 2).unwrap());
        records.push(metadata::Record::ReplicaShard { broker: BROKER, partition: partition(index), shard });
    }
    records
}

/// Runs `work` on shard 0 of two, both partitions open.
fn with_two_shards<T: 'static>(
    seed: u64,
    work: impl AsyncFn(Rc<Shard>) -> T + Clone + 'static,
) -> (u64, Option<T>) {
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let outcome = with_two_shards_on(&disk, seed, work);
    let trace = outcome.trace;
    (trace, outcome.done().swap_remove(0))
}

fn with_two_shards_on<T: 'static>(
    disk: &Disk,
    seed: u64,
    work: impl AsyncFn(Rc<Shard>) -> T + Clone + 'static,
) -> sim::Outcome<Option<T>> {
    with_verifiers(disk, seed, |_| {}, work)
}

/// `prepare` is called for each shard before it starts.
fn with_verifiers<T: 'static>(
    disk: &Disk,
    seed: u64,
    prepare: impl Fn(&Rc<Shard>) + Clone + 'static,
    work: impl AsyncFn(Rc<Shard>) -> T + Clone + 'static,
) -> sim::Outcome<Option<T>> {
    Simulation::new(seed).shards(2).disk(disk).mesh_depth(MESH_DEPTH).run(
        move |context: ShardContext<Message>| {
            let (work, prepare) = (work.clone(), prepare.clone());
            async move {
                let image = Image::new("cluster", TopicDefaults::default());
                let shard = Shard::new(context.id, context.count, BROKER, image, context.mesh);
                prepare(&shard);
                let ended = Rc::new(Notify::default());
                let config = storage::Config {
                    journal_bytes: 1 << 20,
                    tail_cache_bytes: 1 << 20,
                    read_ahead_bytes: 1 << 20,
                    reserve_bytes: 0,
                    retention_check_interval_ms: 300_000,
                    producer_state_bytes: 1 << 20,
                    ..storage::testing::config()
                };
                let dirs = vec![LogDir::new(DIRECTORY, PathBuf::from("/data"), false)];
                shard.start(
                    config,
                    crate::partition::CoordinatorSettings::default(),
                    dirs,
                    Box::new(TestHost(Rc::clone(&ended))),
                );
                if context.id != ShardId::ZERO {
                    ended.notified().await;
                    return None;
                }
                shard.storage().replay_journals().await.expect("the journals are replayed");
                let records = Arc::new(records());
                for shard_id in 0..2 {
                    let to = ShardId(shard_id);
                    shard.ask(to, ShardRequest::Replay(Arc::clone(&records))).await;
                    let open = |index: i32| OpenPartition {
                        partition: partition(index),
                        directory: DIRECTORY,
                        create: Create::IfMissing,
                    };
                    let both = vec![open(i32::from(shard_id)), open(i32::from(shard_id) + 2)];
                    let reply = shard.ask(to, ShardRequest::Open(both)).await;
                    assert!(matches!(reply, ShardReply::Open(opened) if opened == [Ok(DIRECTORY); 2]));
                }
                let result = work(Rc::clone(&shard)).await;
                shard.ask(ShardId(1), ShardRequest::Lifecycle(Lifecycle::StopStorage)).await;
                Some(result)
            }
        },
    )
}

fn batch(count: i64) -> Bytes {
    let records: Vec<Record> = (0..count)
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: i32::try_from(offset).unwrap() - 1,
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: Default::default(),
        })
        .collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
    encoded.freeze()
}

fn append(index: i32, count: i64) -> AppendPartition {
    let batch = batch(count);
    let header = BatchHeader::parse(&batch).unwrap();
    AppendPartition { partition: partition(index), batch, header }
}

fn read(index: i32, offset: i64) -> ReadPartition {
    ReadPartition {
        partition: partition(index),
        fetch_offset: Offset(offset),
        max_bytes: 1 << 20,
        current_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    }
}

fn fetch(partitions: Vec<ReadPartition>, min_bytes: usize, max_wait_ms: u64) -> FetchRequest {
    FetchRequest {
        partitions,
        max_bytes: 1 << 20,
        min_bytes,
        max_wait_ms,
        isolation: Isolation::ReadUncommitted,
    }
}

fn record_count(outcome: &ReadOutcome) -> i32 {
    let parts = outcome.records.iter();
    parts
        .flat_map(|part| Batches::new(part).map(|batch| batch.unwrap().0.record_count).collect::<Vec<_>>())
        .sum()
}

#[test]
fn an_append_is_answered_by_every_owner_and_can_be_read_at_once() {
    sim::check_seeds(50, |seed| {
        with_two_shards(seed, async |shard| {
            let batches = vec![append(1, 3), append(0, 2), append(1, 1)];
            let outcomes = shard.append(Acks::All, 1000, batches).await.await;
            let bases: Vec<i64> = outcomes.iter().map(|outcome| outcome.base_offset.0).collect();
            assert_eq!(bases, [0, 0, 3], "in the order of the request");
            let outcomes = shard.fetch(fetch(vec![read(0, 0), read(1, 0)], 1, 0)).await.outcomes;
            assert_eq!(outcomes.iter().map(record_count).collect::<Vec<_>>(), [2, 4]);
            assert_eq!(outcomes[1].high_watermark, Offset(4));
        })
    });
}

#[test]
fn a_parked_fetch_is_woken_by_an_append_on_any_shard() {
    sim::check_seeds(50, |seed| {
        with_two_shards(seed, async move |shard| {
            let written = i32::try_from(seed % 2).unwrap();
            let begin = reactor::now();
            let later = Rc::clone(&shard);
            let writer = reactor::spawn(async move {
                reactor::sleep(Duration::from_millis(100)).await;
                later.append(Acks::Leader, 0, vec![append(written, 1)]).await.await
            });
            let outcomes = shard.fetch(fetch(vec![read(0, 0), read(1, 0)], 1, 60_000)).await.outcomes;
            let waited = reactor::now().since(begin);
            assert_eq!(record_count(&outcomes[usize::try_from(written).unwrap()]), 1);
            assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(5), "{waited:?}");
            assert!(writer.await[0].error.is_none());
        })
    });
}

#[test]
fn a_fetch_gives_what_there_is_at_its_deadline() {
    with_two_shards(1, async |shard| {
        shard.append(Acks::All, 1000, vec![append(1, 1)]).await.await;
        let begin = reactor::now();
        let outcomes = shard.fetch(fetch(vec![read(0, 0), read(1, 0)], 1 << 20, 300)).await.outcomes;
        assert!(reactor::now().since(begin) >= Duration::from_millis(300));
        assert_eq!(record_count(&outcomes[1]), 1);
        // nobody is left waiting on either shard
        reactor::sleep(Duration::from_millis(50)).await;
        assert!(shard.waits.borrow().is_empty() && shard.parked_for.borrow().is_empty());
    });
}

#[test]
fn min_bytes_may_come_from_several_shards_together() {
    let enough = 2 * batch(1).len();
    with_two_shards(2, async move |shard| {
        let later = Rc::clone(&shard);
        reactor::spawn(async move {
            for index in 0..2 {
                reactor::sleep(Duration::from_millis(50)).await;
                later.append(Acks::All, 1000, vec![append(index, 1)]).await.await;
            }
        });
        let begin = reactor::now();
        let outcomes = shard.fetch(fetch(vec![read(0, 0), read(1, 0)], enough, 60_000)).await.outcomes;
        assert_eq!(outcomes.iter().map(record_count).sum::<i32>(), 2);
        assert!(reactor::now().since(begin) < Duration::from_secs(5));
    });
}

#[test]
fn what_cannot_be_served_says_why() {
    with_two_shards(3, async |shard| {
        let check = async |read: ReadPartition, expected: ErrorCode| {
            let outcomes = shard.fetch(fetch(vec![read], 1, 60_000)).await.outcomes;
            assert_eq!(outcomes[0].error, expected, "{read:?}");
        };
        check(ReadPartition { partition: partition(9), ..read(0, 0) }, ErrorCode::UnknownTopicOrPartition)
            .await;
        for index in 0..2 {
            check(read(index, 1), ErrorCode::OffsetOutOfRange).await;
            let stale = ReadPartition { current_epoch: LeaderEpoch(2), ..read(index, 0) };
            check(stale, ErrorCode::FencedLeaderEpoch).await;
            let newer = ReadPartition { current_epoch: LeaderEpoch(4), ..read(index, 0) };
            check(newer, ErrorCode::UnknownLeaderEpoch).await;
        }
        let outcomes = shard.append(Acks::All, 1000, vec![append(9, 1), append(0, 1)]).await.await;
        assert_eq!(outcomes[0].error, ErrorCode::UnknownTopicOrPartition);
        assert!(outcomes[1].error.is_none());
    });
}

#[test]
fn a_budget_is_spent_in_the_order_of_the_request() {
    with_two_shards(4, async |shard| {
        shard.append(Acks::All, 1000, vec![append(0, 1), append(1, 1)]).await.await;
        let one = batch(1).len();
        for (order, expected) in [([0, 1], [1, 0]), ([1, 0], [1, 0])] {
            let reads = order.map(|index| read(index, 0)).to_vec();
            let request = FetchRequest { max_bytes: one + 1, ..fetch(reads, 1, 0) };
            let counts: Vec<i32> = shard.fetch(request).await.outcomes.iter().map(record_count).collect();
            assert_eq!(counts, expected, "the first gets its batch, the second does not fit");
        }
    });
}

#[test]
fn what_was_only_written_is_flushed_before_a_topic_is_said_to_flush() {
    let durability = |value: &str| {
        let change = metadata::Record::Config {
            resource: metadata::ConfigResource::topic("t"),
            key: "corelane.durability".to_owned(),
            value: Some(value.to_owned()),
        };
        Arc::new(vec![change])
    };
    for seed in 0..20 {
        let disk = Disk::new();
        disk.create_dir_all("/data").unwrap();
        with_two_shards_on(&disk, seed, async move |shard| {
            shard.ask(ShardId(1), ShardRequest::Replay(durability("written"))).await;
            for _ in 0..5 {
                shard.append(Acks::All, 1000, vec![append(1, 3)]).await.await;
            }
            shard.ask(ShardId(1), ShardRequest::Replay(durability("flushed"))).await;
            sim::crash(CrashKind::PowerCut).await;
        });
        let recovered = with_two_shards_on(&disk, seed, async |shard| {
            record_count(&shard.fetch(fetch(vec![read(1, 0)], 1, 0)).await.outcomes[0])
        });
        assert_eq!(recovered.done()[0], Some(15), "seed {seed}");
    }
}

/// A read stops at limits that a fetch's wait does not have: it must not go round and round between the two.
#[test]
fn a_fetch_that_a_limit_stops_is_answered_at_once() {
    let one = batch(1).len();
    for (max_bytes, min_bytes, partition_bytes) in [
        (one * 3 / 2, one * 3 / 2, 1 << 20),
        (1 << 20, one * 3 / 2, one * 3 / 2),
        (1 << 20, 1 << 19, one - 1),
    ] {
        with_two_shards(6, async move |shard| {
            for _ in 0..3 {
                shard.append(Acks::All, 1000, vec![append(0, 1), append(1, 1)]).await.await;
            }
            for index in 0..2 {
                let begin = reactor::now();
                let reads = vec![ReadPartition { max_bytes: partition_bytes, ..read(index, 0) }];
                let outcomes = shard
                    .fetch(FetchRequest { max_bytes, ..fetch(reads, min_bytes, 300_000) })
                    .await
                    .outcomes;
                assert_eq!(record_count(&outcomes[0]), 1);
                assert!(reactor::now().since(begin) < Duration::from_secs(1), "{max_bytes} {min_bytes}");
            }
        });
    }
}

/// Also where nobody has asked for a long time.
#[test]
fn what_was_done_last_counts_most() {
    sim::check_seeds(3, |seed| {
        let (trace, work) = with_two_shards(seed, async |shard| {
            reactor::sleep(Duration::from_secs(500)).await;
            shard.append(Acks::Leader, 0, vec![append(0, 1)]).await.await;
            let ShardReply::Activity(work) = shard.ask(ShardId::ZERO, ShardRequest::Activity).await else {
                unreachable!("Activity is answered in kind")
            };
            work
        });
        let work = work.expect("it ends");
        assert!(work.done > 65_000 && work.expected == 0, "{work:?}");
        trace
    });
}
