//! Closed segments whose file is open or whose indexes are in memory: a bounded number of them, oldest dropped first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::segment::Segment;
use crate::log::txn_index::AbortedTxn;
use crate::log::{offset_index, time_index};

/// Open files of closed segments, and memory of their indexes (a full segment of 1 GiB has 5 MiB).
const SEGMENTS_MAX: usize = 256;
const INDEX_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
pub struct Warm {
    order: RefCell<VecDeque<Weak<Segment>>>,
}

impl Warm {
    /// The segment's file was opened or its indexes loaded just now, or it was closed with both in memory.
    pub fn note(&self, segment: &Rc<Segment>) {
        let mut order = self.order.borrow_mut();
        order.retain(|other| other.upgrade().is_some_and(|other| other.id != segment.id));
        order.push_back(Rc::downgrade(segment));
        let mut bytes: usize =
            order.iter().filter_map(Weak::upgrade).map(|segment| index_bytes(&segment)).sum();
        while order.len() > 1 && (order.len() > SEGMENTS_MAX || bytes > INDEX_BYTES_MAX) {
            let Some(oldest) = order.pop_front().and_then(|oldest| oldest.upgrade()) else { continue };
            bytes -= index_bytes(&oldest);
            oldest.drop_file();
            *oldest.indexes.borrow_mut() = None;
            oldest.drop_aborts();
        }
    }
}

fn index_bytes(segment: &Segment) -> usize {
    let aborts = segment.aborts_in_memory() * size_of::<AbortedTxn>();
    aborts
        + segment.indexes.borrow().as_ref().map_or(0, |indexes| {
            indexes.offsets.len() * offset_index::ENTRY_BYTES + indexes.times.len() * time_index::ENTRY_BYTES
        })
}
