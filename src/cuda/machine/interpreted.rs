//! The interpreter as a [`Device`]: the PTX that nvcc made of the kernels, executed on the CPU (`ptx-interpreter/`).
//!
//! Every launch is checked: addresses, alignment, reads of what nobody wrote, races, barriers. EQPROP_INTERPRETER changes
//! how it runs; see [`Settings`].

use super::abi::EqPhase;
use super::capabilities::{Capabilities, clusters_wanted, hopper_wanted, loops_wanted};
use super::device::{Device, KernelSpec, Recording};
use super::error::CudaError;
use super::played::Recorder;
use super::tensor_map::{self, TensorMap};
use crate::error::{Error, Result};
use ptx_interpreter::{Memory, Module, Options, Report, Sums, Swizzle};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What build.rs let nvcc make of `kernels/`.
#[cfg(eqprop_ptx)]
const PTX: Option<&str> = Some(include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx")));
#[cfg(not(eqprop_ptx))]
const PTX: Option<&str> = None;

/// The same of the kernels for Hopper alone.
#[cfg(eqprop_hopper_ptx)]
const HOPPER_PTX: Option<&str> = Some(include_str!(concat!(env!("OUT_DIR"), "/hopper.ptx")));
#[cfg(not(eqprop_hopper_ptx))]
const HOPPER_PTX: Option<&str> = None;

/// Names [`Settings`], for instance `seed=3,sums=truncated`.
const VARIABLE: &str = "EQPROP_INTERPRETER";

/// How kernels are interpreted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// how instructions are executed, and what is looked for
    pub options: Options,
    /// Whether counts of instructions and bytes go to standard error in the end.
    pub table: bool,
    /// Of the GPU that is played: the host divides launches into tiles by them.
    pub multiprocessors: usize,
    /// Into how many parts the host splits every product, instead of choosing.
    pub parts: Option<usize>,
    /// Whether it plays a Hopper, and the host uses the kernels for it.
    pub hopper: bool,
    /// Whether a Hopper runs kernels in clusters of blocks.
    pub clusters: bool,
    /// Whether phases with a tolerance end by a loop inside a recording.
    pub loops: bool,
}

impl Default for Settings {
    /// One multiprocessor, as of the emulation: launches are divided into the largest tiles.
    fn default() -> Self {
        Self {
            options: Options::default(),
            table: false,
            multiprocessors: 1,
            parts: None,
            hopper: false,
            clusters: true,
            loops: true,
        }
    }
}

impl Settings {
    /// What EQPROP_INTERPRETER, EQPROP_HOPPER, EQPROP_CLUSTERS and EQPROP_WHILE ask for.
    ///
    /// # Errors
    /// Those of [`Settings::parse`].
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            hopper: hopper_wanted()?,
            clusters: clusters_wanted()?,
            loops: loops_wanted()?,
            ..Self::parse(&std::env::var(VARIABLE).unwrap_or_default())?
        })
    }

    /// Of `seed=N` (the order of warps), `sums=rounded|truncated` (inside a matrix product), `checks=on|off` (races and
    /// reads of what nobody wrote), `resident=N` (blocks that take turns), `multiprocessors=N` (which tiles the host chooses),
    /// `parts=N` (into how many it splits every product) and `table` (counts), separated by commas.
    ///
    /// # Errors
    /// Names the part that is none of these, and all that there are.
    pub fn parse(text: &str) -> Result<Self> {
        let mut settings = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || {
                format!(
                    "{VARIABLE}={text}: {part:?} is none of seed=N, sums=rounded|truncated, checks=on|off, resident=N, \
                     multiprocessors=N, parts=N, table"
                )
            };
            let count = |n: &str| match n.parse() {
                Ok(0) | Err(_) => Err(CudaError::Setting(format!("{}: N is at least 1", wrong()))),
                Ok(n) => Ok(n),
            };
            match part.split_once('=').unwrap_or((part, "")) {
                ("seed", n) => {
                    settings.options.seed = n.parse().map_err(|_| CudaError::Setting(wrong()))?
                }
                ("resident", n) => settings.options.resident = count(n)?,
                ("multiprocessors", n) => settings.multiprocessors = count(n)?,
                ("parts", n) => settings.parts = Some(count(n)?),
                ("sums", "rounded") => settings.options.sums = Sums::Rounded,
                ("sums", "truncated") => settings.options.sums = Sums::Truncated,
                ("checks", "on") => settings.options.checks = true,
                ("checks", "off") => settings.options.checks = false,
                ("table", "") => {
                    settings.table = true;
                    settings.options.bank_conflicts = true;
                }
                _ => return Err(CudaError::Setting(wrong()).into()),
            }
        }
        Ok(settings)
    }
}

