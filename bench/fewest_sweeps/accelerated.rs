//! Sweeps with a memory: from a state `x` and what a sweep makes of it, `G(x)`, to the state of the next sweep.

use eqprop_cuda::network::Layer;
use ndarray::{ArrayD, Zip};
use std::collections::VecDeque;
use std::fmt;

/// A state, layer by layer from 1.
pub type State = Vec<ArrayD<f64>>;

#[derive(Debug, Clone, Copy)]
pub enum Acceleration {
    None,
    /// Nesterov's momentum `k / (k + 3)`, begun anew where a sweep goes against it (O'Donoghue and Candès 2015)
    Momentum,
    /// Chebyshev's semi-iteration for a sweep whose eigenvalues lie between 0 and this (Varga 2000, "Matrix Iterative Analysis", 5)
    Chebyshev(f64),
    /// Anderson's mixing: the combination of so many steps back whose residual is smallest (Walker and Ni 2011)
    Anderson(usize),
}

impl Acceleration {
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Momentum,
        Self::Chebyshev(0.8),
        Self::Chebyshev(0.9),
        Self::Chebyshev(0.95),
        Self::Anderson(1),
        Self::Anderson(2),
        Self::Anderson(4),
    ];

    pub fn begin(self, layers: &[Layer]) -> Memory {
        let bounds = layers[1..].iter().map(|layer| layer.activation.bounds());
        Memory {
            kind: self,
            bounds: bounds.collect(),
            steps: 0,
            rate: 1.0,
            past: VecDeque::new(),
        }
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Momentum => f.write_str("momentum"),
            Self::Chebyshev(largest) => write!(f, "Chebyshev {largest}"),
            Self::Anderson(depth) => write!(f, "Anderson {depth}"),
        }
    }
}

pub struct Memory {
    kind: Acceleration,
    bounds: Vec<Option<(f64, f64)>>,
    steps: usize,
    rate: f64,
    /// states and what a sweep made of them, the latest last
    past: VecDeque<(State, State)>,
}

impl Memory {
    /// The state of the next sweep after `swept = G(state)`.
    pub fn next(&mut self, state: State, swept: State) -> State {
        self.steps += 1;
        let mut next = match self.kind {
            Acceleration::None => swept.clone(),
            Acceleration::Momentum => self.momentum(&state, &swept),
            Acceleration::Chebyshev(largest) => self.chebyshev(&state, &swept, largest),
            Acceleration::Anderson(_) => self.anderson(&state, &swept),
        };
        let depth = match self.kind {
            Acceleration::Anderson(depth) => depth,
            _ => 1,
        };
        self.past.push_back((state, swept));
        while self.past.len() > depth {
            self.past.pop_front();
        }
        for (layer, bounds) in next.iter_mut().zip(&self.bounds) {
            if let Some((low, high)) = *bounds {
                layer.mapv_inplace(|v| v.clamp(low, high));
            }
        }
        next
    }

    fn momentum(&mut self, state: &State, swept: &State) -> State {
        let Some((_, before)) = self.past.back() else {
            return swept.clone();
        };
        let along = difference(swept, before);
        if dot(&difference(state, swept), &along) > 0.0 {
            self.steps = 0;
        }
        let k = self.steps as f64;
        combine(&[(1.0, swept), (k / (k + 3.0), &along)])
    }

    /// `x+ = x- + w (x + gamma (G(x) - x) - x-)` with `gamma = 2 / (2 - l)`, `sigma = l / (2 - l)`, `w = 1 / (1 - sigma^2 w / 4)`.
    fn chebyshev(&mut self, state: &State, swept: &State, largest: f64) -> State {
        let gamma = 2.0 / (2.0 - largest);
        let sigma = largest / (2.0 - largest);
        let step = combine(&[(1.0 - gamma, state), (gamma, swept)]);
        let Some((before, _)) = self.past.back() else {
            return step;
        };
        let quarter = if self.steps == 2 { 0.5 } else { 0.25 };
        self.rate = 1.0 / (1.0 - quarter * sigma * sigma * self.rate);
        combine(&[(self.rate, &step), (1.0 - self.rate, before)])
    }

    /// `x+ = G(x) - sum_j c_j (G(x) - G(x_j))`, where `c` minimises `|f - sum_j c_j (f - f_j)|` with residuals `f = G(x) - x`.
    fn anderson(&self, state: &State, swept: &State) -> State {
        let residual = difference(swept, state);
        let past: Vec<_> = self.past.iter().collect();
        let steps: Vec<State> = past
            .iter()
            .map(|(x, g)| difference(&residual, &difference(g, x)))
            .collect();
        let n = steps.len();
        let mut matrix: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..n).map(|j| dot(&steps[i], &steps[j])).collect())
            .collect();
        let trace: f64 = (0..n).map(|i| matrix[i][i]).sum();
        for (i, row) in matrix.iter_mut().enumerate() {
            row[i] += 1e-10 * trace;
            row.push(dot(&steps[i], &residual));
        }
        let c = solve(matrix);
        let moves: Vec<State> = past.iter().map(|(_, g)| difference(swept, g)).collect();
        let mut terms = vec![(1.0, swept)];
        terms.extend(c.iter().zip(&moves).map(|(c, m)| (-c, m)));
        combine(&terms)
    }
}

/// Gauss's elimination with pivots; rows have the right side at their end.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs()));
        rows.swap(i, pivot.unwrap_or(i));
        let row = rows[i].clone();
        for (_, other) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = other[i] / row[i];
            for (value, of_pivot) in other.iter_mut().zip(&row) {
                *value -= factor * of_pivot;
            }
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

fn combine(terms: &[(f64, &State)]) -> State {
    let layer = |l: usize| {
        let (factor, first) = terms[0];
        let mut sum = &first[l] * factor;
        for (factor, term) in &terms[1..] {
            sum.scaled_add(*factor, &term[l]);
        }
        sum
    };
    (0..terms[0].1.len()).map(layer).collect()
}

fn difference(a: &State, b: &State) -> State {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &State, b: &State) -> f64 {
    let layer = |(a, b)| {
        Zip::from(a)
            .and(b)
            .fold(0.0, |sum, &a: &f64, &b: &f64| sum + a * b)
    };
    a.iter().zip(b).map(layer).sum()
}
