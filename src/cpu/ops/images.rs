//! States between their two forms: images `(N, C, H, W)`, as the world has them, and matrices with one row per pixel.

use super::real::Real;
use crate::network::Shape;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayView4, ArrayViewMut2};

/// `(N, C, H, W)` to one row per pixel.
pub fn rows<S: Copy, T: Real>(images: ArrayView4<S>, convert: impl Fn(S) -> T) -> Array2<T> {
    let (n, c, h, w) = images.dim();
    let pixels = images.permuted_axes([0, 2, 3, 1]);
    let pixels: Vec<T> = pixels.iter().map(|&v| convert(v)).collect();
    Array2::from_shape_vec((n * h * w, c), pixels).expect("as many pixels as the images have")
}

/// The inverse of [`rows`]: a layer of this shape as `(N, C, H, W)`.
pub fn images<T: Real>(shape: Shape, rows: &Array2<T>) -> ArrayD<f64> {
    let Shape {
        channels,
        height,
        width,
    } = shape;
    let images = rows.nrows() / shape.pixels();
    let image = rows
        .mapv(T::wide)
        .into_shape_with_order((images, height, width, channels))
        .expect("rows are pixels");
    let image = image.permuted_axes([0, 3, 1, 2]);
    image.as_standard_layout().into_owned().into_dyn()
}

/// One row per image instead of one per pixel: how a dense edge sees its pre layer.
pub fn per_image<T>(x: ArrayView2<'_, T>, images: usize) -> ArrayView2<'_, T> {
    let units = x.len() / images;
    x.into_shape_with_order((images, units))
        .expect("states are contiguous")
}

/// The same, to be written.
pub fn per_image_mut<T>(x: ArrayViewMut2<'_, T>, images: usize) -> ArrayViewMut2<'_, T> {
    let units = x.len() / images;
    x.into_shape_with_order((images, units))
        .expect("states are contiguous")
}
