//! Fashion-MNIST (Xiao et al. 2017), <https://github.com/zalandoresearch/fashion-mnist>.

use super::Set;
use crate::data::augment::{PadMode, Step};
use crate::data::formats::Format;

pub(super) const SET: Set = Set {
    name: "FashionMNIST",
    aliases: &["fashion-mnist", "fmnist"],
    base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    files: &[
        (
            "train-images-idx3-ubyte.gz",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ],
    format: Format::Idx {
        folders: &["FashionMNIST/raw", "fashion-mnist", ""],
    },
    channels: 1,
    side: 28,
    pad: 2,
    classes: &[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    mean: &[0.2860],
    std: &[0.3530],
    // The zero padding from 28 to 32 pixels comes first; the dataset already contains it.
    augmentation: &[
        Step::Crop {
            pad: 2,
            mode: PadMode::Edge,
        },
        Step::Flip,
    ],
};
