//! Tasks of this shard, and the blocking pool.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::model::ShardId;

/// A spawned task. It runs on when this handle is dropped; awaiting the handle gives its result.
pub struct Task<T> {
    _todo: std::marker::PhantomData<T>,
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<T> {
        unimplemented!()
    }
}

/// Runs `future` on this shard.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let _ = future;
    unimplemented!()
}

/// Runs blocking or CPU-heavy work off the shard's thread and waits for it without holding the shard up.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _ = work;
    unimplemented!()
}

/// The shard this thread runs.
#[must_use]
pub fn shard_id() -> ShardId {
    unimplemented!()
}

#[must_use]
pub fn shard_count() -> usize {
    unimplemented!()
}
