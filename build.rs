//! Compiles the kernels: by nvcc into a fat binary that the executable carries, and, for the feature `emulation`, by the
//! C++ compiler. Without nvcc the build succeeds and makes a CPU-only binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ampere (data centre, desktop), Ada, Hopper with its own instructions, Blackwell (data centre, desktop).
const ARCHITECTURES: &str = "80,86,89,90a,100,120";
/// What a GPU that has no image of its own gets: compiled by its driver when the program starts.
const PORTABLE: &str = "80";
/// Has instructions of its own: `kernels/hopper.cu` is for it alone.
const HOPPER: &str = "90a";
/// Narrows [`ARCHITECTURES`], for a faster build during development.
const ARCHITECTURES_VARIABLE: &str = "EQPROP_CUDA_ARCHS";

fn main() {
    watch_sources(Path::new("kernels"));
    println!("cargo:rerun-if-changed=build.rs");
    for variable in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "VIRTUAL_ENV",
        ARCHITECTURES_VARIABLE,
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_EMULATION").is_some() {
        compile_emulation();
    }
    match find_nvcc() {
        Some(nvcc) => {
            let architectures = compile_fat_binary(&nvcc);
            compile_while_node(&nvcc, &architectures);
            if env::var_os("CARGO_FEATURE_INTERPRETER").is_some() {
                compile_ptx(&nvcc, PORTABLE, "kernels.cu", "kernels.ptx", "eqprop_ptx");
                if known_architectures(&nvcc).iter().any(|a| a == HOPPER) {
                    compile_ptx(
                        &nvcc,
                        HOPPER,
                        "hopper.cu",
                        "hopper.ptx",
                        "eqprop_hopper_ptx",
                    );
                }
            }
        }
        None => println!(
            "cargo:warning=no nvcc was found (NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda, pip's nvidia-cuda-nvcc): \
             this build has no CUDA backend"
        ),
    }
}

/// What the compilers read, and not the documents beside it. A new file is included by one of these.
fn watch_sources(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("kernels/ can be read") {
        let path = entry.expect("kernels/ can be read").path();
        let is_source = |e: &std::ffi::OsStr| ["cu", "cuh", "cpp", "h"].iter().any(|s| e == *s);
        if path.is_dir() {
            watch_sources(&path);
        } else if path.extension().is_some_and(is_source) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
}

fn compile_emulation() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // The tests run whole phases through this, in debug builds too.
        .opt_level(3)
        .define("EQPROP_EMULATION", None)
        .flag("-xc++")
        .flag_if_supported("-Wno-unknown-pragmas")
        .file("kernels/kernels.cu")
        .file("kernels/emulation/runtime.cpp")
        .compile("eqprop_emulation");
}

/// All kernels but one, for all architectures that are wanted and known, which are returned.
fn compile_fat_binary(nvcc: &Path) -> Vec<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let architectures = env::var(ARCHITECTURES_VARIABLE).unwrap_or(ARCHITECTURES.to_string());
    let known = known_architectures(nvcc);
    let wanted = architectures.split(',').map(str::trim);
    // An older toolkit does not know the newest GPUs: they get the portable code then.
    let (chosen, unknown): (Vec<_>, Vec<_>) =
        wanted.partition(|a| known.is_empty() || known.iter().any(|k| k == a));
    if !unknown.is_empty() {
        println!(
            "cargo:warning={} does not know sm_{}: those GPUs will compile the kernels when the program starts",
            nvcc.display(),
            unknown.join(", sm_")
        );
    }
    let mut command = fat_binary(nvcc, &chosen);
    command
        .arg("-o")
        .arg(out.join("kernels.fatbin"))
        .arg("kernels/kernels.cu");
    match command.output() {
        Ok(output) if output.status.success() => {
            println!("cargo:rustc-cfg=eqprop_kernels");
            println!(
                "cargo:rustc-env=EQPROP_KERNEL_ARCHITECTURES={}",
                chosen.join(",")
            );
            chosen.into_iter().map(str::to_string).collect()
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            panic!("{} failed:\n{text}", nvcc.display());
        }
        Err(error) => panic!("{} could not be run: {error}", nvcc.display()),
    }
}

