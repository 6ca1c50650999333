//! A chart with its title and axes, and a legend outside of it, where it hides nothing.

use super::axis::Axis;
use super::canvas::{Area, drawing_error, px, text};
use super::palette::{GRID, INK};
use super::pen::Pen;
use crate::error::Result;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::series::DashedLineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, RGBColor};

const TITLE: i32 = 14;
const SUBTITLE: i32 = 11;
const LABEL: i32 = 12;
const TICK: i32 = 11;
/// Lines with at most this many points, and so many pixels between two, show each of them.
const MOST_DOTS: usize = 30;
const DOT_ROOM: i32 = 8;
const BAND_OPACITY: f64 = 0.2;

/// What is drawn into a panel.
pub enum Series {
    /// points joined in order; those that the axes cannot show are gaps
    Line(Pen, Vec<(f64, f64)>),
    /// bars from 0 to a height, each over an interval of the horizontal axis
    Bars(RGBColor, Vec<(f64, f64, f64)>),
    /// single points
    Dots(RGBColor, Vec<(f64, f64)>),
    /// for each place of the horizontal axis, in order, an interval of the vertical one
    Band(RGBColor, Vec<(f64, f64, f64)>),
    /// a dotted vertical line over the whole height
    Mark(f64),
}

/// A chart.
pub struct Panel {
    pub title: String,
    /// a second line, in smaller type; may be empty
    pub subtitle: String,
    pub x: Axis,
    pub y: Axis,
    /// the vertical axis in other terms, on the right
    pub right: Option<Axis>,
    pub series: Vec<Series>,
}

impl Panel {
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self {
            title: title.into(),
            subtitle: String::new(),
            x,
            y,
            right: None,
            series,
        }
    }
}

