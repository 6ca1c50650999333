//! What can go wrong with a GPU, for callers that decide by it.

use crate::error::Error;
use cudarc::driver::sys::CUresult;

/// Why a GPU cannot be used, or stopped working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// This machine has no driver.
    #[error("no NVIDIA driver was found (libcuda.so); install one, or use --device cpu")]
    NoDriver,
    /// The program was built without nvcc.
    #[error(
        "this build has no CUDA kernels: install the CUDA toolkit (or `pip install nvidia-cuda-nvcc nvidia-nvvm \
         nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl`) so that nvcc is found, and build again; or use --device cpu"
    )]
    NoKernels,
    /// There are fewer GPUs.
    #[error("there is no GPU {ordinal}: the driver sees {count} (see `eqprop-cuda info`)")]
    NoSuchGpu {
        /// the one that was asked for
        ordinal: usize,
        /// how many there are
        count: usize,
    },
    /// The GPU is older than the kernels' instructions.
    #[error(
        "{name} has compute capability {}.{}; the kernels need {}.{} or later",
        has.0, has.1, needs.0, needs.1
    )]
    TooOld {
        /// as the driver calls it
        name: String,
        /// major and minor
        has: (i32, i32),
        /// major and minor
        needs: (i32, i32),
    },
    /// An allocation of so many bytes failed.
    #[error(
        "allocating {bytes} bytes: out of GPU memory; a smaller --batch-size or narrower --channels needs less"
    )]
    OutOfMemory {
        /// as many as were asked for
        bytes: usize,
    },
    /// An environment variable says something that it cannot.
    #[error("{0}")]
    Setting(String),
    /// A kernel did what it must not: where kernels run on the CPU.
    #[error("kernel {kernel}: {problem}")]
    Kernel {
        /// its name
        kernel: &'static str,
        /// what it did
        problem: String,
    },
    /// A call of the driver failed: what it was for, and the driver's code.
    #[error("{call}: {}", remedy(*code))]
    Driver {
        /// what it was for
        call: String,
        /// what it answered
        code: CUresult,
    },
}

impl From<CudaError> for Error {
    fn from(error: CudaError) -> Self {
        Self::Device(Box::new(error))
    }
}

/// What a user can do about a code.
fn remedy(code: CUresult) -> String {
    match code {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "out of GPU memory; a smaller --batch-size or narrower --channels needs less"
                .to_string()
        }
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_INVALID_PTX => format!(
            "this build has no kernels for this GPU or its driver (it has sm_{}); update the driver, or rebuild with \
             EQPROP_CUDA_ARCHS set to the GPU's architecture",
            super::image::architectures().unwrap_or("none")
        ),
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the NVIDIA driver is too old for this build; update it".to_string()
        }
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR => {
            format!("the GPU stopped working on this ({code:?}); resume from the last checkpoint")
        }
        code => format!("{code:?}"),
    }
}
