//! Metrics and health over HTTP: `/metrics`, `/metrics/partitions`, `/metrics/groups`, `/healthz`, `/readyz`, on a listener of their own.
//!
//! One [`Admin`] per node, on shard 0. It is there before the logs are recovered and until the process ends; what it
//! tells it asks the shards for, by the same messages as anybody (`gather`). A connection is one task that runs
//! hyper over the reactor's socket (`io`).
//!
//! Invariants:
//! * It takes next to nothing from the shards: many requests at once are one question to each shard; what takes long
//!   (the text, `/proc`) is done on the blocking pool; what is sent gives the shard a turn after each portion.
//! * At most 16 connections; whoever comes then takes the place of the one that has stood still
//!   longest. None lives longer than 30 seconds after its last request.
//! * Nothing here can stop the broker or keep it from stopping.

mod gather;
mod io;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::log_rate::LogRate;
use crate::metrics;
use crate::model::{DirectoryId, ShardId};
use crate::partition::Shard;
use crate::reactor::sync::Notify;
use crate::reactor::{Instant, TcpListener, TcpStream, now, sleep, sleep_until, spawn, turn};
use gather::{Gatherer, Health};
use io::Io;

/// Open at a time.
const CONNECTIONS_MAX: usize = 16;
/// For a request to come, counted from the one before it, and for its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection on which nothing has moved for that long gives way to a newcomer.
const STILL: Duration = Duration::from_secs(1);
/// How often a newcomer looks for one.
const ROOM_CHECK: Duration = Duration::from_millis(50);
/// After an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest head of a request, and what is written at once.
const BUFFER_BYTES: usize = 16 * 1024;

const PLAIN: &str = "text/plain; charset=utf-8";
const INDEX: &str = "corelane\n\n\
    /metrics             for Prometheus\n\
    /metrics/partitions  the same of every partition's offsets\n\
    /metrics/groups      the same of every consumer group's offsets and lag\n\
    /healthz             200 while every shard answers\n\
    /readyz              200 while clients are served and every log directory takes writes\n";

/// How far the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Serving,
    Stopping,
}

/// Where it listens and what it tells of the node.
pub struct Settings {
    /// All of them serve the same. Port 0: any free one, the same for all if it can be.
    pub addresses: Vec<SocketAddr>,
    pub shard_count: usize,
    /// Their names for the operator.
    pub log_dirs: Vec<(DirectoryId, PathBuf)>,
    /// When the process was started, milliseconds since 1970.
    pub started_ms: i64,
}

/// Lives on shard 0. Its tasks go on when it is dropped.
pub struct Admin {
    shared: Rc<Shared>,
    addresses: Vec<SocketAddr>,
}

struct Shared {
    gatherer: Rc<Gatherer>,
    log_dirs: Vec<(DirectoryId, PathBuf)>,
    connections: RefCell<BTreeMap<u64, Rc<Client>>>,
    next_connection: Cell<u64>,
    ended: Notify,
    log_rate: LogRate,
}

/// One connection as its tasks and its rivals see it.
struct Client {
    stream: TcpStream,
    /// When something was received or sent last.
    progress: Cell<Instant>,
    /// Its request is being answered.
    handling: Cell<bool>,
    deadline: Cell<Instant>,
}

impl Admin {
    /// Listens and answers from now on; `shard` is shard 0, and has been started.
    ///
    /// # Errors
    /// None of the addresses can be listened on.
    pub fn start(settings: Settings, shard: Rc<Shard>) -> std::io::Result<Admin> {
        let sockets = bind(&settings.addresses)?;
        let addresses = sockets.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let shared = Rc::new(Shared {
            gatherer: Gatherer::new(shard, settings.shard_count, settings.started_ms),
            log_dirs: settings.log_dirs,
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            ended: Notify::default(),
            log_rate: LogRate::default(),
        });
        for socket in sockets {
            spawn(accept_loop(Rc::clone(&shared), socket));
        }
        Ok(Admin { shared, addresses })
    }

    /// With the ports that were bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn set_phase(&self, phase: Phase) {
        self.shared.gatherer.phase.set(phase);
    }
}

