//! Transactions: what one of 1, 10, 100 partitions costs, in latency and in the broker's CPU.
//!
//! [`conduct`] is a run from its topic to its report. Its threads ([`worker`]) each have whole producers; a producer
//! ([`producer`]) is a machine that makes one transaction after another: it says which requests come next and what an
//! answer means, by the protocol of transaction.version 2, by the one before it, or without transactions.

mod conduct;
mod options;
mod producer;
mod worker;

pub use conduct::run;
pub use options::Transactions;
