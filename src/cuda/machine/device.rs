//! What the backend needs of a machine that runs kernels: memory, copies and launches.
//!
//! Three machines implement [`Device`]: a GPU through its driver, the emulation that runs the same kernels on the CPU, and the
//! interpreter that runs what nvcc made of them.

use super::abi::EqPhase;
use super::capabilities::Capabilities;
use super::tensor_map::{self, TensorMap};
use crate::error::{Error, Result, bail};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A machine that runs the kernels of `kernels/`. Calls take effect in the order in which they are made.
///
/// # Errors
/// Of every method: the machine fails, in this call or in a launch before it, or has no memory left.
#[expect(clippy::missing_errors_doc, reason = "said once for the trait")]
pub trait Device: Send + Sync {
    /// For logs, for instance `NVIDIA H200`.
    fn describe(&self) -> String;

    /// How many blocks of a large kernel run at once, at least.
    fn multiprocessors(&self) -> usize;

    /// Into how many parts K of every product is split: chosen by the host, unless a test asks for so many.
    fn parts(&self) -> Option<usize> {
        None
    }

    /// What it can do beyond what every machine can.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// A tensor map as its copies read it.
    ///
    /// # Errors
    /// When it cannot be made, or there are no such copies.
    fn tensor_map(&self, _map: &TensorMap) -> Result<[u8; tensor_map::BYTES]> {
        bail!(
            Unavailable,
            "{} has no copies by tensor map",
            self.describe()
        )
    }

    /// Device memory, not initialised.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// # Safety
    /// The address comes from [`Device::allocate`], and is released once.
    unsafe fn release(&self, address: u64);

    /// `bytes` may go as soon as this returns.
    ///
    /// # Safety
    /// As many bytes from `address` on lie in one allocation.
    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<()>;

    /// Waits for everything before it.
    ///
    /// # Safety
    /// As for [`Device::upload`].
    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()>;

    /// # Safety
    /// As for [`Device::upload`], for both ends.
    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;

    /// # Safety
    /// As for [`Device::upload`].
    unsafe fn zero(&self, address: u64, bytes: usize) -> Result<()>;

    /// Runs `blocks` blocks of a kernel; `args` is its one argument.
    ///
    /// # Safety
    /// `args` is the struct that the kernel takes, and all that its pointers reach is allocated until the launch is done.
    unsafe fn launch(&self, kernel: &KernelSpec, blocks: usize, args: &[u8]) -> Result<()>;

    /// Waits until all launches are done; reports what went wrong in one of them.
    fn synchronize(&self) -> Result<()>;

    /// The CUDA stream that all work goes through; `None` from a machine that is none.
    fn stream(&self) -> Option<*mut std::ffi::c_void> {
        None
    }

    /// Records what `body` launches, without running it; `None` from a machine that cannot. The kernels must have run before:
    /// a GPU looks them up and prepares them at their first launch, which it cannot do while it records.
    fn record(&self, _body: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>> {
        Ok(None)
    }

    /// The same again and again, until the phase at `phase` is done: the machine sees to that on its own. `body` is launched once at least.
    /// `None` from a machine that cannot, or may not (EQPROP_WHILE). The phase must outlast the recording.
    fn record_loop(
        self: Arc<Self>,
        _body: &mut dyn FnMut() -> Result<()>,
        _phase: *const EqPhase,
    ) -> Result<Option<Box<dyn Recording>>> {
        Ok(None)
    }
}

/// Launches that were recorded, with their arguments. It must go before the memory that they read.
pub trait Recording: Send + Sync {
    /// Submits all of them at once.
    ///
    /// # Errors
    /// When the machine fails, in this call or in a launch before it.
    fn replay(&self) -> Result<()>;
}

/// A kernel as its launch wrapper knows it: see `kernels.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelSpec {
    /// as in the kernels' source
    pub name: &'static str,
    /// of a block
    pub threads: u32,
    /// dynamic shared memory of a block
    pub shared_bytes: u32,
}

/// Bytes in buffers now, and the most that there were.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Most bytes of device memory that this process has had in buffers at once.
pub fn peak_bytes() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// `len` values of type `T` in device memory.
pub struct Buffer<T> {
    device: Arc<dyn Device>,
    address: u64,
    len: usize,
    marker: PhantomData<fn() -> T>,
}

