//! From one start of a [`Node`] to its end: a storm, in the last life a calm, and then a stop, a crash, or neither.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::node::Node;
use crate::model::ShardId;
use crate::partition::{CoordinatorSettings, Lifecycle, Message};
use crate::reactor::sim::{Disk, Outcome, Simulation, When};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::storage::testing::Noise;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything goes wrong.
    Storm,
    /// Nothing does.
    Calm,
    /// The node stops, clients are not asked to do anything more.
    Over,
}

/// What several lives are about. Shard 0 leads.
pub trait Story: 'static {
    fn life(&self) -> Rc<Life>;

    /// For messages.
    fn place(&self) -> String;

    fn coordinators(&self) -> CoordinatorSettings;

    /// The directories have been formatted.
    fn is_identified(&self) -> &Cell<bool>;

    /// What there has to be before clients come.
    async fn prepare(self: &Rc<Self>, node: &Rc<Node>);

    /// Begins the tasks of clients whose connections are this shard's.
    fn play(self: &Rc<Self>, node: &Rc<Node>);

    /// What happens around the clients until the storm is over.
    async fn rage(self: Rc<Self>, node: Rc<Node>);

    /// What has to come true in the calm.
    async fn demand_progress(self: &Rc<Self>, node: &Rc<Node>);
}

pub struct Life {
    pub number: usize,
    pub shards: usize,
    is_last: bool,
    storm_ms: u64,
    /// After which part of the storm a log directory fails, in percent.
    loses_directory_at: Option<u64>,
    /// It has failed.
    is_damaged: Cell<bool>,
    is_stopped: bool,
    phase: Cell<Phase>,
    /// For each shard.
    up: Vec<Notify>,
    /// Tasks of clients.
    playing: Cell<usize>,
    all_done: Notify,
    /// The shards that have begun.
    pub nodes: RefCell<Vec<Rc<Node>>>,
}

impl Life {
    pub fn new(number: usize, is_last: bool, noise: &mut Noise) -> Rc<Life> {
        let shards = 1 + noise.below(3) as usize;
        Rc::new(Life {
            number,
            shards,
            is_last,
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

    /// Runs it; all but the last may end in a crash. Gives what the simulation says of it.
    pub fn run<S: Story>(self: &Rc<Self>, story: &Rc<S>, disk: &Disk, noise: &mut Noise) -> Outcome<()> {
        let simulation = Simulation::new(noise.next()).shards(self.shards).disk(disk);
        let when = match noise.below(3) {
            0 => When::Time(Duration::from_millis(1_000 + noise.below(30_000))),
            _ => When::OneInDiskEvents(100 + noise.below(4_000) as u32),
        };
        let simulation = match noise.below(3) {
            _ if self.is_last => simulation,
            0 => simulation.power_cut(when),
            1 => simulation.kill(when),
            _ => simulation,
        };
        let story = Rc::clone(story);
        let outcome = simulation.run(move |context: ShardContext<_>| live(Rc::clone(&story), context));
        // they know this life, too
        self.nodes.borrow_mut().clear();
        outcome
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn is_stormy(&self) -> bool {
        self.phase() == Phase::Storm
    }

    pub fn is_calm(&self) -> bool {
        self.phase() == Phase::Calm
    }

    pub fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    /// A log directory is lost: coordinators may be unable to write.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.get()
    }

    /// A stop waits for it.
    pub fn begin_task(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.playing.set(self.playing.get() + 1);
        let life = Rc::clone(self);
        reactor::spawn(async move {
            task.await;
            life.playing.set(life.playing.get() - 1);
            life.all_done.notify();
        });
    }

    async fn storm(&self, node: &Node) {
        let ms = |percent: u64| Duration::from_millis(self.storm_ms * percent / 100);
        let percent = self.loses_directory_at.unwrap_or(100);
        reactor::sleep(ms(percent)).await;
        if self.loses_directory_at.is_some() {
            self.is_damaged.set(true);
            node.lose_directory().await;
            reactor::sleep(ms(100 - percent)).await;
        }
    }

    /// As the broker's own.
    async fn stop(&self, node: &Node) {
        let failed = node.shard.failed_coordinators();
        node.every_shard(&Lifecycle::StopServing).await;
        self.phase.set(Phase::Over);
        while self.playing.get() > 0 {
            self.all_done.notified().await;
        }
        node.stop_controller().await;
        node.every_shard(&Lifecycle::StopStorage).await;
        assert!(node.shard.failed_coordinators() <= failed, "a stop makes coordinators fail");
    }

    /// The process is gone in the midst of everything; the other shards' futures have to end.
    async fn break_off(&self, node: &Node) {
        node.every_shard(&Lifecycle::StopServing).await;
        self.phase.set(Phase::Over);
        if self.shards > 1 {
            node.every_shard(&Lifecycle::StopStorage).await;
        }
    }
}

/// One life of a shard.
async fn live<S: Story>(story: Rc<S>, context: ShardContext<Message>) {
    let (id, life) = (context.id, story.life());
    let node = Node::start(story.coordinators(), context);
    life.nodes.borrow_mut().push(Rc::clone(&node));
    if id != ShardId::ZERO {
        let work = {
            let (story, node) = (Rc::clone(&story), Rc::clone(&node));
            async move {
                story.life().up[usize::from(id.0)].notified().await;
                story.play(&node);
            }
        };
        reactor::spawn(work);
        return node.ended().await;
    }
    node.boot(story.is_identified(), &story.place()).await;
    story.prepare(&node).await;
    life.up.iter().skip(1).for_each(Notify::notify);
    story.play(&node);
    let upheaval = reactor::spawn(Rc::clone(&story).rage(Rc::clone(&node)));
    life.storm(&node).await;
    life.phase.set(if life.is_last { Phase::Calm } else { Phase::Over });
    upheaval.await;
    if life.is_last {
        story.demand_progress(&node).await;
    }
    if life.is_stopped { life.stop(&node).await } else { life.break_off(&node).await }
}
