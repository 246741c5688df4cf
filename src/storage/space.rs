//! Free space: produce is refused before an offset is assigned when the reserve would be touched.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::directory::Directory;
use super::shard::Shard;
use crate::reactor;

/// How old the file system's answer may be. What is appended in between is subtracted from it.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Free space of one directory as this shard knows it.
pub struct Space {
    free_bytes: Cell<u64>,
    appended_since: Cell<u64>,
    refusing: Cell<bool>,
    /// The operator knows.
    told: Cell<bool>,
}

impl Default for Space {
    /// Until the first sample there is room.
    fn default() -> Space {
        Space {
            free_bytes: Cell::new(u64::MAX),
            appended_since: Cell::new(0),
            refusing: Cell::new(false),
            told: Cell::new(false),
        }
    }
}

impl Space {
    pub fn is_unknown(&self) -> bool {
        self.free_bytes.get() == u64::MAX
    }

    /// What [`Self::reserve`] would still give; `None` before the first sample.
    pub fn until_refusal(&self, reserve: u64) -> Option<u64> {
        let used = self.appended_since.get().saturating_add(reserve);
        (!self.is_unknown()).then(|| self.free_bytes.get().saturating_sub(used))
    }

    /// Takes `bytes` from what is free above `reserve`; false if there is not so much.
    pub fn reserve(&self, bytes: u64, reserve: u64) -> bool {
        let used = self.appended_since.get().saturating_add(bytes);
        if self.free_bytes.get().saturating_sub(used) < reserve {
            self.refusing.set(true);
            return false;
        }
        self.appended_since.set(used);
        true
    }

    /// Notes the file system's answer; `unwritten` bytes of what was appended are not in it yet.
    pub fn sample(&self, free_bytes: u64, unwritten: u64) {
        self.free_bytes.set(free_bytes);
        self.appended_since.set(unwritten);
    }

    /// What the operator should hear now, if anything: produce is refused, or there is room again.
    pub fn news(&self, reserve: u64) -> Option<News> {
        if !self.refusing.get() {
            return None;
        }
        if self.free_bytes.get() > reserve {
            self.refusing.set(false);
            self.told.set(false);
            return Some(News::Room);
        }
        (!self.told.replace(true)).then_some(News::Full)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Full,
    Room,
}

/// Asks the file systems every second while the shard runs.
pub async fn watch(shard: Rc<Shard>) {
    while !shard.stopping.get() {
        let background = shard.background();
        for directory in shard.directories.values() {
            sample(&shard, directory).await;
        }
        drop(background);
        reactor::sleep(SAMPLE_INTERVAL).await;
    }
}

/// Asks one file system now. An answer that does not come changes nothing.
pub async fn sample(shard: &Shard, directory: &Directory) {
    let Ok(space) = reactor::fs::space(&directory.path).await else { return };
    let unwritten = shard.pending_bytes.get() + shard.tails.pinned_bytes();
    directory.space.sample(space.free_bytes, unwritten as u64);
    let path = directory.path.display();
    match directory.space.news(shard.config.reserve_bytes) {
        None => {}
        Some(News::Room) => tracing::info!(directory = %path, "there is room again: produce is accepted"),
        Some(News::Full) => tracing::error!(
            directory = %path,
            free_bytes = space.free_bytes,
            reserve_bytes = shard.config.reserve_bytes,
            "disk is full: produce is refused, fetch goes on; writing resumes by itself when there is room"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_counts_until_the_next_sample() {
        let space = Space::default();
        assert!(space.reserve(1 << 40, 100), "no sample yet");
        assert_eq!(space.until_refusal(100), None);
        space.sample(1_000, 0);
        assert_eq!(space.news(100), None);
        assert!(space.reserve(600, 100));
        assert_eq!(space.until_refusal(100), Some(300));
        assert!(!space.reserve(301, 100), "one byte into the reserve");
        assert!(space.reserve(300, 100), "exactly down to the reserve");
        space.sample(100, 0);
        assert_eq!(space.news(100), Some(News::Full));
        assert_eq!(space.news(100), None, "said once");
        space.sample(1_000, 899);
        assert_eq!(space.news(100), Some(News::Room));
        assert!(!space.reserve(2, 100), "what is not written yet is not free");
        assert!(space.reserve(1, 100));
    }
}
