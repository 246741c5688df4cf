//! The shards of one [`run`](super::run), seen from any of them: who is done, and is it time to go.
//!
//! A shard that is done stays alive, with its channels, tasks and timers, until all are: others may still be waiting
//! for its answer. Atomics and a lock, since it is shared between threads; touched at start and end only.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use crate::model::ShardId;

pub(super) struct Group {
    state: Mutex<State>,
    /// All are done: channels may close from here on.
    closing: AtomicBool,
}

struct State {
    running: usize,
    waiting: Vec<Waker>,
}

impl Group {
    pub(super) fn new(count: usize) -> Group {
        Group {
            state: Mutex::new(State { running: count, waiting: Vec::new() }),
            closing: AtomicBool::new(false),
        }
    }

    /// Says that this shard is done, and waits for the others. Awaited once per shard.
    pub(super) async fn all_done(&self) {
        let mut counted = false;
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !counted {
                counted = true;
                state.running -= 1;
            }
            if state.running > 0 {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            self.closing.store(true, Ordering::Release);
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            Poll::Ready(())
        })
        .await;
    }

    /// A channel is closed at the other end: in order at the end of the process, and fatal before it.
    pub(super) fn peer_is_gone(&self, peer: ShardId) {
        if !self.closing.load(Ordering::Acquire) {
            super::crash::fatal(&format!("shard {} is gone while others run", peer.0));
        }
    }
}
