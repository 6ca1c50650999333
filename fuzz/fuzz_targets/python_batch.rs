#![no_main]

#[path = "../../tests/readers/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::read("python_batch", bytes));
