//! The read-ahead cache: runs of batches read from disk, shared by all consumers at the same place, least recently
//! used dropped first. It has a budget of its own, so that catch-up reads never evict the tail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::run::Run;
use crate::model::Offset;
use crate::reactor::sync::{Receiver, Sender, oneshot};

/// Read-aheads in flight in the shard.
const AHEAD_MAX: usize = 16;

/// A run read from a closed or active segment.
pub struct Chunk {
    pub run: Run,
    pub segment: u64,
    /// It was read where the chunk before it ends: somebody reads in sequence.
    pub sequential: bool,
}

struct Held {
    chunk: Rc<Chunk>,
    /// Key in `order`.
    used: u64,
}

type Key = (u64, Offset);

#[derive(Default)]
struct Inner {
    /// By log and first offset. Chunks of one log may overlap.
    held: BTreeMap<Key, Held>,
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
    /// Who waits for a chunk that is being read, by log and the offset asked for.
    loading: BTreeMap<Key, Vec<Sender<()>>>,
}

pub struct Chunks {
    budget: usize,
    inner: RefCell<Inner>,
    ahead: Cell<usize>,
}

/// Whether the caller is the one to read the chunk.
pub enum Turn {
    Mine,
    /// Somebody is reading it; look again when this resolves.
    Wait(Receiver<()>),
}

impl Chunks {
    pub fn new(budget: usize) -> Chunks {
        Chunks { budget, inner: RefCell::default(), ahead: Cell::new(0) }
    }

    pub fn used_bytes(&self) -> usize {
        self.inner.borrow().bytes
    }

    /// The chunk that holds `offset`.
    pub fn get(&self, log: u64, offset: Offset) -> Option<Rc<Chunk>> {
        let inner = &mut *self.inner.borrow_mut();
        let (&key, held) = inner.held.range_mut(..=(log, offset)).next_back()?;
        if key.0 != log || held.chunk.run.end_offset() <= offset {
            return None;
        }
        inner.order.remove(&held.used);
        inner.clock += 1;
        held.used = inner.clock;
        inner.order.insert(inner.clock, key);
        Some(Rc::clone(&held.chunk))
    }

    /// The chunk that ends where `offset` begins.
    pub fn ending_at(&self, log: u64, offset: Offset) -> Option<Rc<Chunk>> {
        let inner = self.inner.borrow();
        let (&key, held) = inner.held.range(..(log, offset)).next_back()?;
        (key.0 == log && held.chunk.run.end_offset() == offset).then(|| Rc::clone(&held.chunk))
    }

    pub fn insert(&self, log: u64, chunk: Rc<Chunk>) {
        let inner = &mut *self.inner.borrow_mut();
        let key = (log, chunk.run.first_offset());
        inner.bytes += chunk.run.memory_bytes();
        inner.clock += 1;
        inner.order.insert(inner.clock, key);
        if let Some(old) = inner.held.insert(key, Held { chunk, used: inner.clock }) {
            inner.order.remove(&old.used);
            inner.bytes -= old.chunk.run.memory_bytes();
        }
        while inner.bytes > self.budget {
            let Some((_, oldest)) = inner.order.pop_first() else { break };
            if let Some(old) = inner.held.remove(&oldest) {
                inner.bytes -= old.chunk.run.memory_bytes();
            }
        }
    }

    /// The log is gone.
    pub fn forget(&self, log: u64) {
        self.forget_if(log, |_| true);
    }

    /// Other segments have taken the place of these.
    pub fn forget_segments(&self, log: u64, segments: &[u64]) {
        self.forget_if(log, |chunk| segments.contains(&chunk.segment));
    }

    fn forget_if(&self, log: u64, goes: impl Fn(&Chunk) -> bool) {
        let inner = &mut *self.inner.borrow_mut();
        let keys: Vec<Key> = inner
            .held
            .range((log, Offset(i64::MIN))..=(log, Offset(i64::MAX)))
            .filter(|(_, held)| goes(&held.chunk))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            if let Some(old) = inner.held.remove(&key) {
                inner.order.remove(&old.used);
                inner.bytes -= old.chunk.run.memory_bytes();
            }
        }
    }

    /// Takes the turn to read the chunk at `offset`, unless somebody has it. Give it back with [`Self::done`].
    pub fn turn(&self, log: u64, offset: Offset) -> Turn {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(waiting) = inner.loading.get_mut(&(log, offset)) {
            let (sender, receiver) = oneshot();
            waiting.push(sender);
            return Turn::Wait(receiver);
        }
        inner.loading.insert((log, offset), Vec::new());
        Turn::Mine
    }

    pub fn done(&self, log: u64, offset: Offset) {
        let waiting = self.inner.borrow_mut().loading.remove(&(log, offset));
        waiting.into_iter().flatten().for_each(|waiter| waiter.send(()));
    }

    /// Whether one more read-ahead of about `bytes` is sensible; give it back with [`Self::end_ahead`].
    pub fn begin_ahead(&self, log: u64, offset: Offset, bytes: usize) -> bool {
        let room = self.ahead.get() < AHEAD_MAX && bytes * (self.ahead.get() + 2) <= self.budget;
        if !room
            || self.inner.borrow().loading.contains_key(&(log, offset))
            || self.get(log, offset).is_some()
        {
            return false;
        }
        self.ahead.set(self.ahead.get() + 1);
        true
    }

    pub fn end_ahead(&self) {
        self.ahead.set(self.ahead.get() - 1);
    }
}
