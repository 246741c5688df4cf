//! Which broker a command talks to, and how it tells what it found.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Client, Error};
use super::table::Table;

#[derive(Args)]
pub(super) struct Target {
    /// A broker, or several separated by commas; the others of the cluster are found through it.
    #[arg(
        long,
        short,
        default_value = "localhost:9092",
        env = "CORELANE_BOOTSTRAP_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Broker"
    )]
    bootstrap_server: String,
    /// How long a broker may take to answer.
    #[arg(long, default_value = "30s", value_parser = timeout, value_name = "TIME", help_heading = "Broker")]
    timeout: Duration,
    /// For scripts: one JSON document instead of text for people.
    #[arg(long)]
    pub(super) json: bool,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("must be a length of time, such as 500ms, 30s or 2min".to_owned()),
    }
}

impl Target {
    pub(super) fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.bootstrap_server, self.timeout)
    }

    /// Prints one of the two.
    pub(super) fn tell(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), String> {
        print(&if self.json { document(&json()) } else { text() })
    }

    pub(super) fn tell_table(
        &self,
        json: impl FnOnce() -> Value,
        table: impl FnOnce() -> Table,
    ) -> Result<(), String> {
        self.tell(json, || table().text())
    }
}

/// "1 record", "2 records".
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// One JSON document, to be printed.
pub(super) fn document(json: &Value) -> String {
    serde_json::to_string_pretty(json).expect("a value is JSON") + "\n"
}

pub(super) fn print(text: &str) -> Result<(), String> {
    write_out(text.as_bytes()).map(|_| ())
}

/// Whether anybody reads on: who wants only the beginning (`| head`) has it, which is no error.
pub(super) fn write_out(bytes: &[u8]) -> Result<bool, String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot write to stdout: {error}")),
    }
}

/// `key=value` of an option.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
