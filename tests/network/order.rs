//! Each mode updates every free layer once, and a colour holds no two neighbours.

use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{
    Activation, ActivationKind, Bias, Edge, Initial, Layer, LinearMap, Mode, Network, Pooling,
    Shape,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn preset(name: &str) -> Network {
    let options = PresetOptions {
        input_channels: 1,
        classes: 10,
        channels: [2, 2, 2, 2],
        activation: ActivationKind::Relu6,
        gains: None,
    };
    presets::build(name, &options, &mut ChaCha8Rng::seed_from_u64(0)).unwrap()
}

#[test]
fn the_presets_groups_are_the_published_ones() {
    let resnet = preset("hopfieldresnet13");
    let groups = |mode| resnet.update_groups(mode);
    assert_eq!(
        groups(Mode::Asynchronous),
        [vec![1, 3, 5, 7, 9], vec![2, 4, 6, 8]]
    );
    assert_eq!(groups(Mode::Synchronous), [vec![1, 2, 3, 4, 5, 6, 7, 8, 9]]);
    assert_eq!(groups(Mode::Forward).concat(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(groups(Mode::Backward).concat(), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(groups(Mode::Forward).len(), 9);
    assert_eq!(
        groups(Mode::Coloured),
        [vec![1, 3, 5, 7, 9], vec![2, 6], vec![4, 8]]
    );
}

/// Without skip edges the two published groups are a colouring already.
#[test]
fn a_chain_needs_two_colours() {
    let vgg = preset("vgg5");
    assert_eq!(
        vgg.update_groups(Mode::Coloured),
        [vec![1, 3, 5], vec![2, 4]]
    );
}

/// Flat layers joined densely: a spine through all layers, and any set of further edges upwards.
fn any_graph() -> impl Strategy<Value = Network> {
    (2usize..12).prop_flat_map(|count| {
        let pairs = count * (count - 1) / 2;
        proptest::collection::vec(any::<bool>(), pairs).prop_map(move |chosen| {
            let layers = (0..count).map(|l| Layer {
                name: format!("layer{l}"),
                shape: Shape::flat(2),
                activation: match l {
                    _ if l == 0 || l == count - 1 => Activation::LINEAR,
                    _ => Activation::RELU6,
                },
                bias: Bias::PUBLISHED,
            });
            let pairs = (0..count).flat_map(|post| (0..post).map(move |pre| (pre, post)));
            let edges = pairs.zip(chosen).filter_map(|((pre, post), chosen)| {
                (chosen || post == pre + 1).then_some(Edge {
                    pre,
                    post,
                    map: LinearMap::Dense,
                    pooling: Pooling::None,
                    initial: Initial::default(),
                    gain: 0.5,
                })
            });
            Network::new("random", layers.collect(), edges.collect()).unwrap()
        })
    })
}

proptest! {
    #[test]
    fn no_two_layers_of_a_colour_share_an_edge(network in any_graph()) {
        for group in network.update_groups(Mode::Coloured) {
            for edge in network.edges() {
                prop_assert!(
                    !(group.contains(&edge.pre) && group.contains(&edge.post)),
                    "{group:?} holds both ends of {} -> {}", edge.pre, edge.post
                );
            }
        }
    }

    #[test]
    fn every_mode_updates_every_free_layer_once(network in any_graph()) {
        for mode in [Mode::Asynchronous, Mode::Synchronous, Mode::Forward, Mode::Backward, Mode::Coloured] {
            let groups = network.update_groups(mode);
            prop_assert!(groups.iter().all(|group| !group.is_empty()));
            let mut layers = groups.concat();
            layers.sort_unstable();
            prop_assert_eq!(layers, network.free_layers().collect::<Vec<_>>(), "{:?}", mode);
        }
    }
}
