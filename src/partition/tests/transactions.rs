//! Transactions of several producers on four partitions of two shards, a coordinator that is slow and moody, crashes.
//!
//! What a log should say of transactions follows from its batches alone: the model reads them, and the broker's answers
//! must be the model's. A batch's timestamp is the number of its transaction, a marker's coordinator epoch too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::log::control::end_marker;
use crate::log::producer_state::EndTxn;
use crate::model::{ProducerEpoch, ProducerId};
use crate::protocol::batch::HEADER_BYTES;
use crate::reactor::Task;
use crate::storage::LogConfig;
use crate::storage::testing::{Decided, Noise, Spec, batch as batch_of, log_config, transactional};

const PARTITIONS: i32 = 4;
const LIVES: u64 = 4;
const TRANSACTIONS_PER_LIFE: i32 = 6;

/// What survives crashes: the coordinator's log, and what was told to clients.
#[derive(Default)]
struct World {
    producers: RefCell<BTreeMap<i64, Txn>>,
    /// (partition, base offset, producer, transaction): appended for good.
    acknowledged: RefCell<Vec<(i32, Offset, i64, i32)>>,
    /// Last stable offsets that were told.
    told: RefCell<BTreeMap<i32, Offset>>,
    /// Markers that were answered: (partition, producer, transaction).
    ended: RefCell<BTreeSet<(i32, i64, i32)>>,
    shards: RefCell<Vec<Rc<Shard>>>,
}

/// A producer's transaction as its coordinator knows it.
#[derive(Clone, Debug)]
struct Txn {
    epoch: i16,
    number: i32,
    version: i8,
    is_open: bool,
    partitions: BTreeSet<i32>,
    /// Decided, and not written everywhere yet; with the epoch of the markers.
    ending: Option<(EndTxn, i16)>,
    sequences: BTreeMap<i32, i32>,
}

struct Coordinator(Rc<World>);

impl Verifier for Coordinator {
    fn verify(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>> {
        let world = Rc::clone(&self.0);
        Box::pin(async move {
            pause(3_000).await;
            let answers = world.answer(&ask);
            pause(5_000).await;
            answers
        })
    }
}

async fn pause(micros_max: u64) {
    reactor::sleep(Duration::from_micros(reactor::random_u64() % micros_max)).await;
}

impl World {
    fn answer(&self, ask: &VerifyPartitions) -> Vec<ErrorCode> {
        let mut producers = self.producers.borrow_mut();
        let txn = producers.get_mut(&ask.producer_id.0).expect("who asks has begun");
        let mut answer = |partition: &PartitionId| {
            if reactor::random_u64().is_multiple_of(12) {
                return ErrorCode::CoordinatorLoadInProgress;
            }
            if ask.producer_epoch.0 < txn.epoch {
                return ErrorCode::ProducerFenced;
            }
            if !txn.is_open {
                return if txn.ending.is_some() {
                    ErrorCode::ConcurrentTransactions
                } else {
                    ErrorCode::InvalidTxnState
                };
            }
            if ask.mode == VerifyMode::Add {
                txn.partitions.insert(partition.index);
            }
            let is_part = txn.partitions.contains(&partition.index);
            if is_part { ErrorCode::None } else { ErrorCode::TransactionAbortable }
        };
        ask.partitions.iter().map(&mut answer).collect()
    }

    fn begin(&self, producer: i64, noise: &mut Noise) -> Txn {
        let mut producers = self.producers.borrow_mut();
        let txn = producers.get_mut(&producer).expect("every producer is known");
        assert!(!txn.is_open && txn.ending.is_none());
        (txn.is_open, txn.number) = (true, txn.number + 1);
        txn.partitions.clear();
        if txn.version < 2 {
            txn.partitions.extend((0..PARTITIONS).filter(|_| noise.one_in(2)));
        }
        txn.clone()
    }

    /// Decides how the producer's transaction ends; where that has to be written, and what.
    fn decide(&self, producer: i64, end: EndTxn, fences: bool) {
        let mut producers = self.producers.borrow_mut();
        let txn = producers.get_mut(&producer).expect("every producer is known");
        let raises = fences || txn.version >= 2;
        let epoch = txn.epoch + i16::from(raises);
        (txn.is_open, txn.ending) = (false, Some((end, epoch)));
        if raises {
            txn.epoch = epoch;
            txn.sequences.clear();
        }
    }

