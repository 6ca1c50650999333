//! A launch: blocks, or clusters of them, are taken from a list by the workers of rayon's pool, warps in an order given by a seed.

use crate::execute::hopper;
use crate::execute::{self, Stopped};
use crate::finding::{Finding, Problem, Wait};
use crate::machine::{Block, Context, Random, State, Units, Warp};
use crate::memory::{Layout, Memory, Order, Shared, shadow};
use crate::options::{Dim, Options};
use crate::program::Kernel;
use crate::report::{Report, Traffic};
use crate::text::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Blocks of a cluster that every device takes.
const MOST_BLOCKS: u64 = 8;

/// A block with its warps, or the blocks of a cluster with theirs.
struct Resident {
    block: Block,
    warps: Vec<Warp>,
    running: bool,
    /// By rank.
    ended: Vec<bool>,
}

impl Resident {
    fn new(context: &Context, shared_bytes: usize) -> Self {
        let kernel = context.kernel;
        let (blocks, warps) = (context.cluster.count() as usize, context.warps());
        let layout = Layout::new(blocks, warps, kernel.shared_bytes + shared_bytes);
        let (piece, checks) = (kernel.shared_piece, context.options.checks);
        let shared = match context.asynchronous() {
            true => Shared::ordered(Order::new(layout, piece, checks)),
            false => Shared::new(layout.bytes, piece, checks),
        };
        let units = || Box::new(Units::new(layout, warps, context.options.seed));
        let warp = |rank| (0..warps).map(move |i| Warp::new(i, rank, layout.warps, kernel));
        Self {
            block: Block {
                index: 0,
                indices: vec![0; blocks],
                epoch: 0,
                shared,
                units: context.asynchronous().then(units),
                local: vec![0xff; kernel.local_bytes * layout.all_warps() * 32],
                counts: vec![[0; 2]; kernel.code.len()],
                traffic: Traffic::default(),
            },
            warps: (0..blocks).flat_map(warp).collect(),
            running: false,
            ended: vec![false; blocks],
        }
    }

    /// Begins the blocks of cluster `index`, or the block.
    fn start(&mut self, context: &Context, index: u32) {
        let (grid, cluster) = (context.grid, context.cluster);
        let clusters = [grid.x / cluster.x, grid.y / cluster.y];
        let first = [
            index % clusters[0] * cluster.x,
            index / clusters[0] % clusters[1] * cluster.y,
            index / clusters[0] / clusters[1] * cluster.z,
        ];
        let place = |rank: u32| {
            [
                first[0] + rank % cluster.x,
                first[1] + rank / cluster.x % cluster.y,
                first[2] + rank / cluster.x / cluster.y,
            ]
        };
        for (rank, block) in self.block.indices.iter_mut().enumerate() {
            let [x, y, z] = place(rank as u32);
            *block = x + grid.x * (y + grid.y * z);
        }
        self.block.epoch = shadow::next_epoch(0);
        self.block.shared.clear();
        if let Some(units) = &mut self.block.units {
            units.start(self.block.indices[0]);
        }
        for warp in &mut self.warps {
            let block = place(warp.rank as u32);
            warp.start(context.kernel, block, grid, cluster, context.threads);
        }
        self.ended.fill(false);
        self.running = true;
    }

    /// One turn: every warp that can runs for a slice. Barriers that are complete open.
    fn advance(&mut self, context: &Context, random: &mut Random) -> Result<(), Box<Finding>> {
        let mut order: Vec<usize> = (0..self.warps.len())
            .filter(|&i| self.warps[i].state == State::Ready)
            .collect();
        random.shuffle(&mut order);
        for i in order {
            let warp = &mut self.warps[i];
            self.block.enter(warp.rank);
            let index = self.block.index;
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
            for rank in 0..self.ended.len() {
                let mut warps = self.warps.iter().filter(|w| w.rank == rank);
                if !self.ended[rank] && warps.all(|w| w.state == State::Done) {
                    self.ended[rank] = true;
                    hopper::end_block(context, &mut self.block, rank)?;
                }
            }
            self.open_complete(context);
            let units = self.block.units.as_mut().expect("asked by the caller");
            let running = self.warps.iter().filter(|w| w.state != State::Done);
            units.cluster.open(running.map(|w| w.place));
            for warp in &mut self.warps {
                if let State::Waiting { what, .. } = &warp.state
                    && units.holds(warp.place, what)
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
        for warps in self.warps.chunks_mut(context.warps()) {
            for id in 0..16 {
                let (mut arrived, mut expected) = (0, all.next_multiple_of(32));
                let waits_here =
                    |warp: &Warp| matches!(warp.state, State::Barrier { id: of, .. } if of == id);
                for warp in warps.iter().filter(|w| waits_here(w)) {
                    if let State::Barrier { threads, .. } = warp.state {
                        arrived += 32;
                        expected = threads.unwrap_or(expected);
                    }
                }
                if arrived > 0 && arrived == expected {
                    opened = true;
                    let mut met = Vec::new();
                    for warp in warps.iter_mut().filter(|w| waits_here(w)) {
                        warp.state = State::Ready;
                        met.push(warp.place);
                    }
                    if let Some(order) = &mut self.block.shared.order {
                        order.meet(&met);
                    }
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
    let alone = Dim { x: 1, y: 1, z: 1 };
    let of_kernel = kernel.cluster.map(|[x, y, z]| Dim { x, y, z });
    let cluster = options.cluster.or(of_kernel).unwrap_or(alone);
    let context = Context {
        kernel,
        locations,
        memory,
        parameters,
        options,
        grid,
        cluster,
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
    if of_kernel.is_some_and(|of_kernel| of_kernel != cluster) {
        return impossible(
            "the kernel says how large its clusters are, the launch something else".into(),
        );
    }
    let divides = |grid: u32, cluster: u32| cluster > 0 && grid.is_multiple_of(cluster);
    let whole =
        divides(grid.x, cluster.x) && divides(grid.y, cluster.y) && divides(grid.z, cluster.z);
    if !whole || cluster.count() > MOST_BLOCKS {
        return impossible(format!(
            "clusters of {} x {} x {} blocks in a grid of {} x {} x {}: whole ones are possible, of at most {MOST_BLOCKS} blocks",
            cluster.x, cluster.y, cluster.z, grid.x, grid.y, grid.z
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
    // Or clusters.
    let blocks = grid.count() / cluster.count();
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
