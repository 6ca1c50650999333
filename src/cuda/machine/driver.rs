//! A GPU as a [`Device`], through the CUDA driver, which is loaded when the first GPU is asked for.

use super::device::{Device, KernelSpec};
use anyhow::{Context, Result, anyhow, ensure};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Mutex;

/// The fat binary that build.rs made of `kernels/`.
#[cfg(eqprop_kernels)]
const IMAGE: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));
#[cfg(not(eqprop_kernels))]
const IMAGE: Option<&[u8]> = None;

/// The oldest GPUs that the tensor-core kernels run on (`mma.sync` with fp16 and `cp.async`).
const OLDEST: (i32, i32) = (8, 0);
/// More dynamic shared memory than this must be asked for.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;
/// Iterations in one recording of a phase.
const RECORDED: usize = 8;

/// Architectures with machine code in this build, for instance `80,90a`; `None` without kernels.
pub fn kernel_architectures() -> Option<&'static str> {
    option_env!("EQPROP_KERNEL_ARCHITECTURES").filter(|_| IMAGE.is_some())
}

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInfo {
    pub ordinal: usize,
    pub name: String,
    pub compute_capability: (i32, i32),
    pub memory_bytes: usize,
    pub multiprocessors: i32,
}

fn call<T>(what: &str, outcome: Result<T, DriverError>) -> Result<T> {
    outcome.map_err(|error| {
        let remedy = match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                "out of GPU memory; a smaller --batch-size or narrower --channels needs less".to_string()
            }
            sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | sys::CUresult::CUDA_ERROR_INVALID_PTX => format!(
                "this build has no kernels for this GPU or its driver (it has sm_{}); update the driver, or rebuild with \
                 EQPROP_CUDA_ARCHS set to the GPU's architecture",
                kernel_architectures().unwrap_or("none")
            ),
            sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
            | sys::CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
                "the NVIDIA driver is too old for this build; update it".to_string()
            }
            sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | sys::CUresult::CUDA_ERROR_LAUNCH_FAILED
            | sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | sys::CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR => {
                format!("the GPU stopped working on this ({:?}); resume from the last checkpoint", error.0)
            }
            code => format!("{code:?}"),
        };
        anyhow!("{what}: {remedy}")
    })
}

/// Loads the driver. The library behind `cudarc` panics where there is none, so that is asked first.
fn initialise() -> Result<()> {
    // SAFETY: looks for the library.
    ensure!(
        unsafe { sys::is_culib_present() },
        "no NVIDIA driver was found (libcuda.so); install one, or use --device cpu"
    );
    call("the CUDA driver could not start", result::init())
}

/// The GPUs of this machine.
pub fn list_gpus() -> Result<Vec<GpuInfo>> {
    initialise()?;
    let count = call("counting GPUs", result::device::get_count())?;
    (0..count)
        .map(|ordinal| info(ordinal).map(|(gpu, _)| gpu))
        .collect()
}

/// Version of CUDA that the driver supports, for instance (13, 0).
pub fn driver_version() -> Result<(i32, i32)> {
    initialise()?;
    let mut version = 0;
    // SAFETY: writes one integer.
    call(
        "asking for the driver's version",
        unsafe { sys::cuDriverGetVersion(&mut version) }.result(),
    )?;
    Ok((version / 1000, version % 1000 / 10))
}

fn info(ordinal: i32) -> Result<(GpuInfo, sys::CUdevice)> {
    use sys::CUdevice_attribute as Attribute;
    let device = call(&format!("GPU {ordinal}"), result::device::get(ordinal))?;
    // SAFETY: the device was just obtained.
    let attribute = |which| {
        call("asking a GPU", unsafe {
            result::device::get_attribute(device, which)
        })
    };
    let gpu = GpuInfo {
        ordinal: ordinal as usize,
        name: call("asking a GPU", result::device::get_name(device))?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory_bytes: call("asking a GPU", unsafe { result::device::total_mem(device) })?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
    };
    Ok((gpu, device))
}

/// One GPU with the kernels loaded. All work goes through one stream, in order.
pub struct Gpu {
    info: GpuInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    module: sys::CUmodule,
    stream: sys::CUstream,
    functions: Mutex<HashMap<&'static str, Function>>,
}

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread that has made the context current, which every method does.
unsafe impl Send for Gpu {}
unsafe impl Sync for Gpu {}
unsafe impl Send for Function {}

