#![doc = include_str!("README.md")]
#![deny(unsafe_code)]

// Imports go down this list only; `tests/it/layering.rs` checks it.
pub mod cli;
// shell: async, one instance per shard
pub mod cluster;
pub mod handlers;
pub mod network;
pub mod partition;
pub mod reactor;
pub mod server;
pub mod storage;
// pure: machines and arithmetic
pub mod config;
pub mod coordinator;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod model;
pub mod protocol;

#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim_tests;
