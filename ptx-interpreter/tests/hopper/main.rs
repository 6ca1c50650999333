//! Hopper's instructions do what the PTX manual says, and each kind of mistake with them is found.

mod clusters;

use ptx_interpreter::{
    AsyncProblem, Finding, Memory, Module, Options, Problem, Swizzle, TensorMap,
};

/// A launch of one block, unless told otherwise; `arena` is 32 KB of shared memory, `%d1` is the address of the data, `%d2` of tensor map 0; maps follow one
/// another. `%r0` is the thread's number, `%p0` true for thread 0.
struct Launch {
    threads: u32,
    blocks: u32,
    /// Blocks of a cluster, by the launch.
    cluster: Option<u32>,
    /// Directives of the kernel.
    directives: &'static str,
    memory: Memory,
    data: u64,
    maps: u64,
    seed: u64,
}

const MAPS: usize = 4;

impl Launch {
    /// With so many bytes of data, which are written.
    fn new(threads: u32, data: &[u8]) -> Self {
        let mut memory = Memory::new();
        let address = memory.allocate(data.len().max(1));
        memory.write(address, data).unwrap();
        let maps = memory.allocate(128 * MAPS);
        Self {
            threads,
            blocks: 1,
            cluster: None,
            directives: "",
            memory,
            data: address,
            maps,
            seed: 0,
        }
    }

    fn map(&self, index: usize, map: &TensorMap) {
        let bytes = map.encode().unwrap();
        let at = self.maps + 128 * index as u64;
        self.memory.write(at, &bytes).unwrap();
    }

    fn run(&self, body: &str) -> Result<(), Box<Finding>> {
        let text = format!(
            ".version 9.0\n.target sm_90a\n.address_size 64
            .extern .shared .align 1024 .b8 arena[];
            .visible .entry k(.param .u64 data, .param .u64 maps) {} {{
            .reg .pred %p<9>; .reg .b32 %r<40>; .reg .f32 %f<200>; .reg .b64 %d<40>; .reg .b16 %h<9>;
            ld.param.u64 %d1, [data]; ld.param.u64 %d2, [maps]; mov.u32 %r0, %tid.x;
            setp.eq.s32 %p0, %r0, 0; fence.proxy.tensormap::generic.acquire.sys [%d2], 128;\n{body}\nret; }}",
            self.directives
        );
        let module = Module::parse(&text).unwrap();
        let kernel = module.kernel("k").unwrap();
        let options = Options {
            seed: self.seed,
            cluster: self.cluster.map(Into::into),
            ..Options::default()
        };
        let parameters: Vec<u8> = [self.data, self.maps]
            .iter()
            .flat_map(|p| p.to_le_bytes())
            .collect();
        let (grid, block) = (self.blocks.into(), self.threads.into());
        let run = module.launch(
            kernel,
            grid,
            block,
            32 << 10,
            &parameters,
            &self.memory,
            &options,
        );
        run.map(|_| ())
    }

    fn found(&self, body: &str) -> AsyncProblem {
        let finding = self.run(body).expect_err(body);
        match finding.problem {
            Problem::Async(problem) => problem,
            _ => panic!("{finding}"),
        }
    }

    fn fine(&self, body: &str) {
        if let Err(finding) = self.run(body) {
            panic!("{finding}\n{body}");
        }
    }

    fn words(&self, count: usize) -> Vec<u32> {
        let mut bytes = vec![0; 4 * count];
        self.memory.read(self.data, &mut bytes).unwrap();
        let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
        bytes.chunks_exact(4).map(word).collect()
    }
}

/// Barrier number `n` is at `arena + 8 n`.
const MAKE_BARRIER: &str = "@%p0 mbarrier.init.shared::cta.b64 [arena], 1;
    @%p0 fence.proxy.async.shared::cta; bar.sync 0;";

fn wait(barrier: u32, parity: u32) -> String {
    format!(
        "W{barrier}_{parity}: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena+{}], {parity}; @!%p1 bra W{barrier}_{parity};",
        8 * barrier
    )
}