impl Panel {
    pub fn draw(&self, area: &Area) -> Result<()> {
        let (width, _) = area.dim_in_pixel();
        let mut top = px(6);
        for (line, size, weight) in [
            (&self.title, TITLE, FontStyle::Bold),
            (&self.subtitle, SUBTITLE, FontStyle::Normal),
        ] {
            if !line.is_empty() {
                let middle = (width as i32 / 2, top + px(8));
                draw_fitting(area, line, (size, weight), middle)?;
                top += px(16);
            }
        }
        // plotters sets the middle of an axis' name onto the border of its space.
        let (left, y_space) = if self.y.name.is_empty() {
            (0, 18)
        } else {
            (10, 52)
        };
        let (right, right_space) = if self.right.is_some() {
            (12, 44)
        } else {
            (14, 0)
        };
        // The name of a vertical axis has the panel's height.
        let room = area.dim_in_pixel().1.saturating_sub(px(8) as u32);
        let (y_name, name_size) = fitting(area, &self.y.name, (LABEL, FontStyle::Normal), room)?;
        let x = self.with_room(
            area,
            width as i32 - px(left + y_space + right + right_space),
        )?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(top + px(4))
            .margin_left(px(left))
            .margin_right(px(right))
            .margin_bottom(px(4))
            .x_label_area_size(px(if self.x.name.is_empty() { 24 } else { 42 }))
            .y_label_area_size(px(y_space))
            .right_y_label_area_size(px(right_space))
            .build_cartesian_2d(x.clone(), self.y.clone())
            .map_err(drawing_error)?
            .set_secondary_coord(x, self.right.clone().unwrap_or_else(|| self.y.clone()));
        let grid = GRID.stroke_width(px(1) as u32);
        chart
            .configure_mesh()
            .axis_style(INK.stroke_width(px(1) as u32))
            .bold_line_style(grid)
            .light_line_style(grid)
            .label_style(text(TICK, FontStyle::Normal))
            .axis_desc_style(text(name_size, FontStyle::Normal))
            .x_desc(self.x.name.as_str())
            .y_desc(y_name.as_str())
            .set_all_tick_mark_size(px(4))
            .draw()
            .map_err(drawing_error)?;
        if let Some(right) = &self.right {
            chart
                .configure_secondary_axes()
                .axis_style(INK.stroke_width(px(1) as u32))
                .label_style(text(TICK, FontStyle::Normal))
                .axis_desc_style(text(LABEL, FontStyle::Normal))
                .y_desc(right.name.as_str())
                .set_all_tick_mark_size(px(4))
                .draw()
                .map_err(drawing_error)?;
        }
        let (inner, _) = chart.plotting_area().dim_in_pixel();
        for series in &self.series {
            match series {
                Series::Line(pen, points) => {
                    for part in self.visible(points) {
                        let spread = points.len().saturating_sub(1) as i32 * px(DOT_ROOM);
                        let room = points.len() <= MOST_DOTS && spread <= inner as i32;
                        let dots = room || part.len() == 1;
                        match pen.pattern() {
                            None => chart
                                .draw_series([PathElement::new(part.clone(), pen.stroke())])
                                .map_err(drawing_error)?,
                            Some((dash, gap)) => {
                                let line = part.iter().copied();
                                let line = DashedLineSeries::new(line, dash, gap, pen.stroke());
                                chart.draw_series(line).map_err(drawing_error)?
                            }
                        };
                        if dots {
                            let dot =
                                |&at: &(f64, f64)| Circle::new(at, px(3), pen.colour.filled());
                            chart
                                .draw_series(part.iter().map(dot))
                                .map_err(drawing_error)?;
                        }
                    }
                }
                Series::Bars(colour, bars) => {
                    let bar = |&(from, to, height): &(f64, f64, f64)| {
                        let bottom = self.y.range().start.max(0.0);
                        Rectangle::new([(from, bottom), (to, height.max(bottom))], colour.filled())
                    };
                    chart
                        .draw_series(bars.iter().map(bar))
                        .map_err(drawing_error)?;
                }
                Series::Dots(colour, points) => {
                    let dot = |&at: &(f64, f64)| Circle::new(at, px(3), colour.filled());
                    chart
                        .draw_series(points.iter().map(dot))
                        .map_err(drawing_error)?;
                }
                Series::Band(colour, intervals) => {
                    let lower = intervals.iter().map(|&(x, low, _)| (x, low));
                    let upper = intervals.iter().rev().map(|&(x, _, high)| (x, high));
                    let outline = lower.chain(upper).collect::<Vec<_>>();
                    if self.visible(&outline).len() == 1 {
                        chart
                            .draw_series([Polygon::new(outline, colour.mix(BAND_OPACITY))])
                            .map_err(drawing_error)?;
                    }
                }
                Series::Mark(x) => {
                    let range = self.y.range();
                    let ends = [(*x, range.start), (*x, range.end)];
                    let pen = Pen::mark();
                    let (dash, gap) = pen.pattern().expect("it is dotted");
                    chart
                        .draw_series(DashedLineSeries::new(ends, dash, gap, pen.stroke()))
                        .map_err(drawing_error)?;
                }
            }
        }
        Ok(())
    }

    /// The horizontal axis with no more labels than there is room for.
    fn with_room(&self, area: &Area, width: i32) -> Result<Axis> {
        let style = text(TICK, FontStyle::Normal);
        let mut most = self.x.labels().len();
        loop {
            let axis = self.x.with_labels(most);
            let labels = axis.labels();
            let mut needed = 0;
            for label in &labels {
                let (width, _) = area
                    .estimate_text_size(label, &style)
                    .map_err(drawing_error)?;
                needed = needed.max(width as i32 + px(8));
            }
            if most <= 2 || needed * labels.len() as i32 <= width {
                return Ok(axis);
            }
            most -= 1;
        }
    }

    /// The stretches of a line that the axes can show.
    fn visible(&self, points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
        let shown = |&(x, y): &(f64, f64)| self.x.shows(x) && self.y.shows(y);
        let parts = points.split(|point| !shown(point));
        parts
            .filter(|part| !part.is_empty())
            .map(<[_]>::to_vec)
            .collect()
    }
}

