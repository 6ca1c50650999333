//! A module's statements, still by name: what [`crate::program`] makes instructions of.

use super::lex::{Lexeme, Token, lex};
use std::collections::HashMap;

/// Text that is not PTX as this crate reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {problem}")]
pub struct ParseError {
    pub line: u32,
    pub problem: String,
}

/// A line of the program that was compiled to PTX, as `-lineinfo` records it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceLine {
    pub file: String,
    pub line: u32,
}

/// Where an instruction comes from: the innermost line first, then the calls that were inlined.
pub type Location = Vec<SourceLine>;

#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'a> {
    Name(&'a str),
    /// `!%p1`
    Not(&'a str),
    Integer(i128),
    /// Bits of `0f3F800000`.
    F32(u32),
    /// Bits of `0d3FF0000000000000`.
    F64(u64),
    /// `[base+offset]`; no base for an absolute address.
    Address(Option<&'a str>, i64),
    /// `[base+offset, {x, y}]`
    Tensor(&'a str, i64, Vec<Operand<'a>>),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `a|b`: a result and a predicate.
    Pair(&'a str, &'a str),
}

#[derive(Debug, Clone)]
pub struct Statement<'a> {
    pub line: u32,
    /// Index into [`Source::locations`].
    pub location: u32,
    /// Predicate and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

/// A name in memory: a parameter or a variable.
#[derive(Debug, Clone)]
pub struct Variable<'a> {
    pub space: &'a str,
    pub name: &'a str,
    pub align: usize,
    /// 0 for an array whose length the launch decides.
    pub bytes: usize,
}

#[derive(Debug, Clone)]
pub enum Item<'a> {
    /// `.reg .b32 %r<9>;`: type, name and how many, `None` for the bare name.
    Registers(&'a str, &'a str, Option<u32>),
    Variable(Variable<'a>),
    Label(&'a str),
    /// Labels that an indirect branch may take.
    Targets(&'a str, Vec<&'a str>),
    Open,
    Close,
    Statement(Statement<'a>),
}

#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub line: u32,
    pub parameters: Vec<Variable<'a>>,
    /// `.reqnctapercluster`
    pub cluster: Option<[u32; 3]>,
    pub body: Vec<Item<'a>>,
}

#[derive(Debug, Default)]
pub struct Source<'a> {
    pub variables: Vec<Variable<'a>>,
    pub entries: Vec<Entry<'a>>,
    pub locations: Vec<Location>,
}

struct Parser<'a> {
    lexemes: Vec<Lexeme<'a>>,
    next: usize,
    files: HashMap<u64, String>,
    locations: Vec<Location>,
    known: HashMap<Location, u32>,
    /// Where the present instruction comes from.
    location: u32,
    /// (file, line, column of the call) -> where that call itself was inlined.
    calls: HashMap<(u64, u64, u64), Location>,
}

