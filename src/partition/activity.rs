//! How much a shard's partitions have had to do of late: what placement balances new partitions by.

use std::cell::Cell;
use std::time::Duration;

use crate::reactor::{Instant, now};

/// After so long what was done counts half.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// What a batch or a read takes beside its bytes, as so many more of them: a small request costs some 50 µs, a kilobyte
/// of a large one half a microsecond, and half of that is the connection's, which may be on another shard.
const CALL_BYTES: f64 = 65_536.0;

/// Bytes appended and read, and calls for it, fading. Lives on its shard.
#[derive(Debug, Default)]
pub(super) struct Activity {
    done: Cell<f64>,
    expected: Cell<f64>,
    faded_at: Cell<Instant>,
}

/// How much a shard's partitions have to do, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// What they have done of late.
    pub done: u64,
    /// What new ones are taken to do, which they may not have shown yet. No measure of what to expect of others: that would
    /// feed on itself.
    pub expected: u64,
}

impl Activity {
    /// One batch was appended, or one partition read.
    pub(super) fn add(&self, bytes: usize) {
        self.done.set(self.done.get() + bytes as f64 + CALL_BYTES);
    }

    /// A new partition comes: until it shows what it does, it counts as what others do.
    pub(super) fn expect(&self, bytes: u64) {
        self.expected.set(self.expected.get() + bytes as f64);
    }

    /// What it comes to now. To be asked often: what was added since the last time fades as if it had been there all along.
    pub(super) fn fade(&self) -> Work {
        let at = now();
        let halves = at.since(self.faded_at.replace(at)).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let share = 0.5_f64.powf(halves);
        let fade = |bytes: &Cell<f64>| {
            bytes.set(bytes.get() * share);
            bytes.get() as u64
        };
        Work { done: fade(&self.done), expected: fade(&self.expected) }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::reactor::sim::Simulation;
    use crate::reactor::{ShardContext, sleep};

    #[test]
    fn it_fades() {
        let outcome = Simulation::new(1).time_limit(HALF_LIFE * 5).run(|_: ShardContext<()>| async {
            let activity = Rc::new(Activity::default());
            assert_eq!(activity.fade(), Work::default());
            activity.expect(400_000);
            activity.add(1_000_000 - CALL_BYTES as usize);
            let mut found = vec![activity.fade()];
            for _ in 0..2 {
                sleep(HALF_LIFE).await;
                found.push(activity.fade());
            }
            found
        });
        let work = |done, expected| Work { done, expected };
        assert_eq!(
            outcome.done(),
            [[work(1_000_000, 400_000), work(500_000, 200_000), work(250_000, 100_000)]]
        );
    }
}
