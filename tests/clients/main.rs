//! Real clients against the built binary: kafka-python, confluent-kafka-python, aiokafka, franz-go, kafkajs, kcat, and
//! Kafka's own clients, tools, Connect and Streams from its Maven jars. What is missing is installed into
//! `target/tmp/clients` once (`install.rs`); a test whose tool cannot be installed fails and says what to do, it never
//! skips.

mod admin;
mod bench;
mod cli;
mod cli_groups;
mod cli_transactions;
mod connect;
mod dump_log;
mod franz_go;
mod group_tools_agree;
mod groups;
#[path = "../it/harness.rs"]
#[allow(dead_code, reason = "tests/it uses the rest")]
mod harness;
mod install;
mod kafka_tools;
mod kafka_tools_agree;
mod kcat;
#[path = "../it/load.rs"]
mod load;
mod mission;
mod people;
mod python;
mod run;
mod scene;
mod shard_ports;
mod streams;
mod transaction_tools_agree;
mod transactions;
#[path = "../it/wire.rs"]
#[allow(dead_code, reason = "tests/it uses the rest")]
mod wire;
