//! What the published baselines do to CIFAR images. It differs from what the Hopfield networks are trained with; other
//! datasets have no published baseline and are treated as for Hopfield networks.

use crate::data::augment::{PadMode, Step};
use crate::data::{Augmentation, DatasetName, Normalization};

/// Augmentation of training images for `resnet13` or `vgg5`.
pub fn augmentation(network: &str, dataset: DatasetName) -> Augmentation {
    let (ops, mode) = match (network, dataset) {
        ("vgg5", DatasetName::Cifar10 | DatasetName::Cifar100) => (2, PadMode::Zero),
        (_, DatasetName::Cifar10) => (3, PadMode::Edge),
        _ => return dataset.augmentation(),
    };
    let magnitude = 9;
    let crop = Step::Crop { pad: 4, mode };
    Augmentation {
        steps: vec![Step::Flip, Step::RandAugment { ops, magnitude }, crop],
    }
}

/// Mean and standard deviation of the images for `resnet13` or `vgg5`: those of CIFAR-10 are not tripled here.
pub fn normalization(network: &str, dataset: DatasetName) -> Normalization {
    let published = dataset.normalization();
    if dataset != DatasetName::Cifar10 {
        return published;
    }
    let std = match network {
        "vgg5" => vec![0.2470, 0.2435, 0.2616],
        _ => vec![0.2023, 0.1994, 0.2010],
    };
    Normalization { std, ..published }
}
