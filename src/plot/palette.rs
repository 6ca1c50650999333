//! Colours that people with any colour vision tell apart.

use plotters::style::RGBColor;

pub const INK: RGBColor = RGBColor(38, 38, 38);
pub const GRID: RGBColor = RGBColor(222, 222, 222);

/// For things without an order: the palette of Okabe and Ito (2008) but for its yellow, which is too light for a line on
/// white.
pub const CATEGORIES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Viridis (van der Walt and Smith 2015) at equal distances, without its lightest fifth.
const VIRIDIS: [RGBColor; 5] = [
    RGBColor(68, 1, 84),
    RGBColor(65, 68, 135),
    RGBColor(42, 120, 142),
    RGBColor(34, 168, 132),
    RGBColor(122, 209, 81),
];

/// For `i` of `n` things in order: from dark violet to light green.
pub fn in_order(i: usize, n: usize) -> RGBColor {
    let segments = VIRIDIS.len() - 1;
    let place = i as f64 / n.saturating_sub(1).max(1) as f64 * segments as f64;
    let lower = (place as usize).min(segments - 1);
    let (from, to) = (VIRIDIS[lower], VIRIDIS[lower + 1]);
    let mix = |a: u8, b: u8| {
        let part = place - lower as f64;
        (f64::from(a) * (1.0 - part) + f64::from(b) * part).round() as u8
    };
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}
