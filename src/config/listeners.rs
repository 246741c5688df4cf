//! listeners, advertised.listeners, listener.security.protocol.map and controller.listener.names, put together.

use std::collections::BTreeMap;
// the types alone: std::net would bring sockets into a pure folder
use core::net::{IpAddr, Ipv6Addr};

use super::Listener;
use crate::metadata::setting::split_list;
use crate::model::SecurityProtocol;

/// The four settings' texts.
pub(super) struct Texts<'a> {
    pub listeners: &'a str,
    pub advertised: Option<&'a str>,
    pub protocols: &'a str,
    pub controllers: &'a str,
}

/// A setting and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

/// What is worth a word: the setting, and the note.
pub(super) type Note = (&'static str, String);

pub(super) fn parse(texts: &Texts<'_>, notes: &mut Vec<Note>) -> Result<Vec<Listener>, Wrong> {
    let protocols = protocols(texts.protocols)?;
    let controllers: Vec<String> =
        split_list(texts.controllers).into_iter().map(str::to_ascii_uppercase).collect();
    let mut listeners: Vec<Listener> = Vec::new();
    for item in split_list(texts.listeners) {
        let wrong = |what: &str| ("listeners", format!("{item}: {what}"));
        let address = Address::parse(item).map_err(|what| wrong(&what))?;
        if controllers.contains(&address.name) {
            notes.push((
                "listeners",
                format!("{item} is passed over: controllers of corelane do not listen apart from the broker"),
            ));
            continue;
        }
        let protocol = match protocols.get(&address.name) {
            Some(&protocol) => protocol,
            None => SecurityProtocol::from_name(&address.name).ok_or_else(|| {
                wrong(&format!("listener.security.protocol.map has no protocol for {}", address.name))
            })?,
        };
        if protocol != SecurityProtocol::Plaintext {
            return Err(wrong(&format!("{protocol} is not available yet, only PLAINTEXT is")));
        }
        if listeners.iter().any(|other| other.name == address.name) {
            return Err(wrong(&format!("the name {} occurs twice", address.name)));
        }
        if let Some(other) = listeners.iter().find(|other| address.clashes(&other.host, other.port)) {
            return Err(wrong(&format!("the port {} is taken by {}", address.port, other.name)));
        }
        listeners.push(address.listener(protocol, texts.advertised.is_none(), notes));
    }
    if listeners.is_empty() {
        return Err(("listeners", format!("{}: no listener for clients", texts.listeners)));
    }
    for item in split_list(texts.advertised.unwrap_or_default()) {
        advertise(item, &controllers, &mut listeners)?;
    }
    Ok(listeners)
}

fn protocols(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, Wrong> {
    let mut protocols = BTreeMap::new();
    for item in split_list(text) {
        let pair = item.split_once(':').map(|(name, protocol)| (name.trim(), protocol.trim()));
        let parsed = pair.and_then(|(name, protocol)| Some((name, SecurityProtocol::from_name(protocol)?)));
        let Some((name, protocol)) = parsed else {
            let names = SecurityProtocol::ALL.map(SecurityProtocol::name).join(", ");
            return Err((
                "listener.security.protocol.map",
                format!("{item}: must be NAME:PROTOCOL, the protocol one of {names}"),
            ));
        };
        protocols.insert(name.to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

fn advertise(item: &str, controllers: &[String], listeners: &mut [Listener]) -> Result<(), Wrong> {
    let wrong = |what: &str| ("advertised.listeners", format!("{item}: {what}"));
    let address = Address::parse(item).map_err(|what| wrong(&what))?;
    if controllers.contains(&address.name) {
        return Ok(());
    }
    let Some(listener) = listeners.iter_mut().find(|listener| listener.name == address.name) else {
        return Err(wrong(&format!("listeners has no {}", address.name)));
    };
    if address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(wrong("clients cannot connect to this address; name one that they can reach"));
    }
    if address.port == 0 && listener.port != 0 {
        return Err(wrong("clients cannot connect to port 0"));
    }
    if !address.host.is_empty() {
        listener.advertised_host = address.host;
    }
    listener.advertised_port = address.port;
    Ok(())
}

/// `host:port`, an IPv6 address in brackets, which the host then has no more.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => {
            let inner = bracketed.strip_suffix(']')?;
            inner.split('%').next().unwrap_or_default().parse::<Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let is_host = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '%' | ':')
    };
    host.chars().all(is_host).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// Both cannot be bound. Two hosts may be one address by another name; then binding says so.
pub(super) fn clash(host: &str, port: u16, other_host: &str, other_port: u16) -> bool {
    let everywhere =
        |host: &str| host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let same_host = host == other_host || everywhere(host) || everywhere(other_host);
    port == other_port && port != 0 && same_host
}

/// `NAME://host:port`.
struct Address {
    /// In upper case: Kafka's names do not tell cases apart.
    name: String,
    host: String,
    port: u16,
}

impl Address {
    fn parse(text: &str) -> Result<Address, String> {
        let shape =
            || "must be NAME://host:port, an IPv6 address in brackets, the port from 0 to 65535".to_owned();
        let (name, address) = text.split_once("://").ok_or_else(shape)?;
        let (host, port) = host_and_port(address).ok_or_else(shape)?;
        let named = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !named {
            return Err(shape());
        }
        Ok(Address { name: name.to_ascii_uppercase(), host, port })
    }

    fn clashes(&self, host: &str, port: u16) -> bool {
        clash(&self.host, self.port, host, port)
    }

    fn listener(self, protocol: SecurityProtocol, tells_itself: bool, notes: &mut Vec<Note>) -> Listener {
        let unspecified = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if unspecified && tells_itself {
            notes.push((
                "listeners",
                format!(
                    "{}://{}:{} takes connections on every interface, but tells clients to connect to localhost; \
                     set advertised.listeners to what they can reach",
                    self.name, self.host, self.port
                ),
            ));
        }
        let advertised_host =
            if self.host.is_empty() || unspecified { "localhost".to_owned() } else { self.host.clone() };
        Listener {
            name: self.name,
            protocol,
            host: self.host,
            port: self.port,
            advertised_host,
            advertised_port: self.port,
        }
    }
}
