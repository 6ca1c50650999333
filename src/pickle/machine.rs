//! The stack machine: protocols 2 to 5 as far as torch and numpy use them;
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py> documents the opcodes.

use super::calls;
use super::malformed::{Context, Result, malformed};
use super::value::{Node, Pickle, Storage, Value, text};
use std::collections::HashMap;
use std::ops::Range;

/// Reads the one value of a pickle.
///
/// # Errors
/// When it is damaged, or asks for a call of something.
pub fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    run(bytes, 0, Some(bytes.len())).map(|(pickle, _)| pickle)
}

/// The pickle that begins at `start`, and where it ends. Of pickles within it (storages) it reads as many bytes as `within` says.
pub(super) fn run(
    bytes: &[u8],
    start: usize,
    within: Option<usize>,
) -> Result<(Pickle<'_>, usize)> {
    let mut machine = Machine {
        within,
        bytes,
        at: start,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: vec![Node::Tuple(Vec::new())],
    };
    let root = loop {
        if let Some(value) = machine.step()? {
            break value;
        }
    };
    let (nodes, end) = (machine.nodes, machine.at);
    Ok((Pickle { bytes, root, nodes }, end))
}

/// The empty tuple, of which there is only one.
const EMPTY: Value = Value::Node(0);

struct Machine<'a> {
    bytes: &'a [u8],
    /// the next instruction
    at: usize,
    stack: Vec<Value>,
    /// stack heights
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    nodes: Vec<Node>,
    /// bytes of pickles within this one that may still be read; `None` in those, which hold no further ones
    within: Option<usize>,
}

