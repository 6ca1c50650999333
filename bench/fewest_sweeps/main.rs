//! How few sweeps does a gradient need, along a training?
//!
//! ```text
//! cargo bench --bench fewest_sweeps -- --data-dir DIR CHECKPOINT..
//! ```
//!
//! takes checkpoints of one run after several epochs (`train` keeps `last.safetensors`: copy it after an epoch), and compares gradients
//! after so many sweeps with the true one: that of the converged linear response to the state that the free phase converges to from the kept
//! one (in the tables of the free phase: from where it starts, so that another fixed point is no error). Numbers are `1 - cosine` of all
//! tensors together, and of the worst tensor. The images are a training batch as the run would see it, with the state that the batches
//! before it left. All on the CPU in fp64.
//!
//! A *sweep* updates each free layer once. An iteration of a pair of nudged states is two (a little less at the beginning, where the
//! nudging has not reached all layers); a linear response begins with one that says which units are inside their bounds.

mod accelerated;
mod laboratory;
mod table;

use accelerated::Acceleration;
use anyhow::{Context, Result};
use clap::Parser;
use eqprop_cuda::data::Shard;
use eqprop_cuda::network::Mode;
use eqprop_cuda::phase::{NudgedPhase, Relaxation};
use eqprop_cuda::run::{Checkpoint, load_data, loader, threads};
use laboratory::{Laboratory, Origin};
use std::path::PathBuf;
use table::{Place, Table};

#[derive(Parser)]
struct Arguments {
    /// of one run
    #[arg(required = true)]
    checkpoints: Vec<PathBuf>,
    /// where the run's images are
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// images in the batch
    #[arg(long, default_value_t = 16)]
    images: usize,
    /// of so many images
    #[arg(long, default_value_t = 4)]
    batches: usize,
    /// for the products of a chunk
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// only the tables whose title contains this
    #[arg(long, default_value = "")]
    only: String,
    /// cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

/// Sweeps after which a gradient is taken.
const FREE: [usize; 9] = [5, 8, 10, 15, 20, 30, 40, 60, 120];
const AFTER: [usize; 9] = [4, 6, 8, 10, 14, 20, 30, 40, 60];
/// Batches that leave the state of the run behind, and make up a mean state.
const BEFORE: usize = 4;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    threads::start(Some(arguments.threads))?;
    let mut tables = Vec::new();
    for path in &arguments.checkpoints {
        let run = Checkpoint::load(path)?;
        let mut config = run.config.clone();
        config.batch_size = arguments.images;
        config.data_dir = arguments.data_dir.clone().or(config.data_dir);
        let data = load_data(&mut config, &run.network)?;
        let loader = loader(&config, data.train, true, Shard::WHOLE)?;
        let mut batches = loader.epoch(run.position.epoch as u64, 0);
        let mut of_run = Vec::new();
        for _ in 0..arguments.batches {
            let before: Vec<_> = batches.by_ref().take(BEFORE).collect();
            let batch = batches
                .next()
                .context("the dataset has too few images for these --batches")?;
            let mut laboratory = Laboratory::new(&run, &before, batch)?;
            of_run.push(studies(&mut laboratory, &arguments.only)?);
        }
        println!(
            "\n# {} (after epoch {})",
            path.display(),
            run.position.epoch
        );
        summary(&of_run);
        tables.extend(of_run);
    }
    println!("\n# all of these checkpoints");
    summary(&tables);
    Ok(())
}

/// Over batches.
fn summary(tables: &[Vec<Table>]) {
    for i in 0..tables[0].len() {
        let same: Vec<&Table> = tables.iter().map(|of_batch| &of_batch[i]).collect();
        println!("\n{}", Table::over(&same, Place::Median));
        println!("\n{}", Table::over(&same, Place::Worst));
    }
}

fn studies(laboratory: &mut Laboratory, only: &str) -> Result<Vec<Table>> {
    type Study = fn(&mut Laboratory) -> Result<Table>;
    let studies: [(&str, Study); 6] = [
        ("starts", starts),
        ("orders", orders),
        ("accelerations", accelerations),
        ("after", after),
        ("both", both),
        ("tolerances", tolerances),
    ];
    let chosen = studies.iter().filter(|(name, _)| name.contains(only));
    chosen.map(|(_, study)| study(laboratory)).collect()
}

fn relaxation(mode: Mode, omega: f64, iterations: usize) -> Relaxation {
    Relaxation {
        mode,
        omega,
        iterations,
        tolerance: None,
    }
}

