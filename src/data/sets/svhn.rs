//! Street View House Numbers (Netzer et al. 2011), cropped digits, <http://ufldl.stanford.edu/housenumbers>. Recipe: that of
//! <https://github.com/rain-neuromorphics/energy-based-learning>.

use super::Set;
use crate::data::augment::{PadMode, Step};
use crate::data::formats::Format;

pub(super) const SET: Set = Set {
    name: "SVHN",
    aliases: &[],
    base: "http://ufldl.stanford.edu/housenumbers",
    files: &[
        ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ],
    format: Format::Mat {
        folders: &["", "SVHN", "svhn"],
    },
    channels: 3,
    side: 32,
    pad: 0,
    classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    mean: &[0.4377, 0.4438, 0.4728],
    std: &[0.1980, 0.2010, 0.1970],
    // Digits are not mirrored.
    augmentation: &[Step::Crop {
        pad: 4,
        mode: PadMode::Edge,
    }],
};
