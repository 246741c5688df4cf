//! Transactions in one log that rolls, is cut, moves between log directories, loses its beginning, stops and crashes: what
//! it says of open and aborted transactions is always what its batches say.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::log::producer_state::{EndTxn, NewMarker};
use crate::model::{
    DirectoryId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs, TopicId,
};
use crate::reactor::sim::{self, CrashKind, Disk, Simulation, check_seeds};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext, fs};
use crate::storage::testing::{
    Decided, Noise, Spec, batch, config, forget_aborts, log_config, transactional,
};
use crate::storage::{Assigned, Create, Inventory, Listener, Log, LogConfig, LogDir, OpenLog, Storage};

const DIRECTORIES: [DirectoryId; 2] = [DirectoryId(100), DirectoryId(101)];
const PARTITION: PartitionId = PartitionId { topic: TopicId(7), index: 0 };
const EPOCH: LeaderEpoch = LeaderEpoch(3);
const NOW: TimestampMs = TimestampMs(1_000);
const PRODUCERS: u64 = 4;
const LIVES: u64 = 5;
/// What the metadata says, as one durable step.
const METADATA: &str = "/metadata/directory";

/// What was appended, one record each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Plain,
    Data(i64),
    Marker(i64, EndTxn),
}

/// What survives the lives.
#[derive(Default)]
struct World {
    /// By offset.
    batches: RefCell<Vec<Batch>>,
    durable: Cell<Offset>,
    created: Cell<bool>,
    heard: Notify,
}

struct Ears(Rc<World>);

impl Listener for Ears {
    fn durable(&self, _: PartitionId, end: Offset) {
        self.0.durable.set(end);
        self.0.heard.notify();
    }

    fn assign(&self, _: PartitionId, directory: DirectoryId) -> Pin<Box<dyn Future<Output = Assigned>>> {
        Box::pin(async move {
            let text = directory.0.to_string().into_bytes();
            fs::write_durable(Path::new(METADATA), text).await.expect("the disk is sound");
            Assigned::Yes
        })
    }

    fn failed(&self, _: DirectoryId) {
        panic!("the disk is sound");
    }

    fn high_watermark(&self, _: PartitionId) -> Offset {
        self.0.durable.get()
    }

    fn last_stable_offset(&self, _: PartitionId) -> Offset {
        self.0.durable.get()
    }
}

struct Metadata(DirectoryId);

impl Inventory for Metadata {
    fn directory_of(&self, _: &str, _: i32) -> Option<DirectoryId> {
        Some(self.0)
    }

    fn name(&self, topic: TopicId) -> Option<String> {
        (topic == PARTITION.topic).then(|| "t".to_owned())
    }

    fn is_deleted(&self, _: TopicId) -> bool {
        false
    }
}

async fn recorded() -> DirectoryId {
    match fs::read(Path::new(METADATA)).await {
        Ok(text) => DirectoryId(String::from_utf8(text).unwrap().parse().unwrap()),
        Err(_) => DIRECTORIES[0],
    }
}

impl World {
    fn decided(&self) -> Decided {
        let mut decided = Decided::default();
        for (at, batch) in (0..).zip(&*self.batches.borrow()) {
            match *batch {
                Batch::Plain => {}
                Batch::Data(producer) => decided.data(producer, Offset(at)),
                Batch::Marker(producer, end) => decided.marker(producer, end, Offset(at)),
            }
        }
        decided
    }

    fn end(&self) -> Offset {
        Offset(self.batches.borrow().len() as i64)
    }

    fn append(&self, log: &Log, noise: &mut Noise) {
        let producer = 10 + noise.below(PRODUCERS) as i64;
        let spec = Spec {
            records: 1,
            value_bytes: noise.below(300) as usize,
            seed: noise.next(),
            ..Spec::default()
        };
        let (bytes, header, appended) = match noise.below(4) {
            0 => {
                let (bytes, header) = batch(&spec);
                (bytes, header, Batch::Plain)
            }
            _ => {
                let batches = self.batches.borrow();
                let sequence = batches.iter().filter(|batch| **batch == Batch::Data(producer)).count() as i32;
                let (bytes, header) =
                    transactional(batch(&Spec { producer: Some((producer, 0, sequence)), ..spec }));
                (bytes, header, Batch::Data(producer))
            }
        };
        let placed = log.append(bytes, &header, EPOCH, NOW).expect("it is appended");
        assert_eq!((placed.base_offset, placed.duplicate), (self.end(), false));
        self.batches.borrow_mut().push(appended);
    }

    fn end_transaction(&self, log: &Log, noise: &mut Noise) {
        let producer = 10 + noise.below(PRODUCERS) as i64;
        let end = if noise.one_in(3) { EndTxn::Commit } else { EndTxn::Abort };
        let marker = NewMarker {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: 0,
            end,
            transaction_version: 1,
        };
        let open = self.decided().open.get(&producer).copied();
        let (placed, ended) = log.append_marker(&marker, EPOCH, NOW).expect("it is appended");
        assert_eq!(ended.map(|ended| ended.first_offset.0), open);
        assert!(!placed.duplicate || open.is_none(), "only a repeat changes nothing");
        if !placed.duplicate {
            assert_eq!(placed.base_offset, self.end());
            self.batches.borrow_mut().push(Batch::Marker(producer, end));
        }
    }

