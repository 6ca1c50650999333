//! What a launch did: instructions by kind, bytes by space.

use crate::program::Kernel;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often an instruction was executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executed {
    /// By warps.
    pub warps: u64,
    /// By threads whose predicate let them.
    pub threads: u64,
}

/// Bytes moved, and passes lost to banks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub global_read: u64,
    pub global_written: u64,
    pub shared_read: u64,
    pub shared_written: u64,
    /// Passes over shared memory beyond the one that every access needs.
    pub bank_conflicts: u64,
}

impl Traffic {
    pub fn add(&mut self, other: &Traffic) {
        self.global_read += other.global_read;
        self.global_written += other.global_written;
        self.shared_read += other.shared_read;
        self.shared_written += other.shared_written;
        self.bank_conflicts += other.bank_conflicts;
    }
}

/// Counts of one launch, or of several that were added up.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub launches: u64,
    /// By opcode, with its modifiers.
    pub instructions: BTreeMap<String, Executed>,
    pub traffic: Traffic,
    pub time: Duration,
}

impl Report {
    pub(crate) fn new(
        kernel: &Kernel,
        counts: &[[u64; 2]],
        traffic: Traffic,
        time: Duration,
    ) -> Self {
        let mut by_text = vec![Executed::default(); kernel.opcodes.len()];
        for (instruction, count) in kernel.code.iter().zip(counts) {
            let sum = &mut by_text[instruction.text as usize];
            sum.warps += count[0];
            sum.threads += count[1];
        }
        let named = kernel.opcodes.iter().cloned().zip(by_text);
        Self {
            launches: 1,
            instructions: named.filter(|(_, executed)| executed.warps > 0).collect(),
            traffic,
            time,
        }
    }

    pub fn add(&mut self, other: &Report) {
        self.launches += other.launches;
        for (text, executed) in &other.instructions {
            let sum = self.instructions.entry(text.clone()).or_default();
            sum.warps += executed.warps;
            sum.threads += executed.threads;
        }
        self.traffic.add(&other.traffic);
        self.time += other.time;
    }

    /// All instructions.
    pub fn total(&self) -> Executed {
        self.instructions
            .values()
            .fold(Executed::default(), |sum, e| Executed {
                warps: sum.warps + e.warps,
                threads: sum.threads + e.threads,
            })
    }

    /// Instructions of threads per second.
    pub fn rate(&self) -> f64 {
        self.total().threads as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Copies from device to shared memory that a warp or its thread began: `cp.async`, and boxes by tensor map.
    pub fn copies(&self) -> Executed {
        let kinds = ["cp.async.ca", "cp.async.cg", "cp.async.bulk.tensor"];
        kinds
            .map(|kind| self.count(kind))
            .into_iter()
            .fold(Executed::default(), |sum, e| Executed {
                warps: sum.warps + e.warps,
                threads: sum.threads + e.threads,
            })
    }

    /// Matrix products: `mma`, and `wgmma` of one warp of its four.
    pub fn products(&self) -> Executed {
        let (mma, wgmma) = (self.count("mma"), self.count("wgmma.mma_async"));
        Executed {
            warps: mma.warps + wgmma.warps,
            threads: mma.threads + wgmma.threads,
        }
    }

    /// Sums over opcodes with this beginning, for instance `mma`.
    pub fn count(&self, beginning: &str) -> Executed {
        let chosen = self
            .instructions
            .iter()
            .filter(|(text, _)| text.starts_with(beginning));
        chosen.fold(Executed::default(), |sum, (_, e)| Executed {
            warps: sum.warps + e.warps,
            threads: sum.threads + e.threads,
        })
    }
}

/// The table of a launch: the kinds that were executed most, then the memory.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, Executed> = BTreeMap::new();
        for (text, executed) in &self.instructions {
            let kind = kinds
                .entry(text.split('.').next().unwrap_or(text))
                .or_default();
            kind.warps += executed.warps;
            kind.threads += executed.threads;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, e)| std::cmp::Reverse(e.warps));
        writeln!(f, "{:<20} {:>16} {:>16}", "instruction", "warps", "threads")?;
        for (kind, executed) in kinds {
            writeln!(
                f,
                "{kind:<20} {:>16} {:>16}",
                executed.warps, executed.threads
            )?;
        }
        let total = self.total();
        writeln!(f, "{:<20} {:>16} {:>16}", "all", total.warps, total.threads)?;
        let t = &self.traffic;
        writeln!(
            f,
            "{:<20} {:>16} read {:>11} written",
            "device bytes", t.global_read, t.global_written
        )?;
        writeln!(
            f,
            "{:<20} {:>16} read {:>11} written",
            "shared bytes", t.shared_read, t.shared_written
        )?;
        write!(f, "{:<20} {:>16}", "bank conflicts", t.bank_conflicts)
    }
}
