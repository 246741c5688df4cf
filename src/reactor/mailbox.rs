//! A way to one shard beside the mesh, for what is sent seldom: any shard may post, and nobody keeps a place for the answer.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::bell::Bell;
use super::driver::Driver;
use super::runtime::{self, Runtime};

/// What was posted waits until its shard looks, and is dropped with the mailbox. It has no bound: who posts has one.
pub struct Mailbox<T> {
    posted: Mutex<Vec<T>>,
    /// A look at it costs no lock while there is nothing.
    has_some: AtomicBool,
    /// Of the shard that receives, once it does.
    bell: OnceLock<Arc<Bell>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        Mailbox { posted: Mutex::default(), has_some: AtomicBool::new(false), bell: OnceLock::new() }
    }
}

impl<T: Send + 'static> Mailbox<T> {
    /// From any shard, in order.
    pub fn post(&self, item: T) {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        self.has_some.store(true, Ordering::Release);
        // Either this side sees the bell, or the other side, which looks after it has hung it up, sees the item.
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// From now on `receive` is called on this shard for everything that is posted, and for what was. Called once.
    pub fn on_receive(self: &Arc<Self>, receive: impl Fn(T) + 'static) {
        match runtime::current() {
            Runtime::Glommio(local) => self.look_when_rung(&local.driver, receive),
            // nothing is posted there: its connections stay where they are
            #[cfg(any(test, feature = "sim"))]
            Runtime::Virtual(_) => {}
        }
    }

    fn look_when_rung(self: &Arc<Self>, driver: &Driver, receive: impl Fn(T) + 'static) {
        assert!(self.bell.set(Arc::clone(driver.bell())).is_ok(), "a mailbox has one receiver");
        let mailbox = Arc::clone(self);
        driver.on_receive(Rc::new(move || {
            mailbox.take().into_iter().for_each(&receive);
            false
        }));
    }

    fn take(&self) -> Vec<T> {
        if !self.has_some.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.posted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
