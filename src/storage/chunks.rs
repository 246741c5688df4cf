//! The read-ahead cache: runs of batches read from disk, shared by all consumers at the same place, least recently
//! used dropped first. It has a budget of its own, so that catch-up reads never evict the tail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::run::Run;
use crate::model::Offset;
use crate::reactor::sync::{Credits, Receiver, Sender, oneshot};

/// Chunks that are kept in front of one who reads in sequence: the disk has the next to do while one is checked and
/// sent.
pub const AHEAD_CHUNKS: usize = 3;
/// Read-aheads of the shard that have begun, and of them those that the disk has: more of them only wait there, in front
/// of what somebody waits for.
const AHEAD_MAX: usize = 16;
const READS_MAX: u64 = 4;
/// Parts of the budget that what nobody has asked for yet may take: before the first chunk in front of a reader is
/// read, and before the others are. With many readers each has one, and none pushes out another's.
const NEAR_SHARE: usize = 2;
const FAR_SHARE: usize = 4;

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
    /// It was read ahead, and nobody has come for it yet.
    unread: bool,
}

/// A chunk that is being read.
struct Loading {
    waiting: Vec<Sender<()>>,
    /// How many to read behind it.
    ahead: usize,
}

type Key = (u64, Offset);

#[derive(Default)]
struct Inner {
    /// By log and first offset. Chunks of one log may overlap.
    held: BTreeMap<Key, Held>,
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
    unread_bytes: usize,
    /// By log and the offset asked for.
    loading: BTreeMap<Key, Loading>,
}

impl Inner {
    fn peek(&self, log: u64, offset: Offset) -> Option<&Chunk> {
        let (&key, held) = self.held.range(..=(log, offset)).next_back()?;
        (key.0 == log && held.chunk.run.end_offset() > offset).then_some(&*held.chunk)
    }

    fn drop_held(&mut self, held: &Held) {
        self.order.remove(&held.used);
        let bytes = held.chunk.run.memory_bytes();
        self.bytes -= bytes;
        self.unread_bytes -= if held.unread { bytes } else { 0 };
    }
}

pub struct Chunks {
    budget: usize,
    inner: RefCell<Inner>,
    ahead: Cell<usize>,
    /// One for each read-ahead that may go to the disk.
    pub reads: Credits,
}

/// Whether somebody has asked for a chunk already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Now,
    Later,
}

/// Whether the caller is the one to read the chunk.
pub enum Turn {
    Mine,
    /// Somebody is reading it; look again when this resolves.
    Wait(Receiver<()>),
}

impl Chunks {
    pub fn new(budget: usize) -> Chunks {
        Chunks { budget, inner: RefCell::default(), ahead: Cell::new(0), reads: Credits::new(READS_MAX) }
    }

    pub fn used_bytes(&self) -> usize {
        self.inner.borrow().bytes
    }

    /// Of them, what was read ahead and nobody has come for yet.
    #[cfg(test)]
    pub fn unread_bytes(&self) -> usize {
        self.inner.borrow().unread_bytes
    }

    /// Read-aheads that have not ended.
    #[cfg(test)]
    pub fn aheads(&self) -> usize {
        self.ahead.get()
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
        if std::mem::take(&mut held.unread) {
            inner.unread_bytes -= held.chunk.run.memory_bytes();
        }
        Some(Rc::clone(&held.chunk))
    }

    /// The chunk that ends where `offset` begins.
    pub fn ending_at(&self, log: u64, offset: Offset) -> Option<Rc<Chunk>> {
        let inner = self.inner.borrow();
        let (&key, held) = inner.held.range(..(log, offset)).next_back()?;
        (key.0 == log && held.chunk.run.end_offset() == offset).then(|| Rc::clone(&held.chunk))
    }

    pub fn insert(&self, log: u64, chunk: Rc<Chunk>, asked: Asked) {
        let unread = asked == Asked::Later;
        let inner = &mut *self.inner.borrow_mut();
        let key = (log, chunk.run.first_offset());
        let bytes = chunk.run.memory_bytes();
        inner.bytes += bytes;
        inner.unread_bytes += if unread { bytes } else { 0 };
        inner.clock += 1;
        inner.order.insert(inner.clock, key);
        if let Some(old) = inner.held.insert(key, Held { chunk, used: inner.clock, unread }) {
            inner.drop_held(&old);
        }
        while inner.bytes > self.budget {
            let Some((_, oldest)) = inner.order.pop_first() else { break };
            if let Some(old) = inner.held.remove(&oldest) {
                inner.drop_held(&old);
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
                inner.drop_held(&old);
            }
        }
    }

    /// Takes the turn to read the chunk at `offset`, and `ahead` more behind it, unless somebody has it. Give it back
    /// with [`Self::done`].
    pub fn turn(&self, log: u64, offset: Offset, ahead: usize) -> Turn {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(loading) = inner.loading.get_mut(&(log, offset)) {
            let (sender, receiver) = oneshot();
            loading.waiting.push(sender);
            return Turn::Wait(receiver);
        }
        inner.loading.insert((log, offset), Loading { waiting: Vec::new(), ahead });
        Turn::Mine
    }

    pub fn done(&self, log: u64, offset: Offset) {
        let loading = self.inner.borrow_mut().loading.remove(&(log, offset));
        loading.into_iter().flat_map(|loading| loading.waiting).for_each(|waiter| waiter.send(()));
    }

    /// How many chunks to read behind the one at `offset`, which is being read.
    pub fn ahead(&self, log: u64, offset: Offset) -> usize {
        self.inner.borrow().loading.get(&(log, offset)).map_or(0, |loading| loading.ahead)
    }

    /// Of `ahead` chunks from `next` on, the first that is neither here nor on its way, and how many are missing from
    /// there. `None` if none is, or if one is on its way, which then goes on with the others.
    pub fn missing(&self, log: u64, mut next: Offset, ahead: usize) -> Option<(Offset, usize)> {
        let inner = &mut *self.inner.borrow_mut();
        for left in (1..=ahead).rev() {
            if let Some(loading) = inner.loading.get_mut(&(log, next)) {
                loading.ahead = loading.ahead.max(left - 1);
                return None;
            }
            match inner.peek(log, next) {
                Some(chunk) => next = chunk.run.end_offset(),
                None => return Some((next, left)),
            }
        }
        None
    }

    /// Whether there is room to read about `bytes` ahead, `near` to the reader or in front of others; it ends with
    /// [`Self::end_ahead`].
    pub fn begin_ahead(&self, bytes: usize, near: bool) -> bool {
        let coming = bytes * (self.ahead.get() + 1);
        let share = self.budget / if near { NEAR_SHARE } else { FAR_SHARE };
        if self.ahead.get() >= AHEAD_MAX || self.inner.borrow().unread_bytes + coming > share {
            return false;
        }
        self.ahead.set(self.ahead.get() + 1);
        true
    }

    pub fn end_ahead(&self) {
        self.ahead.set(self.ahead.get() - 1);
    }
}
