//! How a setting is declared: once, in the list of `settings.rs`.

/// Declares [`Config`](super::Config), [`Settings`] (the same with everything optional) and the list of [`Setting`]s:
///
/// ```text
/// "Title of the group" {
///     /// Help text
///     field: Type = "VALUE";
/// }
/// ```
///
/// Attributes of serde are those of `Config`.
macro_rules! settings {
    ($($heading:literal {
        $($(#[doc = $help:literal])+ $(#[serde($($serde:tt)*)])? $field:ident: $Type:ty = $value:literal;)+
    })+) => {
        /// The resolved settings of a run: what `config.toml` in its folder says. The keys are those of [`Settings`].
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Config {
            $($($(#[doc = $help])+ $(#[serde($($serde)*)])? pub $field: $Type,)+)+
        }

        /// One layer of settings: the options that were given, or the keys that a file has.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Settings {
            $($($(#[doc = $help])+ pub $field: Option<<$Type as Field>::Said>,)+)+
        }

        /// All of them, in the order of a help text.
        pub const SETTINGS: &[Setting] = &[$($(Setting {
            field: stringify!($field),
            heading: $heading,
            help: &[$($help),+],
            value_name: $value,
            syntax: <<$Type as Field>::Said as Value>::syntax,
            read: |settings, text| {
                settings.$field = Some(Value::read(text)?);
                Ok(())
            },
            show: |settings| settings.$field.as_ref().map(Value::show),
            copy: |settings, other| settings.$field = other.$field.clone(),
            same: |settings, other| settings.$field == other.$field,
        },)+)+];

        impl Settings {
            /// What `self` says, and what `lower` does where `self` says nothing.
            pub(super) fn or(self, lower: Self) -> Self {
                Self { $($($field: self.$field.or(lower.$field),)+)+ }
            }

            /// A configuration, if enough was said.
            ///
            /// # Errors
            /// When a setting has neither a value nor a default.
            pub(super) fn decide(self) -> Result<Config, UsageError> {
                Ok(Config { $($($field: match Field::decide(self.$field) {
                    Some(value) => value,
                    None => usage!("--{}: has no value", stringify!($field).replace('_', "-")),
                },)+)+ })
            }
        }

        impl Config {
            /// Everything that it says.
            pub(super) fn settings(&self) -> Settings {
                Settings { $($($field: Field::said(&self.$field),)+)+ }
            }
        }
    };
}
pub(super) use settings;
