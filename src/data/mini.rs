//! The subset of Fashion-MNIST that is part of the program: 5,000 + 1,000 pictures, as many of each class.
//!
//! `assets/fashion-mnist-mini` says where it comes from and under which licence.

use std::io::Cursor;
use std::path::Path;

use super::{DataError, DatasetName, Splits, idx, read};

macro_rules! embedded {
    ($file:literal) => {
        (
            Path::new(concat!("fashion-mnist-mini/", $file)),
            include_bytes!(concat!("../../assets/fashion-mnist-mini/", $file)).as_slice(),
        )
    };
}

/// Reads the embedded files.
pub(super) fn load() -> Result<Splits, DataError> {
    let pair = |(images_path, images), (labels_path, labels)| {
        let mut images = read::decompress(Box::new(Cursor::<&[u8]>::new(images)), images_path)?;
        let mut labels = read::decompress(Box::new(Cursor::<&[u8]>::new(labels)), labels_path)?;
        idx::parse_pair(
            DatasetName::FashionMnistMini,
            (images_path, &mut *images),
            (labels_path, &mut *labels),
        )
    };
    Ok(Splits {
        train: pair(
            embedded!("train-images-idx3-ubyte.gz"),
            embedded!("train-labels-idx1-ubyte.gz"),
        )?,
        test: pair(
            embedded!("t10k-images-idx3-ubyte.gz"),
            embedded!("t10k-labels-idx1-ubyte.gz"),
        )?,
    })
}
