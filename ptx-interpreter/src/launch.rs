//! A launch: blocks are taken from a list by the workers of rayon's pool, warps of a block in an order given by a seed.

use crate::execute::hopper;
use crate::execute::{self, Stopped};
use crate::finding::{Finding, Problem, Wait};
use crate::machine::{Block, Context, Random, State, Units, Warp};
use crate::memory::{Memory, Order, Shared, shadow};
use crate::options::{Dim, Options};
use crate::program::Kernel;
use crate::report::{Report, Traffic};
use crate::text::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A block's shared memory.
fn shared(context: &Context, bytes: usize) -> Shared {
    let (kernel, checks) = (context.kernel, context.options.checks);
    if !kernel.hopper {
        return Shared::new(bytes, kernel.shared_piece, checks);
    }
    let warps = context.threads.count().div_ceil(32) as usize;
    Shared::ordered(bytes, Order::new(bytes, kernel.shared_piece, warps, checks))
}

/// A block with its warps.
struct Resident {
    block: Block,
    warps: Vec<Warp>,
    running: bool,
}

impl Resident {
    fn new(context: &Context, shared_bytes: usize) -> Self {
        let kernel = context.kernel;
        let threads = context.threads.count() as usize;
        Self {
            block: Block {
                index: 0,
                epoch: 0,
                shared: shared(context, kernel.shared_bytes + shared_bytes),
                units: (kernel.hopper)
                    .then(|| Box::new(Units::new(threads.div_ceil(32), context.options.seed))),
                local: vec![0xff; kernel.local_bytes * threads.next_multiple_of(32)],
                counts: vec![[0; 2]; kernel.code.len()],
                traffic: Traffic::default(),
            },
            warps: (0..threads.div_ceil(32))
                .map(|i| Warp::new(i, kernel))
                .collect(),
            running: false,
        }
    }

    fn start(&mut self, context: &Context, index: u32) {
        self.block.index = index;
        self.block.epoch = shadow::next_epoch(0);
        self.block.shared.clear();
        if let Some(units) = &mut self.block.units {
            units.start(index);
        }
        let grid = context.grid;
        let place = [
            index % grid.x,
            index / grid.x % grid.y,
            index / grid.x / grid.y,
        ];
        for warp in &mut self.warps {
            warp.start(context.kernel, place, grid, context.threads);
        }
        self.running = true;
    }

    /// One turn: every warp that can runs for a slice. Barriers that are complete open.
    fn advance(&mut self, context: &Context, random: &mut Random) -> Result<(), Box<Finding>> {
        let mut order: Vec<usize> = (0..self.warps.len())
            .filter(|&i| self.warps[i].state == State::Ready)
            .collect();
        random.shuffle(&mut order);
        let index = self.block.index;
        for i in order {
            let warp = &mut self.warps[i];
            execute::run(context, &mut self.block, warp, context.options.slice).map_err(
                |Stopped { at, fault }| {
                    let (lane, problem) = *fault;
                    let thread = lane.map(|lane| warp.index as u32 * 32 + lane);
                    context.finding(index, Some(at), thread, problem)
                },
            )?;
            if warp.executed > context.options.limit {
                let problem = Problem::Endless(context.options.limit);
                return Err(context.finding(index, None, None, problem));
            }
        }
        if self.block.units.is_some() {
            return self.settle(context);
        }
        if self.warps.iter().any(|w| w.state == State::Ready) {
            return Ok(());
        }
        if self.warps.iter().all(|w| w.state == State::Done) {
            self.running = false;
            return Ok(());
        }
        self.open_barriers(context)
    }

    /// Copies arrive, phases complete and barriers open, until a warp can run.
    fn settle(&mut self, context: &Context) -> Result<(), Box<Finding>> {
        loop {
            self.open_complete(context);
            let units = self.block.units.as_ref().expect("asked by the caller");
            for warp in &mut self.warps {
                if let State::Waiting { what, .. } = &warp.state
                    && units.holds(warp.index, what)
                {
                    warp.state = State::Ready;
                }
            }
            if self.warps.iter().any(|w| w.state == State::Ready) {
                hopper::deliver(context, &mut self.block, false)?;
                return Ok(());
            }
            if self.warps.iter().all(|w| w.state == State::Done) {
                self.running = false;
                return hopper::end(context, &mut self.block);
            }
            if !hopper::deliver(context, &mut self.block, true)? {
                return Err(hopper::deadlock(context, &self.block, &self.warps));
            }
        }
    }

