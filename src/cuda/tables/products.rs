//! What the gradient of a parameter tensor is made of, and the tiles of a weight gradient.

use super::geometry::Geometry;
use super::layout::padded;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::kernels::WeightGrad;
use std::ffi::c_void;

/// Blocks that an edge's product is cut into at least, where it has enough pixels: two for each multiprocessor of a large
/// GPU. A constant, so that sums are cut in the same way on every device.
const BLOCKS_PER_EDGE: usize = 264;
/// Fewest pixels that a block sums over: below, writing and gathering its sums costs more than making them.
const PIXELS_PER_SPLIT: usize = 512;
/// Where the gradient of one parameter tensor comes from.
pub enum TensorGradient {
    /// a weight: products of what its edge joins, summed over pixels
    Products(Products),
    /// a sum over rows of as many channels as the tensor has, in the operand format
    Rows { rows: *const c_void, count: usize },
    /// another kernel writes it to [`GradientPlan::slot`]
    Written,
    /// there is none
    Zero,
}

/// `dW[tap][post][pre] = sum_pixels m_pre d_post + d_pre m_post`, where `d` lies `stride` elements after `m`.
pub struct Products {
    pub geometry: Geometry,
    pub pre: *const c_void,
    pub pre_stride: usize,
    pub post: *const c_void,
    pub post_stride: usize,
    /// only the first product
    pub one: bool,
}

impl Products {
    /// As the kernels see it.
    pub fn edge(&self) -> EqGradEdge {
        let g = &self.geometry;
        EqGradEdge {
            pre: self.pre,
            post: self.post,
            pre_stride: self.pre_stride as u64,
            post_stride: self.post_stride as u64,
            products: if self.one { 1 } else { 2 },
            pre_channels: padded(g.pre.channels) as u32,
            post_channels: padded(g.full.channels) as u32,
            pre_height: g.pre.height as i32,
            pre_width: g.pre.width as i32,
            post_height: g.full.height as i32,
            post_width: g.full.width as i32,
            stride_y: g.stride[0] as i32,
            stride_x: g.stride[1] as i32,
            taps: g.taps() as u32,
            kernel_width: g.kernel[1] as u32,
            zero_padding_y: g.padding[0] as i32,
            zero_padding_x: g.padding[1] as i32,
            dilation_y: g.dilation[0] as i32,
            dilation_x: g.dilation[1] as i32,
            padding: 0,
        }
    }

    /// Cuts the product into tiles, whose sums go to the workspace from `out` on; returns the number of splits.
    pub fn divide(
        &self,
        grad: WeightGrad,
        images: usize,
        edge: u32,
        out: usize,
        tiles: &mut Vec<EqGradTile>,
    ) -> usize {
        let g = &self.geometry;
        let (post_tile, column_tile) = grad.tile();
        let (post_channels, pre_channels) = (padded(g.full.channels), padded(g.pre.channels));
        let pixels = images * g.full.pixels();
        let columns = g.taps() * pre_channels;
        let squares = post_channels.div_ceil(post_tile) * columns.div_ceil(column_tile);
        let splits = BLOCKS_PER_EDGE
            .div_ceil(squares)
            .min(pixels.div_ceil(PIXELS_PER_SPLIT));
        let per_split = pixels.div_ceil(splits);
        for (split, first_pixel) in (0..pixels).step_by(per_split).enumerate() {
            let out = out + split * post_channels * columns;
            for first_post in (0..post_channels).step_by(post_tile) {
                for first_column in (0..columns).step_by(column_tile) {
                    tiles.push(EqGradTile {
                        edge,
                        first_post: first_post as u32,
                        first_column: first_column as u32,
                        first_pixel: first_pixel as u32,
                        pixels: per_split.min(pixels - first_pixel) as u32,
                        shared: EQ_SHARED_NOTHING,
                        out: out as u64,
                    });
                }
            }
        }
        pixels.div_ceil(per_split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Shape;

    /// Eight (padded) channels of nine taps are 72 columns: one tile, where each tap had one of 128 of its own.
    #[test]
    fn the_taps_of_an_edge_of_few_channels_share_a_tile() {
        let products = Products {
            geometry: Geometry {
                pre: Shape::new(3, 32, 32),
                full: Shape::new(128, 32, 32),
                pooled: false,
                average: false,
                kernel: [3, 3],
                stride: [1, 1],
                padding: [1, 1],
                dilation: [1, 1],
            },
            pre: std::ptr::null(),
            pre_stride: 0,
            post: std::ptr::null(),
            post_stride: 0,
            one: true,
        };
        let mut tiles = Vec::new();
        let splits = products.divide(WeightGrad::MmaWide, 128, 0, 0, &mut tiles);
        assert_eq!(tiles.len(), splits);
        assert!(tiles.iter().all(|tile| tile.first_column == 0));
    }
}