#[test]
fn a_phase_hands_data_from_one_warp_to_another() {
    // Warp 0 writes and arrives, warp 1 waits, reads and answers by the second barrier; twice.
    let body = |parity_of_second: u32| {
        format!(
            "@%p0 mbarrier.init.shared::cta.b64 [arena], 32; @%p0 mbarrier.init.shared::cta.b64 [arena+8], 32; bar.sync 0;
            and.b32 %r1, %r0, 31; shl.b32 %r2, %r1, 2; mov.u32 %r3, arena; add.s32 %r2, %r2, %r3;
            cvt.u64.u32 %d3, %r1; shl.b64 %d3, %d3, 2; add.s64 %d3, %d3, %d1;
            setp.lt.u32 %p2, %r0, 32; @!%p2 bra SECOND;
            st.shared.u32 [%r2+128], %r1; mbarrier.arrive.shared::cta.b64 _, [arena]; {}
            add.s32 %r1, %r1, 100; st.shared.u32 [%r2+128], %r1; mbarrier.arrive.shared::cta.b64 %d5, [arena]; bra END;
            SECOND: {} ld.shared.u32 %r4, [%r2+128]; mbarrier.arrive.shared::cta.b64 _, [arena+8]; st.global.u32 [%d3], %r4;
            {} ld.shared.u32 %r4, [%r2+128]; st.global.u32 [%d3+128], %r4; END:",
            wait(1, 0),
            wait(0, 0),
            wait(0, parity_of_second)
        )
    };
    let mut launch = Launch::new(64, &[0; 256]);
    for seed in 0..8 {
        launch.seed = seed;
        launch.fine(&body(1));
        let want: Vec<u32> = (0..32).chain(100..132).collect();
        assert_eq!(launch.words(64), want);
    }
    // The same phase again is complete already: what is read then is not ordered.
    let problem = launch.found(&body(0).replace("W0_0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena+0], 0; @!%p1 bra W0_0; ld.shared.u32 %r4, [%r2+128]; st.global.u32 [%d3+128]", "ld.shared.u32 %r4, [%r2+128]; st.global.u32 [%d3+128]"));
    assert!(
        matches!(problem, AsyncProblem::Unordered { .. }),
        "{problem}"
    );
}

#[test]
fn mistakes_with_barriers() {
    let launch = Launch::new(64, &[0; 256]);
    let found = |body: &str| launch.found(&format!("{MAKE_BARRIER}\n{body}"));
    let problem = found(&wait(0, 0));
    let AsyncProblem::Deadlock(waits) = &problem else {
        panic!("{problem}");
    };
    assert_eq!(waits.len(), 1);
    assert!(
        waits[0].contains("warp 0, 1 waits for parity 0")
            && waits[0].contains("lacks 1 arrivals and 0 bytes"),
        "{problem}"
    );
    launch.fine(&format!("{MAKE_BARRIER}\n{}", wait(0, 1)));
    launch.fine(&format!(
        "{MAKE_BARRIER}\n@%p0 mbarrier.arrive.shared::cta.b64 _, [arena];\n{}",
        wait(0, 0)
    ));
    let problem = found(
        "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], 16; W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena], 0; @!%p1 bra W;",
    );
    assert!(
        problem
            .to_string()
            .contains("lacks 0 arrivals and 16 bytes"),
        "{problem}"
    );
    let problem = found("@%p0 mbarrier.arrive.shared::cta.b64 _, [arena], 2;");
    assert!(
        matches!(
            problem,
            AsyncProblem::TooManyArrivals {
                count: 2,
                pending: 1,
                ..
            }
        ),
        "{problem}"
    );
    let problem = found("@%p0 mbarrier.arrive.shared::cta.b64 _, [arena+8];");
    assert!(matches!(problem, AsyncProblem::NoBarrier(8)), "{problem}");
    let problem = found("@%p0 st.shared.u32 [arena+4], %r0;");
    assert!(
        matches!(problem, AsyncProblem::BarrierAsData(4)),
        "{problem}"
    );
    let problem = launch.found("@%p0 mbarrier.init.shared::cta.b64 [arena], 1; setp.eq.s32 %p3, %r0, 32; @%p3 bra L; bra E; L: bar.warp.sync 1; X: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena], 1; E:");
    assert!(
        matches!(
            problem,
            AsyncProblem::BarrierNotKnown(0) | AsyncProblem::NoBarrier(0)
        ),
        "{problem}"
    );
    let problem = launch.found("@%p0 mbarrier.init.shared::cta.b64 [arena+4], 1;");
    assert!(
        matches!(problem, AsyncProblem::BarrierNotMade { address: 4, .. }),
        "{problem}"
    );
}

