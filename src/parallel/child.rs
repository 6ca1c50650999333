//! Processes of this program that this process starts: how they hear of signals, and end.

use std::process::{Child, Command, ExitStatus};

/// The signal of [`end_with_this_process`] that ends a child at once.
pub const KILL: i32 = 9;
/// That which lets it save first.
pub const TERMINATE: i32 = 15;

/// Ctrl-C on a terminal goes to a whole group: here to this process alone, which asks its children to end, once.
pub fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// The child gets `signal` when the thread that starts it ends, by `kill -9` of this process too. On Linux.
pub fn end_with_this_process(command: &mut Command, signal: i32) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: between fork and exec it makes one system call, which is allowed there.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, signal);
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (command, signal);
}

/// SIGTERM, after which a run saves and ends. The child must not have been waited for.
pub fn ask_to_end(child: &Child) {
    #[cfg(unix)]
    // SAFETY: the child was not waited for yet, so that the number is still its own.
    unsafe {
        libc::kill(child.id() as libc::pid_t, libc::SIGTERM);
    }
    #[cfg(not(unix))]
    let _ = child;
}

/// As a shell reports it.
pub fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128_u8.saturating_add(signal as u8);
    }
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}
