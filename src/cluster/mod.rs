//! The node's own loops, on shard 0: the metadata log, the controller's host, registration, opening the logs.
//!
//! Every change of the cluster is a decision of the pure controller (`metadata/`): its records are an entry of the
//! quorum's log, `__cluster_metadata-0`, and once that is committed every shard replays them into its image. A request is
//! answered after that, and for new partitions after their logs are open.
//!
//! Invariants:
//! * Records are replayed on every shard in commit order; a request sees everything answered before it.
//! * A replica's folder is recorded in the metadata once it is durably there; from then on a missing folder is
//!   a loss (the partition is offline), never a reason to make an empty one.
//! * If the metadata log cannot be written the process ends: it could promise nothing any more.
//!
//! Start reading in [`boot`], then [`ControllerHost`].

mod boot;
mod controller_host;
mod directories;
mod placement;
mod quorum;

pub use boot::{Boot, Booted, boot};
pub use controller_host::ControllerHost;
pub use directories::{Directories, Error as DirectoryError};
pub use quorum::SnapshotSettings;
