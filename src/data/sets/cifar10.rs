//! CIFAR-10 (Krizhevsky 2009), <https://www.cs.toronto.edu/~kriz/cifar.html>.

use super::Set;
use crate::data::augment::{PadMode, Step};
use crate::data::formats::{Format, cifar};

pub(super) const SET: Set = Set {
    name: "CIFAR10",
    aliases: &["cifar-10"],
    base: "https://www.cs.toronto.edu/~kriz",
    files: &[("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
    format: Format::Cifar(&[
        cifar::Layout {
            archive: "cifar-10-binary.tar.gz",
            folder: "cifar-10-batches-bin",
            train: &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            test: &["test_batch.bin"],
            other: &["batches.meta.txt", "readme.html"],
            records: cifar::Records::Binary { label_bytes: 1 },
        },
        // As torchvision has it.
        cifar::Layout {
            archive: "cifar-10-python.tar.gz",
            folder: "cifar-10-batches-py",
            train: &[
                "data_batch_1",
                "data_batch_2",
                "data_batch_3",
                "data_batch_4",
                "data_batch_5",
            ],
            test: &["test_batch"],
            other: &["batches.meta", "readme.html"],
            records: cifar::Records::Python { labels: "labels" },
        },
    ]),
    channels: 3,
    side: 32,
    pad: 0,
    classes: &[
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
    ],
    mean: &[0.4914, 0.4822, 0.4465],
    // Multiplied in double precision, then rounded, as the published code does.
    std: &[3.0 * 0.2023, 3.0 * 0.1994, 3.0 * 0.2010],
    augmentation: &[
        Step::Flip,
        Step::RandAugment {
            ops: 3,
            magnitude: 9,
        },
        Step::Crop {
            pad: 4,
            mode: PadMode::Edge,
        },
    ],
};
