//! The form in which a network is written down: TOML for users, JSON inside checkpoints.
//!
//! `build.rs` makes a [`Network`](super::Network) of it, `inverse.rs` writes one down.

mod along_axes;
mod build;
mod cycles;
mod inverse;

pub use along_axes::AlongAxes;

use super::activation::ActivationKind;
use super::error::NetworkError;
use super::initial::Initial;
use super::layer::Shape;
use crate::shown::toml_error;
use serde::{Deserialize, Serialize};

/// A whole network; `docs/networks.md` and `examples/networks/` show it in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDescription {
    /// as the run and its messages call it
    pub name: String,
    /// activation of the hidden layers that name none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// the input first, the output last, every edge upwards
    #[serde(rename = "layer")]
    pub layers: Vec<LayerDescription>,
    /// in the order of the parameters
    #[serde(rename = "edge")]
    pub edges: Vec<EdgeDescription>,
}

/// A `[[layer]]` of a network file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDescription {
    /// by which edges refer to it
    pub name: String,
    /// `[channels, height, width]`, or `[units]` for a flat layer; when absent, the size follows from the first edge into the
    /// layer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// in the place of a shape: the number of channels alone
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// of a hidden layer; the network's when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// upper clip of a `reluclip` layer; drawn from [1, 10] when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// trained when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasKind>,
    /// initial biases are uniform in `+-bias-gain / sqrt(fan_in)`; 0.5 when absent
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "bias-gain")]
    pub bias_gain: Option<f64>,
}

/// What becomes of a layer's bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BiasKind {
    /// it is learnt
    Trained,
    /// it keeps its initial value
    Fixed,
    /// there is none
    None,
}

/// What an edge computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// a convolution
    Conv,
    /// a convolution, then the largest of each window of 2x2
    ConvMaxPool,
    /// a convolution, then the mean of each window of 2x2
    ConvAvgPool,
    /// every unit with every unit
    Dense,
}

/// An `[[edge]]` of a network file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDescription {
    /// name of the lower layer
    pub from: String,
    /// name of the higher layer
    pub to: String,
    /// which map it is
    pub kind: EdgeKind,
    /// side of the kernel; convolutions only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<AlongAxes>,
    /// 1 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<AlongAxes>,
    /// 0 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<AlongAxes>,
    /// 1 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dilation: Option<AlongAxes>,
    /// 0.5 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// distribution of the initial weights; uniform in `+-gain / sqrt(fan_in)` when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Initial>,
}

/// What a network is to fit, where its description leaves that open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// shape of the images
    pub input: Shape,
    /// number of classes
    pub classes: usize,
}

impl NetworkDescription {
    /// Parses TOML. Unknown keys and missing fields are errors that name the line.
    ///
    /// # Errors
    /// The line and what is wrong there.
    pub fn from_toml(text: &str) -> Result<Self, NetworkError> {
        toml::from_str(text).map_err(|e| NetworkError(toml_error(&e, text)))
    }
}
