//! A node that is killed, or whose power is cut, amid changes of its metadata: after the restart every change that was
//! answered is there, none is half done, and the folders are those of the partitions. Snapshots come every few changes.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::cluster::{Boot, Booted, ControllerHost, SnapshotSettings, boot};
use crate::handlers::LocalFuture;
use crate::metadata::{
    self, AlterConfigs, ConfigChange, ConfigOperation, ConfigResource, ConfigResult, CreatePartitions,
    CreateTopic, Image, Reply, Request, Settings, TopicDefaults, TopicRef, TopicResult,
};
use crate::metrics::snapshot::Server;
use crate::model::{BrokerId, DirectoryId, ErrorCode, ShardId, TopicId};
use crate::partition::{Host, Lifecycle, Message, Shard, ShardRequest};
use crate::reactor::sim::{Disk, Simulation, When, check_seeds};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::storage::LogDir;
use crate::storage::testing::{Noise, config};

const BROKER: BrokerId = BrokerId(0);
const DIRECTORY: DirectoryId = DirectoryId(100);
const METADATA: &str = "/data/__cluster_metadata-0";
/// Clients that change things side by side, each its own topics.
const CLIENTS: usize = 3;
const TOPICS: u64 = 4;
const LIVES: usize = 6;

/// A topic as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Topic {
    id: TopicId,
    partitions: i32,
    retention: Option<String>,
}

/// The topics of one client by name; a topic's id is unknown (zero) until its creation is answered.
type Topics = BTreeMap<String, Topic>;

/// What a client knows.
#[derive(Clone, Default)]
struct Known {
    answered: Topics,
    /// What it asked for and has no answer to.
    asked: Option<Topics>,
    /// Ids that topics had and no other may have.
    ids: BTreeSet<u128>,
}

struct World {
    seed: u64,
    disk: Disk,
    clients: RefCell<Vec<Known>>,
    /// Producer ids below were given out.
    producer_ids: Cell<i64>,
    identified: Cell<bool>,
    /// The newest snapshot that was damaged.
    damaged: RefCell<String>,
}

/// Leads to the controller, as the broker's own host does.
struct Node {
    controller: OnceCell<ControllerHost>,
    ended: Notify,
}

struct NodeHost(Weak<Node>);

impl Host for NodeHost {
    fn control(&self, request: Request) -> LocalFuture<Reply> {
        let node = self.0.upgrade().expect("the node lives");
        Box::pin(async move {
            match node.controller.get() {
                Some(controller) => controller.handle(request).await,
                None => Reply::Failed(ErrorCode::BrokerNotAvailable),
            }
        })
    }

    fn lifecycle(&self, _: Lifecycle) -> LocalFuture<()> {
        self.0.upgrade().expect("the node lives").ended.notify();
        Box::pin(std::future::ready(()))
    }

    fn reconfigured(&self) {}

    fn measure(&self) -> Server {
        Server::default()
    }
}

#[test]
fn every_answered_change_survives_and_none_is_half_done() {
    super::show_log_of_one_seed();
    check_seeds(200, walk);
}

fn walk(seed: u64) -> Vec<u64> {
    let mut noise = Noise(seed);
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let world = Rc::new(World {
        seed,
        disk: disk.clone(),
        clients: RefCell::new(vec![Known::default(); CLIENTS]),
        producer_ids: Cell::new(0),
        identified: Cell::new(false),
        damaged: RefCell::default(),
    });
    let mut traces = Vec::new();
    for life in 0..LIVES {
        let snapshot_bytes = 1 << (8 + noise.below(8));
        let when = When::OneInDiskEvents(50 + noise.below(2_000) as u32);
        let simulation = Simulation::new(noise.next()).shards(1 + noise.below(3) as usize).disk(&disk);
        let simulation = match noise.below(3) {
            0 => simulation.power_cut(when),
            1 => simulation.kill(when),
            _ => simulation,
        };
        let outcome = simulation.run({
            let world = Rc::clone(&world);
            move |context: ShardContext<Message>| live(Rc::clone(&world), life, snapshot_bytes, context)
        });
        traces.push(outcome.trace);
        let _ = outcome.done_or_crashed();
        if life + 2 < LIVES && noise.one_in(4) {
            world.damage_newest_snapshot();
        }
    }
    traces
}

