//! Kind `augment`: image operations, byte for byte.
//!
//! A tensor's name says what was done: the dot-separated parts are the operation, its parameters (`bin9`, `top3`,
//! `left5`), and the image (`img0` or plain `0`).

use super::compare::{Difference, larger};
use super::golden::{Golden, GoldenError};
use super::report::{Report, Row};
use super::tolerance::{MAGNITUDE, NORMALIZED, Scale};
use crate::data::augment::{RandAugmentOp, Sign, apply, crop_edge, flip, pad_zero};
use crate::data::{DatasetName, Image, normalize};
use crate::error::{Error, Result, bail, ensure};
use std::collections::BTreeMap;

/// Images of one quantity so far.
struct Tally {
    row: Row,
    images: usize,
    wrong_bytes: usize,
}

#[derive(Default)]
struct Tallies(BTreeMap<String, Tally>);

impl Tallies {
    fn entry(&mut self, quantity: &str, scale: Scale, tolerance: f64) -> &mut Tally {
        self.0.entry(quantity.to_string()).or_insert_with(|| Tally {
            row: Row {
                quantity: quantity.to_string(),
                absolute: 0.0,
                relative: 0.0,
                scale,
                tolerance: Some(tolerance),
                note: String::new(),
            },
            images: 0,
            wrong_bytes: 0,
        })
    }

    fn add_image(
        &mut self,
        quantity: &str,
        name: &str,
        ours: &Image,
        golden: &Image,
    ) -> Result<()> {
        ensure!(
            File,
            (ours.channels, ours.height, ours.width)
                == (golden.channels, golden.height, golden.width),
            "tensor {name:?} is {}x{}x{}; expected {}x{}x{}",
            golden.channels,
            golden.height,
            golden.width,
            ours.channels,
            ours.height,
            ours.width
        );
        let tally = self.entry(quantity, Scale::Exact, 0.0);
        tally.images += 1;
        for (&a, &b) in ours.data.iter().zip(&golden.data) {
            let error = f64::from(a.abs_diff(b));
            tally.wrong_bytes += usize::from(a != b);
            if error > tally.row.absolute {
                tally.row.absolute = error;
                tally.row.relative = error / 255.0;
                tally.row.note = name.to_string();
            }
        }
        Ok(())
    }

    fn add_difference(
        &mut self,
        quantity: &str,
        tolerance: f64,
        name: &str,
        difference: &Difference,
    ) {
        let tally = self.entry(quantity, Scale::TensorMax, tolerance);
        tally.images += 1;
        let scale = if difference.golden_max > 0.0 {
            difference.golden_max
        } else {
            1.0
        };
        let error = difference.max / scale;
        if error.is_nan() || error > tally.row.relative {
            tally.row.note = name.to_string();
        }
        tally.row.relative = larger(tally.row.relative, error);
        tally.row.absolute = larger(tally.row.absolute, difference.max);
    }

    fn finish(self, report: &mut Report) {
        for (_, mut tally) in self.0 {
            tally.row.note = match (tally.wrong_bytes, tally.row.note.as_str()) {
                (0, "") => format!("{} tensors", tally.images),
                (0, worst) => format!("{worst} of {} tensors", tally.images),
                (wrong, worst) => {
                    format!("{worst}; {wrong} bytes of {} tensors differ", tally.images)
                }
            };
            report.row(tally.row);
        }
    }
}

