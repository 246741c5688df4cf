//! Tasks of this shard, and the blocking pool.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::runtime::{self, Runtime};
use super::sync::{Receiver, oneshot};
use crate::model::ShardId;

/// A spawned task. It runs on when this handle is dropped; awaiting the handle gives its result.
///
/// A task that still waits when its shard's future returns is never polled again, and what it holds is not dropped.
pub struct Task<T> {
    result: Receiver<T>,
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.result)
            .poll(context)
            .map(|result| result.expect("a task ends with its result: panics abort the process"))
    }
}

/// Runs `future` on this shard, from the next turn of the shard on. Costs two allocations: not for every record.
#[track_caller]
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let (sender, result) = oneshot();
    let task = async move { sender.send(future.await) };
    match runtime::current() {
        Runtime::Glommio(local) if local.driver.is_background() => {
            let driver = Rc::clone(&local.driver);
            drop(glommio::spawn_local(driver.seen(Rc::clone(&local.driver).in_background(task))).detach());
        }
        Runtime::Glommio(local) => drop(glommio::spawn_local(Rc::clone(&local.driver).seen(task)).detach()),
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.spawn(Box::pin(task)),
    }
    Task { result }
}

/// As [`spawn`], with a twenty-first of the shard's time when there is other work: for what may take its time. What
/// such a task spawns has the same share.
#[track_caller]
pub fn spawn_background<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let (sender, result) = oneshot();
    let task = async move { sender.send(future.await) };
    match runtime::current() {
        Runtime::Glommio(local) => {
            let background = Rc::clone(&local.driver).in_background(task);
            drop(glommio::spawn_local(Rc::clone(&local.driver).seen(background)).detach());
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.spawn(Box::pin(task)),
    }
    Task { result }
}

/// Runs blocking or CPU-heavy work off the shard's thread and waits for it without holding the shard up. The work
/// runs to its end even if the caller stops waiting. A shard has two such threads: what takes seconds is cut up.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match runtime::current() {
        Runtime::Glommio(local) => local.driver.pool.run(work).await,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.blocking(work).await,
    }
}

/// Lets one turn of I/O, timers and messages happen before this task goes on. Long work on a shard is cut with
/// this: a task that merely yields may be run again before any I/O is looked at.
pub async fn turn() {
    match runtime::current() {
        Runtime::Glommio(local) => local.driver.turn().await,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.turn().await,
    }
}

/// The shard this thread runs.
#[must_use]
pub fn shard_id() -> ShardId {
    match runtime::current() {
        Runtime::Glommio(local) => local.id,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.id(),
    }
}

#[must_use]
pub fn shard_count() -> usize {
    match runtime::current() {
        Runtime::Glommio(local) => local.count,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.count(),
    }
}
