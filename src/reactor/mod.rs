//! The machine underneath: cores, tasks, timers, files, sockets, the mesh between shards, a blocking pool.
//!
//! The only folder that names glommio. Everything above uses the plain types and free functions here, without
//! type parameters for the runtime; each finds its shard's runtime through a thread-local. The virtual twin in
//! `sim/` (seeded scheduler, virtual clock, disk that crashes and tears, mesh, sockets) implements the same
//! functions and exists only under `cfg(any(test, feature = "sim"))`.
//!
//! Invariants:
//! * A shard is one thread; nothing but [`Bytes`](bytes::Bytes) and mesh messages crosses between shards.
//! * A frozen buffer ([`SharedBuf`]) is never written again, and its memory outlives every `Bytes` lent from it.
//! * Bytes under a write in flight do not change (a write takes a `SharedBuf`).
//! * Nothing relies on pre-emption: CPU work above 100 µs goes to [`blocking`] or is cut by a real wait.

mod buffer;
mod crash;
mod file;
pub mod fs;
mod group;
mod machine;
mod mesh;
mod net;
mod pacemaker;
mod probe;
mod runtime;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod start;
pub mod sync;
mod task;
#[cfg(test)]
mod tests;
mod time;

pub use buffer::{BLOCK_BYTES, Buf, SharedBuf, lent_bytes};
pub use file::{File, OpenMode};
pub use machine::tune_allocator;
pub use mesh::{Mesh, MeshFull};
pub use net::{TcpListener, TcpStream, probe_port};
pub use pacemaker::longest_stall;
pub use start::{Cores, Options, ShardContext, StartError, run};
pub use task::{Task, blocking, shard_count, shard_id, spawn, turn};
pub use time::{Instant, now, random_u64, sleep, sleep_until, wall_clock_ms};
