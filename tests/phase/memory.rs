//! What the passes of a feed-forward network keep for the next batch does not grow with the number of batches.

use eqprop_cuda::cpu::CpuFeedForward;
use eqprop_cuda::feedforward::{Backend, FeedForward, NormMode};
use ndarray::Array4;

#[test]
fn buffers_are_bounded_after_fifty_batches() {
    for name in FeedForward::PRESETS {
        let model = FeedForward::preset(name, 1, 10, [4, 4, 4, 4]).unwrap();
        let mut backend = CpuFeedForward::<f32>::new(&model);
        backend.set_state(&model.initialise(1)).unwrap();
        let mut batch = || {
            let images = |n: usize| Array4::from_elem((n, 1, 32, 32), 0.5);
            let labels = |n: usize| (0..n).map(|i| i % 10).collect::<Vec<_>>();
            let mut pass = |n: usize, mode| backend.forward(&images(n), &labels(n), mode).unwrap();
            pass(6, NormMode::Train);
            backend.backward().unwrap();
            // Training ends with a smaller batch sometimes, and evaluation takes others.
            let mut pass = |n: usize, mode| backend.forward(&images(n), &labels(n), mode).unwrap();
            pass(6, NormMode::Evaluate);
            pass(4, NormMode::Evaluate);
            backend.recycled()
        };
        let first: usize = (0..5).map(|_| batch()).max().unwrap();
        let last: usize = (5..50).map(|_| batch()).max().unwrap();
        assert!(first > 0, "{name}: nothing is used again");
        assert_eq!(first, last, "{name}");
    }
}
