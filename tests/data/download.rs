//! Downloads end with the right file in its place, or with nothing and an error that says what to do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::data::*;
use eqprop_cuda::data::{DatasetName, Manifest, Plan, RemoteFile};
use md5::{Digest, Md5};
use tempfile::tempdir;

use DatasetName::{Cifar10, FashionMnist};

/// An HTTP server that answers each request with what `answer` makes of its path.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mirror", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(path) = request(&stream) {
                    let name = path.strip_prefix("/mirror/").unwrap_or("?").to_owned();
                    let answer = answer(&name);
                    seen.lock().unwrap().push(name);
                    let _ = (&stream).write_all(&answer);
                }
            }
        });
        Self { url, requests }
    }

    fn files(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        Self::start(move |path| match files.iter().find(|f| f.0 == path) {
            Some((_, data)) => response("200 OK", data.len(), data),
            None => response("404 Not Found", 4, b"gone"),
        })
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a request's head and returns its path.
fn request(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    for line in lines {
        if line.ok()?.is_empty() {
            break;
        }
    }
    first.split(' ').nth(1).map(str::to_owned)
}

fn response(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn md5(data: &[u8]) -> String {
    Md5::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A plan to download `files` from `base` into `folder`.
fn plan(name: DatasetName, folder: &Path, files: &[(&str, Vec<u8>)], base: &str) -> Plan {
    Plan {
        manifest: Manifest {
            dataset: name,
            base: base.to_owned(),
            files: files
                .iter()
                .map(|(name, data)| RemoteFile {
                    name: (*name).to_owned(),
                    md5: md5(data),
                })
                .collect(),
        },
        offline: false,
        ..only(name, folder)
    }
}

fn cifar_file() -> Vec<(&'static str, Vec<u8>)> {
    vec![(CIFAR10_ARCHIVE, gzip(&tar(&cifar10_members())))]
}

/// All files below `folder`.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_in(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_download_is_used_at_once_and_found_the_next_time() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(files.clone());
    let target = folder.path().join("not/there/yet");
    let mut plan = plan(Cifar10, &target, &files, &server.url);
    let splits = plan.load().unwrap();
    assert_eq!(splits.train.len(), 10);
    assert_eq!(files_in(folder.path()), [target.join(CIFAR10_ARCHIVE)]);
    plan.offline = true;
    assert_eq!(plan.load().unwrap(), splits);
    assert_eq!(server.requests(), [CIFAR10_ARCHIVE]);
}

#[test]
fn all_four_fashion_files_are_fetched_from_the_mirror() {
    let (folder, files) = (tempdir().unwrap(), fashion_files());
    let server = Server::files(files.clone());
    let plan = Plan {
        mirror: Some(format!("{}/", server.url)),
        ..plan(FashionMnist, folder.path(), &files, "http://127.0.0.1:1")
    };
    assert_eq!(plan.load().unwrap().train.len(), 7);
    let raw = folder.path().join("FashionMNIST/raw");
    assert!(files.iter().all(|(name, _)| raw.join(name).is_file()));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn the_cache_is_the_target_when_no_folder_is_named() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(files.clone());
    let plan = Plan {
        data_dir: None,
        cache: Some(folder.path().into()),
        ..plan(Cifar10, folder.path(), &files, &server.url)
    };
    plan.load().unwrap();
    assert_eq!(files_in(folder.path()).len(), 1);
}

#[test]
fn an_interrupted_set_is_completed() {
    let (folder, files) = (tempdir().unwrap(), fashion_files());
    let server = Server::files(files.clone());
    write_files(&folder.path().join("FashionMNIST/raw"), &files[..2]);
    let plan = plan(FashionMnist, folder.path(), &files, &server.url);
    plan.load().unwrap();
    assert_eq!(server.requests(), [TEST_IMAGES, TEST_LABELS]);
}

#[test]
fn a_part_of_other_files_is_not_completed() {
    let (folder, files) = (tempdir().unwrap(), fashion_files());
    let server = Server::files(files.clone());
    write_files(folder.path(), &[(TRAIN_IMAGES, gzip(&idx_images(9)))]);
    let plan = plan(FashionMnist, folder.path(), &files, &server.url);
    message(plan.load(), &[TRAIN_LABELS, "missing"]);
    assert!(server.requests().is_empty());
}

#[test]
fn offline_sends_no_request() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(files.clone());
    let plan = Plan {
        offline: true,
        ..plan(Cifar10, folder.path(), &files, &server.url)
    };
    message(
        plan.load(),
        &["offline", CIFAR10_ARCHIVE, folder.path().to_str().unwrap()],
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_wrong_checksum_leaves_nothing_behind() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(vec![(CIFAR10_ARCHIVE, b"something else".to_vec())]);
    let plan = plan(Cifar10, folder.path(), &files, &server.url);
    let put = folder.path().join(CIFAR10_ARCHIVE);
    message(
        plan.load(),
        &[
            &server.url,
            &md5(&files[0].1),
            &md5(b"something else"),
            put.to_str().unwrap(),
        ],
    );
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_refused_file_says_where_to_put_it() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(Vec::new());
    let plan = plan(Cifar10, folder.path(), &files, &server.url);
    let put = folder.path().join(CIFAR10_ARCHIVE);
    message(plan.load(), &[&server.url, "404", put.to_str().unwrap()]);
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_body_cut_short_leaves_nothing_behind() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let body = files[0].1.clone();
    let server = Server::start(move |_| response("200 OK", body.len(), &body[..body.len() / 2]));
    let plan = plan(Cifar10, folder.path(), &files, &server.url);
    message(
        plan.load(),
        &["cannot download", &server.url, CIFAR10_ARCHIVE],
    );
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_body_of_unknown_length_cut_short_leaves_nothing_behind() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let body = files[0].1.clone();
    let server = Server::start(move |_| {
        let head = b"HTTP/1.0 200 OK\r\n\r\n".as_slice();
        [head, &body[..body.len() / 2]].concat()
    });
    let plan = plan(Cifar10, folder.path(), &files, &server.url);
    message(plan.load(), &["MD5", &server.url]);
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn no_network_says_which_file_to_put_where() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let base = format!("http://{port}");
    let plan = plan(Cifar10, folder.path(), &files, &base);
    let put = folder.path().join(CIFAR10_ARCHIVE);
    message(plan.load(), &[&base, put.to_str().unwrap(), "--data-dir"]);
}

#[test]
fn published_manifests_have_a_sum_for_every_file() {
    for (name, files) in [(FashionMnist, 4), (Cifar10, 1), (DatasetName::Cifar100, 1)] {
        let manifest = Manifest::published(name);
        assert_eq!(manifest.files.len(), files);
        assert!(manifest.files.iter().all(|f| f.md5.len() == 32));
        assert!(manifest.base.starts_with("http"));
    }
}

#[test]
fn a_server_that_sends_too_much_is_given_up() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let announced = Server::start(|_| response("200 OK", 3 << 20, &[0; 1000]));
    let silent = Server::start(|_| [b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &[0; 3 << 20]].concat());
    for server in [announced, silent] {
        let plan = plan(Cifar10, folder.path(), &files, &server.url);
        message(plan.load(), &["larger than 1048576 bytes", &server.url]);
        assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_interrupted_download_leaves_nothing_behind() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(files.clone());
    let plan = Plan {
        stop: || true,
        ..plan(Cifar10, folder.path(), &files, &server.url)
    };
    message(plan.load(), &["interrupted", &server.url]);
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

/// A download that goes on holds a lock on its file.
#[test]
fn what_a_killed_download_left_is_removed() {
    let (folder, files) = (tempdir().unwrap(), cifar_file());
    let server = Server::files(files.clone());
    let left = folder.path().join(".download-Ab12.part");
    let growing = folder.path().join(".download-Cd34.part");
    for path in [&left, &growing] {
        fs::write(path, "half").unwrap();
    }
    let other = fs::File::open(&growing).unwrap();
    other.try_lock().unwrap();
    plan(Cifar10, folder.path(), &files, &server.url)
        .load()
        .unwrap();
    assert!(!left.exists() && growing.exists());
}
