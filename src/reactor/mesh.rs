//! Bounded channels between every two shards of the process.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};
use glommio::{GlommioError, ResourceType};

use super::group::Group;
#[cfg(any(test, feature = "sim"))]
use super::sim;
use super::{spawn, turn};
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

/// The channels of one shard before its executor has connected them: to and from each shard, none at its own place.
pub(super) struct Loose<M: Send> {
    senders: Vec<Option<SharedSender<M>>>,
    receivers: Vec<Option<SharedReceiver<M>>>,
    depth: usize,
}

/// Channels of `depth` places, rounded up to a power of two, between every two of `count` shards.
pub(super) fn full_mesh<M: Send>(count: usize, depth: usize) -> Vec<Loose<M>> {
    let depth = depth.max(1).next_power_of_two();
    let mut shards: Vec<Loose<M>> = (0..count)
        .map(|_| Loose {
            senders: (0..count).map(|_| None).collect(),
            receivers: (0..count).map(|_| None).collect(),
            depth,
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            let (sender, receiver) = new_bounded(depth);
            shards[from].senders[to] = Some(sender);
            shards[to].receivers[from] = Some(receiver);
        }
    }
    shards
}

/// Both ends of this shard's channels, by the other shard.
pub(super) struct Ends<M: Send + 'static> {
    senders: Vec<Option<ConnectedSender<M>>>,
    /// Empty once `on_receive` has taken them.
    receivers: RefCell<Vec<Option<ConnectedReceiver<M>>>>,
    depth: usize,
    group: Arc<Group>,
}

impl<M: Send + 'static> Ends<M> {
    /// Waits until every other shard has connected its ends, so all executors must be running.
    pub(super) async fn connect(loose: Loose<M>, group: Arc<Group>) -> Rc<Ends<M>> {
        // All at once: connecting waits for the peer, and two shards would wait for each other's first channel.
        let senders: Vec<_> = loose
            .senders
            .into_iter()
            .map(|end| end.map(|end| spawn(async move { end.connect().await })))
            .collect();
        let receivers: Vec<_> = loose
            .receivers
            .into_iter()
            .map(|end| end.map(|end| spawn(async move { end.connect().await })))
            .collect();
        let mut ends = Ends { senders: Vec::new(), receivers: RefCell::default(), depth: loose.depth, group };
        for sender in senders {
            ends.senders.push(match sender {
                Some(sender) => Some(sender.await),
                None => None,
            });
        }
        for receiver in receivers {
            ends.receivers.get_mut().push(match receiver {
                Some(receiver) => Some(receiver.await),
                None => None,
            });
        }
        Rc::new(ends)
    }

    fn try_send(&self, to: ShardId, message: M) -> Result<(), MeshFull<M>> {
        let sender = self.senders.get(to.index()).and_then(Option::as_ref);
        let sender = sender.expect("a message goes to another shard of this process");
        match sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(GlommioError::WouldBlock(ResourceType::Channel(message))) => Err(MeshFull(message)),
            // A shard ends only after all are done, or by a crash that ends the process.
            Err(_) => {
                self.group.peer_is_gone(to);
                Ok(())
            }
        }
    }

    fn on_receive(&self, receive: impl Fn(ShardId, M) + 'static) {
        let receive = Rc::new(receive);
        let receivers = self.receivers.take();
        assert!(receivers.len() == self.senders.len(), "on_receive is called once");
        for (from, receiver) in receivers.into_iter().enumerate() {
            let Some(receiver) = receiver else { continue };
            let from = ShardId(u16::try_from(from).expect("shards are numbered with 16 bits"));
            let receive = Rc::clone(&receive);
            let group = Arc::clone(&self.group);
            let slice = self.depth;
            spawn(async move {
                let mut received = 0;
                // Everything that is there, without giving the shard back in between ...
                while let Some(message) = receiver.recv().await {
                    receive(from, message);
                    received += 1;
                    // ... except to a sender that never stops.
                    if received % slice == 0 {
                        turn().await;
                    }
                }
                group.peer_is_gone(from);
            });
        }
    }
}
