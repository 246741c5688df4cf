//! The systems that are compared, and how each is started.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::kafka::Kafka;
use super::process::Process;
use super::workloads::{By, Workload};
use crate::wire::control::{Connection, NewTopic};

/// Partitions of the null broker's topics: those of the workloads that it makes.
const NULL_PARTITIONS: &str = "16";

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct System {
    pub name: String,
    pub kind: Kind,
    /// Settings of the topics.
    pub topic_configs: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Corelane,
    /// The bundled one, that keeps nothing.
    Null,
    Kafka,
    /// At this address; runs already.
    Other(String),
}

impl System {
    /// Those of these names, and `other` brokers. Without names: all; with brokers of one's own all but Kafka, which
    /// then need not be fetched.
    ///
    /// # Errors
    /// A name that nothing has.
    pub fn chosen(names: &[String], other: &[String]) -> Result<Vec<System>> {
        let system = |name: &str, kind, topic_configs| System { name: name.to_owned(), kind, topic_configs };
        let mut known = vec![
            system("corelane-flushed", Kind::Corelane, &[] as &[_]),
            system("corelane-written", Kind::Corelane, &["corelane.durability=written"]),
            system("null", Kind::Null, &[]),
            system("kafka", Kind::Kafka, &[]),
            system("kafka-flushed", Kind::Kafka, &["flush.messages=1"]),
        ];
        for name in names {
            ensure!(
                known.iter().any(|system| system.name == *name),
                "no system is called {name:?}; there are {}",
                known.iter().map(|system| system.name.as_str()).collect::<Vec<_>>().join(", ")
            );
        }
        if !names.is_empty() {
            known.retain(|system| names.contains(&system.name));
        } else if !other.is_empty() {
            known.retain(|system| system.kind != Kind::Kafka);
        }
        known.extend(other.iter().map(|address| system(address, Kind::Other(address.clone()), &[])));
        Ok(known)
    }

    #[must_use]
    pub fn makes(&self, workload: &Workload) -> bool {
        match workload.by {
            By::BrokersAndNull => true,
            By::Brokers => self.kind != Kind::Null,
            By::AsTheyCome => self.kind != Kind::Null && self.topic_configs.is_empty(),
        }
    }

    /// Whether its footprint is taken: of each program once, as topics' settings say nothing of an idle broker.
    #[must_use]
    pub fn has_footprint(&self) -> bool {
        matches!(self.kind, Kind::Corelane | Kind::Kafka) && self.topic_configs.is_empty()
    }
}

/// Starts brokers on this disk and these CPUs.
pub struct Launcher<'a> {
    pub work: &'a Path,
    pub corelane: &'a Path,
    pub kafka: Option<&'a Kafka>,
    pub cpus: Option<&'a str>,
}

/// Where a broker is to listen and what it keeps.
pub struct Place {
    port: u16,
    controller_port: u16,
    data: PathBuf,
}

impl Place {
    /// For brokers on this machine.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// # Errors
    /// The file system's.
    pub fn empty(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("emptying {}", self.data.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Launcher<'_> {
    /// An empty folder and free ports.
    ///
    /// # Errors
    /// The system's.
    pub fn place(&self, system: &System) -> Result<Place> {
        let data = self.work.join(format!("data-{}", system.name.replace(['/', ':'], "-")));
        let place = Place { port: free_port()?, controller_port: free_port()?, data };
        place.empty()?;
        Ok(place)
    }

    /// Starts the system's broker on what is in its folder; `None` for one that runs already.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, system: &System, place: &Place) -> Result<Option<Process>> {
        let mut command = Command::new(self.corelane);
        match system.kind {
            Kind::Other(_) => return Ok(None),
            Kind::Kafka => {
                let kafka = self.kafka.context("Kafka is installed")?;
                let started = kafka.start(place.port, place.controller_port, &place.data, self.cpus);
                return started.map(Some);
            }
            Kind::Corelane => {
                command.arg("start").arg("--set").arg(format!("listeners=PLAINTEXT://{}", place.address()));
                command.arg("--set").arg(format!("log.dirs={}", place.data.display()));
                command.arg("--set").arg("admin.listener=");
            }
            Kind::Null => {
                command.args(["bench", "null-broker", "--partitions", NULL_PARTITIONS, "--listen"]);
                command.arg(place.address());
            }
        }
        Process::start(&command, self.cpus, &place.address(), &place.data.with_extension("log")).map(Some)
    }
}

/// A broker may answer before its controller has settled.
///
/// # Errors
/// What it still answers after twenty seconds.
pub fn until_topics_can_be_made(address: &str) -> Result<()> {
    let mut left = 200;
    loop {
        let mut control = Connection::open(address)?;
        let topic =
            NewTopic { name: "bench-is-it-there", partitions: 1, replication_factor: -1, configs: &[] };
        match control.create_topic(&topic) {
            Ok(_) => {
                control.layout(&[topic.name.to_owned()])?;
                return control.delete_topics(&[topic.name.to_owned()]);
            }
            Err(error) if left == 0 => return Err(error),
            Err(_) => left -= 1,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_chosen_by_name() {
        let names = |names: &[&str], other: &[&str]| {
            let owned = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let chosen = System::chosen(&owned(names), &owned(other))?;
            Ok::<_, anyhow::Error>(chosen.into_iter().map(|system| system.name).collect::<Vec<_>>())
        };
        let all = ["corelane-flushed", "corelane-written", "null", "kafka", "kafka-flushed"];
        assert_eq!(names(&[], &[]).expect("all"), all);
        assert_eq!(names(&["kafka", "null"], &[]).expect("two"), ["null", "kafka"]);
        let other = names(&[], &["localhost:1"]).expect("no Kafka");
        assert_eq!(other, ["corelane-flushed", "corelane-written", "null", "localhost:1"]);
        assert!(names(&["redpanda"], &[]).is_err_and(|error| error.to_string().contains("kafka-flushed")));
    }
}
