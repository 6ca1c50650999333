//! Signals that ask the program to end: Ctrl-C, on Unix SIGTERM and SIGHUP too, and one more that [`also_at`] names.
//!
//! While somebody [watches](watch), the first one is acknowledged at once, however long the present phase takes, and remembered;
//! whoever watches stops at the next good place. Otherwise, or the second time, the process ends.

#[cfg(not(unix))]
use crate::error::bail;
use crate::error::{Context, Result};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of the first signal that came; 0 before.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
static WATCHES: AtomicUsize = AtomicUsize::new(0);
static LISTENING: AtomicBool = AtomicBool::new(false);
/// What is sent by a program, not typed, may come several times for one end: a launcher and its daemon both send SIGTERM, and Linux sends a
/// child the signal of its parent's death for each thread of the parent that it is handed to. Within this time they are one.
const ONE_END: Duration = Duration::from_secs(1);
/// When the first signal came.
static FIRST: Mutex<Option<Instant>> = Mutex::new(None);
/// What the first signal leads to, for its acknowledgement.
static CONSEQUENCE: Mutex<&str> = Mutex::new("");

/// As long as it lives, the first signal is remembered and does not end the process.
#[must_use = "signals end the process when the watch is over"]
pub struct Watch {
    /// the consequence while the watch around this one goes on
    outer: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        *consequence() = self.outer;
        WATCHES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The number of Ctrl-C, which is typed.
const TYPED: i32 = 2;

fn consequence() -> MutexGuard<'static, &'static str> {
    CONSEQUENCE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over the signals. `leads_to` is what the first one leads to, as a clause: `the batch is finished and the run saved`.
///
/// # Errors
/// When the system does not hand them over.
pub fn watch(leads_to: &'static str) -> Result<Watch> {
    WATCHES.fetch_add(1, Ordering::SeqCst);
    let watch = Watch {
        outer: std::mem::replace(&mut *consequence(), leads_to),
    };
    if !LISTENING.swap(true, Ordering::SeqCst) {
        signals::listen().context("cannot handle signals")?;
    }
    Ok(watch)
}

/// Has a signal by the name of `USR1`, `USR2` or `XCPU` ask for the same.
///
/// # Errors
/// When there is no such signal, or it cannot be caught.
#[cfg(unix)]
pub fn also_at(signal: &str) -> Result<()> {
    signals::listen_to(&[signals::number(signal)?])
}

/// There are no such signals.
#[cfg(not(unix))]
pub fn also_at(signal: &str) -> Result<()> {
    bail!(File, "{signal}: this system has no such signal")
}

/// Whether a signal asked for the end.
pub fn requested() -> bool {
    CAUGHT.load(Ordering::SeqCst) != 0
}

/// What a shell reports for a program that the signal ended: 130 after Ctrl-C. When another process of the run caught it, as if it had
/// been SIGTERM.
pub fn exit_code() -> u8 {
    const SIGTERM: i32 = 15;
    match CAUGHT.load(Ordering::SeqCst) {
        0 => code_of(SIGTERM),
        signal => code_of(signal),
    }
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn caught(signal: i32, name: &str) {
    let before = CAUGHT.swap(signal, Ordering::SeqCst);
    let mut came = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let began = *came.get_or_insert_with(Instant::now);
    if before == signal && signal != TYPED && began.elapsed() < ONE_END {
        return;
    }
    if before != 0 || WATCHES.load(Ordering::SeqCst) == 0 {
        std::process::exit(i32::from(code_of(signal)));
    }
    let leads_to = *consequence();
    log::info!("{name}: {leads_to}; once more ends the program at once");
}

#[cfg(unix)]
mod signals {
    use crate::error::{Context, Result};
    use crate::usage::usage;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
    use signal_hook::iterator::Signals;

    pub fn listen() -> Result<()> {
        listen_to(&[SIGINT, SIGTERM])?;
        // Under nohup a run outlives its terminal.
        if !is_ignored(SIGHUP) {
            listen_to(&[SIGHUP])?;
        }
        Ok(())
    }

    /// A thread waits for them, so that a signal is acknowledged while all others compute.
    pub fn listen_to(numbers: &[i32]) -> Result<()> {
        let mut signals = Signals::new(numbers)?;
        let wait = move || {
            for signal in signals.forever() {
                super::caught(signal, name(signal));
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(wait)
            .context("the system starts no thread for them; raise its limit (ulimit -u)")?;
        Ok(())
    }

    pub fn number(name: &str) -> Result<i32> {
        Ok(match name {
            "USR1" => SIGUSR1,
            "USR2" => SIGUSR2,
            "XCPU" => SIGXCPU,
            _ => usage!("{name}: expected USR1, USR2 or XCPU"),
        })
    }

    fn name(signal: i32) -> &'static str {
        match signal {
            SIGINT => "Ctrl-C",
            _ => signal_hook::low_level::signal_name(signal).unwrap_or("signal"),
        }
    }

    fn is_ignored(signal: i32) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with a null action nothing is changed, and the present one is written to memory of its type.
        unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(not(unix))]
mod signals {
    pub fn listen() -> crate::error::Result<()> {
        let handled = ctrlc::set_handler(|| super::caught(super::TYPED, "Ctrl-C"));
        Ok(handled.map_err(std::io::Error::other)?)
    }
}
