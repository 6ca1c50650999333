//! Batch normalisation alone, against its definition in float64: odd shapes, forward and backward.
//!
//! Channels do not mix, so the truth is computed channel by channel. The backward pass is compared with finite differences of
//! that computation, for every input, scale and shift.

mod machine;
mod truth;

use crate::support::networks::rng;
use eqprop_cuda::cuda::Buffer;
use eqprop_cuda::cuda::abi::{EqBatchNorm, EqBatchNormArgs};
use eqprop_cuda::cuda::kernels::{Format, batch_norm_backward, batch_norm_forward};
use eqprop_cuda::feedforward::{NORM_EPSILON, NORM_MOMENTUM};
use machine::{Arrays, decoded, interleaved};
use rand::RngExt;
use truth::{Case, Channel, Unit, moments, slope};

fn close(what: &str, case: &Case, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let most = want.iter().fold(1e-3, |most: f64, v| most.max(v.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / most;
        assert!(
            error <= tolerance,
            "{what}[{i}]: {got} instead of {want} (error {error:.1e}, at most {tolerance:.1e})\n{case:?}"
        );
    }
}

fn check(case: &Case, format: Format, evaluate: bool, seed: u64) {
    let device = crate::support::kernels::machine(1);
    let mut channels = case.random(seed);
    let (padded, rows) = (case.padded(), case.rows());
    let states: Vec<Vec<Unit>> = channels.iter().map(|c| case.state(c, evaluate)).collect();
    // Any gradient, but none where rounding decides which way it goes.
    let mut rng = rng(seed ^ 1);
    let gradient: Vec<Vec<f64>> = (states.iter())
        .map(|units| {
            let any = |unit: &Unit| match unit.margin > 5e-3 {
                true => f64::from(rng.random_range(-1.0f32..1.0)),
                false => 0.0,
            };
            units.iter().map(any).collect()
        })
        .collect();
    let arrays: Vec<Arrays> = (0..case.edges)
        .map(|e| Arrays::new(&device, case, &channels, e, format))
        .collect();
    let table: Vec<EqBatchNorm> = arrays.iter().map(Arrays::table).collect();
    let table = Buffer::from_slice(&device, &table).unwrap();
    let units = states[0].len() * padded;
    let state = Buffer::<u8>::new(&device, units * format.bytes()).unwrap();
    let argmax = Buffer::<u8>::new(&device, units).unwrap();
    let of_state = Buffer::from_slice(&device, &interleaved(&gradient)).unwrap();
    let args = EqBatchNormArgs {
        edges: table.ptr(),
        state: state.ptr(),
        argmax: if case.pooled {
            argmax.ptr()
        } else {
            std::ptr::null_mut()
        },
        gradient: of_state.ptr(),
        edge_count: case.edges as u32,
        images: case.images as u32,
        height: case.side[0] as u32,
        width: case.side[1] as u32,
        channels: padded as u32,
        splits: case.splits() as u32,
        rows_per_split: case.rows_per_split as u32,
        evaluate: u32::from(evaluate),
        epsilon: NORM_EPSILON as f32,
        momentum: NORM_MOMENTUM as f32,
    };
    batch_norm_forward(&*device, format, &args).unwrap();

    // The mean is kept in fp32: where inputs are far from zero, its rounding is what is left.
    let exact = 2e-5 + 1.2e-7 * case.offset.abs() / (case.spread / 3f64.sqrt());
    let stored = match format {
        Format::F32 => exact,
        Format::F16 => exact + 1e-3,
    };
    let values: Vec<Vec<f64>> = (states.iter())
        .map(|units| units.iter().map(|unit| unit.value).collect())
        .collect();
    let want: Vec<f64> = interleaved(&values).iter().map(|&v| v.into()).collect();
    close(
        "state",
        case,
        &decoded(format, &state.read().unwrap()),
        &want,
        stored,
    );
    let read = |buffer: &Buffer<f32>| -> Vec<f64> {
        buffer.read().unwrap().into_iter().map(f64::from).collect()
    };
    for (e, array) in arrays.iter().enumerate() {
        for (i, what) in ["running mean", "running variance"].iter().enumerate() {
            let expected = |channel: &Channel| {
                let mut of_batch = moments(&channel.z[e]);
                of_batch[1] *= rows as f64 / (rows as f64 - 1.0);
                let momentum = if evaluate { 0.0 } else { NORM_MOMENTUM };
                (1.0 - momentum) * channel.running[e][i] + momentum * of_batch[i]
            };
            let want: Vec<f64> = channels.iter().map(expected).collect();
            close(what, case, &read(&array.channels[4 + i]), &want, 1e-6);
        }
    }
    if evaluate {
        return;
    }

    batch_norm_backward(&*device, format, &args).unwrap();
    for (e, array) in arrays.iter().enumerate() {
        let mut of_z = vec![Vec::new(); padded];
        let [mut of_scale, mut of_shift] = [Vec::new(), Vec::new()];
        for (c, channel) in channels.iter_mut().enumerate() {
            let step = 1e-5;
            of_z[c] = (0..rows)
                .map(|row| {
                    slope(case, channel, &gradient[c], step * case.spread, |c| {
                        &mut c.z[e][row]
                    })
                })
                .collect();
            of_scale.push(slope(case, channel, &gradient[c], step, |c| {
                &mut c.scale[e]
            }));
            of_shift.push(slope(case, channel, &gradient[c], step, |c| {
                &mut c.shift[e]
            }));
        }
        let want: Vec<f64> = interleaved(&of_z).iter().map(|&v| v.into()).collect();
        let got = decoded(format, &array.difference.read().unwrap());
        close("dL/dz", case, &got, &want, stored);
        close(
            "dL/dgamma",
            case,
            &read(&array.channels[6]),
            &of_scale,
            exact,
        );
        close(
            "dL/dbeta",
            case,
            &read(&array.channels[7]),
            &of_shift,
            exact,
        );
    }
}

const PLAIN: Case = Case {
    images: 3,
    side: [4, 4],
    channels: 8,
    edges: 1,
    pooled: false,
    rows_per_split: 512,
    offset: 0.5,
    spread: 1.0,
};

#[test]
fn odd_shapes_agree_with_the_definition() {
    let cases = [
        Case {
            channels: 1,
            side: [3, 5],
            ..PLAIN
        },
        // one row more than a split
        Case {
            channels: 9,
            edges: 2,
            rows_per_split: 47,
            ..PLAIN
        },
        Case {
            channels: 40,
            side: [5, 7],
            edges: 2,
            rows_per_split: 16,
            ..PLAIN
        },
        // more splits than a block has lanes
        Case {
            images: 5,
            side: [10, 11],
            rows_per_split: 32,
            ..PLAIN
        },
        Case {
            channels: 9,
            side: [7, 5],
            pooled: true,
            rows_per_split: 40,
            ..PLAIN
        },
        Case {
            channels: 40,
            side: [2, 3],
            edges: 2,
            pooled: true,
            ..PLAIN
        },
        // where a sum of squares minus the square of a sum would have no digits left
        Case {
            channels: 9,
            side: [8, 8],
            rows_per_split: 50,
            offset: -100.0,
            spread: 0.1,
            ..PLAIN
        },
    ];
    for (seed, case) in cases.iter().enumerate() {
        for format in [Format::F32, Format::F16] {
            for evaluate in [false, true] {
                check(case, format, evaluate, seed as u64);
            }
        }
    }
}

#[test]
fn random_shapes_agree_with_the_definition() {
    for seed in 0..40 {
        let mut rng = rng(seed);
        let case = Case {
            images: rng.random_range(2..5),
            side: [rng.random_range(2..8), rng.random_range(2..8)],
            channels: rng.random_range(1..50),
            edges: rng.random_range(1..4),
            pooled: rng.random_range(0..2) == 0,
            rows_per_split: rng.random_range(1..60),
            offset: rng.random_range(-3.0..3.0),
            spread: rng.random_range(0.1..3.0),
        };
        let format = [Format::F32, Format::F16][seed as usize % 2];
        check(&case, format, seed % 3 == 0, seed);
    }
}
