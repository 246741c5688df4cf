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
//!
//! glommio 0.9.0 has traps. Each, the way around it, and the test in `tests/` (or the boot check) that proves the way:
//!
//! | trap | way around | proof |
//! |---|---|---|
//! | input is looked at only when the run queue drains or the pre-emption timer (100 ms) fires | long work is cut with [`turn`], a timer that sends the executor through its reactor; `yield` does not | `a_busy_task_that_takes_turns_lets_input_in` |
//! | pre-empted before its first task, an executor takes its run queue for empty and sleeps | the timer stays at 100 ms; `pacemaker` wakes every shard from outside | `the_pacemaker_ends_a_lost_wake_up` (it hangs without), `the_pacemaker_notices_a_stall` |
//! | the first direct-I/O file decides whether a device is polled, at a core's cost; an empty one decides wrongly | `file::forbid_polling` settles it before the first file | `no_direct_io_is_polled_for` |
//! | `send` to a channel whose receiver is gone spins for ever | the mesh only tries; a full channel gives the message back | `a_full_channel_gives_the_message_back_and_loses_none` |
//! | connecting a channel to an executor on its way down panics | all channels are connected before a shard begins; no shard ends before all have | `a_shard_that_is_done_answers_until_all_are`, `messages_under_way_at_the_end_are_dropped_in_silence` |
//! | a panic in a task ends its executor only | `crash` ends the process | `a_panic_in_a_task_ends_the_process` |
//! | the blocking thread panics when its executor has ended | `crash::nobody_to_answer` lets it wait for the end | every clean stop in `tests/it` asserts that nothing panicked |
//! | each start of an executor leaks an eventfd | executors start once, in [`run`] | by construction |
//! | an accepted socket that was never bound, or a file whose opening was given up, leaks its descriptor | sockets are bound at once; files are opened in a task of their own, accepts outlive who waits | `an_accept_that_is_given_up_loses_no_connection`, `the_last_clone_closes_the_file` |
//! | 32,768 wakers of one task overflow a count | waiters are data ([`sync`]); a task's waker is stored once per wait; the pacemaker beats less often at a shard that does not answer | `a_task_that_waits_again_and_again_is_kept_once` |
//! | cloned ends of a queue corrupt memory | ends are moved, [`Mesh`] is not `Clone` | by construction |
//! | listeners share their port with any process of the user (SO_REUSEPORT) | [`probe_port`] binds without it first; data directories are locked | `a_port_in_use_is_found_before_the_shards_share_it` |
//! | alignment is reported as 512 | [`BLOCK_BYTES`] is 4,096 | asserted in every read and write |
//! | the first timer is 10 ms late | the boot parks once before anything is timed | `the_first_timer_is_not_late` |
//! | no io_uring is a panic, too little locked memory a warning or a panic | `probe` asks the kernel first | `a_kernel_without_io_uring_is_refused`, `too_little_locked_memory_is_refused` |
//! | one blocking thread an executor, and a result that is not waited for leaks | [`blocking`] has two, and waits in a task of its own | `blocking_work_runs_elsewhere_and_side_by_side` |
//! | buffers do not cross shards | [`lent_bytes`] hands out `Bytes` whose drop tells the home shard | `lent_bytes_outlive_their_buffer_on_other_shards` |
//!
//! One trap is the kernel's: the rings of a killed process are taken down after its end was reported, so its listeners
//! (see [`probe_port`]) and its writes (see `storage/recover.rs`) outlive it by some milliseconds.

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
mod usage;

pub use buffer::{BLOCK_BYTES, Buf, SharedBuf, lent_bytes};
pub use file::{File, OpenMode, is_shortage};
pub use machine::tune_allocator;
pub use mesh::{Mesh, MeshFull};
pub use net::{TcpListener, TcpStream, probe_port};
pub use pacemaker::longest_stall;
pub use start::{Cores, Options, ShardContext, StartError, run};
pub use task::{Task, blocking, shard_count, shard_id, spawn, spawn_background, turn};
pub use time::{Instant, now, random_u64, sleep, sleep_until, wall_clock_ms};
pub use usage::{ProcessUsage, process_usage, thread_cpu_time};
