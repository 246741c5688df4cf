//! What each shard runs; shard 0 leads the node through boot, serving and stop.

use std::cell::{OnceCell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::addresses::ShardPorts;
use super::stop::StopSignal;
use crate::cluster::{self, Boot, Booted, ControllerHost, Directories, SnapshotSettings};
use crate::config::{Config, Live};
use crate::handlers::Loggers;
use crate::metadata::{self, Endpoint, Image, LiveConfigs};
use crate::metrics::snapshot;
use crate::model::{DirectoryId, ShardId};
use crate::partition::{
    CoordinatorSettings, Host, Lifecycle, Message, RelocatePartition, Shard, ShardRequest,
};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext, TcpListener};
use crate::server::admin::{self, Admin, Phase};
use crate::server::{BoundListener, Lanes, Limits, Server};
use crate::storage;

type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What every shard starts from.
pub(super) struct NodePlan {
    pub(super) config: Config,
    /// For the banner.
    pub(super) core_list: String,
    /// Where each listener of the configuration binds, in its order; port 0 still open.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) shard_ports: ShardPorts,
    /// Where the admin listener binds; empty: nowhere.
    pub(super) admin_addresses: Vec<SocketAddr>,
    /// When the process was started, milliseconds since 1970.
    pub(super) started_ms: i64,
    pub(super) directories: Directories,
    pub(super) stop: StopSignal,
    /// Connections of the whole node.
    pub(super) limits: Arc<Limits>,
    /// Made by the first shard that serves.
    pub(super) lanes: OnceLock<Arc<Lanes>>,
    pub(super) loggers: Arc<Loggers>,
}

/// How a shard ended.
pub(super) struct Ended {
    /// On shard 0; -1 on the others.
    pub(super) broker_epoch: i64,
    /// Log directories that this shard could not leave clean.
    pub(super) unclean: Vec<DirectoryId>,
}

/// One shard's life; why the node cannot run, if it cannot.
pub(super) async fn run_shard(context: ShardContext<Message>, plan: Arc<NodePlan>) -> Result<Ended, String> {
    let ShardContext { id, count, core, mesh } = context;
    tracing::debug!(shard = id.0, ?core, "shard runs");
    let config = &plan.config;
    let image =
        Image::new(&plan.directories.cluster_id, config.topic_defaults.clone()).of_broker(config.node_id);
    let shard = Shard::new(id, count, config.node_id, image.clone(), mesh);
    let node = Rc::new(Node::new(Arc::clone(&plan), &shard));
    let log_dirs = plan.directories.log_dirs.clone();
    shard.start(
        storage_config(config, count),
        CoordinatorSettings { groups: config.groups.clone(), transactions: config.transactions.clone() },
        log_dirs,
        Box::new(NodeHost(Rc::clone(&node))),
    );
    shard.verify_by_coordinators();
    shard.set_verification(config.live(LiveConfigs::NONE).verifies_transactions);
    shard.storage().boot_begins();
    let broker_epoch = if id == ShardId::ZERO {
        node.lead(count, image).await?
    } else {
        node.ended.notified().await;
        -1
    };
    Ok(Ended { broker_epoch, unclean: node.unclean.take() })
}

/// Kafka's minimum for one cleaner.
const CLEANER_MAP_BYTES_MIN: usize = 1 << 20;

fn storage_config(config: &Config, shards: usize) -> storage::Config {
    storage::Config {
        journal_bytes: config.shard.journal_bytes,
        tail_cache_bytes: config.shard.tail_cache_bytes,
        read_ahead_bytes: config.shard.read_ahead_bytes,
        reserve_bytes: config.disk_reserve_bytes,
        checkpoint_interval_ms: config.checkpoint_interval_ms,
        retention_check_interval_ms: config.retention_check_interval_ms,
        producer_state_bytes: config.shard.producer_state_bytes,
        live: live_storage_config(&config.live(LiveConfigs::NONE), shards),
    }
}

fn live_storage_config(live: &Live, shards: usize) -> storage::LiveConfig {
    storage::LiveConfig {
        producer_expiration_ms: live.producer_id_expiration_ms,
        cleaner: storage::CleanerConfig {
            backoff_ms: live.cleaner.backoff_ms,
            map_bytes: (live.cleaner.map_bytes / shards.max(1)).max(CLEANER_MAP_BYTES_MIN),
            is_on: live.cleaner.threads > 0,
        },
        relocation_bytes_per_second: live.relocation_bytes_per_second.div_ceil(shards.max(1) as u64),
    }
}

