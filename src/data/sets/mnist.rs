//! MNIST (LeCun et al. 1998). Recipe: that of <https://github.com/rain-neuromorphics/energy-based-learning>.

use super::Set;
use crate::data::augment::{PadMode, Step};
use crate::data::formats::Format;

pub(super) const SET: Set = Set {
    name: "MNIST",
    aliases: &[],
    base: "https://ossci-datasets.s3.amazonaws.com/mnist",
    files: &[
        (
            "train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ],
    // Not directly in the folder: files of the same names there have always been read as Fashion-MNIST.
    format: Format::Idx {
        folders: &["MNIST/raw", "mnist"],
    },
    channels: 1,
    side: 28,
    pad: 2,
    classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    mean: &[0.1307],
    std: &[0.3081],
    augmentation: &[Step::Crop {
        pad: 2,
        mode: PadMode::Edge,
    }],
};
