//! What the broker tells of itself: the one table of metrics, what a shard counts, and the text a scrape gets.
//!
//! [`TABLE`] names every metric with its kind, unit, labels and meaning, and says where its value comes from, so that
//! what is scraped and what is documented cannot differ. The layers above count into the [`Counter`]s and
//! [`Histogram`]s of [`snapshot`]; a scrape copies them, shard by shard, into a [`Snapshot`], and [`render`] makes one
//! text of all: Prometheus' exposition format 0.0.4.
//!
//! Invariants:
//! * Counting is a store to plain memory of the shard's own: no atomic, no lock, no allocation. Clocks are read by those
//!   who count durations: for a commit when its first batch of a log is queued, and once a round.
//! * Counters only grow while the process lives. They wrap at 2^64.
//! * Raw values are whole numbers: nanoseconds for seconds, bytes, counts. Only the text has fractions.
//!
//! Never here: gathering (`partition/`, `server/admin/`), HTTP.

mod groups;
mod histogram;
mod partitions;
mod render;
pub mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use std::cell::Cell;

pub use groups::{GroupLag, PartitionLag, render_groups};
pub use histogram::Histogram;
pub use partitions::{PartitionOffsets, render_partitions};
pub use render::{CONTENT_TYPE, render};
pub use snapshot::{Node, Scrape, Snapshot};
pub use table::{Kind, Metric, TABLE, Unit, reference_markdown};

/// A number that grows, on one shard.
#[derive(Clone, Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    pub fn increment(&self) {
        self.add(1);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A count of what is there, on one shard.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    pub fn set(&self, count: u64) {
        self.0.set(count);
    }

    pub fn increment(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub fn decrement(&self) {
        self.0.set(self.0.get() - 1);
    }

    /// A part of what it tells was `before` and is `now`.
    pub fn replace(&self, before: u64, now: u64) {
        self.0.set(self.0.get() - before + now);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}
