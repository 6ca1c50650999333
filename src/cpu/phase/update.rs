//! What an update writes: `s_l <- clip(s_l + omega (p_l - s_l))`, for single states and for a mean and half-difference.

use crate::cpu::ops::real::Real;
use crate::cpu::ops::simd::vectorised;

/// Squared norm of what an update changed, and of the state after it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    pub delta: f64,
    pub norm: f64,
}

impl std::ops::AddAssign for Change {
    fn add_assign(&mut self, other: Self) {
        self.delta += other.delta;
        self.norm += other.norm;
    }
}

impl Change {
    /// `|s_new - s_old| / |s_new|`
    pub fn relative(&self) -> f64 {
        if self.delta == 0.0 {
            0.0
        } else {
            (self.delta / self.norm).sqrt()
        }
    }
}

/// The update of a layer's states from their pre-activations.
pub fn update_states<T: Real>(
    state: &mut [T],
    p: &[T],
    omega: T,
    bounds: Option<(f64, f64)>,
) -> Change {
    let (low, high) = interval(bounds);
    vectorised(
        #[inline(always)]
        || activate_states(state, p, omega, low, high),
    )
}

/// The update of a mean and half-difference, each the upper and lower half of `state`. The change is that of the
/// difference.
pub fn update_pair<T: Real>(
    state: &mut [T],
    p: &[T],
    omega: T,
    bounds: Option<(f64, f64)>,
) -> Change {
    let (low, high) = interval(bounds);
    let (m, d) = state.split_at_mut(state.len() / 2);
    let (pm, pd) = p.split_at(p.len() / 2);
    vectorised(
        #[inline(always)]
        || activate_pair(m, d, pm, pd, omega, low, high),
    )
}

/// The update of a vector on which the free state's linearisation acts: `d <- mask (keep d + rate p)`, where the mask keeps the units
/// at which `inside` lies strictly between the bounds.
pub fn update_masked<T: Real>(
    d: &mut [T],
    p: &[T],
    keep: T,
    rate: T,
    inside: &[T],
    bounds: Option<(f64, f64)>,
) -> Change {
    let (low, high) = interval(bounds);
    vectorised(
        #[inline(always)]
        || activate_masked(d, p, keep, rate, inside, low, high),
    )
}

fn interval<T: Real>(bounds: Option<(f64, f64)>) -> (T, T) {
    let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    (T::of(low), T::of(high))
}

/// Lanes of an accumulator: float sums are only vectorised when they are written as such.
const LANES: usize = 16;
/// Entries that are summed in `T` before the sums are widened to f64.
const BLOCK: usize = LANES * 64;

/// Squared norms while they are summed.
#[derive(Default)]
struct Sums<T> {
    delta: [T; LANES],
    norm: [T; LANES],
    total: Change,
}

impl<T: Real> Sums<T> {
    #[inline(always)]
    fn end_block(&mut self) {
        self.total.delta += self.delta.iter().map(|v| v.wide()).sum::<f64>();
        self.total.norm += self.norm.iter().map(|v| v.wide()).sum::<f64>();
        self.delta = [T::zero(); LANES];
        self.norm = [T::zero(); LANES];
    }
}

