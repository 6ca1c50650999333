//! The datasets by name, and the published recipe of each.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::augment::{Augmentation, PadMode, Step};
use super::{DataError, Normalization};

/// A dataset that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
pub enum DatasetName {
    /// 60,000 + 10,000 grey pictures of clothes.
    #[value(name = "FashionMNIST")]
    #[serde(rename = "FashionMNIST")]
    FashionMnist,
    /// 50,000 + 10,000 colour photographs, ten classes.
    #[value(name = "CIFAR10")]
    #[serde(rename = "CIFAR10")]
    Cifar10,
    /// 50,000 + 10,000 colour photographs, a hundred classes.
    #[value(name = "CIFAR100")]
    #[serde(rename = "CIFAR100")]
    Cifar100,
    /// 5,000 + 1,000 pictures of Fashion-MNIST, contained in the program.
    #[value(name = "FashionMNIST-mini")]
    #[serde(rename = "FashionMNIST-mini")]
    FashionMnistMini,
}

use DatasetName::*;

impl DatasetName {
    /// All datasets.
    pub const ALL: [Self; 4] = [FashionMnist, Cifar10, Cifar100, FashionMnistMini];

    /// The name as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            FashionMnist => "FashionMNIST",
            Cifar10 => "CIFAR10",
            Cifar100 => "CIFAR100",
            FashionMnistMini => "FashionMNIST-mini",
        }
    }

    /// Image planes: 1 (grey) or 3 (red, green, blue).
    pub fn channels(self) -> usize {
        match self {
            FashionMnist | FashionMnistMini => 1,
            Cifar10 | Cifar100 => 3,
        }
    }

    /// Number of classes; labels run from 0 to one less.
    pub fn classes(self) -> usize {
        self.class_names().len()
    }

    /// The classes' names, in the order of the labels.
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            FashionMnist | FashionMnistMini => &FASHION_CLASSES,
            Cifar10 => &CIFAR10_CLASSES,
            Cifar100 => &CIFAR100_CLASSES,
        }
    }

    /// The published normalisation. That of CIFAR-10 divides by three times the usual standard deviation, that of CIFAR-100
    /// does not.
    pub fn normalization(self) -> Normalization {
        let (mean, std): (&[f64], &[f64]) = match self {
            FashionMnist | FashionMnistMini => (&[0.2860], &[0.3530]),
            Cifar10 => (
                &[0.4914, 0.4822, 0.4465],
                // Multiplied in double precision, then rounded, as the published code does.
                &[3.0 * 0.2023, 3.0 * 0.1994, 3.0 * 0.2010],
            ),
            Cifar100 => (&[0.5071, 0.4867, 0.4408], &[0.2675, 0.2565, 0.2761]),
        };
        let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        Normalization {
            mean: single(mean),
            std: single(std),
        }
    }

    /// The published augmentation of training images. Test images are only normalised.
    pub fn augmentation(self) -> Augmentation {
        let crop = |pad| Step::Crop {
            pad,
            mode: PadMode::Edge,
        };
        let cifar = |ops| vec![Step::Flip, Step::RandAugment { ops, magnitude: 9 }, crop(4)];
        let steps = match self {
            // The zero padding from 28 to 32 pixels comes first; the dataset already contains it.
            FashionMnist | FashionMnistMini => vec![crop(2), Step::Flip],
            Cifar10 => cifar(3),
            Cifar100 => cifar(4),
        };
        Augmentation { steps }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| DataError::UnknownDataset { name: name.into() })
    }
}

const FASHION_CLASSES: [&str; 10] = [
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
];

const CIFAR10_CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

#[rustfmt::skip]
const CIFAR100_CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];
