//! A tensor map: where a tensor lies in device memory, and which boxes of it are copied.
//!
//! On a GPU this is a CUtensorMap, 128 bytes that only the driver makes and only the hardware reads. Here they are a form of our own with
//! the same contents, made by [`TensorMap::encode`] after the checks that the driver makes.

/// How pieces of 16 bytes are permuted where a box lies in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    None,
    /// Bits 4 to 6 of an address are joined with bits 7 to 9 by exclusive or.
    Span128,
}

/// A tensor of up to five dimensions, innermost first, and a box of it. What a box has outside of the tensor is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    pub address: u64,
    pub element_bytes: u32,
    pub dims: Vec<u64>,
    /// In bytes, of all dimensions but the innermost.
    pub strides: Vec<u64>,
    pub box_dims: Vec<u32>,
    pub swizzle: Swizzle,
}

/// The map cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tensor map cannot be made: {0}")]
pub struct TensorMapError(pub String);

const MAGIC: u32 = 0x7e45_0a9b;
pub const BYTES: usize = 128;

impl TensorMap {
    /// What the driver's `cuTensorMapEncodeTiled` demands.
    ///
    /// # Errors
    /// Names what is not so.
    pub fn check(&self) -> Result<(), TensorMapError> {
        let wrong = |what: String| Err(TensorMapError(what));
        let rank = self.dims.len();
        if !(1..=5).contains(&rank) || self.box_dims.len() != rank || self.strides.len() + 1 != rank
        {
            return wrong(format!(
                "{rank} dimensions, {} strides and a box of {}; 1 to 5, one less, and as many can be",
                self.strides.len(),
                self.box_dims.len()
            ));
        }
        if ![1, 2, 4, 8].contains(&self.element_bytes) {
            return wrong(format!("elements of {} bytes", self.element_bytes));
        }
        if !self.address.is_multiple_of(16) {
            return wrong(format!(
                "the address {:#x} is no multiple of 16",
                self.address
            ));
        }
        if let Some(&dim) = self.dims.iter().find(|&&d| d == 0 || d > 1 << 32) {
            return wrong(format!("a dimension of {dim}; 1 to 2^32 can be"));
        }
        let stride = |&&s: &&u64| !s.is_multiple_of(16) || s >= 1 << 40;
        if let Some(stride) = self.strides.iter().find(stride) {
            return wrong(format!(
                "a stride of {stride} bytes; multiples of 16 below 2^40 can be"
            ));
        }
        if let Some(&side) = self.box_dims.iter().find(|&&b| !(1..=256).contains(&b)) {
            return wrong(format!("a box side of {side}; 1 to 256 can be"));
        }
        let inner = self.inner_bytes();
        if !inner.is_multiple_of(16) {
            return wrong(format!(
                "the box is {inner} bytes wide; multiples of 16 can be"
            ));
        }
        if self.swizzle == Swizzle::Span128 && inner > 128 {
            return wrong(format!(
                "the box is {inner} bytes wide; with swizzle at most 128"
            ));
        }
        Ok(())
    }

    pub(crate) fn inner_bytes(&self) -> u32 {
        self.box_dims[0] * self.element_bytes
    }

    /// Bytes that a copy of a box counts for, whatever lies inside of the tensor.
    pub fn box_bytes(&self) -> u32 {
        self.box_dims.iter().product::<u32>() * self.element_bytes
    }

    /// The 128 bytes.
    ///
    /// # Errors
    /// As [`TensorMap::check`].
    pub fn encode(&self) -> Result<[u8; BYTES], TensorMapError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([
            self.dims.len() as u8,
            self.element_bytes as u8,
            u8::from(self.swizzle == Swizzle::Span128),
            0,
        ]);
        bytes.extend(self.address.to_le_bytes());
        for i in 0..5 {
            // A dimension may be 2^32.
            let dim = self.dims.get(i).map_or(0, |&dim| dim - 1);
            bytes.extend((dim as u32).to_le_bytes());
        }
        for i in 0..5 {
            bytes.extend(self.box_dims.get(i).unwrap_or(&0).to_le_bytes());
        }
        for i in 0..4 {
            bytes.extend(self.strides.get(i).unwrap_or(&0).to_le_bytes());
        }
        bytes.resize(BYTES, 0);
        Ok(bytes.try_into().expect("as many bytes"))
    }

    /// From 128 bytes that [`TensorMap::encode`] made.
    pub(crate) fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let rank = bytes[4] as usize;
        if word(0) != MAGIC || !(1..=5).contains(&rank) {
            return None;
        }
        let map = Self {
            address: long(8),
            element_bytes: bytes[5].into(),
            dims: (0..rank).map(|i| u64::from(word(16 + 4 * i)) + 1).collect(),
            box_dims: (0..rank).map(|i| word(36 + 4 * i)).collect(),
            strides: (0..rank - 1).map(|i| long(56 + 8 * i)).collect(),
            swizzle: match bytes[6] {
                0 => Swizzle::None,
                _ => Swizzle::Span128,
            },
        };
        map.check().is_ok().then_some(map)
    }
}

/// Where a byte of a box lies in shared memory.
pub(crate) fn swizzled(address: u64, swizzle: Swizzle) -> u64 {
    match swizzle {
        Swizzle::None => address,
        Swizzle::Span128 => address ^ (address >> 7 & 7) << 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            address: 256,
            element_bytes: 2,
            dims: vec![72, 5, 1 << 32],
            strides: vec![144, 1 << 20],
            box_dims: vec![64, 8, 2],
            swizzle: Swizzle::Span128,
        }
    }

    #[test]
    fn a_map_survives_its_encoding() {
        let bytes = map().encode().unwrap();
        assert_eq!(TensorMap::decode(&bytes), Some(map()));
        assert_eq!(map().box_bytes(), 2048);
        assert_eq!(TensorMap::decode(&[0; BYTES]), None);
    }

    #[test]
    fn what_the_driver_refuses_is_refused() {
        let refused = |change: fn(&mut TensorMap), named: &str| {
            let mut map = map();
            change(&mut map);
            let error = map.encode().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        };
        refused(|m| m.address += 8, "no multiple of 16");
        refused(|m| m.strides[0] = 136, "a stride of 136 bytes");
        refused(|m| m.strides[1] = 1 << 40, "below 2^40");
        refused(|m| m.box_dims[1] = 257, "a box side of 257");
        refused(|m| m.box_dims[0] = 72, "144 bytes wide");
        refused(|m| m.box_dims[0] = 60, "multiples of 16");
        refused(|m| m.dims[1] = 0, "a dimension of 0");
        refused(|m| m.dims.push(1), "dimensions");
    }

    #[test]
    fn pieces_of_eight_rows_are_permuted_by_their_row() {
        for row in 0..16 {
            for piece in 0..8 {
                let at = swizzled(1024 + row * 128 + piece * 16, Swizzle::Span128);
                assert_eq!(at, 1024 + row * 128 + (piece ^ (row % 8)) * 16);
            }
        }
    }
}
