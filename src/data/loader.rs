//! Batches, made ahead of the training by threads of their own.
//!
//! Worker `w` of `n` makes the batches `w`, `w + n`, `w + 2n`, ... of an epoch and puts them into a bounded queue of its own; the
//! consumer takes one from each queue in turn. So batches arrive in order without a reordering buffer, memory is bounded, and
//! since every random number belongs to (seed, epoch, example), the number of threads cannot change a result.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use ndarray::Array4;

use super::augment::Augmentation;
use super::normalize::write_normalized;
use super::rng::{Draw, Purpose};
use super::{Dataset, Normalization};

/// Which rows of each global batch a rank computes on: the ranks' rows, one after the other, are the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// This rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
}

impl Shard {
    /// The only rank.
    pub const WHOLE: Self = Self { rank: 0, world: 1 };

    /// This rank's rows of a batch of `rows`: as many as others have or one less, none if there are more ranks than rows.
    ///
    /// ```
    /// use eqprop_cuda::data::Shard;
    /// let rows = |rank| Shard { rank, world: 3 }.rows(7);
    /// assert_eq!([rows(0), rows(1), rows(2)], [0..3, 3..5, 5..7]);
    /// ```
    pub fn rows(self, rows: usize) -> Range<usize> {
        let start = |rank: usize| rank * (rows / self.world) + rank.min(rows % self.world);
        start(self.rank)..start(self.rank + 1)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.world)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// How a dataset is cut into batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Examples per batch of all ranks together; the last batch of an epoch has what is left.
    pub batch_size: usize,
    /// A new random order in each epoch, rather than the order of the dataset.
    pub shuffle: bool,
    /// Random transformations of each image; none for evaluation.
    pub augment: Option<Augmentation>,
    /// From bytes to the network's input.
    pub normalization: Normalization,
    /// Fixes the order and the transformations.
    pub seed: u64,
    /// Threads that make batches; 0 counts as 1. Does not change the batches.
    pub threads: usize,
    /// About how many finished batches may wait; 0 counts as 1. Does not change the batches.
    pub prefetch: usize,
    /// The rows of each batch that are made. The images in them are the same for any number of ranks.
    pub shard: Shard,
}

/// Some examples, ready for the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `(N, C, H, W)`, normalised; N is 0 for a rank without rows.
    pub images: Array4<f32>,
    /// N labels.
    pub labels: Vec<usize>,
    /// The batch's place in its epoch, from 0.
    pub index: usize,
}

impl Batch {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it has no example, as that of a rank without rows.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Cuts a dataset into batches, epoch by epoch.
#[derive(Clone, Debug)]
pub struct Loader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    tables: Vec<[f32; 256]>,
}

impl Loader {
    /// # Panics
    /// If the batch size is 0, the rank is not below the number of ranks, or the normalisation has another number of channels than the
    /// dataset.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Self {
        assert!(options.batch_size > 0, "the batch size must be at least 1");
        let Shard { rank, world } = options.shard;
        assert!(rank < world, "rank {rank} of {world}");
        assert_eq!(
            options.normalization.channels(),
            dataset.channels,
            "channels of the normalisation and of the dataset"
        );
        let tables = options.normalization.tables();
        Self {
            shared: Arc::new(Shared {
                dataset,
                options,
                tables,
            }),
        }
    }

    /// Batches per epoch.
    pub fn batches(&self) -> usize {
        let shared = &self.shared;
        shared.dataset.len().div_ceil(shared.options.batch_size)
    }

    /// Examples per epoch.
    pub fn examples(&self) -> usize {
        self.shared.dataset.len()
    }

    /// Examples of a batch, on all ranks.
    pub fn batch_examples(&self, index: usize) -> usize {
        let size = self.shared.options.batch_size;
        size.min(self.examples().saturating_sub(index * size))
    }

    /// Number of the last batch that has all its examples; 0 when no batch has.
    pub fn last_full_batch(&self) -> usize {
        (self.examples() / self.shared.options.batch_size).max(1) - 1
    }

    /// The batches of `epoch` from number `first_batch` on, in order. Dropping the iterator stops its threads.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Epoch {
        let n = self.shared.dataset.len();
        let order = if self.shared.options.shuffle {
            Draw::new(self.shared.options.seed, epoch, Purpose::Shuffle).permutation(n)
        } else {
            (0..n).collect()
        };
        let job = Arc::new(Job {
            shared: Arc::clone(&self.shared),
            epoch,
            order,
            stop: AtomicBool::new(false),
        });
        let batches = self.batches();
        let first = first_batch.min(batches);
        let threads = self
            .shared
            .options
            .threads
            .clamp(1, (batches - first).max(1));
        let waiting = self.shared.options.prefetch.div_ceil(threads).max(1);
        Epoch {
            workers: (0..threads)
                .map(|w| Worker::start(&job, first + w..batches, threads, waiting))
                .collect(),
            job,
            first,
            next: first,
            batches,
        }
    }
}