    /// Writes the markers until all are there.
    async fn write_markers(self: Rc<Self>, shard: Rc<Shard>, producer: i64) {
        let txn = self.producers.borrow()[&producer].clone();
        let Some((end, epoch)) = txn.ending else { return };
        let mut left: Vec<i32> = txn.partitions.iter().copied().collect();
        while !left.is_empty() {
            pause(4_000).await;
            let marker = |&index: &i32| MarkerPartition {
                partition: partition(index),
                producer_id: ProducerId(producer),
                producer_epoch: ProducerEpoch(epoch),
                coordinator_epoch: txn.number,
                end,
                transaction_version: txn.version,
            };
            let outcomes = shard.write_markers(left.iter().map(marker).collect()).await;
            for (index, outcome) in left.iter().zip(&outcomes) {
                assert_eq!(*outcome, ErrorCode::None, "{producer} {txn:?}");
                self.ended.borrow_mut().insert((*index, producer, txn.number));
            }
            // some are sent again
            left.retain(|_| reactor::random_u64().is_multiple_of(5));
        }
        self.producers.borrow_mut().get_mut(&producer).expect("it is known").ending = None;
    }
}

/// A producer's life: transactions one behind the other, some of which it leaves to their fate.
async fn produce(world: Rc<World>, shard: Rc<Shard>, producer: i64) {
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..TRANSACTIONS_PER_LIFE {
        let txn = world.begin(producer, &mut noise);
        let mut sent: Vec<Task<bool>> = Vec::new();
        for _ in 0..1 + noise.below(8) {
            let index = match txn.version {
                // now and then to a partition that is no part of it
                ..2 if !noise.one_in(20) && !txn.partitions.is_empty() => {
                    let at = noise.below(txn.partitions.len() as u64) as usize;
                    *txn.partitions.iter().nth(at).expect("it has so many")
                }
                _ => noise.below(PARTITIONS as u64) as i32,
            };
            sent.push(send(&world, &shard, producer, index, &mut noise).await);
            if noise.one_in(3) {
                pause(3_000).await;
            }
        }
        if noise.one_in(4) {
            // what is under way may come late
            world.decide(producer, EndTxn::Abort, true);
            Rc::clone(&world).write_markers(Rc::clone(&shard), producer).await;
            sent.into_iter().for_each(drop);
            continue;
        }
        let mut all_is_well = true;
        for sent in sent {
            all_is_well &= sent.await;
        }
        let end = if all_is_well && !noise.one_in(3) { EndTxn::Commit } else { EndTxn::Abort };
        world.decide(producer, end, !all_is_well);
        Rc::clone(&world).write_markers(Rc::clone(&shard), producer).await;
    }
}

/// Sends a batch; whether it was acknowledged.
async fn send(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    producer: i64,
    index: i32,
    noise: &mut Noise,
) -> Task<bool> {
    let (epoch, number, sequence, support) = {
        let mut producers = world.producers.borrow_mut();
        let txn = producers.get_mut(&producer).expect("every producer is known");
        let next = txn.sequences.entry(index).or_default();
        let support = if txn.version >= 2 { TransactionSupport::Adds } else { TransactionSupport::Abortable };
        let sequence = *next;
        *next += 1;
        (txn.epoch, txn.number, sequence, support)
    };
    let spec = Spec {
        records: 1,
        value_bytes: noise.below(200) as usize,
        seed: noise.next(),
        base_timestamp: i64::from(number),
        producer: Some((producer, epoch, sequence)),
        ..Spec::default()
    };
    let (batch, header) = transactional(batch_of(&spec));
    let batches = vec![AppendPartition { partition: partition(index), batch, header }];
    let transaction = Some(Transaction { transactional_id: Arc::from(producer.to_string()), support });
    let (_, appended) = shard.append_in(transaction, Acks::All, 30_000, batches).await;
    let world = Rc::clone(world);
    // a task that is dropped goes on
    reactor::spawn(async move {
        let outcome = appended.await[0];
        if outcome.error.is_none() {
            world.acknowledged.borrow_mut().push((index, outcome.base_offset, producer, number));
        }
        outcome.error.is_none()
    })
}

/// What a log's batches say.
#[derive(Default)]
struct Model {
    decided: Decided,
    end: i64,
    /// (base offset, producer, transaction)
    data: BTreeSet<(i64, i64, i32)>,
    /// (producer, transaction)
    markers: BTreeSet<(i64, i32)>,
}

impl Model {
    fn read(bytes: &[Bytes]) -> Model {
        let mut model = Model::default();
        // of each producer: the last transaction that has ended, and the last sequence with its epoch
        let mut ended: BTreeMap<i64, i32> = BTreeMap::new();
        let mut sequences: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
        for batch in bytes.iter().flat_map(|part| Batches::new(part)) {
            let (header, batch) = batch.expect("what was read is whole");
            let (base, id) = (header.base_offset.0, header.producer_id.0);
            assert_eq!(base, model.end, "offsets are dense");
            model.end = header.next_offset().0;
            if header.is_control() {
                let marker = end_marker(&header, &batch[HEADER_BYTES..]).expect("only markers are written");
                let number = marker.coordinator_epoch;
                model.markers.insert((id, number));
                ended.insert(id, number);
                model.decided.marker(id, marker.end, header.base_offset);
                continue;
            }
            let number = header.base_timestamp.0 as i32;
            let is_late = ended.get(&id).is_some_and(|last| *last >= number);
            assert!(!is_late, "a batch of transaction {number} of {id} at {base} is behind its marker");
            let (epoch, sequence) = (header.producer_epoch.0, header.base_sequence);
            let before = sequences.insert(id, (epoch, sequence)).filter(|(before, _)| *before == epoch);
            assert!(
                before.is_none_or(|(_, last)| sequence == last + 1),
                "{id}: {sequence} behind {before:?}"
            );
            model.decided.data(id, header.base_offset);
            model.data.insert((base, id, number));
        }
        model
    }

