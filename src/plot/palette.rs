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

/// From dark to light, like plasma (van der Walt and Smith 2015) with its lightest end darkened. More than these cannot
/// be told apart as thin lines.
pub const ORDERED: [RGBColor; 5] = [
    RGBColor(10, 20, 110),
    RGBColor(126, 3, 168),
    RGBColor(214, 60, 100),
    RGBColor(240, 140, 40),
    RGBColor(175, 170, 20),
];