/// What the threads of one epoch share.
struct Job {
    shared: Arc<Shared>,
    epoch: u64,
    /// The examples, in the order of the epoch.
    order: Vec<usize>,
    stop: AtomicBool,
}

impl Job {
    /// Makes a batch, or nothing if the epoch was abandoned meanwhile.
    fn batch(&self, index: usize) -> Option<Batch> {
        let Shared {
            dataset,
            options,
            tables,
        } = &*self.shared;
        let start = index * options.batch_size;
        let end = (start + options.batch_size).min(self.order.len());
        let rows = options.shard.rows(end - start);
        let examples = &self.order[start..end][rows];
        let Dataset {
            channels,
            height,
            width,
            ..
        } = **dataset;
        let mut images = Array4::zeros((examples.len(), channels, height, width));
        for (mut out, &example) in images.outer_iter_mut().zip(examples) {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let Some(out) = out.as_slice_mut() else {
                continue; // never: a freshly made array is contiguous
            };
            match &options.augment {
                None => write_normalized(dataset.bytes(example), tables, out),
                Some(recipe) => {
                    let mut draw = Draw::new(options.seed, self.epoch, Purpose::Augment(example));
                    let image = recipe.apply(dataset.image(example), &mut draw);
                    write_normalized(&image.data, tables, out);
                }
            }
        }
        Some(Batch {
            images,
            labels: examples
                .iter()
                .map(|&i| usize::from(dataset.labels[i]))
                .collect(),
            index,
        })
    }
}

struct Worker {
    /// Absent once the epoch is over (dropping it wakes a worker that waits to deliver).
    queue: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that makes every `stride`-th batch of `range`, of which `waiting` may wait.
    fn start(job: &Arc<Job>, range: Range<usize>, stride: usize, waiting: usize) -> Self {
        let (deliver, queue) = sync_channel(waiting);
        let job = Arc::clone(job);
        let thread = thread::Builder::new()
            .name("data".into())
            .spawn(move || {
                for index in range.step_by(stride) {
                    let Some(batch) = job.batch(index) else {
                        return;
                    };
                    if deliver.send(batch).is_err() {
                        return;
                    }
                }
            })
            .ok();
        Self {
            queue: Some(queue),
            thread,
        }
    }
}

/// The batches of one epoch, in order.
pub struct Epoch {
    job: Arc<Job>,
    workers: Vec<Worker>,
    first: usize,
    next: usize,
    batches: usize,
}

impl Iterator for Epoch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.next >= self.batches {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let worker = &self.workers[(index - self.first) % self.workers.len()];
        worker
            .queue
            .as_ref()
            .and_then(|queue| queue.recv().ok())
            // The system may refuse a thread; then the consumer does its work.
            .or_else(|| self.job.batch(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.job.stop.store(true, Ordering::Relaxed);
        for worker in &mut self.workers {
            worker.queue = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A panic of the thread has been reported already, and its batches were made by the consumer.
                let _ = thread.join();
            }
        }
    }
}
