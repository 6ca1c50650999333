//! SGD, Adam, AdamW and clipping against their formulas written out by hand, element by element.

use eqprop_cuda::network::ParameterSet;
use eqprop_cuda::optim::{MAX_NORM, Optimizer, OptimizerConfig, clip_scale};
use ndarray::{ArrayD, arr1};

/// One bias of two elements and one weight of one, so that tensors have learning rates of their own.
fn set(values: [f64; 3]) -> ParameterSet<f64> {
    let vector = |v: &[f64]| -> ArrayD<f64> { arr1(v).into_dyn() };
    ParameterSet::new(vec![vector(&values[..2])], vec![vector(&values[2..])])
}

/// A step along the gradient clipped to norm 1.
fn step(
    optimizer: &mut Optimizer<f64>,
    parameters: &mut ParameterSet<f64>,
    gradient: &ParameterSet<f64>,
    rates: &[f64],
) {
    let scale = clip_scale(gradient.norm(), MAX_NORM);
    scaled_step(optimizer, parameters, gradient, scale, rates);
}

fn scaled_step(
    optimizer: &mut Optimizer<f64>,
    parameters: &mut ParameterSet<f64>,
    gradient: &ParameterSet<f64>,
    scale: f64,
    rates: &[f64],
) {
    let mut updated = Vec::new();
    optimizer.step(parameters, gradient, scale, rates, |_, i| updated.push(i));
    assert_eq!(
        updated,
        [0, 1],
        "each tensor is reported once, after its update"
    );
}

fn flat(parameters: &ParameterSet<f64>) -> Vec<f64> {
    parameters.tensors().iter().flatten().copied().collect()
}

fn assert_close(ours: &[f64], expected: &[f64]) {
    for (a, b) in ours.iter().zip(expected) {
        assert!(
            (a - b).abs() <= 1e-14 * b.abs().max(1e-3),
            "{ours:?} is not {expected:?}"
        );
    }
}

const START: [f64; 3] = [0.5, -1.5, 2.0];
const RATES: [f64; 2] = [0.1, 0.03];
/// Norms below 1, so that nothing is clipped.
const GRADIENTS: [[f64; 3]; 4] = [
    [0.3, -0.2, 0.1],
    [-0.1, 0.4, 0.25],
    [0.0, 0.05, -0.6],
    [0.2, 0.2, 0.2],
];

fn rate(element: usize) -> f64 {
    RATES[usize::from(element == 2)]
}

#[test]
fn sgd_is_nesterov_momentum_with_l2_decay() {
    let (momentum, weight_decay) = (0.9, 0.01);
    let mut optimizer = Optimizer::new(OptimizerConfig::Sgd {
        momentum,
        weight_decay,
    });
    let mut parameters = set(START);
    let (mut w, mut velocity) = (START, [0.0; 3]);
    for gradient in GRADIENTS {
        step(&mut optimizer, &mut parameters, &set(gradient), &RATES);
        for i in 0..3 {
            let g = gradient[i] + weight_decay * w[i];
            velocity[i] = momentum * velocity[i] + g;
            w[i] -= rate(i) * (g + momentum * velocity[i]);
        }
        assert_close(&flat(&parameters), &w);
    }
}

/// `torch.optim.SGD(nesterov=False)`.
#[test]
fn a_heavy_ball_moves_by_its_momentum_alone() {
    let (momentum, weight_decay) = (0.9, 0.01);
    let mut optimizer = Optimizer::new(OptimizerConfig::HeavyBall {
        momentum,
        weight_decay,
    });
    let mut parameters = set(START);
    let (mut w, mut velocity) = (START, [0.0; 3]);
    for gradient in GRADIENTS {
        step(&mut optimizer, &mut parameters, &set(gradient), &RATES);
        for i in 0..3 {
            velocity[i] = momentum * velocity[i] + gradient[i] + weight_decay * w[i];
            w[i] -= rate(i) * velocity[i];
        }
        assert_close(&flat(&parameters), &w);
    }
}

