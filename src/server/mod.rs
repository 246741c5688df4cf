//! Listeners, connections, the order of replies, start and stop.
//!
//! One [`Server`] per shard. Each listener of the configuration has a socket on every shard (SO_REUSEPORT spreads
//! clients over them), and may have one more with a port of the shard's own; a connection lives on the shard that accepted it, until most of its requests concern another: then
//! it is handed over ([`lanes`]). A connection is two tasks around one
//! shared [`Connection`](connection::Connection): the reader cuts frames and calls the handlers, the writer sends
//! replies in the order of their requests. Metrics and health have a listener of their own: [`admin`].
//!
//! Invariants:
//! * Replies leave in request order. Only Produce is started while replies before it are not ready, and only
//!   Produces may be those.
//! * A request's bytes are reserved from the shard's budget from before they are received until its reply has left.
//! * What waits to be sent to a slow client is bounded: past the bound its next request is not started.
//! * A frame that cannot be answered closes its own connection, with one log line (of a bounded rate), and nothing
//!   else.
//! * Shards share the counts of [`Limits`] and the [`Lanes`] and nothing else; they are touched when a connection comes and
//!   goes.
//! * A connection is on one shard or on its way to one; no request of it is in flight meanwhile.
//!
//! Never here: what a request means (`handlers/`), bytes of the protocol beyond the header (`protocol/`).

pub mod admin;
mod connection;
mod lanes;
mod limits;
mod listener;
mod log_rate;
mod replies;
mod slow;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

pub use lanes::Lanes;
pub use limits::Limits;

use crate::config::Config;
use crate::handlers::{Broker, Loggers, Service};
use crate::metadata::Endpoint;
use crate::metrics::snapshot::{self, ServerCounters};
use crate::model::ShardId;
use crate::network::{ReceiveBuffers, RequestBudget};
use crate::partition::Shard;
use crate::reactor::sync::Notify;
use crate::reactor::{Instant, TcpListener, now, shard_id, sleep, sleep_until, spawn};
use connection::Connection;
use log_rate::LogRate;

/// What requests in flight may still take when the server stops; then their connections are cut.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long tasks get to see that their connection was cut.
const CUT_GRACE: Duration = Duration::from_millis(200);
/// However much waits for slow clients, a reply may have this size.
const REPLY_BYTES_MIN: usize = 1024 * 1024;
/// How often idle connections are looked for, at most and at least.
const IDLE_CHECK_MIN: Duration = Duration::from_millis(20);
const IDLE_CHECK_MAX: Duration = Duration::from_secs(5);

/// A socket that listens already, and where clients are told it is.
pub struct BoundListener {
    pub socket: TcpListener,
    pub endpoint: Endpoint,
    /// Whose own port it is; `None`: that of all shards.
    pub shard: Option<ShardId>,
}

/// What the server takes from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kafka's socket.request.max.bytes.
    pub request_bytes_max: usize,
    /// Bytes of requests in flight on this shard, and of replies that wait for slow clients.
    pub request_budget_bytes: u64,
    /// Kafka's connections.max.idle.ms; `None`: idle connections stay.
    pub idle_max: Option<Duration>,
    /// corelane.slow.request.ms; `None`: none is told.
    pub slow_request: Option<Duration>,
    /// corelane.connection.handover: connections go where most of their requests do.
    pub handover: bool,
}

/// This shard's part of the broker's network face.
pub struct Server {
    shared: Rc<Shared>,
}

/// What the tasks of a server share.
struct Shared {
    settings: Settings,
    limits: Arc<Limits>,
    lanes: Arc<Lanes>,
    /// The shard it lives on.
    home: ShardId,
    service: Rc<dyn Service>,
    buffers: Rc<ReceiveBuffers>,
    budget: Rc<RequestBudget>,
    /// Bytes of all replies that are ready and have not left.
    ready_bytes: Rc<Cell<usize>>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    metrics: ServerCounters,
    log_rate: LogRate,
    slow_rate: LogRate,
    stopping: Cell<bool>,
    stop: Notify,
    accepting: Cell<usize>,
    /// A connection or an accept loop has ended.
    ended: Notify,
}

impl Settings {
    #[must_use]
    pub fn of(config: &Config) -> Settings {
        Settings {
            request_bytes_max: config.socket_request_max_bytes,
            request_budget_bytes: config.shard.request_bytes as u64,
            idle_max: config.connections_max_idle_ms.map(Duration::from_millis),
            slow_request: config.slow_request_ms.map(Duration::from_millis),
            handover: config.connection_handover,
        }
    }
}

