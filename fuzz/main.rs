//! The readers of tests/readers/ under libFuzzer. The environment says which one reads, `EQPROP_READER=tar`; without it, their names are
//! printed. Whole files to begin with are put into the folder `EQPROP_CORPUS`, where that is given.

#![no_main]

#[path = "../tests/readers/files.rs"]
mod files;
#[path = "../tests/readers/promise.rs"]
mod promise;
#[path = "../tests/readers/readers.rs"]
mod readers;

use readers::{READERS, Reader};
use std::env;
use std::path::Path;
use std::process::exit;
use std::sync::LazyLock;

static READER: LazyLock<&Reader> = LazyLock::new(|| {
    let Ok(name) = env::var("EQPROP_READER") else {
        READERS
            .iter()
            .for_each(|reader| println!("{}", reader.name));
        exit(0);
    };
    let known = READERS.iter().find(|reader| reader.name == name);
    known.unwrap_or_else(|| {
        eprintln!(
            "EQPROP_READER={name}: there is no such reader; without it, their names are printed"
        );
        exit(2)
    })
});

fn begin() {
    let reader = *READER;
    if let Some(folder) = env::var_os("EQPROP_CORPUS") {
        readers::write_corpus(reader, Path::new(&folder));
    }
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    if let Some(objection) = promise::objection(*READER, bytes) {
        panic!("{}: {objection}", READER.name);
    }
});