/// One socket is enough: a machine may have no IPv6.
fn bind(addresses: &[SocketAddr]) -> std::io::Result<Vec<TcpListener>> {
    let mut sockets: Vec<TcpListener> = Vec::new();
    let mut failed = None;
    for &wanted in addresses {
        let mut address = wanted;
        if let Some(first) = sockets.first().filter(|_| wanted.port() == 0) {
            address.set_port(first.local_addr()?.port());
        }
        match TcpListener::bind_alone(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

async fn accept_loop(shared: Rc<Shared>, socket: TcpListener) {
    loop {
        match socket.accept().await {
            Ok(stream) => {
                shared.room().await;
                let (id, client) = shared.enter(stream);
                spawn(serve(Rc::clone(&shared), id, client));
            }
            Err(error) => {
                if let Some(suppressed) = shared.log_rate.admit(now()) {
                    tracing::warn!(%error, suppressed, "the admin listener cannot accept connections");
                }
                sleep(BACK_OFF).await;
            }
        }
    }
}

impl Shared {
    /// Waits until there may be one more connection.
    async fn room(&self) {
        while self.connections.borrow().len() >= CONNECTIONS_MAX {
            let oldest = {
                let connections = self.connections.borrow();
                let waiting = connections.values().filter(|client| !client.handling.get());
                waiting.min_by_key(|client| client.progress.get()).map(Rc::clone)
            };
            if let Some(client) = oldest.filter(|client| now().since(client.progress.get()) > STILL) {
                client.stream.shutdown();
            }
            or(self.ended.notified(), sleep(ROOM_CHECK)).await;
        }
    }

    fn enter(&self, stream: TcpStream) -> (u64, Rc<Client>) {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let client = Rc::new(Client {
            stream,
            progress: Cell::new(now()),
            handling: Cell::new(false),
            deadline: Cell::new(now().after(PATIENCE)),
        });
        let mut connections = self.connections.borrow_mut();
        connections.insert(id, Rc::clone(&client));
        self.gatherer.connections.set(connections.len() as u64);
        (id, client)
    }

    fn leave(&self, id: u64) {
        let mut connections = self.connections.borrow_mut();
        connections.remove(&id);
        self.gatherer.connections.set(connections.len() as u64);
        self.ended.notify();
    }
}

/// One connection from its first byte to its last.
async fn serve(shared: Rc<Shared>, id: u64, client: Rc<Client>) {
    let service = service_fn(|request| {
        let (shared, client) = (Rc::clone(&shared), Rc::clone(&client));
        async move {
            client.deadline.set(now().after(PATIENCE));
            client.handling.set(true);
            let response = shared.answer(request).await;
            client.handling.set(false);
            client.progress.set(now());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(Io::new(Rc::clone(&client)), service);
    let ended = or(async { connection.await.map_err(|error| error.to_string()) }, async {
        while client.deadline.get() > now() {
            sleep_until(client.deadline.get()).await;
        }
        Err("too slow, or silent".to_owned())
    });
    if let Err(reason) = ended.await {
        tracing::debug!(peer = ?client.stream.peer_addr(), reason, "admin connection closed");
    }
    client.stream.shutdown();
    shared.leave(id);
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // However many requests come at once, the shard's other work comes in between.
        turn().await;
        let path = request.uri().path();
        if !matches!(
            path,
            "/" | "/metrics" | "/metrics/partitions" | "/metrics/groups" | "/healthz" | "/readyz"
        ) {
            return response(StatusCode::NOT_FOUND, PLAIN, "not found; / lists what there is\n".into());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal =
                response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are allowed\n".into());
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/metrics" => response(StatusCode::OK, metrics::CONTENT_TYPE, self.gatherer.metrics().await),
            "/metrics/partitions" => {
                response(StatusCode::OK, metrics::CONTENT_TYPE, self.gatherer.partitions().await)
            }
            "/metrics/groups" => {
                response(StatusCode::OK, metrics::CONTENT_TYPE, self.gatherer.groups().await)
            }
            "/healthz" => verdict(silent(&*self.gatherer.health().await)),
            "/readyz" => verdict(self.unready().await),
            _ => response(StatusCode::OK, PLAIN, INDEX.into()),
        }
    }

    /// Why clients are not, or not all, served.
    async fn unready(&self) -> Vec<String> {
        match self.gatherer.phase.get() {
            Phase::Starting => vec!["starting: logs are being opened and recovered".to_owned()],
            Phase::Stopping => vec!["stopping".to_owned()],
            Phase::Serving => {
                let health = self.gatherer.health().await;
                let mut reasons = silent(&health);
                let offline = self.log_dirs.iter().filter(|(id, _)| health.offline.contains(id));
                reasons.extend(offline.map(|(_, path)| {
                    format!(
                        "log directory {} is offline for writing: repair the disk, then restart the broker",
                        path.display()
                    )
                }));
                reasons
            }
        }
    }
}

fn silent(health: &Health) -> Vec<String> {
    health.silent.iter().map(|ShardId(id)| format!("shard {id} does not answer")).collect()
}

/// 200 and `ok`, or 503 and the reasons.
fn verdict(reasons: Vec<String>) -> Response<Full<Bytes>> {
    if reasons.is_empty() {
        return response(StatusCode::OK, PLAIN, "ok\n".into());
    }
    response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, (reasons.join("\n") + "\n").into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
