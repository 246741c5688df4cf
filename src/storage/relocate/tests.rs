//! Moves on the virtual disk: what a log is after one, and crashes at any moment of many.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::log::files::Folder;
use crate::model::{LeaderEpoch, TimestampMs, TopicId};
use crate::reactor::ShardContext;
use crate::reactor::sim::{Disk, Faults, Simulation, When, check_seeds};
use crate::storage::testing::{Noise, Spec, batch, config, log_config, stored};
use crate::storage::{
    Assigned, Config, Create, Inventory, Listener, LiveConfig, LogConfig, LogDir, OpenLog, Storage,
};

const DIRECTORIES: [DirectoryId; 3] = [DirectoryId(100), DirectoryId(101), DirectoryId(102)];
const PARTITION: PartitionId = PartitionId { topic: TopicId(7), index: 0 };
const TOPIC: &str = "t";
/// What the metadata says, as one durable step.
const METADATA: &str = "/metadata/directory";
const PRODUCERS: [i64; 2] = [10, 11];

fn root(directory: DirectoryId) -> PathBuf {
    PathBuf::from(format!("/{}", directory.0))
}

fn disk() -> Disk {
    let disk = Disk::new();
    for directory in DIRECTORIES {
        disk.create_dir_all(root(directory)).unwrap();
    }
    disk.create_dir_all("/metadata").unwrap();
    disk
}

/// What survives the lives: what was appended, and up to where that is durable.
#[derive(Default)]
struct World {
    batches: RefCell<Vec<Batch>>,
    durable: Cell<Offset>,
    /// The highest log start that anybody was told.
    start: Cell<Offset>,
    deleted: Cell<bool>,
    /// The controller does not answer.
    refuses: Cell<bool>,
    moves: Cell<u64>,
    failed: Cell<bool>,
    heard: Notify,
}

struct Batch {
    base: Offset,
    end: Offset,
    stored: Vec<u8>,
    spec: Spec,
}

impl World {
    fn end(&self) -> Offset {
        self.batches.borrow().last().map_or(Offset::ZERO, |last| last.end)
    }

    /// Appends a batch of one of the producers, or of nobody.
    fn append(&self, log: &Log, noise: &mut Noise, epoch: i32, bytes_max: u64) -> Result<(), Error> {
        let id = noise.below(PRODUCERS.len() as u64 + 1) as usize;
        let sequence = |id: i64| {
            let batches = self.batches.borrow();
            let of_producer =
                batches.iter().filter(|batch| batch.spec.producer.is_some_and(|(of, ..)| of == id));
            of_producer.map(|batch| batch.spec.records).sum::<i32>()
        };
        let spec = Spec {
            records: 1 + noise.below(5) as i32,
            value_bytes: noise.below(bytes_max) as usize,
            seed: noise.next(),
            producer: PRODUCERS.get(id).map(|&id| (id, 0, sequence(id))),
            ..Spec::default()
        };
        let (bytes, header) = batch(&spec);
        let appended = log.append(bytes.clone(), &header, LeaderEpoch(epoch), TimestampMs(1_000))?;
        if self.failed.get() {
            // What had queued in a directory that failed was refused, and the log may go on in the one it was moved to.
            assert!(
                appended.base_offset >= self.durable.get(),
                "what was durable is given its offsets again"
            );
            self.batches.borrow_mut().retain(|batch| batch.end <= appended.base_offset);
        }
        assert_eq!((appended.base_offset, appended.duplicate), (self.end(), false));
        let stored = stored(&bytes, appended.base_offset, LeaderEpoch(epoch));
        let (base, end) = (appended.base_offset, appended.end_offset);
        self.batches.borrow_mut().push(Batch { base, end, stored, spec });
        Ok(())
    }

    async fn until_durable(&self) {
        while self.durable.get() < self.end() && !self.failed.get() {
            self.heard.notified().await;
        }
    }

