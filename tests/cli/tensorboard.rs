//! `--tensorboard`: the bytes of event files, and which files a run has.
//!
//! `tests/track/read_events.py` reads a run with the real `tensorboard` package; here its expectations are kept as bytes.

use crate::support::program::{self, TINIEST as TINY, eqprop};
use assert_cmd::Command;
use eqprop_cuda::track::event::{Setting, What, frame};
use eqprop_cuda::track::histogram::Histogram;
use std::fs;
use std::path::{Path, PathBuf};

fn train(folder: &Path, arguments: &str) -> Command {
    eqprop(folder, &format!("train {arguments}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `tensorboard.summary.writer.record_writer.RecordWriter` writes for these events.
#[test]
fn events_are_those_of_the_tensorboard_package() {
    let version =
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
    assert_eq!(hex(&frame(1.5, 0, &What::FileVersion)), version);
    let start = "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a";
    assert_eq!(hex(&frame(1.5, 300, &What::Start)), start);
    let values = [("cost/train".to_string(), 0.25), ("e".to_string(), -1e-3)];
    let scalars = "2a00000000000000ae8d91f50900001040fc54d94110032a1d0a110a0a636f73742f747261696e150000803e0a080a\
                   0165156f1283ba4403a943";
    assert_eq!(
        hex(&frame(1_700_000_000.25, 3, &What::Scalars(&values))),
        scalars
    );
}

const SETTINGS: &str = "09000000000000f83f10022a6d0a6b0a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f4a4b0a490a\
                        0768706172616d73123e1a3c0a110a0462657461120911000000000000e03f0a110a046d6f646512091a07666f7277617264\
                        0a0b0a0577616e64621202200129000000000000f83f";
const SUCCESS: &str = "09000000000000f83f10022a3a0a380a1a5f68706172616d735f2f73657373696f6e5f656e645f696e666f4a1a0a180a0768\
                       706172616d73120d220b080111000000000000f83f";
const HISTOGRAMS: &str = "09000000000000f83f10022a690a670a12706172616d657465722f7765696768742e302a5109000000000000f0bf11000000\
                          000000004019000000000000084021000000000000f83f2900000000000015403210000000000000e03f0000000000000040\
                          3a10000000000000f03f0000000000000040";

/// What the messages of the package (`Summary`, `HParamsPluginData`) are read as is checked by `tests/track/read_events.py`; here the
/// bytes that `SerializeToString` of the package gives for the same events.
#[test]
fn settings_and_histograms_are_those_of_the_tensorboard_package() {
    let body = |what: &What| {
        let bytes = frame(1.5, 2, what);
        hex(&bytes[12..bytes.len() - 4])
    };
    let settings = [
        ("beta".to_string(), Setting::Number(0.5)),
        ("mode".to_string(), Setting::Text("forward".into())),
        ("wandb".to_string(), Setting::Switch(true)),
    ];
    assert_eq!(body(&What::Settings(&settings)), SETTINGS);
    assert_eq!(body(&What::Success), SUCCESS);
    let histogram = Histogram {
        min: -1.0,
        max: 2.0,
        count: 3.0,
        sum: 1.5,
        sum_of_squares: 5.25,
        limits: vec![0.5, 2.0],
        counts: vec![1.0, 2.0],
    };
    let histograms = [("parameter/weight.0".to_string(), histogram)];
    assert_eq!(body(&What::Histograms(&histograms)), HISTOGRAMS);
}

/// The values that RFC 3720, appendix B.4, gives for the checksum within the frame's mask.
#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c::crc32c(&ascending), 0x46dd_794e);
}

/// An event, as far as this test reads it.
#[derive(Debug, PartialEq)]
struct Event {
    step: u64,
    /// field number of what it says
    field: u64,
    content: Vec<u8>,
}

/// Reads a file of frames whose checksums are right.
fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let masked = |bytes: &[u8]| {
            let crc = crc32c::crc32c(bytes);
            crc.rotate_left(17).wrapping_add(0xa282_ead8).to_le_bytes()
        };
        let (length, after) = rest.split_at(8);
        assert_eq!(after[..4], masked(length));
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (message, after) = after[4..].split_at(length);
        assert_eq!(after[..4], masked(message));
        rest = &after[4..];
        events.push(event(message));
    }
    events
}

fn event(message: &[u8]) -> Event {
    let mut rest = message;
    let varint = |rest: &mut &[u8]| {
        let mut value = 0;
        for i in 0.. {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                break;
            }
        }
        value
    };
    let mut event = Event {
        step: 0,
        field: 0,
        content: Vec::new(),
    };
    while !rest.is_empty() {
        match varint(&mut rest) {
            // wall_time
            9 => rest = &rest[8..],
            // step
            16 => event.step = varint(&mut rest),
            key => {
                assert_eq!(key & 7, 2, "a message or a text");
                let length = varint(&mut rest) as usize;
                event.field = key >> 3;
                event.content = rest[..length].to_vec();
                rest = &rest[length..];
            }
        }
    }
    event
}

/// The event files of a run in the order in which TensorBoard reads them.
fn files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| is_event_file(path)).collect();
    files.sort();
    files
}

fn is_event_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.starts_with("events.out.tfevents.")
}

/// What an event of a file is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Version,
    Start,
    Settings,
    Scalars,
    Histograms,
    End,
}
use Kind::{End, Histograms, Scalars, Settings, Start, Version};

fn has(event: &Event, name: &str) -> bool {
    let name = name.as_bytes();
    event.content.windows(name.len()).any(|part| part == name)
}

