//! The shard's bound on bytes of requests in flight: reserved before they are received, given back when the reply has
//! left.
//!
//! A request reserves a little when its size is known and more as its bytes arrive, so that a client that announces
//! 90 MiB and falls silent holds 16 KiB. What is taken later, the extensions, may be half of the budget: however many
//! large requests are under way, small ones find room. And since requests that hold a part and wait for more could
//! wait for each other for ever, one at a time may go on without drawing from the budget.
//!
//! So a shard holds at most its budget and one request of the largest size.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::reactor::sync::{Sender, oneshot};

/// The least a request is charged: what it costs beside its bytes (reply, queue entry, decoded lists).
const CHARGE_BYTES_MIN: u64 = 1024;

/// Lives on its shard in an `Rc`; every connection of the shard draws from it.
pub struct RequestBudget {
    total: u64,
    state: RefCell<State>,
}

struct State {
    free: u64,
    /// What extensions may still take of it.
    free_for_extensions: u64,
    /// Somebody goes on beyond the budget.
    exempt: bool,
    /// Received by connections and not yet cut into requests.
    uncut: u64,
    requests: VecDeque<(u64, Sender<()>)>,
    extensions: VecDeque<(u64, Sender<Extension>)>,
}

/// How an extension was granted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extension {
    Drawn,
    /// This one and all further ones of the same request cost nothing.
    Exempt,
}

/// Bytes drawn from the budget; dropping it gives them back.
pub struct Reservation {
    budget: Rc<RequestBudget>,
    /// What it is good for.
    bytes: u64,
    drawn: u64,
    /// The part of `drawn` that came from extensions.
    extended: u64,
    exempt: bool,
}

impl RequestBudget {
    #[must_use]
    pub fn new(total_bytes: u64) -> Rc<RequestBudget> {
        assert!(total_bytes >= CHARGE_BYTES_MIN, "a request budget that fits no request");
        let state = State {
            free: total_bytes,
            free_for_extensions: total_bytes / 2,
            exempt: false,
            uncut: 0,
            requests: VecDeque::new(),
            extensions: VecDeque::new(),
        };
        Rc::new(RequestBudget { total: total_bytes, state: RefCell::new(state) })
    }

    /// Draws at once if it can be had and nobody is ahead.
    pub fn try_reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = self.charge(bytes);
        let mut state = self.state.borrow_mut();
        if !state.requests.is_empty() || state.free < bytes {
            return None;
        }
        state.free -= bytes;
        drop(state);
        Some(self.reservation(bytes))
    }

    /// Draws, waiting for its turn. The future must be polled to its end: what it was given would be lost.
    pub async fn reserve(self: &Rc<Self>, bytes: usize) -> Reservation {
        if let Some(reservation) = self.try_reserve(bytes) {
            return reservation;
        }
        let bytes = self.charge(bytes);
        let (sender, receiver) = oneshot();
        self.state.borrow_mut().requests.push_back((bytes, sender));
        receiver.await.expect("waiters are granted, never dropped");
        self.reservation(bytes)
    }

    /// Somebody waits for bytes that others hold.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        let state = self.state.borrow();
        !state.requests.is_empty() || !state.extensions.is_empty()
    }

    /// Less than an eighth is left, or somebody waits: receive in small pieces.
    #[must_use]
    pub fn is_short(&self) -> bool {
        let state = self.state.borrow();
        self.is_contended() || state.free < self.total / 8 + state.uncut
    }

    /// What a connection has received and not cut into requests was `before` and is `now` bytes. It is no part of
    /// the budget, since it is there already, but counts for [`Self::is_short`].
    pub(super) fn note_received(&self, before: usize, now: usize) {
        if before != now {
            let mut state = self.state.borrow_mut();
            state.uncut = state.uncut - before as u64 + now as u64;
        }
    }

    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.state.borrow().free
    }

    fn charge(&self, bytes: usize) -> u64 {
        (bytes as u64).max(CHARGE_BYTES_MIN).min(self.total)
    }

    fn reservation(self: &Rc<Self>, bytes: u64) -> Reservation {
        Reservation { budget: Rc::clone(self), bytes, drawn: bytes, extended: 0, exempt: false }
    }

    /// Grants what can be granted now: requests first, they are small.
    fn grant(&self) {
        let mut requests = Vec::new();
        let mut extensions = Vec::new();
        {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            while state.requests.front().is_some_and(|&(bytes, _)| bytes <= state.free) {
                let (bytes, sender) = state.requests.pop_front().expect("looked at above");
                state.free -= bytes;
                requests.push(sender);
            }
            while let Some(&(bytes, _)) = state.extensions.front() {
                let Some(granted) = state.extend(bytes) else { break };
                let (_, sender) = state.extensions.pop_front().expect("looked at above");
                extensions.push((sender, granted));
            }
        }
        requests.into_iter().for_each(|sender| sender.send(()));
        extensions.into_iter().for_each(|(sender, granted)| sender.send(granted));
    }
}

