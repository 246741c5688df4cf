//! What makes the load: producers and consumers on non-blocking sockets, one epoll loop per thread.
//!
//! Nothing is allocated per record: batches, requests and receive buffers are used again. A thread owns its producers
//! and consumers whole; threads share a few counters that are touched once per request, and nothing else.

mod consumer;
mod inbox;
mod line;
mod poller;
mod producer;
mod random;
mod records;
mod worker;

pub use consumer::{AtEnd, ConsumerPlan, Findings};
pub use line::Line;
pub use poller::{Happened, Poller};
pub use producer::{Budget, ProducePlan};
pub use records::{RecordPlan, RecordSource};
pub use worker::{Shared, Work, WorkerEnd, work};
