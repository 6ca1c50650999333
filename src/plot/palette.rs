//! Colours that people with any colour vision tell apart.

use super::panel::{Dash, Pen};
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

/// From dark to light, like plasma (van der Walt and Smith 2015) with its lightest end darkened. More than these cannot
/// be told apart as thin lines.
const ORDERED: [RGBColor; 5] = [
    RGBColor(10, 20, 110),
    RGBColor(126, 3, 168),
    RGBColor(214, 60, 100),
    RGBColor(240, 140, 40),
    RGBColor(175, 170, 20),
];

/// For thing `i` of `n` in order. More things than colours have the same colour in pairs (or threes), next to each other,
/// with different strokes.
pub fn in_order(i: usize, n: usize) -> Pen {
    let strokes = [Dash::Solid, Dash::Dashed, Dash::Short];
    let share = n.div_ceil(ORDERED.len()).max(1);
    let groups = n.div_ceil(share).max(1);
    // Few things are as far from each other as they can be.
    let colour = (i / share) * (ORDERED.len() - 1) / groups.saturating_sub(1).max(1);
    Pen {
        colour: ORDERED[colour.min(ORDERED.len() - 1)],
        dash: strokes[i % share % strokes.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE L*a*b* of an sRGB colour, D65.
    fn lab(colour: RGBColor) -> [f64; 3] {
        let linear = |v: u8| match f64::from(v) / 255.0 {
            v if v <= 0.04045 => v / 12.92,
            v => ((v + 0.055) / 1.055).powf(2.4),
        };
        let [r, g, b] = [colour.0, colour.1, colour.2].map(linear);
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089;
        let f = |t: f64| match t {
            t if t > 216.0 / 24389.0 => t.cbrt(),
            t => (24389.0 / 27.0 * t + 16.0) / 116.0,
        };
        let [fx, fy, fz] = [x, y, z].map(f);
        [116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz)]
    }

    /// 2.3 is just noticeable side by side; thin lines far from each other need ten times that.
    #[test]
    fn lines_of_one_stroke_can_be_told_apart() {
        for n in 1..=10 {
            let pens: Vec<Pen> = (0..n).map(|i| in_order(i, n)).collect();
            for (i, a) in pens.iter().enumerate() {
                for b in &pens[..i] {
                    let colour = lab(a.colour);
                    let difference = colour
                        .iter()
                        .zip(lab(b.colour))
                        .map(|(a, b)| (a - b).powi(2));
                    let distance = difference.sum::<f64>().sqrt();
                    assert!(
                        a.dash != b.dash || distance > 30.0,
                        "{n}: {a:?} and {b:?}: {distance}"
                    );
                }
            }
        }
    }
}
