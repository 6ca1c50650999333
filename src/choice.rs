//! Settings that are chosen by name from a short list.

/// One of a few values, each with a name and a line that says what it means.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// All of them, in the order of a help text: value, name, meaning.
    const CHOICES: &'static [(Self, &'static str, &'static str)];

    /// As options, configuration files and checkpoints have it.
    fn name(self) -> &'static str {
        let found = Self::CHOICES.iter().find(|(value, ..)| *value == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// The value of a name, in upper or lower case.
    ///
    /// # Errors
    /// When there is none of that name.
    fn from_name(name: &str) -> Result<Self, String> {
        let found = (Self::CHOICES.iter()).find(|(_, known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(value, ..)| *value).ok_or_else(|| {
            let known: Vec<_> = Self::CHOICES.iter().map(|(_, name, _)| *name).collect();
            let name = crate::shown::shown(name);
            format!("unknown name {name:?}; expected {}", known.join(", "))
        })
    }
}

/// Declares an enum whose values are [`Choice`]s: each with the name that users write, and with its documentation as its meaning.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $Name:ident {
        $($(#[doc = $about:literal])+ $Value:ident = $name:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name {
            $($(#[doc = $about])+ $Value,)+
        }

        impl $crate::choice::Choice for $Name {
            const CHOICES: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$Value, $name, concat!($($about),+)),)+];
        }

        impl $Name {
            /// As options, configuration files and checkpoints have it.
            pub fn name(self) -> &'static str {
                $crate::choice::Choice::name(self)
            }
        }

        impl ::std::fmt::Display for $Name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter) -> ::std::fmt::Result {
                f.pad($crate::choice::Choice::name(*self))
            }
        }

        impl ::std::str::FromStr for $Name {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                $crate::choice::Choice::from_name(name)
            }
        }

        impl ::serde::Serialize for $Name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::choice::Choice::name(*self))
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $Name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                name.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use choices;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::CostFunction;

    #[test]
    fn a_name_leads_to_its_value_and_back() {
        for &(value, name, about) in CostFunction::CHOICES {
            assert_eq!(value.name(), name);
            assert_eq!(name.to_lowercase().parse(), Ok(value));
            assert!(!about.is_empty());
        }
        let error = "hinge".parse::<CostFunction>().unwrap_err();
        assert!(
            error.contains("hinge") && error.contains("MSE, CE"),
            "{error}"
        );
    }
}
