//! When what is due: one deadline a key, cheap to put off.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Deadlines by key, milliseconds of the steady clock. A deadline that is put off, as every heartbeat does, costs no move
/// in the queue: the key's place is where it was, and is looked at again when that comes.
#[derive(Debug)]
pub(super) struct Timers<Key> {
    due: HashMap<Key, Due>,
    /// By when a key is looked at next: at its deadline or before.
    queue: BTreeSet<(u64, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    deadline: u64,
    queued: u64,
}

impl<Key> Default for Timers<Key> {
    fn default() -> Self {
        Timers { due: HashMap::new(), queue: BTreeSet::new() }
    }
}

impl<Key: Clone + Eq + Hash + Ord> Timers<Key> {
    /// In place of the deadline the key had.
    pub fn set(&mut self, key: Key, deadline: u64) {
        if let Some(due) = self.due.get_mut(&key) {
            due.deadline = deadline;
            if due.queued <= deadline {
                return;
            }
            self.queue.remove(&(due.queued, key.clone()));
        }
        self.queue.insert((deadline, key.clone()));
        self.due.insert(key, Due { deadline, queued: deadline });
    }

    pub fn cancel(&mut self, key: &Key) {
        if let Some(due) = self.due.remove(key) {
            self.queue.remove(&(due.queued, key.clone()));
        }
    }

    pub fn is_set(&self, key: &Key) -> bool {
        self.due.contains_key(key)
    }

    /// When to ask [`Self::pop`] again: not after the first deadline.
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// A key whose deadline has come; it has none any more.
    pub fn pop(&mut self, now: u64) -> Option<Key> {
        while self.queue.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.queue.pop_first()?;
            let due = self.due.get_mut(&key).expect("what is queued is due");
            if due.deadline <= now {
                self.due.remove(&key);
                return Some(key);
            }
            due.queued = due.deadline;
            self.queue.insert((due.deadline, key));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_of_their_last_deadlines() {
        let mut timers = Timers::default();
        for (key, deadline) in [("a", 10), ("b", 20), ("c", 30), ("a", 40), ("c", 15), ("d", 5)] {
            timers.set(key, deadline);
        }
        timers.cancel(&"d");
        assert!(!timers.is_set(&"d"));
        assert_eq!(timers.next(), Some(10), "where a was first");
        assert_eq!(timers.pop(10), None);
        assert_eq!(timers.pop(39), Some("c"));
        assert_eq!(timers.pop(39), Some("b"));
        assert_eq!((timers.pop(39), timers.next()), (None, Some(40)));
        assert_eq!(timers.pop(40), Some("a"));
        assert_eq!((timers.pop(u64::MAX), timers.next()), (None, None));
        assert!(timers.due.is_empty() && timers.queue.is_empty());
    }

    #[test]
    fn every_key_comes_once_and_not_early() {
        let mut timers = Timers::default();
        let mut state = 7_u64;
        let mut deadlines = HashMap::new();
        for now in 0..5_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 33) % 50;
            if state >> 62 == 0 {
                timers.cancel(&key);
                deadlines.remove(&key);
            } else {
                let deadline = now + (state >> 40) % 100;
                timers.set(key, deadline);
                deadlines.insert(key, deadline);
            }
            let first = deadlines.values().min().copied();
            assert!(timers.next().is_none_or(|next| Some(next) <= first));
            while let Some(key) = timers.pop(now) {
                assert!(deadlines.remove(&key).is_some_and(|deadline| deadline <= now), "{key} at {now}");
            }
            assert!(deadlines.values().all(|deadline| *deadline > now), "one is late at {now}");
        }
    }
}