impl Gpu {
    /// Opens GPU number `ordinal` and loads the kernels.
    pub fn open(ordinal: usize) -> Result<Self> {
        let image = IMAGE.context(
            "this build has no CUDA kernels: install the CUDA toolkit (or `pip install nvidia-cuda-nvcc nvidia-nvvm \
             nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl`) so that nvcc is found, and build again; or use --device cpu",
        )?;
        initialise()?;
        let count = call("counting GPUs", result::device::get_count())?;
        ensure!(
            ordinal < count as usize,
            "there is no GPU {ordinal}: the driver sees {count} (see `eqprop-cuda info`)"
        );
        let (info, device) = info(ordinal as i32)?;
        ensure!(
            info.compute_capability >= OLDEST,
            "{} has compute capability {}.{}; the kernels need {}.{} or later",
            info.name,
            info.compute_capability.0,
            info.compute_capability.1,
            OLDEST.0,
            OLDEST.1
        );
        // SAFETY: handles are used in the order in which the driver requires, and released in `drop`.
        unsafe {
            let context = call("opening the GPU", result::primary_ctx::retain(device))?;
            call("opening the GPU", result::ctx::set_current(context))?;
            let module = call(
                "loading the kernels",
                result::module::load_data(image.as_ptr().cast()),
            )?;
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
            Ok(Self {
                info,
                device,
                context,
                module,
                stream: call("opening the GPU", stream)?,
                functions: Mutex::default(),
            })
        }
    }

    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Bytes of memory that are free, and in all.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        call("asking for free memory", result::mem_get_info())
    }

    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        call("using the GPU", unsafe {
            result::ctx::set_current(self.context)
        })
    }

    fn function(&self, kernel: &KernelSpec) -> Result<sys::CUfunction> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(function) = functions.get(kernel.name) {
            return Ok(function.0);
        }
        let name = CString::new(kernel.name).expect("a kernel's name has no NUL");
        let what = format!("kernel {}", kernel.name);
        // SAFETY: the module is loaded.
        let function = call(&what, unsafe {
            result::module::get_function(self.module, name)
        })?;
        if kernel.shared_bytes > DEFAULT_SHARED_BYTES {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found.
            let set = unsafe {
                result::function::set_function_attribute(
                    function,
                    attribute,
                    kernel.shared_bytes as i32,
                )
            };
            call(&what, set)?;
        }
        functions.insert(kernel.name, Function(function));
        Ok(function)
    }

    /// Records what `body` launches, so many times over.
    fn record(&self, times: usize, body: &mut dyn FnMut() -> Result<()>) -> Result<Recording<'_>> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours; a capture that was begun is ended whatever `body` returns.
        unsafe {
            call(
                "recording a phase",
                result::stream::begin_capture(self.stream, mode),
            )?;
            let outcome = (0..times).try_for_each(|_| body());
            let graph = call(
                "recording a phase",
                result::stream::end_capture(self.stream),
            );
            outcome?;
            let graph = graph?;
            let executable = result::graph::instantiate(graph, std::mem::zeroed());
            let destroyed = result::graph::destroy(graph);
            let executable = call("recording a phase", executable)?;
            call("recording a phase", destroyed)?;
            Ok(Recording {
                gpu: self,
                executable,
            })
        }
    }
}

struct Recording<'a> {
    gpu: &'a Gpu,
    executable: sys::CUgraphExec,
}

impl Recording<'_> {
    fn replay(&self) -> Result<()> {
        // SAFETY: both handles live as long as `self`.
        call("running a phase", unsafe {
            result::graph::launch(self.executable, self.gpu.stream)
        })
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed once. The driver frees an executable graph only when its launches are done.
        let _ = unsafe { result::graph::exec_destroy(self.executable) };
    }
}

impl Device for Gpu {
    fn describe(&self) -> String {
        self.info.name.clone()
    }

    fn multiprocessors(&self) -> usize {
        self.info.multiprocessors as usize
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.enter()?;
        // SAFETY: released by `release`.
        call(&format!("allocating {bytes} bytes"), unsafe {
            result::malloc_sync(bytes)
        })
    }

    fn release(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: from `allocate`, released once; the driver waits for work that uses it.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: a buffer checks the length; the source stays alive because the stream is waited for.
        call("copying to the GPU", unsafe {
            result::memcpy_htod_async(address, bytes, self.stream)
        })?;
        self.synchronize()
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: as in `upload`.
        call("copying from the GPU", unsafe {
            result::memcpy_dtoh_async(bytes, address, self.stream)
        })?;
        self.synchronize()
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: a buffer checks both ends.
        call("copying on the GPU", unsafe {
            result::memcpy_dtod_async(to, from, bytes, self.stream)
        })
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `copy`.
        call("clearing GPU memory", unsafe {
            result::memset_d8_async(address, 0, bytes, self.stream)
        })
    }

    fn launch(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> Result<()> {
        self.enter()?;
        let function = self.function(kernel)?;
        let blocks = u32::try_from(blocks).context("a launch has too many blocks")?;
        let mut parameter = [args.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: `args` is the struct that this kernel takes (`kernels.rs`), copied by the driver before it returns.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (blocks, 1, 1),
                (kernel.threads, 1, 1),
                kernel.shared_bytes,
                self.stream,
                &mut parameter,
            )
        };
        call(&format!("kernel {}", kernel.name), launched)
    }

    fn synchronize(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        call("waiting for the GPU", unsafe {
            result::stream::synchronize(self.stream)
        })
    }

    fn repeat(&self, times: usize, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if times < RECORDED {
            return (0..times).try_for_each(|_| body());
        }
        // Functions are looked up before the recording: the driver allows no such call during it.
        body()?;
        let recording = self.record(RECORDED, body)?;
        let rest = times - 1;
        (0..rest / RECORDED).try_for_each(|_| recording.replay())?;
        (0..rest % RECORDED).try_for_each(|_| body())?;
        // The recording must outlive its launches.
        self.synchronize()
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: nothing uses the handles any more; errors at exit have no one to tell.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::stream::destroy(self.stream);
            let _ = result::module::unload(self.module);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_a_gpu_where_there_is_none_is_an_error_and_no_panic() {
        if let Err(error) = Gpu::open(4096) {
            let message = format!("{error:#}");
            assert!(!message.contains('\n'), "{message}");
        } else {
            panic!("no machine has 4097 GPUs");
        }
    }
}
