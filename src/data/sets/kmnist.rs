//! Kuzushiji-MNIST (Clanuwat et al. 2018), <https://github.com/rois-codh/kmnist>.

use super::{Set, mnist};
use crate::data::formats::Format;

pub(super) const SET: Set = Set {
    name: "KMNIST",
    aliases: &["kuzushiji-mnist", "kuzushijimnist"],
    base: "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
    files: &[
        (
            "train-images-idx3-ubyte.gz",
            "bdb82020997e1d708af4cf47b453dcf7",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "e144d726b3acfaa3e44228e80efcd344",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "5c965bf0a639b31b8f53240b1b52f4d7",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ],
    format: Format::Idx {
        folders: &["KMNIST/raw", "kmnist"],
    },
    classes: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    // Normalised with the constants of MNIST, as the published experiments do.
    ..mnist::SET
};