    /// Everything from the log's start to its durable end is there, byte for byte.
    async fn readable(&self, log: &Log, max_bytes: usize) {
        let (mut at, end) = (log.start_offset(), log.durable_end());
        while at < end {
            let slices = match log.read(at, end, max_bytes, true).await {
                Err(Error::OutOfRange) if log.start_offset() > at => {
                    at = log.start_offset();
                    continue;
                }
                slices => slices.unwrap_or_else(|error| panic!("cannot read {at} of {end}: {error:?}")),
            };
            let found = slices.parts.concat();
            let batches = self.batches.borrow();
            let first = batches.partition_point(|batch| batch.end <= at);
            let last = batches.partition_point(|batch| batch.end <= slices.next);
            let wanted: Vec<&[u8]> = batches[first..last].iter().map(|batch| &batch.stored[..]).collect();
            assert!(found == wanted.concat(), "what is read at {at} up to {} is something else", slices.next);
            assert!(slices.next > at, "a read of what is there goes on");
            at = slices.next;
        }
    }

    /// The log after a start: what was durable is there, in order, nothing else is; the producers are known.
    async fn check(&self, log: &Log) {
        let end = log.end_offset();
        assert!(end >= self.durable.get(), "durable up to {}, found up to {end}", self.durable.get());
        self.batches.borrow_mut().retain(|batch| batch.end <= end);
        assert_eq!((self.end().max(log.start_offset()), log.durable_end()), (end, end));
        assert!(log.start_offset() >= self.start.get(), "a log start goes back");
        self.durable.set(end);
        self.readable(log, 20_000).await;
        for id in PRODUCERS {
            let last = {
                let batches = self.batches.borrow();
                let last = batches.iter().rfind(|batch| batch.spec.producer.is_some_and(|(of, ..)| of == id));
                last.map(|last| (last.base, last.spec))
            };
            let Some((base, spec)) = last else { continue };
            let (bytes, header) = batch(&spec);
            let again = log.append(bytes, &header, LeaderEpoch(99), TimestampMs(1_000));
            let again = again.unwrap_or_else(|error| panic!("the batch at {base} again: {error:?}"));
            assert!(
                again.duplicate && again.base_offset == base,
                "{again:?} is appended again, was at {base}"
            );
        }
    }
}

/// A shard's ear to the world.
struct Ears(Rc<World>);

impl Listener for Ears {
    fn durable(&self, _: PartitionId, end: Offset) {
        assert!(end > self.0.durable.get() && end <= self.0.end(), "durable ends only grow");
        self.0.durable.set(end);
        self.0.heard.notify();
    }

    fn assign(&self, _: PartitionId, directory: DirectoryId) -> Pin<Box<dyn Future<Output = Assigned>>> {
        let world = Rc::clone(&self.0);
        Box::pin(async move {
            reactor::sleep(Duration::from_micros(reactor::random_u64() % 3_000)).await;
            if world.refuses.get() || world.deleted.get() {
                return Assigned::No;
            }
            let text = directory.0.to_string().into_bytes();
            // an error leaves the old or the new one, and the next try decides
            while fs::write_durable(Path::new(METADATA), text.clone()).await.is_err() {}
            world.moves.set(world.moves.get() + 1);
            Assigned::Yes
        })
    }

    fn failed(&self, _: DirectoryId) {
        self.0.failed.set(true);
        self.0.heard.notify();
    }

    fn high_watermark(&self, _: PartitionId) -> Offset {
        self.0.durable.get()
    }

    fn last_stable_offset(&self, _: PartitionId) -> Offset {
        self.0.durable.get()
    }
}

async fn recorded() -> DirectoryId {
    match fs::read(Path::new(METADATA)).await {
        Ok(text) => DirectoryId(String::from_utf8(text).unwrap().parse().unwrap()),
        Err(_) => DIRECTORIES[0],
    }
}

struct Metadata(DirectoryId);

impl Inventory for Metadata {
    fn directory_of(&self, topic: &str, partition: i32) -> Option<DirectoryId> {
        (topic == TOPIC && partition == PARTITION.index).then_some(self.0)
    }

    fn name(&self, topic: TopicId) -> Option<String> {
        (topic == PARTITION.topic).then(|| TOPIC.to_owned())
    }

    fn is_deleted(&self, _: TopicId) -> bool {
        false
    }
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 20_000, index_interval_bytes: 500, ..log_config() }
}

/// A shard that has started, and the moves that it has found.
struct Node {
    storage: Rc<Storage>,
    log: Log,
    found: Vec<(PartitionId, DirectoryId)>,
}

