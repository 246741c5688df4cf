//! A bound on log lines that clients can cause: a token bucket per shard.

use std::cell::Cell;

use crate::reactor::Instant;

const BURST: f64 = 20.0;
const LINES_PER_SECOND: f64 = 1.0;

/// Lives on its shard.
pub(super) struct LogRate {
    tokens: Cell<f64>,
    refilled: Cell<Instant>,
    suppressed: Cell<u64>,
}

impl Default for LogRate {
    fn default() -> Self {
        LogRate { tokens: Cell::new(BURST), refilled: Cell::default(), suppressed: Cell::new(0) }
    }
}

impl LogRate {
    /// Whether a line may be written now, and then how many were not since the last that was.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let elapsed = now.since(self.refilled.get()).as_secs_f64();
        self.refilled.set(now);
        let tokens = (self.tokens.get() + elapsed * LINES_PER_SECOND).min(BURST);
        if tokens < 1.0 {
            self.tokens.set(tokens);
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.tokens.set(tokens - 1.0);
        Some(self.suppressed.take())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_a_line_a_second() {
        let rate = LogRate::default();
        let start = Instant(0);
        let written = (0..100).filter(|_| rate.admit(start).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(rate.admit(start.after(Duration::from_millis(900))), None);
        assert_eq!(rate.admit(start.after(Duration::from_millis(1100))), Some(81));
        assert_eq!(rate.admit(start.after(Duration::from_millis(1200))), None);
        assert_eq!(rate.admit(start.after(Duration::from_secs(3600))), Some(1));
    }
}