#[test]
fn barriers_of_some_warps_order_those_and_no_others() {
    let launch = Launch::new(128, &[0; 512]);
    // An mbarrier makes the kernel one whose warps are told apart.
    let with = |reader: u32| {
        format!(
            "{MAKE_BARRIER} setp.lt.u32 %p2, %r0, 64; @!%p2 bra REST;
            @%p0 st.shared.u32 [arena+128], %r0; bar.sync 1, 64; bra READ;
            REST: bar.sync 2, 64; READ: setp.eq.s32 %p3, %r0, {reader}; @%p3 ld.shared.u32 %r4, [arena+128];"
        )
    };
    launch.fine(&with(40));
    let problem = launch.found(&with(70));
    let uninitialised_or_unordered = matches!(problem, AsyncProblem::Unordered { .. });
    assert!(uninitialised_or_unordered, "{problem}");
}

#[test]
fn one_lane_is_elected_and_registers_change_hands() {
    let launch = Launch::new(384, &[0; 384 * 4]);
    launch.fine(
        "elect.sync %r1|%p1, 0xffffffff; selp.u32 %r2, 1, 0, %p1; shl.b32 %r1, %r1, 4; or.b32 %r2, %r2, %r1;
        cvt.u64.u32 %d3, %r0; shl.b64 %d3, %d3, 2; add.s64 %d3, %d3, %d1; st.global.u32 [%d3], %r2;",
    );
    let want: Vec<u32> = (0..384).map(|t| u32::from(t % 32 == 0)).collect();
    assert_eq!(launch.words(384), want);
    let given = |dec: u32, inc: u32| {
        format!(
            "setp.lt.u32 %p2, %r0, 128; @%p2 bra LESS; setmaxnreg.inc.sync.aligned.u32 {inc}; bra END; LESS: setmaxnreg.dec.sync.aligned.u32 {dec}; END:"
        )
    };
    // 65536 registers of 384 threads: 168 each.
    launch.fine(&given(40, 232));
    let problem = launch.found(&given(40, 240));
    assert!(matches!(problem, AsyncProblem::Deadlock(_)), "{problem}");
    let problem = launch.found(&given(176, 232));
    assert!(
        matches!(
            problem,
            AsyncProblem::Registers {
                has: 168,
                asked: 176
            }
        ),
        "{problem}"
    );
    assert!(Module::parse(".version 9.0\n.target sm_90a\n.visible .entry k() { setmaxnreg.inc.sync.aligned.u32 100; ret; }").unwrap().kernel("k").is_err());
}

/// An image [y][x][64 channels] of 16-bit numbers: 256 y + 32 x + c.
fn image(height: u32, width: u32) -> Vec<u8> {
    (0..height * width * 64)
        .flat_map(|i| {
            let (pixel, c) = (i / 64, i % 64);
            ((256 * (pixel / width) + 32 * (pixel % width) + c) as u16).to_le_bytes()
        })
        .collect()
}

fn image_map(
    launch: &Launch,
    height: u64,
    width: u64,
    box_dims: [u32; 3],
    swizzle: Swizzle,
) -> TensorMap {
    TensorMap {
        address: launch.data,
        element_bytes: 2,
        dims: vec![64, width, height],
        strides: vec![128, 128 * width],
        box_dims: box_dims.to_vec(),
        swizzle,
    }
}

/// Thread 0 announces `bytes` and loads the box at (channel, x, y) to arena + 1024.
fn load(bytes: u32, corner: &str) -> String {
    format!(
        "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], {bytes}; mov.u32 %r5, arena; add.s32 %r6, %r5, 1024;
        @%p0 cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6], [%d2, {{{corner}}}], [%r5];"
    )
}

/// 1024 bytes from arena + 1024 on go to the beginning of the data, four by each of 256 threads.
const DUMP: &str =
    "mov.u32 %r7, arena; shl.b32 %r8, %r0, 2; add.s32 %r7, %r7, %r8; ld.shared.u32 %r9, [%r7+1024];
    cvt.u64.u32 %d3, %r8; add.s64 %d3, %d3, %d1; st.global.u32 [%d3], %r9;";