/// The lines of a figure and their names, set in rows.
pub struct Legend(pub Vec<(Pen, String)>);

impl Legend {
    const ROW: i32 = 22;
    const SAMPLE: i32 = 30;
    const GAP: i32 = 22;

    /// Pixels that it needs below panels of this width.
    pub fn height(&self, area: &Area) -> Result<i32> {
        Ok(Self::ROW * self.rows(area)?.len() as i32 + 8)
    }

    /// The entries row by row, with their widths in units.
    fn rows(&self, area: &Area) -> Result<Vec<Vec<(usize, i32)>>> {
        let style = text(LABEL, FontStyle::Normal);
        let room = area.dim_in_pixel().0 as i32 - 2 * px(Self::GAP);
        let mut rows = vec![Vec::new()];
        let mut used = 0;
        for (i, (_, name)) in self.0.iter().enumerate() {
            let (width, _) = area
                .estimate_text_size(name, &style)
                .map_err(drawing_error)?;
            let width = width as i32 + px(Self::SAMPLE + Self::GAP + 8);
            if used > 0 && used + width > room {
                rows.push(Vec::new());
                used = 0;
            }
            used += width;
            rows.last_mut().expect("there is a row").push((i, width));
        }
        Ok(rows)
    }

    pub fn draw(&self, area: &Area) -> Result<()> {
        let style = text(LABEL, FontStyle::Normal);
        let (width, _) = area.dim_in_pixel();
        for (r, row) in self.rows(area)?.into_iter().enumerate() {
            let y = px(Self::ROW) * r as i32 + px(Self::ROW / 2);
            let total: i32 = row.iter().map(|(_, width)| width).sum();
            let mut x = (width as i32 - total + px(Self::GAP)) / 2;
            for (i, width) in row {
                let (pen, name) = &self.0[i];
                let end = x + px(Self::SAMPLE);
                let (dash, gap) = pen.pattern().unwrap_or((end - x, 1));
                let mut from = x;
                while from < end {
                    let ends = [(from, y), ((from + dash).min(end), y)];
                    area.draw(&PathElement::new(ends, pen.stroke()))
                        .map_err(drawing_error)?;
                    from += dash + gap;
                }
                area.draw_text(name, &style, (x + px(Self::SAMPLE + 8), y))
                    .map_err(drawing_error)?;
                x += width;
            }
        }
        Ok(())
    }
}

/// Height of [`heading`] in pixels.
pub const HEADING: i32 = 34;

/// The title of a whole figure, in the middle of `area`; a long one in smaller type.
pub fn heading(area: &Area, title: &str) -> Result<()> {
    let (width, height) = area.dim_in_pixel();
    let middle = (width as i32 / 2, height as i32 / 2);
    draw_fitting(area, title, (16, FontStyle::Bold), middle)
}

/// Smallest type.
const LEAST_SIZE: i32 = 8;

/// Text around `middle`, of a size and length that fit into the area's width.
fn draw_fitting(
    area: &Area,
    line: &str,
    (size, weight): (i32, FontStyle),
    middle: (i32, i32),
) -> Result<()> {
    let width = area.dim_in_pixel().0.saturating_sub(px(4) as u32);
    let (line, size) = fitting(area, line, (size, weight), width)?;
    let style = text(size, weight).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw_text(&line, &style, middle).map_err(drawing_error)
}

/// A line and its size in smaller type where it is longer than `room`; if that does not help its end is cut off.
fn fitting(
    area: &Area,
    line: &str,
    (mut size, weight): (i32, FontStyle),
    room: u32,
) -> Result<(String, i32)> {
    let mut line = line.to_string();
    loop {
        let (needed, _) = area
            .estimate_text_size(&line, &text(size, weight))
            .map_err(drawing_error)?;
        if needed <= room || line.chars().count() < 3 {
            return Ok((line, size));
        }
        if size > LEAST_SIZE {
            size -= 1;
        } else {
            let kept = line.chars().count() - 2;
            line = line.chars().take(kept).chain(['…']).collect();
        }
    }
}
