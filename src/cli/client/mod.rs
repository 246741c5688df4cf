//! A small client of Kafka's protocol for the commands that talk to a broker.
//!
//! Blocking, on plain sockets: one connection to each broker, opened when it is needed, one request on it at a time
//! (or one on each of several, with [`Client::send`] and [`Client::receive`]). A request goes in the newest version that
//! both sides have. Nothing is asked again here but what leaders (`leaders.rs`, `offsets.rs`) and coordinators
//! (`coordinator.rs`) are asked, and with [`Client::patiently`]; which broker leads what is read with [`Client::refresh`], [`Client::topic`] and
//! [`Client::leaders`].
//!
//! It trusts the broker it was sent to: answers are bounded in size, not checked otherwise.

mod connection;
mod coordinator;
mod error;
mod leaders;
mod offsets;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Request;

use crate::config::nearest;
use crate::protocol::StrBytes;
use crate::protocol::messages::metadata_request::MetadataRequestTopic;
use crate::protocol::messages::metadata_response::MetadataResponseTopic;
use crate::protocol::messages::{GroupId, MetadataRequest, MetadataResponse, TopicName, TransactionalId};
use connection::Connection;
pub(super) use connection::Pending;
pub(super) use coordinator::Coordinated;
pub(super) use error::{Error, Refusal};
pub(super) use leaders::TopicPartition;
pub(super) use offsets::{EARLIEST, LATEST};

/// Between attempts while another broker becomes the leader.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Client {
    bootstrap: Vec<String>,
    timeout: Duration,
    /// Where each broker listens, as the newest metadata has it.
    addresses: BTreeMap<i32, String>,
    connections: BTreeMap<i32, Connection>,
    /// To one of the bootstrap servers, whichever it is.
    first: Option<Connection>,
    controller: i32,
    /// As far as they are known, by FindCoordinator's kind of key and the key.
    coordinators: BTreeMap<(i8, String), i32>,
}

impl Client {
    /// `bootstrap`: host:port, several separated by commas. Connects to the first that answers.
    pub(super) fn connect(bootstrap: &str, timeout: Duration) -> Result<Client, Error> {
        let bootstrap: Vec<String> = bootstrap
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(with_port)
            .collect();
        let mut client = Client {
            bootstrap,
            timeout,
            addresses: BTreeMap::new(),
            connections: BTreeMap::new(),
            first: None,
            controller: -1,
            coordinators: BTreeMap::new(),
        };
        client.any()?;
        Ok(client)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For the requests that carry one.
    pub(super) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// `ask`s again while what it is refused with may be otherwise a moment later, until the client's time is over.
    pub(super) fn patiently<T>(
        &mut self,
        mut ask: impl FnMut(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match ask(self) {
                Err(error) if error.passes() && Instant::now() < deadline => std::thread::sleep(PAUSE),
                other => return other,
            }
        }
    }

    fn any(&mut self) -> Result<&mut Connection, Error> {
        self.first.take_if(|connection| connection.has_ended());
        if self.first.is_none() {
            let mut failures = Vec::new();
            for address in &self.bootstrap {
                match Connection::open(address, self.timeout) {
                    Ok(connection) => {
                        self.first = Some(connection);
                        break;
                    }
                    Err(error) => failures.push(error),
                }
            }
            if self.first.is_none() {
                return Err(Error::first_of(failures));
            }
        }
        Ok(self.first.as_mut().expect("it was opened above"))
    }

    fn broker(&mut self, id: i32) -> Result<&mut Connection, Error> {
        if self.connections.get(&id).is_none_or(Connection::has_ended) {
            let address = self.addresses.get(&id).ok_or(Error::UnknownBroker(id))?;
            self.connections.insert(id, Connection::open(address, self.timeout)?);
        }
        Ok(self.connections.get_mut(&id).expect("it was opened above"))
    }

    /// All brokers of the cluster.
    pub(super) fn brokers(&mut self) -> Result<Vec<i32>, Error> {
        self.refresh(Some(&[]))?;
        Ok(self.addresses.keys().copied().collect())
    }

    /// Where a broker listens, as far as it is known.
    pub(super) fn address(&self, id: i32) -> Option<&str> {
        self.addresses.get(&id).map(String::as_str)
    }

    /// Asks whichever broker was reached first.
    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        self.any()?.call(request)
    }

