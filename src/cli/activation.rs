//! `--activation`: the names and the half-line for each come from the activations' own files.

use crate::network::ActivationKind;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::sync::LazyLock;

impl ValueEnum for ActivationKind {
    fn value_variants<'a>() -> &'a [Self] {
        static OFFERED: LazyLock<Vec<ActivationKind>> =
            LazyLock::new(|| ActivationKind::for_hidden().collect());
        &OFFERED
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.definition().about))
    }
}