/// A machine that executes PTX.
pub struct InterpretedDevice {
    module: Arc<Module>,
    /// asked first
    hopper: Option<Arc<Module>>,
    memory: RwLock<Memory>,
    settings: Settings,
    reports: Mutex<BTreeMap<&'static str, Report>>,
    recorder: Recorder,
}

/// Kernels, from when they are first asked for.
type Once = Mutex<Option<Arc<Module>>>;

/// What is in `once`, into which the text goes that `ptx` gives.
fn read_once(once: &Once, ptx: impl FnOnce() -> Result<&'static str>) -> Result<Arc<Module>> {
    let mut module = once.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match &*module {
        Some(module) => module.clone(),
        None => {
            let parsed = Module::parse(ptx()?);
            let parsed = parsed.map_err(|error| {
                Error::Unavailable(format!(
                    "the PTX that nvcc made of kernels/ cannot be read: {error}"
                ))
            })?;
            module.insert(Arc::new(parsed)).clone()
        }
    })
}

impl InterpretedDevice {
    /// With this build's kernels, and the settings that the environment names.
    ///
    /// # Errors
    /// When the environment names no settings, or this build has no kernels.
    pub fn new() -> Result<Self> {
        Self::of(Settings::from_environment()?)
    }

    /// With this build's kernels, those for Hopper too if it plays one.
    ///
    /// # Errors
    /// When this build has no kernels.
    pub fn of(settings: Settings) -> Result<Self> {
        let hopper = settings.hopper;
        let device = Self::with(Self::kernels()?, settings);
        match hopper {
            true => Ok(device.with_hopper(Self::hopper_kernels()?)),
            false => Ok(device),
        }
    }

