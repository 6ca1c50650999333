//! The datasets that the program knows, a file each. A new one is its file and a line in [`datasets!`] below.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::augment::{Augmentation, Step};
use super::formats::{Contents, Format};
use super::{DataError, Normalization, Profile};
use crate::shown::shown;

/// What is known of a dataset.
pub struct Set {
    /// As users write it.
    pub name: &'static str,
    /// Other names, all in lower case.
    pub aliases: &'static [&'static str],
    /// The address of a file is `base/file`.
    pub base: &'static str,
    /// The downloadable files with their MD5 sums. Of loose files: training images, training labels, test images, test labels.
    pub files: &'static [(&'static str, &'static str)],
    /// How the files are read, and where they usually lie.
    pub format: Format,
    /// Image planes: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Height and width of the images in the files, in pixels.
    pub side: usize,
    /// Black pixels that are added on each side, unless the network asks for the size in the files.
    pub pad: usize,
    /// The classes' names, in the order of the labels.
    pub classes: &'static [&'static str],
    /// Published mean of each channel, of values scaled to 0..1.
    pub mean: &'static [f64],
    /// Published divisor of each channel.
    pub std: &'static [f64],
    /// Published augmentation of the padded training images.
    pub augmentation: &'static [Step],
}

macro_rules! datasets {
    ($($(#[$doc:meta])* $Variant:ident = $module:ident;)*) => {
        $(mod $module;)*

        /// A dataset that the program knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub enum DatasetName { $($(#[$doc])* $Variant),* }

        impl DatasetName {
            /// All datasets.
            pub const ALL: [Self; [$(stringify!($Variant)),*].len()] = [$(Self::$Variant),*];

            /// What is known of it.
            pub fn set(self) -> &'static Set {
                match self { $(Self::$Variant => &$module::SET),* }
            }
        }
    };
}

datasets! {
    /// 60,000 + 10,000 grey pictures of clothes.
    FashionMnist = fashion_mnist;
    /// 50,000 + 10,000 colour photographs, ten classes.
    Cifar10 = cifar10;
    /// 50,000 + 10,000 colour photographs, a hundred classes.
    Cifar100 = cifar100;
    /// 5,000 + 1,000 pictures of Fashion-MNIST, contained in the program.
    FashionMnistMini = fashion_mnist_mini;
    /// 60,000 + 10,000 handwritten digits.
    Mnist = mnist;
    /// 60,000 + 10,000 cursive Japanese characters.
    Kmnist = kmnist;
    /// 73,257 + 26,032 colour photographs of digits.
    Svhn = svhn;
    /// Whatever lies in a folder of the user's.
    Folder = folder;
}

impl DatasetName {
    /// The name as users write it.
    pub fn as_str(self) -> &'static str {
        self.set().name
    }

    /// What its images are like, as far as that is known without looking at them: of [`Folder`](Self::Folder) nothing.
    pub(super) fn profile(self) -> Profile {
        let set = self.set();
        Profile {
            channels: set.channels,
            size: (set.side, set.side),
            pad: set.pad,
            classes: set.classes.iter().map(ToString::to_string).collect(),
        }
    }

    /// Image planes: 1 (grey) or 3 (red, green, blue).
    pub fn channels(self) -> usize {
        self.set().channels
    }

    /// Number of classes; labels run from 0 to one less.
    pub fn classes(self) -> usize {
        self.set().classes.len()
    }

    /// The classes' names, in the order of the labels.
    pub fn class_names(self) -> &'static [&'static str] {
        self.set().classes
    }

    /// The published normalisation. That of CIFAR-10 divides by three times the usual standard deviation, that of CIFAR-100
    /// does not.
    pub fn normalization(self) -> Normalization {
        let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        Normalization {
            mean: single(self.set().mean),
            std: single(self.set().std),
        }
    }

    /// The published augmentation of training images. Test images are only normalised.
    pub fn augmentation(self) -> Augmentation {
        Augmentation {
            steps: self.set().augmentation.to_vec(),
        }
    }

    /// The published augmentation of images of `(height, width)` pixels: those that keep the size in the files are not
    /// cropped, as the published programs do.
    pub fn augmentation_at(self, size: (usize, usize)) -> Augmentation {
        self.fitted(self.augmentation(), size)
    }

    /// An augmentation of the padded images for those of `(height, width)` pixels; see [`augmentation_at`](Self::augmentation_at).
    pub fn fitted(self, mut recipe: Augmentation, size: (usize, usize)) -> Augmentation {
        let set = self.set();
        if set.pad > 0 && size == (set.side, set.side) {
            recipe.steps.retain(|s| !matches!(s, Step::Crop { .. }));
        }
        recipe
    }

    /// Height and width of the images as they are in the files.
    pub fn size(self) -> (usize, usize) {
        (self.set().side, self.set().side)
    }

    /// Height and width of the padded images.
    pub fn padded_size(self) -> (usize, usize) {
        let side = self.set().side + 2 * self.set().pad;
        (side, side)
    }

    /// What a file of the dataset must hold.
    pub(super) fn contents(self) -> Contents {
        let set = self.set();
        Contents {
            dataset: set.name,
            channels: set.channels,
            height: set.side,
            width: set.side,
            classes: set.classes.len(),
        }
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
        let fits = |known: &Self| {
            let set = known.set();
            set.name.eq_ignore_ascii_case(name)
                || set.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
        };
        (Self::ALL.into_iter().find(fits)).ok_or_else(|| DataError::UnknownDataset {
            name: shown(name),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

impl TryFrom<String> for DatasetName {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        name.parse()
    }
}

impl From<DatasetName> for String {
    fn from(name: DatasetName) -> Self {
        name.as_str().into()
    }
}
