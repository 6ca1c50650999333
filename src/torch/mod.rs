//! Files that `torch.save` wrote: a zip archive with a pickle (`data.pkl`) and one file per storage (`data/0` ..); and pickles that hold
//! their storages themselves.
//!
//! Reads lists of tensors, such as the published program's `model.pt`, dictionaries of them, such as a module's state, and objects that
//! contain either, such as a whole module. Nothing in a file is run: see `src/pickle`.

mod format;
mod model;
mod storages;

pub use model::{Saved, Tensors};

use crate::error::Error;
use crate::pickle;
use crate::pickle::malformed::{Context, Result, malformed};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use storages::Storages;
use zip::ZipArchive;

/// How a zip archive starts.
const ZIP: &[u8] = b"PK\x03\x04";
/// How a pickle of protocol 2 or higher starts.
const PICKLE: u8 = 0x80;
/// How what `torch.save` wrote before PyTorch 1.6 starts: with a pickle of one number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Reads the file at `path`.
///
/// # Errors
/// One line that names the file, and what it was expected to be.
pub fn read(path: &Path) -> Result<Saved, Error> {
    let mut file = File::open(path)
        .map_err(|e| Error::File(format!("cannot read {}: {e}", path.display())))?;
    let read = || -> Result<Saved> {
        let size = file.metadata().context("its size cannot be found")?.len();
        let mut start = Vec::new();
        (&mut file)
            .take(LEGACY.len() as u64)
            .read_to_end(&mut start)?;
        let is_pickle = start.first() == Some(&PICKLE) && start != LEGACY;
        if !(start.starts_with(ZIP) || is_pickle) {
            malformed!(
                "it is not an archive that torch.save writes since PyTorch 1.6; load an older file with PyTorch and save it again"
            );
        }
        if is_pickle {
            file.rewind()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let pickle = pickle::read(&bytes)?;
            return model::of(&pickle, Storages::none(size));
        }
        let archive = ZipArchive::new(file)
            .context("its archive is damaged or was cut off; copy it again")?;
        let mut storages = Storages::of(archive, size)?;
        let bytes = storages.pickle()?;
        let pickle = pickle::read(&bytes)?;
        model::of(&pickle, storages)
    };
    read().map_err(|e| Error::from(e).during(format!("{} cannot be used", path.display())))
}
