//! A figure while it is drawn and when it is done.

use super::palette::INK;
use super::pdf;
use crate::error::{Error, Result};
use crate::run::replace_file;
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
pub fn drawing_error(error: impl std::fmt::Display) -> Error {
    Error::Figure(format!("cannot draw: {error}"))
}

/// A finished picture.
pub struct Figure {
    svg: String,
}

impl Figure {
    /// A picture of so many pixels: `draw` fills it.
    ///
    /// # Errors
    /// When `draw` fails.
    pub fn new(
        (width, height): (i32, i32),
        draw: impl FnOnce(&Area) -> Result<()>,
    ) -> Result<Self> {
        for (style, font) in [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ] {
            register_font(FONTS, style, font)
                .map_err(|_| Error::Figure("the font is no font".into()))?;
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

    /// The figure as SVG.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The picture as PNG of `dpi` pixels an inch; the lengths of the SVG are 96ths of an inch.
    ///
    /// # Errors
    /// When there is no memory for so many pixels.
    pub fn png(&self, dpi: f32) -> Result<Vec<u8>> {
        let tree = self.tree()?;
        let scale = dpi / CSS_DPI;
        let size = tree.size().to_int_size().scale_by(scale);
        let size = size.ok_or_else(|| Error::Figure("the figure is too small to render".into()))?;
        let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| {
            Error::Figure("the figure is too large to render; choose a smaller --dpi".into())
        })?;
        let scale = tiny_skia::Transform::from_scale(scale, scale);
        resvg::render(&tree, scale, &mut pixels.as_mut());
        let bytes = pixels.encode_png().map_err(drawing_error)?;
        Ok(with_resolution(&bytes, dpi))
    }

    /// The picture as a page of its size.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn pdf(&self) -> Result<Vec<u8>> {
        pdf::page(&self.tree()?)
    }

    fn tree(&self) -> Result<usvg::Tree> {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        let options = usvg::Options {
            fontdb: Arc::new(fonts),
            ..usvg::Options::default()
        };
        usvg::Tree::from_str(&self.svg, &options).map_err(drawing_error)
    }

    /// Writes `NAME.svg` and so on into a folder, none of them when one cannot be made.
    ///
    /// # Errors
    /// When a format cannot be made, or a file not be written.
    pub fn save(&self, folder: &Path, name: &str, output: &Output) -> Result<Vec<PathBuf>> {
        let files = output.formats.iter().map(|format| {
            let bytes = match format {
                Format::Svg => self.svg.clone().into_bytes(),
                Format::Png => self.png(output.dpi)?,
                Format::Pdf => self.pdf()?,
            };
            Ok((folder.join(format!("{name}.{}", format.ending())), bytes))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        for (path, bytes) in &files {
            replace_file(path, bytes)?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }
}

/// Pixels of CSS, and so of SVG, an inch.
const CSS_DPI: f32 = 96.0;

/// File formats of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// vectors, for the web
    Svg,
    /// pixels
    Png,
    /// vectors, for print
    Pdf,
}

impl Format {
    /// Of the file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
            Self::Pdf => "pdf",
        }
    }
}

/// The files that a figure becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// a file for each
    pub formats: Vec<Format>,
    /// pixels of a PNG an inch
    pub dpi: f32,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            formats: vec![Format::Svg, Format::Png],
            dpi: CSS_DPI,
        }
    }
}

/// A PNG with a chunk `pHYs` (PNG specification, 11.3.4.3), from which programs that place it know its size on paper.
fn with_resolution(png: &[u8], dpi: f32) -> Vec<u8> {
    // After the signature (8 bytes) and the header's chunk (4 length, 4 name, 13 data, 4 checksum).
    const HEADER_END: usize = 33;
    let per_metre = (f64::from(dpi) / 0.0254).round() as u32;
    let mut chunk = b"pHYs".to_vec();
    chunk.extend(per_metre.to_be_bytes());
    chunk.extend(per_metre.to_be_bytes());
    chunk.push(1); // the unit is the metre
    let mut checksum = flate2::Crc::new();
    checksum.update(&chunk);
    let (start, rest) = png.split_at(HEADER_END);
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    let checksum = checksum.sum().to_be_bytes();
    [start, &length, &chunk, &checksum, rest].concat()
}
