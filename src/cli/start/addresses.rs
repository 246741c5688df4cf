//! Where the listeners bind: names become addresses, and ports that others have are found before the shards start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::{AdminListener, Config, Listener};
use crate::model::ShardId;
use crate::reactor::{self, LooseListener};

/// A broker that was just killed lets go of its port within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for the admin port where nobody has asked for it: a second broker on a machine starts without.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);

/// Of each listener, in the configuration's order. Every port was free.
pub(super) fn listeners(config: &Config) -> Result<Vec<SocketAddr>, String> {
    let address = |listener: &Listener| {
        let found = resolve(&listener.host, listener.port).map_err(|why| {
            format!(
                "listeners: {}://{}:{}: {why}; use an address of this host",
                listener.name, listener.host, listener.port
            )
        })?;
        Ok(found[0])
    };
    let addresses = config.listeners.iter().map(address).collect::<Result<Vec<_>, String>>()?;
    for &address in &addresses {
        reactor::probe_port(address, "listeners", PATIENCE).map_err(|error| error.to_string())?;
    }
    Ok(addresses)
}

/// The shards' own ports, listened on from the start, so that the registration can tell them.
pub(super) struct ShardPorts {
    /// Of each listener, in the configuration's order, the bound port of each shard; empty: they have none.
    pub(super) bound: Vec<Vec<u16>>,
    /// Of each shard that has not taken them yet, in the order of the listeners.
    sockets: Mutex<Vec<Vec<LooseListener>>>,
}

impl ShardPorts {
    /// `addresses` are those of the listeners.
    pub(super) fn bind(
        config: &Config,
        addresses: &[SocketAddr],
        shards: usize,
    ) -> Result<ShardPorts, String> {
        config.check_shard_ports(shards).map_err(|error| error.to_string())?;
        let mut bound = vec![Vec::new(); addresses.len()];
        let mut sockets: Vec<Vec<LooseListener>> = (0..shards).map(|_| Vec::new()).collect();
        if let Some(offset) = config.shard_port_offset {
            for ((listener, address), bound) in config.listeners.iter().zip(addresses).zip(&mut bound) {
                for (shard, sockets) in sockets.iter_mut().enumerate() {
                    let address = SocketAddr::new(address.ip(), listener.shard_port(offset, shard));
                    let socket = LooseListener::bind(address, "corelane.shard.port.offset", PATIENCE)
                        .map_err(|error| format!("{} of shard {shard}: {error}", listener.name))?;
                    let address = socket.local_addr().map_err(|error| error.to_string())?;
                    bound.push(address.port());
                    sockets.push(socket);
                }
            }
        }
        Ok(ShardPorts { bound, sockets: Mutex::new(sockets) })
    }

    /// Those of this shard, in the order of the listeners; for the shard itself, once.
    pub(super) fn take(&self, shard: ShardId) -> Vec<LooseListener> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut sockets[shard.index()])
    }
}

/// Of the admin listener; empty: there is none, or only the default one and its port is taken, by others or by one of
/// our own `listeners`.
pub(super) fn admin(config: &Config, listeners: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    let Some(listener) = &config.admin_listener else { return Ok(Vec::new()) };
    let addresses = match admin_addresses(listener) {
        Ok(addresses) => addresses,
        Err(why) => {
            return unless_default(listener, format!("admin.listener: {why}; use an address of this host"));
        }
    };
    let is_clash = |admin: &SocketAddr, other: &SocketAddr| {
        let overlap = admin.ip() == other.ip() || admin.ip().is_unspecified() || other.ip().is_unspecified();
        admin.port() != 0 && admin.port() == other.port() && overlap
    };
    if let Some(clash) = addresses.iter().find(|admin| listeners.iter().any(|other| is_clash(admin, other))) {
        let why = format!(
            "admin.listener: {clash} is one of the listeners, too; set admin.listener= to another port"
        );
        return unless_default(listener, why);
    }
    let patience = if listener.is_set { PATIENCE } else { DEFAULT_PATIENCE };
    let mut free = Vec::new();
    for address in addresses {
        match reactor::probe_port(address, "admin.listener", patience) {
            Ok(()) => free.push(address),
            // one of localhost's two addresses may be missing
            Err(_) if is_absent(address) => {}
            Err(error) => return unless_default(listener, error.to_string()),
        }
    }
    Ok(free)
}

fn unless_default(listener: &AdminListener, why: String) -> Result<Vec<SocketAddr>, String> {
    if listener.is_set {
        return Err(why);
    }
    tracing::warn!("no metrics and no health checks are served: {why}, or to none");
    Ok(Vec::new())
}

/// `localhost` is both loopback addresses: clients try either first.
fn admin_addresses(listener: &AdminListener) -> Result<Vec<SocketAddr>, String> {
    if listener.host.eq_ignore_ascii_case("localhost") {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, listener.port)).to_vec());
    }
    resolve(&listener.host, listener.port).map(|mut found| {
        found.truncate(1);
        found
    })
}

fn is_absent(address: SocketAddr) -> bool {
    address.ip() == Ipv6Addr::LOCALHOST && std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err()
}

/// `[::]` for every interface where there is IPv6 (IPv4 clients reach it too), else `0.0.0.0`. At least one.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if host.is_empty() {
        let any: IpAddr = if std::path::Path::new("/proc/net/if_inet6").exists() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        return Ok(vec![SocketAddr::new(any, port)]);
    }
    let found: Vec<_> = (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}