/// Reads a module.
pub fn parse(text: &str) -> Result<Source<'_>, ParseError> {
    let mut parser = Parser {
        lexemes: lex(text),
        next: 0,
        files: HashMap::new(),
        locations: vec![Location::new()],
        known: HashMap::new(),
        location: 0,
        calls: HashMap::new(),
    };
    parser.find_files();
    parser.module()
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.lexemes.get(self.next).map(|l| l.token)
    }

    fn line(&self) -> u32 {
        (self.lexemes.get(self.next).or(self.lexemes.last())).map_or(1, |l| l.line)
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn error<T>(&self, problem: impl Into<String>) -> Result<T, ParseError> {
        let line = self
            .lexemes
            .get(self.next.saturating_sub(1))
            .map_or(1, |l| l.line);
        Err(ParseError {
            line,
            problem: problem.into(),
        })
    }

    fn accept(&mut self, mark: u8) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, mark: u8) -> Result<(), ParseError> {
        match self.take() {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            found => self.error(format!("expected '{}', found {found:?}", mark as char)),
        }
    }

    fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.take() {
            Some(Token::Word(word)) => Ok(word),
            found => self.error(format!("expected a name, found {found:?}")),
        }
    }

    fn unsigned(&mut self) -> Result<u64, ParseError> {
        match self.take() {
            Some(Token::Number(text)) => match integer(text) {
                Some(value) => Ok(value as u64),
                None => self.error(format!("{text} is not a number")),
            },
            found => self.error(format!("expected a number, found {found:?}")),
        }
    }

    /// The rest of the line, for directives that have no semicolon.
    fn skip_line(&mut self) {
        let line = self.lexemes[self.next - 1].line;
        while self.lexemes.get(self.next).is_some_and(|l| l.line == line) {
            self.next += 1;
        }
    }

    fn skip_braces(&mut self) -> Result<(), ParseError> {
        let mut depth = 0;
        loop {
            match self.take() {
                Some(Token::Mark(b'{')) => depth += 1,
                Some(Token::Mark(b'}')) if depth == 1 => return Ok(()),
                Some(Token::Mark(b'}')) => depth -= 1,
                Some(_) => {}
                None => return self.error("a '{' is never closed"),
            }
        }
    }

    /// `.file` stands at the end of a module, after the lines that refer to it.
    fn find_files(&mut self) {
        for window in self.lexemes.windows(3) {
            if let [
                Token::Word(".file"),
                Token::Number(number),
                Token::Text(path),
            ] = [window[0].token, window[1].token, window[2].token]
                && let Some(number) = integer(number)
            {
                self.files.insert(number as u64, path.to_string());
            }
        }
    }

    fn module(mut self) -> Result<Source<'a>, ParseError> {
        let mut source = Source::default();
        while let Some(token) = self.take() {
            match token {
                Token::Word(".visible" | ".extern" | ".weak" | ".common" | ".alias")
                | Token::Mark(b';') => {}
                Token::Word(".entry") => source.entries.push(self.entry()?),
                Token::Word(".func") => {
                    // A kernel that calls it says so: `call` is not an opcode that this crate knows.
                    while !matches!(self.peek(), Some(Token::Mark(b'{' | b';')) | None) {
                        self.next += 1;
                    }
                    if self.peek() == Some(Token::Mark(b'{')) {
                        self.skip_braces()?;
                    }
                }
                Token::Word(".section") => {
                    self.word()?;
                    self.skip_braces()?;
                }
                Token::Word(space @ (".global" | ".const" | ".shared")) => {
                    let variable = self.variable(space)?;
                    source.variables.push(variable);
                }
                Token::Word(_) => self.skip_line(),
                _ => return self.error(format!("{token:?} was not expected here")),
            }
        }
        source.locations = self.locations;
        Ok(source)
    }

    fn entry(&mut self) -> Result<Entry<'a>, ParseError> {
        let line = self.line();
        let name = self.word()?;
        let mut parameters = Vec::new();
        if self.accept(b'(') && !self.accept(b')') {
            loop {
                if self.word()? != ".param" {
                    return self.error("expected .param");
                }
                parameters.push(self.declarator(".param")?);
                if self.accept(b')') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        // Directives on the launch: `.maxntid 128, 1, 1`.
        let mut cluster = None;
        while self.peek() != Some(Token::Mark(b'{')) {
            match self.take() {
                None => return self.error(format!("kernel {name} has no body")),
                Some(Token::Word(".reqnctapercluster")) => {
                    let mut dims = [1; 3];
                    for (axis, dim) in dims.iter_mut().enumerate() {
                        if axis == 0 || self.accept(b',') {
                            *dim = self.unsigned()? as u32;
                        }
                    }
                    cluster = Some(dims);
                }
                Some(_) => {}
            }
        }
        self.next += 1;
        let body = self.body()?;
        Ok(Entry {
            name,
            line,
            parameters,
            cluster,
            body,
        })
    }

    fn body(&mut self) -> Result<Vec<Item<'a>>, ParseError> {
        let mut items = Vec::new();
        let mut depth = 0;
        self.location = 0;
        loop {
            let line = self.line();
            match self.take() {
                None => return self.error("a kernel's body is never closed"),
                Some(Token::Mark(b';')) => {}
                Some(Token::Mark(b'{')) => {
                    depth += 1;
                    items.push(Item::Open);
                }
                Some(Token::Mark(b'}')) if depth == 0 => return Ok(items),
                Some(Token::Mark(b'}')) => {
                    depth -= 1;
                    items.push(Item::Close);
                }
                Some(Token::Mark(b'@')) => {
                    let negated = self.accept(b'!');
                    let guard = Some((self.word()?, negated));
                    let opcode = self.word()?;
                    items.push(Item::Statement(self.statement(line, guard, opcode)?));
                }
                Some(Token::Word(".loc")) => self.loc()?,
                Some(Token::Word(".pragma")) => self.skip_line(),
                Some(Token::Word(".reg")) => self.registers(&mut items)?,
                Some(Token::Word(space @ (".shared" | ".local" | ".param" | ".const"))) => {
                    let variable = self.variable(space)?;
                    items.push(Item::Variable(variable));
                }
                Some(Token::Word(label)) if self.accept(b':') => {
                    if self.peek() == Some(Token::Word(".branchtargets")) {
                        self.next += 1;
                        let mut targets = vec![self.word()?];
                        while self.accept(b',') {
                            targets.push(self.word()?);
                        }
                        items.push(Item::Targets(label, targets));
                    } else {
                        items.push(Item::Label(label));
                    }
                }
                Some(Token::Word(opcode)) if !opcode.starts_with('.') => {
                    items.push(Item::Statement(self.statement(line, None, opcode)?));
                }
                Some(token) => return self.error(format!("{token:?} was not expected here")),
            }
        }
    }

    /// `.loc 2 53 5, function_name $name, inlined_at 1 38 5`
    fn loc(&mut self) -> Result<(), ParseError> {
        let line = self.lexemes[self.next - 1].line;
        let here = (self.unsigned()?, self.unsigned()?, self.unsigned()?);
        let mut location = vec![self.source_line(here.0, here.1)];
        while self.lexemes.get(self.next).is_some_and(|l| l.line == line) {
            if self.take() == Some(Token::Word("inlined_at")) {
                let call = (self.unsigned()?, self.unsigned()?, self.unsigned()?);
                location.push(self.source_line(call.0, call.1));
                // nvcc names the innermost call only; how that one was inlined stood on an earlier line.
                location.extend(self.calls.get(&call).into_iter().flatten().cloned());
            }
        }
        self.calls.insert(here, location[1..].to_vec());
        let next = self.locations.len() as u32;
        self.location = *self.known.entry(location.clone()).or_insert(next);
        if self.location == next {
            self.locations.push(location);
        }
        Ok(())
    }

    fn source_line(&self, file: u64, line: u64) -> SourceLine {
        SourceLine {
            file: self
                .files
                .get(&file)
                .cloned()
                .unwrap_or_else(|| format!("file {file}")),
            line: line as u32,
        }
    }

    fn registers(&mut self, items: &mut Vec<Item<'a>>) -> Result<(), ParseError> {
        let mut kind = self.word()?;
        if matches!(kind, ".v2" | ".v4") {
            return self.error("vector registers are not supported");
        }
        if kind == ".align" {
            self.unsigned()?;
            kind = self.word()?;
        }
        loop {
            let name = self.word()?;
            let count = if self.accept(b'<') {
                let count = self.unsigned()? as u32;
                self.expect(b'>')?;
                Some(count)
            } else {
                None
            };
            items.push(Item::Registers(kind, name, count));
            if !self.accept(b',') {
                return self.expect(b';');
            }
        }
    }

    fn variable(&mut self, space: &'a str) -> Result<Variable<'a>, ParseError> {
        let variable = self.declarator(space)?;
        self.expect(b';')?;
        Ok(variable)
    }

    /// `.align 8 .b8 name[72] = {..}`
    fn declarator(&mut self, space: &'a str) -> Result<Variable<'a>, ParseError> {
        let (mut align, mut element) = (0, 0);
        let name = loop {
            match self.word()? {
                ".align" => align = self.unsigned()? as usize,
                ".ptr" | ".global" | ".shared" | ".const" | ".local" | ".attribute"
                | ".managed" => {}
                kind if kind.starts_with('.') => match size_of_type(kind) {
                    Some(bytes) => element = bytes,
                    None => return self.error(format!("{kind} is not a type")),
                },
                name => break name,
            }
        };
        let mut bytes = element;
        while self.accept(b'[') {
            bytes *= match self.peek() {
                Some(Token::Number(_)) => self.unsigned()? as usize,
                _ => 0,
            };
            self.expect(b']')?;
        }
        if self.peek() == Some(Token::Mark(b'=')) {
            return self.error(format!(
                "{name}: variables with initial values are not supported"
            ));
        }
        Ok(Variable {
            space,
            name,
            align: align.max(element).max(1),
            bytes,
        })
    }

    fn statement(
        &mut self,
        line: u32,
        guard: Option<(&'a str, bool)>,
        opcode: &'a str,
    ) -> Result<Statement<'a>, ParseError> {
        let mut operands = Vec::new();
        while !self.accept(b';') {
            if !operands.is_empty() {
                self.expect(b',')?;
            }
            operands.push(self.operand()?);
        }
        Ok(Statement {
            line,
            location: self.location,
            guard,
            opcode,
            operands,
        })
    }

    fn operand(&mut self) -> Result<Operand<'a>, ParseError> {
        match self.take() {
            Some(Token::Word(name)) => {
                if self.accept(b'|') {
                    return Ok(Operand::Pair(name, self.word()?));
                }
                if self.accept(b'+') {
                    // `mov.u32 %r1, arena+16`
                    return Ok(Operand::Address(Some(name), self.unsigned()? as i64));
                }
                Ok(Operand::Name(name))
            }
            Some(Token::Mark(b'!')) => Ok(Operand::Not(self.word()?)),
            Some(Token::Mark(b'-')) => Ok(Operand::Integer(-i128::from(self.unsigned()?))),
            Some(Token::Number(text)) => match text.get(..2) {
                Some("0f" | "0F") => Ok(Operand::F32(self.hexadecimal(&text[2..])? as u32)),
                Some("0d" | "0D") => Ok(Operand::F64(self.hexadecimal(&text[2..])?)),
                _ => match integer(text) {
                    Some(value) => Ok(Operand::Integer(value)),
                    None => self.error(format!("{text} is not a number")),
                },
            },
            Some(Token::Mark(b'{')) => {
                let mut parts = vec![self.operand()?];
                while self.accept(b',') {
                    parts.push(self.operand()?);
                }
                self.expect(b'}')?;
                Ok(Operand::Vector(parts))
            }
            Some(Token::Mark(b'[')) => {
                let base = match self.peek() {
                    Some(Token::Word(name)) => {
                        self.next += 1;
                        Some(name)
                    }
                    _ => None,
                };
                let mut offset = 0i64;
                while !self.accept(b']') {
                    if self.accept(b',') {
                        let corner = self.operand()?;
                        self.expect(b']')?;
                        return match (base, corner) {
                            (Some(base), Operand::Vector(parts)) => {
                                Ok(Operand::Tensor(base, offset, parts))
                            }
                            _ => self.error("an address with coordinates is [map, {x, y}]"),
                        };
                    }
                    let mut negative = false;
                    while let Some(Token::Mark(sign @ (b'+' | b'-'))) = self.peek() {
                        negative ^= sign == b'-';
                        self.next += 1;
                    }
                    let value = self.unsigned()? as i64;
                    offset += if negative { -value } else { value };
                }
                Ok(Operand::Address(base, offset))
            }
            token => self.error(format!("{token:?} is not an operand")),
        }
    }

    fn hexadecimal(&self, digits: &str) -> Result<u64, ParseError> {
        match u64::from_str_radix(digits, 16) {
            Ok(bits) => Ok(bits),
            Err(_) => self.error(format!("{digits} is not hexadecimal")),
        }
    }
}

fn integer(text: &str) -> Option<i128> {
    let text = text.trim_end_matches(['U', 'u']);
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Bytes of `.f32` and the like.
fn size_of_type(kind: &str) -> Option<usize> {
    Some(match kind {
        ".b8" | ".u8" | ".s8" => 1,
        ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => 2,
        ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" => 4,
        ".b64" | ".u64" | ".s64" | ".f64" => 8,
        ".b128" => 16,
        _ => return None,
    })
}
