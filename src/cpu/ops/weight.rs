//! The weight of an edge, ready to be applied on the way up or on the way down.

use super::changes::ChangeFilter;
use super::conv::ConvGeometry;
use super::filter::{Bordered, Direction, Filter};
use super::images::{per_image, per_image_mut};
use super::panels::Panels;
use super::product::Product;
use super::real::{Into, Real};
use ndarray::{ArrayView2, ArrayViewMut2};

/// What products are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// numbers as they are
    Full,
    /// changes of numbers, rounded to `bf16`
    Bf16,
}

/// A weight for one of the two ways. Packed weights, which it takes, are those of `product.rs`.
pub enum Weight<T: 'static> {
    Conv {
        full: Box<Filter<T>>,
        changes: Option<Box<ChangeFilter<T>>>,
    },
    DenseUp(Panels<T>),
    DenseDown(Panels<T>),
}

impl<T: Real> Weight<T> {
    /// The way from the pre to the post layer, before max pooling. All weights zero; `shape` is that of the packed weight.
    pub fn up(product: Product, shape: (usize, usize), products: Products) -> Self {
        match product.geometry() {
            Some(geometry) => Self::conv(Direction::forward(geometry), products),
            None => Self::DenseUp(Panels::zeros(shape.0, shape.1)),
        }
    }

    /// The way down from what max pooling sends back, at the resolution of its convolution: mostly zeros, and always full products.
    pub fn down_unpooled(geometry: ConvGeometry) -> Self {
        Self::Conv {
            full: Box::new(Filter::sparse(Direction::transposed(geometry))),
            changes: None,
        }
    }

    /// The way from the post to the pre layer.
    pub fn down(product: Product, shape: (usize, usize), products: Products) -> Self {
        match product.geometry() {
            Some(geometry) => Self::conv(Direction::transposed(geometry), products),
            None => Self::DenseDown(Panels::zeros(shape.1, shape.0)),
        }
    }

    fn conv(direction: Direction, products: Products) -> Self {
        let is_low = products == Products::Bf16;
        Self::Conv {
            changes: is_low.then(|| Box::new(ChangeFilter::zeros(direction.clone()))),
            full: Box::new(Filter::zeros(direction)),
        }
    }

    /// Takes a packed weight.
    pub fn fill(&mut self, packed: ArrayView2<T>) {
        match self {
            Self::Conv { full, changes } => {
                full.fill(packed);
                if let Some(changes) = changes {
                    changes.fill(packed);
                }
            }
            Self::DenseUp(panels) => panels.fill(packed),
            Self::DenseDown(panels) => panels.fill_transposed(packed),
        }
    }

    /// The map, and that of changes, if there is one.
    pub fn for_changes(&self) -> Option<(&Filter<T>, &ChangeFilter<T>)> {
        match self {
            Self::Conv { full, changes } => Some((full, changes.as_deref()?)),
            Self::DenseUp(_) | Self::DenseDown(_) => None,
        }
    }

    /// `onto += Op(from)`, or `Op^T(from)` on the way down; both are states with one row per pixel.
    pub fn add(&self, from: ArrayView2<T>, onto: ArrayViewMut2<T>, scratch: &mut Bordered<T>) {
        match self {
            Self::Conv { full, .. } => full.add(from, onto, scratch),
            Self::DenseUp(panels) => {
                let from = per_image(from, onto.nrows());
                panels.multiply(onto, from, Into::Add);
            }
            Self::DenseDown(panels) => {
                let onto = per_image_mut(onto, from.nrows());
                panels.multiply(onto, from, Into::Add);
            }
        }
    }
}
