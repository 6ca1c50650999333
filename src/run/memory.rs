//! How much memory a run has used.

use crate::cuda;

const KIB_PER_MIB: f64 = 1024.0;

/// The most that the run has had in use so far, in MiB: device memory when it computes on a GPU, else the resident size of
/// the process, where the system tells it (Linux).
pub fn peak_mib() -> Option<f64> {
    let device_bytes = cuda::peak_bytes();
    if device_bytes > 0 {
        return Some(device_bytes as f64 / KIB_PER_MIB / 1024.0);
    }
    of_process("VmHWM:")
}

/// The resident size of the process now, in MiB, where the system tells it (Linux).
pub fn resident_mib() -> Option<f64> {
    of_process("VmRSS:")
}

fn of_process(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / KIB_PER_MIB)
}