struct Node {
    plan: Arc<NodePlan>,
    shard: Weak<Shard>,
    controller: OnceCell<ControllerHost>,
    /// Stopped, it stays for what it has counted.
    server: OnceCell<Server>,
    /// Shard 0's sockets, bound before boot so that port 0 becomes a port the registration can tell.
    bound: RefCell<Vec<TcpListener>>,
    /// StopStorage has been answered.
    ended: Notify,
    unclean: RefCell<Vec<DirectoryId>>,
}

/// What serves once every shard does.
struct Up {
    admin: Option<Admin>,
    addresses: Vec<SocketAddr>,
    /// Between log directories, that the last stop has cut off.
    moves: Vec<RelocatePartition>,
}

struct NodeHost(Rc<Node>);

impl Host for NodeHost {
    fn control(&self, request: metadata::Request) -> LocalFuture<metadata::Reply> {
        let controller = self.0.controller.get().expect("clients are served after boot").clone();
        Box::pin(async move { controller.handle(request).await })
    }

    fn lifecycle(&self, step: Lifecycle) -> LocalFuture<()> {
        let node = Rc::clone(&self.0);
        Box::pin(async move { node.step(step).await })
    }

    fn reconfigured(&self) {
        self.0.reconfigure();
    }

    fn measure(&self) -> snapshot::Server {
        self.0.server.get().map(Server::measure).unwrap_or_default()
    }
}

impl Node {
    fn new(plan: Arc<NodePlan>, shard: &Rc<Shard>) -> Node {
        Node {
            plan,
            shard: Rc::downgrade(shard),
            controller: OnceCell::new(),
            server: OnceCell::new(),
            bound: RefCell::default(),
            ended: Notify::default(),
            unclean: RefCell::default(),
        }
    }

    fn shard(&self) -> Rc<Shard> {
        self.shard.upgrade().expect("the shard lives as long as its loop")
    }

    /// Takes over what is set of this broker's settings while it runs.
    fn reconfigure(&self) {
        let (plan, shard) = (&self.plan, self.shard());
        let live = plan.config.live(shard.image().live_configs(plan.config.node_id));
        shard.storage().reconfigure(live_storage_config(&live, reactor::shard_count()));
        shard.set_verification(live.verifies_transactions);
        plan.limits.reconfigure(&live);
    }

    async fn step(&self, step: Lifecycle) {
        match step {
            Lifecycle::Serve(addresses) => {
                self.shard().storage().boot_is_done().await;
                let listeners = self.bind(&addresses);
                let NodePlan { config, limits, lanes, loggers, .. } = &*self.plan;
                let (limits, loggers) = (Arc::clone(limits), Arc::clone(loggers));
                let lanes = lanes.get_or_init(|| Arc::new(Lanes::new(reactor::shard_count())));
                let server =
                    Server::start(config, self.shard(), listeners, limits, Arc::clone(lanes), loggers);
                assert!(self.server.set(server).is_ok(), "a node serves once");
            }
            Lifecycle::StopServing => {
                self.shard().end_waits();
                if let Some(server) = self.server.get() {
                    server.stop().await;
                }
            }
            Lifecycle::StopStorage => {
                let shard = self.shard();
                // An error says that a directory is offline; which, says the question below.
                let _ = shard.storage().stop().await;
                let directories = self.plan.directories.log_dirs.iter().map(|directory| directory.id);
                *self.unclean.borrow_mut() =
                    directories.filter(|&directory| !shard.storage().is_online(directory)).collect();
                self.ended.notify();
            }
        }
    }