/// The free phase alone, by where it starts: what comes after it converges.
fn starts(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::new("free sweeps, coloured, omega 1.6, by their start", &FREE);
    for origin in Origin::ALL {
        let order = relaxation(Mode::Coloured, 1.6, 0);
        table.add(origin.name(), laboratory.free(origin, &order, &FREE)?);
    }
    Ok(table)
}

/// The free phase alone, by order and omega.
fn orders(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::new("free sweeps from the kept state, by order and omega", &FREE);
    for mode in [Mode::Coloured, Mode::Forward, Mode::Backward] {
        for omega in [1.0, 1.3, 1.5, 1.6, 1.7, 1.8] {
            let order = relaxation(mode, omega, 0);
            let points = laboratory.free(Origin::Kept, &order, &FREE)?;
            table.add(&format!("{mode}, omega {omega}"), points);
        }
    }
    let order = relaxation(Mode::Asynchronous, 1.0, 0);
    let points = laboratory.free(Origin::Kept, &order, &FREE)?;
    table.add("asynchronous (published)", points);
    Ok(table)
}

/// The free phase alone, with a memory.
fn accelerations(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::new("free sweeps from the kept state, accelerated", &FREE);
    for omega in [1.0, 1.6] {
        for acceleration in Acceleration::ALL {
            let order = relaxation(Mode::Coloured, omega, 0);
            let points = laboratory.accelerated(acceleration, &order, &FREE)?;
            table.add(&format!("omega {omega}, {acceleration}"), points);
        }
    }
    Ok(table)
}

/// What comes after a free phase that has converged.
fn after(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::new("sweeps after a converged free phase", &AFTER);
    let (pair, linear) = (NudgedPhase::SumDifference, NudgedPhase::Linear);
    for mode in [Mode::Coloured, Mode::Forward, Mode::Backward] {
        for form in [pair, linear] {
            for omega in [1.0, 1.3, 1.6, 1.8] {
                let order = relaxation(mode, omega, 0);
                let points = laboratory.after(form, &order, &AFTER)?;
                table.add(&format!("{form}, {mode}, omega {omega}"), points);
            }
        }
    }
    Ok(table)
}

/// How the phases of a step are relaxed: the order of the free phase, what follows, in which order.
const STEPS: [(Mode, NudgedPhase, Mode); 4] = [
    (Mode::Coloured, NudgedPhase::SumDifference, Mode::Coloured),
    (Mode::Coloured, NudgedPhase::Linear, Mode::Coloured),
    (Mode::Forward, NudgedPhase::SumDifference, Mode::Backward),
    (Mode::Forward, NudgedPhase::Linear, Mode::Backward),
];

/// Whole steps from the kept state, by counts of iterations.
fn both(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::of_steps("steps of so many iterations from the kept state");
    let published = relaxation(Mode::Asynchronous, 1.0, 120);
    let nudged = relaxation(Mode::Asynchronous, 1.0, 50);
    let step = laboratory.step(&published, &nudged, NudgedPhase::Direct)?;
    table.add("published, 120 + 50", vec![step]);
    for (free_order, form, nudged_order) in STEPS {
        for (free, nudged) in [
            (40, 20),
            (30, 15),
            (20, 20),
            (20, 10),
            (15, 15),
            (15, 8),
            (10, 10),
            (10, 5),
        ] {
            let free_phase = relaxation(free_order, 1.6, free);
            let step =
                laboratory.step(&free_phase, &relaxation(nudged_order, 1.6, nudged), form)?;
            let name = format!("{free_order}, {form}, {nudged_order}, {free} + {nudged}");
            table.add(&name, vec![step]);
        }
    }
    Ok(table)
}

/// Whole steps from the kept state, by tolerances.
fn tolerances(laboratory: &mut Laboratory) -> Result<Table> {
    let mut table = Table::of_steps("steps by tolerance from the kept state");
    let until = |mode, tolerance| Relaxation {
        tolerance: Some(tolerance),
        ..relaxation(mode, 1.6, 400)
    };
    for (free_order, form, nudged_order) in STEPS {
        for free in [1e-2, 3e-3, 1e-3, 1e-4] {
            for nudged in [1e-1, 3e-2, 1e-2] {
                let free_phase = until(free_order, free);
                let step = laboratory.step(&free_phase, &until(nudged_order, nudged), form)?;
                let name = format!("{free_order}, {form}, {nudged_order}, {free:e} + {nudged:e}");
                table.add(&name, vec![step]);
            }
        }
    }
    Ok(table)
}
