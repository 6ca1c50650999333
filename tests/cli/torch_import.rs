//! `torch::read`, `eqprop-cuda import` and `export`, on files that real PyTorch wrote (`tests/torch/make_fixture.py`).

use crate::support::program;
use assert_cmd::Command;
use eqprop_cuda::run::Checkpoint;
use eqprop_cuda::torch::{self, Tensors};
use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch");
    folder.join(format!("{name}.pt"))
}

/// What `make_fixture.py` says that its lists hold.
fn expected() -> Vec<ArrayD<f64>> {
    let shapes: [&[usize]; 10] = [
        &[1],
        &[2],
        &[2],
        &[1],
        &[10],
        &[1, 1, 3, 3],
        &[2, 1, 3, 3],
        &[2, 2, 3, 3],
        &[1, 2, 3, 3],
        &[1, 2, 2, 10],
    ];
    let mut numbers = (0..).map(|k| f64::from(k * 37 % 101 - 50) / 64.0);
    let tensor = |shape: &&[usize]| {
        let count = shape.iter().product();
        let values = numbers.by_ref().take(count).collect();
        ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
    };
    shapes.iter().map(tensor).collect()
}

fn error_of(path: &Path) -> String {
    format!("{:#}", torch::read(path).expect_err("it is refused"))
}

fn import(folder: &Path, file: &Path, arguments: &str) -> assert_cmd::assert::Assert {
    Command::new(program::path())
        .current_dir(folder)
        .arg("import")
        .arg(file)
        .args("--dataset FashionMNIST-mini --output run".split(' '))
        .args(arguments.split_whitespace())
        .assert()
}

#[test]
fn every_layout_and_format_reads_as_the_same_numbers() {
    for name in [
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "parameters",
        "strides",
        "offsets",
        "protocol4",
    ] {
        let read = torch::read(&fixture(name)).unwrap();
        assert_eq!(read.tensors, Tensors::List(expected()), "{name}");
    }
}

#[test]
fn a_state_dict_reads_by_name() {
    let Tensors::Named(tensors) = torch::read(&fixture("state_dict")).unwrap().tensors else {
        panic!("it is a dictionary");
    };
    let shapes: Vec<_> = tensors
        .iter()
        .map(|(n, t)| (n.as_str(), t.shape()))
        .collect();
    assert_eq!(shapes, [("weight", &[2, 3][..]), ("bias", &[2][..])]);
}

/// Objects are bags of attributes: tensors are found in them, and no class is asked for anything.
#[test]
fn whole_networks_are_read_without_their_classes() {
    let Tensors::Named(tensors) = torch::read(&fixture("module")).unwrap().tensors else {
        panic!("it is a module");
    };
    let names: Vec<_> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["weight", "bias"]);

    let state_dict = torch::read(&fixture("baseline")).unwrap().tensors;
    assert_eq!(
        torch::read(&fixture("module_baseline")).unwrap().tensors,
        state_dict
    );
    assert_eq!(
        torch::read(&fixture("wrapped_baseline")).unwrap().tensors,
        state_dict
    );

    let wrapped = torch::read(&fixture("wrapped")).unwrap();
    assert_eq!(wrapped.tensors, Tensors::List(expected()));
    assert_eq!(wrapped.clips, None);
    let pickled = fixture("energy").with_extension("pkl");
    for energy in [fixture("energy"), pickled] {
        let energy = torch::read(&energy).unwrap();
        assert_eq!(energy.tensors, Tensors::List(expected()));
        assert_eq!(energy.clips, Some(vec![1.5, 2.5, 3.25, 4.75]));
    }
}

