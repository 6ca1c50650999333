//! The learning rate's closed forms against PyTorch's recurrences, and at the points that define them.

use eqprop_cuda::optim::{DECAY, ETA_MIN, RESTART_PERIOD, Schedule};
use std::f64::consts::PI;

/// `CosineAnnealingLR`: each rate from the one before.
fn recurrence(initial: f64, eta_min: f64, period: usize, epochs: usize) -> Vec<f64> {
    let angle = |t: usize| (PI * t as f64 / period as f64).cos();
    let mut rates = vec![initial];
    for t in 1..epochs {
        let factor = (1.0 + angle(t)) / (1.0 + angle(t - 1));
        rates.push(eta_min + factor * (rates[t - 1] - eta_min));
    }
    rates
}

#[test]
fn cosine_follows_pytorchs_recurrence() {
    for (initial, period) in [(0.03, 300), (1.0, 2), (1e-4, 50)] {
        let schedule = Schedule::Cosine { epochs: period };
        for (t, expected) in recurrence(initial, ETA_MIN, period, period + 1)
            .into_iter()
            .enumerate()
        {
            let rate = schedule.rate(initial, t);
            assert!(
                (rate - expected).abs() < 1e-11 * initial,
                "epoch {t}: {rate}, expected {expected}"
            );
        }
    }
}

#[test]
fn warm_restarts_repeat_the_first_period() {
    let schedule = Schedule::WarmRestarts {
        period: RESTART_PERIOD,
    };
    let period = recurrence(0.03, ETA_MIN, RESTART_PERIOD, RESTART_PERIOD);
    for t in 0..4 * RESTART_PERIOD + 2 {
        let (rate, expected) = (schedule.rate(0.03, t), period[t % RESTART_PERIOD]);
        assert!(
            (rate - expected).abs() < 1e-14,
            "epoch {t}: {rate}, expected {expected}"
        );
    }
}

#[test]
fn the_ends_are_the_initial_rate_and_two_millionths() {
    let schedule = Schedule::Cosine { epochs: 10 };
    assert_eq!(schedule.rate(0.25, 0), 0.25);
    assert!((schedule.rate(0.25, 5) - (0.25 + 2e-6) / 2.0).abs() < 1e-15);
    assert!((schedule.rate(0.25, 10) - 2e-6).abs() < 1e-17);
    // A rate that starts below the minimum rises to it: no special case.
    assert!((schedule.rate(0.0, 10) - 2e-6).abs() < 1e-17);
}

/// `ExponentialLR(gamma = 0.99)`: each rate is the one before times 0.99, and no other end is known.
#[test]
fn the_exponential_schedule_follows_pytorchs_recurrence() {
    assert_eq!(DECAY, 0.99);
    let mut expected = 0.2;
    for t in 0..100 {
        for rate in [
            Schedule::Exponential.rate(0.2, t),
            Schedule::Exponential.rate_between(0.2, 0.1, t),
        ] {
            assert!(
                (rate - expected).abs() < 1e-14,
                "epoch {t}: {rate}, expected {expected}"
            );
        }
        expected *= 0.99;
    }
}
