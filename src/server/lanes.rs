//! The way of a connection from one shard to another.
//!
//! It goes between two requests, when every reply has left: what moves is plain data, and at the other end it is as if it had
//! been there from the start. A place with the other shard is claimed before, so a lane holds no more than
//! its shard has let come. Whoever arrives at a server that stops is closed.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;

use super::Shared;
use super::connection::Connection;
use super::limits::Admission;
use crate::handlers::ConnectionContext;
use crate::model::ShardId;
use crate::reactor::{Instant, LooseStream, Mailbox, TcpStream, spawn};

/// One per node, shared by its shards: a way to each of them.
pub struct Lanes(Box<[Arc<Mailbox<Passenger>>]>);

/// What a connection is beside its socket while no request of it is in flight.
pub(super) struct Luggage {
    pub(super) context: ConnectionContext,
    pub(super) admission: Admission,
    /// What was received of the requests to come.
    pub(super) received: BytesMut,
    pub(super) muted_until: Instant,
}

/// A connection on its way.
struct Passenger {
    stream: LooseStream,
    luggage: Luggage,
}

impl Lanes {
    #[must_use]
    pub fn new(shard_count: usize) -> Lanes {
        Lanes((0..shard_count).map(|_| Arc::default()).collect())
    }

    /// Sends it off. Nothing waits for its arrival.
    pub(super) fn send(&self, to: ShardId, stream: TcpStream, luggage: Luggage) {
        self.0[to.index()].post(Passenger { stream: stream.detach(), luggage });
    }

    /// Serves from now on what arrives at the server's shard.
    pub(super) fn receive(&self, shared: &Rc<Shared>) {
        let server = Rc::downgrade(shared);
        self.0[shared.home.index()].on_receive(move |Passenger { stream, luggage }| {
            // closed where the server has gone
            let Some(shared) = server.upgrade() else { return };
            spawn(Connection::run(shared, TcpStream::adopt(stream), luggage));
        });
    }
}
