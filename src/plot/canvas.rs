//! A figure while it is drawn and when it is done.

use super::palette::INK;
use crate::run::replace_file;
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend, WHITE};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, TextStyle, register_font};
use resvg::{tiny_skia, usvg};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a viewer of the SVG has no DejaVu Sans, the others come closest.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";
/// plotters rounds positions to whole units. A pixel has this many.
const UNITS: i32 = 8;

/// A part of a figure.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A length in pixels, in the units that plotters draws in.
pub const fn px(pixels: i32) -> i32 {
    pixels * UNITS
}

/// Text of a size in pixels, written from its left end, around its middle height.
pub fn text(pixels: i32, style: FontStyle) -> TextStyle<'static> {
    // plotters' sizes are 1.24 times those of CSS.
    let size = f64::from(px(pixels)) * 1.24;
    let font = (FontFamily::Name(FONTS), size, style);
    let position = Pos::new(HPos::Left, VPos::Center);
    TextStyle::from(font).pos(position).color(&INK)
}

/// What plotters says when it cannot draw.
pub fn drawing_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// A finished picture.
pub struct Figure {
    svg: String,
}

impl Figure {
    /// A picture of so many pixels: `draw` fills it.
    pub fn new(
        (width, height): (i32, i32),
        draw: impl FnOnce(&Area) -> Result<()>,
    ) -> Result<Self> {
        for (style, font) in [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ] {
            register_font(FONTS, style, font).map_err(|_| anyhow!("the font is no font"))?;
        }
        let mut svg = String::new();
        let units = (px(width) as u32, px(height) as u32);
        {
            let area = SVGBackend::with_string(&mut svg, units).into_drawing_area();
            area.fill(&WHITE).map_err(drawing_error)?;
            draw(&area)?;
            area.present().map_err(drawing_error)?;
        }
        // The picture's own units stay in its view box; what a viewer sees is in pixels.
        let size = |w: i32, h: i32| format!("width=\"{w}\" height=\"{h}\" viewBox");
        let svg = svg.replacen(&size(px(width), px(height)), &size(width, height), 1);
        Ok(Self { svg })
    }

    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The picture as PNG, pixel for pixel.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        let options = usvg::Options {
            fontdb: Arc::new(fonts),
            ..usvg::Options::default()
        };
        let tree = usvg::Tree::from_str(&self.svg, &options).context("cannot render a figure")?;
        let size = tree.size().to_int_size();
        let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())
            .context("the figure is too large to render")?;
        resvg::render(&tree, tiny_skia::Transform::default(), &mut pixels.as_mut());
        pixels.encode_png().context("cannot encode a figure")
    }

    /// Writes `NAME.svg` and `NAME.png` into a folder.
    pub fn save(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2]> {
        let paths = ["svg", "png"].map(|end| folder.join(format!("{name}.{end}")));
        let png = self.png()?;
        replace_file(&paths[0], self.svg.as_bytes())?;
        replace_file(&paths[1], &png)?;
        Ok(paths)
    }
}
