//! System calls about the machine and the process: limits, seeds, memory, space on disk.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fs::Space;

/// Eight bytes from the kernel's generator.
pub(super) fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // SAFETY: the buffer has eight writable bytes.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    assert!(got == 8, "getrandom gave {got} of 8 bytes: {}", io::Error::last_os_error());
    u64::from_ne_bytes(seed)
}

/// Free space as an ordinary user sees it.
pub(super) fn file_system_space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte and `answer` has room for the struct.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in by the call; zeros are valid, too.
    let answer = unsafe { answer.assume_init() };
    Ok(Space {
        free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
        total_bytes: answer.f_blocks.saturating_mul(answer.f_frsize),
    })
}

/// A limit of the process: soft and hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    LockedMemory,
    OpenFiles,
}

impl Resource {
    fn raw(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
        }
    }
}

/// The limit as it is.
pub(super) fn limit(resource: Resource) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(resource.raw(), &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the soft limit to the hard one, and says what it is then.
pub(super) fn raise_limit(resource: Resource) -> io::Result<Limit> {
    let Limit { soft, hard } = limit(resource)?;
    let wanted = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `wanted` is a valid limit, no higher than the hard one.
    let raised = soft == hard || unsafe { libc::setrlimit(resource.raw(), &raw const wanted) } == 0;
    Ok(Limit { soft: if raised { hard } else { soft }, hard })
}

/// A heap of a thread. A block of this length never comes from one: it is mapped by itself, and given back when it is freed.
pub(super) const HEAP_BYTES: usize = 64 << 20;

/// Sets the allocator up for buffers that come and go: memory once touched stays with the process. The first touch of
/// a fresh page costs 2.6 µs, 0.7 ms for a buffer of 1 MiB, and by default the allocator maps every block above
/// 128 KiB anew and gives it back when it is freed. Takes effect for all threads; [`super::run`] calls it.
pub fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        // Blocks up to 32 MiB (the most that is allowed) come from the heap and are used again.
        (libc::M_MMAP_THRESHOLD, 32 << 20),
        // What is free at the top of a heap stays there ...
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        // ... and a heap of a thread that is empty stays mapped.
        (libc::M_TOP_PAD, HEAP_BYTES as i32),
    ] {
        // SAFETY: sets a number under the allocator's own lock.
        let set = unsafe { libc::mallopt(parameter, value) };
        debug_assert_eq!(set, 1, "the allocator knows parameter {parameter}");
    }
}
