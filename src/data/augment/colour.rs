//! What value a pixel gets: PIL's enhancers and look-up-table operations on 8-bit images.
//!
//! An enhancer blends the image with a degenerate version of it (black, grey, flat or smoothed): factor 1 is the image, 0 the
//! degenerate one, and above 1 the difference is exaggerated. Grey (one-plane) images have no colour, so `colour` leaves
//! them as they are.

use crate::data::Image;

/// Blends from black.
pub fn brightness(image: &Image, factor: f64) -> Image {
    blend(&vec![0; image.data.len()], image, factor)
}

/// Blends from the grey version of the image.
pub fn colour(image: &Image, factor: f64) -> Image {
    if image.channels != 3 {
        return image.clone();
    }
    let grey = luminance(image);
    blend(&grey.repeat(3), image, factor)
}

/// Blends from a flat image of the mean luminance.
pub fn contrast(image: &Image, factor: f64) -> Image {
    let grey = luminance(image);
    let sum: u64 = grey.iter().map(|&v| u64::from(v)).sum();
    let mean = (sum as f64 / grey.len().max(1) as f64 + 0.5) as u8;
    blend(&vec![mean; image.data.len()], image, factor)
}

/// Blends from the smoothed image: 3x3 neighbours, the centre weighted 5, all others 1; the border pixels stay unsmoothed.
pub fn sharpness(image: &Image, factor: f64) -> Image {
    let mut smooth = image.clone();
    let (height, width) = (image.height, image.width);
    for (to, from) in smooth.planes_mut().zip(image.planes()) {
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let row = |y: usize| {
                    let at = y * width + x;
                    from[at - 1..=at + 1]
                        .iter()
                        .map(|&v| u32::from(v))
                        .sum::<u32>()
                };
                let at = y * width + x;
                let sum = row(y - 1) + row(y) + row(y + 1) + 4 * u32::from(from[at]);
                // floor(sum/13 + 1/2), exactly: the sum is never halfway, since 13 is odd.
                to[at] = ((2 * sum + 13) / 26) as u8;
            }
        }
    }
    blend(&smooth.data, image, factor)
}

/// Keeps the `bits` highest bits of each value.
pub fn posterize(image: &Image, bits: u32) -> Image {
    let mask = !((1u32 << (8 - bits.min(8))) - 1);
    map(image, |v| v & mask as u8)
}

/// Inverts the values at or above `threshold`.
pub fn solarize(image: &Image, threshold: f64) -> Image {
    map(
        image,
        |v| if f64::from(v) < threshold { v } else { 255 - v },
    )
}

/// Stretches each plane so that it covers 0 to 255.
pub fn auto_contrast(image: &Image) -> Image {
    let mut out = image.clone();
    for plane in out.planes_mut() {
        let low = plane.iter().copied().min().unwrap_or(0);
        let high = plane.iter().copied().max().unwrap_or(0);
        if high <= low {
            continue;
        }
        let scale = 255.0 / f64::from(high - low);
        let offset = -f64::from(low) * scale;
        for value in plane {
            // `as` truncates and saturates, as PIL's int() and clamp do.
            *value = (f64::from(*value) * scale + offset) as u8;
        }
    }
    out
}

/// Flattens the histogram of each plane.
pub fn equalize(image: &Image) -> Image {
    let mut out = image.clone();
    for plane in out.planes_mut() {
        let mut histogram = [0usize; 256];
        for &value in plane.iter() {
            histogram[usize::from(value)] += 1;
        }
        let last = histogram.iter().rev().find(|&&n| n > 0).copied();
        let step = (plane.len() - last.unwrap_or(0)) / 255;
        if step == 0 {
            continue;
        }
        let mut table = [0u8; 256];
        let mut below = step / 2;
        for (entry, n) in table.iter_mut().zip(histogram) {
            *entry = (below / step).min(255) as u8;
            below += n;
        }
        for value in plane {
            *value = table[usize::from(*value)];
        }
    }
    out
}

/// One grey plane: ITU-R 601 luma in 16-bit fixed point (a one-plane image is its own).
fn luminance(image: &Image) -> Vec<u8> {
    let pixels = image.pixels();
    if image.channels != 3 {
        return image.data[..pixels].to_vec();
    }
    let (red, rest) = image.data.split_at(pixels);
    let (green, blue) = rest.split_at(pixels);
    red.iter()
        .zip(green)
        .zip(blue)
        .map(|((&r, &g), &b)| {
            let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
            ((sum + 0x8000) >> 16) as u8
        })
        .collect()
}

/// `degenerate + factor * (image - degenerate)` in single precision, truncated, and clipped to 0..=255.
fn blend(degenerate: &[u8], image: &Image, factor: f64) -> Image {
    let factor = factor as f32;
    let data = degenerate
        .iter()
        .zip(&image.data)
        .map(|(&from, &to)| {
            let difference = f32::from(i16::from(to) - i16::from(from));
            // `as` truncates and saturates.
            (f32::from(from) + factor * difference) as u8
        })
        .collect();
    Image {
        data,
        ..image.clone()
    }
}

fn map(image: &Image, f: impl Fn(u8) -> u8) -> Image {
    Image {
        data: image.data.iter().map(|&v| f(v)).collect(),
        ..image.clone()
    }
}
