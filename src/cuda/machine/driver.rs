//! A GPU as a [`Device`], through the CUDA driver, which is loaded when the first GPU is asked for.

use super::abi::EqPhase;
use super::capabilities::{self, Capabilities};
use super::device::{Device, KernelSpec, Recording};
use super::error::CudaError;
use super::graph;
use super::handles::{Handles, call};
use super::image;
use super::kernels;
use super::tensor_map::{self, TensorMap};
use crate::error::Result;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

/// The oldest GPUs that the tensor-core kernels run on (`mma.sync` with fp16 and `cp.async`).
const OLDEST: (i32, i32) = (8, 0);
/// The GPUs that the kernels for `sm_90a` run on, and no others.
const HOPPER: (i32, i32) = (9, 0);
/// More dynamic shared memory than this must be asked for.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;
/// Kernels that use more than this ask for a part of a multiprocessor's memory, all of them for the same: a change would wait for
/// the kernel before.
const MUCH_SHARED_BYTES: u32 = 32 << 10;
/// Bytes of pinned memory at first.
const STAGING_BYTES: usize = 64 << 10;

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInfo {
    /// the driver's number of it, from 0
    pub ordinal: usize,
    /// as the driver calls it
    pub name: String,
    /// major and minor
    pub compute_capability: (i32, i32),
    /// of device memory
    pub memory_bytes: usize,
    /// how many it has
    pub multiprocessors: i32,
    /// in a multiprocessor, and what the system takes of it for each block
    shared_bytes: i32,
    reserved_shared_bytes: i32,
}

impl GpuInfo {
    /// The share of a multiprocessor's largest shared memory, in per cent, that two blocks of the largest kernel take. The driver
    /// takes the next larger of a few sizes, which is more than it sets aside on its own; the rest remains to the L1 cache, where
    /// the taps of a product find one another's pixels.
    fn carveout(&self) -> i32 {
        let two = 2 * (kernels::LARGEST_SHARED_BYTES as i32 + self.reserved_shared_bytes);
        let all = self.shared_bytes.max(1);
        (two * 100 + all - 1).div_euclid(all).min(100)
    }
}

/// Loads the driver. The library behind `cudarc` panics where there is none, so that is asked first.
fn initialise() -> Result<(), CudaError> {
    // SAFETY: looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    call("the CUDA driver could not start", result::init())
}

/// The GPUs of this machine.
///
/// # Errors
/// Without a driver, or when it fails.
pub fn list_gpus() -> Result<Vec<GpuInfo>, CudaError> {
    initialise()?;
    let count = call("counting GPUs", result::device::get_count())?;
    (0..count)
        .map(|ordinal| info(ordinal).map(|(gpu, _)| gpu))
        .collect()
}

/// Version of CUDA that the driver supports, for instance (13, 0).
///
/// # Errors
/// Without a driver, or when it fails.
pub fn driver_version() -> Result<(i32, i32), CudaError> {
    initialise()?;
    let mut version = 0;
    // SAFETY: writes one integer.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
    call("asking for the driver's version", asked.result())?;
    Ok((version / 1000, version % 1000 / 10))
}

fn info(ordinal: i32) -> Result<(GpuInfo, sys::CUdevice), CudaError> {
    use sys::CUdevice_attribute as Attribute;
    let device = call(&format!("GPU {ordinal}"), result::device::get(ordinal))?;
    let attribute = |which| {
        // SAFETY: the device was just obtained.
        let value = unsafe { result::device::get_attribute(device, which) };
        call("asking a GPU", value)
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
        shared_bytes: attribute(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
        )?,
        reserved_shared_bytes: attribute(
            Attribute::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK,
        )?,
    };
    Ok((gpu, device))
}

/// One GPU with the kernels loaded. All work goes through one stream, in order.
pub struct Gpu {
    info: GpuInfo,
    handles: Arc<Handles>,
    capabilities: Capabilities,
    functions: Mutex<HashMap<&'static str, Function>>,
    staging: Mutex<Staging>,
}

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);

// SAFETY: a handle into the module, which outlives the map that it is in.
unsafe impl Send for Function {}

/// Pinned memory that uploads pass through, so that their source may go before the stream has come to them. It begins anew
/// whenever the stream was waited for; a training step, which waits for its results, never fills it twice.
struct Staging {
    memory: *mut u8,
    bytes: usize,
    used: usize,
}

// SAFETY: pinned memory belongs to no thread.
unsafe impl Send for Staging {}

