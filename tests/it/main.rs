//! Black-box tests: the built binary over TCP with raw frames, its start and stop, and the check of the layering.
//!
//! Every test starts a broker of its own on a free port with a data directory under `target/tmp`, except
//! `layering`, which reads the sources, and `guard`, which runs the decode guard in this process. `../README.md`
//! says how to run one of them and against another broker.

mod admin;
mod allocations;
mod apis;
mod bench;
mod broker_configs;
mod cli;
mod compaction;
mod compression;
mod configs_api;
mod connection;
mod deploy;
mod exactly_once;
mod failing_disk;
mod footprint;
mod full_disk;
mod group_heartbeats;
mod guard;
mod guard_table;
mod handover;
mod harness;
mod inspect;
mod layering;
mod load;
mod log_dirs;
mod many_partitions;
mod metadata_kills;
mod node_api;
mod offsets;
mod partitions_api;
mod producers;
mod records;
mod recovery;
mod restart;
mod retention;
mod shard_ports;
mod slow_requests;
mod small_disk;
mod start_stop;
mod stop_under_load;
mod topic_settings;
mod transactions;
mod txn_markers;
mod wire;
