//! Deliberately broken kernels are noticed: this is a test of the tests.
//!
//! The emulation compiles the kernels with switches that break one thing each (`kernels/defects.cuh`). One test in
//! a process of its own, because the switch is global.
#![cfg(feature = "emulation")]

mod support;

use eqprop_cuda::cuda::{Device, emulated};
use std::sync::Arc;
use support::steps::{ALL, Steps, Steps::*};

/// Number, what it breaks, and the training steps that have to notice it.
const MUTATIONS: [(i32, &str, Steps); 35] = [
    (1, "every tap reads one row too low", Fp32),
    (2, "the mask of the left border is off by one", Fp32),
    (3, "a clipped pair is taken for one that is not", Fp32),
    (4, "no barrier between fetching and using a slice", Fp32),
    (5, "no barrier between using and fetching a slice", Fp32),
    (6, "no barrier between tensor-core stages", Fp16),
    (7, "the tensor-core kernel does not await copies", Fp16),
    (8, "the weight gradient reads one pixel too many", Fp16),
    (9, "the weight gradient's tap is one column off", Fp32),
    (10, "the weight gradient stores too many channels", Fp32),
    (11, "unpooling forgets the free state's maximum", Fp32),
    (12, "no barrier in the sum of the change", Fp32),
    (13, "no barrier between sums over lanes", Backprop),
    (14, "no barrier in the sum over lanes", Backprop),
    (15, "a gradient goes to the next of a window", Backprop),
    (16, "normalisation passes on its variance", Backprop),
    (17, "the running variance is biased", Backprop),
    (18, "Adam forgets the weight decay", Backprop),
    (19, "the loss takes the next class for right", Backprop),
    (20, "nudging has the wrong sign", Fp32),
    (21, "half of a pair's cross-entropy is lost", Fp32),
    (22, "the energy lacks bias and input", Fp32),
    (23, "the last split of a gradient is forgotten", Fp32),
    (24, "parity classes all begin in the first row", Fp32),
    (25, "padding is fetched from an odd address", Fp16),
    (26, "the old state is not awaited", Fp16),
    (27, "a clipped unit responds", Linear),
    (27, "a clipped unit responds", LinearFp16),
    (28, "a response looks for maxima of its own", Linear),
    (29, "the last part of a sum over iterations is all", Linear),
    (30, "the mean of a window goes down whole", Averages),
    (31, "a phase's loop never ends", Loop),
    (32, "a phase's loop ends half-way", Loop),
    (33, "the last part of a split product is forgotten", Split),
    (34, "a join begins with the second part", Split),
];

#[test]
fn every_deliberate_defect_is_noticed() {
    let error_of = |steps: Steps| {
        let device: Arc<dyn Device> = Arc::new(emulated::EmulatedDevice::new());
        steps.error(&device)
    };
    for steps in ALL {
        let error = error_of(steps).unwrap();
        assert!(
            error < steps.tolerance(),
            "{steps:?} without a defect: {error}"
        );
    }
    for (number, defect, steps) in MUTATIONS {
        emulated::set_mutation(number);
        let outcome = error_of(steps);
        emulated::set_mutation(0);
        match outcome {
            Ok(error) => assert!(
                error > steps.tolerance(),
                "{defect} (mutation {number}) went unnoticed: error {error:e}"
            ),
            Err(complaint) => {
                let complaint = complaint.to_string();
                assert!(complaint.contains("kernel"), "{complaint}");
            }
        }
    }
}
