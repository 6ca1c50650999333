//! The formats that datasets are published in, a file each: from bytes to labelled images, without trusting any of them.
//!
//! Whatever a header claims, no more is allocated than a dataset can hold.

pub mod cifar;
pub(crate) mod classes;
mod contents;
pub mod idx;
pub(crate) mod mat;
pub(crate) mod npy;
mod python;
pub(crate) mod read;

pub use contents::Contents;

/// How the files of a dataset are read, and where they usually lie.
pub enum Format {
    /// Whatever layout is found in the folder that the user names.
    Own,
    /// Four idx files inside the program: training images, training labels, test images, test labels.
    Embedded(&'static [(&'static str, &'static [u8]); 4]),
    /// Four idx files, with or without `.gz`, in one of these folders; downloads go to the first.
    Idx {
        /// relative to the data folder
        folders: &'static [&'static str],
    },
    /// An archive, or its unpacked folder, in one of these layouts; the first is the one that is downloaded.
    Cifar(&'static [cifar::Layout]),
    /// A file of MATLAB with training images and one with test images, in one of these folders; downloads go to the first.
    Mat {
        /// below the folder that is searched
        folders: &'static [&'static str],
    },
}