impl Node {
    async fn start(world: &Rc<World>, config: Config, log: LogConfig, clean: bool) -> Node {
        let directories = DIRECTORIES.map(|id| LogDir::new(id, root(id), clean)).to_vec();
        let storage = Storage::start(config, directories, Rc::new(Ears(Rc::clone(world))));
        storage.boot_begins();
        storage.replay_journals().await.expect("the journals are replayed");
        let directory = recorded().await;
        let found = storage.finish_relocations(&Metadata(directory)).await;
        storage.set_strays_aside(&Metadata(directory)).await;
        let create = if world.batches.borrow().is_empty() { Create::IfMissing } else { Create::Never };
        let what = OpenLog { partition: PARTITION, topic_name: TOPIC.into(), directory, config: log, create };
        let log = storage.open(what).await.expect("the log opens where the metadata says that it is");
        storage.boot_is_done().await;
        Node { storage, log, found }
    }

    async fn relocate(&self, to: DirectoryId) -> Result<(), Error> {
        self.storage.relocate(&self.log, to).await
    }

    /// Until no move is asked for any more.
    async fn moved(&self) {
        while self.storage.future(PARTITION).is_some() {
            reactor::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Folders of the log by directory, those that are being removed left out.
async fn folders() -> Vec<(DirectoryId, FolderState)> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for entry in fs::list(&root(directory)).await.unwrap() {
            match parse_folder(&entry.name) {
                Some(Folder { state: FolderState::Delete, .. }) | None => {}
                Some(folder) => found.push((directory, folder.state)),
            }
        }
    }
    found
}

async fn alone_in(directory: DirectoryId) {
    assert_eq!(folders().await, [(directory, FolderState::Live)], "one folder counts");
}

fn on_a_shard<Fut: Future<Output = ()> + 'static>(disk: &Disk, body: impl Fn() -> Fut) {
    Simulation::new(1).disk(disk).run(|_: ShardContext<()>| body()).done();
}

async fn fill(world: &World, log: &Log, noise: &mut Noise, batches: u64) {
    for _ in 0..batches {
        world.append(log, noise, 1, 2_000).unwrap();
    }
    world.until_durable().await;
}

fn halted() -> Config {
    let live = LiveConfig { relocation_bytes_per_second: 0, ..config().live };
    Config { live, ..config() }
}

#[test]
fn a_log_moves_with_all_that_belongs_to_it() {
    let disk = disk();
    let world = Rc::new(World::default());
    on_a_shard(&disk, || {
        let world = Rc::clone(&world);
        async move {
            let mut noise = Noise(1);
            let node = Node::start(&world, config(), small_segments(), false).await;
            fill(&world, &node.log, &mut noise, 100).await;
            let start = node.log.delete_records(Offset(40)).await.unwrap();
            world.start.set(start);
            // appends go on, and readers that have begun before
            let (other, writer) = (node.log.clone(), Rc::clone(&world));
            let writing = reactor::spawn(async move {
                for _ in 0..200 {
                    writer.append(&other, &mut noise, 1, 2_000).unwrap();
                    reactor::sleep(Duration::from_micros(50)).await;
                }
            });
            for to in [1, 2, 0, 1] {
                let size = node.log.size_bytes();
                node.relocate(DIRECTORIES[to]).await.unwrap();
                node.relocate(DIRECTORIES[to]).await.expect("it is on its way there already");
                let future = node.storage.future(PARTITION).expect("it takes its time");
                assert_eq!(future.directory, DIRECTORIES[to]);
                assert!(future.size_bytes <= size && future.end_offset <= node.log.end_offset());
                world.readable(&node.log, 5_000).await;
                node.moved().await;
                assert_eq!(node.log.directory(), DIRECTORIES[to]);
                alone_in(DIRECTORIES[to]).await;
                world.readable(&node.log, 5_000).await;
            }
            writing.await;
            world.until_durable().await;
            assert_eq!((node.log.end_offset(), node.log.start_offset()), (world.end(), start));
            world.check(&node.log).await;
            // in the directory it is in it stays
            node.relocate(DIRECTORIES[1]).await.unwrap();
            assert_eq!(node.storage.future(PARTITION), None);
            node.storage.stop().await.unwrap();
        }
    });
    // as a clean stop leaves it
    on_a_shard(&disk, || {
        let world = Rc::clone(&world);
        async move {
            let node = Node::start(&world, config(), small_segments(), true).await;
            assert_eq!((node.log.directory(), node.log.start_offset()), (DIRECTORIES[1], world.start.get()));
            assert!(!node.log.state().borrow().touched, "nothing had to be recovered");
            world.check(&node.log).await;
            alone_in(DIRECTORIES[1]).await;
            node.storage.stop().await.unwrap();
        }
    });
}