/// The maxima come from a whole network, or from the user.
#[test]
fn reluclip_networks_keep_their_maxima() {
    for (name, arguments) in [
        ("energy", ""),
        ("float32", "--activation reluclip --clips 1.5,2.5,3.25,4.75"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        import(folder.path(), &fixture(name), arguments).success();
        let run = Checkpoint::load(&folder.path().join("run/last.safetensors")).unwrap();
        let bounds: Vec<_> = run.network.layers()[1..5]
            .iter()
            .map(|layer| layer.activation.bounds())
            .collect();
        let expected = [1.5, 2.5, 3.25, 4.75].map(|clip| Some((0.0, clip)));
        assert_eq!(bounds, expected, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let short = "--activation reluclip --clips 1.5,2.5";
    let failed = import(folder.path(), &fixture("float32"), short).failure();
    let error = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    assert!(error.contains("2 maxima, but vgg5 has 4 layers"), "{error}");
}

/// The framework's weights between flat layers are matrices.
#[test]
fn a_dense_network_of_the_framework_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), &fixture("dhn"), "").success();
    let run = Checkpoint::load(&folder.path().join("run/last.safetensors")).unwrap();
    assert_eq!(run.network.name(), "dhn-1h");
    assert_eq!(run.config.channels, Some(vec![3]));
    let weight = run.model.parameters.weight(1);
    assert_eq!(weight.shape(), [3, 1, 1, 10]);
    let expected = (0..30).map(|k| f64::from(k % 7) / 8.0);
    assert!(weight.iter().copied().eq(expected), "{weight}");
}

#[test]
fn what_is_no_list_of_float_tensors_is_refused() {
    for (name, reason) in [
        (
            "legacy",
            "since PyTorch 1.6; load an older file with PyTorch",
        ),
        (
            "complex",
            "torch.ComplexFloatStorage; float tensors were expected",
        ),
        ("malicious", "asks for a call of posix.system"),
        ("malicious_within", "asks for a call of posix.system"),
    ] {
        let error = error_of(&fixture(name));
        assert!(error.contains(reason), "{name}: {error}");
        assert!(error.contains(&format!("{name}.pt")), "{name}: {error}");
    }
    assert!(
        !Path::new("eqprop-was-here").exists(),
        "the file's command was run"
    );
}

#[test]
fn import_then_export_keeps_every_number() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), &fixture("strides"), "").success();
    let mut export = Command::new(program::path());
    let export = export.current_dir(folder.path());
    export
        .args(["export", "run", "out.safetensors"])
        .assert()
        .success();

    let bytes = fs::read(folder.path().join("out.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names = (1..=5).map(|l| format!("bias.{l}"));
    let names: Vec<String> = names.chain((0..5).map(|e| format!("weight.{e}"))).collect();
    assert_eq!(file.len(), names.len());
    for (name, expected) in names.iter().zip(expected()) {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.shape(), expected.shape(), "{name}");
        let numbers = tensor.data().as_chunks::<4>().0.iter();
        let numbers: Vec<f64> = numbers.map(|&b| f32::from_le_bytes(b).into()).collect();
        assert_eq!(numbers, expected.into_raw_vec_and_offset().0, "{name}");
    }

    // A second export does not overwrite the first.
    let again = export.assert().failure();
    let error = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(
        error.contains("out.safetensors is there already"),
        "{error}"
    );
}

#[test]
fn an_imported_network_evaluates_and_trains_on() {
    let folder = tempfile::tempdir().unwrap();
    import(
        folder.path(),
        &fixture("parameters"),
        "--epochs 1 --batch-size 16 --limit-train 32 --limit-test 32 --num-iterations-inference 4 --num-iterations-training 2",
    )
    .success();
    for arguments in [
        "eval run/last.safetensors --offline --limit-test 16",
        "train --resume run",
    ] {
        let mut command = Command::new(program::path());
        command
            .current_dir(folder.path())
            .args(arguments.split(' '))
            .assert()
            .success();
    }
}