#[test]
fn a_box_arrives_permuted_with_zeros_outside() {
    for (swizzle, seed) in [
        (Swizzle::None, 0),
        (Swizzle::Span128, 1),
        (Swizzle::Span128, 2),
    ] {
        let mut launch = Launch::new(256, &image(8, 8));
        launch.seed = seed;
        // Four pixels by two rows of 64 channels, from column -1 and row 7 on: a column on the left and a row below are outside.
        launch.map(0, &image_map(&launch, 8, 8, [64, 4, 2], swizzle));
        launch.fine(&format!(
            "{MAKE_BARRIER}\n{}\n{}\n{DUMP}",
            load(1024, "0, -1, 7"),
            wait(0, 0)
        ));
        let words = launch.words(256);
        for row in 0..8u32 {
            for c in 0..64u32 {
                let (x, y) = (row % 4, 7 + row / 4);
                let inside = x > 0 && y < 8;
                let want = if inside {
                    256 * y + 32 * (x - 1) + c
                } else {
                    0
                };
                let piece = match swizzle {
                    Swizzle::None => c / 8,
                    Swizzle::Span128 => (c / 8) ^ row,
                };
                let at = row * 64 + piece * 8 + c % 8;
                let got = words[at as usize / 2] >> (16 * (at % 2)) & 0xffff;
                assert_eq!(got, want, "row {row} channel {c}");
            }
        }
    }
}

#[test]
fn a_store_writes_what_lies_inside() {
    let launch = Launch::new(256, &image(8, 8));
    launch.map(0, &image_map(&launch, 8, 8, [64, 4, 2], Swizzle::Span128));
    let store = |fence: &str, wait: &str| {
        format!(
            "mov.u32 %r7, arena; shl.b32 %r8, %r0, 2; add.s32 %r7, %r7, %r8; mov.u32 %r9, 0x00070007; st.shared.u32 [%r7+1024], %r9;
            {MAKE_BARRIER} {fence} bar.sync 0; mov.u32 %r5, arena; add.s32 %r6, %r5, 1024;
            @%p0 cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%d2, {{0, 6, -1}}], [%r6]; @%p0 cp.async.bulk.commit_group; {wait}"
        )
    };
    let done = "@%p0 cp.async.bulk.wait_group.read 0;";
    launch.fine(&store("fence.proxy.async.shared::cta;", done));
    let words = launch.words(8 * 8 * 32);
    for (i, word) in words.into_iter().enumerate() {
        let (pixel, c) = (i as u32 / 32, i as u32 % 32 * 2);
        let (y, x) = (pixel / 8, pixel % 8);
        let first = 256 * y + 32 * x + c;
        let want = if y == 0 && x >= 6 {
            0x0007_0007
        } else {
            first | (first + 1) << 16
        };
        assert_eq!(word, want, "pixel {y} {x}");
    }
    let problem = launch.found(&store("", done));
    // The fence of the barrier's maker covers the writes of its own warp alone.
    assert!(
        matches!(problem, AsyncProblem::NoProxyFence { .. }),
        "{problem}"
    );
    let problem = launch.found(&store("fence.proxy.async.shared::cta;", ""));
    assert!(
        matches!(problem, AsyncProblem::EndedBeforeCopy),
        "{problem}"
    );
    let early = format!(
        "{} bar.sync 0; st.shared.u32 [%r7+1024], %r9;",
        store("fence.proxy.async.shared::cta;", "")
    );
    let problem = launch.found(&early);
    assert!(
        matches!(
            problem,
            AsyncProblem::InUse {
                user: "a store",
                warp: 0,
                ..
            }
        ),
        "{problem}"
    );
}

