//! Transactions on a node that is killed, loses power or a log directory, or stops, several times: producers of every level of
//! transaction.version write to partitions and commit offsets in transactions, stall, die, come back and go on as zombies, while
//! topics come and go, replies are lost, and requests come twice or long after they were sent.
//!
//! [`producer`] is a client and its lives, [`transaction`] one transaction as the client makes it, [`late`] what comes when nobody
//! waits for it any more, [`life`] what happens around them. What must hold is in [`ledger`]:
//! * Readers of committed records see the records of a transaction in a partition once, in order, and for ever.
//! * Nothing is seen of a transaction whose commit was not asked for, or was refused; of one whose commit was answered,
//!   everything is seen in the end, in all its partitions, and its offsets with them; of the others all of it or nothing.
//! * Once a producer has its id, the one before it changes nothing any more.
//! * A producer whose batches were all answered never hears that some are missing.
//! * Every request is answered, and when the faults end, no transaction stays open and everything that was written is
//!   readable.

mod calm;
mod late;
mod ledger;
mod life;
mod producer;
mod reader;
mod transaction;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use ledger::Ledger;
use producer::Client;

use crate::coordinator::transaction::Settings;
use crate::model::PartitionId;
use crate::partition::{CoordinatorSettings, Shard, TransactionSupport};
use crate::reactor;
use crate::reactor::sim::{Disk, check_seeds};
use crate::sim_tests::life::Life;
use crate::sim_tests::node::DIRECTORIES;
use crate::storage::testing::Noise;

const LIVES: usize = 4;
/// For a request to be answered. A question about a transaction has half a minute.
const PATIENCE: Duration = Duration::from_secs(45);

/// Topics are never of the same name again.
type Part = (String, i32);

/// What is there before the node starts and after it has ended.
struct World {
    seed: u64,
    disk: Disk,
    /// Of transaction.version.
    level: i16,
    clients: Vec<Rc<Client>>,
    life: RefCell<Rc<Life>>,
    ledger: RefCell<Ledger>,
    next_topic: Cell<u64>,
    identified: Cell<bool>,
}

#[test]
fn transactions_are_whole_or_not_there() {
    super::show_log_of_one_seed();
    check_seeds(100, walk);
}

fn walk(seed: u64) -> Vec<u64> {
    let mut noise = Noise(seed);
    let world = World::new(seed, &mut noise);
    let mut traces = Vec::new();
    for number in 0..LIVES {
        world.life.replace(Life::new(number, number + 1 == LIVES, &mut noise));
        let outcome = world.life().run(&world, &world.disk, &mut noise);
        traces.push(outcome.trace);
        world.clients.iter().for_each(|client| client.node_ended());
        let _ = outcome.done_or_crashed();
    }
    traces
}

impl World {
    fn new(seed: u64, noise: &mut Noise) -> Rc<World> {
        let disk = Disk::new();
        DIRECTORIES.iter().for_each(|(_, path)| disk.create_dir_all(path).expect("the disk is new"));
        let level = noise.below(3) as i16;
        let clients = (0..2 + noise.below(3)).map(|number| {
            let support = match noise.below(3) {
                0 => TransactionSupport::Classic,
                1 => TransactionSupport::Abortable,
                _ if level >= 2 => TransactionSupport::Adds,
                _ => TransactionSupport::Abortable,
            };
            Client::new(number, support, noise)
        });
        Rc::new(World {
            seed,
            disk,
            level,
            clients: clients.collect(),
            life: RefCell::new(Life::new(0, false, noise)),
            ledger: RefCell::default(),
            next_topic: Cell::new(0),
            identified: Cell::new(false),
        })
    }

    fn coordinators() -> CoordinatorSettings {
        let transactions = Settings { abort_interval_ms: 500, ..Settings::default() };
        CoordinatorSettings { transactions, ..CoordinatorSettings::default() }
    }

    fn life(&self) -> Rc<Life> {
        Rc::clone(&self.life.borrow())
    }

    fn place(&self) -> String {
        let life = self.life();
        format!("seed {}, life {}, at {} ms of it", self.seed, life.number, reactor::now().0 / 1_000_000)
    }

    /// What is asked of the node, which answers whatever happens.
    async fn answered<T>(&self, what: &str, asked: impl Future<Output = T>) -> T {
        let waited = async {
            reactor::sleep(PATIENCE).await;
            None
        };
        let reply = or(async { Some(asked.await) }, waited).await;
        reply.unwrap_or_else(|| panic!("{}: nobody has answered {what}", self.place()))
    }
}

/// The partitions that clients write to.
fn parts(shard: &Shard) -> BTreeMap<Part, PartitionId> {
    let image = shard.image();
    let topics = image.topics().filter(|topic| topic.name.starts_with('t'));
    let parts = topics.flat_map(|topic| {
        let count = i32::try_from(topic.partitions.len()).expect("few");
        (0..count).map(|index| ((topic.name.clone(), index), PartitionId { topic: topic.id, index }))
    });
    parts.collect()
}

/// Of a hundred.
fn chance(percent: u64) -> bool {
    reactor::random_u64() % 100 < percent
}

fn below(bound: u64) -> u64 {
    reactor::random_u64() % bound.max(1)
}

/// Any time below this one.
async fn pause(below_ms: u64) {
    reactor::sleep(Duration::from_millis(below(below_ms))).await;
}
