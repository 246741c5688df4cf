//! How far a partition's transactions are decided: the last stable offset.
//!
//! A transaction holds it back from its first batch until its marker is below the high watermark. Those that are open are
//! the log's to know; those whose marker is on its way are remembered here. It moves with the high watermark only: a
//! transaction that begins does so above it, and a marker that is appended is not below it yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::model::Offset;
use crate::storage::Ended;

/// Lives in its partition.
#[derive(Default)]
pub(super) struct StableEnd {
    offset: Cell<Offset>,
    /// Transactions whose marker is not below the high watermark yet, by marker.
    ended: RefCell<VecDeque<Ended>>,
}

impl StableEnd {
    pub(super) fn get(&self) -> Offset {
        self.offset.get()
    }

    /// A marker was appended that ends an open transaction.
    pub(super) fn ended(&self, ended: Ended) {
        let mut all = self.ended.borrow_mut();
        assert!(all.back().is_none_or(|last| last.marker < ended.marker), "markers come in order");
        all.push_back(ended);
    }

    /// The high watermark has moved. `first_open`: where the oldest transaction begins that the log has open.
    pub(super) fn advance(&self, high_watermark: Offset, first_open: Option<Offset>) {
        let mut ended = self.ended.borrow_mut();
        while ended.front().is_some_and(|first| first.marker < high_watermark) {
            ended.pop_front();
        }
        let first_ended = ended.iter().map(|ended| ended.first_offset).min();
        let undecided = [first_open, first_ended].into_iter().flatten().min();
        let stable = undecided.map_or(high_watermark, |first| first.min(high_watermark));
        assert!(stable >= self.offset.get(), "the last stable offset never moves back");
        self.offset.set(stable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_holds_it_back_until_its_marker_is_below_the_high_watermark() {
        let stable = StableEnd::default();
        let check = |high_watermark: i64, first_open: Option<i64>, expect: i64| {
            stable.advance(Offset(high_watermark), first_open.map(Offset));
            assert_eq!(stable.get(), Offset(expect), "{high_watermark} {first_open:?}");
        };
        let ended = |first: i64, marker: i64| {
            stable.ended(Ended { first_offset: Offset(first), marker: Offset(marker) });
        };
        check(10, None, 10);
        // begun above the high watermark
        check(12, Some(12), 12);
        check(20, Some(12), 12);
        // another ends first, which is no help
        ended(15, 20);
        check(21, Some(12), 12);
        // both markers are written, none is durable
        ended(12, 25);
        ended(22, 26);
        check(24, None, 12);
        check(25, None, 12);
        check(26, None, 22);
        check(30, None, 30);
        assert!(stable.ended.borrow().is_empty());
    }
}