#[test]
fn mistakes_with_copies() {
    let launch = Launch::new(256, &image(8, 8));
    launch.map(0, &image_map(&launch, 8, 8, [64, 4, 2], Swizzle::Span128));
    let found = |body: String| launch.found(&format!("{MAKE_BARRIER}\n{body}"));
    let wait = wait(0, 0);
    let problem = found(format!("{}\nbar.sync 0; {DUMP}", load(1024, "0, 0, 0")));
    assert!(
        matches!(problem, AsyncProblem::CopyNotAwaited { barrier: 0, .. }),
        "{problem}"
    );
    let problem = found(format!("{}\n{wait}\n{DUMP}", load(1040, "0, 0, 0")));
    assert!(matches!(problem, AsyncProblem::Deadlock(_)), "{problem}");
    assert!(problem.to_string().contains("16 bytes"), "{problem}");
    let twice = load(1024, "0, 0, 0")
        + &load(0, "0, 0, 0")
            .replace(
                "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], 0;",
                "",
            )
            .replace("1024", "2048");
    let problem = found(format!("{twice}\n{wait}\n{DUMP}"));
    assert!(
        matches!(problem, AsyncProblem::WrongBytes { bytes: 1024, .. }),
        "{problem}"
    );
    let problem = launch.found(&format!(
        "@%p0 mbarrier.init.shared::cta.b64 [arena], 1; bar.sync 0; {}",
        load(1024, "0, 0, 0")
    ));
    assert!(
        matches!(problem, AsyncProblem::BarrierNotKnown(0)),
        "{problem}"
    );
    // Into memory that another warp has just read, or that was written without a fence.
    let before = format!(
        "mov.u32 %r7, arena; shl.b32 %r8, %r0, 2; add.s32 %r7, %r7, %r8; st.shared.u32 [%r7+1024], %r8; {MAKE_BARRIER}"
    );
    let problem = launch.found(&format!("{before}\n{}", load(1024, "0, 0, 0")));
    assert!(
        matches!(problem, AsyncProblem::NoProxyFence { .. }),
        "{problem}"
    );
    let read = format!(
        "{MAKE_BARRIER}\n{}\n{wait} {DUMP}\n{}",
        load(1024, "0, 0, 0"),
        load(1024, "0, 0, 0")
    );
    let problem = launch.found(&read);
    assert!(
        matches!(
            problem,
            AsyncProblem::Unordered {
                what: "a write after a read",
                ..
            }
        ),
        "{problem}"
    );
    launch.map(1, &image_map(&launch, 8, 8, [64, 4, 2], Swizzle::Span128));
    let problem = found(format!("add.s64 %d2, %d2, 128; {}", load(1024, "0, 0, 0")));
    assert!(
        matches!(problem, AsyncProblem::MapNotFenced(_)),
        "{problem}"
    );
    let problem = found(
        load(1024, "0, 0, 0")
            .replace("3d", "2d")
            .replace("{0, 0, 0}", "{0, 0}"),
    );
    assert!(matches!(problem, AsyncProblem::Map(_)), "{problem}");
    let finding = launch
        .run(&format!(
            "{MAKE_BARRIER}\n{}",
            load(1024, "0, 0, 0").replace("%r5, 1024", "%r5, 1088")
        ))
        .unwrap_err();
    assert!(
        matches!(finding.problem, Problem::Misaligned { align: 128, .. }),
        "{finding}"
    );
}

/// Small integers as fp16, which products and sums keep exactly.
fn half(value: i32) -> u16 {
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return 0;
    }
    let exponent = 31 - magnitude.leading_zeros();
    let sign = if value < 0 { 0x8000 } else { 0 };
    sign | ((exponent + 15) << 10) as u16 | (magnitude << (10 - exponent) & 0x3ff) as u16
}

fn a_value(row: usize, k: usize) -> i32 {
    (row * 7 + k * 3) as i32 % 13 - 6
}

fn b_value(column: usize, k: usize) -> i32 {
    (column * 5 + k * 11) as i32 % 17 - 8
}

/// Whether a, or b, lies across: its rows, or columns, side by side in memory.
type Across = [bool; 2];

/// 64 x 64 of a and `columns` x 64 of b (or the transpose of either), then room for the result.
fn matrices(columns: usize, [a_across, transposed]: Across) -> Launch {
    let mut data = Vec::new();
    for i in 0..64 * 64 {
        let (row, k) = match a_across {
            true => (i % 64, i / 64),
            false => (i / 64, i % 64),
        };
        data.extend(half(a_value(row, k)).to_le_bytes());
    }
    for i in 0..columns * 64 {
        let (column, k) = if transposed {
            (i % columns, i / columns)
        } else {
            (i / 64, i % 64)
        };
        data.extend(half(b_value(column, k)).to_le_bytes());
    }
    data.extend(vec![0; 64 * columns * 4]);
    let launch = Launch::new(128, &data);
    let map = |address: u64, width: usize, height: usize| TensorMap {
        address,
        element_bytes: 2,
        dims: vec![width as u64, height as u64],
        strides: vec![width as u64 * 2],
        box_dims: vec![64, 64],
        swizzle: Swizzle::Span128,
    };
    launch.map(0, &map(launch.data, 64, 64));
    let (width, height) = if transposed {
        (columns, 64)
    } else {
        (64, columns)
    };
    launch.map(1, &map(launch.data + 64 * 64 * 2, width, height));
    launch
}

