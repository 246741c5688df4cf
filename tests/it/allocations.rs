//! The test binary's allocator: the system's, with a per-thread account, for tests that bound what code allocates.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread allocated while [`measure`] ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    pub count: usize,
    /// Bytes of the largest single request.
    pub largest: usize,
    /// The most bytes held at once.
    pub peak: usize,
    held: usize,
}

thread_local! {
    static ACCOUNT: Cell<Option<Allocations>> = const { Cell::new(None) };
}

/// Runs `work` and says what it allocated on this thread. Not to be nested.
pub fn measure<R>(work: impl FnOnce() -> R) -> (R, Allocations) {
    ACCOUNT.set(Some(Allocations::default()));
    let result = work();
    let allocations = ACCOUNT.take().expect("measurements do not nest");
    (result, allocations)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(allocated: usize, freed: usize) {
    // at a thread's end its account is gone before its last memory is
    let _ = ACCOUNT.try_with(|account| {
        if let Some(mut allocations) = account.get() {
            if allocated > 0 {
                allocations.count += 1;
                allocations.largest = allocations.largest.max(allocated);
            }
            // memory from before the measurement may be freed in it
            allocations.held = (allocations.held + allocated).saturating_sub(freed);
            allocations.peak = allocations.peak.max(allocations.held);
            account.set(Some(allocations));
        }
    });
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the account is plain cells,
// and setting them neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[test]
fn allocations_are_counted() {
    let (kept, allocations) = measure(|| {
        drop(vec![1_u8; 1000]);
        vec![1_u8; 300]
    });
    assert_eq!((allocations.count, allocations.largest, allocations.peak), (2, 1000, 1000));
    let ((), allocations) = measure(|| drop(kept));
    assert_eq!((allocations.count, allocations.peak), (0, 0));
}
