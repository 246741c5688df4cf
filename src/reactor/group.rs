//! The shards of one [`run`](super::run), seen from any of them: how to get their attention, how busy
//! they are, who is done, and is it time to go.
//!
//! A shard that is done stays alive, with its channels, tasks and timers, until all are: others may still be waiting
//! for its answer. Atomics, since it is shared between threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::bell::Bell;
use super::driver::Driver;
use super::load::Load;
use crate::model::ShardId;

pub(super) struct Group {
    bells: Vec<Arc<Bell>>,
    loads: Vec<Arc<Load>>,
    running: AtomicUsize,
    /// All are done: channels may close from here on.
    closing: AtomicBool,
}

impl Group {
    pub(super) fn new(count: usize) -> io::Result<Group> {
        let bells = (0..count).map(|_| Bell::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let loads = (0..count).map(|_| Arc::default()).collect();
        Ok(Group { bells, loads, running: AtomicUsize::new(count), closing: AtomicBool::new(false) })
    }

    pub(super) fn count(&self) -> usize {
        self.bells.len()
    }

    pub(super) fn bell(&self, shard: ShardId) -> &Arc<Bell> {
        &self.bells[shard.index()]
    }

    pub(super) fn load(&self, shard: ShardId) -> &Arc<Load> {
        &self.loads[shard.index()]
    }

    /// Says that this shard is done, and waits for the others. Awaited once per shard.
    pub(super) async fn all_done(&self, own: &Driver) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.closing.store(true, Ordering::Release);
            self.bells.iter().for_each(|bell| bell.ring());
        }
        while !self.closing.load(Ordering::Acquire) {
            own.next_bell().await;
        }
    }

    /// A channel is closed at the other end: in order at the end of the process, and fatal before it.
    pub(super) fn peer_is_gone(&self, peer: ShardId) {
        if !self.closing.load(Ordering::Acquire) {
            super::crash::fatal(&format!("shard {} is gone while others run", peer.0));
        }
    }
}