#[test]
fn a_list_that_does_not_fit_leaves_no_run() {
    for (name, arguments, reason) in [
        (
            "missing_one",
            "--network vgg5",
            "9 parameter tensors were given, but vgg5 has 10",
        ),
        (
            "wrong_shape",
            "",
            "weight.4 has shape [1, 4, 2, 10], but vgg5 expects [1, 2, 2, 10]",
        ),
        (
            "float32",
            "--network hopfieldresnet13",
            "10 parameter tensors were given",
        ),
        (
            "float32",
            "--dataset CIFAR10",
            "weight.0 has shape [1, 1, 3, 3]",
        ),
        (
            "not_finite",
            "",
            "weight.4 holds values that are not finite",
        ),
        ("state_dict", "", "has no tensor layers.0_1.0.weight"),
        ("malicious", "", "posix.system"),
        (
            "float32",
            "--activation reluclip",
            "does not hold the maxima",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let failed = import(folder.path(), &fixture(name), arguments).failure();
        let error = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(
            error.starts_with("error: ") && error.lines().count() == 1,
            "{name}: {error}"
        );
        assert!(error.contains(reason), "{name}: {error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    }
}

/// A feed-forward baseline: its `state_dict` goes in, is recognised, and comes out as it was.
#[test]
fn a_baseline_comes_out_as_it_went_in() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), &fixture("baseline"), "").success();
    let run = |arguments: &str| {
        let mut command = Command::new(program::path());
        let command = command.current_dir(folder.path());
        command
            .args(arguments.split_whitespace())
            .assert()
            .success();
    };
    run("export run weights.safetensors");
    let bytes = fs::read(folder.path().join("weights.safetensors")).unwrap();
    let exported = SafeTensors::deserialize(&bytes).unwrap();
    let Tensors::Named(tensors) = torch::read(&fixture("baseline")).unwrap().tensors else {
        panic!("it is a dictionary");
    };
    assert_eq!(exported.len(), tensors.len());
    for (name, tensor) in tensors {
        let view = exported.tensor(&name).unwrap();
        assert_eq!(view.shape(), tensor.shape(), "{name}");
        let bytes: Vec<u8> = match name.ends_with("num_batches_tracked") {
            true => tensor
                .iter()
                .flat_map(|&v| (v as i64).to_le_bytes())
                .collect(),
            false => tensor
                .iter()
                .flat_map(|&v| (v as f32).to_le_bytes())
                .collect(),
        };
        assert_eq!(view.data(), bytes, "{name}");
    }
    run("eval run --limit-test 20");
    import(
        folder.path(),
        &fixture("baseline"),
        "--algorithm ep --output other",
    )
    .failure();
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pt");
    let whole = fs::read(fixture("float32")).unwrap();
    for length in (0..whole.len()).step_by(3) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = error_of(&path);
        assert!(
            error.contains("cut.pt cannot be used"),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn a_changed_byte_never_panics_nor_changes_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pt");
    let whole = fs::read(fixture("float32")).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(&path, bytes).unwrap();
        // Some bytes are padding, times, or names of files that are not needed.
        if let Ok(read) = torch::read(&path) {
            assert_eq!(read.tensors, Tensors::List(expected()), "byte {at}");
        }
    }
}

/// The parts of an archive, with another pickle.
fn with_pickle(parts: &[(String, Vec<u8>)], pickle: &[u8], path: &Path) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in parts {
        archive.start_file(name.as_str(), stored).unwrap();
        let bytes = if name.ends_with("/data.pkl") {
            pickle
        } else {
            bytes
        };
        archive.write_all(bytes).unwrap();
    }
    fs::write(path, archive.finish().unwrap().into_inner()).unwrap();
}

fn parts(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(File::open(fixture(name)).unwrap()).unwrap();
    let count = archive.len();
    let part = |i| {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (file.name().unwrap().to_string(), bytes)
    };
    (0..count).map(part).collect()
}

/// The archive's checksums find accidents; a pickle that was changed on purpose comes with the right ones.
#[test]
fn a_changed_pickle_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pt");
    let mut readable = 0;
    for name in ["float32", "protocol4"] {
        let parts = parts(name);
        let (_, pickle) = parts
            .iter()
            .find(|(n, _)| n.ends_with("/data.pkl"))
            .unwrap();
        with_pickle(&parts, pickle, &path);
        assert_eq!(
            torch::read(&path).unwrap().tensors,
            Tensors::List(expected())
        );
        for at in 0..pickle.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = pickle.clone();
                bytes[at] ^= flip;
                with_pickle(&parts, &bytes, &path);
                readable += usize::from(torch::read(&path).is_ok());
            }
            with_pickle(&parts, &pickle[..at], &path);
            assert!(torch::read(&path).is_err(), "{at} bytes of {name}");
        }
    }
    assert!(
        readable > 0,
        "no change reached the tensors: the archive is not what was meant"
    );
}

