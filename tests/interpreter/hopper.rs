//! The kernels for Hopper (`kernels/hopper.cu`), interpreted: they compute what the CPU backend does, the same bits in whatever order
//! warps run and copies arrive, and defects in them are noticed.

use crate::support::kernels::*;
use crate::{compiled, notice};
use eqprop_cuda::cpu;
use eqprop_cuda::cuda::interpreted::{InterpretedDevice, Settings};
use eqprop_cuda::cuda::{CudaBackend, CudaFeedForward, Device, Format};
use eqprop_cuda::device::Precision;
use eqprop_cuda::feedforward::{self, FeedForward};
use eqprop_cuda::network::{Activation, ActivationKind, Convolution, LinearMap, Network, Shape};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::phase::{Backend, CostFunction, NudgedPhase};
use eqprop_cuda::{Error, Result};
use ptx_interpreter::{Module, Report};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What correct kernels stay below: as for the other fp16 kernels (`steps.rs`).
const TOLERANCE: f64 = 2e-2;

/// A network with images, and what is done with them.
struct Case {
    name: &'static str,
    network: Network,
    images: usize,
    recipe: Recipe,
    /// errors are relative to a tensor's largest value, or to this
    floor: f64,
    /// how the interpreter runs: other orders, other numbers of blocks that take tiles by turns
    settings: &'static [&'static str],
}

/// Layers whose weight gradients Hopper's kernel computes: columns of several taps in a tile, with a rest; a stride of two, pixels in the
/// padding, taps that meet no pixel, several splits; post channels of two tiles, and of an eighth of one.
fn joined() -> Network {
    let hidden = Activation::HARD_SIGMOID;
    let layers = [
        ("input", Shape::new(3, 9, 7), Activation::LINEAR),
        ("first", Shape::new(128, 9, 7), hidden),
        ("second", Shape::new(200, 5, 4), hidden),
        ("third", Shape::new(128, 2, 1), hidden),
        ("output", Shape::flat(10), Activation::LINEAR),
    ];
    let conv = |size, stride, padding| LinearMap::Conv(Convolution::square(size, stride, padding));
    let maps = [conv(1, 1, 0), conv(3, 2, 1), conv(3, 2, 0), conv(3, 2, 1)];
    chain("joined", &layers, &maps, 0.7)
}

/// Layers whose K is split: the middle one's, of 75 slots from below and 18 from above, so that parts are of one direction, of the other, or
/// of both; two tiles of channels, with a rest; the output's.
fn split() -> Network {
    let hidden = Activation::HARD_SIGMOID;
    let layers = [
        ("input", Shape::new(1, 5, 5), Activation::LINEAR),
        ("low", Shape::new(136, 5, 5), hidden),
        ("middle", Shape::flat(200), hidden),
        ("high", Shape::flat(1100), hidden),
        ("output", Shape::flat(10), Activation::LINEAR),
    ];
    let point = LinearMap::Conv(Convolution::square(1, 1, 0));
    let maps = [point, LinearMap::Dense, LinearMap::Dense, LinearMap::Dense];
    chain("split", &layers, &maps, 0.7)
}

/// Widths below one box; widths of several boxes and tiles, with rests; max pooling and the cross-entropy; two states side by side; weight
/// gradients; a split K of states, pairs, two states side by side, and responses.
fn cases() -> [Case; 8] {
    let of =
        |name, channels, inputs| preset(name, channels, inputs, 10, ActivationKind::HardSigmoid);
    let recipe = Recipe {
        form: NudgedPhase::SumDifference,
        beta: 2.0,
        free: 4,
        nudged: 3,
        ..Recipe::default()
    };
    let direct = Recipe {
        form: NudgedPhase::Direct,
        ..recipe
    };
    let ce = Recipe {
        cost: CostFunction::Ce,
        ..recipe
    };
    [
        Case {
            name: "narrow",
            network: of("hopfieldresnet13", [4, 6, 8, 9], 3),
            images: 3,
            recipe,
            floor: 0.1,
            settings: &[
                "",
                "alone,seed=1",
                "seed=2,multiprocessors=3",
                "sums=truncated",
            ],
        },
        Case {
            name: "direct",
            network: of("hopfieldresnet13", [4, 6, 8, 9], 3),
            images: 3,
            recipe: direct,
            floor: 0.1,
            settings: &["seed=3"],
        },
        Case {
            name: "pooled",
            network: of("vgg5", [4, 6, 8, 9], 1),
            images: 2,
            recipe: ce,
            floor: 0.1,
            settings: &["seed=4"],
        },
        Case {
            name: "wide",
            network: of("hopfieldresnet13", [40, 72, 136, 200], 3),
            images: 2,
            recipe: Recipe {
                free: 2,
                nudged: 2,
                ..recipe
            },
            floor: 0.1,
            settings: &["", "alone,seed=5,multiprocessors=7"],
        },
        Case {
            name: "joined",
            network: joined(),
            images: 3,
            recipe: Recipe {
                free: 2,
                nudged: 2,
                ..recipe
            },
            // The gradient of the lowest weights is small, and as precise as the others.
            floor: 1e-3,
            settings: &["", "alone", "seed=6,multiprocessors=5", "sums=truncated"],
        },
        in_parts(
            "split",
            NudgedPhase::SumDifference,
            &["", "alone,seed=8,multiprocessors=3", "sums=truncated"],
        ),
        in_parts("split, direct", NudgedPhase::Direct, &["seed=9"]),
        in_parts(
            "split, responses",
            NudgedPhase::Linear,
            &["", "seed=10,multiprocessors=4"],
        ),
    ]
}

