//! CIFAR-100 (Krizhevsky 2009), with its hundred fine labels, <https://www.cs.toronto.edu/~kriz/cifar.html>.

use super::Set;
use crate::data::augment::{PadMode, Step};
use crate::data::formats::{Format, cifar};

pub(super) const SET: Set = Set {
    name: "CIFAR100",
    aliases: &["cifar-100"],
    base: "https://www.cs.toronto.edu/~kriz",
    files: &[(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
    )],
    format: Format::Cifar(&[
        cifar::Layout {
            archive: "cifar-100-binary.tar.gz",
            folder: "cifar-100-binary",
            train: &["train.bin"],
            test: &["test.bin"],
            other: &["coarse_label_names.txt", "fine_label_names.txt"],
            records: cifar::Records::Binary { label_bytes: 2 },
        },
        // As torchvision has it.
        cifar::Layout {
            archive: "cifar-100-python.tar.gz",
            folder: "cifar-100-python",
            train: &["train"],
            test: &["test"],
            other: &["meta", "file.txt~"],
            records: cifar::Records::Python {
                labels: "fine_labels",
            },
        },
    ]),
    channels: 3,
    side: 32,
    pad: 0,
    classes: &CLASSES,
    mean: &[0.5071, 0.4867, 0.4408],
    std: &[0.2675, 0.2565, 0.2761],
    augmentation: &[
        Step::Flip,
        Step::RandAugment {
            ops: 4,
            magnitude: 9,
        },
        Step::Crop {
            pad: 4,
            mode: PadMode::Edge,
        },
    ],
};

#[rustfmt::skip]
const CLASSES: [&str; 100] = [
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