/// `kernels/while_node.cu` as a module of its own, for the same architectures: it calls what only toolkits and drivers of CUDA 12.4 and
/// later know.
fn compile_while_node(nvcc: &Path, architectures: &[String]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut command = fat_binary(nvcc, architectures);
    command
        .arg("-o")
        .arg(out.join("while_node.fatbin"))
        .arg("kernels/while_node.cu");
    let why = match command.output() {
        Ok(output) if output.status.success() => {
            println!("cargo:rustc-cfg=eqprop_while_node");
            return;
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let why = (why.lines().find(|line| line.contains("error"))).unwrap_or("nvcc failed");
    println!(
        "cargo:warning=no loops inside graphs, which need a toolkit of CUDA 12.4 or later ({why}): the host will ask whether phases \
         with a tolerance have ended"
    );
}

/// The beginning of a command that compiles for these architectures, and portably.
fn fat_binary(nvcc: &Path, architectures: &[impl AsRef<str>]) -> Command {
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-std=c++17", "-O3", "--threads", "0"]);
    for a in architectures.iter().map(AsRef::as_ref) {
        command.arg(format!("-gencode=arch=compute_{a},code=sm_{a}"));
    }
    command.arg(format!(
        "-gencode=arch=compute_{PORTABLE},code=compute_{PORTABLE}"
    ));
    command
}

/// Code as text, with the source lines, for the interpreter; then `cfg` is set.
fn compile_ptx(nvcc: &Path, architecture: &str, source: &str, name: &str, cfg: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut command = Command::new(nvcc);
    command
        .args([
            "--ptx",
            "-lineinfo",
            "-std=c++17",
            "-O3",
            "-DEQPROP_INTERPRETED",
        ])
        .arg(format!("-arch=compute_{architecture}"))
        .arg("-o")
        .arg(out.join(name))
        .arg(Path::new("kernels").join(source));
    match command.output() {
        Ok(output) if output.status.success() => println!("cargo:rustc-cfg={cfg}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            panic!("{} --ptx failed:\n{text}", nvcc.display());
        }
        Err(error) => panic!("{} could not be run: {error}", nvcc.display()),
    }
}

/// What `nvcc --list-gpu-code` lists, without `sm_`; empty when it cannot be asked.
fn known_architectures(nvcc: &Path) -> Vec<String> {
    let Ok(output) = Command::new(nvcc).arg("--list-gpu-code").output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let plain: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("sm_"))
        .collect();
    // A toolkit that compiles sm_90 compiles its architecture-specific variant, whether it lists it or not.
    let variants = plain
        .iter()
        .filter(|a| !a.ends_with('a'))
        .map(|a| format!("{a}a"));
    plain
        .iter()
        .map(|a| a.to_string())
        .chain(variants)
        .collect()
}

/// The places where a toolkit is usually found, the explicit ones first.
fn find_nvcc() -> Option<PathBuf> {
    // An NVCC that is set is an order: `NVCC=` (empty) asks for a build without CUDA.
    if let Some(nvcc) = env::var_os("NVCC") {
        return (!nvcc.is_empty()).then(|| PathBuf::from(nvcc));
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os);
    let in_homes = homes.map(|home| PathBuf::from(home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join("nvcc"));
    let usual = [PathBuf::from("/usr/local/cuda/bin/nvcc")];
    in_homes
        .chain(in_path.collect::<Vec<_>>())
        .chain(usual)
        .chain(
            site_packages()
                .into_iter()
                .flat_map(|dir| pip_toolkit(&dir)),
        )
        .find(|nvcc| nvcc.is_file())
}

/// Where pip puts packages: the active environment, the project's own, and python3's.
fn site_packages() -> Vec<PathBuf> {
    let environments = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = environments.into_iter().chain([PathBuf::from(".venv")]);
    let mut found: Vec<PathBuf> = environments
        .filter_map(|home| std::fs::read_dir(home.join("lib")).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .collect();
    let ask = Command::new("python3")
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_paths()['purelib'])",
        ])
        .output();
    if let Ok(output) = ask {
        found.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    found
}

/// `nvidia/cu13/bin/nvcc`, whatever the major version.
fn pip_toolkit(site_packages: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(site_packages.join("nvidia")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/nvcc")))
        .filter(|nvcc| nvcc.is_file())
        .collect();
    found.sort();
    found.reverse();
    found
}
