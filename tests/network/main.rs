//! Networks as values: shapes, orders, presets, feed-forward equivalents.

#[path = "../support/mod.rs"]
mod support;

mod feedforward;
mod graphs;
mod order;
mod presets;
