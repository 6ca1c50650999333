//! Batch normalisation by its definition, in float64, one channel at a time.

use crate::support::networks::rng;
use eqprop_cuda::feedforward::NORM_EPSILON;
use rand::RngExt;

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub images: usize,
    pub side: [usize; 2],
    pub channels: usize,
    pub edges: usize,
    pub pooled: bool,
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
    pub fn rows(&self) -> usize {
        self.images * self.side[0] * self.side[1]
    }

    pub fn splits(&self) -> usize {
        self.rows().div_ceil(self.rows_per_split)
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
                z: (0..self.edges)
                    .map(|_| values(self.rows(), ends[0], ends[1]))
                    .collect(),
                scale: values(self.edges, 0.5, 2.0),
                shift: values(self.edges, -0.5, 0.5),
                running: (0..self.edges)
                    .map(|_| [values(1, -1.0, 1.0)[0], values(1, 0.5, 2.0)[0]])
                    .collect(),
            }
        };
        (0..self.padded()).map(channel).collect()
    }

    /// `pool(relu(sum_e gamma_e xhat_e + beta_e))`
    pub fn state(&self, channel: &Channel, evaluate: bool) -> Vec<Unit> {
        let mut y = vec![0.0; self.rows()];
        for e in 0..self.edges {
            let z = &channel.z[e];
            let [mean, variance] = if evaluate {
                channel.running[e]
            } else {
                moments(z)
            };
            let inverse = 1.0 / (variance + NORM_EPSILON).sqrt();
            for (y, z) in y.iter_mut().zip(z) {
                *y += channel.scale[e] * (z - mean) * inverse + channel.shift[e];
            }
        }
        let relu = |y: f64, gap: f64| Unit {
            value: y.max(0.0),
            margin: gap.min(y.abs()),
        };
        if !self.pooled {
            return y.into_iter().map(|y| relu(y, f64::INFINITY)).collect();
        }
        let [height, width] = self.side;
        let mut state = Vec::new();
        for n in 0..self.images {
            for (i, j) in (0..height / 2).flat_map(|i| (0..width / 2).map(move |j| (i, j))) {
                let at = |k: usize| y[(n * height + 2 * i + k / 2) * width + 2 * j + k % 2];
                let mut window = [0, 1, 2, 3].map(at);
                window.sort_by(f64::total_cmp);
                state.push(relu(window[3], window[3] - window[2]));
            }
        }
        state
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
