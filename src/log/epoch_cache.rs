//! The leader epochs a log's batches were appended in, and where each begins. Followers find by it where their log
//! leaves the leader's, clients whether what they read is still there.
//!
//! Source: Kafka's `LeaderEpochFileCache`.

use std::fmt::Write as _;

use super::Damage;
use super::checkpoint::checkpoint_lines;
use crate::model::{LeaderEpoch, Offset};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    /// Offset of the first batch of that epoch.
    pub start: Offset,
}

/// Entries grow in both columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochEntry>,
}

impl EpochCache {
    /// A batch of `epoch` is appended at `start`. True when the cache changed: the checkpoint is to be written (what is
    /// missing from it after a crash comes back from the batches). Entries that would no longer grow give way to the
    /// new one. A negative epoch or offset changes nothing: batches from before leader epochs have none.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let needed = match self.entries.last() {
            Some(last) => epoch != last.epoch || start < last.start,
            None => true,
        };
        if epoch < LeaderEpoch(0) || start < Offset::ZERO || !needed {
            return false;
        }
        while self.entries.last().is_some_and(|last| last.epoch >= epoch || last.start >= start) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start });
        true
    }

    /// `NONE` when empty.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// The epoch in force at `offset`; `NONE` before the first.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        after.checked_sub(1).map_or(LeaderEpoch::NONE, |at| self.entries[at].epoch)
    }

    /// Kafka's `endOffsetFor`: (epoch, its exclusive end), or (NONE, NONE) when unknown.
    ///
    /// The last epoch ends at the log's end. An older one gives the largest known epoch at or below it and the start
    /// of the next known one. Below all known ones: itself and the first known start. Above: unknown.
    ///
    /// A leadership that has appended nothing is known too: it was assigned when it began.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if epoch == LeaderEpoch::NONE {
            return (LeaderEpoch::NONE, Offset::NONE);
        }
        if epoch == self.last_epoch() {
            return (epoch, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        match (higher.checked_sub(1), self.entries.get(higher)) {
            (_, None) => (LeaderEpoch::NONE, Offset::NONE),
            (None, Some(first)) => (epoch, first.start),
            (Some(floor), Some(next)) => (self.entries[floor].epoch, next.start),
        }
    }

    /// The log now starts at `start`: the epoch in force there begins there, older ones are forgotten. True when the
    /// cache changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start <= start);
        let Some(in_force) = after.checked_sub(1) else { return false };
        if in_force == 0 && self.entries[0].start == start {
            return false;
        }
        self.entries.drain(..in_force);
        self.entries[0].start = start;
        true
    }

    /// The log now ends at `end`. True when the cache changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|entry| entry.start < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The text of `leader-epoch-checkpoint`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            writeln!(text, "{} {}", entry.epoch, entry.start).expect("a String takes everything");
        }
        text
    }

    /// Entries that do not grow give way to later ones, as in [`Self::assign`]. An empty text is an empty cache.
    ///
    /// # Errors
    /// What is wrong; the cache is to be rebuilt from the batches.
    pub fn decode(text: &str) -> Result<EpochCache, Damage> {
        let mut cache = EpochCache::default();
        for line in checkpoint_lines(text)? {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let entry = match fields[..] {
                [epoch, start] => epoch.parse().ok().zip(start.parse().ok()),
                _ => None,
            };
            match entry {
                Some((epoch, start)) if epoch >= 0 && start >= 0 => {
                    cache.assign(LeaderEpoch(epoch), Offset(start))
                }
                _ => return Err(Damage(format!("malformed line in leader epoch checkpoint: {line:?}"))),
            };
        }
        Ok(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(cache: &EpochCache) -> Vec<(i32, i64)> {
        cache.entries().iter().map(|entry| (entry.epoch.0, entry.start.0)).collect()
    }

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for &(epoch, start) in entries {
            assert!(cache.assign(LeaderEpoch(epoch), Offset(start)));
        }
        cache
    }

    #[test]
    fn assign_keeps_both_columns_growing() {
        let check = |add: (i32, i64), changed: bool, expect: &[(i32, i64)]| {
            let mut cache = cache(&[(2, 0), (4, 10), (7, 20)]);
            assert_eq!(cache.assign(LeaderEpoch(add.0), Offset(add.1)), changed, "{add:?}");
            assert_eq!(entries(&cache), expect, "{add:?}");
        };
        check((9, 30), true, &[(2, 0), (4, 10), (7, 20), (9, 30)]);
        // the same epoch goes on
        check((7, 25), false, &[(2, 0), (4, 10), (7, 20)]);
        check((7, 20), false, &[(2, 0), (4, 10), (7, 20)]);
        // after a truncation
        check((7, 15), true, &[(2, 0), (4, 10), (7, 15)]);
        check((9, 20), true, &[(2, 0), (4, 10), (9, 20)]);
        check((9, 5), true, &[(2, 0), (9, 5)]);
        check((9, 0), true, &[(9, 0)]);
        check((5, 30), true, &[(2, 0), (4, 10), (5, 30)]);
        check((4, 30), true, &[(2, 0), (4, 30)]);
        check((-1, 30), false, &[(2, 0), (4, 10), (7, 20)]);
        check((9, -1), false, &[(2, 0), (4, 10), (7, 20)]);
    }

    #[test]
    fn end_offsets_follow_kafka() {
        let cache = cache(&[(2, 5), (4, 10), (7, 20)]);
        for (requested, expect) in [
            (-1, (-1, -1)),
            (0, (0, 5)),
            (1, (1, 5)),
            (2, (2, 10)),
            (3, (2, 10)),
            (4, (4, 20)),
            (6, (4, 20)),
            (7, (7, 33)),
            (8, (-1, -1)),
            (i32::MAX, (-1, -1)),
        ] {
            let (epoch, end) = cache.end_offset_for(LeaderEpoch(requested), Offset(33));
            assert_eq!((epoch.0, end.0), expect, "{requested}");
        }
        let empty = EpochCache::default();
        for requested in [-1, 0, 5] {
            let answer = empty.end_offset_for(LeaderEpoch(requested), Offset(33));
            assert_eq!(answer, (LeaderEpoch::NONE, Offset::NONE));
        }
    }

    #[test]
    fn epoch_in_force() {
        let cache = cache(&[(2, 5), (4, 10)]);
        for (offset, epoch) in [(0, -1), (4, -1), (5, 2), (9, 2), (10, 4), (i64::MAX, 4)] {
            assert_eq!(cache.epoch_at(Offset(offset)), LeaderEpoch(epoch), "{offset}");
        }
        assert_eq!(cache.last_epoch(), LeaderEpoch(4));
        assert_eq!(EpochCache::default().last_epoch(), LeaderEpoch::NONE);
    }

    #[test]
    fn truncations() {
        for (start, changed, expect) in [
            (4, false, &[(2, 5), (4, 10), (7, 20)][..]),
            (5, false, &[(2, 5), (4, 10), (7, 20)]),
            (6, true, &[(2, 6), (4, 10), (7, 20)]),
            (10, true, &[(4, 10), (7, 20)]),
            (15, true, &[(4, 15), (7, 20)]),
            (99, true, &[(7, 99)]),
        ] {
            let mut cache = cache(&[(2, 5), (4, 10), (7, 20)]);
            assert_eq!(cache.truncate_from_start(Offset(start)), changed, "start {start}");
            assert_eq!(entries(&cache), expect, "start {start}");
        }
        for (end, changed, expect) in [
            (99, false, &[(2, 5), (4, 10), (7, 20)][..]),
            (21, false, &[(2, 5), (4, 10), (7, 20)]),
            (20, true, &[(2, 5), (4, 10)]),
            (11, true, &[(2, 5), (4, 10)]),
            (0, true, &[]),
        ] {
            let mut cache = cache(&[(2, 5), (4, 10), (7, 20)]);
            assert_eq!(cache.truncate_from_end(Offset(end)), changed, "end {end}");
            assert_eq!(entries(&cache), expect, "end {end}");
        }
    }

    #[test]
    fn checkpoint_text_is_kafkas_and_comes_back() {
        let cache = cache(&[(0, 0), (4, 10)]);
        assert_eq!(cache.encode(), "0\n2\n0 0\n4 10\n");
        assert_eq!(EpochCache::decode(&cache.encode()).unwrap(), cache);
        assert_eq!(EpochCache::default().encode(), "0\n0\n");
        assert_eq!(EpochCache::decode("").unwrap(), EpochCache::default());
        for damaged in
            ["1\n0\n", "0\n1\n", "0\n1\n1\n", "0\n1\n-1 0\n", "0\n1\n1 -5\n", "0\n1\n1 2 3\n", "0\n1\n1 x\n"]
        {
            assert!(EpochCache::decode(damaged).is_err(), "{damaged:?}");
        }
    }
}
