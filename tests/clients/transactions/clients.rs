//! The clients that have transactions: a program for each library. `transactions.py` says what they do.

use std::process::Command;

use crate::franz_go;
use crate::install::{java_program, script};

#[derive(Clone, Copy)]
pub struct Client(fn() -> Command);

impl Client {
    pub fn command(self) -> Command {
        (self.0)()
    }
}

pub const CONFLUENT: Client = Client(|| script("confluent_transactions.py"));
pub const JAVA: Client = Client(|| java_program("Transactions"));
pub const FRANZ_GO: Client = Client(|| franz_go::franz_go("transactions"));
pub const AIOKAFKA: Client = Client(|| script("aiokafka_transactions.py"));
