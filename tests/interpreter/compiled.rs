//! Defects in the kernels' sources, compiled by nvcc: those of `kernels/defects.cuh` and `kernels/hopper/defects.cuh`, and wrong lines of
//! `kernels/ptx.cuh`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Kernels of one source, with the list of their defects.
struct Kernels {
    source: &'static str,
    architecture: &'static str,
    list: &'static str,
    /// the compiler's switch
    switch: &'static str,
}

const PORTABLE: Kernels = Kernels {
    source: "kernels.cu",
    architecture: "compute_80",
    list: "defects.cuh",
    switch: "EQPROP_DEFECT",
};
const HOPPER: Kernels = Kernels {
    source: "hopper.cu",
    architecture: "compute_90a",
    list: "hopper/defects.cuh",
    switch: "EQPROP_HOPPER_DEFECT",
};

/// A defect of some kernels.
pub struct Defect {
    pub name: String,
    of: &'static Kernels,
    how: How,
}

enum How {
    /// Its number in the list.
    Number(usize),
    /// What stands in `kernels/ptx.cuh`, and what stands there instead.
    Source(&'static str, &'static str),
}

/// Of the kernels that every GPU has.
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
        of: &PORTABLE,
        how: How::Source(from, to),
    });
    listed(&PORTABLE).chain(in_source).collect()
}

/// Of the kernels for Hopper alone.
pub fn for_hopper() -> Vec<Defect> {
    listed(&HOPPER).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn listed(of: &'static Kernels) -> impl Iterator<Item = Defect> {
    let text = std::fs::read_to_string(folder().join(of.list)).unwrap();
    let body = text
        .split("enum Defect : int {")
        .nth(1)
        .expect("the list of defects");
    let lines = body.split('}').next().unwrap().lines();
    let names = lines.map(|line| line.split("//").next().unwrap().trim());
    let names: Vec<String> = (names.filter(|name| !name.is_empty()))
        .map(|name| {
            let name = name.split(['=', ',']).next().unwrap();
            name.trim().to_lowercase().replace('_', " ")
        })
        .collect();
    names
        .into_iter()
        .zip(1..)
        .map(move |(name, number)| Defect {
            name,
            of,
            how: How::Number(number),
        })
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
                "-lineinfo",
                "-std=c++17",
                "-O3",
                "-DEQPROP_INTERPRETED",
            ])
            .arg(format!("-arch={}", self.of.architecture))
            .arg("-o")
            .arg(&out);
        match self.how {
            How::Number(number) => {
                command
                    .arg(format!("-D{}={number}", self.of.switch))
                    .arg(folder().join(self.of.source));
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
                command.arg(scratch.path().join(self.of.source));
            }
        }
        let output = command.output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaints}");
        std::fs::read_to_string(&out).unwrap()
    }
}
