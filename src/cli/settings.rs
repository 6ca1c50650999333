//! The options of a run: one for each setting of `config/settings.rs`.

use crate::config::{SETTINGS, Setting, Settings, Syntax};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.field) {
                let refused = |e| clap::Error::raw(ErrorKind::ValueValidation, e);
                (setting.read)(self, text).map_err(refused)?;
            }
        }
        Ok(())
    }
}

/// A setting as an option.
fn option(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.field)
        .long(setting.key())
        .value_name(setting.value_name)
        .help_heading(setting.heading);
    let paragraphs = paragraphs(setting.help);
    let arg = arg.help(paragraphs[0].clone());
    let arg = match paragraphs.len() {
        1 => arg,
        _ => arg.long_help(paragraphs.join("\n\n")),
    };
    let read = setting.read;
    let checked = move |text: &str| read(&mut Settings::default(), text).map(|()| text.to_string());
    match (setting.syntax)() {
        Syntax::Text => arg.value_parser(checked),
        Syntax::Number | Syntax::List => arg.value_parser(checked).allow_hyphen_values(true),
        Syntax::Flag => (arg.value_parser(checked))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Syntax::Choice(values) => {
            let possible = values.into_iter().map(|value| {
                let possible = PossibleValue::new(value.name).aliases(value.aliases);
                match value.about {
                    "" => possible,
                    about => possible.help(about),
                }
            });
            let parser = PossibleValuesParser::new(possible.collect::<Vec<_>>());
            arg.value_parser(parser).ignore_case(true)
        }
    }
}

/// The paragraphs of a text, each on one line.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    let paragraphs = lines.split(|line| line.is_empty());
    paragraphs.map(|lines| lines.join(" ")).collect()
}
