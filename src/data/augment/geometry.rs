//! Where a pixel comes from: flips, crops, and affine maps with nearest-neighbour lookup.
//!
//! An affine map `(a, b, c, d, e, f)` takes an *output* position to an *input* position,
//! `x_in = a x + b y + c`, `y_in = d x + e y + f`, with pixel centres at half-integers. Positions outside the input are black.
//! PIL evaluates it in 16.16 fixed point (a map without shear in floating point), and so do we: at an exact border between
//! two pixels the rounding decides which one is taken.

use serde::{Deserialize, Serialize};

use crate::data::Image;

/// What surrounds an image before a random window is cut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PadMode {
    /// The border pixels, repeated.
    Edge,
    /// Black.
    Zero,
}

/// Coefficients `(a, b, c, d, e, f)` of a map from output to input positions.
type Affine = [f64; 6];

/// Mirrors left and right.
pub fn flip(image: &Image) -> Image {
    let mut out = image.clone();
    for row in out.data.chunks_exact_mut(image.width.max(1)) {
        row.reverse();
    }
    out
}

/// Surrounds the image by `pad` black pixels on each side.
pub fn pad_zero(image: &Image, pad: usize) -> Image {
    let (height, width) = (image.height + 2 * pad, image.width + 2 * pad);
    let mut out = Image::zeros(image.channels, height, width);
    for (to, from) in out.planes_mut().zip(image.planes()) {
        for (y, row) in from.chunks_exact(image.width).enumerate() {
            let start = (y + pad) * width + pad;
            to[start..start + image.width].copy_from_slice(row);
        }
    }
    out
}

/// Pads `pad` pixels on each side, by repeating the border, and cuts out the `size` x `size` window whose corner is `(top, left)`
/// of the padded image.
pub fn crop_edge(image: &Image, pad: usize, top: usize, left: usize, size: usize) -> Image {
    crop(image, pad, PadMode::Edge, top, left, (size, size))
}

/// [`crop_edge`] with a choice of what the padding holds, and a window of `(height, width)` pixels. A window that reaches beyond the
/// padding sees more of the same.
pub fn crop(
    image: &Image,
    pad: usize,
    mode: PadMode,
    top: usize,
    left: usize,
    (height, width): (usize, usize),
) -> Image {
    // Padding and cutting at once: position i of the window is position i + offset - pad of the image.
    let source = |offset: usize, i: usize, extent: usize| -> Option<usize> {
        let at = (offset + i).checked_sub(pad);
        match mode {
            PadMode::Edge => Some(at.unwrap_or(0).min(extent - 1)),
            PadMode::Zero => at.filter(|&at| at < extent),
        }
    };
    let mut out = Image::zeros(image.channels, height, width);
    for (to, from) in out.planes_mut().zip(image.planes()) {
        for (y, row) in to.chunks_exact_mut(width.max(1)).enumerate() {
            let Some(y) = source(top, y, image.height) else {
                continue;
            };
            let from = &from[y * image.width..(y + 1) * image.width];
            for (x, value) in row.iter_mut().enumerate() {
                if let Some(x) = source(left, x, image.width) {
                    *value = from[x];
                }
            }
        }
    }
    out
}

/// Shears along x and y by the tangents `shear_x`, `shear_y`, about the top left corner.
pub fn shear(image: &Image, shear_x: f64, shear_y: f64) -> Image {
    // torchvision takes the shear in degrees; the detour decides the last bits of the coefficients.
    let radians = |tangent: f64| tangent.atan().to_degrees().to_radians();
    affine(
        image,
        &inverse_affine((0.0, 0.0), (0.0, 0.0), radians(shear_x), radians(shear_y)),
    )
}

/// Moves the content right by `x` and down by `y` whole pixels.
pub fn translate(image: &Image, x: f64, y: f64) -> Image {
    let centre = (image.width as f64 * 0.5, image.height as f64 * 0.5);
    affine(
        image,
        &inverse_affine(centre, (x.trunc(), y.trunc()), 0.0, 0.0),
    )
}

