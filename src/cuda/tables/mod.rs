//! What a launch reads: a network as taps, tiles and places in memory.

pub mod boxes;
pub mod costs;
pub mod geometry;
pub mod gradient;
pub mod gradient_boxes;
pub mod layout;
pub mod pairs;
pub mod products;
pub mod splits;
pub mod sweep;
pub mod tiles;
pub mod turns;
