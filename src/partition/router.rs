//! Asks other shards: numbered requests over the mesh, credits so that nothing on the mesh ever waits for room.
//!
//! A request takes one of [`REQUESTS_IN_FLIGHT`] credits towards its shard and gives it back when the reply has
//! arrived. At any moment the channel to a shard holds at most that many requests of ours and that many replies
//! to its requests, so a channel of twice the depth never fills, and two shards that ask each other at once
//! cannot block each other.
//!
//! A few of the credits are kept for questions about the shard itself: whether it is alive must be known when clients
//! have taken all the others, since that is when somebody asks. Some are for questions that requests wait for.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::message::{Message, ShardReply, ShardRequest};
use crate::coordinator::transaction::Body;
use crate::metrics::Counter;
use crate::model::ShardId;
use crate::reactor::Mesh;
use crate::reactor::sync::{Credits, Receiver, Sender, oneshot};

/// Requests from one shard to one other that may be unanswered at once.
const REQUESTS_IN_FLIGHT: u64 = 512;

/// Of these, for questions about the shard: a ping, a scrape, and one each that nobody waits for any more.
const KEPT: u64 = 4;

/// Of these, for whether partitions belong to a transaction. Appends that wait for that answer hold others, on both shards
/// perhaps; the answer itself needs no further message.
const JOINS: u64 = 64;

/// Messages one channel of the mesh must hold: our requests and our replies.
pub const MESH_DEPTH: usize = 2 * REQUESTS_IN_FLIGHT as usize;

pub(super) struct Router {
    mesh: Mesh<Message>,
    /// By shard and lane.
    credits: Vec<[Credits; 3]>,
    waiting: RefCell<HashMap<u64, (Ticket, Sender<ShardReply>)>>,
    next_id: Cell<u64>,
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

/// The right to send one request to one shard; must be spent.
#[must_use]
pub(super) struct Ticket(ShardId, Lane);

/// Whose credits a request takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Work,
    Kept,
    Join,
}

impl Lane {
    fn of(request: &ShardRequest) -> Lane {
        match request {
            ShardRequest::Ping | ShardRequest::Metrics => Lane::Kept,
            ShardRequest::Transact { request, .. } if matches!(request.body, Body::AddPartitions(_)) => {
                Lane::Join
            }
            _ => Lane::Work,
        }
    }
}

impl Router {
    pub(super) fn new(mesh: Mesh<Message>, shard_count: usize) -> Router {
        assert!(mesh.depth() >= MESH_DEPTH, "the mesh is shallower than the credits given out for it");
        let of_shard = || [REQUESTS_IN_FLIGHT - KEPT - JOINS, KEPT, JOINS].map(Credits::new);
        let credits = (0..shard_count).map(|_| of_shard()).collect();
        Router {
            mesh,
            credits,
            waiting: RefCell::default(),
            next_id: Cell::new(0),
            sent: Counter::default(),
            received: Counter::default(),
        }
    }

    /// Every shard but `this`.
    pub(super) fn others(&self, this: ShardId) -> impl Iterator<Item = ShardId> + use<> {
        let count = u16::try_from(self.credits.len()).expect("shards are counted in 16 bits");
        (0..count).map(ShardId).filter(move |shard| *shard != this)
    }

    /// Whether there is such a shard.
    pub(super) fn reaches(&self, shard: ShardId) -> bool {
        shard.index() < self.credits.len()
    }

    pub(super) fn on_receive(&self, receive: impl Fn(ShardId, Message) + 'static) {
        self.mesh.on_receive(receive);
    }

    /// Waits for a place on the way to `to`.
    pub(super) async fn ticket(&self, to: ShardId) -> Ticket {
        self.ticket_in(Lane::Work, to).await
    }

    async fn ticket_in(&self, lane: Lane, to: ShardId) -> Ticket {
        self.credits[to.index()][lane as usize].take(1).await;
        Ticket(to, lane)
    }

    /// Sends at once; the reply comes later.
    pub(super) fn send(&self, ticket: Ticket, request: ShardRequest) -> Receiver<ShardReply> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (sender, receiver) = oneshot();
        let to = ticket.0;
        self.waiting.borrow_mut().insert(id, (ticket, sender));
        self.post(to, Message::Request { id, request });
        receiver
    }

    pub(super) async fn ask(&self, to: ShardId, request: ShardRequest) -> ShardReply {
        let ticket = self.ticket_in(Lane::of(&request), to).await;
        self.send(ticket, request).await.expect("a shard answers every request or the process has ended")
    }

    pub(super) fn reply(&self, to: ShardId, id: u64, reply: ShardReply) {
        self.post(to, Message::Reply { id, reply });
    }

    pub(super) fn receive_reply(&self, from: ShardId, id: u64, reply: ShardReply) {
        let waiting = self.waiting.borrow_mut().remove(&id);
        let (Ticket(asked, lane), sender) = waiting.expect("a reply to a request we sent");
        assert_eq!(asked, from, "the shard that was asked answers");
        self.credits[from.index()][lane as usize].give(1);
        sender.send(reply);
    }

    fn post(&self, to: ShardId, message: Message) {
        self.sent.increment();
        self.mesh.try_send(to, message).expect("credits keep the mesh from filling");
    }
}
