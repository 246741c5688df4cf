//! Does this machine let us run? Asked before glommio is touched, which answers with a panic.

use io_uring::{IoUring, Probe, opcode};

use super::StartError;
use super::machine::{Resource, raise_limit};

/// glommio refuses to start below this, even for root.
const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Files, sockets, and what each shard needs for itself.
const OPEN_FILES_MIN: u64 = 1024;

/// Raises what may be raised, and says what else must be changed for `shards` shards.
pub(super) fn machine(shards: usize) -> Result<(), StartError> {
    locked_memory()?;
    open_files(shards)?;
    io_uring()
}

fn locked_memory() -> Result<(), StartError> {
    let limit = raise_limit(Resource::LockedMemory)
        .map_err(|error| StartError(format!("the limit on locked memory cannot be read: {error}")))?;
    if limit.soft < LOCKED_BYTES_MIN {
        return Err(StartError(too_little_locked(limit.soft)));
    }
    Ok(())
}

fn too_little_locked(bytes: u64) -> String {
    format!(
        "only {} KiB of memory may be locked and io_uring needs {}: raise it (ulimit -l 8192, LimitMEMLOCK=8M for systemd, --ulimit memlock=8388608 for a container)",
        bytes >> 10,
        LOCKED_BYTES_MIN >> 10
    )
}

fn open_files(shards: usize) -> Result<(), StartError> {
    let limit = raise_limit(Resource::OpenFiles)
        .map_err(|error| StartError(format!("the limit on open files cannot be read: {error}")))?;
    // Rings, event descriptors and the like.
    let needed = OPEN_FILES_MIN + 16 * shards as u64;
    if limit.soft < needed {
        return Err(StartError(format!(
            "only {} files may be open and {shards} shards need {needed}: raise it (ulimit -Hn 65536, LimitNOFILE=65536 for systemd)",
            limit.soft
        )));
    }
    Ok(())
}

fn io_uring() -> Result<(), StartError> {
    let ring = IoUring::new(8).map_err(|error| {
        StartError(match error.raw_os_error() {
            Some(libc::ENOMEM) => too_little_locked(0),
            _ => format!(
                "this kernel offers no io_uring ({error}): use Linux 5.13 or newer and allow it (sysctl kernel.io_uring_disabled=0, the container's seccomp profile)"
            ),
        })
    })?;
    let mut probe = Probe::new();
    let known = ring.submitter().register_probe(&mut probe).is_ok();
    let needed = [
        opcode::Nop::CODE,
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::Fsync::CODE,
        opcode::ReadFixed::CODE,
        opcode::WriteFixed::CODE,
        opcode::PollAdd::CODE,
        opcode::PollRemove::CODE,
        opcode::SendMsg::CODE,
        opcode::RecvMsg::CODE,
        opcode::Timeout::CODE,
        opcode::TimeoutRemove::CODE,
        opcode::Accept::CODE,
        opcode::LinkTimeout::CODE,
        opcode::Connect::CODE,
        opcode::Fallocate::CODE,
        opcode::OpenAt::CODE,
        opcode::Close::CODE,
        opcode::Statx::CODE,
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Send::CODE,
        opcode::Recv::CODE,
    ];
    // A timer that can be moved (5.11), and a socket that is watched once for all (5.13, which brought this feature, too).
    let features = ring.params().is_feature_ext_arg() && ring.params().is_feature_resource_tagging();
    if known && features && needed.iter().all(|&operation| probe.is_supported(operation)) {
        return Ok(());
    }
    Err(StartError("this kernel's io_uring is too old: use Linux 5.13 or newer".into()))
}