#[test]
fn a_move_is_called_off_and_goes_elsewhere() {
    let disk = disk();
    let world = Rc::new(World::default());
    on_a_shard(&disk, || {
        let world = Rc::clone(&world);
        async move {
            let mut noise = Noise(2);
            let node = Node::start(&world, halted(), small_segments(), false).await;
            fill(&world, &node.log, &mut noise, 100).await;
            node.relocate(DIRECTORIES[1]).await.unwrap();
            reactor::sleep(Duration::from_secs(60)).await;
            assert_eq!(
                node.storage.future(PARTITION).map(|future| future.size_bytes),
                Some(0),
                "it is halted"
            );
            assert_eq!(
                folders().await,
                [(DIRECTORIES[0], FolderState::Live), (DIRECTORIES[1], FolderState::Future)]
            );
            node.relocate(DIRECTORIES[2]).await.unwrap();
            assert_eq!(node.storage.future(PARTITION).unwrap().directory, DIRECTORIES[2]);
            assert_eq!(
                folders().await,
                [(DIRECTORIES[0], FolderState::Live), (DIRECTORIES[2], FolderState::Future)]
            );
            node.relocate(DIRECTORIES[0]).await.unwrap();
            assert_eq!(node.storage.future(PARTITION), None);
            alone_in(DIRECTORIES[0]).await;
            assert_eq!(node.relocate(DirectoryId(9)).await, Err(Error::Offline));
            node.relocate(DIRECTORIES[1]).await.unwrap();
            fill(&world, &node.log, &mut noise, 10).await;
            // a stop does not wait for it
            node.storage.stop().await.unwrap();
        }
    });
    on_a_shard(&disk, || {
        let world = Rc::clone(&world);
        async move {
            let node = Node::start(&world, config(), small_segments(), true).await;
            assert_eq!(node.found, [(PARTITION, DIRECTORIES[1])], "the move is still wanted");
            assert_eq!(node.log.directory(), DIRECTORIES[0]);
            node.relocate(DIRECTORIES[1]).await.unwrap();
            node.moved().await;
            alone_in(DIRECTORIES[1]).await;
            world.check(&node.log).await;
        }
    });
}

#[test]
fn what_is_appended_at_the_end_of_a_move_that_fails_stays_in_the_source() {
    let world = Rc::new(World::default());
    on_a_shard(&disk(), || {
        let world = Rc::clone(&world);
        async move {
            let mut noise = Noise(3);
            let node = Node::start(&world, config(), small_segments(), false).await;
            fill(&world, &node.log, &mut noise, 30).await;
            world.refuses.set(true);
            for round in 0..5 {
                node.relocate(DIRECTORIES[1]).await.unwrap();
                while node.storage.future(PARTITION).is_some() {
                    world.append(&node.log, &mut noise, 1, 500).unwrap();
                    reactor::sleep(Duration::from_millis(1)).await;
                }
                world.until_durable().await;
                assert_eq!(node.log.directory(), DIRECTORIES[0], "round {round}");
                world.check(&node.log).await;
            }
            alone_in(DIRECTORIES[0]).await;
            world.refuses.set(false);
            node.relocate(DIRECTORIES[1]).await.unwrap();
            node.moved().await;
            world.check(&node.log).await;
            alone_in(DIRECTORIES[1]).await;
        }
    });
}