/// Parts of the kernel, to be left out or moved.
struct Product {
    columns: usize,
    transposed: Across,
    fence: &'static str,
    between: &'static str,
    /// from one 64 columns to the next
    leading: u64,
}

impl Product {
    /// a to arena + 1024, b to arena + 9216 and, in boxes of 64 columns, further on; then d = a b, 16 of K at a time, and d is stored.
    fn body(&self) -> String {
        let Self {
            columns,
            transposed: [a_across, transposed],
            fence,
            between,
            leading,
        } = *self;
        let boxes = columns / 64;
        let mut text = format!(
            "{MAKE_BARRIER} add.s64 %d4, %d2, 128; fence.proxy.tensormap::generic.acquire.sys [%d4], 128; mov.u32 %r5, arena;
            @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], {}; add.s32 %r6, %r5, 1024;
            @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6], [%d2, {{0, 0}}], [%r5];",
            8192 * (1 + boxes)
        );
        for i in 0..boxes {
            let corner = if transposed {
                format!("{}, 0", 64 * i)
            } else {
                format!("0, {}", 64 * i)
            };
            text += &format!(
                "add.s32 %r6, %r5, {}; @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6], [%d4, {{{corner}}}], [%r5];\n",
                9216 + 8192 * i
            );
        }
        text += &wait(0, 0);
        let registers: Vec<String> = (0..columns / 2).map(|i| format!("%f{i}")).collect();
        for register in &registers {
            text += &format!("mov.f32 {register}, 0f3F800000;\n");
        }
        text += fence;
        let descriptor = |address: u64, leading: u64| {
            address >> 4 | leading >> 4 << 16 | (1024 >> 4) << 32 | 1 << 62
        };
        for k in 0..4u64 {
            let a = descriptor(1024 + if a_across { 2048 } else { 32 } * k, 16);
            let b = descriptor(9216 + if transposed { 2048 } else { 32 } * k, leading);
            text += &format!(
                "mov.u64 %d5, {a}; mov.u64 %d6, {b}; wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 {{{}}}, %d5, %d6, 1, 1, 1, {}, {};\n",
                registers.join(", "),
                i32::from(a_across),
                i32::from(transposed)
            );
        }
        text += between;
        // Row 16 (t / 32) + t % 32 / 4, column 2 (t % 4).
        text += &format!(
            "shr.u32 %r10, %r0, 5; shl.b32 %r10, %r10, 4; and.b32 %r11, %r0, 31; shr.u32 %r12, %r11, 2; add.s32 %r10, %r10, %r12;
            and.b32 %r11, %r0, 3; mul.lo.u32 %r10, %r10, {columns}; shl.b32 %r11, %r11, 1; add.s32 %r10, %r10, %r11; mul.wide.u32 %d7, %r10, 4;
            add.s64 %d7, %d7, %d1;\n"
        );
        let result = 64 * 64 * 2 + columns * 64 * 2;
        for i in 0..columns / 2 {
            let (row, column) = (i / 2 % 2 * 8, i / 4 * 8 + i % 2);
            text += &format!(
                "st.global.f32 [%d7+{}], %f{i};\n",
                result + (row * columns + column) * 4
            );
        }
        text
    }
}

const WAIT_FOR_PRODUCTS: &str =
    "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n";

fn product(columns: usize, transposed: Across) -> Product {
    Product {
        columns,
        transposed,
        fence: "wgmma.fence.sync.aligned;\n",
        between: WAIT_FOR_PRODUCTS,
        leading: 8192,
    }
}

fn check_product(product: &Product) -> usize {
    wrong_results(product, &product.body())
}

/// How many results of a product are wrong, computed by this text.
fn wrong_results(product: &Product, body: &str) -> usize {
    let columns = product.columns;
    let launch = matrices(columns, product.transposed);
    launch.fine(body);
    let words = launch.words((64 * 64 * 2 + columns * 64 * 2) / 4 + 64 * columns);
    let result = &words[(64 * 64 * 2 + columns * 64 * 2) / 4..];
    let mut wrong = 0;
    for row in 0..64 {
        for column in 0..columns {
            let want: i32 = (0..64).map(|k| a_value(row, k) * b_value(column, k)).sum();
            let got = f32::from_bits(result[row * columns + column]);
            wrong += usize::from(got != (want + 1) as f32);
        }
    }
    wrong
}