fn kind(event: &Event) -> Kind {
    match event.field {
        3 => Version,
        7 => Start,
        5 if has(event, "_hparams_/session_start_info") => Settings,
        5 if has(event, "_hparams_/session_end_info") => End,
        5 if has(event, "parameter/bias.1") => Histograms,
        5 => Scalars,
        other => panic!("field {other}"),
    }
}

/// Step and kind of every event of a file.
fn steps(path: &Path) -> Vec<(u64, Kind)> {
    events(path).iter().map(|e| (e.step, kind(e))).collect()
}

#[test]
fn a_resumed_run_goes_on_in_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(folder.path(), &format!("{TINY} --tensorboard --output run"))
        .assert()
        .success();
    let first = files(&run);
    assert_eq!(first.len(), 1);
    let both = [(1, Scalars), (1, Histograms), (2, Scalars), (2, Histograms)];
    let whole = [&[(0, Version), (0, Settings)], &both[..], &[(2, End)]].concat();
    assert_eq!(steps(&first[0]), whole);
    let written = events(&first[0]);
    assert_eq!(written[0].content, b"brain.Event:2");
    for setting in ["beta", "network", "hopfieldresnet13", "channels"] {
        assert!(has(&written[1], setting), "{setting}");
    }
    // The choice stays with the run.
    train(folder.path(), "--resume run --epochs 3")
        .assert()
        .success();
    // From an earlier point: what came after is trained again, and TensorBoard told so.
    fs::copy(run.join("last.safetensors"), run.join("third.safetensors")).unwrap();
    train(folder.path(), "--resume run --epochs 5")
        .assert()
        .success();
    train(folder.path(), "--resume run/third.safetensors --epochs 4")
        .assert()
        .success();
    let all = files(&run);
    assert_eq!(all.len(), 4);
    assert_eq!(
        all[0], first[0],
        "later files come later, within a second too"
    );
    let one = |epoch| {
        let ends = [(epoch, Scalars), (epoch, Histograms), (epoch, End)];
        [&[(0, Version), (epoch, Start)], &ends[..]].concat()
    };
    assert_eq!(steps(&all[1]), one(3));
    let both = [(4, Scalars), (4, Histograms), (5, Scalars), (5, Histograms)];
    let twice = [&[(0, Version), (4, Start)], &both[..], &[(5, End)]].concat();
    assert_eq!(steps(&all[2]), twice);
    assert_eq!(steps(&all[3]), one(4));
    train(folder.path(), "--resume run --epochs 5 --tensorboard=false")
        .assert()
        .success();
    assert_eq!(files(&run).len(), 4);
}

/// A run of a version before tracking: its checkpoint and its metrics are read, and its epoch is in the event file too.
#[test]
fn an_older_run_is_tracked_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/track/older_run");
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    for file in ["last.safetensors", "metrics.jsonl"] {
        fs::copy(older.join(file), run.join(file)).unwrap();
    }
    train(
        folder.path(),
        "--resume run --epochs 2 --tensorboard --offline",
    )
    .assert()
    .success();
    let files = files(&run);
    // Nobody knows the parameters after the first epoch any more.
    let epochs = [(1, Scalars), (2, Scalars), (2, Histograms), (2, End)];
    let whole = [&[(0, Version), (0, Settings)], &epochs[..]].concat();
    assert_eq!(steps(&files[0]), whole);
    let events = events(&files[0]);
    assert!(has(&events[2], "cost/test") && has(&events[3], "cost/test"));
    assert!(!has(&events[2], "saturation/h1a/test"), "not measured then");
    assert!(has(&events[3], "saturation/h1a/test"));
}

#[test]
fn a_damaged_file_is_left_alone_and_the_folder_of_an_older_version_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(folder.path(), &format!("{TINY} --tensorboard --output run"))
        .assert()
        .success();
    // A session that was killed while it wrote: TensorBoard reads up to there, then the next file.
    let first = files(&run).remove(0);
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 5]).unwrap();
    fs::write(run.join("events.out.tfevents.x"), "").unwrap();
    train(folder.path(), "--resume run --epochs 3")
        .assert()
        .success();
    let second = &files(&run)[1];
    let epoch = [(3, Scalars), (3, Histograms), (3, End)];
    assert_eq!(
        steps(second),
        [&[(0, Version), (3, Start)], &epoch[..]].concat()
    );
    assert_eq!(fs::read(&first).unwrap().len(), bytes.len() - 5);

    // Versions before had a folder for them, and the series is to stay in one.
    let older = run.join("tensorboard");
    fs::create_dir(&older).unwrap();
    for file in files(&run) {
        fs::rename(&file, older.join(file.file_name().unwrap())).unwrap();
    }
    train(folder.path(), "--resume run --epochs 4")
        .assert()
        .success();
    assert_eq!(files(&run), Vec::<PathBuf>::new());
    let third = &files(&older)[2];
    assert_eq!(steps(third)[..2], [(0, Version), (4, Start)]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_in_mid_run_is_a_warning() {
    // The limit is on the size of a file: the event file is the only one that grows beyond 24 KiB.
    let folder = tempfile::tempdir().unwrap();
    let program = program::path();
    let script = format!(
        "ulimit -f 24; exec {} train {TINY} --epochs 12 --tensorboard --output run",
        program.display()
    );
    let output = Command::new("bash")
        .current_dir(folder.path())
        .args(["-c", &script])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("warning: --tensorboard").count(), 1, "{text}");
    let metrics = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 12);
}
