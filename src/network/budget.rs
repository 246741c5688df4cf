//! The shard's bound on bytes of requests in flight: reserved before a request is received, given back when its
//! reply has left.

use std::cell::Cell;
use std::rc::Rc;

use crate::reactor::sync::Credits;

/// The least a request is charged: what it costs beside its bytes (reply, queue entry, decoded lists).
const CHARGE_BYTES_MIN: u64 = 1024;

/// Lives on its shard in an `Rc`; every connection of the shard draws from it.
pub struct RequestBudget {
    credits: Credits,
    total: u64,
    waiting: Cell<usize>,
}

/// Bytes drawn from the budget; dropping it gives them back.
pub struct Reservation {
    budget: Rc<RequestBudget>,
    bytes: u64,
}

impl RequestBudget {
    #[must_use]
    pub fn new(total_bytes: u64) -> Rc<RequestBudget> {
        assert!(total_bytes >= CHARGE_BYTES_MIN, "a request budget that fits no request");
        Rc::new(RequestBudget {
            credits: Credits::new(total_bytes),
            total: total_bytes,
            waiting: Cell::new(0),
        })
    }

    /// Draws at once if it can be had and nobody is ahead.
    pub fn try_reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = self.charge(bytes);
        self.credits.try_take(bytes).then(|| Reservation { budget: Rc::clone(self), bytes })
    }

    /// Draws, waiting for its turn. A request larger than the whole budget gets all of it.
    pub async fn reserve(self: &Rc<Self>, bytes: usize) -> Reservation {
        if let Some(reservation) = self.try_reserve(bytes) {
            return reservation;
        }
        let bytes = self.charge(bytes);
        self.waiting.set(self.waiting.get() + 1);
        self.credits.take(bytes).await;
        self.waiting.set(self.waiting.get() - 1);
        Reservation { budget: Rc::clone(self), bytes }
    }

    /// Somebody waits for bytes that others hold.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Less than an eighth is left, or somebody waits: receive in small pieces.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.is_contended() || self.credits.free() < self.total / 8
    }

    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.credits.free()
    }

    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    fn charge(&self, bytes: usize) -> u64 {
        (bytes as u64).max(CHARGE_BYTES_MIN).min(self.total)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.credits.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back() {
        let budget = RequestBudget::new(10_000);
        let first = budget.try_reserve(6_000).expect("enough is free");
        let tiny = budget.try_reserve(1).expect("enough is free");
        assert_eq!(budget.free_bytes(), 10_000 - 6_000 - CHARGE_BYTES_MIN);
        assert!(budget.try_reserve(5_000).is_none());
        drop(first);
        let larger_than_all = budget.try_reserve(usize::MAX);
        assert!(larger_than_all.is_none(), "the tiny one still holds some");
        drop(tiny);
        let larger_than_all = budget.try_reserve(usize::MAX).expect("gets all there is");
        assert_eq!(budget.free_bytes(), 0);
        assert!(budget.is_short());
        drop(larger_than_all);
        assert_eq!(budget.free_bytes(), 10_000);
        assert!(!budget.is_short());
    }
}