/// Small files that ask for much memory or deep recursion.
#[test]
fn a_pickle_bomb_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.pt");
    let parts = parts("float32");
    let doubled = [
        &b"\x80\x02)q\x00"[..],
        &b"h\x00h\x00\x86q\x00".repeat(200),
        b".",
    ]
    .concat();
    let depth = 1_000_000;
    let tuples = [&b"\x80\x02)"[..], &b"\x85".repeat(depth), b"."].concat();
    let lists = [
        &b"\x80\x02"[..],
        &b"]".repeat(depth),
        &b"a".repeat(depth - 1),
        b".",
    ]
    .concat();
    let text = [
        b"\x80\x02]X\x00\x00\x10\x00",
        &b"a".repeat(1 << 20)[..],
        b"q\x00",
        &b"h\x00".repeat(1 << 18),
        b"0.",
    ];
    let itself = b"\x80\x02]q\x00h\x00a.".to_vec();
    for (name, pickle) in [
        ("doubled", doubled),
        ("tuples", tuples),
        ("lists", lists),
        ("text", text.concat()),
        ("itself", itself),
    ] {
        with_pickle(&parts, &pickle, &path);
        let error = error_of(&path);
        assert!(error.contains("bomb.pt cannot be used"), "{name}: {error}");
    }

    // One tensor, listed so often that all together would not fit into memory.
    let (_, pickle) = parts
        .iter()
        .find(|(n, _)| n.ends_with("/data.pkl"))
        .unwrap();
    let end = pickle.len() - 2;
    assert_eq!(&pickle[end..], b"e.");
    let often = [
        &pickle[..end],
        b"r\x00\x00\x01\x00",
        &b"j\x00\x00\x01\x00".repeat(1 << 20),
        b"e.",
    ]
    .concat();
    with_pickle(&parts, &often, &path);
    let error = error_of(&path);
    assert!(
        error.contains("its tensors are larger than the file"),
        "{error}"
    );
}

/// Entries of an archive whose contents are one and the same block of the file: each would be read as a part of its own.
#[test]
fn parts_that_share_a_block_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.pt");
    let mut parts = parts("float32");
    let (_, pickle) = parts
        .iter()
        .find(|(n, _)| n.ends_with("/data.pkl"))
        .unwrap();
    let pickle = pickle.clone();
    let first = parts
        .iter_mut()
        .find(|(n, _)| n.ends_with("/data/0"))
        .unwrap();
    first.1.resize(100_000, 0);
    with_pickle(&parts, &pickle, &path);
    assert_eq!(
        torch::read(&path).unwrap().tensors,
        Tensors::List(expected())
    );

    let mut bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 46)
        .filter(|&at| bytes[at..].starts_with(b"PK\x01\x02"))
        .collect();
    let name = |bytes: &[u8], at: usize| {
        let length = u16::from_le_bytes([bytes[at + 28], bytes[at + 29]]) as usize;
        String::from_utf8(bytes[at + 46..at + 46 + length].to_vec()).unwrap()
    };
    let data = |suffix: &str| -> Vec<usize> {
        let starts = starts.iter().copied();
        starts
            .filter(|&at| name(&bytes, at).contains(suffix))
            .collect()
    };
    let (source, all) = (data("/data/0")[0], data("/data/"));
    for at in all {
        // checksum and both sizes; where the block begins
        for field in [16..28, 42..46] {
            bytes.copy_within(source + field.start..source + field.end, at + field.start);
        }
    }
    fs::write(&path, bytes).unwrap();
    let error = error_of(&path);
    assert!(error.contains("its parts overlap"), "{error}");
}