    /// What the log says is what the batches say.
    async fn check(&self, log: &Log, noise: &mut Noise) {
        let decided = self.decided();
        assert_eq!(log.first_undecided(), decided.first_undecided());
        if noise.one_in(3) {
            forget_aborts(log);
        }
        for _ in 0..6 {
            let (start, end) = (log.start_offset(), log.end_offset());
            if end.0 <= start.0 {
                return;
            }
            let from = start.plus(noise.below((end.0 - start.0) as u64) as i64);
            let to = from.plus(1 + noise.below((end.0 - from.0) as u64) as i64);
            let before = (log.edition(), self.end());
            let found = match log.aborted_cached(from..to) {
                Some(found) => found,
                None => log.aborted(from..to).await.expect("the disk is sound"),
            };
            // what was taken out meanwhile, and what came, is for the next look
            if before == (log.edition(), self.end()) && from >= log.start_offset() {
                assert_eq!(found, decided.overlapping(from..to), "{from} to {to}");
            }
        }
    }

    async fn until_durable(&self) {
        while self.durable.get() < self.end() {
            self.heard.notified().await;
        }
    }
}

async fn open(world: &Rc<World>, clean: bool) -> (Rc<Storage>, Log) {
    let directories = DIRECTORIES.map(|id| LogDir::new(id, root(id), clean)).to_vec();
    let storage = Storage::start(config(), directories, Rc::new(Ears(Rc::clone(world))));
    storage.boot_begins();
    storage.replay_journals().await.expect("the journals are replayed");
    let directory = recorded().await;
    storage.finish_relocations(&Metadata(directory)).await;
    storage.set_strays_aside(&Metadata(directory)).await;
    let log = storage
        .open(OpenLog {
            partition: PARTITION,
            topic_name: "t".into(),
            directory,
            config: LogConfig { segment_bytes: 3_000, index_interval_bytes: 500, ..log_config() },
            create: if world.created.replace(true) { Create::Never } else { Create::IfMissing },
        })
        .await
        .expect("the log opens where the metadata says that it is");
    storage.boot_is_done().await;
    (storage, log)
}

fn root(directory: DirectoryId) -> PathBuf {
    PathBuf::from(format!("/{}", directory.0))
}

/// One life, which ends in a crash or a clean stop.
async fn live(world: Rc<World>, clean: bool, ends: Option<CrashKind>) {
    let (storage, log) = open(&world, clean).await;
    let mut noise = Noise(reactor::random_u64());
    let end = log.end_offset();
    assert!(end >= world.durable.get() && end <= world.end(), "{end}, {} was durable", world.durable.get());
    world.batches.borrow_mut().truncate(end.0 as usize);
    world.durable.set(end);
    world.check(&log, &mut noise).await;
    for _ in 0..40 + noise.below(80) {
        match noise.below(40) {
            0..22 => world.append(&log, &mut noise),
            22..32 => world.end_transaction(&log, &mut noise),
            32 => reactor::sleep(Duration::from_micros(noise.below(3_000))).await,
            33 => world.until_durable().await,
            34 => {
                let durable = (log.durable_end().0 - log.start_offset().0) as u64;
                let to = log.start_offset().plus(noise.below(durable / 3 + 1) as i64);
                log.delete_records(to).await.expect("the disk is sound");
            }
            35 => {
                let to = DIRECTORIES[noise.below(2) as usize];
                storage.relocate(&log, to).await.expect("there is room");
            }
            36 if noise.one_in(2) => {
                let most = (log.end_offset().0 - log.start_offset().0 - 2).clamp(0, 15) as u64;
                let to = Offset(log.end_offset().0 - noise.below(most + 1) as i64);
                assert_eq!(log.truncate_to(to).await, Ok(to));
                world.batches.borrow_mut().truncate(to.0 as usize);
                world.durable.set(to);
            }
            _ => world.check(&log, &mut noise).await,
        }
    }
    if let Some(kind) = ends {
        sim::crash(kind).await;
    }
    world.until_durable().await;
    while storage.future(PARTITION).is_some() {
        reactor::sleep(Duration::from_millis(1)).await;
    }
    world.check(&log, &mut noise).await;
    storage.stop().await.expect("a clean stop");
}

#[test]
fn transactions_are_what_the_batches_say() {
    super::show_log_of_one_seed();
    check_seeds(60, |seed| {
        let disk = Disk::new();
        for directory in DIRECTORIES {
            disk.create_dir_all(root(directory)).unwrap();
        }
        disk.create_dir_all("/metadata").unwrap();
        let world = Rc::new(World::default());
        let mut noise = Noise(seed);
        let mut clean = false;
        let mut traces = Vec::new();
        for _ in 0..LIVES {
            let ends = match noise.below(3) {
                0 => None,
                1 => Some(CrashKind::Kill),
                _ => Some(CrashKind::PowerCut),
            };
            let lived = Rc::clone(&world);
            let outcome = Simulation::new(noise.next())
                .disk(&disk)
                .run(move |_: ShardContext<()>| live(Rc::clone(&lived), clean, ends));
            traces.push(outcome.trace);
            clean = outcome.done_or_crashed().is_some();
        }
        traces
    });
}
