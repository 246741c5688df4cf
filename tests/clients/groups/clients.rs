//! The clients that are members of groups: a program for each library, and the protocols it speaks.

use std::process::Command;

use crate::franz_go;
use crate::install::{java_program, kafkajs_member, script};

/// A library and how its groups share out partitions.
#[derive(Clone, Copy)]
pub struct Client {
    pub name: &'static str,
    /// An assignor of the classic protocol, or `consumer`: the broker assigns (KIP-848).
    pub protocol: &'static str,
    program: fn() -> Command,
}

impl Client {
    pub fn command(&self) -> Command {
        (self.program)()
    }

    /// Whether a member is not stopped for the partitions that it keeps (KIP-429, KIP-848).
    pub fn is_cooperative(&self) -> bool {
        matches!(self.protocol, "cooperative-sticky" | "consumer")
    }

    /// Whether it also reads them while the others have not joined again. kafka-python's poll waits for that, with Kafka
    /// as well.
    pub fn reads_on_while_rebalanced(&self) -> bool {
        self.is_cooperative() && self.name != "kafka-python"
    }
}

pub fn confluent(protocol: &'static str) -> Client {
    Client { name: "confluent", protocol, program: || script("confluent_member.py") }
}

pub fn java(protocol: &'static str) -> Client {
    Client { name: "java", protocol, program: || java_program("Member") }
}

pub fn franz_go(protocol: &'static str) -> Client {
    Client { name: "franz-go", protocol, program: || franz_go::franz_go("member") }
}

pub fn kafka_python(protocol: &'static str) -> Client {
    Client { name: "kafka-python", protocol, program: || script("kafka_python_member.py") }
}

pub fn kafkajs(protocol: &'static str) -> Client {
    Client { name: "kafkajs", protocol, program: kafkajs_member }
}
