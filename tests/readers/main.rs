//! Damaged files of every kind: an error of one line or a value, never a panic, and no more memory than the file is worth.
//!
//! The damage is drawn from a fixed seed. `EQPROP_MUTANTS` says how many damaged files each reader gets; `fuzz/` searches for more.

mod readers;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use readers::{READERS, Reader};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Damaged files for each reader.
const MUTANTS: usize = 200;
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
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let done = work();
    (done, (PEAK.get() - before).max(0) as usize)
}

/// One to three accidents.
fn damaged(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + rng.next_u32() % 3 {
        let length = bytes.len().max(1);
        let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
        let at = below(length);
        let (from, long) = (below(length), 1 + below(16));
        let huge = [0, 1, 0x7f, 0x80, 0xff, 0xfe, b'9', b'-', b'"', b'\n', 0x1b][below(11)];
        match below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            2 if !bytes.is_empty() => bytes[at] = huge,
            // A size of four or eight bytes.
            3 => {
                let end = (at + [4, 8][below(2)]).min(bytes.len());
                bytes[at.min(end)..end].fill(huge);
            }
            4 => {
                let end = (at + long).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let end = (from + 8 * long).min(bytes.len());
                let piece = bytes[from.min(end)..end].to_vec();
                let at = at.min(bytes.len());
                bytes.splice(at..at, piece);
            }
            _ => {
                let at = at.min(bytes.len());
                bytes.splice(at..at, vec![huge; long]);
            }
        }
    }
    bytes
}

/// What is wrong with the way in which a reader took these bytes.
fn objection(reader: &Reader, bytes: &[u8]) -> Option<String> {
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

#[test]
fn what_is_whole_is_read() {
    // For `ci/fuzz.sh`, which begins with them.
    let corpus = std::env::var_os("EQPROP_CORPUS").map(PathBuf::from);
    for reader in READERS {
        for (i, bytes) in (reader.corpus)().into_iter().enumerate() {
            if let Some(folder) = &corpus {
                let folder = folder.join(reader.name);
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(format!("whole-{i}")), &bytes).unwrap();
            }
            let folder = tempfile::tempdir().unwrap();
            let read = (reader.read)(folder.path(), &bytes);
            assert_eq!(read, Ok(()), "{}", reader.name);
        }
    }
}

#[test]
fn damaged_files_are_errors_of_one_line() {
    let mutants = std::env::var("EQPROP_MUTANTS").map_or(MUTANTS, |n| n.parse().unwrap());
    let mut found = Vec::new();
    for reader in READERS {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let corpus = (reader.corpus)();
        for (i, whole) in corpus.iter().cycle().take(mutants).enumerate() {
            let bytes = damaged(whole, &mut rng);
            if let Some(objection) = objection(reader, &bytes) {
                let file = std::env::temp_dir().join(format!("eqprop-{}-{i}", reader.name));
                std::fs::write(&file, &bytes).unwrap();
                found.push(format!("{} {}: {objection}", reader.name, file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names within files come back in messages as a terminal may print them.
#[test]
fn names_with_control_characters_are_escaped() {
    for (name, plain, damaged) in [
        (
            "checkpoint_state",
            "\"from\":\"h1b\"",
            "\"from\":\"\u{7f}h1b\"",
        ),
        ("pickle", "X\u{1}\0\0\x000", "X\u{1}\0\0\0\u{17}"),
    ] {
        let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
        let mut tried = 0;
        for whole in (reader.corpus)() {
            let found = whole
                .windows(plain.len())
                .position(|w| w == plain.as_bytes());
            let Some(at) = found else { continue };
            let bytes = [&whole[..at], damaged.as_bytes(), &whole[at + plain.len()..]].concat();
            assert_eq!(objection(reader, &bytes), None, "{name}");
            tried += 1;
        }
        assert!(tried > 0, "{name}");
    }
}

/// The measure finds what it is for.
#[test]
fn memory_is_counted() {
    let (_, peak) = peak_of(|| drop(vec![1u8; 80 << 20]));
    assert!(peak >= 80 << 20);
    let (_, peak) = peak_of(|| ());
    assert_eq!(peak, 0);
}
