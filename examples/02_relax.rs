//! Watch a free phase converge: energy and change of the states after each iteration, in two orders.
//!
//!     cargo run --release --example 02_relax

use eqprop_cuda::cpu;
use eqprop_cuda::network::parameters::initialise;
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{ActivationKind, Mode};
use eqprop_cuda::phase::{CostFunction, Relaxation, Start};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const IMAGES: usize = 8;

fn main() -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let options = PresetOptions {
        input_channels: 1,
        classes: 10,
        channels: [8, 16, 32, 32],
        activation: ActivationKind::Relu6,
        gains: None,
    };
    let network = presets::build("hopfieldresnet13", &options, &mut rng)?;
    let mut backend = cpu::backend::<f64>(&network);
    backend.set_parameters(&initialise(&network, 0))?;

    let images = Array4::from_shape_simple_fn((IMAGES, 1, 32, 32), || rng.random_range(-1.0..2.0));
    let labels = vec![0; IMAGES];
    for (mode, omega) in [(Mode::Asynchronous, 1.0), (Mode::Coloured, 1.6)] {
        println!("{mode:?}, omega {omega}\niteration   energy per image   relative change");
        backend.load_batch(&images, &labels, Start::Zero)?;
        // An iteration at a time: a phase goes on from where the states are.
        for iteration in 1..=60 {
            let report = backend.free_phase(&Relaxation {
                mode,
                iterations: 1,
                omega,
                tolerance: None,
            })?;
            if iteration <= 3 || iteration % 10 == 0 {
                let energy: f64 = backend.outcome(CostFunction::Mse)?.energy.iter().sum();
                let energy = energy / IMAGES as f64;
                println!("{iteration:>9}   {energy:>16.6}   {:>15.1e}", report.change);
            }
        }
    }
    Ok(())
}
