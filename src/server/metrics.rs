//! What this shard's connections have done: plain counters, read by whoever scrapes.

use std::array;
use std::cell::Cell;
use std::time::Duration;

use crate::model::ErrorCode;
use crate::protocol::api::Api;

/// Keys below this have counters of their own place.
const APIS: usize = 128;

/// Lives on its shard.
pub struct Metrics {
    /// By API key.
    apis: [ApiCounts; APIS],
    pub connections_accepted: Cell<u64>,
    /// Turned away by a limit.
    pub connections_refused: Cell<u64>,
    /// Closed because of something they sent.
    pub connections_rejected: Cell<u64>,
}

/// One API's counts since the start.
#[derive(Default)]
pub struct ApiCounts {
    pub requests: Cell<u64>,
    /// Replies that carry an error.
    pub errors: Cell<u64>,
    /// From the frame's last byte until the reply is ready, summed.
    pub nanoseconds: Cell<u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            apis: array::from_fn(|_| ApiCounts::default()),
            connections_accepted: Cell::new(0),
            connections_refused: Cell::new(0),
            connections_rejected: Cell::new(0),
        }
    }
}

impl Metrics {
    #[must_use]
    pub fn api(&self, api: Api) -> &ApiCounts {
        let place = usize::try_from(api.key()).ok().filter(|&place| place < APIS);
        &self.apis[place.expect("API keys are small")]
    }

    pub(super) fn count_reply(&self, api: Api, error: ErrorCode, took: Duration) {
        let counts = self.api(api);
        bump(&counts.requests);
        if !error.is_none() {
            bump(&counts.errors);
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counts.nanoseconds.set(counts.nanoseconds.get().wrapping_add(took));
    }
}

pub(super) fn bump(counter: &Cell<u64>) {
    counter.set(counter.get().wrapping_add(1));
}
