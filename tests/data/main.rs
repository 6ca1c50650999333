//! Images from their files to batches.

#[path = "../support/mod.rs"]
mod support;

mod augment_golden;
mod download;
mod files;
mod loader;
mod own;
mod torchvision;
