//! `train --init-from`: a fresh run from known parameters.

use crate::support::program::{TINY, config, fail, succeed};
use ndarray::ArrayD;
use std::fs;
use std::path::{Path, PathBuf};

use eqprop_cuda::run::{Checkpoint, Position};

fn checkpoint(folder: &Path, name: &str) -> Checkpoint {
    Checkpoint::load(&folder.join(name)).unwrap()
}

fn parameters(folder: &Path, name: &str) -> Vec<ArrayD<f64>> {
    checkpoint(folder, name).model.parameters.tensors().to_vec()
}

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch");
    folder.join(name)
}

/// With a learning rate of zero nothing moves: what a run ends with is what it began with.
const STILL: &str = "--dataset FashionMNIST-mini --offline --limit-train 32 --limit-test 16 --batch-size 16 --epochs 1 \
                     --num-iterations-inference 4 --num-iterations-training 2 --learning-rate 0 --eta-min 0 --weight-decay 0";

#[test]
fn a_run_begins_with_the_parameters_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(
        folder,
        &format!("train {TINY} --activation reluclip --output one"),
    );
    // The folder means its best checkpoint, a file itself; network, widths and activation follow.
    for (from, known, output) in [
        ("one", "one/best.safetensors", "two"),
        ("one/last.safetensors", "one/last.safetensors", "three"),
    ] {
        let changed = "--seed 5 --mode coloured --omega 1.2 --optimizer adam";
        succeed(
            folder,
            &format!("train {STILL} {changed} --init-from {from} --output {output}"),
        );
        let last = format!("{output}/last.safetensors");
        assert_eq!(parameters(folder, &last), parameters(folder, known));
        let (new, old) = (checkpoint(folder, &last), checkpoint(folder, known));
        // The maxima of reluclip too, which another seed would have drawn otherwise.
        assert_eq!(new.network.layers(), old.network.layers());
        assert_eq!(new.position, Position { epoch: 1, batch: 0 });
        let settings = config(&folder.join(output));
        assert_eq!(settings["seed"].as_integer(), Some(5));
        assert_eq!(settings["activation"].as_str(), Some("reluclip"));
    }
    // It goes on like any other, without the first run.
    fs::remove_dir_all(folder.join("one")).unwrap();
    succeed(folder, "train --resume two --epochs 2");
    succeed(folder, "eval two --offline");
}

/// The file that described the first run's network may be gone: the run kept it.
#[test]
fn a_described_network_comes_with_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let open = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/networks/open.toml");
    fs::copy(open, folder.join("net.toml")).unwrap();
    succeed(
        folder,
        &format!("train {STILL} --network net.toml --output one"),
    );
    fs::remove_file(folder.join("net.toml")).unwrap();
    succeed(
        folder,
        &format!("train {STILL} --seed 3 --init-from one --output two"),
    );
    let last = |run: &str| parameters(folder, &format!("{run}/last.safetensors"));
    assert_eq!(last("one"), last("two"));
}

#[test]
fn a_file_of_pytorch_is_fine_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["float32.pt", "energy.pkl"] {
        let file = fixture(name);
        succeed(
            folder,
            &format!(
                "train {STILL} --init-from {} --output {name}",
                file.display()
            ),
        );
        let saved = eqprop_cuda::torch::read(&file).unwrap().tensors;
        let eqprop_cuda::torch::Tensors::List(tensors) = saved else {
            panic!("it is a list");
        };
        assert_eq!(
            parameters(folder, &format!("{name}/last.safetensors")),
            tensors
        );
    }
    let file = fixture("module_baseline.pt");
    let given =
        "--dataset FashionMNIST-mini --limit-train 32 --limit-test 16 --batch-size 16 --epochs 1";
    succeed(
        folder,
        &format!(
            "train {given} --init-from {} --output baseline",
            file.display()
        ),
    );
    let settings = config(&folder.join("baseline"));
    assert_eq!(settings["algorithm"].as_str(), Some("backprop"));
    assert_eq!(settings["network"].as_str(), Some("vgg5"));
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &format!("train {TINY} --epochs 1 --output one"));
    let ep = TINY.replace("--channels 4,4,8,8", "");
    let backprop = "--dataset FashionMNIST-mini --offline --algorithm backprop --network resnet13";
    for (settings, arguments, words) in [
        (
            &*ep,
            "--init-from one --channels 4,4,8,16",
            &["one/best.safetensors", "bias.7", "[8]", "[16]"][..],
        ),
        (
            &ep,
            "--init-from one --network vgg5 --channels 4,4,8,8",
            &["bias.6", "vgg5"],
        ),
        (
            backprop,
            "--init-from one --channels 4,4,8,8",
            &["no tensor layers.0_1.0.weight"],
        ),
        (
            &ep,
            "--init-from nowhere",
            &["nowhere", "no such run folder"],
        ),
        (
            &ep,
            "--init-from one --resume one",
            &["--init-from one", "has parameters already"],
        ),
        (
            &ep,
            "--init-from one/metrics.jsonl",
            &["metrics.jsonl", "cannot be used"],
        ),
    ] {
        fail(folder, &format!("train {settings} {arguments}"), words);
    }
    let names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["one"]);
}
