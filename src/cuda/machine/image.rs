//! The compiled kernels that the executable carries.

/// Bytes at an address that the driver may read as words.
#[cfg(eqprop_kernels)]
#[repr(align(16))]
struct Aligned<T: ?Sized>(T);

/// The fat binary that build.rs made of `kernels/`. On its own, `include_bytes!` promises no alignment.
#[cfg(eqprop_kernels)]
static FAT_BINARY: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));

/// The fat binary, at a multiple of 16; `None` in a build without kernels.
pub fn fat_binary() -> Option<&'static [u8]> {
    #[cfg(eqprop_kernels)]
    return Some(&FAT_BINARY.0);
    #[cfg(not(eqprop_kernels))]
    None
}

/// `kernels/while_node.cu`, which ends the body of a graph's loop.
#[cfg(eqprop_while_node)]
static WHILE_NODE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/while_node.fatbin"
)));

/// The fat binary of the kernel that steers a graph's loop; `None` where the toolkit could not compile it.
pub fn while_node() -> Option<&'static [u8]> {
    #[cfg(eqprop_while_node)]
    return Some(&WHILE_NODE.0);
    #[cfg(not(eqprop_while_node))]
    None
}

/// Architectures with machine code in this build, for instance `80,90a`; `None` without kernels.
pub fn architectures() -> Option<&'static str> {
    option_env!("EQPROP_KERNEL_ARCHITECTURES").filter(|_| fat_binary().is_some())
}
