//! Aligned buffers for direct I/O, and `Bytes` lent from them to any shard without a copy.
//!
//! A buffer lives on one shard: neither it nor its reference counts cross. What crosses is a `Bytes` over the same
//! memory, counted by `bytes` itself. The memory goes free at home only: when the last [`SharedBuf`] is dropped
//! while bytes are still out, it waits in this thread's *limbo* until the last of them is dropped, wherever that
//! happens; that drop sets a flag, and home looks at the flags when it makes a buffer and every few milliseconds.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(any(test, feature = "sim"))]
use super::runtime::{self, Runtime};
use bytes::Bytes;

/// Alignment of memory, file position and length for direct I/O.
pub const BLOCK_BYTES: usize = 4096;

/// An aligned buffer of exact size, owned and writable. Contents are unspecified until written.
pub struct Buf(Aligned);

/// A buffer that will never be written again. Cloning shares it (one shard only); `lend` crosses shards.
#[derive(Clone)]
pub struct SharedBuf(Rc<Shared>);

struct Shared {
    /// `None` only while it is dropped.
    memory: Option<Aligned>,
    start: NonNull<u8>,
    len: usize,
    /// Made by the first `lend`.
    lent: OnceCell<Lent>,
}

struct Lent {
    /// Covers the whole buffer; every lent `Bytes` is a slice of it.
    master: Bytes,
    /// Set when the last of them, the master included, is gone.
    released: Arc<AtomicBool>,
}

impl Buf {
    /// `len` bytes, a multiple of [`BLOCK_BYTES`] and at least one block.
    #[must_use]
    pub fn new(len: usize) -> Buf {
        assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES), "{len} bytes are not whole blocks");
        sweep(SWEEP_PER_BUFFER);
        let memory = Aligned::new(len);
        #[cfg(any(test, feature = "sim"))]
        if matches!(runtime::current(), Runtime::Virtual(_)) {
            memory.fill();
        }
        Buf(memory)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }

    /// From here on the contents are immutable and may be written to disk and lent out.
    #[must_use]
    pub fn freeze(self) -> SharedBuf {
        let len = self.len();
        self.freeze_prefix(len)
    }

    /// As [`Self::freeze`]; what lies beyond `len` bytes is not seen any more.
    pub(super) fn freeze_prefix(mut self, len: usize) -> SharedBuf {
        assert!(len <= self.len(), "{len} bytes of a buffer of {}", self.len());
        // From here on only this pointer is used; moving the owner does not move what it points to.
        let start = NonNull::new(self.as_mut_slice().as_mut_ptr()).expect("a buffer has an address");
        SharedBuf(Rc::new(Shared { memory: Some(self.0), start, len, lent: OnceCell::new() }))
    }
}

impl SharedBuf {
    /// The whole contents. After a read, as many bytes as there were.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points to `len` bytes that `memory` keeps alive as long as `self` lives, and nobody writes
        // to frozen memory: no `&mut` to it is ever made again, a read's buffer is complete when it is frozen, and
        // the kernel only reads from the buffer of a write.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }

    /// A slice for any shard; the memory stays until the last such `Bytes` is dropped, wherever that happens.
    #[must_use]
    pub fn lend(&self, range: Range<usize>) -> Bytes {
        let lent = self.0.lent.get_or_init(|| {
            let released = Arc::new(AtomicBool::new(false));
            let lease = Lease { start: self.0.start, len: self.0.len, released: Arc::clone(&released) };
            Lent { master: Bytes::from_owner(lease), released }
        });
        lent.master.slice(range)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let Some(Lent { master, released }) = self.lent.take() else { return };
        drop(master);
        // Acquire: what readers on other shards did with the memory happened before it is given back.
        if !released.load(Ordering::Acquire) {
            keep(Pending { memory, released, len: self.len });
        }
    }
}

/// The owner inside every `Bytes` lent from one buffer. Dropped on whichever thread drops the last of them.
struct Lease {
    start: NonNull<u8>,
    len: usize,
    released: Arc<AtomicBool>,
}

// SAFETY: the memory is immutable and stays until `released` is set, which only dropping the lease does; the thread
// it happens on does not matter, since it frees nothing.
unsafe impl Send for Lease {}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `SharedBuf::as_slice`; `Shared::drop` moves the memory to the limbo while the lease lives,
        // and the limbo gives it back only once `released` is set.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.released.store(true, Ordering::Release);
    }
}

/// A buffer that home has dropped while bytes lent from it are still out.
struct Pending {
    #[expect(dead_code, reason = "held for its drop")]
    memory: Aligned,
    released: Arc<AtomicBool>,
    len: usize,
}

#[derive(Default)]
struct Limbo {
    pending: Vec<Pending>,
    bytes: usize,
    /// Where the next sweep goes on.
    cursor: usize,
}

impl Limbo {
    /// Looks at no more than `limit` entries, so that thousands of slow readers do not slow every allocation.
    fn sweep(&mut self, limit: usize) {
        for _ in 0..limit.min(self.pending.len()) {
            if self.cursor >= self.pending.len() {
                self.cursor = 0;
            }
            let Some(entry) = self.pending.get(self.cursor) else { return };
            if entry.released.load(Ordering::Acquire) {
                self.bytes -= entry.len;
                self.pending.swap_remove(self.cursor);
            } else {
                self.cursor += 1;
            }
        }
    }
}

impl Drop for Limbo {
    /// The thread ends while others may still read: what they hold is leaked.
    fn drop(&mut self) {
        self.sweep(usize::MAX);
        std::mem::forget(std::mem::take(&mut self.pending));
    }
}

const SWEEP_PER_BUFFER: usize = 8;

thread_local! {
    static LIMBO: RefCell<Limbo> = RefCell::default();
}

fn keep(pending: Pending) {
    let mut pending = Some(pending);
    let _ = LIMBO.try_with(|limbo| {
        let mut limbo = limbo.borrow_mut();
        limbo.bytes += pending.as_ref().map_or(0, |pending| pending.len);
        limbo.pending.extend(pending.take());
    });
    // The thread is ending and its limbo gone: leaked, as the limbo would have.
    std::mem::forget(pending);
}

/// Frees what has come back since, of at most `limit` buffers in the limbo.
pub(super) fn sweep(limit: usize) {
    LIMBO.with(|limbo| limbo.borrow_mut().sweep(limit));
}

/// Bytes of this shard's buffers that nobody at home holds any more and that wait for other shards to drop what
/// was lent from them. For budgets and metrics.
#[must_use]
pub fn lent_bytes() -> usize {
    LIMBO.with(|limbo| limbo.borrow().bytes)
}

/// Memory on a block's boundary. Ordinary memory, not registered with the ring: it may be lent for long.
struct Aligned {
    start: NonNull<u8>,
    layout: Layout,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        assert!(len > 0, "an allocation of nothing");
        let layout = Layout::from_size_align(len, BLOCK_BYTES).expect("far below isize::MAX");
        // SAFETY: the layout is not empty.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        Aligned { start, layout }
    }

    /// Contents nobody has written, and the same in every run.
    #[cfg(any(test, feature = "sim"))]
    fn fill(&self) {
        const UNWRITTEN: u8 = 0xdb;
        // SAFETY: bytes that were just allocated.
        unsafe { self.start.write_bytes(UNWRITTEN, self.len()) };
    }

    fn len(&self) -> usize {
        self.layout.size()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the allocation is of that size and borrowed mutably with `self`. Before they are written its bytes are whatever
        // was there, as in any buffer that the kernel reads into.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
