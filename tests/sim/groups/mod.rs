//! Consumer groups on a node that is killed, loses power or a log directory, or stops, several times: members of both
//! protocols join, read, commit, stall, die and come back, in groups that change their protocol meanwhile, while topics come,
//! grow and go and replies are lost.
//!
//! [`client`] is what all members share, [`consumer`] and [`classic`] are the two protocols as clients speak them, [`life`] is
//! what happens around them. What must hold:
//! * Nobody reads a partition that another reads by right ([`client::State::lease_ends`]).
//! * Who joins gets no epoch or generation below one that a member has.
//! * An offset that was answered is read, or a later one ([`offsets`]).
//! * The records follow from each other ([`journal`]), and a coordinator that reads them is the one that wrote them.
//! * Every request is answered, and when the faults end, everything is assigned soon.

mod calm;
mod classic;
mod client;
mod consumer;
mod embedded;
mod journal;
mod life;
mod offsets;
mod stop;
mod upheaval;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use client::{Client, Speech};
use journal::Journal;
use offsets::History;

use crate::coordinator::group::Settings;
use crate::model::{PartitionId, TopicId};
use crate::partition::CoordinatorSettings;
use crate::reactor;
use crate::reactor::sim::{Disk, check_seeds};
use crate::sim_tests::life::Life;
use crate::sim_tests::node::DIRECTORIES;
use crate::storage::testing::Noise;

const LIVES: usize = 4;
/// Of members of both protocols.
const SESSION_MS: u64 = 6_000;
/// For a member to give up what it has to.
const REBALANCE_MS: u64 = 10_000;

/// A partition as members know it.
type Part = (String, i32);

/// What is there before the node starts and after it has ended.
struct World {
    seed: u64,
    disk: Disk,
    settings: Settings,
    clients: Vec<Rc<Client>>,
    /// How long the lives before this one took, milliseconds.
    before_ms: Cell<u64>,
    life: RefCell<Rc<Life>>,
    offsets: RefCell<History>,
    journals: RefCell<BTreeMap<PartitionId, Journal>>,
    /// Of topics that are there or were.
    names: RefCell<BTreeMap<TopicId, String>>,
    next_name: Cell<u64>,
    identified: Cell<bool>,
}

#[test]
fn nobody_shares_a_partition_and_nothing_is_forgotten() {
    super::show_log_of_one_seed();
    check_seeds(100, walk);
}

fn walk(seed: u64) -> Vec<u64> {
    let mut noise = Noise(seed);
    let world = World::new(seed, &mut noise);
    let mut traces = Vec::new();
    for number in 0..LIVES {
        world.begin_life(Life::new(number, number + 1 == LIVES, &mut noise));
        let outcome = world.life().run(&world, &world.disk, &mut noise);
        traces.push(outcome.trace);
        world.end_life(outcome.elapsed);
        let _ = outcome.done_or_crashed();
    }
    traces
}

impl World {
    fn new(seed: u64, noise: &mut Noise) -> Rc<World> {
        let disk = Disk::new();
        DIRECTORIES.iter().for_each(|(_, path)| disk.create_dir_all(path).expect("the disk is new"));
        let settings = Settings {
            initial_rebalance_delay_ms: 500 * noise.below(4),
            consumer_session_timeout_ms: SESSION_MS,
            consumer_assignment_interval_ms: 300 * noise.below(3),
            ..Settings::default()
        };
        let speeches: [(&str, &[Speech]); 5] = [
            ("eager", &[Speech::Eager]),
            ("cooperative", &[Speech::Cooperative]),
            ("consumer", &[Speech::Consumer]),
            ("eager-consumer", &[Speech::Eager, Speech::Consumer]),
            ("cooperative-consumer", &[Speech::Cooperative, Speech::Consumer]),
        ];
        let first = noise.below(speeches.len() as u64) as usize;
        let mut clients = Vec::new();
        for (group, speech) in (0..2).map(|at| speeches[(first + 2 * at) % speeches.len()]) {
            for _ in 0..2 + noise.below(3) {
                clients.push(Client::new(group, speech, clients.len(), noise));
            }
        }
        Rc::new(World {
            seed,
            disk,
            settings,
            clients,
            before_ms: Cell::new(0),
            life: RefCell::new(Life::new(0, false, noise)),
            offsets: RefCell::default(),
            journals: RefCell::default(),
            names: RefCell::default(),
            next_name: Cell::new(0),
            identified: Cell::new(false),
        })
    }

    /// Whoever is a member by right has all its time anew when the node is up.
    fn begin_life(&self, life: Rc<Life>) {
        self.life.replace(life);
        self.offsets.borrow_mut().nobody_asks();
        self.journals.borrow_mut().clear();
        let now = self.before_ms.get();
        for client in &self.clients {
            let state = &mut *client.state.borrow_mut();
            if state.lease_ends() > now {
                (state.heard_ms, state.clean_ms) = (now, now);
            }
        }
    }

    fn end_life(&self, elapsed: Duration) {
        self.before_ms.set(self.before_ms.get() + elapsed.as_millis() as u64);
    }

    fn coordinators(&self) -> CoordinatorSettings {
        CoordinatorSettings { groups: self.settings.clone(), ..CoordinatorSettings::default() }
    }

    fn life(&self) -> Rc<Life> {
        Rc::clone(&self.life.borrow())
    }

    /// Of a topic that a shard knows of: others hear of it a moment later.
    fn topic_name(&self, topic: TopicId) -> Option<String> {
        let life = self.life();
        let nodes = life.nodes.borrow();
        nodes.iter().find_map(|node| Some(node.shard.image().topic(topic)?.name.clone()))
    }

    /// Milliseconds of all lives.
    fn now_ms(&self) -> u64 {
        self.before_ms.get() + reactor::now().0 / 1_000_000
    }

    /// The groups that have members.
    fn groups(&self) -> BTreeSet<&str> {
        self.clients.iter().map(|client| client.group.as_str()).collect()
    }

    fn place(&self) -> String {
        let life = self.life();
        format!("seed {}, life {}, at {} ms of it", self.seed, life.number, reactor::now().0 / 1_000_000)
    }
}

/// Of a hundred.
fn chance(percent: u64) -> bool {
    reactor::random_u64() % 100 < percent
}

/// Any time below this one.
async fn pause(below_ms: u64) {
    reactor::sleep(Duration::from_millis(reactor::random_u64() % below_ms.max(1))).await;
}
