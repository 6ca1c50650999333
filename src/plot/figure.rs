//! What all figures are made of: a title, a grid of panels, and a legend below.

use super::canvas::{Figure, px};
use super::panel::{HEADING, Legend, Panel, heading};
use crate::error::Result;
use crate::usage::usage;

/// How a figure is to look, whatever it shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Style {
    /// in place of the figure's own; an empty one leaves it out
    pub title: Option<String>,
    /// of the whole picture in pixels
    pub size: Option<(i32, i32)>,
    /// logarithmic vertical axes where the figure leaves a choice
    pub log: bool,
}

/// Pixels below which a panel has no room for its axes.
const LEAST_PANEL: (i32, i32) = (170, 130);
/// Width that a panel has where the number of columns is free, and most columns.
const COLUMN: i32 = 290;
const MOST_COLUMNS: usize = 4;
const WIDTH: i32 = 1200;

/// What one figure asks for.
pub struct Layout<'a> {
    pub title: &'a str,
    /// pixels that a row of panels is high, unless the whole has a size
    pub row: i32,
    /// `None`: as many as have room
    pub columns: Option<usize>,
    /// row by row
    pub panels: &'a [Panel],
    pub legend: Legend,
}

impl Layout<'_> {
    pub fn draw(&self, style: &Style) -> Result<Figure> {
        let width = style.size.map_or(WIDTH, |(width, _)| width);
        let columns = self.columns.unwrap_or_else(|| {
            let columns = ((width / COLUMN).max(1) as usize).min(MOST_COLUMNS);
            // No more than there are panels.
            columns.min(self.panels.len().max(1))
        });
        let rows = self.panels.len().div_ceil(columns.max(1)).max(1);
        let title = style.title.as_deref().unwrap_or(self.title);
        let above = if title.is_empty() { 0 } else { HEADING };
        // How many rows the legend has depends on the width alone.
        let mut below = 0;
        Figure::new((width, 1), |area| {
            below = self.legend.height(area)?;
            Ok(())
        })?;
        let height = match style.size {
            Some((_, height)) => height - above - below,
            None => self.row * rows as i32,
        };
        let least = (
            LEAST_PANEL.0 * columns as i32,
            LEAST_PANEL.1 * rows as i32 + above + below,
        );
        if width < least.0 || height + above + below < least.1 {
            usage!(
                "--size {width}x{}: {columns} by {rows} panels and a legend need {}x{} pixels (or {:.1}x{:.1}in)",
                height + above + below,
                least.0,
                least.1,
                f64::from(least.0) / 96.0,
                f64::from(least.1) / 96.0,
            );
        }
        Figure::new((width, above + height + below), |area| {
            let (top, rest) = area.split_vertically(px(above));
            let (panels, bottom) = rest.split_vertically(px(height));
            if !title.is_empty() {
                heading(&top, title)?;
            }
            let parts = panels.split_evenly((rows, columns));
            for (panel, part) in self.panels.iter().zip(&parts) {
                panel.draw(part)?;
            }
            self.legend.draw(&bottom)
        })
    }
}
