//! Describe a network, and look at it: layers, edges, update orders, parameters.
//!
//!     cargo run --release --example 01_network

use eqprop_cuda::network::parameters::initialise;
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{ActivationKind, Mode, Network, NetworkDescription};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Two hidden layers and a skip edge between the image and the second one.
const MINE: &str = r#"
    name = "mine"
    layer = [
        { name = "image", shape = [1, 8, 8] },
        { name = "edges", shape = [6, 4, 4] },
        { name = "parts", shape = [8, 2, 2] },
        { name = "classes", shape = [3] },
    ]
    edge = [
        { from = "image", to = "edges", kind = "conv-max-pool", kernel = 3, padding = 1, gain = 0.7 },
        { from = "image", to = "parts", kind = "conv", kernel = 4, stride = 4, gain = 0.5 },
        { from = "edges", to = "parts", kind = "conv", kernel = 3, stride = 2, padding = 1, gain = 0.7 },
        { from = "parts", to = "classes", kind = "dense", gain = 0.8 },
    ]
"#;

fn main() -> anyhow::Result<()> {
    // A published network, narrow. The random numbers matter only to `ActivationKind::ReluClip`, which draws its clips.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let options = PresetOptions {
        input_channels: 1,
        classes: 10,
        channels: [8, 16, 32, 32],
        activation: ActivationKind::Relu6,
        gains: None,
    };
    inspect(&presets::build("hopfieldresnet13", &options, &mut rng)?);

    // One's own.
    let description = NetworkDescription::from_toml(MINE)?;
    inspect(&description.build(ActivationKind::HardSigmoid, &mut rng)?);
    Ok(())
}

fn inspect(network: &Network) {
    println!("{network}");
    for mode in [Mode::Asynchronous, Mode::Coloured] {
        println!("{mode:?}: layers {:?}", network.update_groups(mode));
    }
    let parameters = initialise(network, 0);
    for (name, tensor) in network.parameter_names().iter().zip(parameters.tensors()) {
        println!("{name:<10} {:?}", tensor.shape());
    }
    println!();
}
