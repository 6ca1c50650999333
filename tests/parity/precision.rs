//! What the faster relaxation is worth, on weights after real training: the gradient of the precision file, against the
//! published order and against full convergence.

use crate::support::golden::bytes_of;
use crate::support::networks::cosine;
use eqprop_cuda::cpu::{self, Real};
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{ActivationKind, Mode, Network, ParameterSet};
use eqprop_cuda::parity::Golden;
use eqprop_cuda::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

struct Trained {
    golden: Golden,
    network: Network,
    parameters: ParameterSet<f64>,
}

impl Trained {
    fn read() -> Self {
        let golden = Golden::parse(&bytes_of("precision_trained_resnet13")).unwrap();
        let options = PresetOptions {
            input_channels: golden.setting("num_inputs").unwrap(),
            classes: golden.setting("num_outputs").unwrap(),
            channels: golden.setting("channels").unwrap(),
            activation: golden.setting::<ActivationKind>("activation").unwrap(),
            gains: None,
        };
        let name = golden.text("network").unwrap();
        let network = presets::build(&name, &options, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        let parameters = tensors(&golden, &network, "");
        Self {
            golden,
            network,
            parameters,
        }
    }

    fn golden_gradient(&self) -> ParameterSet<f64> {
        tensors(&self.golden, &self.network, "grad.raw.")
    }

    /// Gradient after `free` + `nudged` iterations from zero.
    fn gradient<T: Real>(
        &self,
        form: NudgedPhase,
        order: (Mode, f64),
        iterations: (usize, usize),
    ) -> ParameterSet<f64> {
        self.gradient_on(cpu::backend::<T>(&self.network), form, order, iterations)
    }

    fn gradient_on(
        &self,
        mut backend: Box<dyn Backend>,
        form: NudgedPhase,
        (mode, omega): (Mode, f64),
        (free, nudged): (usize, usize),
    ) -> ParameterSet<f64> {
        let relaxation = |iterations| Relaxation {
            mode,
            iterations,
            omega,
            tolerance: None,
        };
        let nudging = Nudging {
            beta: self.golden.setting("beta").unwrap(),
            variant: Variant::Centered,
            form,
            output: OutputCondition::Nudged,
        };
        let (x, y) = (
            self.golden.images("x").unwrap(),
            self.golden.labels("y").unwrap(),
        );
        let cost: CostFunction = self.golden.setting("loss").unwrap();
        backend.set_parameters(&self.parameters).unwrap();
        backend.load_batch(&x, &y, Start::Zero).unwrap();
        backend.free_phase(&relaxation(free)).unwrap();
        backend
            .nudged_phases(&nudging, cost, &relaxation(nudged))
            .unwrap();
        backend.estimate_gradient().unwrap();
        backend.gradient().unwrap()
    }
}

fn tensors(golden: &Golden, network: &Network, prefix: &str) -> ParameterSet<f64> {
    let names = network.parameter_names();
    let tensors = names
        .iter()
        .map(|name| golden.floats(&format!("{prefix}{name}")).unwrap());
    ParameterSet::from_tensors(network, tensors.collect()).unwrap()
}

const PUBLISHED: (Mode, f64) = (Mode::Asynchronous, 1.0);
const FAST: (Mode, f64) = (Mode::Coloured, 1.6);

/// At full convergence: 400 + 200 coloured iterations in float64, which leave a change of 2e-9 and 9e-6.
#[test]
fn sixty_coloured_sweeps_come_closer_to_convergence_than_the_published_220() {
    let trained = Trained::read();
    let gradient =
        |order, iterations| trained.gradient::<f64>(NudgedPhase::SumDifference, order, iterations);
    let converged = gradient(FAST, (400, 200));
    let published = cosine(&trained.golden_gradient(), &converged);
    let fast = cosine(&gradient(FAST, (40, 20)), &converged);
    let bold = cosine(&gradient(FAST, (20, 10)), &converged);
    println!("cosine with the converged gradient: published 120 + 50: {published:.5}");
    println!("coloured, omega 1.6: 40 + 20: {fast:.5}, 20 + 10: {bold:.5}");
    assert!(fast > published, "coloured {fast}, published {published}");
    assert!(fast > 0.995 && bold > 0.99, "{fast} {bold}");
    // It is the over-relaxation that does it: the colours alone are slower at equal counts.
    let plain = cosine(&gradient((Mode::Coloured, 1.0), (40, 20)), &converged);
    assert!(plain < fast, "omega 1: {plain}, omega 1.6: {fast}");
}

/// The converged gradient does not depend on the order that led there; the published one takes 1600 + 800 iterations.
#[test]
fn both_orders_converge_to_the_same_gradient() {
    let trained = Trained::read();
    let gradient =
        |order, iterations| trained.gradient::<f64>(NudgedPhase::SumDifference, order, iterations);
    let (published, fast) = (gradient(PUBLISHED, (1600, 800)), gradient(FAST, (400, 200)));
    let cosine = cosine(&published, &fast);
    println!("cosine between the two converged gradients: {cosine:.6}");
    assert!(cosine > 0.9999, "{cosine}");
}

/// In sum-and-difference form the gradient of float32 phases is that of float64.
#[test]
fn fp32_in_sum_and_difference_form_agrees_with_fp64() {
    let trained = Trained::read();
    let golden = trained.golden_gradient();
    let gradient = |form| trained.gradient::<f32>(form, PUBLISHED, (120, 50));
    let paired = cosine(&gradient(NudgedPhase::SumDifference), &golden);
    let direct = cosine(&gradient(NudgedPhase::Direct), &golden);
    println!("fp32: sum and difference {paired:.9}, direct {direct:.9}");
    assert!(paired > 0.99999, "{paired}");
    assert!(
        paired > direct,
        "sum and difference {paired}, direct {direct}"
    );
}

/// Products in bf16, of what has changed: the gradient is that of float64, whether the phases are long or short.
#[test]
fn bf16_of_changes_agrees_with_fp64() {
    let trained = Trained::read();
    for (form, order, iterations, at_most) in [
        (NudgedPhase::SumDifference, PUBLISHED, (120, 50), 1e-5),
        (NudgedPhase::SumDifference, FAST, (40, 20), 1e-4),
        (NudgedPhase::Linear, FAST, (15, 10), 1e-3),
    ] {
        let truth = trained.gradient::<f64>(form, order, iterations);
        let low = cpu::bf16_backend(&trained.network);
        let low = trained.gradient_on(low, form, order, iterations);
        let lost = 1.0 - cosine(&low, &truth);
        println!("bf16, {form:?}, {iterations:?} iterations: 1 - cosine {lost:.1e}");
        assert!(lost < at_most, "{form:?}, {iterations:?}: {lost:e}");
    }
}
