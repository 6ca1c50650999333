//! Files that are either the old ones or the new ones, whatever happens.

use crate::error::{Context, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Replaces the file at `path`: the bytes are written to a new file beside it, brought to the disk, and renamed. On an
/// error (a full disk) the old file stays and the partial one is removed.
///
/// # Errors
/// When the file cannot be written: its name, and why.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, |file| file.write_all(bytes))
}

fn put(path: &Path, content: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let partial = partial_path(path);
    let written = write(&partial, content).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // What counts is the error that comes first.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder(path);
    Ok(())
}

/// The same with `bytes` at the end of what is there, which is not read into memory.
///
/// # Errors
/// When a file cannot be read or written: its name, and why.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, |file| {
        match File::open(path) {
            Ok(mut old) => std::io::copy(&mut old, file).map(|_| ())?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        file.write_all(bytes)
    })
}

/// The fixed name means that a killed run leaves at most one such file, which the next save removes.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

fn write(
    path: &Path,
    content: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Not what is there: a link of that name, in a folder from somebody else, would lead the bytes anywhere.
    let mut file = File::create_new(path)?;
    content(&mut file)?;
    file.sync_all()
}

/// A rename is on the disk once its folder is. Some systems cannot open a folder; they lose nothing but this certainty.
fn sync_folder(path: &Path) {
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        append(&path, b"er").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        append(&folder.path().join("other"), b"first").unwrap();
        assert_eq!(fs::read(folder.path().join("other")).unwrap(), b"first");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        fs::create_dir(partial_path(&path)).unwrap();
        replace(&path, b"new").unwrap_err();
        append(&path, b"er").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_partial_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, precious) = (folder.path().join("file"), folder.path().join("precious"));
        fs::write(&precious, "mine").unwrap();
        std::os::unix::fs::symlink(&precious, partial_path(&path)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"mine");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