    /// This build's kernels as nvcc wrote them.
    ///
    /// # Errors
    /// When this build found no nvcc.
    pub fn ptx() -> Result<&'static str> {
        PTX.ok_or_else(|| Error::Unavailable("--device interpreted: this build has no PTX, because no nvcc was found: name one (NVCC=/path/to/nvcc, or pip install \
             nvidia-cuda-nvcc) and build again with `cargo build --release --features interpreter`".into()))
    }

    /// This build's kernels, read once.
    ///
    /// # Errors
    /// Those of [`InterpretedDevice::ptx`]; and when nvcc wrote something that cannot be read, whose line is named.
    pub fn kernels() -> Result<Arc<Module>> {
        static MODULE: Once = Mutex::new(None);
        read_once(&MODULE, Self::ptx)
    }

    /// The PTX of the kernels for Hopper.
    ///
    /// # Errors
    /// When this build found no nvcc that knows sm_90a.
    pub fn hopper_ptx() -> Result<&'static str> {
        HOPPER_PTX.ok_or_else(|| Error::Unavailable("EQPROP_HOPPER=on: this build has no PTX for Hopper; build it where nvcc of CUDA 12 or later is found".into()))
    }

    /// The kernels for Hopper, read once.
    ///
    /// # Errors
    /// Those of [`InterpretedDevice::hopper_ptx`]; and when the text cannot be read.
    pub fn hopper_kernels() -> Result<Arc<Module>> {
        static MODULE: Once = Mutex::new(None);
        read_once(&MODULE, Self::hopper_ptx)
    }

    /// With these kernels for Hopper, which the host then uses.
    #[must_use]
    pub fn with_hopper(mut self, hopper: Arc<Module>) -> Self {
        self.settings.hopper = true;
        self.hopper = Some(hopper);
        self
    }

    /// With any module, for instance one with a defect.
    pub fn with(module: Arc<Module>, settings: Settings) -> Self {
        Self {
            module,
            hopper: None,
            memory: RwLock::default(),
            settings,
            reports: Mutex::default(),
            recorder: Recorder::default(),
        }
    }

    /// What each kernel did, over all its launches.
    pub fn reports(&self) -> BTreeMap<&'static str, Report> {
        (self.reports.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The same since the last time that they were taken.
    pub fn take_reports(&self) -> BTreeMap<&'static str, Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn memory(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> std::sync::RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for InterpretedDevice {
    fn describe(&self) -> String {
        "interpreted PTX".to_string()
    }

    fn multiprocessors(&self) -> usize {
        self.settings.multiprocessors
    }

    fn parts(&self) -> Option<usize> {
        self.settings.parts
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hopper: self.hopper.is_some(),
            clusters: self.hopper.is_some() && self.settings.clusters,
        }
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<[u8; tensor_map::BYTES]> {
        let map = ptx_interpreter::TensorMap {
            address: map.address,
            element_bytes: tensor_map::ELEMENT_BYTES,
            dims: map.dims.clone(),
            strides: map.strides.clone(),
            box_dims: map.box_dims.clone(),
            swizzle: Swizzle::Span128,
        };
        map.encode().map_err(device)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        Ok(self.memory_mut().allocate(bytes))
    }

    unsafe fn release(&self, address: u64) {
        self.memory_mut().release(address);
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.memory().write(address, bytes).map_err(device)
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.memory().read(address, bytes).map_err(device)
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.memory().copy(to, from, bytes).map_err(device)
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.memory().fill(address, 0, bytes).map_err(device)
    }

    unsafe fn launch(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> Result<()> {
        if self.recorder.takes(kernel, blocks, args) {
            return Ok(());
        }
        let of_hopper = self.hopper.as_ref();
        let of_hopper = of_hopper.filter(|m| m.names().any(|name| name == kernel.name));
        let module = of_hopper.unwrap_or(&self.module);
        let code = module.kernel(kernel.name).map_err(device)?;
        let blocks = u32::try_from(blocks).ok().filter(|&blocks| blocks > 0);
        let blocks = blocks.ok_or_else(|| CudaError::Kernel {
            kernel: kernel.name,
            problem: "a launch of no blocks, or of more than there are".to_string(),
        })?;
        let report = module.launch(
            code,
            blocks.into(),
            kernel.threads.into(),
            kernel.shared_bytes as usize,
            args,
            &self.memory(),
            &self.settings.options,
        );
        let report = report.map_err(device)?;
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.entry(kernel.name).or_default().add(&report);
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn record_loop(
        self: Arc<Self>,
        body: &mut dyn FnMut() -> Result<()>,
        phase: *const EqPhase,
    ) -> Result<Option<Box<dyn Recording>>> {
        if !self.settings.loops {
            return Ok(None);
        }
        let device: Arc<dyn Device> = self.clone();
        Ok(Some(self.recorder.record_loop(&device, body, phase)?))
    }
}

fn device(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Device(Box::new(error))
}

impl Drop for InterpretedDevice {
    #[expect(
        clippy::print_stderr,
        reason = "the environment asks for it, of whatever program"
    )]
    fn drop(&mut self) {
        if self.settings.table {
            eprintln!("{}", table(&self.reports()));
        }
    }
}

/// Counts per kernel: launches, instructions of warps by kind, bytes, bank conflicts; and the interpreter's speed.
pub fn table(reports: &BTreeMap<&'static str, Report>) -> String {
    let mut text = format!(
        "{:<26} {:>8} {:>12} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12} {:>10}\n",
        "kernel",
        "launches",
        "instructions",
        "mma",
        "ldmatrix",
        "cp.async",
        "device read",
        "written",
        "shared read",
        "conflicts"
    );
    let mut all = Report::default();
    for (name, report) in reports {
        all.add(report);
        let t = &report.traffic;
        writeln!(
            text,
            "{name:<26} {:>8} {:>12} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12} {:>10}",
            report.launches,
            report.total().warps,
            report.count("mma").warps,
            report.count("ldmatrix").warps,
            report.copies().warps,
            t.global_read,
            t.global_written,
            t.shared_read,
            t.bank_conflicts
        )
        .expect("a string can be written");
    }
    write!(
        text,
        "{} launches, {:.1} M instructions of threads, {:.0} M a second",
        all.launches,
        all.total().threads as f64 / 1e6,
        all.rate() / 1e6
    )
    .expect("a string can be written");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_wrong_ones_named() {
        let settings = Settings::parse("seed=3,sums=truncated,checks=off,table").unwrap();
        assert_eq!(settings.options.seed, 3);
        assert_eq!(settings.options.sums, Sums::Truncated);
        assert!(!settings.options.checks && settings.table);
        for wrong in [
            "sums=exact",
            "resident=0",
            "multiprocessors=x",
            "seed=-1",
            "tables",
        ] {
            let error = Settings::parse(&format!("seed=3,{wrong}")).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(&format!("{wrong:?} is none of seed=N")),
                "{error}"
            );
        }
    }
}
