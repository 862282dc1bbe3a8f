//! Bytes that a piece of code asks the allocator for, so that "allocates nothing before the length was checked" can be
//! asserted.
//!
//! Counts by thread, and never gives back: what is freed at once was allocated all the same. Deliberately not here:
//! limits, which the targets know.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // A thread that is ending has no counter any more; nobody measures there.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + bytes as u64));
}

// SAFETY: every call is handed on to the system's allocator with the arguments it came with, and its result is handed
// back; counting touches a number of this thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps to the contract of `realloc`; `at` came from this allocator, so from the system's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`; `at` came from this allocator, so from the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `f` returned, and the bytes that this thread allocated meanwhile.
pub fn taken<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.get();
    let result = f();
    (result, TAKEN.get() - before)
}

#[test]
fn what_is_allocated_is_counted() {
    assert_eq!(taken(|| 1 + 1), (2, 0));
    let (_, bytes) = taken(|| Vec::<u8>::with_capacity(1000));
    assert_eq!(bytes, 1000);
}