    fn stable(&self) -> i64 {
        self.decided.first_undecided().map_or(self.end, |first| first.0)
    }
}

async fn read_all(shard: &Rc<Shard>, index: i32) -> Vec<Bytes> {
    let (mut parts, mut next) = (Vec::new(), 0);
    loop {
        let outcome = shard.fetch(fetch(vec![read(index, next)], 1, 0)).await.outcomes.swap_remove(0);
        assert_eq!(outcome.error, ErrorCode::None);
        if outcome.records_bytes == 0 {
            return parts;
        }
        next = end_of(&outcome.records).expect("there are records");
        parts.extend(outcome.records);
    }
}

fn end_of(records: &[Bytes]) -> Option<i64> {
    let last = records.last()?;
    Batches::new(last).map(|batch| batch.expect("it is whole").0.next_offset().0).last()
}

/// Nothing is being written: the broker's answers are those of the model.
async fn check(world: &World, shard: &Rc<Shard>, index: i32) {
    let model = Model::read(&read_all(shard, index).await);
    for (_, base, id, number) in world.acknowledged.borrow().iter().filter(|one| one.0 == index) {
        assert!(model.data.contains(&(base.0, *id, *number)), "{base} of {index} was acknowledged");
    }
    for (_, id, number) in world.ended.borrow().iter().filter(|one| one.0 == index) {
        // of a transaction that has written nothing, an earlier marker may say it all
        let has_data = model.data.iter().any(|data| (data.1, data.2) == (*id, *number));
        assert!(
            !has_data || model.markers.contains(&(*id, *number)),
            "{number} of {id} has ended in {index}"
        );
    }
    let told = world.told.borrow().get(&index).copied().unwrap_or_default();
    assert!(model.stable() >= told.0, "{told} was told, it is {}", model.stable());
    let mut open = BTreeMap::new();
    for producer in shard.describe_producers(vec![partition(index)]).await.swap_remove(0).unwrap() {
        if producer.txn_start_offset != Offset::NONE {
            open.insert(producer.id.0, producer.txn_start_offset.0);
        }
    }
    assert_eq!(open, model.decided.open, "open transactions of {index}");
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..30 {
        let from = noise.below(model.end as u64 + 1) as i64;
        let part = ReadPartition { max_bytes: 1 + noise.below(5_000) as usize, ..read(index, from) };
        let request = FetchRequest { isolation: Isolation::ReadCommitted, ..fetch(vec![part], 1, 0) };
        let outcome = shard.fetch(request).await.outcomes.swap_remove(0);
        assert_eq!(outcome.error, ErrorCode::None);
        assert_eq!((outcome.high_watermark.0, outcome.last_stable_offset.0), (model.end, model.stable()));
        let next = end_of(&outcome.records).unwrap_or(from);
        assert!(next <= model.stable().max(from), "read {from} to {next}, stable to {}", model.stable());
        let expect =
            if next > from { model.decided.overlapping(Offset(from)..Offset(next)) } else { Vec::new() };
        assert_eq!(outcome.aborted, Some(expect), "partition {index}, {from} to {next}");
    }
}

/// Looks at last stable offsets while transactions come and go.
async fn watch(world: Rc<World>, shard: Rc<Shard>) {
    loop {
        pause(4_000).await;
        let reads = (0..PARTITIONS).map(|index| read(index, 0)).collect();
        let request = FetchRequest { isolation: Isolation::ReadCommitted, ..fetch(reads, 1, 0) };
        let outcomes = shard.fetch(request).await.outcomes;
        for (index, outcome) in (0..).zip(&outcomes) {
            assert!(outcome.last_stable_offset <= outcome.high_watermark);
            let before = world.told.borrow_mut().insert(index, outcome.last_stable_offset);
            assert!(before.is_none_or(|before| before <= outcome.last_stable_offset), "it went back");
        }
    }
}

async fn live(world: Rc<World>, shard: Rc<Shard>, crash: Option<(CrashKind, u64)>) {
    // small segments: transactions reach over several
    for shard in world.shards.borrow().iter() {
        for partition in shard.partitions.borrow().values() {
            let log = partition.log.as_ref().expect("it is open");
            log.set_config(LogConfig { segment_bytes: 3_000, index_interval_bytes: 500, ..log_config() });
        }
    }
    for index in 0..PARTITIONS {
        check(&world, &shard, index).await;
    }
    let producers: Vec<i64> = world.producers.borrow().keys().copied().collect();
    // what the last life has left: decided or not, it ends
    for &producer in &producers {
        let is_open = world.producers.borrow()[&producer].is_open;
        if is_open {
            world.decide(producer, EndTxn::Abort, true);
        }
    }
    if let Some((kind, micros)) = crash {
        reactor::spawn(async move {
            reactor::sleep(Duration::from_micros(micros)).await;
            sim::crash(kind).await
        });
    }
    let _watch = reactor::spawn(watch(Rc::clone(&world), Rc::clone(&shard)));
    let working: Vec<_> = (producers.into_iter())
        .map(|producer| {
            let (world, shard) = (Rc::clone(&world), Rc::clone(&shard));
            reactor::spawn(async move {
                Rc::clone(&world).write_markers(Rc::clone(&shard), producer).await;
                produce(world, shard, producer).await;
            })
        })
        .collect();
    for work in working {
        work.await;
    }
    // what was left to its fate is answered by then
    reactor::sleep(Duration::from_millis(500)).await;
    for index in 0..PARTITIONS {
        check(&world, &shard, index).await;
        let model = Model::read(&read_all(&shard, index).await);
        assert_eq!(model.stable(), model.end, "all transactions have ended");
    }
}

#[test]
fn transactions_survive_crashes() {
    sim::check_seeds(25, |seed| {
        let disk = Disk::new();
        disk.create_dir_all("/data").unwrap();
        let world = Rc::new(World::default());
        let mut noise = Noise(seed);
        for (producer, version) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            let txn = Txn {
                epoch: 0,
                number: 0,
                version,
                is_open: false,
                partitions: BTreeSet::new(),
                ending: None,
                sequences: BTreeMap::new(),
            };
            world.producers.borrow_mut().insert(producer, txn);
        }
        let mut traces = Vec::new();
        for life in 0..LIVES {
            let kind = if noise.one_in(2) { CrashKind::PowerCut } else { CrashKind::Kill };
            let crash = (life + 1 < LIVES).then(|| (kind, 1_000 + noise.below(150_000)));
            world.shards.borrow_mut().clear();
            let known = Rc::clone(&world);
            let prepare = move |shard: &Rc<Shard>| {
                shard.set_verifier(Box::new(Coordinator(Rc::clone(&known))));
                known.shards.borrow_mut().push(Rc::clone(shard));
            };
            let lives = Rc::clone(&world);
            let outcome = with_verifiers(&disk, noise.next(), prepare, async move |shard: Rc<Shard>| {
                live(Rc::clone(&lives), shard, crash).await;
            });
            traces.push(outcome.trace);
            outcome.done_or_crashed();
        }
        world.shards.borrow_mut().clear();
        traces
    });
}
