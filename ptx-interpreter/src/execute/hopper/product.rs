//! Matrix products of a warpgroup (`wgmma`): operands by descriptor from shared memory, sums in registers.
//!
//! The four warps of a warpgroup execute the instruction one after the other here, each its own 16 rows of the 64. Sums are there at
//! once; nobody may touch them before the wait, so nobody can tell.

use crate::finding::{AsyncProblem, Fault, wrong};
use crate::machine::{Block, Context, FULL, WARPS, Warp};
use crate::memory::tensor_map::{Swizzle, swizzled};
use crate::number::float::{bfloat_to_f32, half_to_f32};
use crate::number::matrix::{Sums, truncated_sums};
use crate::program::Hopper;

/// K of a product of 16-bit operands.
const DEPTH: usize = 16;
/// How an operand lies in shared memory.
struct Operand {
    start: u64,
    leading: u64,
    stride: u64,
}

impl Operand {
    fn decode(descriptor: u64) -> Result<Self, AsyncProblem> {
        let wrong = |detail: String| AsyncProblem::Descriptor { descriptor, detail };
        let field = |shift: u32| (descriptor >> shift & 0x3fff) << 4;
        let operand = Self {
            start: field(0),
            leading: field(16),
            stride: field(32),
        };
        if descriptor >> 62 != 1 {
            let mode = descriptor >> 62;
            return Err(wrong(format!(
                "swizzle mode {mode}; only that of 128 bytes (1) is modelled"
            )));
        }
        if descriptor >> 49 & 7 != 0 {
            return Err(wrong("a base offset is not modelled".into()));
        }
        if operand.start >> 7 & 7 != 0 {
            let detail = "the permutation does not begin at a multiple of 1024 bytes".to_string();
            return Err(wrong(detail));
        }
        Ok(operand)
    }

    /// Where 16 bytes begin: eight elements along the contiguous direction. `outer` is a row of M or N (K contiguous), or of K.
    fn piece(&self, contiguous_k: bool, outer: usize, piece: usize) -> u64 {
        let (outer, piece) = (outer as u64, piece as u64);
        let row = self.start + outer / 8 * self.stride + outer % 8 * 128;
        let along = match contiguous_k {
            true => piece * 16,
            // 64 channels lie side by side, the next 64 a leading distance further on.
            false => piece / 8 * self.leading + piece % 8 * 16,
        };
        swizzled(row + along, Swizzle::Span128)
    }
}

