//! Waiting within one shard: a value that comes once, an event, counted credits. No atomics, no locks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct OneShot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

/// The side that gives the value.
pub struct Sender<T>(Rc<RefCell<OneShot<T>>>);

/// The side that waits for it; resolves to `None` when the sender was dropped without a value.
pub struct Receiver<T>(Rc<RefCell<OneShot<T>>>);

/// A value that comes once.
#[must_use]
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(RefCell::new(OneShot { value: None, waker: None, sender_gone: false }));
    (Sender(Rc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }

    /// Nobody waits any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = self.0.borrow_mut();
            shared.sender_gone = true;
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = self.0.borrow_mut();
        if let Some(value) = shared.value.take() {
            return Poll::Ready(Some(value));
        }
        if shared.sender_gone {
            return Poll::Ready(None);
        }
        shared.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// An event that tasks wait for; a notification that nobody waits for is remembered once.
#[derive(Default)]
pub struct Notify {
    state: RefCell<NotifyState>,
}

#[derive(Default)]
struct NotifyState {
    pending: bool,
    waiters: Vec<Waker>,
}

impl Notify {
    pub fn notify(&self) {
        let waiters = {
            let mut state = self.state.borrow_mut();
            state.pending = true;
            std::mem::take(&mut state.waiters)
        };
        for waker in waiters {
            waker.wake();
        }
    }

    /// Returns at once if notified since the last return, else on the next notification. One waiter takes it.
    pub async fn notified(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if std::mem::take(&mut state.pending) {
                return Poll::Ready(());
            }
            // A task that gave up waiting and waits again is still in the list: once is enough. Clones are compared: the
            // context's own waker may have another table than they.
            let waker = context.waker().clone();
            if !state.waiters.iter().any(|waiter| waiter.will_wake(&waker)) {
                state.waiters.push(waker);
            }
            Poll::Pending
        })
        .await;
    }
}

/// Counted credits, given in the order they were asked for.
pub struct Credits {
    state: RefCell<CreditState>,
}

struct CreditState {
    free: u64,
    waiting: VecDeque<(u64, Sender<()>)>,
}

impl Credits {
    #[must_use]
    pub fn new(total: u64) -> Credits {
        Credits { state: RefCell::new(CreditState { free: total, waiting: VecDeque::new() }) }
    }

    #[must_use]
    pub fn free(&self) -> u64 {
        self.state.borrow().free
    }

    /// Takes `count` if they are free and nobody is ahead in the queue.
    pub fn try_take(&self, count: u64) -> bool {
        let mut state = self.state.borrow_mut();
        let granted = state.waiting.is_empty() && state.free >= count;
        if granted {
            state.free -= count;
        }
        granted
    }

    /// Takes `count`, waiting for its turn. The future must be polled to its end once started: a granted
    /// credit that is dropped unreceived is lost (`count` above the total waits for ever; callers clamp).
    pub async fn take(&self, count: u64) {
        if self.try_take(count) {
            return;
        }
        let (sender, receiver) = oneshot();
        self.state.borrow_mut().waiting.push_back((count, sender));
        receiver.await;
    }

    pub fn give(&self, count: u64) {
        let mut granted = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            state.free += count;
            while let Some(&(wanted, _)) = state.waiting.front() {
                if wanted > state.free {
                    break;
                }
                state.free -= wanted;
                granted.extend(state.waiting.pop_front());
            }
        }
        for (wanted, sender) in granted {
            if sender.is_abandoned() { self.give(wanted) } else { sender.send(()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn oneshot_gives_the_value_or_says_that_none_will_come() {
        let (sender, receiver) = oneshot();
        let mut receiver = Box::pin(receiver);
        assert!(poll(receiver.as_mut()).is_pending());
        sender.send(7);
        assert_eq!(poll(receiver.as_mut()), Poll::Ready(Some(7)));

        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(poll(Box::pin(receiver).as_mut()), Poll::Ready(None));
    }

    #[test]
    fn credits_are_given_in_order() {
        let credits = Credits::new(3);
        assert!(credits.try_take(2));
        let mut large = Box::pin(credits.take(3));
        assert!(poll(large.as_mut()).is_pending());
        assert!(!credits.try_take(1), "one free, but somebody is ahead");
        credits.give(2);
        assert!(poll(large.as_mut()).is_ready());
        assert_eq!(credits.free(), 0);
    }

    #[test]
    fn notify_is_remembered_once() {
        let notify = Notify::default();
        notify.notify();
        notify.notify();
        assert!(poll(Box::pin(notify.notified()).as_mut()).is_ready());
        assert!(poll(Box::pin(notify.notified()).as_mut()).is_pending());
    }

    #[test]
    fn a_task_that_waits_again_and_again_is_kept_once() {
        let notify = Notify::default();
        let waker = Waker::noop();
        for _ in 0..100 {
            let mut notified = Box::pin(notify.notified());
            assert!(notified.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        assert_eq!(notify.state.borrow().waiters.len(), 1);
    }
}