#[test]
fn products_of_both_layouts() {
    for columns in [64, 128] {
        for across in [[false, false], [false, true], [true, false], [true, true]] {
            let wrong = check_product(&product(columns, across));
            assert_eq!(wrong, 0, "{columns} {across:?}");
        }
    }
    // One way is not the other.
    let text = product(64, [true, true]).body();
    let mistaken = text.replace(", 1, 1, 1, 1, 1;", ", 1, 1, 1, 0, 1;");
    assert!(mistaken != text);
    assert!(wrong_results(&product(64, [true, true]), &mistaken) > 1000);
    // A leading distance that is half of what it should be reads other columns, or rows of another box.
    let wrong = Product {
        leading: 4096,
        ..product(128, [false, true])
    };
    assert!(check_product(&wrong) > 1000);
    // Where K is contiguous it says nothing.
    assert_eq!(
        check_product(&Product {
            leading: 16,
            ..product(128, [false; 2])
        }),
        0
    );
}

#[test]
fn mistakes_with_products() {
    let found = |product: Product| matrices(64, product.transposed).found(&product.body());
    let problem = found(Product {
        fence: "",
        ..product(64, [false; 2])
    });
    assert!(matches!(problem, AsyncProblem::NoProductFence), "{problem}");
    let problem = found(Product {
        between: "",
        ..product(64, [false; 2])
    });
    assert!(matches!(problem, AsyncProblem::SumsInUse), "{problem}");
    let problem = found(Product {
        between: "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 1;",
        ..product(64, [false; 2])
    });
    assert!(matches!(problem, AsyncProblem::SumsInUse), "{problem}");
    let again = "wgmma.commit_group.sync.aligned; bar.sync 0; @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], 8192; add.s32 %r6, %r5, 1024;
        @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6], [%d2, {0, 0}], [%r5];
        wgmma.wait_group.sync.aligned 0; V: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena], 1; @!%p1 bra V;";
    let problem = found(Product {
        between: again,
        ..product(64, [false; 2])
    });
    assert!(
        matches!(
            problem,
            AsyncProblem::InUse {
                user: "a product",
                ..
            }
        ),
        "{problem}"
    );
    // Awaited by all before the barrier, it may be overwritten.
    let body = product(64, [false; 2])
        .body()
        .replace(WAIT_FOR_PRODUCTS, &format!("{WAIT_FOR_PRODUCTS} {again}"));
    matrices(64, [false; 2]).fine(&body.replacen(
        "wgmma.commit_group.sync.aligned; bar.sync 0;",
        "bar.sync 0;",
        1,
    ));
    let launch = matrices(64, [false; 2]);
    let body = product(64, [false; 2]).body();
    let descriptor = |address: u64| (1 << 62 | 64 << 32 | 1 << 16 | address >> 4).to_string();
    let problem = launch.found(&body.replace(&descriptor(1024), &descriptor(1152)));
    assert!(
        matches!(problem, AsyncProblem::Descriptor { .. }),
        "{problem}"
    );
    let differ = body.replacen(
        "mov.u64 %d6,",
        "setp.lt.u32 %p4, %r0, 32; @%p4 add.s64 %d5, %d5, 2; mov.u64 %d6,",
        1,
    );
    let problem = launch.found(&differ);
    assert!(matches!(problem, AsyncProblem::ProductsDiffer), "{problem}");
    // What a thread wrote itself needs the fence, too.
    let written = body.replacen(
        "wgmma.fence",
        "@%p0 st.shared.u32 [arena+1024], %r0; bar.sync 0; wgmma.fence",
        1,
    );
    let problem = launch.found(&written);
    assert!(
        matches!(
            problem,
            AsyncProblem::NoProxyFence {
                address: 1024,
                warp: 0
            }
        ),
        "{problem}"
    );
    launch.fine(&body.replacen(
        "wgmma.fence",
        "@%p0 st.shared.u32 [arena+1024], %r0; fence.proxy.async; bar.sync 0; wgmma.fence",
        1,
    ));
}
