//! What a file or an option says, as a message may repeat it.

use std::fmt::Write;

/// Longer texts are cut: a message is read by a person.
const LONGEST: usize = 200;

/// `text` for a message: control characters (a terminal would obey some) are escaped, and it is cut after 200 characters.
pub fn shown(text: impl AsRef<str>) -> String {
    cut(text.as_ref(), LONGEST)
}

/// The same for a whole message, which may be longer.
pub fn shown_line(text: &str) -> String {
    cut(text, 4000)
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