pub fn replay(golden: &Golden, report: &mut Report) -> Result<()> {
    let mut tallies = Tallies::default();
    for name in golden.names() {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            // Sources: read where they are used. One that nothing uses is reported as such at the end.
            ["input" | "gray28", _] => {}
            ["op", op, bin, sign, _] => rand_augment(golden, &mut tallies, name, op, bin, sign)?,
            ["op", op, bin, sign, image, "magnitude"] => {
                magnitude(golden, &mut tallies, name, [op, bin, sign, image])?;
            }
            ["flip", image] => {
                let source = source(golden, "input", image)?;
                tallies.add_image("flip", name, &flip(&source), &golden.image(name)?)?;
            }
            ["gray32", image] => {
                let small = format!("gray28.{}", index(image)?);
                let expected = golden.image(name)?;
                if golden.has(&small) {
                    let small = golden.image(&small)?;
                    let room = expected.height.checked_sub(small.height);
                    let pad = room.filter(|room| room % 2 == 0).ok_or_else(|| {
                        Error::File(format!(
                            "tensor {name:?} is not gray28 with an equal border on all sides"
                        ))
                    })?;
                    tallies.add_image("gray32", name, &pad_zero(&small, pad / 2), &expected)?;
                }
            }
            [crop, top, left, image] if crop == "fmnistcrop" || edge_padding(crop).is_some() => {
                let (pad, from) = match edge_padding(crop) {
                    Some(pad) => (pad, "input"),
                    None => (FASHION_PADDING, "gray32"),
                };
                let source = source(golden, from, image)?;
                let expected = golden.image(name)?;
                let (top, left) = (number(top, "top", name)?, number(left, "left", name)?);
                let size = expected.height;
                let room = (source.height + 2 * pad).min(source.width + 2 * pad);
                ensure!(
                    File,
                    top.max(left)
                        .checked_add(size)
                        .is_some_and(|end| end <= room),
                    "tensor {name:?}: the window does not fit into {room} pixels"
                );
                let ours = crop_edge(&source, pad, top, left, size);
                tallies.add_image(crop, name, &ours, &expected)?;
            }
            ["normalized", dataset, image] => {
                let Ok(known) = dataset.parse::<DatasetName>() else {
                    continue; // reported as an unknown tensor
                };
                let from = if known.channels() == 1 {
                    "gray32"
                } else {
                    "input"
                };
                let source = source(golden, from, image)?;
                let expected = golden.floats(name)?;
                ensure!(
                    File,
                    source.channels == known.channels(),
                    "{from}.{image} has {} channels, but {known} has {}",
                    source.channels,
                    known.channels()
                );
                let ours = normalize(&source, &known.normalization());
                let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
                let expected: Vec<f64> = expected.into_iter().collect();
                let difference = Difference::of_vectors(name, &ours, &expected)?;
                tallies.add_difference(
                    &format!("normalized.{dataset}"),
                    NORMALIZED,
                    name,
                    &difference,
                );
            }
            _ => {} // reported as an unknown tensor
        }
    }
    tallies.finish(report);
    Ok(())
}

/// Edge padding of the published Fashion-MNIST recipe.
const FASHION_PADDING: usize = 2;

/// Padding of `crop4edge`.
fn edge_padding(name: &str) -> Option<usize> {
    let pad = name
        .strip_prefix("crop")?
        .strip_suffix("edge")?
        .parse()
        .ok()?;
    (pad <= 256).then_some(pad)
}

/// An operation as we would apply it: at our own magnitude for the bin.
fn rand_augment(
    golden: &Golden,
    tallies: &mut Tallies,
    name: &str,
    op: &str,
    bin: &str,
    sign: &str,
) -> Result<()> {
    let Ok(known) = op.parse::<RandAugmentOp>() else {
        return Ok(()); // reported as an unknown tensor
    };
    let image = name.rsplit('.').next().unwrap_or_default();
    let input = source(golden, "input", image)?;
    let size = (input.height, input.width);
    let magnitude = known.magnitude(number(bin, "bin", name)?, sign_of(sign, name)?, size);
    let ours = apply(known, magnitude, &input);
    tallies.add_image(&format!("op.{op}"), name, &ours, &golden.image(name)?)
}

fn magnitude(
    golden: &Golden,
    tallies: &mut Tallies,
    name: &str,
    [op, bin, sign, image]: [&str; 4],
) -> Result<()> {
    let Ok(known) = op.parse::<RandAugmentOp>() else {
        return Ok(()); // reported as an unknown tensor
    };
    let input = source(golden, "input", image)?;
    let size = (input.height, input.width);
    let ours = known.magnitude(number(bin, "bin", name)?, sign_of(sign, name)?, size);
    let difference = Difference::of_vectors(name, &[ours], &[golden.scalar(name)?])?;
    tallies.add_difference("op magnitudes", MAGNITUDE, name, &difference);
    Ok(())
}

fn sign_of(sign: &str, name: &str) -> Result<Sign> {
    match sign {
        "pos" => Ok(Sign::Positive),
        "neg" => Ok(Sign::Negative),
        other => bail!(File, "tensor {name:?}: sign {other:?}; expected pos or neg"),
    }
}

/// The image that `img3` or `3` stands for.
fn source(golden: &Golden, prefix: &str, image: &str) -> Result<Image, GoldenError> {
    let index = index(image).map_err(|e| GoldenError::Tensor {
        name: image.to_string(),
        message: e.to_string(),
    })?;
    golden.image(&format!("{prefix}.{index}"))
}

fn index(image: &str) -> Result<usize> {
    let digits = image.strip_prefix("img").unwrap_or(image);
    (digits.parse()).map_err(|_| Error::File(format!("{image:?} names no image; expected imgN")))
}

/// `3` of `top3`.
fn number(part: &str, prefix: &str, name: &str) -> Result<usize> {
    (part
        .strip_prefix(prefix)
        .and_then(|digits| digits.parse().ok()))
    .ok_or_else(|| {
        Error::File(format!(
            "tensor {name:?}: {part:?}; expected {prefix} and a number"
        ))
    })
}
