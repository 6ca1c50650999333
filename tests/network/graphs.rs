//! A graph that makes no sense is refused, and the message names the layer or edge and what was expected.

use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{
    ActivationKind, Ends, Network, NetworkDescription, NetworkError, Shape,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(0)
}

fn build(toml: &str) -> Result<Network, NetworkError> {
    NetworkDescription::from_toml(toml)?.build(ActivationKind::Relu6, &mut rng())
}

/// A network that is right: each test breaks it in one place.
const GOOD: &str = r#"
name = "small"
[[layer]]
name = "in"
shape = [1, 8, 8]
[[layer]]
name = "mid"
shape = [4, 4, 4]
[[layer]]
name = "top"
shape = [6, 2, 2]
[[layer]]
name = "out"
shape = [3]
[[edge]]
from = "in"
to = "mid"
kind = "conv-max-pool"
kernel = 3
padding = 1
[[edge]]
from = "mid"
to = "top"
kind = "conv"
kernel = 3
stride = 2
padding = 1
[[edge]]
from = "top"
to = "out"
kind = "dense"
"#;

fn message(toml: &str) -> String {
    match build(toml) {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "more than one line: {message}");
            message
        }
        Ok(network) => panic!("accepted:\n{network}"),
    }
}

/// The message for [`GOOD`] with `old` replaced by `new`.
fn broken(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old:?} is not in the network");
    message(&GOOD.replacen(old, new, 1))
}

fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn the_good_network_is_accepted() {
    let network = build(GOOD).unwrap();
    assert_eq!(network.parameter_names().len(), 3 + 3);
}

#[test]
fn wrong_shapes_name_edge_and_sizes() {
    says(
        &broken("[6, 2, 2]", "[6, 3, 3]"),
        &["edge 1 (mid -> top)", "2x2", "3x3"],
    );
    says(
        &broken("[4, 4, 4]", "[4, 8, 8]"),
        &["edge 0 (in -> mid)", "2x2 pooling", "4x4", "8x8"],
    );
    says(
        &broken("[6, 2, 2]", "[6, 2]"),
        &["layer \"top\"", "2 numbers"],
    );
    says(
        &broken("[6, 2, 2]", "[0, 2, 2]"),
        &["layer \"top\"", "at least 1"],
    );
    says(
        &broken("shape = [3]", "shape = [1]"),
        &["layer \"out\"", "2 classes"],
    );
    says(
        &broken("shape = [3]", "shape = [3, 2, 2]"),
        &["layer \"out\"", "(classes, 1, 1)"],
    );
}

#[test]
fn sizes_that_no_machine_holds_are_refused() {
    let huge = format!("[{0}, {0}, {0}]", i64::MAX);
    says(&broken("[6, 2, 2]", &huge), &["layer \"top\"", "too large"]);
    says(
        &broken("shape = [3]", "shape = [9000000000]"),
        &["layer \"out\"", "too large"],
    );
    says(
        &broken("shape = [3]", "shape = [200000000]"),
        &["edge 2 (top -> out)", "too large"],
    );
    let padding = format!("kernel = {}\npadding = {}", i64::MAX, i64::MAX - 1);
    says(
        &broken("kernel = 3\npadding = 1", &padding),
        &["edge 0 (in -> mid)"],
    );
}

#[test]
fn convolutions_that_do_not_fit_name_the_edge() {
    says(&broken("kernel = 3\n", ""), &["edge in -> mid", "`kernel`"]);
    says(
        &broken("kernel = 3", "kernel = 0"),
        &["edge 0 (in -> mid)", "kernel 0"],
    );
    says(
        &broken("stride = 2", "stride = 0"),
        &["edge 1 (mid -> top)", "stride 0"],
    );
    says(
        &broken("stride = 2", "stride = 2\ndilation = 0"),
        &["edge 1 (mid -> top)", "dilation 0"],
    );
    says(
        &broken(
            "kernel = 3\nstride = 2",
            "kernel = [3, 9]\nstride = [2, 1]\ndilation = [1, 2]",
        ),
        &["edge 1 (mid -> top)", "3x9", "stride 2x1", "dilation 1x2"],
    );
    says(
        &broken("kernel = 3", "kernel = [3, 3, 3]"),
        &["line", "[rows, columns]"],
    );
    says(
        &broken("padding = 1", "padding = 3"),
        &["edge 0 (in -> mid)", "padding 3"],
    );
    says(
        &broken("kernel = 3\npadding = 1", "kernel = 9"),
        &["edge 0 (in -> mid)", "0x0"],
    );
}

#[test]
fn a_dense_edge_onto_pixels_names_the_edge() {
    let onto_pixels = broken(
        "kind = \"conv\"\nkernel = 3\nstride = 2\npadding = 1",
        "kind = \"dense\"",
    );
    says(
        &onto_pixels,
        &["edge 1 (mid -> top)", "1x1 pixels", "6x2x2"],
    );
    says(
        &broken("kind = \"dense\"", "kind = \"dense\"\nkernel = 2"),
        &["edge top -> out", "no kernel"],
    );
}

