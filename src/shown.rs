//! What a file or an option says, as a message may repeat it.

use std::fmt::Write;
use std::path::Path;

/// Longer texts are cut: a message is read by a person.
const LONGEST: usize = 200;

/// `text` for a message: control characters (a terminal would obey some) are escaped, and it is cut after 200 characters.
pub fn shown(text: impl AsRef<str>) -> String {
    cut(text.as_ref(), LONGEST)
}

/// A whole message, which may be longer, as one line.
pub fn one_line(text: &str) -> String {
    cut(&joined(text), 4000)
}

/// What a decoder or a parser says of a file, as one line: it repeats keys and values, and lists what was expected.
pub fn complaint(text: &str) -> String {
    cut(&joined(text), 1000)
}

fn joined(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// What is wrong with the TOML `text`, and in which line: TOML's own error is a picture over several lines.
pub fn toml_error(error: &toml::de::Error, text: &str) -> String {
    let message = complaint(error.message());
    match error.span().filter(|_| !text.is_empty()) {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// A path as a command line takes it: in quotes where a shell would not take it as one word.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Lines for a terminal: as they are, but for what it would obey.
pub fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| cut(line, usize::MAX)).collect();
    lines.join("\n")
}

fn cut(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == longest {
            let _ = write!(out, ".. ({} bytes)", text.len());
            break;
        }
        // Directional marks reorder what a terminal prints, though they are no control characters.
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_would_split_or_obey_them() {
        for (path, word) in [
            ("runs/one-1", "runs/one-1"),
            ("my runs/one", "'my runs/one'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }

    #[test]
    fn errors_of_toml_are_one_line() {
        #[derive(Debug, serde::Deserialize)]
        enum Kind {
            Known,
        }
        let text = "a = \"Known\"\nb = \"\u{85}\"";
        let read = toml::from_str::<std::collections::BTreeMap<String, Kind>>(text);
        let message = toml_error(&read.unwrap_err(), text);
        assert_eq!(
            message,
            "line 2: unknown variant `\\u{85}`, expected `Known`"
        );
    }

    #[test]
    fn lines_keep_their_ends_and_nothing_that_a_terminal_obeys() {
        assert_eq!(lines("a\x1b[2J\nb\n"), "a\\u{1b}[2J\nb\n");
    }
}
