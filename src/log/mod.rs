//! Segment and index arithmetic of one partition's log, in Kafka's own formats: file names, offset, time and
//! transaction index, leader epoch cache, checkpoints, producer state and its snapshots, the checks of a produced
//! batch, when to roll, which segments may go, and the verdict on a segment after an unclean stop.
//!
//! Where to start reading: [`indexes`] for what an append does to a segment, [`producer_state`] for idempotence,
//! [`recovery`] for what happens to the bytes found after a crash, [`compaction`] for what a cleaning leaves,
//! [`validate`] for what a client is told.
//!
//! Invariants
//! - Every byte format here is Kafka's (4.4): `kafka-dump-log` reads what we encode, and we read what Kafka wrote.
//! - Bytes from a disk or a client never reach an assertion. A decoder returns an error that says what is wrong; a
//!   count or length read from bytes is checked against the bytes that are there before anything is allocated.
//! - Offsets only grow within a log, leader epochs never decrease, an index is monotonic in both columns.
//! - Iteration order is fixed (ordered maps), so the same input gives the same bytes.
//!
//! Never here: a file, a clock, randomness, a wait. Time is an argument; bytes come and go as slices.

pub mod checkpoint;
pub mod compaction;
pub mod control;
pub mod epoch_cache;
pub mod files;
pub mod indexes;
pub mod journal;
pub mod offset_index;
pub mod producer_snapshot;
pub mod producer_state;
pub mod recovery;
pub mod retention;
pub mod roll;
pub mod time_index;
pub mod truncation;
pub mod txn_index;
pub mod validate;

use std::fmt;

/// What was found wrong in bytes from the disk: one line for the log, lower case, no full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(pub String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

#[cfg(test)]
mod tests;
