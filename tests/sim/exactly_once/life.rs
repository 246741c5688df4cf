//! From one start of the node to its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::producer::{self, INPUT};
use super::{World, below, calm, chance, parts, pause, reader};
use crate::metadata::features::TRANSACTION_VERSION;
use crate::metadata::{
    CreateTopic, FeatureUpdate, OFFSETS_TOPIC, Reply, Request, TRANSACTIONS_TOPIC, TopicRef, UpgradeType,
};
use crate::model::ShardId;
use crate::partition::{Lifecycle, Message};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::sim_tests::node::Node;
use crate::storage::testing::Noise;

const TOPICS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything goes wrong.
    Storm,
    /// Nothing does.
    Calm,
    /// The node stops.
    Over,
}

pub struct Life {
    pub number: usize,
    is_last: bool,
    shards: usize,
    storm_ms: u64,
    /// After which part of the storm a log directory fails, in percent.
    loses_directory_at: Option<u64>,
    is_stopped: bool,
    phase: Cell<Phase>,
    /// For each shard.
    up: Vec<Notify>,
    /// Tasks of clients.
    playing: Cell<usize>,
    all_done: Notify,
    /// The shards that have begun.
    nodes: RefCell<Vec<Rc<Node>>>,
}

impl Life {
    pub fn new(number: usize, is_last: bool, shards: usize, noise: &mut Noise) -> Rc<Life> {
        Rc::new(Life {
            number,
            is_last,
            shards,
            storm_ms: 5_000 + noise.below(20_000),
            loses_directory_at: (!is_last && noise.one_in(6)).then(|| noise.below(100)),
            is_stopped: is_last || noise.one_in(2),
            phase: Cell::new(Phase::Storm),
            up: (0..shards).map(|_| Notify::default()).collect(),
            playing: Cell::new(0),
            all_done: Notify::default(),
            nodes: RefCell::default(),
        })
    }

    pub fn is_stormy(&self) -> bool {
        self.phase.get() == Phase::Storm
    }

    pub fn is_calm(&self) -> bool {
        self.phase.get() == Phase::Calm
    }

    pub fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    /// The node is gone; it knows this life, too.
    pub fn end(&self) {
        self.nodes.borrow_mut().clear();
    }
}

/// One life of a shard. Shard 0 leads.
pub async fn live(world: Rc<World>, context: ShardContext<Message>) {
    let (id, life) = (context.id, world.life());
    let node = Node::start(World::coordinators(), context);
    life.nodes.borrow_mut().push(Rc::clone(&node));
    if id != ShardId::ZERO {
        let work = {
            let (world, node) = (Rc::clone(&world), Rc::clone(&node));
            async move {
                world.life().up[usize::from(id.0)].notified().await;
                play(&world, &node);
            }
        };
        reactor::spawn(work);
        return node.ended().await;
    }
    node.boot(&world.identified, &world.place()).await;
    prepare(&world, &node).await;
    life.up.iter().skip(1).for_each(Notify::notify);
    play(&world, &node);
    let upheaval = reactor::spawn(change_topics(Rc::clone(&world), Rc::clone(&node)));
    storm(&life, &node).await;
    if life.is_last {
        life.phase.set(Phase::Calm);
        upheaval.await;
        calm::demand_progress(&world, &node).await;
    }
    life.phase.set(Phase::Over);
    node.every_shard(&Lifecycle::StopServing).await;
    if life.is_stopped {
        while life.playing.get() > 0 {
            life.all_done.notified().await;
        }
        node.stop_controller().await;
        node.every_shard(&Lifecycle::StopStorage).await;
    } else if life.shards > 1 {
        // the process is gone in the midst of everything; the other shards' futures have to end
        node.every_shard(&Lifecycle::StopStorage).await;
    }
}

async fn storm(life: &Life, node: &Node) {
    let ms = |percent: u64| Duration::from_millis(life.storm_ms * percent / 100);
    let percent = life.loses_directory_at.unwrap_or(100);
    reactor::sleep(ms(percent)).await;
    if life.loses_directory_at.is_some() {
        node.lose_directory().await;
        reactor::sleep(ms(100 - percent)).await;
    }
}

/// What there has to be before clients come.
async fn prepare(world: &World, node: &Node) {
    if node.shard.image().topic_by_name(INPUT).is_none() {
        let compacted =
            [("cleanup.policy", "compact"), ("segment.bytes", "8192"), ("min.cleanable.dirty.ratio", "0.01")];
        for topic in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC] {
            create(node, topic, 1 + below(3) as i32, &compacted).await;
        }
        let level = FeatureUpdate {
            feature: TRANSACTION_VERSION.to_owned(),
            level: world.level,
            upgrade: Some(UpgradeType::UnsafeDowngrade),
        };
        node.control(Request::UpdateFeatures { updates: vec![level], validate_only: false }).await;
        create(node, INPUT, 1, &[]).await;
    }
    while topics(node).len() < 2 {
        create_next(world, node).await;
    }
}

async fn change_topics(world: Rc<World>, node: Rc<Node>) {
    while world.life().is_stormy() {
        let topics = topics(&node);
        if topics.len() < TOPICS {
            create_next(&world, &node).await;
        } else if chance(30) {
            let name = topics[below(topics.len() as u64) as usize].clone();
            world.ledger.borrow_mut().topic_goes(&name);
            node.control(Request::DeleteTopics { topics: vec![TopicRef::Name(name)] }).await;
        }
        pause(6_000).await;
    }
}

fn topics(node: &Node) -> Vec<String> {
    let mut topics: Vec<String> = parts(&node.shard).into_keys().map(|(topic, _)| topic).collect();
    topics.dedup();
    topics
}

async fn create_next(world: &World, node: &Node) {
    let name = format!("t{}", world.next_topic.replace(world.next_topic.get() + 1));
    create(node, &name, 1 + below(4) as i32, &[("segment.bytes", "4096")]).await;
}

async fn create(node: &Node, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    let reply = node.control(Request::CreateTopics { topics: vec![topic], validate_only: false }).await;
    assert!(matches!(reply, Reply::Topics(_) | Reply::Failed(_)), "{reply:?}");
}

/// The clients whose connections are this shard's, and one who reads.
fn play(world: &Rc<World>, node: &Rc<Node>) {
    let life = world.life();
    let shard = &node.shard;
    for (at, client) in world.clients.iter().enumerate() {
        if at % life.shards != usize::from(shard.id().0) {
            continue;
        }
        begin_task(&life, producer::play(Rc::clone(world), Rc::clone(shard), Rc::clone(client)));
    }
    begin_task(&life, reader::watch(Rc::clone(world), Rc::clone(shard)));
}

/// A stop waits for it.
pub fn begin_task(life: &Rc<Life>, task: impl Future<Output = ()> + 'static) {
    life.playing.set(life.playing.get() + 1);
    let life = Rc::clone(life);
    reactor::spawn(async move {
        task.await;
        life.playing.set(life.playing.get() - 1);
        life.all_done.notify();
    });
}
