//! The load generator that corelane brings: `corelane bench`.
//!
//! It speaks Kafka's protocol to any broker, so that every system is measured by the same tool. Where to start
//! reading: [`run`](mod@run) is one run from its topics to its report; `engine/` makes the load; `groups/` is the run of
//! consumer groups, `transactions/` that of transactions; `wire/` is the protocol; `report/` is what a run says. `README.md` beside it explains what the figures mean.

#![deny(unsafe_code)]

mod clock;
mod command;
pub mod compare;
mod engine;
mod group;
mod groups;
mod host;
mod measure;
mod null_broker;
mod options;
pub mod report;
mod run;
mod schedule;
mod scrape;
mod search;
mod transactions;
mod units;
mod watch;
mod wire;
mod workloads;

pub use command::{Command, run};
pub use wire::partitioner::place_of_key;