#[inline(always)]
pub fn clip<T: Real>(value: T, low: T, high: T) -> T {
    // Written so that NaN stays NaN, and a diverged run is noticed.
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

#[inline(always)]
fn activate_states<T: Real>(state: &mut [T], p: &[T], omega: T, low: T, high: T) -> Change {
    let keep = T::one() - omega;
    let update = |s: &mut T, p: T, delta: &mut T, norm: &mut T| {
        let new = clip(keep * *s + omega * p, low, high);
        *delta += (new - *s) * (new - *s);
        *norm += new * new;
        *s = new;
    };
    let mut sums = Sums::default();
    for (state, p) in state.chunks_mut(BLOCK).zip(p.chunks(BLOCK)) {
        let (state, state_rest) = state.as_chunks_mut::<LANES>();
        let (p, p_rest) = p.as_chunks::<LANES>();
        for (state, p) in state.iter_mut().zip(p) {
            for i in 0..LANES {
                update(&mut state[i], p[i], &mut sums.delta[i], &mut sums.norm[i]);
            }
        }
        for (i, (s, &p)) in state_rest.iter_mut().zip(p_rest).enumerate() {
            update(s, p, &mut sums.delta[i], &mut sums.norm[i]);
        }
        sums.end_block();
    }
    sums.total
}

#[inline(always)]
fn activate_masked<T: Real>(
    d: &mut [T],
    p: &[T],
    keep: T,
    rate: T,
    inside: &[T],
    low: T,
    high: T,
) -> Change {
    let mut sums = Sums::<T>::default();
    let blocks = d.chunks_mut(BLOCK).zip(p.chunks(BLOCK));
    for ((d, p), inside) in blocks.zip(inside.chunks(BLOCK)) {
        for (i, ((d, &p), &v)) in d.iter_mut().zip(p).zip(inside).enumerate() {
            let is_inside = low < v && v < high;
            let new = if is_inside {
                keep * *d + rate * p
            } else {
                T::zero()
            };
            let lane = i % LANES;
            sums.delta[lane] += (new - *d) * (new - *d);
            sums.norm[lane] += new * new;
            *d = new;
        }
        sums.end_block();
    }
    sums.total
}

/// The update of both states `m +- d` at once. Where neither is clipped the pair follows `pm` and `pd` exactly, without
/// forming `(m + d) - (m - d)`, which would round `d` to the precision of `m`. The change is that of `d`, the signal.
#[inline(always)]
fn activate_pair<T: Real>(
    mean: &mut [T],
    half: &mut [T],
    pm: &[T],
    pd: &[T],
    omega: T,
    low: T,
    high: T,
) -> Change {
    let keep = T::one() - omega;
    let one_half = T::of(0.5);
    let update = |m: &mut T, d: &mut T, pm: T, pd: T, delta: &mut T, norm: &mut T| {
        let um = keep * *m + omega * pm;
        let ud = keep * *d + omega * pd;
        let (plus, minus) = (um + ud, um - ud);
        let (a, b) = (clip(plus, low, high), clip(minus, low, high));
        let inside = a == plus && b == minus;
        let new = if inside { ud } else { one_half * (a - b) };
        *m = if inside { um } else { one_half * (a + b) };
        *delta += (new - *d) * (new - *d);
        *norm += new * new;
        *d = new;
    };
    let mut sums = Sums::default();
    let states = mean.chunks_mut(BLOCK).zip(half.chunks_mut(BLOCK));
    for ((mean, half), (pm, pd)) in states.zip(pm.chunks(BLOCK).zip(pd.chunks(BLOCK))) {
        let (mean, mean_rest) = mean.as_chunks_mut::<LANES>();
        let (half, half_rest) = half.as_chunks_mut::<LANES>();
        let (pm, pm_rest) = pm.as_chunks::<LANES>();
        let (pd, pd_rest) = pd.as_chunks::<LANES>();
        for j in 0..mean.len() {
            let (m, d, pm, pd) = (&mut mean[j], &mut half[j], &pm[j], &pd[j]);
            for i in 0..LANES {
                let (delta, norm) = (&mut sums.delta[i], &mut sums.norm[i]);
                update(&mut m[i], &mut d[i], pm[i], pd[i], delta, norm);
            }
        }
        for i in 0..mean_rest.len() {
            let (m, d) = (&mut mean_rest[i], &mut half_rest[i]);
            let (delta, norm) = (&mut sums.delta[i], &mut sums.norm[i]);
            update(m, d, pm_rest[i], pd_rest[i], delta, norm);
        }
        sums.end_block();
    }
    sums.total
}