impl Gpu {
    /// Opens GPU number `ordinal` and loads the kernels.
    ///
    /// # Errors
    /// When there is no such GPU, no driver, or no kernels for it.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        let image = image::fat_binary().ok_or(CudaError::NoKernels)?;
        initialise()?;
        let count = call("counting GPUs", result::device::get_count())?.max(0) as usize;
        if ordinal >= count {
            return Err(CudaError::NoSuchGpu { ordinal, count });
        }
        let (info, device) = info(ordinal as i32)?;
        if info.compute_capability < OLDEST {
            return Err(CudaError::TooOld {
                name: info.name,
                has: info.compute_capability,
                needs: OLDEST,
            });
        }
        let wanted = capabilities::hopper_wanted()?;
        let capabilities = Capabilities {
            clusters: false,
            hopper: info.compute_capability == HOPPER
                && image::architectures().is_some_and(|all| all.split(',').any(|a| a == "90a"))
                && wanted,
        };
        let loops = capabilities::loops_wanted()?;
        let clusters = capabilities.hopper && capabilities::clusters_wanted()?;
        let mut gpu = Self {
            capabilities,
            handles: Arc::new(Handles::open(device, image, loops)?),
            info,
            functions: Mutex::default(),
            staging: Mutex::new(Staging {
                memory: std::ptr::null_mut(),
                bytes: 0,
                used: 0,
            }),
        };
        if clusters {
            gpu.capabilities.clusters = gpu.takes_clusters();
        }
        Ok(gpu)
    }

    /// Whether a cluster fits on this GPU; a note if not.
    fn takes_clusters(&self) -> bool {
        let kernel = &kernels::WEIGHT_GRAD_HOPPER_CLUSTER;
        let fit = self.function(kernel).and_then(|function| {
            // SAFETY: plain integers and pointers, for which zeros are a value: no attributes, the kernel says how large its clusters are.
            let mut config: sys::CUlaunchConfig = unsafe { std::mem::zeroed() };
            [config.gridDimX, config.gridDimY, config.gridDimZ] = [2, 1, 1];
            [config.blockDimX, config.blockDimY, config.blockDimZ] = [kernel.threads, 1, 1];
            config.sharedMemBytes = kernel.shared_bytes;
            let mut fit = 0;
            // SAFETY: writes one integer.
            let asked = unsafe { sys::cuOccupancyMaxActiveClusters(&mut fit, function, &config) };
            call("asking for clusters", asked.result()).map(|()| fit)
        });
        let why = match fit {
            Ok(fit) if fit > 0 => return true,
            Ok(_) => "none fits".to_string(),
            Err(error) => format!("{error:#}"),
        };
        log::info!(
            "note: no clusters of blocks ({why}); each block fetches all that it needs on its own, as with EQPROP_CLUSTERS=off"
        );
        false
    }

    /// What the driver says of this GPU.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Bytes of memory that are free, and in all.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        Ok(call("asking for free memory", result::mem_get_info())?)
    }

    fn enter(&self) -> Result<(), CudaError> {
        self.handles.enter()
    }

    fn stream(&self) -> sys::CUstream {
        self.handles.stream()
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for the stream; then the staging memory is free again.
    fn wait(&self, staging: &mut Staging) -> Result<(), CudaError> {
        self.handles.synchronize()?;
        staging.used = 0;
        Ok(())
    }

    /// Room for so many bytes in pinned memory.
    fn reserve(&self, staging: &mut Staging, bytes: usize) -> Result<*mut u8, CudaError> {
        if bytes > staging.bytes - staging.used {
            self.wait(staging)?;
            // Twice what did not fit, so that all uploads of a step come to fit after a few of them.
            let wanted = (2 * staging.bytes.max(bytes)).max(STAGING_BYTES);
            self.release_staging(staging);
            // SAFETY: released by `release_staging`.
            let memory = call("allocating pinned memory", unsafe {
                result::malloc_host(wanted, 0)
            })?;
            (staging.memory, staging.bytes) = (memory.cast(), wanted);
        }
        let room = staging.memory.wrapping_add(staging.used);
        staging.used += bytes;
        Ok(room)
    }

    /// Nothing in the stream may use it any more.
    fn release_staging(&self, staging: &mut Staging) {
        if !staging.memory.is_null() {
            // SAFETY: from `malloc_host`, and forgotten below.
            let _ = unsafe { result::free_host(staging.memory.cast()) };
        }
        (staging.memory, staging.bytes, staging.used) = (std::ptr::null_mut(), 0, 0);
    }

    fn function(&self, kernel: &KernelSpec) -> Result<sys::CUfunction, CudaError> {
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
            result::module::get_function(self.handles.module(), name)
        })?;
        use sys::CUfunction_attribute_enum as Attribute;
        let set = |attribute, value| {
            // SAFETY: the function was just found.
            call(&what, unsafe {
                result::function::set_function_attribute(function, attribute, value)
            })
        };
        if kernel.shared_bytes > DEFAULT_SHARED_BYTES {
            set(
                Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                kernel.shared_bytes as i32,
            )?;
        }
        if kernel.shared_bytes > MUCH_SHARED_BYTES {
            set(
                Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                self.info().carveout(),
            )?;
        }
        functions.insert(kernel.name, Function(function));
        Ok(function)
    }
}