impl Machine<'_> {
    /// Runs one instruction; the last one returns the value.
    fn step(&mut self) -> Result<Option<Value>> {
        match self.byte()? {
            0x80 => {
                let protocol = self.byte()?;
                if !((2..=5).contains(&protocol)) {
                    malformed!("pickle protocol {protocol} is not known");
                }
            }
            // frames only help to read ahead
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Int(1)),
            0x89 => self.push(Value::Int(0)),
            b'K' => self.push_integer(1)?,
            b'M' => self.push_integer(2)?,
            b'J' => {
                let bytes = self.array::<4>()?;
                self.push(Value::Int(i32::from_le_bytes(bytes).into()));
            }
            0x8a => self.push_long()?,
            b'G' => {
                let bytes = self.array::<8>()?;
                self.push(Value::Float(f64::from_be_bytes(bytes)));
            }
            b'X' => self.push_text(4)?,
            0x8c => self.push_text(1)?,
            0x8d => self.push_text(8)?,
            b'T' | b'B' => self.push_bytes(4)?,
            b'U' | b'C' => self.push_bytes(1)?,
            0x8e | 0x96 => self.push_bytes(8)?,

            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(EMPTY),
            0x85 => self.push_tuple(1)?,
            0x86 => self.push_tuple(2)?,
            0x87 => self.push_tuple(3)?,
            b't' => {
                let values = self.pop_to_mark()?;
                self.push_node(Node::Tuple(values));
            }
            b']' => self.push_node(Node::List(Vec::new())),
            b'a' => {
                let value = self.pop()?;
                self.top_list()?.push(value);
            }
            b'e' => {
                let values = self.pop_to_mark()?;
                self.top_list()?.extend(values);
            }
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            // sets: of no interest
            0x8f => self.push(Value::Other),
            0x90 => {
                self.pop_to_mark()?;
            }
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other);
            }

            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let value = self.top()?.clone();
                self.memo.insert(self.memo.len(), value);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let text = |range| text(self.bytes, &Value::Text(range));
                let (Some(module), Some(name)) = (text(module), text(name)) else {
                    malformed!("a name that is no UTF-8");
                };
                let name = format!("{module}.{name}");
                self.push_node(Node::Name(name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |value| text(self.bytes, value);
                let (Some(module), Some(name)) = (text(&module), text(&name)) else {
                    malformed!("a name that is no text");
                };
                let name = format!("{module}.{name}");
                self.push_node(Node::Name(name));
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = calls::storage(self.bytes, &self.nodes, &id)
                    .context("a reference that is no storage")?;
                self.push_node(Node::Storage(Box::new(storage)));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(&function, &arguments)?;
                self.push(made);
            }
            0x81 => {
                let (_, class) = (self.pop()?, self.pop()?);
                self.push_object(&class)?;
            }
            0x92 => {
                let (_, _, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.push_object(&class)?;
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?.clone();
                calls::build(&mut self.nodes, &object, state)?;
            }
            opcode => malformed!("instruction {opcode:#04x} of pickle is not known"),
        }
        Ok(None)
    }

    fn call(&mut self, function: &Value, arguments: &Value) -> Result<Value> {
        if !calls::is_storage_in_bytes(&self.nodes, function) {
            return calls::call(self.bytes, &mut self.nodes, function, arguments);
        }
        let arguments = match arguments {
            Value::Node(number) => self.nodes.get(*number),
            _ => None,
        };
        let range = match arguments {
            Some(Node::Tuple(parts)) => match &parts[..] {
                [Value::Bytes(range)] => range.clone(),
                _ => malformed!("a storage of unknown form"),
            },
            _ => malformed!("a storage of unknown form"),
        };
        // So that a file cannot have one part of it read again and again.
        let left = self.within.and_then(|left| left.checked_sub(range.len()));
        self.within = Some(left.context("storages within it are larger than the file")?);
        let storage = storage_within(self.bytes, range).context("a storage of unknown form")?;
        self.nodes.push(Node::Storage(Box::new(storage)));
        Ok(Value::Node(self.nodes.len() - 1))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn push_node(&mut self, node: Node) {
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1));
    }

    fn push_object(&mut self, class: &Value) -> Result<()> {
        let node = match class {
            Value::Node(number) => self.nodes.get(*number),
            _ => None,
        };
        let Some(Node::Name(class)) = node else {
            malformed!("an object of what is no class");
        };
        let class = class.clone();
        // A dictionary that remembers its order is one.
        self.push_node(match &*class {
            "collections.OrderedDict" => Node::Dict(Vec::new()),
            _ => Node::object(&class),
        });
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("the pickle's stack is empty")
    }

    fn top(&self) -> Result<&Value> {
        self.stack.last().context("the pickle's stack is empty")
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context("a mark is missing")?;
        if mark > self.stack.len() {
            malformed!("a mark is above the stack");
        }
        Ok(self.stack.split_off(mark))
    }

    fn top_node(&mut self) -> Result<Option<&mut Node>> {
        match *self.top()? {
            Value::Node(number) => Ok(self.nodes.get_mut(number)),
            _ => Ok(None),
        }
    }

    fn top_list(&mut self) -> Result<&mut Vec<Value>> {
        match self.top_node()? {
            Some(Node::List(list)) => Ok(list),
            _ => malformed!("something is appended to what is no list"),
        }
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        let Some(Node::Dict(dict)) = self.top_node()? else {
            malformed!("something is put into what is no dictionary");
        };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }

    fn push_integer(&mut self, bytes: usize) -> Result<()> {
        let value = self.unsigned(bytes)?;
        self.push(Value::Int(value as i64));
        Ok(())
    }

    fn push_long(&mut self) -> Result<()> {
        let length = self.byte()?.into();
        let digits = self.take(length)?;
        if length > 8 {
            // The number at the start of an old file.
            self.push(Value::Other);
            return Ok(());
        }
        let digits = &self.bytes[digits];
        let negative = digits.last().is_some_and(|&top| top >= 0x80);
        let mut bytes = [if negative { 0xff } else { 0 }; 8];
        bytes[..length].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(bytes)));
        Ok(())
    }

    fn push_text(&mut self, length_bytes: usize) -> Result<()> {
        let length = self.unsigned(length_bytes)?;
        let range = self.take(length)?;
        std::str::from_utf8(&self.bytes[range.clone()]).context("a text that is no UTF-8")?;
        self.push(Value::Text(range));
        Ok(())
    }

    fn push_bytes(&mut self, length_bytes: usize) -> Result<()> {
        let length = self.unsigned(length_bytes)?;
        let range = self.take(length)?;
        self.push(Value::Bytes(range));
        Ok(())
    }

    fn push_tuple(&mut self, length: usize) -> Result<()> {
        let first = self.stack.len().checked_sub(length);
        let values = self
            .stack
            .split_off(first.context("the pickle's stack is empty")?);
        self.push_node(Node::Tuple(values));
        Ok(())
    }

    fn remember(&mut self, bytes: usize) -> Result<()> {
        let (index, value) = (self.unsigned(bytes)?, self.top()?.clone());
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<()> {
        let index = self.unsigned(bytes)?;
        let value = self
            .memo
            .get(&index)
            .context("the pickle recalls what it never remembered")?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>> {
        let left = self.bytes.len().saturating_sub(self.at);
        if length > left {
            malformed!("the pickle is truncated");
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.take(N)?;
        Ok(self.bytes[range].try_into().expect("so many were taken"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian number.
    fn unsigned(&mut self, bytes: usize) -> Result<usize> {
        let digits = self.take(bytes)?;
        Ok(self.bytes[digits]
            .iter()
            .rev()
            .fold(0, |n, &digit| n << 8 | usize::from(digit)))
    }

    fn line(&mut self) -> Result<Range<usize>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.context("the pickle is truncated")?)?;
        self.take(1)?;
        Ok(line)
    }
}

/// A storage within a pickle is a file of its own, as `torch.save` wrote them before PyTorch 1.6: a number, a version, a description of the
/// machine, the storage, the list of the one key, each a pickle; then the number of elements in eight bytes, and the elements.
fn storage_within(bytes: &[u8], range: Range<usize>) -> Result<Storage> {
    let file = &bytes[..range.end];
    let mut at = range.start;
    let mut described = None;
    for part in 0..5 {
        let (pickle, end) = run(file, at, None)?;
        at = end;
        if part == 3 {
            let Some(Node::Storage(storage)) = pickle.node(&pickle.root) else {
                malformed!("it holds none");
            };
            described = Some(Storage::clone(storage));
        }
    }
    let start = at + 8;
    if start > range.end {
        malformed!("it is truncated");
    }
    let mut storage = described.context("it holds none")?;
    storage.inline = Some(start..range.end);
    Ok(storage)
}
