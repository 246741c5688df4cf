//! Many futures inside one task: disk work of one round side by side, without a task for each.
//!
//! Every slot has a waker of its own, so a completion polls one future and not all of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// As many as fit one word of ready bits; also as deep as a disk queue needs to be.
pub const LIMIT_MAX: usize = 64;

struct Ready {
    bits: AtomicU64,
    task: Mutex<Waker>,
}

struct Slot {
    bit: u64,
    ready: Arc<Ready>,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.bits.fetch_or(self.bit, Ordering::AcqRel);
        self.ready.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

/// Wakers for the slots, made once and used by round after round.
pub struct Lanes {
    ready: Arc<Ready>,
    wakers: Vec<Waker>,
}

impl Lanes {
    /// At most `limit` futures (clamped to 1 ..= [`LIMIT_MAX`]) run at once.
    #[must_use]
    pub fn new(limit: usize) -> Lanes {
        let ready = Arc::new(Ready { bits: AtomicU64::new(0), task: Mutex::new(Waker::noop().clone()) });
        let wakers = (0..limit.clamp(1, LIMIT_MAX))
            .map(|slot| Waker::from(Arc::new(Slot { bit: 1 << slot, ready: Arc::clone(&ready) })))
            .collect();
        Lanes { ready, wakers }
    }

    /// Runs everything `futures` yields to its end. The iterator is asked for the next one only when a slot is
    /// free, so work done while making a future (copying a buffer) is spread over the round.
    pub async fn run<F: Future<Output = ()>>(&mut self, futures: impl IntoIterator<Item = F>) {
        let mut futures = futures.into_iter().fuse();
        let mut slots: Vec<Pin<Box<Option<F>>>> = Vec::new();
        let mut running = 0;
        self.ready.bits.store(0, Ordering::Release);
        std::future::poll_fn(|context| {
            {
                let mut task = self.ready.task.lock().unwrap_or_else(PoisonError::into_inner);
                task.clone_from(context.waker());
            }
            loop {
                let mut bits = self.ready.bits.swap(0, Ordering::AcqRel);
                while bits != 0 {
                    let slot = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    running -= usize::from(self.step(&mut slots, slot));
                }
                while running < self.wakers.len() {
                    let Some(future) = futures.next() else { break };
                    let slot = vacant(&mut slots);
                    slots[slot].set(Some(future));
                    running += 1;
                    running -= usize::from(self.step(&mut slots, slot));
                }
                if running == 0 {
                    return Poll::Ready(());
                }
                if self.ready.bits.load(Ordering::Acquire) == 0 {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Polls one slot; true if its future ended.
    fn step<F: Future<Output = ()>>(&self, slots: &mut [Pin<Box<Option<F>>>], slot: usize) -> bool {
        let Some(holder) = slots.get_mut(slot) else { return false };
        let Some(future) = holder.as_mut().as_pin_mut() else { return false };
        let ended = future.poll(&mut Context::from_waker(&self.wakers[slot])).is_ready();
        if ended {
            holder.set(None);
        }
        ended
    }
}

fn vacant<F>(slots: &mut Vec<Pin<Box<Option<F>>>>) -> usize {
    if let Some(slot) = slots.iter().position(|holder| holder.is_none()) {
        return slot;
    }
    slots.push(Box::pin(None));
    slots.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    /// Pends once per count, waking itself.
    async fn steps(count: usize) {
        let mut left = count;
        std::future::poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn finish(mut future: Pin<&mut impl Future<Output = ()>>) {
        for _ in 0..1_000 {
            if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                return;
            }
        }
        panic!("did not end");
    }

    #[test]
    fn all_run_and_no_more_than_the_limit_at_once() {
        let (running, most, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let mut lanes = Lanes::new(3);
        for _ in 0..2 {
            done.set(0);
            let futures = (0..20).map(|n| {
                let (running, most, done) = (Rc::clone(&running), Rc::clone(&most), Rc::clone(&done));
                async move {
                    running.set(running.get() + 1);
                    most.set(most.get().max(running.get()));
                    steps(n % 4).await;
                    running.set(running.get() - 1);
                    done.set(done.get() + 1);
                }
            });
            finish(Box::pin(lanes.run(futures)).as_mut());
            assert_eq!((done.get(), most.get(), running.get()), (20, 3, 0));
        }
    }

    #[test]
    fn a_wake_polls_only_its_own_future() {
        let wakers = Rc::new(RefCell::new(Vec::new()));
        let polls = Rc::new(RefCell::new([0; 2]));
        let open = Rc::new(Cell::new(false));
        let mut lanes = Lanes::new(64);
        let futures = (0..2).map(|n| {
            let (wakers, polls, open) = (Rc::clone(&wakers), Rc::clone(&polls), Rc::clone(&open));
            std::future::poll_fn(move |context| {
                polls.borrow_mut()[n] += 1;
                wakers.borrow_mut().push(context.waker().clone());
                if open.get() { Poll::Ready(()) } else { Poll::Pending }
            })
        });
        let mut all = Box::pin(lanes.run(futures));
        let mut poll = || all.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        wakers.borrow()[1].wake_by_ref();
        assert!(poll().is_pending());
        assert_eq!(*polls.borrow(), [1, 2]);
        open.set(true);
        wakers.borrow()[0].wake_by_ref();
        wakers.borrow()[1].wake_by_ref();
        assert!(poll().is_ready());
    }
}
