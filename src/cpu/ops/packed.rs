//! An image with a border of zeros, and the weights that its pixels are multiplied by in the order in which they are read.

use super::listed::{Listed, Units};
use super::real::Real;
use super::taps::{Class, Taps};
use super::tile::{Images, Layout, Multiplier, Position, Run, Stage};
use crate::network::Shape;
use rayon::prelude::*;

const CACHE_LINE: usize = 64;
/// Bytes of weights that a stage reads for each group of pixels.
const STAGE_BYTES: usize = 96 * 1024;
/// The same where few entries are not zero: a stage reads few of its rows for a pixel, and looks up where they are.
const LISTED_STAGE_BYTES: usize = 512 * 1024;

/// Copies images into ones with a border of zeros. A pixel has so many `entries`.
pub fn border<E: Copy + Default>(taps: &Taps, entries: usize, source: &[E], bordered: &mut Vec<E>) {
    let Shape { height, width, .. } = taps.from;
    let [rows, columns] = taps.bordered;
    let [top, left] = taps.before.map(|pixels| pixels * entries);
    let images = source.chunks_exact(height * width * entries);
    bordered.resize(images.len() * rows * columns * entries, E::default());
    for (image, source) in bordered
        .chunks_exact_mut(rows * columns * entries)
        .zip(images)
    {
        let (above, rest) = image.split_at_mut(top * columns);
        above.fill(E::default());
        let mut lines = rest.chunks_exact_mut(columns * entries);
        // In this order: a zip takes from its first part before it sees that the second has ended.
        for (source, line) in source.chunks_exact(width * entries).zip(lines.by_ref()) {
            line[..left].fill(E::default());
            line[left..][..source.len()].copy_from_slice(source);
            line[left + source.len()..].fill(E::default());
        }
        lines.for_each(|line| line.fill(E::default()));
    }
}

/// What positions and runs count, and so where runs may be cut into stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Entries,
    Pixels,
}

/// The weights of all classes, panel by panel: for each entry that is read a row of whole vectors. Channels are cut into panels of a
/// few vectors, the entries of the runs into stages whose weights stay in the second-level cache while all pixels pass by.
pub struct Packed<E: 'static, T: 'static> {
    multiplier: Multiplier<E, T>,
    layout: Layout,
    /// entries of a pixel
    entries: usize,
    cut: Cut,
    classes: Vec<Prepared<E>>,
}

/// A class with its weights.
struct Prepared<E> {
    positions: Vec<Position>,
    /// the runs of each stage, and the first of their rows
    stages: Vec<(Vec<Run>, usize)>,
    /// rows of a panel
    rows: usize,
    weights: Aligned<E>,
}

/// Numbers that begin where a line of the cache does, so that a vector of them lies in one line.
struct Aligned<E> {
    room: Vec<E>,
    first: usize,
}

impl<E: Copy + Default> Aligned<E> {
    fn new(len: usize) -> Self {
        let line = CACHE_LINE / size_of::<E>();
        let mut room = vec![E::default(); len + line];
        let first = room.as_ptr().align_offset(CACHE_LINE).min(line);
        room.truncate(first + len);
        Self { room, first }
    }

    fn all(&self) -> &[E] {
        &self.room[self.first..]
    }

    fn all_mut(&mut self) -> &mut [E] {
        &mut self.room[self.first..]
    }
}

/// A panel's channels, and the vectors that hold them.
struct Panel {
    first: usize,
    columns: usize,
    vectors: usize,
}

impl Layout {
    fn panels(self, channels: usize) -> impl Iterator<Item = Panel> {
        let most = self.lanes * self.vectors;
        (0..channels).step_by(most).map(move |first| {
            let columns = most.min(channels - first);
            Panel {
                first,
                columns,
                vectors: columns.div_ceil(self.lanes),
            }
        })
    }
}

impl<E: Copy + Default + Send + Sync, T> Packed<E, T> {
    /// `group` channels make an entry.
    pub fn zeros(taps: &Taps, group: usize, cut: Cut, multiplier: Multiplier<E, T>) -> Self {
        let layout = (multiplier.layout)();
        let entries = taps.from.channels.div_ceil(group);
        let channels = taps.onto.channels;
        let vectors: usize = layout.panels(channels).map(|p| p.vectors).sum();
        let most = layout
            .panels(channels)
            .map(|p| p.vectors)
            .max()
            .unwrap_or(1);
        let row = most * layout.lanes * size_of::<E>();
        // What a pixel counts as, and the most that a stage has.
        let (counted, most) = match cut {
            Cut::Entries => (entries, STAGE_BYTES / row),
            Cut::Pixels => (1, LISTED_STAGE_BYTES / row / entries),
        };
        let classes = taps.classes.iter().map(|class| {
            let rows = class.taps.len() * entries;
            Prepared {
                positions: positions(taps, class, counted),
                stages: stages(taps, class, counted, most.max(1)),
                rows,
                weights: Aligned::new(rows * vectors * layout.lanes),
            }
        });
        Self {
            multiplier,
            layout,
            entries,
            cut,
            classes: classes.collect(),
        }
    }