#[test]
fn edges_to_nowhere_name_edge_and_layers() {
    let missing = broken("from = \"mid\"", "from = \"middle\"");
    says(
        &missing,
        &["edge middle -> top", "\"middle\"", "in, mid, top, out"],
    );
    says(
        &broken("from = \"mid\"", "from = \"in\""),
        &["edge 1 (in -> top)"],
    );
}

#[test]
fn a_cycle_names_its_layers() {
    let back = "[[edge]]\nfrom = \"top\"\nto = \"mid\"\nkind = \"dense\"\n";
    let cycle = message(&format!("{GOOD}{back}"));
    says(&cycle, &["cycle", "mid -> top -> mid"]);
    let loop_ = "[[edge]]\nfrom = \"mid\"\nto = \"mid\"\nkind = \"dense\"\n";
    says(
        &message(&format!("{GOOD}{loop_}")),
        &["cycle", "mid -> mid"],
    );
}

#[test]
fn an_edge_downwards_says_how_to_list_the_layers() {
    let swapped = GOOD
        .replace(
            "name = \"mid\"\nshape = [4, 4, 4]",
            "name = \"x\"\nshape = [6, 2, 2]",
        )
        .replace(
            "name = \"top\"\nshape = [6, 2, 2]",
            "name = \"mid\"\nshape = [4, 4, 4]",
        )
        .replace("name = \"x\"", "name = \"top\"");
    says(
        &message(&swapped),
        &["edge mid -> top", "from input to output"],
    );
}

#[test]
fn duplicates_are_named() {
    let again = "[[layer]]
name = \"mid\"
shape = [5]
[[layer]]
name = \"out\"";
    let twice = broken(
        "[[layer]]
name = \"out\"",
        again,
    );
    says(&twice, &["two layers", "\"mid\""]);
}

