//! Kafka's protocol: API table, header choice, decode guard, `kafka-protocol` glue, record batch view, CRC-32C.
//!
//! A request's way in: [`header::parse`] reads the header by hand and says whether the request is served,
//! [`codec::decode`] runs the guard over the body and only then lets the `kafka-protocol` crate decode it in
//! place. A reply's way out: [`codec::encode_response`], or [`fetch_response::encode`] where record slices are
//! spliced in. Records themselves are never decoded by the crate: [`batch`] looks at the 61-byte header and walks
//! the framing. [`compose`] is for the commands that are clients.
//!
//! Invariants:
//! - [`api`] is the only place that knows which APIs and versions are served; everything else asks it.
//! - Nothing here allocates more than a small multiple of the bytes it was given, whatever those bytes say, and
//!   nothing here panics on them. The guard is what makes that true of the crate behind it.
//! - Record bytes are passed on as slices of the buffer they arrived in.
//!
//! Never here: a decision about a request's meaning (that is a handler's), a socket, a clock.

pub mod api;
pub mod batch;
pub mod codec;
pub mod compose;
pub mod compression;
pub mod crc;
pub mod fetch_response;
pub mod guard;
#[rustfmt::skip]
mod guard_table;
pub mod header;
pub mod records;
#[cfg(test)]
pub(crate) mod test_batch;
pub mod topic_ids;
pub(crate) mod wire;

pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;
