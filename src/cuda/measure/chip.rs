//! What the estimate knows of a GPU: every constant with where it comes from.

use super::timing::Roofline;

/// A number of the model.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    /// as the table calls it
    pub name: &'static str,
    /// in `unit`
    pub value: f64,
    /// of the value, empty for a number
    pub unit: &'static str,
    /// where the value comes from
    pub source: &'static str,
}

const fn constant(
    name: &'static str,
    value: f64,
    unit: &'static str,
    source: &'static str,
) -> Constant {
    Constant {
        name,
        value,
        unit,
        source,
    }
}

/// A GPU.
#[derive(Debug, Clone, Copy)]
pub struct Chip {
    /// how many it has
    pub multiprocessors: Constant,
    /// of the multiprocessors, in 1/s
    pub clock: Constant,
    /// what a share of the chip's rate is a share of
    pub dense: Constant,
    /// what these kernels' instruction can reach
    pub mma: Constant,
    /// bandwidth of device memory
    pub memory: Constant,
    /// bandwidth from L2 to all multiprocessors
    pub l2: Constant,
    /// bandwidth of shared memory, by multiprocessor and clock
    pub shared: Constant,
    /// a multiprocessor's memory: L1 cache and shared memory
    pub unified: Constant,
    /// how much of it is shared when two blocks of the largest tile shall fit
    pub carveout: Constant,
    /// bytes of L1 that a pixel's slice occupies
    pub line: Constant,
    /// instructions of warps, by multiprocessor and clock
    pub issue: Constant,
    /// clocks in which a tile begins and ends, beside its products
    pub latency: Constant,
    /// between the end of a launch and the beginning of the next
    pub launch: Constant,
}

const MEASURED: &str = "measured by gpu_check";

impl Chip {
    /// An H100 SXM, on which nothing was measured yet.
    pub const H100: Self = Self {
        multiprocessors: constant("multiprocessors", 132.0, "", "data sheet"),
        clock: constant(
            "clock",
            1.7e9,
            "Hz",
            "assumed under load; the data sheet's boost is 1.98e9",
        ),
        dense: constant(
            "dense 16-bit products",
            790e12,
            "FLOP/s",
            "what public wgmma kernels reach on this card (763e12 to 808e12); data sheet: 989e12",
        ),
        mma: constant(
            "mma.sync",
            490e12,
            "FLOP/s",
            "62 % of the dense rate, as reported of Hopper; measured by gpu_check (roofline)",
        ),
        memory: constant(
            "device memory",
            3.35e12,
            "B/s",
            "data sheet; measured by gpu_check (roofline)",
        ),
        l2: constant(
            "L2 to multiprocessors",
            5.5e12,
            "B/s",
            "lower end of public microbenchmarks (5.5e12 to 7e12)",
        ),
        shared: constant(
            "shared memory",
            128.0,
            "B/clock and multiprocessor",
            "CUDA programming guide: 32 banks of 4 bytes; what L1 delivers passes the same pipe",
        ),
        unified: constant(
            "L1 cache and shared memory",
            256.0 * 1024.0,
            "B/multiprocessor",
            "CUDA programming guide, compute capability 9.0",
        ),
        carveout: constant(
            "of it shared, for two blocks",
            164.0 * 1024.0,
            "B/multiprocessor",
            "CUDA programming guide: the next of 0, 8, 16, 32, 64, 100, 132, 164, 196, 228 KB from 134.5 on",
        ),
        line: constant(
            "line of L1",
            128.0,
            "B",
            "CUDA programming guide; a pixel's slice is half of one, and takes it whole",
        ),
        issue: constant(
            "instructions",
            4.0,
            "warps/clock and multiprocessor",
            "CUDA programming guide: four schedulers",
        ),
        latency: constant(
            "begin and end of a tile",
            3000.0,
            "clocks",
            "assumed: about five dependent accesses of device memory that nothing of the tile hides",
        ),
        launch: constant(
            "from launch to launch in a graph",
            1.5e-6,
            "s",
            "assumed; measured by gpu_check (bench step)",
        ),
    };

    /// The GPU at hand, as far as it was measured.
    pub fn measured(multiprocessors: usize, limit: Roofline) -> Self {
        let of = |constant: Constant, value: f64| Constant {
            value,
            source: MEASURED,
            ..constant
        };
        let h100 = Self::H100;
        Self {
            multiprocessors: Constant {
                source: "the driver",
                ..of(h100.multiprocessors, multiprocessors as f64)
            },
            mma: of(h100.mma, limit.operations_per_second),
            memory: of(h100.memory, limit.bytes_per_second),
            ..h100
        }
    }

    /// All of them, in the order of the table.
    pub fn constants(&self) -> [Constant; 13] {
        [
            self.multiprocessors,
            self.clock,
            self.dense,
            self.mma,
            self.memory,
            self.l2,
            self.shared,
            self.unified,
            self.carveout,
            self.line,
            self.issue,
            self.latency,
            self.launch,
        ]
    }

    /// Of the whole chip and a second, what a multiprocessor has a clock.
    pub fn per_clock(&self, rate: Constant) -> f64 {
        rate.value / self.multiprocessors.value / self.clock.value
    }
}

/// Instructions of a warp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Instructions {
    /// Channels of the tile.
    pub channels: usize,
    /// whether the tile has the sum and the difference of two states
    pub pair: bool,
    /// Of a tile, of each run and each of its taps, and of each step of K.
    pub tile: f64,
    /// see `tile`
    pub run: f64,
    /// see `tile`
    pub tap: f64,
    /// see `tile`
    pub step: f64,
}

/// Read off the machine code for sm_90a (`kernels/resources.py`): of a step the loop's mix, of a tile what stands outside of it.
pub const INSTRUCTIONS: [Instructions; 6] = [
    Instructions {
        channels: 128,
        pair: false,
        tile: 6500.0,
        run: 190.0,
        tap: 49.0,
        step: 240.0,
    },
    Instructions {
        channels: 128,
        pair: true,
        tile: 8000.0,
        run: 190.0,
        tap: 49.0,
        step: 240.0,
    },
    Instructions {
        channels: 64,
        pair: false,
        tile: 3600.0,
        run: 190.0,
        tap: 49.0,
        step: 185.0,
    },
    Instructions {
        channels: 64,
        pair: true,
        tile: 4400.0,
        run: 190.0,
        tap: 49.0,
        step: 185.0,
    },
    Instructions {
        channels: 32,
        pair: false,
        tile: 2200.0,
        run: 190.0,
        tap: 49.0,
        step: 142.0,
    },
    Instructions {
        channels: 32,
        pair: true,
        tile: 2600.0,
        run: 190.0,
        tap: 49.0,
        step: 142.0,
    },
];
