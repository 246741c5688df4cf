//! Bounded channels between every two shards of the process.

use crate::model::ShardId;

/// The channel to that shard is full: the message comes back. Callers hold credits, so this is a bug above.
#[derive(Debug)]
pub struct MeshFull<M>(pub M);

/// One shard's end of the mesh: a sender to every other shard, and everything they send.
pub struct Mesh<M> {
    _todo: std::marker::PhantomData<M>,
}

impl<M: Send + 'static> Mesh<M> {
    /// Sends without waiting. Messages from one shard to another arrive in order.
    pub fn try_send(&self, to: ShardId, message: M) -> Result<(), MeshFull<M>> {
        let _ = (to, message);
        unimplemented!()
    }

    /// Runs `receive` on this shard for every message that arrives, from now on. Called once.
    pub fn on_receive(&self, receive: impl Fn(ShardId, M) + 'static) {
        let _ = receive;
        unimplemented!()
    }

    /// Messages that fit into the channel to one shard.
    #[must_use]
    pub fn depth(&self) -> usize {
        unimplemented!()
    }
}
