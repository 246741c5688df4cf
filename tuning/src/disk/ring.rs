//! An io_uring with buffers and files that the kernel knows beforehand: the only unsafe code of this crate.
//!
//! Invariants: the buffers are never looked at after they are registered, so no reference to them exists while the
//! kernel reads or writes them; a slot has one operation in flight at most; the buffers are freed only when nothing
//! is in flight.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, Probe, opcode};

/// Direct I/O wants memory aligned to the disk's block, 4 KiB at most.
const ALIGNMENT: usize = 4096;

/// What to do in one slot, on one of the registered files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Write {
        offset: u64,
        bytes: u32,
    },
    Read {
        offset: u64,
        bytes: u32,
    },
    /// fdatasync.
    Flush,
}

/// Which of the files given to [`Ring::new`].
#[derive(Clone, Copy, Debug)]
pub(super) struct FileIndex(pub(super) u32);

/// A finished operation; `result` is what the system call would have returned.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) slot: usize,
    pub(super) result: io::Result<u32>,
}

/// Which step of setting a ring up was refused.
#[derive(Debug)]
pub(super) enum Refused {
    Ring(io::Error),
    Buffers(io::Error),
    Files(io::Error),
}

/// One slot per buffer.
pub(super) struct Ring {
    ring: IoUring,
    buffers: Buffers,
    busy: Vec<bool>,
}

struct Buffers {
    start: NonNull<u8>,
    layout: Layout,
    each: usize,
    /// Set when the kernel may still use them: then they stay allocated for good.
    leaked: bool,
}

/// Whether this process may have a ring that can do what we need.
pub(super) fn probe() -> io::Result<()> {
    let ring = IoUring::new(8)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::ReadFixed::CODE, opcode::WriteFixed::CODE, opcode::Fsync::CODE];
    match needed.iter().all(|&code| probe.is_supported(code)) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}

impl Ring {
    /// `slots` buffers of `buffer_bytes` each, filled with bytes that no disk can compress or leave out.
    pub(super) fn new(files: &[&File], slots: u16, buffer_bytes: usize) -> Result<Ring, Refused> {
        let buffers = Buffers::new(usize::from(slots), buffer_bytes);
        let ring = IoUring::new(u32::from(slots)).map_err(Refused::Ring)?;
        let places: Vec<libc::iovec> = (0..usize::from(slots))
            .map(|slot| libc::iovec { iov_base: buffers.at(slot).cast(), iov_len: buffer_bytes })
            .collect();
        // SAFETY: each place lies within the allocation, which outlives the ring: see `Drop`.
        unsafe { ring.submitter().register_buffers(&places) }.map_err(Refused::Buffers)?;
        // The kernel keeps its own reference to each file.
        let descriptors: Vec<_> = files.iter().map(|file| file.as_raw_fd()).collect();
        ring.submitter().register_files(&descriptors).map_err(Refused::Files)?;
        Ok(Ring { ring, buffers, busy: vec![false; usize::from(slots)] })
    }

    /// Queues an operation; [`Ring::wait`] hands it to the kernel.
    pub(super) fn push(&mut self, slot: usize, file: FileIndex, operation: Operation) {
        assert!(!self.busy[slot], "slot {slot} has an operation in flight");
        let file = Fixed(file.0);
        let buffer = self.buffers.at(slot);
        let index = u16::try_from(slot).expect("a ring has at most 65,536 slots");
        let entry = match operation {
            Operation::Write { offset, bytes } => {
                assert!(bytes as usize <= self.buffers.each, "a write fits into its buffer");
                opcode::WriteFixed::new(file, buffer, bytes, index).offset(offset).build()
            }
            Operation::Read { offset, bytes } => {
                assert!(bytes as usize <= self.buffers.each, "a read fits into its buffer");
                opcode::ReadFixed::new(file, buffer, bytes, index).offset(offset).build()
            }
            Operation::Flush => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the buffer is registered, at least `bytes` long, not looked at by anybody, and freed only when
        // nothing is in flight.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the ring has an entry per slot");
        self.busy[slot] = true;
    }

    /// Whether anything is queued or in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.contains(&true)
    }

    /// Submits what was queued and waits until something is done.
    pub(super) fn wait(&mut self, done: &mut Vec<Completion>) -> io::Result<()> {
        assert!(self.is_busy(), "waiting for nothing would never end");
        done.clear();
        while done.is_empty() {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for entry in self.ring.completion() {
                let slot = usize::try_from(entry.user_data()).expect("user data is a slot");
                self.busy[slot] = false;
                let result = entry.result();
                let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                done.push(Completion { slot, result });
            }
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// The kernel writes into the buffers until the last operation is done: only then may they go.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.is_busy() {
            if self.wait(&mut done).is_err() {
                self.buffers.leaked = true;
                return;
            }
        }
    }
}

impl Buffers {
    fn new(count: usize, each: usize) -> Buffers {
        let total = count.checked_mul(each).expect("buffers fit into memory");
        assert!(total > 0 && each.is_multiple_of(ALIGNMENT), "whole blocks of 4 KiB");
        let layout = Layout::from_size_align(total, ALIGNMENT).expect("a sane size and a power of two");
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: just allocated with this length, initialised with zeros, and known to nobody else.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), total) };
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in bytes.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes());
        }
        Buffers { start, layout, each, leaked: false }
    }

    fn at(&self, slot: usize) -> *mut u8 {
        let offset = slot * self.each;
        assert!(offset + self.each <= self.layout.size(), "slot {slot} has a buffer");
        // SAFETY: within the allocation, as was just asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with this layout; the ring has nothing in flight, see its `Drop`.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}