#[test]
fn a_log_without_room_stays_where_it_is() {
    let disk = disk();
    let world = Rc::new(World::default());
    on_a_shard(&disk, || {
        let (world, disk) = (Rc::clone(&world), disk.clone());
        async move {
            let mut noise = Noise(4);
            let config = Config { journal_bytes: 0, ..config() };
            let node = Node::start(&world, config, small_segments(), false).await;
            fill(&world, &node.log, &mut noise, 200).await;
            disk.set_capacity(disk.used_bytes() + node.log.size_bytes() / 8);
            node.relocate(DIRECTORIES[1]).await.unwrap();
            node.moved().await;
            alone_in(DIRECTORIES[0]).await;
            assert!(!world.failed.get(), "there may be room again");
            fill(&world, &node.log, &mut noise, 5).await;
            world.check(&node.log).await;
            disk.set_capacity(u64::MAX);
            crate::storage::space::sample(&node.log.state().shard, &node.log.state().directory).await;
            node.relocate(DIRECTORIES[1]).await.unwrap();
            node.moved().await;
            alone_in(DIRECTORIES[1]).await;
        }
    });
}

#[test]
fn a_deleted_log_takes_its_copy_along() {
    check_seeds(60, |seed| {
        let disk = disk();
        let world = Rc::new(World::default());
        let outcome = Simulation::new(seed).disk(&disk).run(|_: ShardContext<()>| {
            let world = Rc::clone(&world);
            async move {
                let mut noise = Noise(seed);
                let config = if noise.one_in(3) { halted() } else { config() };
                let node = Node::start(&world, config, small_segments(), false).await;
                fill(&world, &node.log, &mut noise, 40).await;
                node.relocate(DIRECTORIES[1]).await.unwrap();
                reactor::sleep(Duration::from_micros(noise.below(30_000))).await;
                world.deleted.set(true);
                node.storage.delete(&node.log).await.unwrap();
                node.moved().await;
                node.storage.stop().await.unwrap();
                assert_eq!(folders().await, []);
            }
        });
        outcome.trace
    });
}

/// Bytes that a disk gives once of another place must not become the only ones.
#[test]
fn what_is_misread_is_read_again() {
    check_seeds(40, |seed| {
        let disk = disk();
        let world = Rc::new(World::default());
        let outcome = Simulation::new(seed).disk(&disk).run(|_: ShardContext<()>| {
            let (world, disk) = (Rc::clone(&world), disk.clone());
            async move {
                let node = Node::start(&world, config(), small_segments(), false).await;
                fill(&world, &node.log, &mut Noise(seed), 100).await;
                disk.set_faults(Faults { misdirected_read_one_in: 30, ..Faults::default() });
                node.relocate(DIRECTORIES[1]).await.unwrap();
                node.moved().await;
                disk.set_faults(Faults::default());
                alone_in(node.log.directory()).await;
                world.check(&node.log).await;
                node.log.directory() == DIRECTORIES[1]
            }
        });
        (outcome.trace, outcome.done())
    });
}