/// One life of a shard; shard 0 has the controller and the clients.
async fn live(world: Rc<World>, life: usize, snapshot_bytes: u64, context: ShardContext<Message>) {
    let (id, count) = (context.id, context.count);
    let image = Image::new("cluster", TopicDefaults::default()).of_broker(BROKER);
    let shard = Shard::new(id, count, BROKER, image.clone(), context.mesh);
    let node = Rc::new(Node { controller: OnceCell::new(), ended: Notify::default() });
    let log_dirs = vec![LogDir::new(DIRECTORY, PathBuf::from("/data"), false)];
    shard.start(
        config(),
        crate::partition::CoordinatorSettings::default(),
        log_dirs.clone(),
        Box::new(NodeHost(Rc::downgrade(&node))),
    );
    if id != ShardId::ZERO {
        return node.ended.notified().await;
    }
    let setup = Boot {
        shard_count: count,
        image,
        settings: Settings::default(),
        log_dirs,
        fresh: !world.identified.get(),
        endpoints: Vec::new(),
        rack: None,
        snapshots: SnapshotSettings { after_bytes: snapshot_bytes, after: None },
    };
    let identify = || {
        world.identified.set(true);
        Ok(())
    };
    let controller = boot(&shard, setup, identify).await;
    let Booted { controller, .. } =
        controller.unwrap_or_else(|error| panic!("seed {}, life {life}: {error}", world.seed));
    assert!(node.controller.set(controller.clone()).is_ok());
    world.check(life, &shard).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (world, controller) = (Rc::clone(&world), controller.clone());
            reactor::spawn(async move { change_things(&world, client, &controller).await })
        })
        .collect();
    for client in clients {
        client.await;
    }
    world.check(life, &shard).await;
    controller.end().await;
    for other in 1..count {
        let to = ShardId(u16::try_from(other).unwrap());
        shard.ask(to, ShardRequest::Lifecycle(Lifecycle::StopStorage)).await;
    }
}

async fn change_things(world: &World, client: usize, controller: &ControllerHost) {
    for _ in 0..20 + reactor::random_u64() % 30 {
        let topics = world.clients.borrow()[client].answered.clone();
        let name = format!("t{client}-{}", reactor::random_u64() % TOPICS);
        let mut asked = topics.clone();
        let request = match (topics.get(&name), reactor::random_u64() % 4) {
            (_, 0) if reactor::random_u64().is_multiple_of(3) => {
                Request::AllocateProducerIds { broker: BROKER, shard: ShardId::ZERO }
            }
            (None, _) => {
                let partitions = 1 + (reactor::random_u64() % 5) as i32;
                let retention = reactor::random_u64().is_multiple_of(2).then(|| "7000".to_owned());
                asked.insert(
                    name.clone(),
                    Topic { id: TopicId::ZERO, partitions, retention: retention.clone() },
                );
                create(&name, partitions, retention)
            }
            (Some(_), 0) => {
                asked.remove(&name);
                Request::DeleteTopics { topics: vec![TopicRef::Name(name.clone())] }
            }
            (Some(topic), 1) => {
                let count = topic.partitions + 1;
                asked.get_mut(&name).unwrap().partitions = count;
                let topics = vec![CreatePartitions { topic: name.clone(), count, assignments: None }];
                Request::CreatePartitions { topics, validate_only: false }
            }
            (Some(_), _) => {
                let value = (reactor::random_u64() % 1_000_000).to_string();
                asked.get_mut(&name).unwrap().retention = Some(value.clone());
                set_retention(&name, value)
            }
        };
        world.clients.borrow_mut()[client].asked = Some(asked.clone());
        let reply = controller.handle(request).await;
        let mut clients = world.clients.borrow_mut();
        let known = &mut clients[client];
        match reply {
            Reply::Topics(results) => {
                let [TopicResult { error: ErrorCode::None, id, .. }] = results[..] else {
                    panic!("seed {}: {results:?}", world.seed)
                };
                if let Some(topic) = asked.get_mut(&name).filter(|topic| topic.id == TopicId::ZERO) {
                    topic.id = id;
                    assert!(known.ids.insert(id.0), "seed {}: an id came back", world.seed);
                }
            }
            Reply::Configs(results) => assert!(
                matches!(results[..], [ConfigResult { error: ErrorCode::None, .. }]),
                "seed {}: {results:?}",
                world.seed
            ),
            Reply::ProducerIds { first, count } => {
                assert!(first.0 >= world.producer_ids.get(), "seed {}: given out twice", world.seed);
                world.producer_ids.set(first.0 + count);
            }
            other => panic!("seed {}: {other:?}", world.seed),
        }
        known.answered = asked;
        known.asked = None;
    }
}