#[expect(
    clippy::missing_errors_doc,
    reason = "every method fails when the device does"
)]
impl<T: Plain> Buffer<T> {
    /// Not initialised.
    pub fn new(device: &Arc<dyn Device>, len: usize) -> Result<Self> {
        // An empty buffer still has an address, so that nobody must ask.
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| {
            Error::Mismatch(format!(
                "a buffer of {len} elements has more bytes than can be counted"
            ))
        })?;
        let address = device.allocate(bytes.max(1))?;
        let in_use = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        Ok(Self {
            device: device.clone(),
            address,
            len,
            marker: PhantomData,
        })
    }

    /// All bytes zero.
    pub fn zeros(device: &Arc<dyn Device>, len: usize) -> Result<Self> {
        let buffer = Self::new(device, len)?;
        buffer.zero()?;
        Ok(buffer)
    }

    /// A copy of these values.
    pub fn from_slice(device: &Arc<dyn Device>, values: &[T]) -> Result<Self> {
        let buffer = Self::new(device, values.len())?;
        buffer.write(values)?;
        Ok(buffer)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address of element `index`, for a kernel's argument.
    pub fn at<P>(&self, index: usize) -> *mut P {
        assert!(
            index <= self.len,
            "element {index} of a buffer of {}",
            self.len
        );
        (self.address + (index * size_of::<T>()) as u64) as *mut P
    }

    /// Address of the first element, for a kernel's argument.
    pub fn ptr<P>(&self) -> *mut P {
        self.at(0)
    }

    /// Sets all bytes to zero, in the order of the launches.
    pub fn zero(&self) -> Result<()> {
        // SAFETY: the allocation has exactly so many bytes.
        unsafe { self.device.zero(self.address, self.len * size_of::<T>()) }
    }

    /// Copies values, as many as the buffer has, into it.
    pub fn write(&self, values: &[T]) -> Result<()> {
        assert_eq!(values.len(), self.len, "a buffer is written as a whole");
        self.write_at(0, values)
    }

    /// Waits for what was launched, and copies the values out.
    pub fn read(&self) -> Result<Vec<T>> {
        self.read_at(0, self.len)
    }

    /// Copies values into it, from element `at` on.
    pub fn write_at(&self, at: usize, values: &[T]) -> Result<()> {
        self.check(at, values.len());
        // SAFETY: they fit, as was just checked.
        unsafe { (self.device).upload(self.at::<u8>(at) as u64, bytes_of(values)) }
    }

    /// Waits for what was launched, and copies `count` values out, from element `at` on.
    pub fn read_at(&self, at: usize, count: usize) -> Result<Vec<T>> {
        self.check(at, count);
        let mut values = vec![T::default(); count];
        // SAFETY: T is plain data (see `Plain`), so any bytes are a valid value.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), count * size_of::<T>())
        };
        // SAFETY: they lie within, as was just checked.
        unsafe { (self.device).download(self.at::<u8>(at) as u64, bytes)? };
        Ok(values)
    }

    fn check(&self, at: usize, count: usize) {
        assert!(
            at <= self.len && count <= self.len - at,
            "{count} elements from {at} on of a buffer of {}",
            self.len
        );
    }

    /// Copies `count` elements from `from` on.
    pub fn copy_from(&self, to: usize, source: &Self, from: usize, count: usize) -> Result<()> {
        let within = |start: usize, len: usize| start <= len && count <= len - start;
        assert!(
            within(to, self.len) && within(from, source.len),
            "{count} elements from {from} of {} to {to} of {}",
            source.len,
            self.len
        );
        let size = size_of::<T>();
        let (to, from) = (self.at::<u8>(to) as u64, source.at::<u8>(from) as u64);
        // SAFETY: both ends were just checked.
        unsafe { self.device.copy(to, from, count * size) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        IN_USE.fetch_sub(self.len * size_of::<T>(), Ordering::Relaxed);
        // SAFETY: it came from `allocate`, and nothing drops a buffer twice.
        unsafe { self.device.release(self.address) };
    }
}

/// Types without references or invalid bit patterns, whose bytes can be sent to a device.
///
/// # Safety
/// Every bit pattern must be a value, and the type must be `repr(C)` or primitive.
pub unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: a primitive number, or a `repr(C)` struct of numbers and raw pointers.
        unsafe impl Plain for $t {}
    )* };
}
pub(super) use plain;
plain!(u8, u16, u32, i32, u64, f32, f64);

pub fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: T is plain data; padding inside the shared structs is declared as fields.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Counts what would be allocated, and does nothing else.
#[derive(Default)]
pub struct CountingDevice {
    bytes: AtomicUsize,
    multiprocessors: usize,
    capabilities: Capabilities,
}

impl CountingDevice {
    /// For which as many blocks are made as for a GPU of so many multiprocessors.
    pub fn with(multiprocessors: usize) -> Self {
        Self {
            multiprocessors,
            ..Self::default()
        }
    }

    /// The same for a GPU that can do so much.
    pub fn capable(self, capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    /// Bytes that were asked for, whether or not they were given back.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Device for CountingDevice {
    fn describe(&self) -> String {
        "no device".to_string()
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors.max(1)
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn tensor_map(&self, _: &TensorMap) -> Result<[u8; tensor_map::BYTES]> {
        Ok([0; tensor_map::BYTES])
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(0)
    }

    unsafe fn release(&self, _: u64) {}

    unsafe fn upload(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    unsafe fn download(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    unsafe fn copy(&self, _: u64, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn zero(&self, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, _: &KernelSpec, _: usize, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
