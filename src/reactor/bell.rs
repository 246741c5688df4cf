//! How other threads get a shard's attention: they leave something where the shard looks, and ring.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::runtime;

/// One for each shard, known to all threads.
pub(super) struct Bell {
    /// Somebody rang since the shard last looked.
    rung: AtomicBool,
    /// The shard sleeps, or is about to: only then is a system call needed.
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        // SAFETY: takes two integers and gives a descriptor that is nobody's yet, or an error.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Bell { rung: AtomicBool::new(false), asleep: AtomicBool::new(false), event })
    }

    /// From any thread. What was left for the shard before is seen by it.
    pub(super) fn ring(&self) {
        // The order of these two and of those in `fall_asleep` are total: one side sees the other.
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: writes eight bytes that are there. It fails only when the counter is full, and then the shard is awake.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// The shard's: whether somebody rang since the last call.
    pub(super) fn answer(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::SeqCst)
    }

    /// The shard's: from here on a ring makes [`Self::fd`] readable. `false` if somebody has rung already.
    pub(super) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let undisturbed = !self.rung.load(Ordering::SeqCst);
        if !undisturbed {
            self.wake_up();
        }
        undisturbed
    }

    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// An event that any thread may bring about, once, and one shard awaits. (The waker of a shard's task is for its own thread:
/// woken from another, the task would run when the shard next looks, and nothing makes it look.)
#[derive(Clone, Default)]
pub struct Signal(Arc<Event>);

#[derive(Default)]
struct Event {
    is_raised: AtomicBool,
    /// Of the shard that awaits it.
    bell: OnceLock<Arc<Bell>>,
}

impl Signal {
    pub fn raise(&self) {
        // either this side sees the other's bell, or that side sees the flag
        self.0.is_raised.store(true, Ordering::SeqCst);
        if let Some(bell) = self.0.bell.get() {
            bell.ring();
        }
    }

    /// Awaited on one shard only, by as many tasks as like.
    pub async fn raised(&self) {
        let local = runtime::local();
        self.0.bell.get_or_init(|| Arc::clone(local.driver.bell()));
        while !self.0.is_raised.load(Ordering::SeqCst) {
            local.driver.next_bell().await;
        }
    }
}
