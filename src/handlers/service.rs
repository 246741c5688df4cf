//! What the connection loop calls: a request in, its order fixed, a reply out.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::context::{ConnectionContext, RequestContext};
use crate::model::ErrorCode;
use crate::protocol::codec;
use crate::protocol::header::RequestHeader;

pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Serves the requests of all connections of a shard.
pub trait Service {
    /// The future resolves when the request's order is fixed; what is left is in the [`Stage`]. The next request of
    /// the connection is not started before that.
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Stage>;
}

/// A request that is served: its API and version are in the table.
pub struct Request {
    pub connection: Rc<ConnectionContext>,
    pub header: RequestHeader,
    /// A reply whose size is the broker's to choose should not be larger: other replies wait for slow clients.
    pub reply_bytes_max: usize,
}

/// How far the first stage came.
pub enum Stage {
    Done(Outcome),
    /// Order is fixed; the outcome comes. Only Produce ends so, and only Produce may be started meanwhile.
    Later(LocalFuture<Outcome>),
}

/// What becomes of the connection's turn.
pub enum Outcome {
    Reply(Reply),
    /// The client asked for none (acks=0).
    NoReply,
    /// No reply, and the connection is closed for this reason.
    Close(CloseReason),
}

/// Why a handler wants the connection closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The body cannot be decoded.
    Malformed(codec::Error),
    /// The response cannot be encoded.
    NotEncodable(codec::NotEncodable),
    /// A Produce without acknowledgement failed: closing is how the client learns of it.
    UnacknowledgedProduce(ErrorCode),
}

/// One whole frame, its length in front, in the parts it leaves in.
#[derive(Clone, Debug)]
pub struct Reply {
    pub head: Bytes,
    pub rest: Vec<Bytes>,
    /// The first error in it, for the metrics.
    pub error: ErrorCode,
    /// The connection's next request is not looked at for that long after this reply (KIP-219).
    pub mute: Duration,
    /// How long the request waited because the client wished it to.
    pub wished_wait: Duration,
}

impl Reply {
    /// Bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }
}

impl Outcome {
    /// The client wished to wait that long: for others, not for the broker.
    #[must_use]
    pub fn after_wished_wait(mut self, wait: Duration) -> Outcome {
        if let Outcome::Reply(reply) = &mut self {
            reply.wished_wait = wait;
        }
        self
    }
}

impl Request {
    /// Decodes the body, which it gives up: what the decoded request does not refer to is free again.
    pub fn decode<T: codec::Request>(self) -> Result<(RequestContext, T), CloseReason> {
        let decoded = codec::decode(&self.header).map_err(CloseReason::Malformed)?;
        let header = self.header.response();
        let context =
            RequestContext { connection: self.connection, client_id: self.header.client_id, header };
        Ok((context, decoded))
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseReason::Malformed(error) => error.fmt(f),
            CloseReason::NotEncodable(error) => error.fmt(f),
            CloseReason::UnacknowledgedProduce(error) => {
                write!(f, "Produce with acks=0 failed ({error:?}); closing tells the client")
            }
        }
    }
}