impl State {
    fn extend(&mut self, bytes: u64) -> Option<Extension> {
        if self.requests.is_empty() && bytes <= self.free.min(self.free_for_extensions) {
            self.free -= bytes;
            self.free_for_extensions -= bytes;
            return Some(Extension::Drawn);
        }
        (!std::mem::replace(&mut self.exempt, true)).then_some(Extension::Exempt)
    }
}

impl Reservation {
    /// How many bytes of the request may be received.
    #[must_use]
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Extends to `bytes` at once if that can be had and nobody is ahead.
    pub fn try_extend(&mut self, bytes: usize) -> bool {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 || self.exempt {
            self.bytes += more;
            return true;
        }
        let mut state = self.budget.state.borrow_mut();
        let granted = if state.extensions.is_empty() { state.extend(more) } else { None };
        drop(state);
        granted.map(|granted| self.extended(more, granted)).is_some()
    }

    /// Extends to `bytes`, waiting for its turn. The future must be polled to its end.
    pub async fn extend(&mut self, bytes: usize) {
        if self.try_extend(bytes) {
            return;
        }
        let more = (bytes as u64).saturating_sub(self.bytes);
        let (sender, receiver) = oneshot();
        self.budget.state.borrow_mut().extensions.push_back((more, sender));
        let granted = receiver.await.expect("waiters are granted, never dropped");
        self.extended(more, granted);
    }

    fn extended(&mut self, more: u64, granted: Extension) {
        self.bytes += more;
        match granted {
            Extension::Drawn => {
                self.drawn += more;
                self.extended += more;
            }
            Extension::Exempt => self.exempt = true,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        {
            let mut state = self.budget.state.borrow_mut();
            state.free += self.drawn;
            state.free_for_extensions += self.extended;
            state.exempt &= !self.exempt;
        }
        self.budget.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_reserved_comes_back() {
        let budget = RequestBudget::new(10_000);
        let first = budget.try_reserve(6_000).expect("enough is free");
        let tiny = budget.try_reserve(1).expect("enough is free");
        assert_eq!(budget.free_bytes(), 10_000 - 6_000 - CHARGE_BYTES_MIN);
        assert!(budget.try_reserve(5_000).is_none());
        let mut waiting = pin!(budget.reserve(5_000));
        assert!(is_ready(waiting.as_mut()).is_none());
        assert!(budget.is_contended() && budget.try_reserve(1).is_none(), "somebody is ahead");
        drop(first);
        let waiting = is_ready(waiting).expect("the first one's bytes");
        assert!(!budget.is_contended());
        drop((tiny, waiting));
        let larger_than_all = budget.try_reserve(usize::MAX).expect("gets all there is");
        assert_eq!(budget.free_bytes(), 0);
        assert!(budget.is_short());
        drop(larger_than_all);
        assert_eq!(budget.free_bytes(), 10_000);
        assert!(!budget.is_short());
    }

    #[test]
    fn extensions_take_half_and_one_goes_on() {
        let budget = RequestBudget::new(100_000);
        let [mut a, mut b, mut c] = [(); 3].map(|()| budget.try_reserve(2_000).expect("all is free"));
        assert!(a.try_extend(40_000));
        assert!(b.try_extend(30_000), "exempt: the half is used up");
        assert_eq!(budget.free_bytes(), 100_000 - 40_000 - 2 * 2_000);
        assert!(b.try_extend(30_000_000), "and stays so");
        assert!(!c.try_extend(30_000));
        {
            let mut more = pin!(c.extend(30_000));
            assert!(is_ready(more.as_mut()).is_none());
            let small = budget.try_reserve(10_000).expect("small requests go on");
            drop(small);
            assert!(is_ready(more.as_mut()).is_none());
            drop(b);
            assert!(is_ready(more).is_some(), "exempt in its turn");
        }
        assert_eq!((a.bytes(), c.bytes()), (40_000, 30_000));
        drop((a, c));
        assert_eq!(budget.free_bytes(), 100_000);
        let mut alone = budget.try_reserve(10).expect("all is free");
        assert!(alone.try_extend(51_000), "drawn");
        assert_eq!(budget.free_bytes(), 100_000 - 51_000);
        drop(alone);
        assert_eq!(budget.free_bytes(), 100_000);
    }
}