/// The first two steps in closed form: an error in the recurrence above and in the code alike would show here.
#[test]
fn sgd_starts_as_pytorch_does() {
    let (mu, lr) = (0.9, 0.1);
    let config = OptimizerConfig::Sgd {
        momentum: mu,
        weight_decay: 0.0,
    };
    let mut optimizer = Optimizer::new(config);
    let mut parameters = set([0.0; 3]);
    step(
        &mut optimizer,
        &mut parameters,
        &set([0.5, 0.0, 0.0]),
        &[lr, lr],
    );
    assert_close(&flat(&parameters), &[-lr * 0.5 * (1.0 + mu), 0.0, 0.0]);
    step(
        &mut optimizer,
        &mut parameters,
        &set([0.5, 0.0, 0.0]),
        &[lr, lr],
    );
    assert_close(
        &flat(&parameters),
        &[-lr * 0.5 * (2.0 + 2.0 * mu + mu * mu), 0.0, 0.0],
    );
}

#[test]
fn adamw_decouples_the_decay_and_corrects_the_bias_of_its_moments() {
    let weight_decay = 0.1;
    let mut optimizer = Optimizer::new(OptimizerConfig::AdamW { weight_decay });
    let mut parameters = set(START);
    let mut w = START;
    for t in 1..=GRADIENTS.len() {
        step(
            &mut optimizer,
            &mut parameters,
            &set(GRADIENTS[t - 1]),
            &RATES,
        );
        for i in 0..3 {
            // The moments as the weighted means they are, not by their recurrence.
            let mean = |beta: f64, power: i32| -> f64 {
                let weights = (0..t).map(|k| beta.powi((t - 1 - k) as i32));
                let total: f64 = weights.clone().sum();
                let values = GRADIENTS.iter().map(|g| g[i].powi(power));
                weights.zip(values).map(|(a, b)| a * b).sum::<f64>() / total
            };
            let update = mean(0.9, 1) / (mean(0.999, 2).sqrt() + 1e-8);
            w[i] = w[i] * (1.0 - rate(i) * weight_decay) - rate(i) * update;
        }
        let ours = flat(&parameters);
        for (a, b) in ours.iter().zip(&w) {
            assert!((a - b).abs() < 1e-12, "step {t}: {ours:?} is not {w:?}");
        }
    }
}

/// Adam: the decay is a part of the gradient, so both moments see it.
#[test]
fn adam_decays_within_the_gradient() {
    let weight_decay = 0.1;
    let mut optimizer = Optimizer::new(OptimizerConfig::Adam { weight_decay });
    let mut parameters = set(START);
    let mut w = START;
    let mut seen: Vec<[f64; 3]> = Vec::new();
    for gradient in GRADIENTS {
        seen.push(std::array::from_fn(|i| gradient[i] + weight_decay * w[i]));
        step(&mut optimizer, &mut parameters, &set(gradient), &RATES);
        for i in 0..3 {
            let mean = |beta: f64, power: i32| -> f64 {
                let weights = (0..seen.len()).rev().map(|k| beta.powi(k as i32));
                let total: f64 = weights.clone().sum();
                let values = seen.iter().map(|g| g[i].powi(power));
                weights.zip(values).map(|(a, b)| a * b).sum::<f64>() / total
            };
            w[i] -= rate(i) * mean(0.9, 1) / (mean(0.999, 2).sqrt() + 1e-8);
        }
        let ours = flat(&parameters);
        for (a, b) in ours.iter().zip(&w) {
            assert!((a - b).abs() < 1e-12, "{ours:?} is not {w:?}");
        }
    }
}

/// Where the gradient is zero only weight decay moves a parameter: ever smaller, then to zero and not through subnormal numbers.
#[test]
fn what_only_decays_ends_at_zero() {
    let single = |v: f32| ParameterSet::new(vec![arr1(&[v]).into_dyn()], vec![]);
    let weight_decay = 1.0;
    for config in [
        OptimizerConfig::Sgd {
            momentum: 0.5,
            weight_decay,
        },
        OptimizerConfig::HeavyBall {
            momentum: 0.0,
            weight_decay,
        },
        OptimizerConfig::Adam { weight_decay },
        OptimizerConfig::AdamW { weight_decay },
    ] {
        let mut optimizer = Optimizer::<f32>::new(config);
        let mut parameters = single(1e-30);
        for step in 0..200 {
            optimizer.step(&mut parameters, &single(0.0), 1.0, &[0.5], |_, _| ());
            let state = optimizer.state(wide);
            let moments = state.moments.iter().flat_map(flat);
            for value in flat(&wide(&parameters)).into_iter().chain(moments) {
                let is_subnormal = value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
                assert!(!is_subnormal, "{config:?}, step {step}: {value:e}");
            }
        }
        let is_adam = matches!(config, OptimizerConfig::Adam { .. });
        assert!(is_adam || flat(&wide(&parameters)) == [0.0], "{config:?}");
    }
}