impl Device for Gpu {
    fn describe(&self) -> String {
        self.info().name.clone()
    }

    fn multiprocessors(&self) -> usize {
        self.info().multiprocessors as usize
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<[u8; tensor_map::BYTES]> {
        use sys::{
            CUtensorMapDataType_enum as DataType, CUtensorMapFloatOOBfill_enum as Fill,
            CUtensorMapInterleave_enum as Interleave, CUtensorMapL2promotion_enum as Promotion,
            CUtensorMapSwizzle_enum as Swizzle,
        };
        self.enter()?;
        // SAFETY: 128 bytes of integers, for which zeros are a value.
        let mut encoded: sys::CUtensorMap = unsafe { std::mem::zeroed() };
        let steps = vec![1u32; map.dims.len()];
        // SAFETY: all arrays have as many elements as there are dimensions, strides one less.
        let outcome = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                map.dims.len() as u32,
                map.address as *mut c_void,
                map.dims.as_ptr(),
                map.strides.as_ptr(),
                map.box_dims.as_ptr(),
                steps.as_ptr(),
                Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        call("making a tensor map", outcome.result())?;
        let words = encoded.opaque.map(u64::to_ne_bytes);
        Ok(std::array::from_fn(|i| words[i / 8][i % 8]))
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.enter()?;
        // SAFETY: released by `release`.
        match unsafe { result::malloc_sync(bytes) } {
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(CudaError::OutOfMemory { bytes }.into())
            }
            allocated => Ok(call(&format!("allocating {bytes} bytes"), allocated)?),
        }
    }

    unsafe fn release(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: the caller's promise; the driver waits for work that uses it.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let staging = &mut *self.staging();
        let room = self.reserve(staging, bytes.len())?;
        // SAFETY: `reserve` found so many bytes, which nothing in the stream uses.
        let staged = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
            std::slice::from_raw_parts(room.cast_const(), bytes.len())
        };
        // SAFETY: the caller's promise; the source stays as it is until the stream was waited for.
        call("copying to the GPU", unsafe {
            result::memcpy_htod_async(address, staged, self.stream())
        })?;
        Ok(())
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller's promise; the destination stays alive because the stream is waited for.
        call("copying from the GPU", unsafe {
            result::memcpy_dtoh_async(bytes, address, self.stream())
        })?;
        self.synchronize()
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise, for both ends.
        call("copying on the GPU", unsafe {
            result::memcpy_dtod_async(to, from, bytes, self.stream())
        })?;
        Ok(())
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        call("clearing GPU memory", unsafe {
            result::memset_d8_async(address, 0, bytes, self.stream())
        })?;
        Ok(())
    }

    unsafe fn launch(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> Result<()> {
        self.enter()?;
        let function = self.function(kernel)?;
        let blocks = u32::try_from(blocks).map_err(|_| CudaError::Kernel {
            kernel: kernel.name,
            problem: format!("a launch has {blocks} blocks, and GPUs count to 2^32"),
        })?;
        let mut parameter = [args.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the caller's promise; the driver copies `args` before it returns.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (blocks, 1, 1),
                (kernel.threads, 1, 1),
                kernel.shared_bytes,
                self.stream(),
                &mut parameter,
            )
        };
        call(&format!("kernel {}", kernel.name), launched)?;
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(self.wait(&mut self.staging())?)
    }

    fn stream(&self) -> Option<*mut c_void> {
        Some(Gpu::stream(self).cast())
    }

    fn record(&self, body: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>> {
        graph::record(&self.handles, body).map(Some)
    }

    fn record_loop(
        self: Arc<Self>,
        body: &mut dyn FnMut() -> Result<()>,
        phase: *const EqPhase,
    ) -> Result<Option<Box<dyn Recording>>> {
        graph::record_loop(&self.handles, body, phase)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let mut staging = self.staging();
        if self.wait(&mut staging).is_ok() {
            self.release_staging(&mut staging);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H100, A100, and a desktop GPU, whose multiprocessors hold one block of the largest kernel.
    #[test]
    fn two_blocks_get_the_shared_memory_that_they_need_and_the_cache_the_rest() {
        let carveout = |kilobytes: i32| {
            GpuInfo {
                ordinal: 0,
                name: String::new(),
                compute_capability: (9, 0),
                memory_bytes: 0,
                multiprocessors: 132,
                shared_bytes: kilobytes << 10,
                reserved_shared_bytes: 1 << 10,
            }
            .carveout()
        };
        let two = 2 * (kernels::LARGEST_SHARED_BYTES as i32 + (1 << 10));
        for kilobytes in [228, 164] {
            let percent = carveout(kilobytes);
            assert!((kilobytes << 10) * percent / 100 >= two, "{percent} %");
            // 164 KB is the next size of both.
            assert!(
                (kilobytes << 10) * percent / 100 <= 164 << 10,
                "{percent} %"
            );
        }
        assert_eq!(carveout(100), 100);
    }

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
