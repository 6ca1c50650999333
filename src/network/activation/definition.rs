//! What there is to say about an activation.

/// One activation: its file states this, and nothing else in the program knows more about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// as options, network files and checkpoints have it
    pub name: &'static str,
    /// half a line for the manual
    pub about: &'static str,
    /// the interval to which it clips
    pub clip: Clip,
    /// whether a hidden layer may have it
    pub is_for_hidden: bool,
}

/// The interval of an activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// the state is the pre-activation
    Nowhere,
    /// to this interval; a side without a bound is infinite
    Fixed(f64, f64),
    /// from zero to a value that each layer has of its own: drawn uniformly between these two where none is given
    Drawn(f64, f64),
}
