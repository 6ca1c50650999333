//! Options of the commands that draw.

use super::output::say;
use crate::plot::{Figure, Format, Output, Style};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(next_help_heading = "Figures")]
pub struct FigureArgs {
    /// File formats
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, value_name = "FORMATS", default_value = "svg,png")]
    format: Vec<FormatName>,
    /// Width and height of a figure: 1200x500 in pixels, or with a unit 7x3in, 18x8cm, 180x80mm [default: as the figure needs]
    #[arg(long, value_name = "WxH", value_parser = size, allow_hyphen_values = true)]
    size: Option<(i32, i32)>,
    /// Pixels of a PNG an inch; type and lines keep their size on paper
    #[arg(long, value_name = "N", default_value = "96", value_parser = dpi, allow_hyphen_values = true)]
    dpi: f32,
    /// Title in place of the figure's own; \"\" for none
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Logarithmic vertical axes of learning curves and histograms
    #[arg(long)]
    log: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    Pdf,
    Svg,
    Png,
}

impl FigureArgs {
    pub fn style(&self) -> Style {
        Style {
            title: self.title.clone(),
            size: self.size,
            log: self.log,
        }
    }

    /// Writes a figure's files into `folder`, which is made, and says which.
    pub fn save(&self, figure: &Figure, folder: &Path, name: &str) -> Result<()> {
        make(folder)?;
        let mut formats = Vec::new();
        for format in &self.format {
            let format = match format {
                FormatName::Pdf => Format::Pdf,
                FormatName::Svg => Format::Svg,
                FormatName::Png => Format::Png,
            };
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        let output = Output {
            formats,
            dpi: self.dpi,
        };
        let paths: Vec<PathBuf> = figure.save(folder, name, &output)?;
        paths.iter().for_each(|path| say(path.display()));
        Ok(())
    }
}

/// Makes the folder that `--output` names.
pub fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot make the folder {}; choose another with --output",
            folder.display()
        )
    })
}

/// Pixels of `1200x500`, `7x3in`, `18x8cm` or `180x80mm`.
fn size(text: &str) -> Result<(i32, i32), String> {
    const MOST: f64 = 20_000.0;
    let units = [
        ("in", 96.0),
        ("cm", 96.0 / 2.54),
        ("mm", 96.0 / 25.4),
        ("px", 1.0),
    ];
    let unit = units.into_iter().find(|(unit, _)| text.ends_with(unit));
    let (unit, pixels) = unit.unwrap_or(("", 1.0));
    let length = |text: &str| {
        let length = text.trim().parse::<f64>().ok()? * pixels;
        (1.0..=MOST)
            .contains(&length)
            .then_some(length.round() as i32)
    };
    let sides = text.strip_suffix(unit).unwrap_or(text).split_once('x');
    let sides = sides.and_then(|(width, height)| Some((length(width)?, length(height)?)));
    sides.ok_or_else(|| {
        format!("expected WIDTHxHEIGHT such as 1200x500 (pixels), 7x3in, 18x8cm or 180x80mm, up to {MOST} pixels")
    })
}

fn dpi(text: &str) -> Result<f32, String> {
    let range = 24.0..=2400.0;
    let dpi = text.parse().ok().filter(|dpi| range.contains(dpi));
    dpi.ok_or_else(|| "expected a number from 24 to 2400".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1200x430"), Ok((1200, 430)));
        assert_eq!(size("7x3.5in"), Ok((672, 336)));
        assert_eq!(size("25.4x12.7cm"), Ok((960, 480)));
        assert_eq!(size("254x127mm"), Ok((960, 480)));
        for wrong in [
            "", "7", "7x", "x7", "0x5", "-7x3in", "7x3ft", "1e9x3", "nanx3", "7x3inin",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
