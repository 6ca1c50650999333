//! What Hopper's copies are told about a tensor: a view of device memory, and the box that one copy brings.

/// An fp16 tensor of up to five dimensions, innermost first, that is copied in boxes. A box's rows of 64 elements lie in shared memory
/// with their 16-byte pieces permuted (128-byte swizzle); what a box has outside of the tensor is zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorMap {
    /// of its first element
    pub address: u64,
    /// elements along each dimension
    pub dims: Vec<u64>,
    /// bytes from one to the next along each dimension but the innermost
    pub strides: Vec<u64>,
    /// elements of a box along each dimension
    pub box_dims: Vec<u32>,
}

/// Bytes of a CUtensorMap.
pub const BYTES: usize = super::abi::EQ_TENSOR_MAP_BYTES as usize;
/// Bytes of an element.
#[cfg(feature = "interpreter")]
pub const ELEMENT_BYTES: u32 = 2;