    pub(super) fn call_broker<R: Request>(&mut self, id: i32, request: &R) -> Result<R::Response, Error> {
        self.broker(id)?.call(request)
    }

    /// What changes the cluster goes to the controller, which is any broker where brokers pass such requests on.
    pub(super) fn call_controller<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        if self.addresses.is_empty() {
            self.refresh(Some(&[]))?;
        }
        match self.controller {
            id if self.addresses.contains_key(&id) => self.call_broker(id, request),
            _ => self.call(request),
        }
    }

    /// Sends without waiting; [`Client::receive`] has the answer.
    pub(super) fn send<R: Request>(&mut self, id: i32, request: &R) -> Result<Pending, Error> {
        self.broker(id)?.send(request)
    }

    pub(super) fn receive<R: Request>(&mut self, id: i32, pending: Pending) -> Result<R::Response, Error> {
        // on the connection of `send`: another would never have it
        self.connections.get_mut(&id).ok_or(Error::UnknownBroker(id))?.receive::<R>(pending)
    }

    /// Metadata of these topics, `None`: of all. Never creates a topic.
    pub(super) fn refresh(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse, Error> {
        let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(topics.map(|names| names.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false);
        let metadata = self.call(&request)?;
        let address = |host: &str, port: i32| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let brokers = metadata.brokers.iter();
        let found: BTreeMap<i32, String> =
            brokers.map(|broker| (broker.node_id.0, address(&broker.host, broker.port))).collect();
        // a broker that has moved is not where its connection leads
        self.connections.retain(|id, _| found.get(id) == self.addresses.get(id));
        self.addresses = found;
        self.controller = metadata.controller_id.0;
        Ok(metadata)
    }

    /// One topic, its partitions in order. One that does not exist is an error that tells near names.
    pub(super) fn topic(&mut self, name: &str) -> Result<MetadataResponseTopic, Error> {
        let mut topics = self.refresh(Some(&[name]))?.topics;
        let Some(mut topic) = topics.pop() else { return Err(self.unknown_topic(name)?) };
        match topic.error_code {
            // partitions without a leader say so themselves
            0 | error::LEADER_NOT_AVAILABLE => {
                topic.partitions.sort_by_key(|partition| partition.partition_index);
                Ok(topic)
            }
            error::UNKNOWN_TOPIC_OR_PARTITION => Err(self.unknown_topic(name)?),
            code => Err(Error::Refused(Refusal::new(format!("topic {name}"), code, None))),
        }
    }

    /// Of each partition the broker that leads it; -1: none now.
    pub(super) fn leaders(&mut self, topic: &str) -> Result<BTreeMap<i32, i32>, Error> {
        let partitions = self.topic(topic)?.partitions;
        Ok(partitions.iter().map(|partition| (partition.partition_index, partition.leader_id.0)).collect())
    }

    /// The error of a topic that does not exist.
    pub(super) fn unknown_topic(&mut self, name: &str) -> Result<Error, Error> {
        let all = self.refresh(None)?.topics;
        let names = all.iter().filter_map(|topic| topic.name.as_ref().map(|name| name.as_str()));
        let near = nearest(name, names).map(str::to_owned);
        Ok(Error::UnknownTopic { name: name.to_owned(), near })
    }
}

pub(super) fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(string(name))
}

pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(string(group))
}

pub(super) fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(string(id))
}

/// Kafka's port where none is given.
fn with_port(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        // an IPv6 address in brackets
        Some((host, _)) => !host.contains(':') || host.ends_with(']'),
        None => false,
    };
    match has_port {
        true => address.to_owned(),
        false if address.contains(':') && !address.starts_with('[') => format!("[{address}]:9092"),
        false => format!("{address}:9092"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_is_put_behind_a_host_that_has_none() {
        for (address, expect) in [
            ("localhost", "localhost:9092"),
            ("localhost:1", "localhost:1"),
            ("10.0.0.1", "10.0.0.1:9092"),
            ("::1", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(super::with_port(address), expect);
        }
    }
}
