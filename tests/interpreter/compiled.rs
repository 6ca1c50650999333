//! Defects in the kernels' sources, compiled by nvcc: all of `kernels/defects.cuh`, and wrong lines of `kernels/ptx.cuh`.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Defect {
    pub name: String,
    how: How,
}

enum How {
    /// Its number in `kernels/defects.cuh`.
    Number(usize),
    /// What stands in `kernels/ptx.cuh`, and what stands there instead.
    Source(&'static str, &'static str),
}

pub fn defects() -> Vec<Defect> {
    let in_source = [
        (
            "operands b of a product exchanged in the source",
            "{%8,%9}",
            "{%9,%8}",
        ),
        (
            "a generic address where a shared one belongs, in the source",
            "static_cast<uint32_t>(__cvta_generic_to_shared(pointer))",
            "static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer))",
        ),
    ];
    let in_source = in_source.map(|(name, from, to)| Defect {
        name: name.to_string(),
        how: How::Source(from, to),
    });
    numbered().into_iter().chain(in_source).collect()
}

/// The first defect of `kernels/relax_hopper.cu`.
const OF_HOPPER: usize = 100;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn numbered() -> Vec<Defect> {
    let text = std::fs::read_to_string(folder().join("defects.cuh")).unwrap();
    let body = text
        .split("enum Defect : int {")
        .nth(1)
        .expect("the list of defects");
    let lines = body.split('}').next().unwrap().lines();
    let names = lines.map(|line| {
        line.split("//")
            .next()
            .unwrap()
            .trim()
            .trim_end_matches(',')
    });
    let mut number = 0;
    let mut defects = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        let (name, given) = name.split_once('=').unwrap_or((name, ""));
        number = given.trim().parse().unwrap_or(number + 1);
        // From here on they are of kernels that compute_80 has not.
        if number >= OF_HOPPER {
            break;
        }
        defects.push(Defect {
            name: name.trim().to_lowercase().replace('_', " "),
            how: How::Number(number),
        });
    }
    defects
}

impl Defect {
    /// What nvcc makes of the kernels with this defect.
    pub fn compile(&self) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("kernels.ptx");
        let mut command = Command::new(std::env::var_os("NVCC").expect("NVCC names the compiler"));
        command
            .args([
                "--ptx",
                "-arch=compute_80",
                "-lineinfo",
                "-std=c++17",
                "-O3",
                "-o",
            ])
            .arg(&out);
        match self.how {
            How::Number(number) => {
                command
                    .arg(format!("-DEQPROP_DEFECT={number}"))
                    .arg(folder().join("kernels.cu"));
            }
            How::Source(from, to) => {
                for entry in std::fs::read_dir(folder()).unwrap().flatten() {
                    if entry.path().is_file() {
                        std::fs::copy(entry.path(), scratch.path().join(entry.file_name()))
                            .unwrap();
                    }
                }
                let path = scratch.path().join("ptx.cuh");
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.contains(from), "ptx.cuh has no {from}");
                std::fs::write(&path, text.replace(from, to)).unwrap();
                command.arg(scratch.path().join("kernels.cu"));
            }
        }
        let output = command.output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaints}");
        std::fs::read_to_string(&out).unwrap()
    }
}