fn in_parts(name: &'static str, form: NudgedPhase, settings: &'static [&'static str]) -> Case {
    Case {
        name,
        network: split(),
        images: 2,
        recipe: Recipe {
            form,
            beta: 2.0,
            free: 2,
            nudged: 2,
            ..Recipe::default()
        },
        floor: 0.1,
        settings,
    }
}

impl Case {
    fn run(&self, backend: &mut dyn Backend) -> Result<Trace> {
        let batches = [random_images(&self.network, self.images, 1)];
        backend.set_parameters(&random_parameters(&self.network, 1))?;
        train(backend, &self.network, &batches, &self.recipe)
    }

    fn truth(&self) -> Trace {
        let mut truth = cpu::backend::<f64>(&self.network);
        self.run(&mut *truth)
            .unwrap()
            .without_what_fp16_rounds_away()
    }

    fn on(&self, device: &Arc<dyn Device>) -> Result<Trace> {
        let mut kernels = CudaBackend::new(&self.network, device.clone(), Format::F16)?;
        Ok(self.run(&mut kernels)?.without_what_fp16_rounds_away())
    }
}

/// With these settings; after `alone` without clusters of blocks.
fn machine(settings: &str, hopper: Arc<Module>) -> Arc<InterpretedDevice> {
    let (alone, rest) = match settings.strip_prefix("alone") {
        Some(rest) => (true, rest),
        None => (false, settings),
    };
    let settings = Settings {
        clusters: !alone,
        ..Settings::parse(rest).unwrap()
    };
    let device = InterpretedDevice::with(InterpretedDevice::kernels().unwrap(), settings);
    Arc::new(device.with_hopper(hopper))
}

#[test]
fn they_match_the_cpu_the_same_bits_in_every_order() {
    let hopper = InterpretedDevice::hopper_kernels().unwrap();
    for case in cases() {
        let truth = case.truth();
        // Pooling decides near ties either way in fp16: no further from the truth than the other kernels.
        let others: Arc<dyn Device> = Arc::new(InterpretedDevice::with(
            InterpretedDevice::kernels().unwrap(),
            Settings::default(),
        ));
        let of_others = worst(&case.on(&others).unwrap(), &truth, |_| case.floor).0;
        let tolerance = TOLERANCE.max(1.5 * of_others);
        let mut first: Option<Trace> = None;
        for settings in case.settings {
            let played = machine(settings, hopper.clone());
            let device: Arc<dyn Device> = played.clone();
            let got = case.on(&device);
            let got =
                got.unwrap_or_else(|finding| panic!("{}, {settings}: {finding:#}", case.name));
            let (error, place) = worst(&got, &truth, |_| case.floor);
            println!(
                "{}, {settings:?}: error {error:.1e} ({of_others:.1e} of the other kernels) in {place}",
                case.name
            );
            assert!(error < tolerance, "{}, {settings}: {place}", case.name);
            let reports = played.reports();
            let launched = |name: &str| reports.keys().any(|kernel| kernel.starts_with(name));
            assert!(launched("relax_hopper_states") && launched("relax_hopper_raw"));
            let is_narrow = ["narrow", "direct", "pooled"].contains(&case.name);
            assert_eq!(launched("weight_grad_hopper"), !is_narrow, "{}", case.name);
            let in_clusters = |name: &str| {
                let mut kernels = reports.keys();
                kernels.any(|kernel| kernel.starts_with(name) && kernel.ends_with("_cluster"))
            };
            let clusters = !settings.starts_with("alone");
            assert_eq!(in_clusters("relax_hopper"), clusters);
            assert_eq!(in_clusters("weight_grad"), !is_narrow && clusters);
            assert!(
                !launched("relax_mma"),
                "the choice of kernels is one for all sweeps"
            );
            let in_parts = case.name.starts_with("split");
            assert!(!in_parts || joined_parts(&reports), "{}", case.name);
            // Truncated sums are other numbers.
            if settings.contains("truncated") {
                continue;
            }
            match &first {
                None => first = Some(got),
                Some(first) => assert!(first.values == got.values, "{}, {settings}", case.name),
            }
        }
    }
}

/// Whether sums of parts were read: nothing else is in pieces of 16 bytes.
fn joined_parts(reports: &BTreeMap<&'static str, Report>) -> bool {
    let reads =
        |report: &Report| (report.instructions.keys()).any(|op| op == "ld.global.nc.v4.f32");
    (reports.iter()).any(|(kernel, report)| kernel.starts_with("relax_hopper") && reads(report))
}

/// Sweeps and weight gradients of backpropagation: of one state, and of one product.
#[test]
fn feed_forward_networks_are_trained_by_them() {
    let layers = [
        ("input", Shape::new(3, 6, 5), Activation::LINEAR),
        ("first", Shape::new(128, 6, 5), Activation::RELU6),
        ("second", Shape::new(136, 3, 3), Activation::RELU6),
        ("output", Shape::flat(10), Activation::LINEAR),
    ];
    let conv = |size, stride, padding| LinearMap::Conv(Convolution::square(size, stride, padding));
    let maps = [conv(1, 1, 0), conv(3, 2, 1), LinearMap::Dense];
    let model = FeedForward::of(&chain("feed-forward", &layers, &maps, 1.0));
    let batches = [random_images(model.network(), 3, 1)];
    let state = model.initialise(1);
    let sgd = OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-3,
    };
    let run = |backend: &mut dyn feedforward::Backend| {
        backend.set_state(&state)?;
        let trace = train_feed_forward(backend, &model, &batches, sgd)?;
        Ok::<_, Error>(trace.without_what_fp16_rounds_away())
    };
    let cpu = eqprop_cuda::device::Device::Cpu;
    let truth = run(&mut *cpu.feed_forward(&model, Precision::Fp64).unwrap()).unwrap();
    let played = machine("seed=7", InterpretedDevice::hopper_kernels().unwrap());
    let device: Arc<dyn Device> = played.clone();
    let mut kernels = CudaFeedForward::new(&model, device, Format::F16).unwrap();
    let got = run(&mut kernels).unwrap_or_else(|finding| panic!("{finding:#}"));
    let (error, place) = worst(&got, &truth, |_| 1e-2);
    println!("feed-forward: error {error:.1e} in {place}");
    assert!(error < TOLERANCE, "{place}");
    let reports = played.reports();
    for kernel in ["relax_hopper_raw_1_cluster", "weight_grad_hopper_cluster"] {
        assert!(reports.contains_key(kernel), "{kernel}");
    }
    assert!(joined_parts(&reports));
}

