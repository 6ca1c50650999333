//! [`Ranks`] over NCCL, for processes with a GPU each. The library is loaded when it is first asked for.
//!
//! A gradient is summed where it lies, on the stream that makes it. Everything else that ranks exchange is small, and goes through a
//! piece of device memory.

use super::attendance::Attendance;
use super::ranks::{Awaited, Ranks};
use super::rendezvous::{ID_BYTES, Meeting};
use crate::data::Shard;
use crate::error::{Error, Result, bail};
use crate::phase::GradientMemory;
use cudarc::driver::{result as driver, sys as cuda};
use cudarc::nccl::{result, sys};
use std::ffi::c_void;
use std::fmt;
use std::time::Duration;

/// Values that go through device memory at once.
const STAGED: usize = 1 << 16;

/// All processes that met at rank 0.
pub struct Nccl {
    shard: Shard,
    communicator: sys::ncclComm_t,
    device: cuda::CUdevice,
    context: cuda::CUcontext,
    /// for what does not lie on a stream of its own
    stream: cuda::CUstream,
    /// [`STAGED`] f64
    staging: cuda::CUdeviceptr,
    attendance: Attendance,
}

fn gpu<T>(what: &str, outcome: Result<T, driver::DriverError>) -> Result<T> {
    outcome.map_err(|error| Error::Ranks(format!("{what}: {:?}", error.0)))
}

fn nccl(what: &str, outcome: Result<result::NcclStatus, result::NcclError>) -> Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            Ranks,
            "NCCL failed while {what}: {:?} (NCCL_DEBUG=INFO says more)",
            error.0
        ),
    }
}

impl Nccl {
    /// Joins the other processes with GPU number `ordinal` of this machine. Once per process.
    ///
    /// # Errors
    /// Without NCCL or a GPU, or when the ranks do not meet within `limit`.
    pub fn join(shard: Shard, ordinal: usize, meeting: &Meeting, limit: Duration) -> Result<Self> {
        // SAFETY: looks for the library.
        if !unsafe { sys::is_culib_present() } {
            bail!(
                Ranks,
                "NCCL was not found (libnccl.so.2), which several GPUs need; install it (Debian and Ubuntu: libnccl2 from NVIDIA's repository; \
                 or `pip install nvidia-nccl-cu13`, with its folder lib in LD_LIBRARY_PATH), or train on one GPU"
            );
        }
        let (id, attendance) = meeting.share(shard, limit, || {
            let id = result::get_uniqueid()
                .map_err(|error| Error::Ranks(format!("NCCL makes no id: {:?}", error.0)))?;
            Ok(id.internal.map(|byte| byte as u8))
        })?;
        gpu("the CUDA driver could not start", driver::init())?;
        let number = i32::try_from(ordinal)
            .map_err(|_| Error::Ranks(format!("there is no GPU {ordinal}")))?;
        let device = gpu("opening the GPU", driver::device::get(number))?;
        // SAFETY: the device was just obtained; `drop` releases the context.
        let context = gpu("opening the GPU", unsafe {
            driver::primary_ctx::retain(device)
        })?;
        // From here on an early return releases what was obtained.
        let mut this = Self {
            shard,
            communicator: std::ptr::null_mut(),
            device,
            context,
            stream: std::ptr::null_mut(),
            staging: 0,
            attendance,
        };
        this.enter()?;
        let stream = driver::stream::create(driver::stream::StreamKind::NonBlocking);
        this.stream = gpu("opening the GPU", stream)?;
        // SAFETY: a number of bytes.
        let staging = unsafe { driver::malloc_sync(STAGED * size_of::<f64>()) };
        this.staging = gpu("memory to exchange values", staging)?;
        let id = sys::ncclUniqueId {
            internal: id.map(|byte| byte as _),
        };
        debug_assert_eq!(id.internal.len(), ID_BYTES);
        // SAFETY: the communicator lives in `this`, and the context is that of the rank's GPU.
        let joined = unsafe {
            result::comm_init_rank(
                &mut this.communicator,
                shard.world as i32,
                id,
                shard.rank as i32,
            )
        };
        nccl("the ranks met", joined)?;
        Ok(this)
    }

    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        gpu("using the GPU", unsafe {
            driver::ctx::set_current(self.context)
        })
    }

    fn wait(&self, stream: cuda::CUstream) -> Result<()> {
        // SAFETY: the caller's stream.
        gpu("waiting for the other ranks", unsafe {
            driver::stream::synchronize(stream)
        })
    }

    fn upload(&self, values: &[f64]) -> Result<()> {
        // SAFETY: no more than fit in, and the values stay until the stream was waited for.
        gpu("sending values to the GPU", unsafe {
            driver::memcpy_htod_async(self.staging, values, self.stream)
        })
    }

    fn download(&self, values: &mut [f64]) -> Result<()> {
        // SAFETY: as above.
        gpu("fetching values from the GPU", unsafe {
            driver::memcpy_dtoh_async(values, self.staging, self.stream)
        })?;
        self.wait(self.stream)
    }

    fn all_reduce(&self, values: &mut [f64], operation: sys::ncclRedOp_t) -> Result<()> {
        self.attendance.come();
        self.enter()?;
        for part in values.chunks_mut(STAGED) {
            self.upload(part)?;
            let staging = self.staging as *mut c_void;
            // SAFETY: as many values lie there, and everything goes through one stream.
            nccl("values were exchanged", unsafe {
                result::all_reduce(
                    staging,
                    staging,
                    part.len(),
                    sys::ncclDataType_t::ncclFloat64,
                    operation,
                    self.communicator,
                    self.stream.cast(),
                )
            })?;
            self.download(part)?;
        }
        Ok(())
    }
}

