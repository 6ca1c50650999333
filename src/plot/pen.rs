//! How a line looks.

use super::canvas::px;
use super::palette::{INK, ORDERED};
use plotters::style::{Color, RGBColor, ShapeStyle};

const LINE_WIDTH: i32 = 2;

/// How a line is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dash {
    Solid,
    Dashed,
    /// shorter dashes
    Short,
    /// thin
    Dotted,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pen {
    pub colour: RGBColor,
    pub dash: Dash,
}

impl Pen {
    pub fn solid(colour: RGBColor) -> Self {
        let dash = Dash::Solid;
        Self { colour, dash }
    }

    pub fn dashed(colour: RGBColor) -> Self {
        let dash = Dash::Dashed;
        Self { colour, dash }
    }

    /// For a mark across a panel.
    pub fn mark() -> Self {
        let (colour, dash) = (INK, Dash::Dotted);
        Self { colour, dash }
    }

    pub fn stroke(&self) -> ShapeStyle {
        let width = match self.dash {
            Dash::Solid | Dash::Dashed | Dash::Short => LINE_WIDTH,
            Dash::Dotted => 1,
        };
        self.colour.stroke_width(px(width) as u32)
    }

    /// Lengths of a stroke and of the gap after it; a solid line has none.
    pub fn pattern(&self) -> Option<(i32, i32)> {
        match self.dash {
            Dash::Solid => None,
            Dash::Dashed => Some((px(6), px(4))),
            Dash::Short => Some((px(3), px(2))),
            Dash::Dotted => Some((px(2), px(3))),
        }
    }
}

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
                    let (x, y) = (lab(a.colour), lab(b.colour));
                    let squares = x.iter().zip(y).map(|(x, y)| (x - y).powi(2));
                    let distance = squares.sum::<f64>().sqrt();
                    assert!(
                        a.dash != b.dash || distance > 30.0,
                        "{n}: {a:?} and {b:?}: {distance}"
                    );
                }
            }
        }
    }
}
