//! max.connections and max.connections.per.ip: the node's counts of connections.
//!
//! With the free space of a log directory (`storage/space.rs`) the only state that shards share above the reactor. It is touched when a connection is accepted and when it
//! ends, never by a request, so a lock and atomics do no harm here. Connections are counted by address whether or not
//! there is a limit, for it may be set while they last. The overrides stay as they are at the start: their host names
//! are looked up then.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, Live};
use crate::metadata::LiveConfigs;

/// One per node, shared by its shards.
#[derive(Debug)]
pub struct Limits {
    connections_max: AtomicUsize,
    per_address_max: AtomicUsize,
    /// Instead of `per_address_max`.
    overrides: HashMap<IpAddr, usize>,
    connections: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that counts; dropping it ends the count.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Arc<Limits>,
    address: IpAddr,
}

/// Why a connection cannot be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The node has max.connections: Kafka lets the newcomer wait until another ends.
    NodeFull,
    /// The address has max.connections.per.ip: Kafka closes the newcomer.
    AddressFull,
}

impl Limits {
    /// # Errors
    /// A host of max.connections.per.ip.overrides has no address.
    pub fn new(config: &Config) -> Result<Arc<Limits>, String> {
        let mut overrides = HashMap::new();
        for (host, count) in &config.max_connections_per_ip_overrides {
            let addresses = (host.as_str(), 0).to_socket_addrs().map_err(|error| {
                format!(
                    "max.connections.per.ip.overrides: {host}: {error}; use an address or a name that has one"
                )
            })?;
            overrides.extend(addresses.map(|address| (address.ip(), *count)));
        }
        let live = config.live(LiveConfigs::NONE);
        Ok(Limits::of(live.max_connections, live.max_connections_per_ip, overrides))
    }

    pub(super) fn of(
        connections_max: usize,
        per_address_max: usize,
        overrides: HashMap<IpAddr, usize>,
    ) -> Arc<Limits> {
        Arc::new(Limits {
            connections_max: AtomicUsize::new(connections_max),
            per_address_max: AtomicUsize::new(per_address_max),
            overrides,
            connections: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Changes the limits for who comes from now on; who is there stays.
    pub fn reconfigure(&self, live: &Live) {
        self.connections_max.store(live.max_connections, Ordering::Relaxed);
        self.per_address_max.store(live.max_connections_per_ip, Ordering::Relaxed);
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admission, Refusal> {
        {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.get(&address).copied().unwrap_or(0);
            if count >= self.most_from(address) {
                return Err(Refusal::AddressFull);
            }
            by_address.insert(address, count + 1);
        }
        // from here on the admission's drop undoes the address's count
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let admission = Admission { limits: Arc::clone(self), address };
        if before >= self.connections_max.load(Ordering::Relaxed) {
            return Err(Refusal::NodeFull);
        }
        Ok(admission)
    }

    fn most_from(&self, address: IpAddr) -> usize {
        let of_all = self.per_address_max.load(Ordering::Relaxed);
        self.overrides.get(&address).copied().unwrap_or(of_all)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limits.connections.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.limits.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_per_node_and_per_address() {
        let limits = Limits::of(3, 2, HashMap::new());
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let first = limits.admit(a).unwrap();
        let _second = limits.admit(a).unwrap();
        assert_eq!(limits.admit(a).unwrap_err(), Refusal::AddressFull);
        let third = limits.admit(b).unwrap();
        assert_eq!(limits.admit(b).unwrap_err(), Refusal::NodeFull);
        assert_eq!(limits.count(), 3, "a refusal leaves nothing behind");
        drop(third);
        let _third = limits.admit(b).unwrap();
        drop(first);
        let _first = limits.admit(a).unwrap();
        assert_eq!(limits.admit(a).unwrap_err(), Refusal::AddressFull);
        drop((_first, _second, _third));
        assert_eq!(limits.count(), 0);
        assert!(limits.by_address.lock().unwrap().is_empty(), "addresses are forgotten");
    }

    #[test]
    fn an_override_counts_instead() {
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        for per_address_max in [usize::MAX, 2] {
            let limits = Limits::of(usize::MAX, per_address_max, HashMap::from([(a, 1)]));
            let first = limits.admit(a).unwrap();
            assert_eq!(limits.admit(a).unwrap_err(), Refusal::AddressFull);
            let _others = [limits.admit(b).unwrap(), limits.admit(b).unwrap()];
            drop(first);
            let _first = limits.admit(a).unwrap();
        }
    }
}