    /// This shard's sockets on the addresses shard 0 has bound.
    fn bind(&self, addresses: &[SocketAddr]) -> Vec<BoundListener> {
        let mut sockets = self.bound.take();
        for &address in &addresses[sockets.len()..] {
            sockets.push(TcpListener::bind(address).unwrap_or_else(|error| {
                // Shard 0 holds the port: only descriptors or memory can be missing now.
                tracing::error!(%address, %error, "cannot listen; raise the open files limit (ulimit -n)");
                std::process::exit(1);
            }));
        }
        let shared = self.plan.endpoints(addresses).zip(sockets);
        let shared = shared.map(|(endpoint, socket)| BoundListener { socket, endpoint, shard: None });
        let shard = reactor::shard_id();
        let own = self.plan.endpoints(addresses).zip(self.plan.shard_ports.take(shard));
        let own = own.map(|(endpoint, socket)| {
            let socket = TcpListener::adopt(socket).unwrap_or_else(|error| {
                tracing::error!(port = endpoint.shard_ports[shard.index()], %error, "cannot listen");
                std::process::exit(1);
            });
            BoundListener { socket, endpoint, shard: Some(shard) }
        });
        shared.chain(own).collect()
    }

    fn bind_first(&self) -> Result<Vec<SocketAddr>, String> {
        let mut addresses = Vec::new();
        for &wanted in &self.plan.addresses {
            let socket =
                TcpListener::bind(wanted).map_err(|error| format!("cannot listen on {wanted}: {error}"))?;
            addresses.push(
                socket.local_addr().map_err(|error| format!("cannot tell the port of {wanted}: {error}"))?,
            );
            self.bound.borrow_mut().push(socket);
        }
        Ok(addresses)
    }

    async fn lead(self: &Rc<Self>, shard_count: usize, image: Image) -> Result<i64, String> {
        let shard = self.shard();
        let Up { admin, addresses, moves } = match self.come_up(shard_count, image).await {
            Ok(up) => up,
            Err(why) => {
                self.every_shard(shard_count, &Lifecycle::StopStorage).await;
                return Err(why);
            }
        };
        let addresses = Arc::new(addresses);
        let set_phase = |phase| admin.iter().for_each(|admin| admin.set_phase(phase));
        self.every_shard(shard_count, &Lifecycle::Serve(Arc::clone(&addresses))).await;
        set_phase(Phase::Serving);
        reactor::spawn({
            let shard = Rc::clone(&shard);
            // those that cannot begin say why
            async move { shard.relocate(moves).await }
        });
        let admin_addresses = admin.as_ref().map_or(&[][..], Admin::addresses);
        if let Err(error) = print_banner(&self.plan, shard_count, &addresses, admin_addresses) {
            tracing::warn!(%error, "nobody reads stdout; serving all the same");
        }
        self.plan.stop.asked().await;
        set_phase(Phase::Stopping);
        self.every_shard(shard_count, &Lifecycle::StopServing).await;
        if let Some(controller) = self.controller.get() {
            controller.end().await;
        }
        let epoch = shard.image().last_broker_epoch().0;
        self.every_shard(shard_count, &Lifecycle::StopStorage).await;
        Ok(epoch)
    }

    /// Listens everywhere and boots: then clients may come.
    async fn come_up(&self, shard_count: usize, image: Image) -> Result<Up, String> {
        let admin = self.admin(shard_count)?;
        let addresses = self.bind_first()?;
        let moves = self.boot(shard_count, image, &addresses).await?;
        Ok(Up { admin, addresses, moves })
    }

    /// From before the logs are opened, so that whoever waits for the broker can see what it is at.
    fn admin(&self, shard_count: usize) -> Result<Option<Admin>, String> {
        let NodePlan { config, admin_addresses, directories, started_ms, .. } = &*self.plan;
        if admin_addresses.is_empty() {
            return Ok(None);
        }
        let log_dirs = directories.log_dirs.iter().map(|directory| (directory.id, directory.path.clone()));
        let settings = admin::Settings {
            addresses: admin_addresses.clone(),
            shard_count,
            log_dirs: log_dirs.collect(),
            started_ms: *started_ms,
        };
        match Admin::start(settings, self.shard()) {
            Ok(admin) => Ok(Some(admin)),
            Err(error) if config.admin_listener.as_ref().is_some_and(|listener| listener.is_set) => {
                Err(format!("cannot listen on {}: {error}", admin_addresses[0]))
            }
            Err(error) => {
                tracing::warn!(%error, "no metrics and no health checks are served: the port cannot be listened on");
                Ok(None)
            }
        }
    }