    /// Opens barriers that all whom they are for have reached; whether there was any.
    fn open_complete(&mut self, context: &Context) -> bool {
        let all = context.threads.count() as u32;
        let mut opened = false;
        for id in 0..16 {
            let (mut arrived, mut expected) = (0, all.next_multiple_of(32));
            for warp in &self.warps {
                if let State::Barrier {
                    id: waits, threads, ..
                } = warp.state
                    && waits == id
                {
                    arrived += 32;
                    expected = threads.unwrap_or(expected);
                }
            }
            if arrived > 0 && arrived == expected {
                opened = true;
                let mut met = Vec::new();
                for warp in &mut self.warps {
                    if matches!(warp.state, State::Barrier { id: waits, .. } if waits == id) {
                        warp.state = State::Ready;
                        met.push(warp.index);
                    }
                }
                if let Some(order) = &mut self.block.shared.order {
                    order.meet(&met);
                }
            }
        }
        if opened {
            // A barrier of some of the warps counts for all: races between it and the others are not seen, but where an
            // order of warps is kept.
            self.block.epoch = shadow::next_epoch(self.block.epoch);
        }
        opened
    }

    /// All warps wait or are done.
    fn open_barriers(&mut self, context: &Context) -> Result<(), Box<Finding>> {
        if self.open_complete(context) {
            return Ok(());
        }
        let mut waits = Vec::new();
        let mut done = Vec::new();
        for warp in &self.warps {
            match warp.state {
                State::Barrier { id, line, .. } => waits.push(Wait {
                    warp: warp.index,
                    barrier: id,
                    line,
                }),
                _ => done.push(warp.index.to_string()),
            }
        }
        let first = waits[0].clone();
        let place = context
            .kernel
            .code
            .iter()
            .position(|i| i.line == first.line);
        let same = waits.iter().all(|w| w.barrier == first.barrier);
        let problem = if same && !done.is_empty() {
            Problem::BarrierNotReached {
                barrier: first.barrier,
                detail: format!("warps {} have left the kernel", done.join(", ")),
            }
        } else {
            Problem::Deadlock(waits)
        };
        Err(context.finding(self.block.index, place, None, problem))
    }
}

/// Runs `kernel` on a grid of blocks; see [`crate::Module::launch`].
#[allow(clippy::too_many_arguments)]
pub fn launch(
    kernel: &Kernel,
    locations: &[Location],
    grid: Dim,
    threads: Dim,
    shared_bytes: usize,
    parameters: &[u8],
    memory: &Memory,
    options: &Options,
) -> Result<Report, Box<Finding>> {
    let context = Context {
        kernel,
        locations,
        memory,
        parameters,
        options,
        grid,
        threads,
        launch: memory.begin_launch(),
    };
    let impossible = |what: String| Err(context.finding(0, None, None, Problem::Launch(what)));
    if !(1..=1024).contains(&threads.count()) {
        return impossible(format!(
            "{} threads a block; 1 to 1024 are possible",
            threads.count()
        ));
    }
    if grid.count() > u64::from(shadow::MAX_BLOCKS) {
        return impossible(format!(
            "{} blocks; at most {} are possible",
            grid.count(),
            shadow::MAX_BLOCKS
        ));
    }
    if parameters.len() != kernel.parameter_bytes {
        return impossible(format!(
            "{} bytes of parameters; the kernel takes {}",
            parameters.len(),
            kernel.parameter_bytes
        ));
    }
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let blocks = grid.count();
    let findings = Mutex::new(Vec::new());
    let totals = Mutex::new((vec![[0u64; 2]; kernel.code.len()], Traffic::default()));
    let work = |worker: u64| {
        let mut random = Random::new(options.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ worker);
        let mut residents: Vec<Resident> = (0..options.resident.max(1))
            .map(|_| Resident::new(&context, shared_bytes))
            .collect();
        loop {
            let mut any = false;
            for resident in &mut residents {
                if !resident.running {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= blocks {
                        continue;
                    }
                    resident.start(&context, index as u32);
                }
                any = true;
                if let Err(finding) = resident.advance(&context, &mut random) {
                    findings
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .push(finding);
                    next.store(blocks, Ordering::Relaxed);
                    return;
                }
            }
            if !any {
                break;
            }
        }
        let mut totals = totals.lock().unwrap_or_else(|e| e.into_inner());
        for resident in residents {
            for (total, count) in totals.0.iter_mut().zip(&resident.block.counts) {
                total[0] += count[0];
                total[1] += count[1];
            }
            totals.1.add(&resident.block.traffic);
        }
    };
    let workers = (rayon::current_num_threads() as u64).min(blocks);
    if workers <= 1 {
        work(0);
    } else {
        rayon::scope(|scope| {
            for worker in 0..workers {
                let work = &work;
                scope.spawn(move |_| work(worker));
            }
        });
    }
    let mut findings = findings.into_inner().unwrap_or_else(|e| e.into_inner());
    findings.sort_by_key(|f| f.block);
    if let Some(finding) = findings.into_iter().next() {
        return Err(finding);
    }
    let (counts, traffic) = totals.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(Report::new(kernel, &counts, traffic, started.elapsed()))
}
