//! One listener's accept loop on this shard.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_lite::future::or;

use super::connection::Connection;
use super::lanes::Luggage;
use super::limits::{Admission, Refusal};
use super::{BoundListener, Shared};
use crate::handlers::{ConnectionContext, Principal, Tally};
use crate::model::ShardId;
use crate::reactor::{Instant, TcpStream, now, sleep, spawn};

/// After an accept that failed (no descriptors, no memory): at first, doubling, and at most.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How often a newcomer looks whether the node has room again.
const ROOM_CHECK: Duration = Duration::from_millis(50);

pub(super) async fn accept_loop(shared: Rc<Shared>, listener: BoundListener) {
    let name: Arc<str> = listener.endpoint.listener.as_str().into();
    let mut back_off = BACK_OFF_MIN;
    while !shared.stopping.get() {
        let accepted = or(async { Some(listener.socket.accept().await) }, async {
            shared.stop.notified().await;
            None
        });
        match accepted.await {
            Some(Ok(stream)) => {
                back_off = BACK_OFF_MIN;
                welcome(&shared, &name, listener.shard, stream).await;
            }
            Some(Err(error)) => {
                if let Some(suppressed) = shared.log_rate.admit(now()) {
                    tracing::warn!(listener = %name, %error, suppressed, "cannot accept connections; raise the open files limit (ulimit -n) if descriptors ran out");
                }
                sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
            None => {}
        }
    }
    // the other loops wait for the same event
    shared.stop.notify();
    shared.accepting.set(shared.accepting.get() - 1);
    shared.ended.notify();
}

/// Starts a connection, once the limits let it in.
async fn welcome(shared: &Rc<Shared>, listener: &Arc<str>, entrance: Option<ShardId>, stream: TcpStream) {
    // a peer that is gone already has no address and needs no answer
    let Ok(peer) = stream.peer_addr() else { return };
    let Some(admission) = admit(shared, listener, peer).await else { return };
    shared.metrics.connections_accepted.increment();
    let id = shared.next_connection.get();
    shared.next_connection.set(id + 1);
    let context = ConnectionContext {
        id,
        principal: Principal::anonymous(),
        listener: Arc::clone(listener),
        peer,
        entrance,
        tally: Cell::new(Tally::new(now())),
    };
    let luggage = Luggage { context, admission, received: BytesMut::new(), muted_until: Instant::default() };
    spawn(Connection::run(Rc::clone(shared), stream, luggage));
}

async fn admit(shared: &Rc<Shared>, listener: &str, peer: SocketAddr) -> Option<Admission> {
    let mut told = false;
    loop {
        let refusal = match shared.limits.admit(peer.ip()) {
            Ok(admission) => return Some(admission),
            Err(refusal) => refusal,
        };
        if !told {
            told = true;
            shared.metrics.connections_refused.increment();
            if let Some(suppressed) = shared.log_rate.admit(now()) {
                match refusal {
                    Refusal::NodeFull => tracing::warn!(
                        %peer, listener, suppressed, "max.connections is reached; newcomers wait"
                    ),
                    Refusal::AddressFull => tracing::warn!(
                        %peer, listener, suppressed, "max.connections.per.ip is reached; newcomer closed"
                    ),
                }
            }
        }
        if refusal == Refusal::AddressFull || shared.stopping.get() {
            return None;
        }
        sleep(ROOM_CHECK).await;
    }
}
