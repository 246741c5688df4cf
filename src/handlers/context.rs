//! Who asks: what every handler knows about a request beside its body.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{ErrorCode, ShardId};
use crate::partition::Concern;
use crate::protocol::StrBytes;
use crate::protocol::api::Api;
use crate::protocol::codec::encode_response;
use crate::protocol::header::ResponseHeader;
use crate::reactor::Instant;

use super::service::{CloseReason, Outcome, Reply};
use super::tally::Tally;
use super::throttle::Throttled;

/// Kafka's principal: a type and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    pub kind: String,
    pub name: String,
}

impl Principal {
    /// Whom an unauthenticated connection speaks for.
    #[must_use]
    pub fn anonymous() -> Principal {
        Principal { kind: "User".to_owned(), name: "ANONYMOUS".to_owned() }
    }
}

/// One connection, the same for all of its requests. It goes with it from shard to shard.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    /// Unique on this node since its start.
    pub id: u64,
    pub principal: Principal,
    /// The listener the client came in by: it is told of endpoints of this name.
    pub listener: Arc<str>,
    pub peer: SocketAddr,
    /// The shard by whose own port the client came in: that is the node it speaks to, wherever the connection lives now.
    pub entrance: Option<ShardId>,
    /// Which shard its requests are about.
    pub tally: Cell<Tally>,
}

impl ConnectionContext {
    /// Counts a request that was found to concern these partitions' shards.
    pub fn count(&self, concern: Concern) {
        let mut tally = self.tally.get();
        tally.count(concern);
        self.tally.set(tally);
    }

    /// The shard it would rather live on than on `home` ([`Tally::wish`]).
    pub fn wish(&self, home: ShardId, now: Instant) -> Option<ShardId> {
        let mut tally = self.tally.get();
        let wished = tally.wish(home, now);
        self.tally.set(tally);
        wished
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub connection: Rc<ConnectionContext>,
    /// `None`: the client sent null.
    pub client_id: Option<StrBytes>,
    pub header: ResponseHeader,
}

impl RequestContext {
    #[must_use]
    pub fn api(&self) -> Api {
        self.header.api
    }

    #[must_use]
    pub fn version(&self) -> i16 {
        self.header.version
    }

    #[must_use]
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("")
    }

    /// Ends the request with this response; `error` is the first error in it, for the metrics.
    #[must_use]
    pub fn reply<T: Throttled>(&self, mut response: T, error: ErrorCode) -> Outcome {
        let throttle = self.throttle();
        response.set_throttle_time_ms(throttle.time_ms);
        match encode_response(self.header, &response) {
            Ok(head) => Outcome::Reply(Reply {
                head,
                rest: Vec::new(),
                error,
                mute: throttle.mute,
                wished_wait: Duration::ZERO,
            }),
            Err(not_encodable) => Outcome::Close(CloseReason::NotEncodable(not_encodable)),
        }
    }

    /// As [`Self::reply`]; the error as it stands in the response.
    #[must_use]
    pub fn reply_coded<T: Throttled>(&self, error_code: i16, response: T) -> Outcome {
        self.reply(response, ErrorCode::from_code(error_code).unwrap_or(ErrorCode::UnknownServerError))
    }

    /// The one place every response passes that can make the client wait: what the response says, and how long its
    /// connection is muted (KIP-219). Quotas decide it; there are none yet.
    #[must_use]
    pub fn throttle(&self) -> Throttle {
        Throttle { time_ms: 0, mute: Duration::ZERO }
    }
}

/// How long a client is asked to wait, and made to.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    pub time_ms: i32,
    pub mute: Duration,
}
