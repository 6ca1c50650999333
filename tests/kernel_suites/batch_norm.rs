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
use truth::{Case, Channel, Kind, Unit, moments, slope};

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
    let padded = case.padded();
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
    let arrays: Vec<Arrays> = (0..case.edges.len())
        .map(|e| Arrays::new(&device, case, &channels, e, format))
        .collect();
    let table: Vec<EqBatchNorm> = arrays.iter().map(Arrays::table).collect();
    let table = Buffer::from_slice(&device, &table).unwrap();
    let units = states[0].len() * padded;
    let state = Buffer::<u8>::new(&device, units * format.bytes()).unwrap();
    let of_state = Buffer::from_slice(&device, &interleaved(&gradient)).unwrap();
    let most = |of: &dyn Fn(usize) -> usize| -> u32 {
        (0..case.edges.len()).map(of).max().unwrap() as u32
    };
    let args = EqBatchNormArgs {
        edges: table.ptr(),
        state: state.ptr(),
        gradient: of_state.ptr(),
        edge_count: case.edges.len() as u32,
        images: case.images as u32,
        height: case.side[0] as u32,
        width: case.side[1] as u32,
        channels: padded as u32,
        pixels: most(&|e| case.full(e).iter().product()),
        splits: most(&|e| case.splits(e)),
        rows_per_split: case.rows_per_split as u32,
        linear: u32::from(case.linear),
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
                let z = case.normalised(e, &channel.z[e]);
                let rows = z.len() as f64;
                let mut of_batch = moments(&z);
                of_batch[1] *= rows / (rows - 1.0);
                let is_still = evaluate || case.edges[e] == Kind::Dense;
                let momentum = if is_still { 0.0 } else { NORM_MOMENTUM };
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
            of_z[c] = (0..case.rows(e))
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
        if case.edges[e] == Kind::Dense {
            continue;
        }
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
    odd: [0, 0],
    channels: 8,
    edges: &[Kind::Plain],
    linear: false,
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
            edges: &[Kind::Plain, Kind::Plain],
            rows_per_split: 47,
            ..PLAIN
        },
        Case {
            channels: 40,
            side: [5, 7],
            edges: &[Kind::Plain, Kind::Plain],
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
            side: [3, 2],
            odd: [1, 1],
            edges: &[Kind::Max],
            rows_per_split: 40,
            ..PLAIN
        },
        Case {
            channels: 40,
            side: [1, 1],
            odd: [0, 1],
            edges: &[Kind::Max, Kind::Max],
            ..PLAIN
        },
        Case {
            channels: 9,
            side: [3, 2],
            odd: [1, 0],
            edges: &[Kind::Average],
            rows_per_split: 7,
            ..PLAIN
        },
        // edges of every kind, and so of different sizes, meet in one layer
        Case {
            channels: 11,
            side: [2, 3],
            odd: [0, 1],
            edges: &[Kind::Plain, Kind::Max, Kind::Average, Kind::Dense],
            rows_per_split: 10,
            ..PLAIN
        },
        Case {
            side: [2, 2],
            edges: &[Kind::Dense, Kind::Max, Kind::Plain],
            linear: true,
            ..PLAIN
        },
        Case {
            edges: &[Kind::Dense],
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
            side: [rng.random_range(1..6), rng.random_range(2..6)],
            odd: [rng.random_range(0..2), rng.random_range(0..2)],
            channels: rng.random_range(1..50),
            edges: [
                &[Kind::Plain][..],
                &[Kind::Plain, Kind::Plain, Kind::Plain],
                &[Kind::Max],
                &[Kind::Average, Kind::Max],
                &[Kind::Max, Kind::Plain],
                &[Kind::Dense, Kind::Plain, Kind::Average],
            ][rng.random_range(0..6)],
            linear: rng.random_range(0..4) == 0,
            rows_per_split: rng.random_range(1..60),
            offset: rng.random_range(-3.0..3.0),
            spread: rng.random_range(0.1..3.0),
        };
        let format = [Format::F32, Format::F16][seed as usize % 2];
        check(&case, format, seed % 3 == 0, seed);
    }
}
