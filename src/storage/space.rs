//! Free space: produce is refused before an offset is assigned when the reserve would be touched.
//!
//! Every shard asks the file system for itself, so what is free above the reserve is shared out: between two answers no
//! shard takes more than its share, and all of them together not what is reserved. A shard that has used half of its
//! share asks again at once. What one is told counts for all: else the share of one that asked a second ago would be of
//! what the others have taken since.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::directory::Directory;
use super::largest::largest_topics;
use super::shard::{Background, Shard};
use super::state::LogState;
use crate::reactor::{self, Instant};

/// How old the file system's answer may be. What is appended in between is subtracted from it.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon it is asked again by a shard that uses up its share.
const SAMPLE_AGAIN: Duration = Duration::from_millis(10);

/// What any of the shards was last told to be free in a directory, in bytes. Read at each append, written with each
/// answer: once a second and shard, more often only as the disk fills.
#[derive(Clone, Debug)]
pub struct LatestAnswer(Arc<AtomicU64>);

impl Default for LatestAnswer {
    /// Nobody has asked: no limit.
    fn default() -> LatestAnswer {
        LatestAnswer(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

/// Free space of one directory as this shard knows it.
pub struct Space {
    /// As this shard was last told.
    free_bytes: Cell<u64>,
    latest: LatestAnswer,
    appended_since: Cell<u64>,
    /// The most that was refused at once since there was room; 0 if nothing was.
    refused_bytes: Cell<u64>,
    /// The operator knows.
    told: Cell<bool>,
    /// When an append last had the file system asked.
    asked: Cell<Instant>,
}

/// What appends leave alone.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub reserve_bytes: u64,
    /// Who share what is free above it.
    pub shards: usize,
}

impl Kept {
    /// For what may use the last byte.
    pub const NOTHING: Kept = Kept { reserve_bytes: 0, shards: 1 };
}

impl Space {
    /// Until the first sample there is room.
    pub fn new(latest: LatestAnswer) -> Space {
        Space {
            free_bytes: Cell::new(u64::MAX),
            latest,
            appended_since: Cell::new(0),
            refused_bytes: Cell::new(0),
            told: Cell::new(false),
            asked: Cell::default(),
        }
    }

    pub fn is_unknown(&self) -> bool {
        self.free_bytes.get() == u64::MAX
    }

    /// What this shard has appended since its own answer counts against another's newer one, too, though a part of it
    /// may be in it already: at worst it asks again too early.
    fn free_bytes(&self) -> u64 {
        // Relaxed: the number alone is what is shared.
        self.free_bytes.get().min(self.latest.0.load(Ordering::Relaxed))
    }

    /// What [`Self::reserve`] would still give; `None` before the first sample.
    pub fn until_refusal(&self, reserve: u64) -> Option<u64> {
        let used = self.appended_since.get().saturating_add(reserve);
        (!self.is_unknown()).then(|| self.free_bytes().saturating_sub(used))
    }

    /// Takes `bytes` from this shard's share of what is free above the reserve; false if there is not so much.
    pub fn reserve(&self, bytes: u64, kept: Kept) -> bool {
        if bytes > self.left(kept) {
            self.refused_bytes.set(self.refused_bytes.get().max(bytes));
            return false;
        }
        self.appended_since.set(self.appended_since.get().saturating_add(bytes));
        true
    }

    fn left(&self, kept: Kept) -> u64 {
        let above = self.free_bytes().saturating_sub(kept.reserve_bytes);
        (above / kept.shards as u64).saturating_sub(self.appended_since.get())
    }

    /// Half of the share is used up, so a new answer is wanted. Not more often than [`SAMPLE_AGAIN`].
    pub fn wants_sample(&self, kept: Kept) -> bool {
        if self.is_unknown() || self.left(kept) > self.appended_since.get() {
            return false;
        }
        let now = reactor::now();
        let due = now.since(self.asked.get()) >= SAMPLE_AGAIN;
        if due {
            self.asked.set(now);
        }
        due
    }

    /// Notes the file system's answer; `unwritten` bytes of what was appended are not in it yet.
    pub fn sample(&self, free_bytes: u64, unwritten: u64) {
        self.free_bytes.set(free_bytes);
        self.latest.0.store(free_bytes, Ordering::Relaxed);
        self.appended_since.set(unwritten);
    }

    /// What the operator should hear now, if anything: produce is refused, or there is room again for what was refused.
    pub fn news(&self, kept: Kept) -> Option<News> {
        let refused = self.refused_bytes.get();
        if refused == 0 {
            return None;
        }
        if self.left(kept) >= refused {
            self.refused_bytes.set(0);
            return self.told.replace(false).then_some(News::Room);
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
pub async fn sample(shard: &Rc<Shard>, directory: &Rc<Directory>) {
    let Ok(space) = reactor::fs::space(&directory.path).await else { return };
    let unwritten = shard.pending_bytes.get() + shard.tails.pinned_bytes();
    directory.space.sample(space.free_bytes, unwritten as u64);
    match directory.space.news(shard.kept_space()) {
        None => {}
        Some(News::Room) => tracing::info!(
            directory = %directory.path.display(),
            free_bytes = space.free_bytes,
            "there is room again: produce is accepted"
        ),
        Some(News::Full) => {
            reactor::spawn(tell_full(
                shard.background(),
                Rc::clone(shard),
                Rc::clone(directory),
                space.free_bytes,
            ));
        }
    }
}

/// Has the file system asked in the background, if an append has come near the end of what is known to be free.
pub fn sample_soon(log: &LogState) {
    let (shard, directory) = (&log.shard, &log.directory);
    if !directory.space.wants_sample(shard.kept_space()) {
        return;
    }
    let (shard, directory, background) = (Rc::clone(shard), Rc::clone(directory), shard.background());
    reactor::spawn(async move {
        sample(&shard, &directory).await;
        drop(background);
    });
}

/// Tells the operator that produce is refused, and what fills the disk.
async fn tell_full(background: Background, shard: Rc<Shard>, directory: Rc<Directory>, free_bytes: u64) {
    let largest_topics = largest_topics(&shard, &directory.path).await;
    tracing::error!(
        directory = %directory.path.display(),
        free_bytes,
        reserve_bytes = shard.config.reserve_bytes,
        largest_topics,
        "disk is full: produce is refused, fetch goes on; delete topics or records, lower retention, or add space: \
         writing resumes by itself when there is room"
    );
    drop(background);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Kept = Kept { reserve_bytes: 100, shards: 1 };

    #[test]
    fn what_is_appended_counts_until_the_next_sample() {
        let space = Space::new(LatestAnswer::default());
        assert!(space.reserve(1 << 40, KEPT), "no sample yet");
        assert_eq!(space.until_refusal(100), None);
        space.sample(1_000, 0);
        assert_eq!(space.news(KEPT), None);
        assert!(space.reserve(600, KEPT));
        assert_eq!(space.until_refusal(100), Some(300));
        assert!(!space.reserve(301, KEPT), "one byte into the reserve");
        assert!(space.reserve(300, KEPT), "exactly down to the reserve");
        space.sample(100, 0);
        assert_eq!(space.news(KEPT), Some(News::Full));
        assert_eq!(space.news(KEPT), None, "said once");
        space.sample(1_000, 0);
        assert_eq!(space.news(KEPT), Some(News::Room));
        assert_eq!(space.news(KEPT), None, "said once");
        space.sample(1_000, 899);
        assert!(!space.reserve(2, KEPT), "what is not written yet is not free");
        assert!(space.reserve(1, KEPT));
    }

    #[test]
    fn there_is_room_when_what_was_refused_would_fit() {
        let space = Space::new(LatestAnswer::default());
        space.sample(1_000, 0);
        assert!(!space.reserve(950, KEPT) && !space.reserve(920, KEPT));
        space.sample(1_000, 0);
        assert_eq!(space.news(KEPT), Some(News::Full), "above the reserve, but not far enough");
        space.sample(1_049, 0);
        assert_eq!(space.news(KEPT), None);
        space.sample(1_060, 11);
        assert_eq!(space.news(KEPT), None, "what is not written yet is not free");
        space.sample(1_050, 0);
        assert_eq!(space.news(KEPT), Some(News::Room));
        // room that comes before anybody was told is no news
        assert!(!space.reserve(951, KEPT));
        space.sample(2_000, 0);
        assert_eq!(space.news(KEPT), None);
    }

    #[test]
    fn shards_share_what_is_free() {
        let kept = Kept { shards: 4, ..KEPT };
        let latest = LatestAnswer::default();
        let shards: Vec<Space> = (0..4).map(|_| Space::new(latest.clone())).collect();
        shards.iter().for_each(|space| space.sample(1_000, 0));
        let taken = |space: &Space| (0..1_000).filter(|_| space.reserve(1, kept)).count();
        assert_eq!(shards.iter().map(taken).sum::<usize>(), 900, "all together leave the reserve");
        let space = &shards[0];
        space.sample(1_000, 25);
        assert!(!space.reserve(201, kept) && space.reserve(200, kept));
    }

    /// A fast disk is filled between two answers of a shard that has no reason to ask.
    #[test]
    fn what_one_shard_is_told_counts_for_all() {
        let kept = Kept { shards: 2, ..KEPT };
        let latest = LatestAnswer::default();
        let [busy, idle] = [Space::new(latest.clone()), Space::new(latest)];
        let mut free = 1_100;
        [&busy, &idle].iter().for_each(|space| space.sample(free, 0));
        while busy.reserve(1, kept) {
            free -= 1;
            busy.sample(free, 0);
        }
        assert_eq!(free, 101, "the busy one has its half of what is left each time");
        assert!(!idle.reserve(1, kept), "the idle one has the half of what the busy one left");
        busy.sample(1_100, 0);
        assert!(idle.reserve(500, kept) && !idle.reserve(1, kept));
    }
}
