//! Datasets, augmentation and loading.
