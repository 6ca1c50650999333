//! Processes for all GPUs of one machine, where no launcher starts them.

use super::child;
use crate::error::{Context, Result, bail};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);
/// What the others have to end in, once one has failed.
const GRACE: Duration = Duration::from_secs(30);

/// Runs `world` processes of this program with `arguments`, and waits for them: 0 when all of them end well, else the first status that is
/// not. When one fails, the others are ended; `stop` says that they shall save and end, as a signal to this process does.
///
/// # Errors
/// When a process cannot be started.
pub fn spawn(world: usize, arguments: &[String], stop: &dyn Fn() -> bool) -> Result<u8> {
    let program = std::env::current_exe().context("where this program is")?;
    // Free now, and with luck until rank 0 takes it: a race, but one that ends with a clear error.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.context("a free port for the ranks to meet at")?.port();
    let mut ranks = Ranks(Vec::new());
    for rank in 0..world {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", world.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env_remove("TORCHELASTIC_USE_AGENT_STORE");
        child::own_group(&mut command);
        // Not even `kill -9` of this process leaves ranks behind.
        child::end_with_this_process(&mut command, child::KILL);
        let child = command
            .spawn()
            .with_context(|| format!("starting rank {rank}"))?;
        ranks.0.push(Some(child));
    }
    let mut status = 0;
    let mut asked = false;
    let mut deadline = None;
    while ranks.0.iter().any(Option::is_some) {
        for (rank, slot) in ranks.0.iter_mut().enumerate() {
            let Some(child) = slot else { continue };
            let Some(ended) = child
                .try_wait()
                .with_context(|| format!("waiting for rank {rank}"))?
            else {
                continue;
            };
            *slot = None;
            if status == 0 && !ended.success() {
                status = child::code_of(ended);
            }
        }
        if !asked && (status != 0 || stop()) {
            asked = true;
            ranks.ask_to_end();
        }
        if deadline.is_none() && status != 0 {
            deadline = Some(Instant::now() + GRACE);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            bail!(
                Ranks,
                "the other ranks did not end within {} s and were killed",
                GRACE.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
    Ok(status)
}

/// The processes that still run. Dropping them kills them.
struct Ranks(Vec<Option<Child>>);

impl Ranks {
    fn ask_to_end(&self) {
        self.0.iter().flatten().for_each(child::ask_to_end);
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in self.0.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
