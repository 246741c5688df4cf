//! Which shard a connection's requests are about: counted as they come, weighed window by window. Pure.
//!
//! A connection that could be served without crossing between shards wishes to live on the shard that owns what it asks
//! for. A window is so many requests, and so long at least that the shards' figures of how busy they are show what these
//! requests cost. It wishes to move when three quarters of a window concern one other shard; each move doubles
//! the window, so that a connection whose work changes sides settles.
//!
//! One candidate is kept, whatever the number of shards (majority vote: Boyer, Moore 1981), and what it was seen to have
//! since it became one: no more than it has, so a wish is never made on less than three quarters.

use std::time::Duration;

use crate::model::ShardId;
use crate::partition::Concern;
use crate::reactor::Instant;

/// Requests of the first window, and of the longest.
const WINDOW_MIN: u32 = 32;
const WINDOW_MAX: u32 = 4096;
/// A window lasts that long at least: three figures of a shard's load.
const WINDOW_TIME_MIN: Duration = Duration::from_millis(200);

/// One connection's.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    window: u32,
    began: Instant,
    /// Requests in this window.
    counted: u32,
    candidate: Option<ShardId>,
    /// By how many votes the candidate is ahead of all others.
    lead: u32,
    /// Votes for the candidate since it is one.
    votes: u32,
}

impl Tally {
    #[must_use]
    pub fn new(now: Instant) -> Tally {
        Tally { window: WINDOW_MIN, began: now, counted: 0, candidate: None, lead: 0, votes: 0 }
    }

    pub fn count(&mut self, concern: Concern) {
        let shard = match concern {
            Concern::Nobody => return,
            Concern::One(shard) => Some(shard),
            Concern::Several => None,
        };
        self.counted = self.counted.saturating_add(1);
        if shard.is_some() && shard == self.candidate {
            self.lead = self.lead.saturating_add(1);
            self.votes = self.votes.saturating_add(1);
        } else if self.lead > 0 {
            self.lead -= 1;
        } else {
            self.candidate = shard;
            (self.lead, self.votes) = if shard.is_some() { (1, 1) } else { (0, 0) };
        }
    }

    /// At the end of a window the shard, other than `home`, that the connection would rather live on. Unless there is one the
    /// next window begins. A wish that is not granted comes again when some time has passed; after four windows the
    /// requests are counted anew.
    pub fn wish(&mut self, home: ShardId, now: Instant) -> Option<ShardId> {
        if self.counted < self.window || now.since(self.began) < WINDOW_TIME_MIN {
            return None;
        }
        let wished = self.candidate.filter(|candidate| {
            *candidate != home && u64::from(self.votes) * 4 >= u64::from(self.counted) * 3
        });
        if wished.is_some() && self.counted < self.window * 4 {
            self.began = now;
        } else {
            *self = Tally { window: self.window, ..Tally::new(now) };
        }
        wished
    }

    /// The connection lives elsewhere from now on.
    #[must_use]
    pub fn moved(self, now: Instant) -> Tally {
        Tally { window: (self.window * 2).min(WINDOW_MAX), ..Tally::new(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ShardId = ShardId(0);
    const LATER: Instant = Instant(1_000_000_000);

    /// `.`: nobody's, `*`: several shards', a digit: that shard's. The wish at the end.
    fn weigh(requests: &str) -> Option<u16> {
        let mut tally = Tally::new(Instant::default());
        count(&mut tally, requests);
        tally.wish(HOME, LATER).map(|shard| shard.0)
    }

    fn count(tally: &mut Tally, requests: &str) {
        for request in requests.chars() {
            tally.count(match request {
                '.' => Concern::Nobody,
                '*' => Concern::Several,
                digit => Concern::One(ShardId(u16::try_from(digit.to_digit(10).unwrap()).unwrap())),
            });
        }
    }

    #[test]
    fn a_wish_is_for_three_quarters_of_a_window() {
        let check = |parts: &[(&str, usize)], wish: Option<u16>| {
            let requests: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
            assert_eq!(weigh(&requests), wish, "{parts:?}");
        };
        check(&[("1", 32)], Some(1));
        check(&[("1", 31)], None);
        check(&[("1", 31), (".", 100)], None);
        check(&[("0", 32)], None);
        check(&[("*", 32)], None);
        check(&[("12", 16)], None);
        check(&[("1", 24), ("0", 8)], Some(1));
        check(&[("1", 23), ("0", 9)], None);
        check(&[("1", 24), ("*", 8)], Some(1));
        check(&[("1110", 8)], Some(1));
        check(&[("110", 11)], None);
        check(&[("0", 5), ("1", 27)], None); // what it had before it led is not known
        check(&[("0", 2), ("1", 30)], Some(1));
        check(&[("1", 3), ("2", 40)], Some(2));
        check(&[("*", 9), ("3", 40)], Some(3));
        check(&[("123456789", 10)], None);
    }

    #[test]
    fn a_window_takes_its_time() {
        let mut tally = Tally::new(Instant::default());
        let at = |halves: u32| Instant::default().after(WINDOW_TIME_MIN / 2 * halves);
        count(&mut tally, &"1".repeat(100));
        assert_eq!(tally.wish(HOME, at(1)), None);
        assert_eq!(tally.wish(HOME, at(2)), Some(ShardId(1)));
        assert_eq!(tally.wish(HOME, at(3)), None, "it was said just now");
        count(&mut tally, &"1".repeat(28));
        assert_eq!(tally.wish(HOME, at(4)), Some(ShardId(1)));
        count(&mut tally, &"1".repeat(31));
        assert_eq!(tally.wish(HOME, at(6)), None, "counted anew");
        count(&mut tally, "1");
        assert_eq!(tally.wish(HOME, at(6)), Some(ShardId(1)));
    }

    #[test]
    fn whoever_changes_sides_settles() {
        let mut tally = Tally::new(Instant::default());
        let (mut now, mut home) = (LATER, 0);
        let mut requests = Vec::new();
        for _ in 0..10 {
            home = 1 - home;
            let before = ShardId(1 - home);
            let mut taken = 0;
            loop {
                now = now.after(WINDOW_TIME_MIN);
                count(&mut tally, &home.to_string());
                taken += 1;
                if tally.wish(before, now).is_some() {
                    break;
                }
            }
            tally = tally.moved(now);
            requests.push(taken);
        }
        assert_eq!(requests, [32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096]);
    }
}
