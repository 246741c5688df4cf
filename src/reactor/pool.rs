//! Threads for work that blocks or takes long, a few for each shard.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use slab::Slab;

use super::bell::Bell;
use super::sync;
use crate::model::ShardId;

/// A long job does not hold up a short one.
const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Lives on its shard; its threads end when it is dropped and they are done.
pub(super) struct Pool {
    jobs: Sender<Job>,
    done: Receiver<usize>,
    tell: Sender<usize>,
    bell: Arc<Bell>,
    waiting: RefCell<Slab<sync::Sender<()>>>,
}

impl Pool {
    pub(super) fn start(shard: ShardId, bell: Arc<Bell>) -> io::Result<Pool> {
        let (jobs, taken) = mpsc::channel::<Job>();
        let taken = Arc::new(Mutex::new(taken));
        for _ in 0..THREADS {
            let taken = Arc::clone(&taken);
            // Not bound to a core, as long as the caller is not: it would take time from the shard there.
            thread::Builder::new().name(format!("blocking-{}", shard.0)).spawn(move || {
                super::crash::mark_thread();
                loop {
                    let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    job();
                }
            })?;
        }
        let (tell, done) = mpsc::channel();
        Ok(Pool { jobs, done, tell, bell, waiting: RefCell::default() })
    }

    /// Runs the work on one of the threads, to its end even if nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (finished, finish) = sync::oneshot();
        let key = self.waiting.borrow_mut().insert(finished);
        let (tell, bell) = (self.tell.clone(), Arc::clone(&self.bell));
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        let job = move || {
            let value = work();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            // nobody listens when the shard has ended
            if tell.send(key).is_ok() {
                bell.ring();
            }
        };
        self.jobs.send(Box::new(job)).expect("the threads live as long as the pool");
        finish.await;
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.expect("the work was done")
    }

    /// Has the work done and does not wait for it.
    pub(super) fn detach(&self, work: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(work)).expect("the threads live as long as the pool");
    }

    /// Wakes those whose work is done.
    pub(super) fn look(&self) {
        for key in self.done.try_iter() {
            let finished = self.waiting.borrow_mut().remove(key);
            finished.send(());
        }
    }
}
