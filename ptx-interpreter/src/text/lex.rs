//! PTX text as tokens that know their line.

/// A piece of PTX.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// An opcode, a name, a directive: `ld.global.u32`, `%r1`, `$L__BB0_1`, `.reg`.
    Word(&'a str),
    Number(&'a str),
    Text(&'a str),
    Mark(u8),
}

#[derive(Debug, Clone, Copy)]
pub struct Lexeme<'a> {
    pub token: Token<'a>,
    /// Counted from 1.
    pub line: u32,
}

fn begins_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || b"_$%.".contains(&c)
}

fn continues_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"_$%.".contains(&c)
}

/// Tokens without comments and white space.
pub fn lex(text: &str) -> Vec<Lexeme<'_>> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut lexemes = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < bytes.len() {
        let start = i;
        let token = match bytes[i] {
            b'\n' => {
                line += 1;
                i += 1;
                continue;
            }
            c if c.is_ascii_whitespace() => {
                i += 1;
                continue;
            }
            b'/' if at(i + 1) == b'/' => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
                continue;
            }
            b'/' if at(i + 1) == b'*' => {
                while i < bytes.len() && !(bytes[i] == b'*' && at(i + 1) == b'/') {
                    line += u32::from(bytes[i] == b'\n');
                    i += 1;
                }
                i += 2;
                continue;
            }
            b'"' => {
                i += 1;
                while i < bytes.len() && bytes[i] != b'"' {
                    i += 1;
                }
                i = (i + 1).min(bytes.len());
                Token::Text(text[start..i].trim_matches('"'))
            }
            c if begins_word(c) => {
                // `L2::128B` belongs to its opcode; a single colon ends a label.
                loop {
                    if continues_word(at(i)) {
                        i += 1;
                    } else if at(i) == b':' && at(i + 1) == b':' {
                        i += 2;
                    } else {
                        break;
                    }
                }
                Token::Word(&text[start..i])
            }
            c if c.is_ascii_digit() => {
                while at(i).is_ascii_alphanumeric() || at(i) == b'.' {
                    i += 1;
                }
                Token::Number(&text[start..i])
            }
            c => {
                i += 1;
                Token::Mark(c)
            }
        };
        lexemes.push(Lexeme { token, line });
    }
    lexemes
}