/// Turns the image counter-clockwise by `degrees` about its centre.
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let degrees = degrees.rem_euclid(360.0);
    let quarters = degrees / 90.0;
    if quarters.fract() == 0.0 && (image.width == image.height || quarters % 2.0 == 0.0) {
        return (0..quarters as usize % 4).fold(image.clone(), |turned, _| quarter_turn(&turned));
    }
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (cos, sin, minus_sin) = (round15(cos), round15(sin), round15(-sin));
    let (cx, cy) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
    let map = [
        cos,
        sin,
        cos * -cx + sin * -cy + 0.0 + cx,
        minus_sin,
        cos,
        minus_sin * -cx + cos * -cy + 0.0 + cy,
    ];
    affine(image, &map)
}

/// Ninety degrees counter-clockwise.
fn quarter_turn(image: &Image) -> Image {
    let (height, width) = (image.width, image.height);
    let mut out = Image::zeros(image.channels, height, width);
    for (to, from) in out.planes_mut().zip(image.planes()) {
        for y in 0..height {
            for x in 0..width {
                to[y * width + x] = from[x * image.width + (image.width - 1 - y)];
            }
        }
    }
    out
}

/// Rounds to 15 decimal places, exactly as PIL does before it uses a rotation.
fn round15(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// The map that undoes "shear about `centre`, then translate"; angles in radians. The order of the operations is torchvision's.
fn inverse_affine(centre: (f64, f64), translate: (f64, f64), sx: f64, sy: f64) -> Affine {
    let a = (-sy).cos() / sy.cos();
    let b = -(-sy).cos() * sx.tan() / sy.cos();
    let c = (-sy).sin() / sy.cos();
    let d = -(-sy).sin() * sx.tan() / sy.cos() + 1.0;
    let (dx, dy) = (-centre.0 - translate.0, -centre.1 - translate.1);
    [
        d,
        -b,
        d * dx + -b * dy + centre.0,
        -c,
        a,
        -c * dx + a * dy + centre.1,
    ]
}

/// Applies `map` with nearest-neighbour lookup; what lies outside is black.
fn affine(image: &Image, map: &Affine) -> Image {
    let mut out = Image::zeros(image.channels, image.height, image.width);
    let lookup = lookup(image, map);
    for (to, from) in out.planes_mut().zip(image.planes()) {
        for (value, source) in to.iter_mut().zip(&lookup) {
            if let Some(source) = source {
                *value = from[*source];
            }
        }
    }
    out
}

/// For each output pixel the input pixel it shows, if any.
fn lookup(image: &Image, map: &Affine) -> Vec<Option<usize>> {
    let (height, width) = (image.height, image.width);
    let [a, b, c, d, e, f] = *map;
    let inside = |x: i64, y: i64| {
        ((0..width as i64).contains(&x) && (0..height as i64).contains(&y))
            .then(|| y as usize * width + x as usize)
    };
    let mut lookup = Vec::with_capacity(height * width);
    if b == 0.0 && d == 0.0 {
        // Rows and columns are independent; PIL accumulates in floating point.
        let steps = |start: f64, step: f64, count: usize| -> Vec<i64> {
            let mut at = start + step * 0.5;
            let mut positions = Vec::with_capacity(count);
            for _ in 0..count {
                positions.push(if at < 0.0 { -1 } else { at as i64 });
                at += step;
            }
            positions
        };
        let columns = steps(c, a, width);
        for y in steps(f, e, height) {
            lookup.extend(columns.iter().map(|&x| inside(x, y)));
        }
        return lookup;
    }
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (dx_x, dx_y) = (fixed(a), fixed(b));
    let (dy_x, dy_y) = (fixed(d), fixed(e));
    let mut row_x = fixed(c + a * 0.5 + b * 0.5);
    let mut row_y = fixed(f + d * 0.5 + e * 0.5);
    for _ in 0..height {
        let (mut x, mut y) = (row_x, row_y);
        for _ in 0..width {
            lookup.push(inside(x >> 16, y >> 16));
            x = x.wrapping_add(dx_x);
            y = y.wrapping_add(dy_x);
        }
        row_x = row_x.wrapping_add(dx_y);
        row_y = row_y.wrapping_add(dy_y);
    }
    lookup
}