impl Ranks for Nccl {
    fn shard(&self) -> Shard {
        self.shard
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.all_reduce(values, sys::ncclRedOp_t::ncclSum)
    }

    fn sum_gradient(&self, memory: GradientMemory<'_>) -> Result<()> {
        let GradientMemory::Device {
            address,
            count,
            stream,
        } = memory
        else {
            bail!(
                Ranks,
                "these processes exchange device memory, but the gradient is on the host"
            );
        };
        self.attendance.come();
        self.enter()?;
        let values = address as *mut c_void;
        // SAFETY: the backend's promise: so many fp32 values lie there, and the stream makes them.
        nccl("gradients were summed", unsafe {
            result::all_reduce(
                values,
                values,
                count,
                sys::ncclDataType_t::ncclFloat32,
                sys::ncclRedOp_t::ncclSum,
                self.communicator,
                stream.cast(),
            )
        })?;
        // The norm, which comes next, would wait anyway; here the wait is watched.
        self.wait(stream.cast())
    }

    fn max(&self, values: &mut [f64]) -> Result<()> {
        self.all_reduce(values, sys::ncclRedOp_t::ncclMax)
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>> {
        let Shard { rank, world } = self.shard;
        let mut counts = vec![0.0; world];
        counts[rank] = values.len() as f64;
        self.sum(&mut counts)?;
        self.attendance.come();
        let staging = self.staging as *mut c_void;
        let double = sys::ncclDataType_t::ncclFloat64;
        if rank > 0 {
            for part in values.chunks(STAGED) {
                self.upload(part)?;
                // SAFETY: as many values lie there.
                nccl("a state was sent", unsafe {
                    result::send(
                        staging,
                        part.len(),
                        double,
                        0,
                        self.communicator,
                        self.stream.cast(),
                    )
                })?;
                self.wait(self.stream)?;
            }
            return Ok(Vec::new());
        }
        let mut all = values.to_vec();
        for (peer, &count) in counts.iter().enumerate().skip(1) {
            let start = all.len();
            all.resize(start + count as usize, 0.0);
            for part in all[start..].chunks_mut(STAGED) {
                // SAFETY: as many values fit there.
                nccl("a state was received", unsafe {
                    result::recv(
                        staging,
                        part.len(),
                        double,
                        peer as i32,
                        self.communicator,
                        self.stream.cast(),
                    )
                })?;
                self.download(part)?;
            }
        }
        Ok(all)
    }

    fn awaited(&self) -> Awaited {
        self.attendance.awaited()
    }

    fn abort(&self) {
        // SAFETY: nothing uses the communicator after it.
        unsafe {
            let _ = result::comm_abort(self.communicator);
        }
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Nccl({:?})", self.shard)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: nothing uses the handles any more; errors at exit have no one to tell.
        unsafe {
            if self.enter().is_ok() {
                if !self.communicator.is_null() {
                    let _ = result::comm_destroy(self.communicator);
                }
                if self.staging != 0 {
                    let _ = driver::free_sync(self.staging);
                }
                if !self.stream.is_null() {
                    let _ = driver::stream::destroy(self.stream);
                }
            }
            let _ = driver::primary_ctx::release(self.device);
        }
    }
}
