//! A fetch that found too little and waits on this shard for its partitions to move.

use std::cell::Cell;

use crate::reactor::sync::Notify;

/// Registered in every partition it waits for, until its owner takes it out again.
#[derive(Default)]
pub(super) struct Parked {
    /// A partition's high watermark moved, or the wait was called off.
    pub(super) moved: Notify,
    pub(super) called_off: Cell<bool>,
}

impl Parked {
    pub(super) fn call_off(&self) {
        self.called_off.set(true);
        self.moved.notify();
    }
}
