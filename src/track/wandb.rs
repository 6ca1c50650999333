//! Weights & Biases, through the `wandb` package of the user's own Python.
//!
//! A small Python program, `wandb_client.py`, is run as a child process, isolated from the present folder, and passes on to the package
//! what it is told in JSON lines on stdin,
//!
//! ```text
//! {"init": {"project": .., "id": .., "dir": .., "name": .., "config": {..}}}
//! {"log": {"cost/train": 0.33, ..}, "step": 1}
//! {"finish": 0}
//! ```
//!
//! and answers `{"ready": true}` at its start and `{"id": ..}` to `init`, or `{"error": ".."}`. What the package itself
//! has to say goes to stderr. Its environment variables keep their meaning: `WANDB_MODE=offline`, `WANDB_PROJECT` ..

use super::Tracker;
use crate::config::Config;
use crate::error::{Context, Error, Result, bail, ensure};
use crate::run::replace_file;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const CLIENT: &str = include_str!("wandb_client.py");
/// The file in a run's folder that holds its identifier at W&B, so that a resumed run goes on there.
const ID: &str = "wandb-id";
const REMEDY: &str = "`pip install wandb` in the environment of python3, or train with --no_wandb";

/// The child process. Dropping it lets it finish what it has.
pub struct Client {
    child: Child,
    /// `None` once it has been told everything
    input: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Client {
    /// Starts Python and has it import `wandb`: an error says what is missing.
    ///
    /// # Errors
    /// When Python or its package is missing.
    pub fn start() -> Result<Self> {
        let mut command = Command::new("python3");
        command
            .args(["-I", "-c", CLIENT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Ctrl-C is for this program, which then tells the client.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| {
            Error::Program(format!(
                "--wandb: cannot start python3 ({e}): install Python 3, then {REMEDY}"
            ))
        })?;
        let mut client = Self {
            input: child.stdin.take(),
            replies: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        };
        let ready = client.reply();
        ready.map_err(|e| {
            Error::Program(format!(
                "--wandb: the Python package wandb cannot be used ({e:#}): {REMEDY}"
            ))
        })?;
        Ok(client)
    }

    /// Begins the run in `folder` at W&B, or goes on with it; whether it was begun.
    ///
    /// # Errors
    /// When the client refuses: with its words.
    pub fn begin(mut self, folder: &Path, config: &Config) -> Result<(Self, bool)> {
        let path = folder.join(ID);
        let id = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().to_string()).filter(|id| !id.is_empty()),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let absolute = std::path::absolute(folder)?;
        let init = json!({"init": {
            "project": std::env::var("WANDB_PROJECT").unwrap_or("eqprop-cuda".into()),
            "name": std::env::var("WANDB_NAME").ok().or(absolute.file_name().map(|n| n.to_string_lossy().into())),
            "id": id,
            "dir": absolute,
            "config": config,
        }});
        let answer = self.tell(&init).and_then(|()| self.reply()).map_err(|e| {
            Error::Program(format!(
                "--wandb: the run cannot be begun ({e:#}): log in with `wandb login`, or set WANDB_MODE=offline, or train \
                 with --no_wandb"
            ))
        })?;
        let given = answer["id"]
            .as_str()
            .ok_or_else(|| Error::Program("the wandb client gave the run no id".into()))?;
        replace_file(&path, format!("{given}\n").as_bytes())?;
        Ok((self, id.is_none()))
    }

    fn tell(&mut self, message: &Value) -> Result<()> {
        let input = self.input.as_mut();
        let input = input.ok_or_else(|| Error::Program("the wandb client is gone".into()))?;
        writeln!(input, "{message}").context("the wandb client has ended")
    }

    fn reply(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        ensure!(Program, !line.is_empty(), "it ended without an answer");
        let answer: Value = serde_json::from_str(&line)
            .map_err(|e| Error::Program(format!("it answered what is no JSON: {e}")))?;
        match answer["error"].as_str() {
            Some(error) => bail!(Program, "{error}"),
            None => Ok(answer),
        }
    }
}

impl Tracker for Client {
    /// The step is the epoch.
    fn log(&mut self, epoch: usize, values: &[(String, f64)]) -> Result<()> {
        let values: serde_json::Map<String, Value> = (values.iter())
            .map(|(name, value)| (name.clone(), (*value).into()))
            .collect();
        self.tell(&json!({"log": values, "step": epoch}))
    }

    fn finish(&mut self, exit_code: u8) -> Result<()> {
        self.tell(&json!({"finish": exit_code}))?;
        self.input = None;
        let status = self.child.wait()?;
        ensure!(
            Program,
            status.success(),
            "the wandb client ended with {status}"
        );
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.input = None;
        // What it says now would come too late.
        let _ = self.child.wait();
    }
}
