//! corelane.shard.port.offset: where each shard listens for itself, and what clients are told of it.

use super::listeners::clash;
use super::{Config, ConfigError, Listener};
use crate::model::NodeId;

const KEY: &str = "corelane.shard.port.offset";

impl Config {
    /// Whether this many shards can have ports of their own, if they are to. What others have taken shows at binding.
    ///
    /// # Errors
    /// The port that is too high, or meant for two.
    pub fn check_shard_ports(&self, shards: usize) -> Result<(), ConfigError> {
        let Some(offset) = self.shard_port_offset else { return Ok(()) };
        let wrong = |what: String| {
            Err(ConfigError(format!(
                "invalid value {offset} for {KEY}: {what}; choose another, or 0 for none"
            )))
        };
        if shards > NodeId::SHARDS_MAX {
            return wrong(format!("clients can tell at most {} shards apart", NodeId::SHARDS_MAX));
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            let name = &listener.name;
            for (what, port) in
                [("listens on", listener.port), ("is advertised with", listener.advertised_port)]
            {
                let last = usize::from(port) + usize::from(offset) + shards - 1;
                if port != 0 && last > usize::from(u16::MAX) {
                    return wrong(format!(
                        "{name} {what} port {port}, and shard {} would have port {last}, above {}",
                        shards - 1,
                        u16::MAX
                    ));
                }
            }
            let taken = |host: &str, port: u16| {
                let is_taken =
                    |&shard: &usize| clash(&listener.host, listener.shard_port(offset, shard), host, port);
                (0..shards).find(is_taken).map(|shard| format!("{name} of shard {shard} needs port {port}"))
            };
            for (other_at, other) in self.listeners.iter().enumerate() {
                if let Some(needed) = taken(&other.host, other.port) {
                    return wrong(format!("{needed}, which the listener {} has", other.name));
                }
                let own = |shard| taken(&other.host, other.shard_port(offset, shard));
                if let Some(needed) = (other_at > at).then(|| (0..shards).find_map(own)).flatten() {
                    return wrong(format!("{needed}, and so does a shard of {}", other.name));
                }
            }
            let admin = self.admin_listener.as_ref().and_then(|admin| taken(&admin.host, admin.port));
            if let Some(needed) = admin {
                return wrong(format!("{needed}, which admin.listener has"));
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Where this shard listens for itself; 0: on any free port. The ports have been checked.
    #[must_use]
    pub fn shard_port(&self, offset: u16, shard: usize) -> u16 {
        shard_port(self.port, offset, shard)
    }

    /// What clients are told of a shard that listens on `bound`.
    #[must_use]
    pub fn advertised_shard_port(&self, offset: u16, shard: usize, bound: u16) -> u16 {
        match self.advertised_port {
            0 => bound,
            port => shard_port(port, offset, shard),
        }
    }
}

fn shard_port(port: u16, offset: u16, shard: usize) -> u16 {
    match port {
        0 => 0,
        port => {
            u16::try_from(usize::from(port) + usize::from(offset) + shard).expect("the ports were checked")
        }
    }
}
