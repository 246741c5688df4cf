//! Bounded channels between every two shards of the process.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use super::driver::Driver;
use super::group::Group;
#[cfg(any(test, feature = "sim"))]
use super::sim;
use crate::model::ShardId;

/// The channel to that shard is full: the message comes back. Callers hold credits, so this is a bug above.
#[derive(Debug)]
pub struct MeshFull<M>(pub M);

/// One shard's end of the mesh: a sender to every other shard, and everything they send.
pub struct Mesh<M: Send + 'static>(pub(super) Arm<M>);

pub(super) enum Arm<M: Send + 'static> {
    Glommio(Rc<Ends<M>>),
    #[cfg(any(test, feature = "sim"))]
    Virtual(sim::Mesh<M>),
}

impl<M: Send + 'static> Mesh<M> {
    /// Sends without waiting. Messages from one shard to another arrive in order. `to` is another shard than this.
    pub fn try_send(&self, to: ShardId, message: M) -> Result<(), MeshFull<M>> {
        match &self.0 {
            Arm::Glommio(ends) => ends.try_send(to, message),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(mesh) => mesh.try_send(to, message),
        }
    }

    /// Runs `receive` on this shard for every message that arrives, from now on. Called once; what came before
    /// has waited in the channels. Messages of one sender come in order and one after the other.
    pub fn on_receive(&self, receive: impl Fn(ShardId, M) + 'static) {
        match &self.0 {
            Arm::Glommio(ends) => ends.on_receive(receive),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(mesh) => mesh.on_receive(receive),
        }
    }

    /// Messages that fit into the channel to one shard.
    #[must_use]
    pub fn depth(&self) -> usize {
        match &self.0 {
            Arm::Glommio(ends) => ends.depth,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(mesh) => mesh.depth(),
        }
    }
}

/// Both ends of one shard's channels, by the other shard; none at its own place.
pub(super) struct Ends<M: Send + 'static> {
    senders: Vec<Option<SyncSender<M>>>,
    /// Empty once `on_receive` has taken them.
    receivers: RefCell<Vec<Option<Receiver<M>>>>,
    depth: usize,
    home: Rc<Driver>,
    group: Arc<Group>,
}

/// Channels of `depth` places, rounded up to a power of two, between every two of the group's shards.
pub(super) fn full_mesh<M: Send>(depth: usize, group: &Arc<Group>) -> Vec<Loose<M>> {
    let depth = depth.max(1).next_power_of_two();
    let count = group.count();
    let mut shards: Vec<Loose<M>> = (0..count)
        .map(|_| Loose {
            senders: (0..count).map(|_| None).collect(),
            receivers: (0..count).map(|_| None).collect(),
            depth,
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            let (sender, receiver) = sync_channel(depth);
            shards[from].senders[to] = Some(sender);
            shards[to].receivers[from] = Some(receiver);
        }
    }
    shards
}

/// The channels of one shard on their way to its thread.
pub(super) struct Loose<M: Send> {
    senders: Vec<Option<SyncSender<M>>>,
    receivers: Vec<Option<Receiver<M>>>,
    depth: usize,
}

impl<M: Send + 'static> Ends<M> {
    pub(super) fn new(loose: Loose<M>, home: Rc<Driver>, group: Arc<Group>) -> Ends<M> {
        let Loose { senders, receivers, depth } = loose;
        Ends { senders, receivers: RefCell::new(receivers), depth, home, group }
    }

    fn try_send(&self, to: ShardId, message: M) -> Result<(), MeshFull<M>> {
        let sender = self.senders.get(to.index()).and_then(Option::as_ref);
        let sender = sender.expect("a message goes to another shard of this process");
        match sender.try_send(message) {
            Ok(()) => {
                self.group.bell(to).ring();
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err(MeshFull(message)),
            // A shard ends only after all are done, or by a crash that ends the process.
            Err(TrySendError::Disconnected(_)) => {
                self.group.peer_is_gone(to);
                Ok(())
            }
        }
    }

    fn on_receive(&self, receive: impl Fn(ShardId, M) + 'static) {
        let receivers = self.receivers.take();
        assert!(receivers.len() == self.senders.len(), "on_receive is called once");
        let receivers: Vec<_> =
            receivers.into_iter().map(|receiver| (Cell::new(receiver.is_some()), receiver)).collect();
        let (group, slice) = (Arc::clone(&self.group), self.depth);
        self.home.on_receive(Rc::new(move || {
            let mut more = false;
            for (from, (is_open, receiver)) in receivers.iter().enumerate() {
                let Some(receiver) = receiver.as_ref().filter(|_| is_open.get()) else { continue };
                let from = ShardId(u16::try_from(from).expect("shards are numbered with 16 bits"));
                let mut received = 0;
                // Everything that is there, except from a sender that never stops.
                while received < slice {
                    match receiver.try_recv() {
                        Ok(message) => receive(from, message),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => {
                            is_open.set(false);
                            group.peer_is_gone(from);
                            break;
                        }
                    }
                    received += 1;
                }
                more |= received == slice;
            }
            more
        }));
    }
}