/// What notices the kernels of a text: the first case that goes wrong, and how.
fn noticed_by(ptx: &str) -> Option<String> {
    let [narrow, _, _, wide, _, split, ..] = cases();
    notices(&[narrow, wide, split], ptx)
}

/// What notices a weight gradient.
fn gradient_noticed_by(ptx: &str) -> Option<String> {
    let [_, _, _, _, joined, ..] = cases();
    let short = Case {
        images: 2,
        // So many that the difference of the two states reaches the first layer.
        recipe: Recipe {
            free: 1,
            nudged: 3,
            ..joined.recipe
        },
        ..joined
    };
    notices(&[short], ptx)
}

fn notices(cases: &[Case], ptx: &str) -> Option<String> {
    let module = Arc::new(Module::parse(ptx).unwrap_or_else(|e| panic!("{e}")));
    cases.iter().find_map(|case| {
        let device: Arc<dyn Device> = machine("", module.clone());
        let error = (case.on(&device)).map(|got| worst(&got, &case.truth(), |_| case.floor).0);
        let what = notice::wrong(error, TOLERANCE)?;
        Some(format!("{}: {what}", case.name))
    })
}

/// Where the weight gradient in clusters stands in the compiled text.
fn gradient_in(ptx: &str) -> Range<usize> {
    let entry = ".visible .entry weight_grad_hopper_cluster(";
    let start = ptx.find(entry).expect("the text has this kernel");
    let last = "ret;\n\n}";
    let end = (ptx[start..].find(last)).expect("a kernel ends") + last.len();
    start..start + end
}

