//! From one start of the node to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::client::Player;
use super::node::Node;
use super::{World, calm, journal, offsets, upheaval};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::{ShardId, TopicId};
use crate::partition::{Lifecycle, Message, Shard};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::storage::testing::Noise;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything goes wrong.
    Storm,
    /// Nothing does.
    Calm,
    /// The node stops, the members are not asked to do anything more.
    Over,
}

pub struct Life {
    pub number: usize,
    is_last: bool,
    shards: usize,
    storm_ms: u64,
    /// After which part of the storm a log directory fails, in percent.
    loses_directory_at: Option<u64>,
    /// It has failed.
    is_damaged: Cell<bool>,
    is_stopped: bool,
    phase: Cell<Phase>,
    /// For each shard.
    up: Vec<Notify>,
    /// Tasks of members.
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
            storm_ms: 5_000 + noise.below(25_000),
            loses_directory_at: (!is_last && noise.one_in(6)).then(|| noise.below(100)),
            is_damaged: Cell::new(false),
            is_stopped: is_last || noise.one_in(2),
            phase: Cell::new(Phase::Storm),
            up: (0..shards).map(|_| Notify::default()).collect(),
            playing: Cell::new(0),
            all_done: Notify::default(),
            nodes: RefCell::default(),
        })
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn is_stormy(&self) -> bool {
        self.phase() == Phase::Storm
    }

    pub fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    /// Coordinators may be unable to write.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.get()
    }

    /// Of a topic that a shard knows of: others hear of it a moment later.
    pub fn name(&self, topic: TopicId) -> Option<String> {
        let nodes = self.nodes.borrow();
        nodes.iter().find_map(|node| Some(node.shard.image().topic(topic)?.name.clone()))
    }

    /// The node is gone; it knows this life, too.
    pub fn end(&self) {
        self.nodes.borrow_mut().clear();
    }
}

/// One life of a shard. Shard 0 leads.
pub async fn live(world: Rc<World>, context: ShardContext<Message>) {
    let (id, life) = (context.id, world.life());
    let node = Node::start(world.settings.clone(), context);
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
    node.boot(&world).await;
    upheaval::begin(&world, &node).await;
    offsets::fetch_all(&world, &node.shard).await;
    life.up.iter().skip(1).for_each(Notify::notify);
    play(&world, &node);
    reactor::spawn(offsets::commit_steadily(Rc::clone(&world), Rc::clone(&node.shard)));
    let upheaval = reactor::spawn(upheaval::rage(Rc::clone(&world), Rc::clone(&node)));
    storm(&life, &node).await;
    if life.is_last {
        life.phase.set(Phase::Calm);
        upheaval.await;
        calm::demand_progress(&world, &node).await;
    } else {
        life.phase.set(Phase::Over);
        upheaval.await;
    }
    if life.is_stopped {
        stop(&life, &node).await;
    } else {
        node.every_shard(&Lifecycle::StopServing).await;
        others_end(&life, &node).await;
    }
}

async fn storm(life: &Life, node: &Node) {
    let ms = |percent: u64| Duration::from_millis(life.storm_ms * percent / 100);
    let percent = life.loses_directory_at.unwrap_or(100);
    reactor::sleep(ms(percent)).await;
    if life.loses_directory_at.is_some() {
        life.is_damaged.set(true);
        node.lose_directory().await;
        reactor::sleep(ms(100 - percent)).await;
    }
}

/// As the broker's own.
async fn stop(life: &Life, node: &Node) {
    let failed = node.shard.failed_coordinators();
    node.every_shard(&Lifecycle::StopServing).await;
    life.phase.set(Phase::Over);
    while life.playing.get() > 0 {
        life.all_done.notified().await;
    }
    node.stop_controller().await;
    node.every_shard(&Lifecycle::StopStorage).await;
    assert!(node.shard.failed_coordinators() <= failed, "a stop makes coordinators fail");
}

/// The process is gone in the midst of everything; the other shards' futures have to end.
async fn others_end(life: &Life, node: &Node) {
    life.phase.set(Phase::Over);
    if life.shards > 1 {
        node.every_shard(&Lifecycle::StopStorage).await;
    }
}

/// The members whose connections are this shard's, and one who reads what its coordinators write.
fn play(world: &Rc<World>, node: &Rc<Node>) {
    let life = world.life();
    let shard = &node.shard;
    for (at, client) in world.clients.iter().enumerate() {
        if at % life.shards != usize::from(shard.id().0) {
            continue;
        }
        let player = Player { world: Rc::clone(world), shard: Rc::clone(shard), client: Rc::clone(client) };
        life.playing.set(life.playing.get() + 1);
        let life = Rc::clone(&life);
        reactor::spawn(async move {
            player.play().await;
            life.playing.set(life.playing.get() - 1);
            life.all_done.notify();
        });
    }
    reactor::spawn(journal::watch(Rc::clone(world), Rc::clone(shard)));
}

/// Partitions of every topic that members may read.
pub fn topics(shard: &Shard) -> BTreeMap<String, i32> {
    let image = shard.image();
    let topics = image.topics().filter(|topic| topic.name != OFFSETS_TOPIC && topic.name.starts_with('t'));
    topics.map(|topic| (topic.name.clone(), i32::try_from(topic.partitions.len()).expect("few"))).collect()
}
