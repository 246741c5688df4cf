//! One member, and what it says of itself.

use std::collections::HashSet;
use std::rc::Rc;

use bytes::Bytes;

use super::Client;
use crate::coordinator::Ticket;
use crate::protocol::messages::JoinGroupRequest;

#[derive(Debug)]
pub struct Member {
    pub id: Rc<str>,
    /// Of a static member (KIP-345).
    pub instance: Option<Rc<str>>,
    pub client: Client,
    pub terms: Terms,
    /// In the leader's words; empty before there was one.
    pub assignment: Bytes,
    /// It waits for the others to join. Set by the roster, which counts.
    pub(super) joining: Option<Ticket>,
    /// It waits for the leader's assignment.
    pub(super) syncing: Option<Ticket>,
    /// Has never had an answer to a JoinGroup: perhaps its client is gone, and it goes when its time is over even while
    /// it waits.
    pub(super) is_new: bool,
}

/// What a member says of itself with each JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Never negative in a request that was taken.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The one it likes best first, each once.
    pub protocols: Vec<Protocol>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    pub name: Rc<str>,
    /// For the leader; of a consumer its subscription.
    pub metadata: Bytes,
}

impl Member {
    /// Nothing of it is waiting.
    pub fn new(id: Rc<str>, instance: Option<Rc<str>>, client: Client, terms: Terms) -> Member {
        Member {
            id,
            instance,
            client,
            terms,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }

    pub fn session_timeout_ms(&self) -> u64 {
        u64::try_from(self.terms.session_timeout_ms).unwrap_or(0)
    }

    pub fn rebalance_timeout_ms(&self) -> u64 {
        u64::try_from(self.terms.rebalance_timeout_ms).unwrap_or(0)
    }

    /// Nothing, where it does not have the protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let mut protocols = self.terms.protocols.iter();
        protocols
            .find(|known| *known.name == *protocol)
            .map_or_else(Bytes::new, |known| known.metadata.clone())
    }
}

impl Terms {
    /// A copy: the request goes. JoinGroup 0 has no rebalance timeout, the session's is taken for it.
    pub fn of(request: &JoinGroupRequest) -> Terms {
        let session_timeout_ms = request.session_timeout_ms;
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            ..0 => session_timeout_ms,
            timeout => timeout,
        };
        let mut names = HashSet::new();
        let protocols = request.protocols.iter().filter(|protocol| names.insert(protocol.name.as_str()));
        let protocols = protocols.map(|protocol| Protocol {
            name: Rc::from(protocol.name.as_str()),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        });
        Terms { rebalance_timeout_ms, session_timeout_ms, protocols: protocols.collect() }
    }
}