    pub fn cut(&self) -> Cut {
        self.cut
    }

    /// `row(positions of the kernel, entry of a pixel, first channel, weights)` writes weights from the first channel on.
    pub fn fill(&mut self, taps: &Taps, row: impl Fn(&[usize], usize, usize, &mut [E]) + Sync) {
        let (layout, entries) = (self.layout, self.entries);
        let channels = taps.onto.channels;
        for (class, prepared) in taps.classes.iter().zip(&mut self.classes) {
            let panels = (prepared.weights.all_mut())
                .chunks_mut(prepared.rows * layout.lanes * layout.vectors);
            let panels: Vec<_> = panels.zip(layout.panels(channels)).collect();
            panels.into_par_iter().for_each(|(weights, panel)| {
                let rows = weights.chunks_exact_mut(panel.vectors * layout.lanes);
                let read = class
                    .taps
                    .iter()
                    .flat_map(|tap| (0..entries).map(move |c| (tap, c)));
                for (weights, (tap, c)) in rows.zip(read) {
                    row(&tap.kernel, c, panel.first, &mut weights[..panel.columns]);
                }
            });
        }
    }

    /// Adds the products of all images to those `onto` which they are mapped, stage by stage.
    fn for_each_stage<F>(
        &self,
        taps: &Taps,
        onto: &mut [T],
        from: impl Fn() -> F,
        run: impl Fn(Stage<F, E, T>),
    ) {
        // of what is counted
        let entries = match self.cut {
            Cut::Entries => 1,
            Cut::Pixels => self.entries,
        };
        for class in &self.classes {
            let mut weights = class.weights.all();
            for panel in self.layout.panels(taps.onto.channels) {
                let row = panel.vectors * self.layout.lanes;
                let (own, rest) = weights.split_at(class.rows * row);
                weights = rest;
                for (runs, first_row) in &class.stages {
                    run(Stage {
                        from: from(),
                        onto: &mut *onto,
                        onto_image: taps.onto.units(),
                        positions: &class.positions,
                        runs,
                        weights: &own[first_row * entries * row..],
                        first: panel.first,
                        columns: panel.columns,
                    });
                }
            }
        }
    }

    /// `from`: images with their borders.
    pub fn add(&self, taps: &Taps, from: &[E], onto: &mut [T]) {
        let images = || Images {
            entries: from,
            image: taps.bordered[0] * taps.bordered[1] * self.entries,
        };
        self.for_each_stage(taps, onto, images, self.multiplier.run);
    }
}

impl<T: Real> Packed<T, T> {
    /// The same of images that are mostly zero. The runs are cut between pixels.
    pub fn add_units(&self, taps: &Taps, units: &Units<T>, onto: &mut [T]) {
        let listed = || Listed {
            units,
            image: taps.bordered[0] * taps.bordered[1],
            entries: self.entries,
        };
        self.for_each_stage(taps, onto, listed, T::LISTING.run);
    }
}

fn positions(taps: &Taps, class: &Class, entries: usize) -> Vec<Position> {
    let [rows, columns] = class.count;
    let pixels = (0..rows).flat_map(|i| (0..columns).map(move |j| [i, j]));
    let position = |[i, j]: [usize; 2]| {
        let read = class.read[0] * i * taps.bordered[1] + class.read[1] * j;
        let [y, x] = [
            class.first[0] + class.step[0] * i,
            class.first[1] + class.step[1] * j,
        ];
        Position {
            read: read * entries,
            write: (y * taps.onto.width + x) * taps.onto.channels,
        }
    };
    pixels.map(position).collect()
}

/// The runs of a class, cut into stages of at most so many entries.
fn stages(taps: &Taps, class: &Class, entries: usize, most: usize) -> Vec<(Vec<Run>, usize)> {
    let mut runs: Vec<Run> = Vec::new();
    for tap in &class.taps {
        let offset = (tap.offset[0] * taps.bordered[1] + tap.offset[1]) * entries;
        match runs.last_mut() {
            Some(run) if run.offset + run.len == offset => run.len += entries,
            _ => runs.push(Run {
                offset,
                len: entries,
            }),
        }
    }
    let mut stages: Vec<(Vec<Run>, usize)> = Vec::new();
    let (mut room, mut row) = (0, 0);
    for mut run in runs {
        while run.len > 0 {
            if room == 0 {
                stages.push((Vec::new(), row));
                room = most;
            }
            let len = run.len.min(room);
            let stage = stages.last_mut().expect("one was just begun");
            stage.0.push(Run { len, ..run });
            run.offset += len;
            run.len -= len;
            room -= len;
            row += len;
        }
    }
    stages
}