#[test]
fn two_layers_may_be_joined_more_than_once() {
    let beside = "[[edge]]
from = \"mid\"
to = \"top\"
kind = \"conv\"
kernel = [1, 2]
stride = [2, 2]
padding = [0, 1]
dilation = [1, 3]
";
    let network = build(&format!("{GOOD}{beside}")).unwrap();
    assert_eq!(network.edges().len(), 4);
    assert_eq!(network.weight_shape(3), [6, 4, 1, 2]);
    let names = network.parameter_names();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

#[test]
fn a_description_of_a_network_makes_the_same_network() {
    let rectangular = GOOD.replacen(
        "kernel = 3\nstride = 2\npadding = 1",
        "kernel = [3, 2]\nstride = 2\npadding = [1, 0]",
        1,
    );
    let pooled = rectangular.replacen("conv-max-pool", "conv-avg-pool", 1);
    for toml in [GOOD, &rectangular, &pooled] {
        let network = build(toml).unwrap();
        let text = toml::to_string(&NetworkDescription::of(&network)).unwrap();
        assert_eq!(build(&text).unwrap(), network, "{text}");
    }
}

#[test]
fn sizes_follow_from_the_first_edge_into_a_layer() {
    let open = GOOD
        .replace("shape = [4, 4, 4]", "channels = 4")
        .replace("shape = [6, 2, 2]", "channels = 6");
    assert_eq!(build(&open).unwrap(), build(GOOD).unwrap());
    let ends = Ends {
        input: Shape::new(3, 12, 10),
        classes: 7,
    };
    let open = open
        .replace("shape = [1, 8, 8]\n", "")
        .replace("shape = [3]\n", "");
    let description = NetworkDescription::from_toml(&open).unwrap();
    let network = description
        .build_between(Some(ends), ActivationKind::Relu6, &mut rng())
        .unwrap();
    let shapes: Vec<_> = network.layers().iter().map(|layer| layer.shape).collect();
    assert_eq!(
        shapes,
        [
            ends.input,
            Shape::new(4, 6, 5),
            Shape::new(6, 3, 3),
            Shape::flat(7)
        ]
    );
    says(&message(&open), &["layer \"in\"", "`shape`"]);
    let both = broken("shape = [6, 2, 2]", "shape = [6, 2, 2]\nchannels = 6");
    says(&both, &["layer \"top\"", "not both"]);
    let too_large = GOOD.replace("shape = [6, 2, 2]", "channels = 6").replacen(
        "kernel = 3\nstride",
        "kernel = 9\nstride",
        1,
    );
    says(
        &message(&too_large),
        &["layer \"top\"", "does not follow", "larger than the image"],
    );
    let other_channels = open.replacen("name = \"in\"", "name = \"in\"\nchannels = 1", 1);
    let description = NetworkDescription::from_toml(&other_channels).unwrap();
    let error = description
        .build_between(Some(ends), ActivationKind::Relu6, &mut rng())
        .unwrap_err();
    says(
        &error.to_string(),
        &["layer \"in\"", "1 channels", "have 3"],
    );
}

#[test]
fn a_layer_without_a_way_to_both_ends_is_named() {
    let lonely = "[[layer]]\nname = \"lonely\"\nshape = [5]\n[[edge]]\nfrom = \"in\"";
    let no_input = broken("[[edge]]\nfrom = \"in\"", lonely).replace("\"out\"", "");
    says(&no_input, &["out"]);
    let dead_end = "[[layer]]\nname = \"dead\"\nshape = [5]\n[[layer]]\nname = \"out\"";
    let edge = "[[edge]]\nfrom = \"top\"\nto = \"dead\"\nkind = \"dense\"\n";
    let toml = GOOD.replacen("[[layer]]\nname = \"out\"", dead_end, 1);
    says(
        &message(&format!("{toml}{edge}")),
        &["layer \"dead\"", "no edge to a higher layer"],
    );
    says(
        &message(&toml),
        &["layer \"dead\"", "no edge from a lower layer"],
    );
}

#[test]
fn unknown_keys_and_values_name_key_and_line() {
    says(
        &broken("stride = 2", "strides = 2"),
        &["line 26", "strides"],
    );
    says(
        &broken("shape = [3]", "shape = [3]\ncolour = 1"),
        &["line 15", "colour"],
    );
    says(
        &broken("name = \"small\"", "name = \"small\"\nversion = 2"),
        &["line 3", "version"],
    );
    says(
        &broken("kind = \"conv\"", "kind = \"convolution\""),
        &["line 24", "convolution"],
    );
    says(&broken("stride = 2", "stride = -2"), &["line 26", "-2"]);
    says(
        &broken("shape = [4, 4, 4]\n", ""),
        &["layer \"mid\"", "`shape`", "`channels`"],
    );
    says(&message("name = "), &["line 1"]);
    says(
        &message("name = \"x\"\nlayer = []\nedge = []"),
        &["0 layer"],
    );
}

#[test]
fn activations_are_checked() {
    let with = |line: &str| broken("shape = [6, 2, 2]", &format!("shape = [6, 2, 2]\n{line}"));
    says(&with("clip = 3.0"), &["layer \"top\"", "reluclip"]);
    says(
        &with("activation = \"reluclip\"\nclip = -1.0"),
        &["layer \"top\"", "-1"],
    );
    says(
        &with("activation = \"reluclip\"\nclip = nan"),
        &["layer \"top\"", "NaN"],
    );
    says(&with("activation = \"tanh\""), &["tanh", "line"]);
    let on_output = broken("shape = [3]", "shape = [3]\nactivation = \"relu6\"");
    says(&on_output, &["layer \"out\"", "linear"]);
}

#[test]
fn gains_are_checked() {
    says(
        &broken("padding = 1", "padding = 1\ngain = -0.5"),
        &["edge 0 (in -> mid)", "-0.5"],
    );
    says(
        &broken("padding = 1", "padding = 1\ngain = inf"),
        &["edge 0 (in -> mid)", "inf"],
    );
    let options = PresetOptions {
        input_channels: 3,
        classes: 10,
        channels: presets::PAPER_CHANNELS,
        activation: ActivationKind::Relu6,
        gains: Some(vec![0.5; 12]),
    };
    let error = presets::build("hopfieldresnet13", &options, &mut rng()).unwrap_err();
    says(
        &error.to_string(),
        &["12 weight gains", "hopfieldresnet13 has 13"],
    );
    let error = presets::build("vgg11", &options, &mut rng()).unwrap_err();
    says(
        &error.to_string(),
        &["\"vgg11\"", "hopfieldresnet13, vgg5", ".toml"],
    );
}

/// A chain of flat layers, each joined to the next, and the last to layer `back` where one is given.
fn chain(layers: usize, back: Option<usize>) -> NetworkDescription {
    let layer = |l: usize| format!("[[layer]]\nname = \"l{l}\"\nshape = [2]\n");
    let edge = |from: usize, to: usize| {
        format!("[[edge]]\nfrom = \"l{from}\"\nto = \"l{to}\"\nkind = \"dense\"\n")
    };
    let mut toml = "name = \"chain\"\n".to_string();
    toml.extend((0..layers).map(layer));
    toml.extend((1..layers).map(|l| edge(l - 1, l)));
    toml.extend(back.map(|to| edge(layers - 1, to)));
    NetworkDescription::from_toml(&toml).unwrap()
}

/// Run on a small stack: neither the depth of a graph nor its size may matter to the search for cycles.
#[test]
fn long_chains_are_checked_in_linear_time_and_without_recursion() {
    let check = || {
        let start = std::time::Instant::now();
        let built =
            |description: NetworkDescription| description.build(ActivationKind::Relu6, &mut rng());
        assert_eq!(built(chain(9_000, None)).unwrap().layers().len(), 9_000);
        let cycle = built(chain(9_000, Some(8_997))).unwrap_err();
        says(
            &cycle.to_string(),
            &["cycle: l8997 -> l8998 -> l8999 -> l8997"],
        );
        let many = built(chain(100_000, None)).unwrap_err();
        says(&many.to_string(), &["100000 layers", "10000"]);
        assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(check).unwrap().join().unwrap();
}