impl Server {
    /// Accepts and serves connections on this shard from now on. `limits`, `lanes` and `loggers` are the
    /// node's, one for all shards.
    #[must_use]
    pub fn start(
        config: &Config,
        shard: Rc<Shard>,
        listeners: Vec<BoundListener>,
        limits: Arc<Limits>,
        lanes: Arc<Lanes>,
        loggers: Arc<Loggers>,
    ) -> Server {
        let service = Rc::new(Broker::new(config, shard, loggers));
        Server::with_service(Settings::of(config), service, listeners, limits, lanes)
    }

    fn with_service(
        settings: Settings,
        service: Rc<dyn Service>,
        listeners: Vec<BoundListener>,
        limits: Arc<Limits>,
        lanes: Arc<Lanes>,
    ) -> Server {
        let shared = Rc::new(Shared {
            buffers: Rc::default(),
            budget: RequestBudget::new(settings.request_budget_bytes),
            ready_bytes: Rc::default(),
            connections: RefCell::default(),
            // unique on the node: the shard in the upper bits
            next_connection: Cell::new(u64::from(shard_id().0) << 48),
            metrics: ServerCounters::default(),
            log_rate: LogRate::default(),
            slow_rate: LogRate::default(),
            stopping: Cell::new(false),
            stop: Notify::default(),
            accepting: Cell::new(listeners.len()),
            ended: Notify::default(),
            settings,
            limits,
            lanes: Arc::clone(&lanes),
            home: shard_id(),
            service,
        });
        lanes.receive(&shared);
        for listener in listeners {
            spawn(listener::accept_loop(Rc::clone(&shared), listener));
        }
        spawn(close_idle(Rc::downgrade(&shared)));
        Server { shared }
    }

    /// Stops accepting, lets every request that is being handled end and its reply leave, and closes the
    /// connections. What takes longer than five seconds is cut. Nothing is served when this returns.
    pub async fn stop(&self) {
        self.stop_within(STOP_GRACE).await;
    }

    async fn stop_within(&self, grace: Duration) {
        let shared = &self.shared;
        shared.stopping.set(true);
        shared.stop.notify();
        for connection in shared.connections() {
            connection.stop();
        }
        if !shared.all_ended(now().after(grace)).await {
            let left = shared.connections();
            tracing::warn!(connections = left.len(), "requests still in flight; cutting their connections");
            for connection in left {
                connection.cut();
            }
            shared.all_ended(now().after(CUT_GRACE)).await;
        }
    }

    /// Connections that are open on this shard.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.shared.connections.borrow().len()
    }

    #[must_use]
    pub fn metrics(&self) -> &ServerCounters {
        &self.shared.metrics
    }

    /// Everything that is counted here, for a scrape.
    #[must_use]
    pub fn measure(&self) -> snapshot::Server {
        let Shared { budget, ready_bytes, metrics, settings, .. } = &*self.shared;
        snapshot::Server {
            counters: metrics.clone(),
            connections: self.connection_count() as u64,
            request_budget_bytes: settings.request_budget_bytes,
            request_used_bytes: settings.request_budget_bytes.saturating_sub(budget.free_bytes()),
            reply_waiting_bytes: ready_bytes.get() as u64,
        }
    }
}

impl Shared {
    /// As a list of their own: what is done to one may end another.
    fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().map(Rc::clone).collect()
    }

    /// What the next reply may have of the bytes that are not taken by replies waiting for slow clients.
    fn reply_bytes_max(&self) -> usize {
        let total = usize::try_from(self.settings.request_budget_bytes).unwrap_or(usize::MAX);
        (total.saturating_sub(self.ready_bytes.get()) / 2).max(REPLY_BYTES_MIN)
    }

    /// Replies waiting for slow clients have used up what they may.
    fn are_replies_short(&self) -> bool {
        self.ready_bytes.get() as u64 > self.settings.request_budget_bytes
    }

    /// Waits until no connection and no accept loop is left; false at the deadline.
    async fn all_ended(&self, deadline: Instant) -> bool {
        while self.accepting.get() > 0 || !self.connections.borrow().is_empty() {
            let timed_out = or(
                async {
                    self.ended.notified().await;
                    false
                },
                async {
                    sleep_until(deadline).await;
                    true
                },
            );
            if timed_out.await {
                return false;
            }
        }
        true
    }
}

/// Closes connections on which nothing has happened for too long, and those that hold memory for a frame they do
/// not send, or a reply they do not take, while others need it.
async fn close_idle(shared: Weak<Shared>) {
    loop {
        let Some(idle_max) = shared.upgrade().map(|shared| shared.settings.idle_max) else { return };
        sleep(idle_max.map_or(IDLE_CHECK_MAX, |max| (max / 4).clamp(IDLE_CHECK_MIN, IDLE_CHECK_MAX))).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.stopping.get() {
            return;
        }
        let now = now();
        for connection in shared.connections() {
            connection.close_if_idle(now);
        }
    }
}
