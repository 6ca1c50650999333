//! Augmentation and normalisation give the bytes that torchvision gives.

use std::collections::BTreeSet;
use std::path::Path;

use eqprop_cuda::data::augment::{RandAugmentOp, apply};
use eqprop_cuda::data::augment::{Sign, crop_edge, flip, pad_zero};
use eqprop_cuda::data::{DatasetName, Image, normalize};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/augment.safetensors");
    std::fs::read(path).unwrap()
}

fn image(file: &SafeTensors, name: &str) -> Image {
    to_image(&file.tensor(name).unwrap())
}

fn to_image(tensor: &TensorView) -> Image {
    let [channels, height, width] = tensor.shape()[..] else {
        panic!("an image has three dimensions");
    };
    Image::new(channels, height, width, tensor.data().to_vec()).unwrap()
}

/// The number after `prefix` in one of the dot-separated parts of a tensor's name.
fn number(name: &str, prefix: &str) -> usize {
    name.split('.')
        .find_map(|part| part.strip_prefix(prefix)?.parse().ok())
        .unwrap_or_else(|| panic!("no {prefix} in {name}"))
}

fn assert_same(name: &str, found: &Image, expected: &Image) {
    let wrong = found
        .data
        .iter()
        .zip(&expected.data)
        .filter(|(a, b)| a != b)
        .count();
    assert!(
        found == expected,
        "{name}: {wrong} of {} bytes differ",
        expected.data.len()
    );
}

#[test]
fn rand_augment_operations_match_torchvision_byte_for_byte() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = BTreeSet::new();
    for (name, tensor) in file.tensors() {
        if !name.starts_with("op.") || name.ends_with(".magnitude") {
            continue;
        }
        let op: RandAugmentOp = name.split('.').nth(1).unwrap().parse().unwrap();
        let magnitude = file.tensor(&format!("{name}.magnitude")).unwrap();
        let magnitude = f64::from_le_bytes(magnitude.data().try_into().unwrap());
        let sign = match name.split('.').nth(3) {
            Some("neg") => Sign::Negative,
            _ => Sign::Positive,
        };
        let input = image(&file, &format!("input.{}", number(&name, "img")));
        let ours = op.magnitude(number(&name, "bin"), sign, (input.height, input.width));
        assert_eq!(ours, magnitude, "{name}: magnitude");
        assert_same(&name, &apply(op, magnitude, &input), &to_image(&tensor));
        seen.insert(op.name());
    }
    assert_eq!(seen.len(), RandAugmentOp::ALL.len(), "{seen:?}");
}

#[test]
fn flips_crops_and_padding_match_torchvision_byte_for_byte() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for (name, tensor) in file.tensors() {
        let kind = name.split('.').next().unwrap();
        let found = match kind {
            "flip" => flip(&image(&file, &format!("input.{}", number(&name, "img")))),
            "gray32" => {
                let small = name.replace("gray32", "gray28");
                pad_zero(&image(&file, &small), 2)
            }
            "crop4edge" | "fmnistcrop" => {
                let (pad, source) = match kind {
                    "crop4edge" => (4, "input"),
                    _ => (2, "gray32"),
                };
                let source = image(&file, &format!("{source}.{}", number(&name, "img")));
                crop_edge(
                    &source,
                    pad,
                    number(&name, "top"),
                    number(&name, "left"),
                    32,
                )
            }
            _ => continue,
        };
        assert_same(&name, &found, &to_image(&tensor));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn normalised_images_match_torchvision_bit_for_bit() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for (name, tensor) in file.tensors() {
        let mut parts = name.split('.');
        if parts.next() != Some("normalized") {
            continue;
        }
        let (dataset, which) = (parts.next().unwrap(), parts.next().unwrap());
        let dataset: DatasetName = dataset.parse().unwrap();
        let source = match dataset {
            DatasetName::FashionMnist => "gray32",
            _ => "input",
        };
        let source = image(
            &file,
            &format!("{source}.{}", which.trim_start_matches("img")),
        );
        let found: Vec<u8> = normalize(&source, &dataset.normalization())
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        assert!(found == tensor.data(), "{name} differs");
        seen += 1;
    }
    assert!(seen > 0);
}

/// PIL leaves what it cannot stretch, and has no colour to enhance in a grey image.
#[test]
fn degenerate_images_pass_through() {
    let flat = Image::new(1, 8, 8, vec![77; 64]).unwrap();
    for op in ["AutoContrast", "Equalize", "Color", "Contrast", "Sharpness"] {
        let op: RandAugmentOp = op.parse().unwrap();
        assert_same(op.name(), &apply(op, 0.9, &flat), &flat);
    }
}

#[test]
fn names_of_operations_round_trip() {
    for op in RandAugmentOp::ALL {
        assert_eq!(op.to_string().parse(), Ok(op));
    }
    assert!("Swirl".parse::<RandAugmentOp>().is_err());
}
