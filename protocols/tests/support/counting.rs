//! What does a piece of code take from the heap? An allocator that counts, for each thread by itself.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, with counters.
pub struct Counting;

/// What this thread has taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Blocks allocated, or moved to grow.
    pub allocations: u64,
    /// Bytes allocated and not freed.
    pub live: i64,
}

thread_local! {
    static TAKEN: Cell<Taken> = const { Cell::new(Taken { allocations: 0, live: 0 }) };
}

/// What this thread has taken since it began.
pub fn taken() -> Taken {
    TAKEN.get()
}

fn count(allocations: u64, live: i64) {
    // A thread that ends may free after its counters are gone.
    let _ = TAKEN.try_with(|cell| {
        let before = cell.get();
        cell.set(Taken { allocations: before.allocations + allocations, live: before.live + live });
    });
}

fn bytes(size: usize) -> i64 {
    i64::try_from(size).expect("a block is smaller than i64::MAX")
}

// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, bytes(layout.size()));
        // SAFETY: the caller promises what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -bytes(layout.size()));
        // SAFETY: likewise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, bytes(size) - bytes(layout.size()));
        // SAFETY: likewise.
        unsafe { System.realloc(block, layout, size) }
    }
}
