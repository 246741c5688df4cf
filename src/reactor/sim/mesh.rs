//! The virtual mesh: bounded, in order from one shard to another, late by the seed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::random::Random;
use super::trace::Kind;
use super::world::{Place, World};
use crate::model::ShardId;
use crate::reactor::MeshFull;

/// One shard's end; the virtual [`Mesh`](crate::reactor::Mesh).
pub struct Mesh<M> {
    shared: Rc<Shared<M>>,
    shard: ShardId,
}

struct Shared<M> {
    host: usize,
    shards: usize,
    depth: usize,
    /// From each shard to each, `from * shards + to`.
    pairs: RefCell<Vec<Pair<M>>>,
    receivers: RefCell<Vec<Option<Receive<M>>>>,
    random: RefCell<Random>,
}

type Receive<M> = Rc<dyn Fn(ShardId, M)>;

struct Pair<M> {
    queue: VecDeque<M>,
    /// Messages at its head that have arrived before anybody receives.
    arrived: usize,
}

impl<M: 'static> Mesh<M> {
    /// The ends of all shards of a host.
    pub(super) fn ends(seed: u64, host: usize, shards: usize, depth: usize) -> Vec<Mesh<M>> {
        let pairs = (0..shards * shards).map(|_| Pair { queue: VecDeque::new(), arrived: 0 }).collect();
        let shared = Rc::new(Shared {
            host,
            shards,
            depth: depth.max(1).next_power_of_two(),
            pairs: RefCell::new(pairs),
            receivers: RefCell::new(vec![None; shards]),
            random: RefCell::new(Random::new(seed, 5 + host as u64 * 16)),
        });
        let ends = Rc::clone(&shared);
        // the receivers hold the code above, which holds the mesh
        World::current().at_end(move || {
            let receivers = std::mem::take(&mut *ends.receivers.borrow_mut());
            let pairs = std::mem::take(&mut *ends.pairs.borrow_mut());
            drop((receivers, pairs));
        });
        (0..shards).map(|shard| Mesh { shared: Rc::clone(&shared), shard: ShardId(shard as u16) }).collect()
    }

    pub fn try_send(&self, to: ShardId, message: M) -> Result<(), MeshFull<M>> {
        let shards = self.shared.shards;
        assert!(to != self.shard && to.index() < shards, "a message goes to another shard of this process");
        let world = World::current();
        {
            let mut pairs = self.shared.pairs.borrow_mut();
            let Some(pair) = pairs.get_mut(self.shard.index() * shards + to.index()) else {
                return Ok(()); // the run is over and destructors still talk
            };
            if pair.queue.len() >= self.shared.depth {
                return Err(MeshFull(message));
            }
            pair.queue.push_back(message);
        }
        world.record(Kind::MeshSend, [u64::from(self.shard.0), u64::from(to.0), 0]);
        let delay = {
            let mut random = self.shared.random.borrow_mut();
            match random.below(64) {
                0..16 => 0,
                16 => random.below(2_000_000),
                _ => 1_000 + random.below(60_000),
            }
        };
        self.deliver_after(delay, self.shard, to);
        Ok(())
    }

    pub fn on_receive(&self, receive: impl Fn(ShardId, M) + 'static) {
        let before = self.shared.receivers.borrow_mut()[self.shard.index()].replace(Rc::new(receive));
        assert!(before.is_none(), "on_receive is called once");
        for from in 0..self.shared.shards {
            let arrived = {
                let mut pairs = self.shared.pairs.borrow_mut();
                std::mem::take(&mut pairs[from * self.shared.shards + self.shard.index()].arrived)
            };
            for _ in 0..arrived {
                self.deliver_after(0, ShardId(from as u16), self.shard);
            }
        }
    }

    pub fn depth(&self) -> usize {
        self.shared.depth
    }

    fn deliver_after(&self, delay_ns: u64, from: ShardId, to: ShardId) {
        let shared = Rc::clone(&self.shared);
        let place = Place { host: shared.host, shard: to };
        World::current().after(delay_ns, place, move || shared.deliver(from, to));
    }
}

impl<M> Shared<M> {
    /// Hands over the oldest message of the pair, whichever message this arrival was meant for.
    fn deliver(&self, from: ShardId, to: ShardId) {
        let receive = self.receivers.borrow()[to.index()].clone();
        let message = {
            let mut pairs = self.pairs.borrow_mut();
            let pair = &mut pairs[from.index() * self.shards + to.index()];
            if receive.is_none() {
                pair.arrived += 1;
                return;
            }
            pair.queue.pop_front().expect("one arrival per message")
        };
        World::current().record(Kind::MeshReceive, [u64::from(from.0), u64::from(to.0), 0]);
        if let Some(receive) = receive {
            receive(from, message);
        }
    }
}
