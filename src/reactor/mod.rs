//! The machine underneath: cores, tasks, timers, files, sockets, the mesh between shards, a blocking pool.
//!
//! The only folder that names glommio. Everything above uses the plain types and free functions here, without
//! type parameters for the runtime; each finds its shard's runtime through a thread-local. The virtual twin in
//! `sim/` (seeded scheduler, virtual clock, disk that crashes and tears, mesh, sockets) implements the same
//! functions and exists only under `cfg(any(test, feature = "sim"))`.
//!
//! Invariants:
//! * A shard is one thread; nothing but [`Bytes`](bytes::Bytes), mesh messages and what is posted to a [`Mailbox`] crosses
//!   between shards, and each tells all how busy it is ([`load`]).
//! * A frozen buffer ([`SharedBuf`]) is never written again, and its memory outlives every `Bytes` lent from it.
//! * Bytes under a write in flight do not change (a write takes a `SharedBuf`).
//! * Nothing relies on pre-emption: CPU work above 100 µs goes to [`blocking`] or is cut by a real wait.
//!
//! **What glommio does here.** It makes an executor for each core and runs its tasks; nothing else of it is used. Its own turn
//! costs five to ten system calls (two timers made and cancelled, three rings handed over, a memory barrier over all
//! CPUs before it sleeps), its sockets ask for readiness anew for every wait, and on a machine where a wake-up is dear
//! that was half of the broker's CPU (`perf/runs/2026-11-24-reactor.md`). So the shard has a ring of its own ([`ring`]), and
//! a task that is always in the run queue ([`driver`]) hands it over, waits in it and wakes whoever has something to do: one system
//! call a turn. glommio never gets to look at its own rings and never sleeps, by which most of its traps are gone:
//!
//! | trap of glommio 0.9.0 | way around | proof |
//! |---|---|---|
//! | input is looked at only when the run queue drains | the driver looks after four laps through the queue at the latest; long work is cut with [`turn`] | `a_busy_task_that_takes_turns_lets_input_in`, `tasks_that_wake_each_other_for_ever_let_input_in` |
//! | pre-empted before its first task, an executor takes its run queue for empty and sleeps for good | the pre-emption timer never fires | by construction |
//! | the waker of a task may be used from another thread, but the executor only looks for that when it polls its own rings | wakers stay on their shard; other threads leave word and ring the [`bell`] ([`Signal`], mesh, pool) | `a_shard_is_woken_by_its_pool_by_signals_and_by_sockets`, `two_shards_that_sleep_between_messages_wake_each_other` |
//! | a panic in a task ends its executor only | `crash` ends the process | `a_panic_in_a_task_ends_the_process` |
//! | each start of an executor leaks an eventfd | executors start once, in [`run`] | by construction |
//! | 32,768 wakers of one task overflow a count | waiters are data ([`sync`]); a task's waker is stored once per wait | `a_task_that_waits_again_and_again_is_kept_once` |
//! | no io_uring is a panic, too little locked memory a warning or a panic | `probe` asks the kernel first | `a_kernel_without_io_uring_is_refused`, `too_little_locked_memory_is_refused` |
//! | an executor pins the thread that makes it, and threads made there inherit that | the pool's threads are made before | `shards_are_pinned_to_their_cpus` |
//!
//! Others are the kernel's:
//!
//! | trap | way around | proof |
//! |---|---|---|
//! | the rings of a killed process are taken down after its end was reported, so its listeners and its writes outlive it by some milliseconds | [`probe_port`] waits; `storage/recover.rs` writes again | `tests/it` kills a lot |
//! | a watched socket stays open until its watch has ended, whoever closes it | a listener is shut down first | `sockets_behave_alike` |
//! | a watch that is about to tell something cannot be ended (EALREADY) | it is asked once more | `a_peer_that_goes_is_an_error_and_no_signal` (it hangs without) |
//! | a watch tells of what is new only: what was there before the last look is not told again | a socket counts as ready until a call has found nothing, and for good once its peer has ended | `readable_waits_again_after_everything_was_taken` |
//! | the ring that watches a connection is its shard's | handed over, it is watched anew, which begins with what is there | `a_stream_goes_on_whole_and_in_order_while_its_connection_changes_shards` |
//! | listeners share their port with any process of the user (SO_REUSEPORT) | [`probe_port`] binds without it first; data directories are locked | `a_port_in_use_is_found_before_the_shards_share_it` |
//! | alignment is reported as 512 | [`BLOCK_BYTES`] is 4,096 | asserted in every read and write |
//! | what an operation of a ring works on must not be freed before it ends, whoever waits | it belongs to the operation, not to who waits | `the_last_clone_closes_the_file` |

mod bell;
mod buffer;
mod crash;
mod driver;
mod file;
pub mod fs;
mod group;
mod load;
mod machine;
mod mailbox;
mod mesh;
mod net;
mod pool;
mod probe;
mod pulse;
mod ring;
mod runtime;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod start;
pub mod sync;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod usage;

pub use bell::Signal;
pub use buffer::{BLOCK_BYTES, Buf, SharedBuf, lent_bytes};
pub use file::{File, OpenMode, is_shortage};
pub use load::claim_place;
pub use machine::tune_allocator;
pub use mailbox::Mailbox;
pub use mesh::{Mesh, MeshFull};
pub use net::{LooseListener, LooseStream, TcpListener, TcpStream, probe_port};
pub use pulse::longest_stall;
pub use start::{Cores, Options, ShardContext, StartError, run};
pub use task::{Task, blocking, shard_count, shard_id, spawn, spawn_background, turn};
pub use time::{Instant, now, random_u64, sleep, sleep_until, wall_clock_ms};
pub use usage::{ProcessUsage, process_usage, thread_cpu_time};