fn wide(parameters: &ParameterSet<f32>) -> ParameterSet<f64> {
    let tensors = parameters.tensors().iter();
    ParameterSet::new(
        tensors.map(|tensor| tensor.mapv(f64::from)).collect(),
        vec![],
    )
}

#[test]
fn unclipped_gradients_keep_their_length() {
    let config = OptimizerConfig::Sgd {
        momentum: 0.0,
        weight_decay: 0.0,
    };
    let mut parameters = set([0.0; 3]);
    let mut optimizer = Optimizer::new(config);
    scaled_step(
        &mut optimizer,
        &mut parameters,
        &set([6.0, 0.0, 8.0]),
        1.0,
        &[1.0, 1.0],
    );
    assert_close(&flat(&parameters), &[-6.0, 0.0, -8.0]);
}

#[test]
fn decay_acts_on_biases_too() {
    for config in [
        OptimizerConfig::Sgd {
            momentum: 0.0,
            weight_decay: 0.5,
        },
        OptimizerConfig::AdamW { weight_decay: 0.5 },
    ] {
        let mut parameters = set(START);
        step(
            &mut Optimizer::new(config),
            &mut parameters,
            &set([0.0; 3]),
            &RATES,
        );
        let expected: Vec<f64> = (0..3).map(|i| START[i] * (1.0 - 0.5 * rate(i))).collect();
        assert_close(&flat(&parameters), &expected);
    }
}

#[test]
fn the_global_norm_is_clipped_to_one() {
    assert_eq!(clip_scale(0.0, MAX_NORM), 1.0);
    assert_eq!(clip_scale(1.0, MAX_NORM), 1.0);
    assert_eq!(clip_scale(4.0, MAX_NORM), 1.0 / (4.0 + 1e-6));
    // |(6, 0, 8)| = 10: the tensors are scaled together, by one factor.
    let config = OptimizerConfig::Sgd {
        momentum: 0.0,
        weight_decay: 0.0,
    };
    let mut parameters = set([0.0; 3]);
    step(
        &mut Optimizer::new(config),
        &mut parameters,
        &set([6.0, 0.0, 8.0]),
        &[1.0, 1.0],
    );
    let scale = 1.0 / (10.0 + 1e-6);
    assert_close(&flat(&parameters), &[-6.0 * scale, 0.0, -8.0 * scale]);
}

/// Weight decay is added after clipping: it does not count towards the norm.
#[test]
fn decay_is_not_clipped() {
    let config = OptimizerConfig::Sgd {
        momentum: 0.0,
        weight_decay: 1.0,
    };
    let mut parameters = set([100.0, 0.0, 0.0]);
    step(
        &mut Optimizer::new(config),
        &mut parameters,
        &set([0.5, 0.0, 0.0]),
        &[0.1, 0.1],
    );
    assert_close(&flat(&parameters), &[100.0 - 0.1 * 100.5, 0.0, 0.0]);
}

/// A run stopped and resumed from its optimizer state goes on bit for bit.
#[test]
fn the_state_resumes_exactly() {
    for config in [
        OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 0.01,
        },
        OptimizerConfig::Adam { weight_decay: 0.01 },
        OptimizerConfig::AdamW { weight_decay: 0.01 },
    ] {
        let (mut whole, mut parameters) = (Optimizer::new(config), set(START));
        for gradient in &GRADIENTS[..2] {
            step(&mut whole, &mut parameters, &set(*gradient), &RATES);
        }
        let (mut resumed, mut copy) = (Optimizer::new(config), parameters.clone());
        resumed.set_state(whole.state(ParameterSet::clone), ParameterSet::clone);
        for gradient in &GRADIENTS[2..] {
            step(&mut whole, &mut parameters, &set(*gradient), &RATES);
            step(&mut resumed, &mut copy, &set(*gradient), &RATES);
        }
        assert_eq!(parameters, copy, "{config:?}");
        // And the state matters: without it the steps differ.
        let (mut fresh, mut other) = (Optimizer::new(config), set(START));
        step(&mut fresh, &mut other, &set(GRADIENTS[2]), &RATES);
        step(&mut fresh, &mut other, &set(GRADIENTS[3]), &RATES);
        assert_ne!(other, copy);
    }
}
