//! What confines a layer's state: `s = clip(pre-activation)`.
//!
//! Every activation is a clip to an interval: the backends know its two bounds and no names, its derivative is 1 strictly
//! inside and 0 elsewhere. A new one is a file that states a [`Definition`], and a line in the list below. Smooth
//! functions do not fit here: over-relaxation as a projection, the exact arithmetic of mean and half-difference, and the
//! linear response with a frozen mask all hold because a clip is linear between its bounds.

mod definition;

pub use definition::{Clip, Definition};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Declares the kinds of activations and their files.
macro_rules! activations {
    ($($kind:ident in $file:ident,)*) => {
        $(mod $file;)*

        /// An activation as a user names it; [`ActivationKind::draw`] makes it a layer's [`Activation`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ActivationKind {
            $(#[doc = concat!("`", stringify!($file), ".rs`")] $kind,)*
        }

        impl ActivationKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// What its file says.
            pub const fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$kind => &$file::DEFINITION,)*
                }
            }
        }
    };
}

activations! {
    HardSigmoid in hard_sigmoid,
    Relu6 in relu6,
    ReluClip in relu_clip,
    Relu in relu,
    Identity in identity,
    Linear in linear,
}

impl ActivationKind {
    /// Those that a hidden layer may have.
    pub fn for_hidden() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|kind| kind.definition().is_for_hidden)
    }

    /// As options, network files and checkpoints have it.
    pub const fn name(self) -> &'static str {
        self.definition().name
    }

    /// The activation of one layer; a bound that is the layer's own is drawn.
    pub fn draw(self, rng: &mut ChaCha8Rng) -> Activation {
        let clip = match self.definition().clip {
            Clip::Drawn(low, high) => Some(rng.random_range(low..=high)),
            Clip::Nowhere | Clip::Fixed(..) => None,
        };
        Activation { kind: self, clip }
    }
}

impl std::str::FromStr for ActivationKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::for_hidden().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::for_hidden().map(Self::name).collect();
            format!(
                "unknown activation {name:?}; expected one of {}",
                known.join(", ")
            )
        })
    }
}

impl Serialize for ActivationKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ActivationKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

/// The activation of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    kind: ActivationKind,
    /// the bound that is the layer's own
    clip: Option<f64>,
}

impl Activation {
    /// No clip: the input and the output.
    pub const LINEAR: Self = Self {
        kind: ActivationKind::Linear,
        clip: None,
    };

    /// An activation with fixed bounds, or with this upper bound; `None` where a bound is missing or one too many.
    pub const fn new(kind: ActivationKind, clip: Option<f64>) -> Option<Self> {
        match (kind.definition().clip, clip) {
            (Clip::Drawn(..), Some(_)) | (Clip::Nowhere | Clip::Fixed(..), None) => {
                Some(Self { kind, clip })
            }
            _ => None,
        }
    }

    /// `hard-sigmoid`
    pub const HARD_SIGMOID: Self = Self {
        kind: ActivationKind::HardSigmoid,
        clip: None,
    };

    /// `relu6`
    pub const RELU6: Self = Self {
        kind: ActivationKind::Relu6,
        clip: None,
    };

    /// `reluclip` with an upper bound
    pub const fn relu_clip(clip: f64) -> Self {
        Self {
            kind: ActivationKind::ReluClip,
            clip: Some(clip),
        }
    }

    /// Which activation it is.
    pub const fn kind(&self) -> ActivationKind {
        self.kind
    }

    /// The upper bound that is the layer's own, of `reluclip`.
    pub const fn clip(&self) -> Option<f64> {
        self.clip
    }

    /// The interval that a state is confined to; `None` for a linear layer.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        match self.kind.definition().clip {
            Clip::Nowhere => None,
            Clip::Fixed(low, high) => Some((low, high)),
            Clip::Drawn(..) => Some((0.0, self.clip.unwrap_or(f64::INFINITY))),
        }
    }
}
