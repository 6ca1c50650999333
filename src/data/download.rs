//! Fetching a file so that it is either there and right, or not there.
//!
//! The bytes go to a temporary file in the target folder, which gets its name only when the MD5 sum is right; it vanishes in
//! every other case.

use std::fs::{self, TryLockError};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};

use super::DataError;
use crate::shown::shown;

/// A server that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// More than any dataset's file has: a server that sends more, announced or not, is given up before the disk is full.
pub(super) const LARGEST: u64 = 2 << 30;
/// Leftovers of downloads that were killed are removed after so long where no lock says whether another process is at it.
const STALE: Duration = Duration::from_secs(3600);

/// Downloads `url` to `path`, whose folder is created if needed, and checks its MD5 sum (lower-case hexadecimal). It ends early, with
/// an error, when `stop` says so.
pub(super) fn fetch(
    url: &str,
    md5: &str,
    largest: u64,
    stop: fn() -> bool,
    path: &Path,
) -> Result<(), DataError> {
    let failed = |reason: String| DataError::Download {
        url: url.to_owned(),
        reason,
        put: path.to_owned(),
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build()
        .into();
    let response = agent
        .get(url)
        // Some servers "compress" a .gz file once more in transit; we want the file itself.
        .header("Accept-Encoding", "identity")
        .call()
        .map_err(|e| failed(shown(e.to_string())))?;
    let body = response.into_body();
    let length = body.content_length();
    let too_large = |bytes| failed(format!("it is larger than {largest} bytes: {bytes}"));
    if let Some(length) = length.filter(|&length| length > largest) {
        return Err(too_large(format!("{length} are announced")));
    }

    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    remove_stale(folder);
    let mut partial = temporary(folder).map_err(DataError::io(folder))?;
    // Says that it is no leftover, where files can be locked.
    let _ = partial.as_file().try_lock();
    let bar = progress(length, path);
    let mut reader = body.into_reader();
    let mut sum = Md5::new();
    let mut received = 0u64;
    let mut buffer = vec![0; 1 << 16];
    loop {
        if stop() {
            return Err(failed(format!("interrupted after {received} bytes")));
        }
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(format!("after {received} bytes: {e}"))),
        };
        received += n as u64;
        if received > largest {
            return Err(too_large("the transfer was given up".into()));
        }
        sum.update(&buffer[..n]);
        partial
            .write_all(&buffer[..n])
            .map_err(DataError::io(path))?;
        bar.set_position(received);
    }
    bar.finish_and_clear();
    if let Some(length) = length.filter(|&length| length != received) {
        return Err(failed(format!(
            "the transfer ended after {received} of {length} bytes"
        )));
    }
    let found = hex(sum);
    if found != md5 {
        return Err(DataError::Checksum {
            url: url.to_owned(),
            expected: md5.to_owned(),
            found,
            put: path.to_owned(),
        });
    }
    partial
        .persist(path)
        .map_err(|e| DataError::io(path)(e.error))?;
    Ok(())
}

/// The MD5 sum of a file, in lower-case hexadecimal.
pub(super) fn md5_of(path: &Path) -> Result<String, DataError> {
    let mut file = fs::File::open(path).map_err(DataError::io(path))?;
    let mut sum = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(DataError::io(path))? {
            0 => return Ok(hex(sum)),
            n => sum.update(&buffer[..n]),
        }
    }
}

fn hex(sum: Md5) -> String {
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".download-").suffix(".part");
    #[cfg(unix)]
    {
        // Temporary files are private by default, but this one becomes a dataset that others may share.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o644));
    }
    builder.tempfile_in(folder)
}

/// Removes what killed downloads left in `folder`. What cannot be removed stays: it is in nobody's way.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(".download-") && name.ends_with(".part");
        if ours && is_leftover(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_leftover(partial: &fs::DirEntry) -> bool {
    let Ok(data) = partial.metadata() else {
        return false;
    };
    let lock = || fs::File::open(partial.path()).map(|file| file.try_lock());
    match lock() {
        // A pipe, say.
        _ if !data.is_file() => false,
        Ok(Ok(())) => true,
        Ok(Err(TryLockError::WouldBlock)) => false,
        _ => data
            .modified()
            .is_ok_and(|then| then.elapsed().is_ok_and(|age| age > STALE)),
    }
}

/// A bar on the terminal, or nothing when the output goes elsewhere.
fn progress(length: Option<u64>, path: &Path) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    bar.with_message(name.into_owned())
}
