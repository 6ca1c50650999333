//! Damaged files of every kind: an error of one line or a value, never a panic, and no more memory than the file is worth.
//!
//! The damage is drawn from a fixed seed. `EQPROP_MUTANTS` says how many damaged files each reader gets; `fuzz/` searches for more.

mod files;
mod promise;
mod readers;

use promise::{objection, peak_of};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use readers::READERS;

/// Damaged files for each reader.
const MUTANTS: usize = 200;
/// One to three accidents.
fn damaged(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + rng.next_u32() % 3 {
        let length = bytes.len().max(1);
        let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
        let at = below(length);
        let (from, long) = (below(length), 1 + below(16));
        let huge = [0, 1, 0x7f, 0x80, 0xff, 0xfe, b'9', b'-', b'"', b'\n', 0x1b][below(11)];
        match below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            2 if !bytes.is_empty() => bytes[at] = huge,
            // A size of four or eight bytes.
            3 => {
                let end = (at + [4, 8][below(2)]).min(bytes.len());
                bytes[at.min(end)..end].fill(huge);
            }
            4 => {
                let end = (at + long).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let end = (from + 8 * long).min(bytes.len());
                let piece = bytes[from.min(end)..end].to_vec();
                let at = at.min(bytes.len());
                bytes.splice(at..at, piece);
            }
            _ => {
                let at = at.min(bytes.len());
                bytes.splice(at..at, vec![huge; long]);
            }
        }
    }
    bytes
}

#[test]
fn what_is_whole_is_read() {
    for reader in READERS {
        for bytes in (reader.corpus)() {
            let folder = tempfile::tempdir().unwrap();
            let read = (reader.read)(folder.path(), &bytes);
            assert_eq!(read, Ok(()), "{}", reader.name);
        }
    }
}

#[test]
fn damaged_files_are_errors_of_one_line() {
    let mutants = std::env::var("EQPROP_MUTANTS").map_or(MUTANTS, |n| n.parse().unwrap());
    let mut found = Vec::new();
    for reader in READERS {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let corpus = (reader.corpus)();
        for (i, whole) in corpus.iter().cycle().take(mutants).enumerate() {
            let bytes = damaged(whole, &mut rng);
            if let Some(objection) = objection(reader, &bytes) {
                let file = std::env::temp_dir().join(format!("eqprop-{}-{i}", reader.name));
                std::fs::write(&file, &bytes).unwrap();
                found.push(format!("{} {}: {objection}", reader.name, file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names within files come back in messages as a terminal may print them.
#[test]
fn names_with_control_characters_are_escaped() {
    for (name, plain, damaged) in [
        (
            "checkpoint_state",
            "\"from\":\"h1b\"",
            "\"from\":\"\u{7f}h1b\"",
        ),
        ("settings", "fast-cifar10", "fast\tcifar10"),
        ("golden", "\"F64\"", "\"F6\u{7f}\""),
        ("pickle", "X\u{1}\0\0\x000", "X\u{1}\0\0\0\u{17}"),
    ] {
        let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
        let mut tried = 0;
        for whole in (reader.corpus)() {
            let found = whole
                .windows(plain.len())
                .position(|w| w == plain.as_bytes());
            let Some(at) = found else { continue };
            let bytes = [&whole[..at], damaged.as_bytes(), &whole[at + plain.len()..]].concat();
            assert_eq!(objection(reader, &bytes), None, "{name}");
            tried += 1;
        }
        assert!(tried > 0, "{name}");
    }
}

/// A text that stands where something else belongs is repeated in part.
#[test]
fn long_texts_are_cut() {
    let reader = READERS.iter().find(|reader| reader.name == "safetensors");
    let reader = reader.unwrap();
    for mut bytes in (reader.corpus)() {
        // Where the header has metadata, the description of a tensor is expected now, and the whole state of a run found.
        let lost = b"metadata__\":{\"eqprop-";
        let at = bytes.windows(lost.len()).position(|w| w == lost).unwrap();
        bytes.drain(at..at + lost.len());
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) - lost.len() as u64;
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(objection(reader, &bytes), None);
    }
}

/// The measure finds what it is for.
#[test]
fn memory_is_counted() {
    let (_, peak) = peak_of(|| drop(vec![1u8; 80 << 20]));
    assert!(peak >= 80 << 20);
    let (_, peak) = peak_of(|| ());
    assert_eq!(peak, 0);
}