    /// Opens every log; gives the moves between log directories that the last stop has cut off.
    async fn boot(
        &self,
        shard_count: usize,
        image: Image,
        addresses: &[SocketAddr],
    ) -> Result<Vec<RelocatePartition>, String> {
        let NodePlan { config, directories, .. } = &*self.plan;
        let boot = Boot {
            shard_count,
            image,
            settings: config.controller.clone(),
            log_dirs: directories.log_dirs.clone(),
            fresh: directories.fresh,
            endpoints: self.plan.endpoints(addresses).collect(),
            rack: config.rack.clone(),
            snapshots: SnapshotSettings {
                after_bytes: config.metadata_snapshot_bytes,
                after: (config.metadata_snapshot_interval_ms > 0)
                    .then(|| Duration::from_millis(config.metadata_snapshot_interval_ms)),
            },
        };
        let identify = || directories.identify_fresh().map_err(|error| error.to_string());
        let Booted { controller, moves } = cluster::boot(&self.shard(), boot, identify).await?;
        assert!(self.controller.set(controller).is_ok(), "a node boots once");
        Ok(moves)
    }

    /// Leads every shard through one step; this shard last, since it answers the others meanwhile.
    async fn every_shard(&self, shard_count: usize, step: &Lifecycle) {
        let shard = self.shard();
        let mut tasks = Vec::new();
        for index in 1..shard_count {
            let to = ShardId(u16::try_from(index).expect("shards are few"));
            let (shard, request) = (Rc::clone(&shard), ShardRequest::Lifecycle(step.clone()));
            tasks.push(reactor::spawn(async move { shard.ask(to, request).await }));
        }
        for task in tasks {
            task.await;
        }
        self.step(step.clone()).await;
    }
}

impl NodePlan {
    /// What clients of each listener are told; `bound` is where they listen.
    fn endpoints(&self, bound: &[SocketAddr]) -> impl Iterator<Item = Endpoint> {
        let listeners = self.config.listeners.iter().zip(bound).zip(&self.shard_ports.bound);
        listeners.map(|((listener, address), shard_ports)| {
            let offset = self.config.shard_port_offset.unwrap_or(0);
            let advertised = |(shard, &bound)| listener.advertised_shard_port(offset, shard, bound);
            Endpoint {
                listener: listener.name.clone(),
                host: listener.advertised_host.clone(),
                port: if listener.advertised_port == 0 { address.port() } else { listener.advertised_port },
                protocol: listener.protocol,
                shard_ports: shard_ports.iter().enumerate().map(advertised).collect(),
            }
        })
    }
}

/// `10092-10093`, or one by one if they are not in a row.
fn ports(ports: &[u16]) -> String {
    match ports {
        [first, .., last] if ports.is_sorted_by(|a, b| a.checked_add(1) == Some(*b)) => {
            format!("{first}-{last}")
        }
        _ => ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What an operator wants to know first; the last line says that clients may come.
fn print_banner(
    plan: &NodePlan,
    shard_count: usize,
    addresses: &[SocketAddr],
    admin_addresses: &[SocketAddr],
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let config = &plan.config;
    writeln!(
        out,
        "corelane {} · node {} · cluster {}",
        env!("CARGO_PKG_VERSION"),
        config.node_id.0,
        plan.directories.cluster_id
    )?;
    writeln!(out, "  shards    {shard_count}")?;
    writeln!(out, "  cores     {}", plan.core_list)?;
    let endpoints: Vec<Endpoint> = plan.endpoints(addresses).collect();
    for (endpoint, address) in endpoints.iter().zip(addresses) {
        let Endpoint { listener, host, port, shard_ports, .. } = endpoint;
        write!(out, "  listener  {listener}://{address}, advertised as {host}:{port}")?;
        if !shard_ports.is_empty() {
            write!(out, ", one port per shard: {}", ports(shard_ports))?;
        }
        writeln!(out)?;
    }
    if let Some(address) = admin_addresses.first() {
        writeln!(out, "  admin     http://{address}/metrics")?;
    }
    for directory in &plan.directories.log_dirs {
        writeln!(out, "  data      {}", directory.path.display())?;
    }
    let bootstrap = format!("{}:{}", endpoints[0].host, endpoints[0].port);
    writeln!(
        out,
        "  try it    echo 'Hello, Kafka!' | kcat -b {bootstrap} -P -t topic1 && kcat -b {bootstrap} -C -t topic1 -e"
    )?;
    writeln!(out, "ready: serving {bootstrap}")?;
    out.flush()
}
