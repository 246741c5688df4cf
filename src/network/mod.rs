//! Kafka frames over sockets: where received bytes go, how frames are cut from them, what they cost.
//!
//! A frame is a big-endian i32 size and that many bytes. [`FrameReader`] is one connection's cutter,
//! [`ReceiveBuffers`] the shard's memory that all of them receive into, [`RequestBudget`] the shard's bound on
//! requests in flight. Replies leave through `TcpStream::send`, which gathers; nothing here copies them.
//!
//! Invariants:
//! * An idle connection holds no receive buffer: bytes arrive in a chunk that all connections of the shard share.
//! * The four bytes of size are checked before anything is allocated for the frame, and memory is reserved from the
//!   budget before it is received into.
//! * A claimed size reserves next to nothing: reservations and large buffers grow as the bytes arrive.
//! * What is received and not yet reserved is at most one receive of each connection, and that receive shrinks
//!   while the budget is short.
//!
//! Never here: what a frame means (`protocol/`), in which order replies leave (`server/`).

mod budget;
mod buffers;
mod frame;

pub use budget::{RequestBudget, Reservation};
pub use buffers::ReceiveBuffers;
pub use frame::{Error, Frame, FrameReader, KeepInPlace, PartialFrame};
