//! How far a long run is, on stderr, for somebody who looks at a terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// What is over before this needs no progress.
const PATIENCE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Progress {
    /// `None`: nobody looks.
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// `shares_terminal`: stdout is written to meanwhile, so it must be somewhere else.
    pub(super) fn new(shares_terminal: bool) -> Progress {
        let is_seen =
            std::io::stderr().is_terminal() && !(shares_terminal && std::io::stdout().is_terminal());
        Progress { next: is_seen.then(|| Instant::now() + PATIENCE), is_shown: false }
    }

    pub(super) fn tell(&mut self, records: u64, bytes: u64) {
        self.say(|| format!("{records} records, {:.1} MB", bytes as f64 / 1e6));
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now >= next) {
            self.next = Some(now + INTERVAL);
            self.is_shown = true;
            eprint!("\r{}", what());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprintln!();
        }
    }
}
