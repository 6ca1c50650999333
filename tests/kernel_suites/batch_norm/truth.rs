//! Batch normalisation by its definition, in float64, one channel at a time.

use crate::support::networks::rng;
use eqprop_cuda::feedforward::NORM_EPSILON;
use rand::RngExt;

/// What an edge does beside its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// pools what is normalised
    Max,
    /// pools before it is normalised
    Average,
    /// is not normalised
    Dense,
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub images: usize,
    /// of the state
    pub side: [usize; 2],
    /// rows and columns that are in no window of an edge that pools
    pub odd: [usize; 2],
    pub channels: usize,
    pub edges: &'static [Kind],
    /// negative units are kept
    pub linear: bool,
    pub rows_per_split: usize,
    /// inputs lie this far from zero
    pub offset: f64,
    pub spread: f64,
}

/// One channel: of each edge the inputs by row (image, y, x), and its parameters.
pub struct Channel {
    pub z: Vec<Vec<f64>>,
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
    pub running: Vec<[f64; 2]>,
}

/// One unit of the state, and how far it is from where relu or the maximum would change.
pub struct Unit {
    pub value: f64,
    pub margin: f64,
}

/// Mean, and mean of the squared deviations from it.
pub fn moments(z: &[f64]) -> [f64; 2] {
    let mean = z.iter().sum::<f64>() / z.len() as f64;
    let squares = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>();
    [mean, squares / z.len() as f64]
}

impl Case {
    /// Of what edge `e` reads.
    pub fn full(&self, e: usize) -> [usize; 2] {
        match self.edges[e] {
            Kind::Max | Kind::Average => [0, 1].map(|i| 2 * self.side[i] + self.odd[i]),
            Kind::Plain | Kind::Dense => self.side,
        }
    }

    /// What edge `e` reads.
    pub fn rows(&self, e: usize) -> usize {
        self.images * self.full(e).iter().product::<usize>()
    }

    /// Of what it normalises.
    pub fn splits(&self, e: usize) -> usize {
        let rows = match self.edges[e] {
            Kind::Average => self.images * self.side[0] * self.side[1],
            Kind::Plain | Kind::Max => self.rows(e),
            Kind::Dense => 0,
        };
        rows.div_ceil(self.rows_per_split)
    }

    /// The four values of each window of edge `e`.
    fn windows(&self, e: usize, values: &[f64]) -> Vec<[f64; 4]> {
        let ([height, width], full) = (self.side, self.full(e));
        let pixels = (0..height).flat_map(|i| (0..width).map(move |j| (i, j)));
        let pixels: Vec<(usize, usize)> = pixels.collect();
        let window = |n: usize, (i, j): (usize, usize)| {
            let at = |k: usize| values[(n * full[0] + 2 * i + k / 2) * full[1] + 2 * j + k % 2];
            [0, 1, 2, 3].map(at)
        };
        (0..self.images)
            .flat_map(|n| pixels.iter().map(move |&pixel| window(n, pixel)))
            .collect()
    }

    /// What edge `e` normalises of what it reads.
    pub fn normalised(&self, e: usize, z: &[f64]) -> Vec<f64> {
        match self.edges[e] {
            Kind::Average => {
                let mean = |window: [f64; 4]| window.iter().sum::<f64>() / 4.0;
                self.windows(e, z).into_iter().map(mean).collect()
            }
            _ => z.to_vec(),
        }
    }

    pub fn padded(&self) -> usize {
        self.channels.next_multiple_of(8)
    }

    /// Padding has neither inputs nor parameters. All values are exact in fp32.
    pub fn random(&self, seed: u64) -> Vec<Channel> {
        let mut rng = rng(seed);
        let mut uniform =
            |low: f64, high: f64| f64::from(rng.random_range(low as f32..high as f32));
        let channel = |c: usize| {
            let live = if c < self.channels { 1.0 } else { 0.0 };
            let mut values = |n: usize, low, high| -> Vec<f64> {
                (0..n).map(|_| live * uniform(low, high)).collect()
            };
            let ends = [self.offset - self.spread, self.offset + self.spread];
            Channel {
                z: (0..self.edges.len())
                    .map(|e| values(self.rows(e), ends[0], ends[1]))
                    .collect(),
                scale: values(self.edges.len(), 0.5, 2.0),
                shift: values(self.edges.len(), -0.5, 0.5),
                running: (0..self.edges.len())
                    .map(|_| [values(1, -1.0, 1.0)[0], values(1, 0.5, 2.0)[0]])
                    .collect(),
            }
        };
        (0..self.padded()).map(channel).collect()
    }

    /// `relu(sum_e pool_e(gamma_e xhat_e + beta_e))`
    pub fn state(&self, channel: &Channel, evaluate: bool) -> Vec<Unit> {
        let mut sum = vec![0.0; self.images * self.side[0] * self.side[1]];
        let mut margin = vec![f64::INFINITY; sum.len()];
        for (e, kind) in self.edges.iter().enumerate() {
            let z = self.normalised(e, &channel.z[e]);
            let [mean, variance] = if evaluate {
                channel.running[e]
            } else {
                moments(&z)
            };
            let inverse = 1.0 / (variance + NORM_EPSILON).sqrt();
            let of_z = |z: &f64| match kind {
                Kind::Dense => *z,
                _ => channel.scale[e] * (z - mean) * inverse + channel.shift[e],
            };
            let mut y: Vec<f64> = z.iter().map(of_z).collect();
            if *kind == Kind::Max {
                let mut windows = self.windows(e, &y);
                windows
                    .iter_mut()
                    .for_each(|window| window.sort_by(f64::total_cmp));
                for (margin, window) in margin.iter_mut().zip(&windows) {
                    *margin = margin.min(window[3] - window[2]);
                }
                y = windows.into_iter().map(|window| window[3]).collect();
            }
            sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
        }
        let unit = |(y, margin): (f64, f64)| match self.linear {
            true => Unit { value: y, margin },
            false => Unit {
                value: y.max(0.0),
                margin: margin.min(y.abs()),
            },
        };
        sum.into_iter().zip(margin).map(unit).collect()
    }
}

/// How the loss `<gradient, state>` follows one number of a channel: a central difference.
pub fn slope(
    case: &Case,
    channel: &mut Channel,
    gradient: &[f64],
    step: f64,
    number: impl Fn(&mut Channel) -> &mut f64,
) -> f64 {
    let before = *number(channel);
    let mut loss = |value: f64| -> f64 {
        *number(channel) = value;
        let state = case.state(channel, false);
        gradient
            .iter()
            .zip(state)
            .map(|(g, unit)| g * unit.value)
            .sum()
    };
    let rise = loss(before + step) - loss(before - step);
    *number(channel) = before;
    rise / (2.0 * step)
}
