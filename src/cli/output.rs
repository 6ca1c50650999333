//! What the program says: lines on stdout, complaints on stderr, when either may be closed or full.
//!
//! A reader that has gone away (`| head`) asks for no more, and nothing more is said. Any other error of stdout is remembered:
//! work goes on, and [`failure`] tells the program's end, so that a cut-off report never passes for a whole one.

use crate::shown::lines;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether lines for stdout go nowhere.
static SILENT: AtomicBool = AtomicBool::new(false);
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// From here on nothing is said: by a quiet run, or by a process of several of which another one speaks. Complaints still are.
pub fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Prints lines to stdout, whose control characters (names in a file from somebody else) are escaped.
pub fn say(line: impl Display) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    // Never an error: `Stdout` keeps it.
    let _ = writeln!(Stdout, "{}", lines(&line.to_string()));
}

/// Prints a line to stderr, as far as that can be had: there is nowhere to say that it cannot.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", lines(&line.to_string()));
}

/// Prints to stderr what is no complaint, and is enough to be said by one process of several.
pub fn remark(line: impl Display) {
    if !SILENT.load(Ordering::Relaxed) {
        complain(line);
    }
}

/// From here on what the library logs is printed to stderr: errors and warnings as such, anything else as a [`remark`].
pub fn print_what_is_logged() {
    static PRINTER: Printer = Printer;
    if log::set_logger(&PRINTER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

struct Printer;

impl Log for Printer {
    /// Of other crates nothing: what they say to developers would be noise.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match record.level() {
            Level::Error => complain(format_args!("error: {}", record.args())),
            Level::Warn => complain(format_args!("warning: {}", record.args())),
            _ => remark(record.args()),
        }
    }

    fn flush(&self) {}
}

/// What stdout did not take, once: its first error.
pub fn failure() -> Option<io::Error> {
    keep(io::stdout().flush());
    lock().take()
}

/// The process's stdout, of which errors are kept for [`failure`].
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(io::stdout().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        keep(io::stdout().flush());
        Ok(())
    }
}

/// Keeps an error of stdout for [`failure`], unless it says that the reader has gone away.
pub fn keep(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        lock().get_or_insert(error);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<io::Error>> {
    FAILURE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