fn create(name: &str, partitions: i32, retention: Option<String>) -> Request {
    let configs = retention.map(|value| ("retention.ms".to_owned(), Some(value)));
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs: configs.into_iter().collect(),
    };
    Request::CreateTopics { topics: vec![topic], validate_only: false }
}

fn set_retention(name: &str, value: String) -> Request {
    let change =
        ConfigChange { key: "retention.ms".to_owned(), operation: ConfigOperation::Set, value: Some(value) };
    let resources = vec![AlterConfigs { resource: ConfigResource::topic(name), changes: vec![change] }];
    Request::AlterConfigs { resources, validate_only: false }
}

impl World {
    /// The node is what was answered, or with what was asked last besides, and its folders are its partitions'.
    async fn check(&self, life: usize, shard: &Rc<Shard>) {
        let place = format!("seed {}, life {life}", self.seed);
        let image = shard.image().clone();
        for (client, known) in self.clients.borrow_mut().iter_mut().enumerate() {
            let prefix = format!("t{client}-");
            let found: Topics = (image.topics_from(&prefix))
                .take_while(|topic| topic.name.starts_with(&prefix))
                .map(|topic| (topic.name.clone(), seen(&image, topic)))
                .collect();
            let as_answered = found == known.answered;
            let as_asked = known.asked.as_ref().is_some_and(|asked| with_ids(asked, &found) == found);
            assert!(
                as_answered || as_asked,
                "{place}: answered {:#?}, asked {:#?}, found {found:#?}",
                known.answered,
                known.asked
            );
            for topic in found.values() {
                let is_new = known.answered.values().all(|answered| answered.id != topic.id);
                assert!(!is_new || known.ids.insert(topic.id.0), "{place}: an id came back");
            }
            known.answered = found;
            known.asked = None;
        }
        let mut wanted: BTreeSet<String> = (image.topics())
            .flat_map(|topic| (0..topic.partitions.len()).map(|index| format!("{}-{index}", topic.name)))
            .collect();
        let open = shard.describe_logs(None).await;
        assert_eq!(open.logs.len(), wanted.len(), "{place}: every partition is open");
        wanted.insert("__cluster_metadata-0".to_owned());
        let folders: BTreeSet<String> = (self.disk.list("/data").unwrap().into_iter())
            .filter(|name| {
                name.contains('-')
                    && !name.ends_with("-delete")
                    && self.disk.list(format!("/data/{name}")).is_ok()
            })
            .filter(|name| name.starts_with('t') || name.starts_with("__"))
            .collect();
        assert_eq!(folders, wanted, "{place}");
    }

    fn snapshots(&self) -> Vec<String> {
        let names = self.disk.list(METADATA).unwrap_or_default();
        let mut names: Vec<_> =
            names.into_iter().filter(|name| metadata::snapshot::parse_file_name(name).is_some()).collect();
        names.sort();
        names
    }

    /// The one before it and the log stand in for it; before the first there is the log, with everything. Two that are
    /// damaged one behind the other are a lost disk.
    fn damage_newest_snapshot(&self) {
        let snapshots = self.snapshots();
        let mut damaged = self.damaged.borrow_mut();
        let whole = snapshots.iter().filter(|name| **name > *damaged).count();
        if let Some(newest) = snapshots.last().filter(|_| whole > 1 || damaged.is_empty()) {
            let path = format!("{METADATA}/{newest}");
            let middle = self.disk.read(&path).unwrap().len() as u64 / 2;
            self.disk.flip_bit(&path, middle, 3).unwrap();
            damaged.clone_from(newest);
        }
    }
}

fn seen(image: &Image, topic: &metadata::Topic) -> Topic {
    Topic {
        id: topic.id,
        partitions: i32::try_from(topic.partitions.len()).unwrap(),
        retention: image.topic_configs(&topic.name).get("retention.ms").cloned(),
    }
}

/// Ids that the client was not told are as found.
fn with_ids(asked: &Topics, found: &Topics) -> Topics {
    let mut asked = asked.clone();
    for (name, topic) in &mut asked {
        if topic.id == TopicId::ZERO {
            topic.id = found.get(name).map_or(TopicId::ZERO, |topic| topic.id);
        }
    }
    asked
}
