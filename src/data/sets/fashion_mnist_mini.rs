//! The subset of Fashion-MNIST that is part of the program: 5,000 + 1,000 pictures, as many of each class.
//!
//! `assets/fashion-mnist-mini` says where it comes from and under which licence.

use super::{Set, fashion_mnist};
use crate::data::formats::Format;

macro_rules! embedded {
    ($($file:literal),*) => {
        [$((
            concat!("fashion-mnist-mini/", $file),
            include_bytes!(concat!("../../../assets/fashion-mnist-mini/", $file)),
        )),*]
    };
}

pub(super) const SET: Set = Set {
    name: "FashionMNIST-mini",
    aliases: &[],
    base: "",
    files: &[],
    format: Format::Embedded(&embedded!(
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz"
    )),
    ..fashion_mnist::SET
};