/// The compiled text with another one's weight gradient; `None` if it is the same.
fn with_gradient_of(other: &str) -> Option<String> {
    let ptx = InterpretedDevice::hopper_ptx().unwrap();
    let (at, other) = (gradient_in(ptx), &other[gradient_in(other)]);
    // Source lines are numbered throughout the text.
    let code = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains(".loc"));
        lines.map(str::to_string).collect()
    };
    let differs = code(&ptx[at.clone()]) != code(other);
    differs.then(|| [&ptx[..at.start], other, &ptx[at.end..]].concat())
}

/// Changes of single instructions in the compiled text.
const IN_TEXT: [(&str, &str, &str); 11] = [
    ("no wgmma.fence", "wgmma.fence.sync.aligned;", ""),
    (
        "no wait for the last products",
        "wgmma.wait_group.sync.aligned 0;",
        "",
    ),
    (
        "a slot freed while its products run",
        "wgmma.wait_group.sync.aligned 1;",
        "wgmma.wait_group.sync.aligned 2;",
    ),
    (
        "products are not committed",
        "wgmma.commit_group.sync.aligned;",
        "",
    ),
    ("no fence.proxy.async", "fence.proxy.async.shared::cta;", ""),
    (
        "no fence for tensor maps",
        "fence.proxy.tensormap::generic.acquire.sys",
        "//",
    ),
    (
        "stores are not committed",
        "cp.async.bulk.commit_group;",
        "",
    ),
    (
        "stores are not waited for",
        "cp.async.bulk.wait_group.read 0;",
        "",
    ),
    (
        "a wait that does not wait",
        "mbarrier.try_wait.parity.shared::cta.b64 complete,",
        "setp.eq.u32 complete, 0, 0; //",
    ),
    (
        "weights upwards taken for weights downwards",
        ", 1, 1, 1, 0, 0;",
        ", 1, 1, 1, 0, 1;",
    ),
    (
        "more registers than there are",
        "setmaxnreg.inc.sync.aligned.u32 224;",
        "setmaxnreg.inc.sync.aligned.u32 232;",
    ),
];

/// The same of the weight gradient alone.
const IN_GRADIENT: [(&str, &str, &str); 12] = [
    IN_TEXT[0],
    IN_TEXT[1],
    IN_TEXT[2],
    IN_TEXT[3],
    IN_TEXT[5],
    IN_TEXT[8],
    (
        "an arrival is lost",
        "mbarrier.arrive.shared::cta.b64 _,",
        "//",
    ),
    (
        "post channels not across",
        ", 1, 1, 1, 1, 1;",
        ", 1, 1, 1, 0, 1;",
    ),
    ("columns not across", ", 1, 1, 1, 1, 1;", ", 1, 1, 1, 1, 0;"),
    IN_TEXT[10],
    (
        "an arrival at the other block is lost",
        "mbarrier.arrive.shared::cluster.b64 _,",
        "//",
    ),
    (
        "the blocks do not meet",
        "barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;",
        "",
    ),
];

#[test]
fn wrong_instructions_are_noticed() {
    let ptx = InterpretedDevice::hopper_ptx().unwrap();
    let changed = IN_TEXT.iter().map(|(name, from, to)| {
        assert!(ptx.contains(from), "{name}: the text has no {from}");
        (name.to_string(), ptx.replace(from, to))
    });
    notice::expect_all(changed, noticed_by);
    println!("in the weight gradient alone:");
    let gradient = gradient_in(ptx);
    let changed = IN_GRADIENT.iter().map(|(name, from, to)| {
        let text = &ptx[gradient.clone()];
        assert!(text.contains(from), "{name}: the text has no {from}");
        let changed = text.replace(from, to);
        let whole = [&ptx[..gradient.start], &changed, &ptx[gradient.end..]].concat();
        (name.to_string(), whole)
    });
    notice::expect_all(changed, gradient_noticed_by);
}

/// Prints the table of `docs/interpreter.md`. EQPROP_DEFECTS chooses: those whose name contains it.
#[test]
#[ignore = "compiles the kernels more than a dozen times: some minutes; needs NVCC"]
fn every_defect_for_hopper_is_noticed() {
    let defects = compiled::for_hopper().into_iter();
    let defects: Vec<_> = (defects.filter(|d| notice::wanted(&d.name)))
        .map(|defect| (defect.name.clone(), defect.compile()))
        .collect();
    let of_gradient = |(name, ptx): &(String, String)| Some((name.clone(), with_gradient_of(ptx)?));
    let in_gradient: Vec<_> = defects.iter().filter_map(of_gradient).collect();
    // A defect of the gradient leaves the relaxation as it is.
    let in_all = defects.into_iter().filter(|d| !d.0.starts_with("gradient"));
    notice::expect_all(in_all, noticed_by);
    println!("in the weight gradient alone:");
    notice::expect_all(in_gradient, gradient_noticed_by);
}