/// One life: a check, then appends, reads, deletions of records and moves side by side until a crash or a stop.
async fn live(world: Rc<World>, disk: Disk, plan: Life) -> bool {
    let Life { seed, number: life, clean, fails } = plan;
    let mut noise = Noise(seed);
    let pace = [u64::MAX, 300_000, 3_000_000][noise.below(3) as usize];
    let journal_bytes = [0, 64 << 10, 1 << 20][noise.below(3) as usize];
    let live = LiveConfig { relocation_bytes_per_second: pace, ..config().live };
    let config = Config { live, journal_bytes, checkpoint_interval_ms: 1 + noise.below(50), ..config() };
    let segment_bytes = [4_000, 30_000, 300_000][noise.below(3) as usize];
    let node =
        Rc::new(Node::start(&world, config, LogConfig { segment_bytes, ..small_segments() }, clean).await);
    world.check(&node.log).await;
    let counts = node.log.directory();
    let found = folders().await;
    let stays = found.iter().filter(|(_, state)| *state != FolderState::Future);
    assert_eq!(stays.copied().collect::<Vec<_>>(), [(counts, FolderState::Live)], "one folder counts");
    for &(partition, to) in &node.found {
        assert_eq!(partition, PARTITION);
        assert!(node.storage.relocate(&node.log, to).await != Err(Error::Closed));
    }
    if fails {
        let one_in = 100 + noise.below(900) as u32;
        let (write_error_one_in, flush_error_one_in) = (one_in, one_in);
        disk.set_faults(Faults { write_error_one_in, flush_error_one_in, ..Faults::default() });
    }
    let is_over = Rc::new(Cell::new(false));
    let reading = reactor::spawn({
        let (world, node, is_over, mut noise) =
            (Rc::clone(&world), Rc::clone(&node), Rc::clone(&is_over), Noise(noise.next()));
        async move {
            while !is_over.get() {
                world.readable(&node.log, 1 + noise.below(30_000) as usize).await;
                reactor::sleep(Duration::from_micros(200 + noise.below(2_000))).await;
            }
        }
    });
    let moving = reactor::spawn({
        let (node, is_over, mut noise) = (Rc::clone(&node), Rc::clone(&is_over), Noise(noise.next()));
        async move {
            while !is_over.get() {
                let to = DIRECTORIES[noise.below(3) as usize];
                // a directory may have failed, or the stop have begun
                let _ = node.relocate(to).await;
                match noise.one_in(3) {
                    true => reactor::sleep(Duration::from_micros(noise.below(20_000))).await,
                    false => node.moved().await,
                }
                reactor::sleep(Duration::from_micros(100 + noise.below(3_000))).await;
            }
        }
    });
    for _ in 0..50 + noise.below(150) {
        let appended = world.append(&node.log, &mut noise, life, 3_000);
        assert!(appended.is_ok() || world.failed.get(), "{appended:?}");
        if noise.one_in(30) {
            let to = Offset(noise.below(node.log.durable_end().0 as u64 + 1) as i64);
            match node.log.delete_records(to).await {
                Ok(start) => world.start.set(start.max(world.start.get())),
                Err(error) => assert!(world.failed.get(), "{error:?}"),
            }
        }
        if noise.one_in(2) {
            reactor::sleep(Duration::from_micros(noise.below(2_000))).await;
        }
    }
    world.until_durable().await;
    is_over.set(true);
    let in_middle = noise.one_in(2);
    if !in_middle {
        moving.await;
        reading.await;
        world.readable(&node.log, 50_000).await;
    }
    !world.failed.get() && noise.one_in(2) && node.storage.stop().await.is_ok()
}

struct Life {
    seed: u64,
    number: i32,
    /// The one before has ended with a clean stop.
    clean: bool,
    /// Writes and flushes do, after the start.
    fails: bool,
}

fn lives(seed: u64, faults: Errors) -> (Vec<u64>, u64) {
    let mut noise = Noise(seed);
    let (disk, world) = (disk(), Rc::new(World::default()));
    let (mut clean, mut traces) = (false, Vec::new());
    for life in 0..5 {
        let mut simulation = Simulation::new(noise.next()).disk(&disk);
        let when = When::OneInDiskEvents(50 + noise.below(2_000) as u32);
        if life < 4 {
            simulation = match noise.one_in(3) {
                true => simulation.kill(when),
                false => simulation.power_cut(when),
            };
        }
        world.failed.set(false);
        let (seed, fails) = (noise.next(), faults == Errors::Some && life > 0 && life < 4);
        let outcome = simulation.run(|_: ShardContext<()>| {
            live(Rc::clone(&world), disk.clone(), Life { seed, number: life, clean, fails })
        });
        disk.set_faults(Faults::default());
        traces.push(outcome.trace);
        clean = outcome.done_or_crashed().is_some_and(|clean| clean[0]);
        if clean && noise.one_in(2) {
            disk.crash(noise.next());
        }
    }
    (traces, world.moves.get())
}

/// Whether the disk has any.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errors {
    None,
    Some,
}

fn check_lives(seeds: u64, faults: Errors) {
    let moves = Cell::new(0);
    check_seeds(seeds, |seed| {
        let (traces, moved) = lives(seed, faults);
        moves.set(moves.get() + moved);
        traces
    });
    assert!(moves.get() > seeds || std::env::var_os("CORELANE_SEED").is_some(), "{} moves", moves.get());
}

#[test]
fn crashes_lose_nothing_and_leave_one_folder() {
    check_lives(200, Errors::None);
}

#[test]
fn disks_that_fail_lose_nothing_and_leave_one_folder() {
    check_lives(200, Errors::Some);
}
