//! What every reader promises about every file: no panic, a message of one readable line, and no more memory than the file is worth.

use crate::readers::Reader;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes that reading one may take at a time, besides a multiple of its length: the images inside the program and buffers.
const MEMORY: usize = 64 << 20;
const TIMES: usize = 64;

/// Counts what a thread has allocated.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Nothing is counted while a thread begins or ends.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: everything is the system's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` has allocated at most at a time, beyond what was there.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let done = work();
    (done, (PEAK.get() - before).max(0) as usize)
}

/// What is wrong with the way in which a reader took these bytes.
pub fn objection(reader: &Reader, bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let read = || catch_unwind(AssertUnwindSafe(|| (reader.read)(folder.path(), bytes)));
    let (outcome, peak) = peak_of(read);
    let message = match outcome {
        Err(_) => return Some("a panic".into()),
        Ok(Ok(())) => String::new(),
        Ok(Err(message)) => message,
    };
    if message.lines().count() > 1
        || message.chars().any(|c| c.is_control())
        || message.len() > 2000
    {
        return Some(format!("its message is {message:?}"));
    }
    (peak > MEMORY + TIMES * bytes.len()).then(|| format!("it took {} MiB", peak >> 20))
}