/// Executes a warp's part of a product.
pub fn multiply(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    op: &Hopper,
) -> Result<(), Fault> {
    let Hopper::Product {
        sums,
        a,
        b,
        scale,
        transposed,
        brain,
    } = op
    else {
        unreachable!("only products come here")
    };
    let columns = sums.len() * 2;
    let descriptor = |reg| {
        let values = warp.get(reg);
        let same = values.iter().all(|&v| v == values[0]);
        let differ = || AsyncProblem::Descriptor {
            descriptor: values[0],
            detail: "the lanes of a warp have different ones".into(),
        };
        same.then_some(values[0]).ok_or_else(differ)
    };
    let problem = |problem| wrong(0, problem);
    let (a, b) = (
        descriptor(*a).map_err(problem)?,
        descriptor(*b).map_err(problem)?,
    );
    let units = block.units.as_mut().expect("checked by the caller");
    units
        .products
        .check(warp.place, (a, b, columns))
        .map_err(problem)?;
    let (left, right) = (
        Operand::decode(a).map_err(problem)?,
        Operand::decode(b).map_err(problem)?,
    );
    let rows = sums.iter().map(|reg| reg.row());
    let group = warp.running.begin(rows).map_err(problem)?;

    let convert = |bits: u16| match brain {
        true => bfloat_to_f32(bits.into()),
        false => half_to_f32(bits.into()),
    };
    let mut fetch = |at: u64| -> Result<[f32; 8], Fault> {
        let at = block.shared.own(0, at, 16)?;
        let order = block.shared.order.as_mut().expect("as the units");
        order.product_reads(at, 16, warp.place, group)?;
        let bytes = block.shared.bytes(at as usize, 16);
        Ok(std::array::from_fn(|i| {
            convert(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
        }))
    };
    // This warp's 16 rows of a, and all of b, by K.
    let [left_transposed, right_transposed] = *transposed;
    let first_row = warp.index % WARPS * 16;
    let mut left_values = [[0f32; DEPTH]; 16];
    if left_transposed {
        for k in 0..DEPTH {
            for piece in 0..2 {
                let values = fetch(left.piece(false, k, first_row / 8 + piece))?;
                for (row, value) in left_values[piece * 8..].iter_mut().zip(values) {
                    row[k] = value;
                }
            }
        }
    } else {
        for (row, values) in left_values.iter_mut().enumerate() {
            for piece in 0..2 {
                values[piece * 8..][..8].copy_from_slice(&fetch(left.piece(
                    true,
                    first_row + row,
                    piece,
                ))?);
            }
        }
    }
    let mut right_values = vec![0f32; DEPTH * columns];
    if right_transposed {
        for k in 0..DEPTH {
            for piece in 0..columns / 8 {
                right_values[k * columns + piece * 8..][..8]
                    .copy_from_slice(&fetch(right.piece(false, k, piece))?);
            }
        }
    } else {
        for column in 0..columns {
            for piece in 0..2 {
                let values = fetch(right.piece(true, column, piece))?;
                for (i, value) in values.into_iter().enumerate() {
                    right_values[(piece * 8 + i) * columns + column] = value;
                }
            }
        }
    }
    block.traffic.shared_read += ((16 + columns) * DEPTH * 2) as u64;

    let scale = warp.predicate(*scale);
    let mut result = vec![0f32; 16 * columns];
    for (i, reg) in sums.iter().enumerate() {
        let values = warp.narrow(*reg);
        for (lane, &bits) in values.iter().enumerate() {
            let (row, column) = place(i, lane);
            if scale >> lane & 1 != 0 {
                result[row * columns + column] = f32::from_bits(bits);
            }
        }
    }
    add_products(
        &left_values,
        &right_values,
        &mut result,
        columns,
        context.options.sums,
    );
    for (i, reg) in sums.iter().enumerate() {
        let values = std::array::from_fn(|lane| {
            let (row, column) = place(i, lane);
            result[row * columns + column].to_bits()
        });
        warp.set32(*reg, FULL, &values);
    }
    Ok(())
}

/// Row (of the warp's 16) and column of sum register `i` of a lane.
fn place(i: usize, lane: usize) -> (usize, usize) {
    (lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2)
}

fn add_products(
    left: &[[f32; DEPTH]; 16],
    right: &[f32],
    result: &mut [f32],
    columns: usize,
    sums: Sums,
) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn with_vectors(
            left: &[[f32; DEPTH]; 16],
            right: &[f32],
            result: &mut [f32],
            columns: usize,
            sums: Sums,
        ) {
            add(left, right, result, columns, sums);
        }
        // SAFETY: the processor has both.
        return unsafe { with_vectors(left, right, result, columns, sums) };
    }
    add(left, right, result, columns, sums);
}

#[inline(always)]
fn add(left: &[[f32; DEPTH]; 16], right: &[f32], result: &mut [f32], columns: usize, sums: Sums) {
    for (row, result) in left.iter().zip(result.chunks_exact_mut(columns)) {
        for (block, result) in result.chunks_exact_mut(8).enumerate() {
            let result: &mut [f32; 8] = result.try_into().expect("eight of them");
            let at = |k: usize| -> &[f32; 8] {
                right[k * columns + block * 8..][..8]
                    .try_into()
                    .expect("eight of them")
            };
            match sums {
                Sums::Rounded => {
                    let mut sum = [0f64; 8];
                    for (k, &left) in row.iter().enumerate() {
                        for (sum, &right) in sum.iter_mut().zip(at(k)) {
                            *sum = f64::from(left).mul_add(f64::from(right), *sum);
                        }
                    }
                    for (result, sum) in result.iter_mut().zip(sum) {
                        *result = (f64::from(*result) + sum) as f32;
                    }
                }
                Sums::Truncated => {
                    for (i, part) in row.chunks_exact(8).enumerate() {
                        let right: [[f32; 8]; 8] = std::array::from_fn(|k| *at(8 * i + k));
                        truncated_sums(result, part, &right);
                    }
                }
            }
        }
    }
}
