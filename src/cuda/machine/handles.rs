//! What the driver gave for a GPU, released in the opposite order.

use super::error::CudaError;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::sync::{Mutex, MutexGuard};

/// The driver's answer, with what the call was for.
pub fn call<T>(what: &str, outcome: Result<T, DriverError>) -> Result<T, CudaError> {
    outcome.map_err(|error| CudaError::Driver {
        call: what.to_string(),
        code: error.0,
    })
}

/// Null is what has not been obtained.
pub struct Handles {
    device: sys::CUdevice,
    context: sys::CUcontext,
    module: sys::CUmodule,
    stream: sys::CUstream,
    loops: Mutex<Loops>,
}

/// What loops inside graphs need.
pub struct Loops {
    /// Whether they may be recorded: not any more once the driver has refused.
    pub wanted: bool,
    /// of the kernel that steers them, loaded when the first one is recorded
    pub module: sys::CUmodule,
}

// SAFETY: the driver's handles may be used from any thread that has made the context current, which every method does.
unsafe impl Send for Handles {}
// SAFETY: as above; the driver locks what calls share.
unsafe impl Sync for Handles {}

impl Handles {
    /// The context of a GPU, with the kernels of a fat binary and a stream of its own; with or without loops inside graphs.
    ///
    /// # Errors
    /// When the driver refuses; what it had given is released.
    pub fn open(
        device: sys::CUdevice,
        image: &'static [u8],
        loops: bool,
    ) -> Result<Self, CudaError> {
        // SAFETY: the caller obtained the device; `drop` releases the context.
        let context = call("opening the GPU", unsafe {
            result::primary_ctx::retain(device)
        })?;
        // From here on an early return releases what was obtained.
        let mut handles = Self {
            device,
            context,
            module: std::ptr::null_mut(),
            stream: std::ptr::null_mut(),
            loops: Mutex::new(Loops {
                wanted: loops,
                module: std::ptr::null_mut(),
            }),
        };
        handles.enter()?;
        handles.module = handles.load("loading the kernels", image)?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        handles.stream = call("opening the GPU", stream)?;
        Ok(handles)
    }

    /// Loads a fat binary, which is aligned and there for ever.
    pub fn load(&self, what: &str, image: &'static [u8]) -> Result<sys::CUmodule, CudaError> {
        // SAFETY: the caller's promise.
        call(what, unsafe {
            result::module::load_data(image.as_ptr().cast())
        })
    }

    pub fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// The kernels.
    pub fn module(&self) -> sys::CUmodule {
        self.module
    }

    pub fn stream(&self) -> sys::CUstream {
        self.stream
    }

    pub fn loops(&self) -> MutexGuard<'_, Loops> {
        self.loops
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes the context the thread's present one.
    pub fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: the context lives as long as `self`.
        call("using the GPU", unsafe {
            result::ctx::set_current(self.context)
        })
    }

    /// Waits for all that lies in the stream.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        call("waiting for the GPU", unsafe {
            result::stream::synchronize(self.stream)
        })
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let of_loops = self.loops().module;
        // SAFETY: nothing uses the handles any more; errors at exit have no one to tell.
        unsafe {
            if self.enter().is_ok() {
                if !self.stream.is_null() {
                    let _ = result::stream::synchronize(self.stream);
                    let _ = result::stream::destroy(self.stream);
                }
                for module in [of_loops, self.module] {
                    if !module.is_null() {
                        let _ = result::module::unload(module);
                    }
                }
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
