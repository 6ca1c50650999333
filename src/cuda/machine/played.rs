//! Loops where a GPU is played: launches are noted down, and repeated until their condition is zero.

use super::abi::{EqLoopArgs, EqPhase};
use super::device::{Buffer, Device, KernelSpec, Recording};
use super::error::CudaError;
use super::kernels::{self, CONTINUE_PHASE};
use crate::error::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A launch with its argument.
struct Launch {
    kernel: KernelSpec,
    blocks: usize,
    args: Vec<u8>,
}

/// Whether launches are noted down, and those that were.
#[derive(Default)]
pub struct Recorder(Mutex<Option<Vec<Launch>>>);

impl Recorder {
    fn launches(&self) -> MutexGuard<'_, Option<Vec<Launch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a launch down, if launches are being recorded.
    pub fn takes(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> bool {
        let mut launches = self.launches();
        let launch = || Launch {
            kernel: *kernel,
            blocks,
            args: args.to_vec(),
        };
        launches.as_mut().map(|all| all.push(launch())).is_some()
    }

    /// What `body` launches on `device`, whose recorder this is, as a loop.
    pub fn record_loop(
        &self,
        device: &Arc<dyn Device>,
        body: &mut dyn FnMut() -> Result<()>,
        phase: *const EqPhase,
    ) -> Result<Box<dyn Recording>> {
        let condition = Buffer::new(device, 1)?;
        let args = EqLoopArgs {
            phase,
            condition: condition.ptr::<u32>() as u64,
        };
        *self.launches() = Some(Vec::new());
        let recorded = body().and_then(|()| kernels::continue_phase(&**device, &args));
        let launches = self.launches().take().unwrap_or_default();
        recorded?;
        Ok(Box::new(Loop {
            device: device.clone(),
            launches,
            condition,
            phase: phase as u64,
        }))
    }
}

struct Loop {
    device: Arc<dyn Device>,
    launches: Vec<Launch>,
    condition: Buffer<u32>,
    phase: u64,
}

impl Loop {
    fn is_done(&self) -> Result<bool> {
        let mut bytes = [0; size_of::<EqPhase>()];
        // SAFETY: the phase outlasts its recordings.
        unsafe { self.device.download(self.phase, &mut bytes)? };
        let at = std::mem::offset_of!(EqPhase, done);
        Ok(bytes[at..at + 4] != [0; 4])
    }
}

impl Recording for Loop {
    /// As a GPU does it, whose condition is true at first; only that a turn after the end of the phase is an error here.
    fn replay(&self) -> Result<()> {
        self.condition.write(&[1])?;
        let mut first = true;
        while self.condition.read()?[0] != 0 {
            if !first && self.is_done()? {
                return Err(CudaError::Kernel {
                    kernel: CONTINUE_PHASE.name,
                    problem: "the loop goes on after the phase has ended".to_string(),
                }
                .into());
            }
            first = false;
            for launch in &self.launches {
                // SAFETY: as when it was recorded.
                unsafe {
                    (self.device).launch(&launch.kernel, launch.blocks, &launch.args)?;
                }
            }
        }
        Ok(())
    }
}
