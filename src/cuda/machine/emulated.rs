//! The emulation as a [`Device`]: the same kernels, compiled for the CPU (`kernels/emulation`).
//!
//! Besides computing, it checks: shared and fresh memory is poisoned with NaNs, and after every launch the guard zones
//! around each allocation must be intact.

use super::abi::EqPhase;
use super::device::{Device, KernelSpec, Recording};
use super::error::CudaError;
use super::played::Recorder;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Arc, Mutex};

unsafe extern "C" {
    fn eqprop_emulation_alloc(bytes: usize) -> u64;
    fn eqprop_emulation_free(address: u64);
    fn eqprop_emulation_overrun(address: u64) -> c_int;
    fn eqprop_emulation_set_mutation(number: c_int);
    fn eqprop_emulation_size_of(name: *const c_char) -> usize;
    fn eqprop_emulation_launch(
        name: *const c_char,
        grid: u32,
        threads: u32,
        shared: usize,
        args: *const c_void,
    ) -> c_int;
}

/// CUDA on the CPU.
pub struct EmulatedDevice {
    allocations: Mutex<BTreeSet<u64>>,
    multiprocessors: usize,
    /// of loops, where they are wanted
    recorder: Option<Recorder>,
}

impl Default for EmulatedDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl EmulatedDevice {
    /// With one multiprocessor: launches are divided into the largest tiles.
    pub fn new() -> Self {
        Self::with_multiprocessors(1)
    }

    /// A GPU of so many multiprocessors, by which the host divides launches into tiles.
    pub fn with_multiprocessors(multiprocessors: usize) -> Self {
        Self {
            allocations: Mutex::default(),
            multiprocessors,
            recorder: Some(Recorder::default()),
        }
    }

    /// With or without loops inside a recording.
    #[must_use]
    pub fn with_loops(self, wanted: bool) -> Self {
        Self {
            recorder: wanted.then(Recorder::default),
            ..self
        }
    }
}

/// Switches on one of the deliberate defects that the kernels can be compiled with (`kernels/defects.cuh`); 0 for
/// none. For the whole process.
pub fn set_mutation(number: i32) {
    // SAFETY: sets an atomic.
    unsafe { eqprop_emulation_set_mutation(number) }
}

/// Size in bytes of a struct of `kernels/abi.h`, as the C++ compiler lays it out; 0 when it is not known.
pub fn size_of_struct(name: &str) -> usize {
    let name = CString::new(name).expect("a struct's name has no NUL");
    // SAFETY: reads a NUL-terminated string.
    unsafe { eqprop_emulation_size_of(name.as_ptr()) }
}

impl Device for EmulatedDevice {
    fn describe(&self) -> String {
        "emulated GPU".to_string()
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        // SAFETY: no preconditions.
        let address = unsafe { eqprop_emulation_alloc(bytes) };
        if address == 0 {
            return Err(CudaError::OutOfMemory { bytes }.into());
        }
        self.allocations.lock().unwrap().insert(address);
        Ok(address)
    }

    unsafe fn release(&self, address: u64) {
        self.allocations.lock().unwrap().remove(&address);
        // SAFETY: it came from `allocate`, and a buffer is released once.
        unsafe { eqprop_emulation_free(address) }
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: a buffer checks the length against its allocation.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as in `upload`.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        // SAFETY: as in `upload`, for both ends.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: as in `upload`.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) };
        Ok(())
    }

    unsafe fn launch(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> Result<()> {
        if (self.recorder.as_ref()).is_some_and(|r| r.takes(kernel, blocks, args)) {
            return Ok(());
        }
        let blocks =
            u32::try_from(blocks).map_err(|_| fault(kernel, "a launch has too many blocks"))?;
        let name = CString::new(kernel.name).expect("a kernel's name has no NUL");
        // SAFETY: `args` is the struct that the kernel of this name takes (`kernels.rs`), and its pointers are into
        // live buffers.
        let code = unsafe {
            eqprop_emulation_launch(
                name.as_ptr(),
                blocks,
                kernel.threads,
                kernel.shared_bytes as usize,
                args.as_ptr().cast(),
            )
        };
        let problem = match code {
            0 => None,
            1 => Some("there is no such kernel"),
            2 => Some("its block size differs from the launch wrapper's"),
            3 => Some("its threads wait for one another for ever"),
            4 => Some("it asks for more shared memory than any GPU has"),
            5 => Some("it wrote past the end of its shared memory"),
            _ => Some("it gave cp.async an address that is no multiple of 16"),
        };
        if let Some(problem) = problem {
            return Err(fault(kernel, problem));
        }
        self.check_guards(kernel)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn record_loop(
        self: Arc<Self>,
        body: &mut dyn FnMut() -> Result<()>,
        phase: *const EqPhase,
    ) -> Result<Option<Box<dyn Recording>>> {
        let device: Arc<dyn Device> = self.clone();
        let recorder = self.recorder.as_ref();
        recorder
            .map(|recorder| recorder.record_loop(&device, body, phase))
            .transpose()
    }
}

impl EmulatedDevice {
    fn check_guards(&self, kernel: &KernelSpec) -> Result<()> {
        for &address in self.allocations.lock().unwrap().iter() {
            // SAFETY: the address is a live allocation.
            let overrun = unsafe { eqprop_emulation_overrun(address) };
            if overrun != 0 {
                return Err(fault(kernel, "it wrote outside of a buffer"));
            }
        }
        Ok(())
    }
}

fn fault(kernel: &KernelSpec, problem: &str) -> Error {
    let (kernel, problem) = (kernel.name, problem.to_string());
    CudaError::Kernel { kernel, problem }.into()
}
