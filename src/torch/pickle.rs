//! A pickle reader that makes tensors, lists, dictionaries and plain values, and calls nothing.
//!
//! Pickle is a program for a stack machine. What Python would import and call stays a name here, but for the few functions of
//! `torch._utils` that make a tensor of its storage: a file cannot make this reader do anything, and one that asks for another call
//! or for an object of any class is refused. Nor can it make this reader take memory or stack out of proportion to its size:
//! values are shared, and nothing is nested deeper than a tensor's arguments are. Protocols 2 to 5 as far as `torch.save` uses them;
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py> documents the opcodes.

use crate::shown::shown;
use anyhow::{Context, Result, bail, ensure};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A value that a pickle describes. Lists and dictionaries are shared: a pickle remembers them before it fills them.
#[derive(Debug, Clone)]
pub enum Value {
    None,
    Int(i64),
    /// a truth value, a floating-point number, a container in a container: no part of a tensor
    Other,
    Text(Rc<str>),
    Tuple(Rc<[Value]>),
    List(Rc<RefCell<Vec<Value>>>),
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// something that Python would import: `module.name`
    Name(Rc<str>),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// A file of the archive with the elements of one or more tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// its name under `data/`
    pub key: Rc<str>,
    /// for instance `torch.FloatStorage`
    pub kind: Rc<str>,
    pub elements: usize,
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub storage: Rc<Storage>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Reads the one value of a pickle.
pub fn read(bytes: &[u8]) -> Result<Value> {
    let mut machine = Machine {
        bytes,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(value) = machine.step()? {
            return Ok(value);
        }
    }
}

struct Machine<'a> {
    /// what is left
    bytes: &'a [u8],
    stack: Vec<Value>,
    /// stack heights
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
}

impl Machine<'_> {
    /// Runs one instruction; the last one returns the value.
    fn step(&mut self) -> Result<Option<Value>> {
        match self.byte()? {
            0x80 => {
                let protocol = self.byte()?;
                ensure!(
                    (2..=5).contains(&protocol),
                    "pickle protocol {protocol} is not known"
                );
            }
            // frames only help to read ahead
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),

            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Other),
            b'K' => self.push_integer(1)?,
            b'M' => self.push_integer(2)?,
            b'J' => {
                let bytes = self.array::<4>()?;
                self.push(Value::Int(i32::from_le_bytes(bytes).into()));
            }
            0x8a => {
                let length = self.byte()?.into();
                let digits = self.take(length)?;
                ensure!(length <= 8, "an integer of {length} bytes");
                let negative = digits.last().is_some_and(|&top| top >= 0x80);
                let mut bytes = [if negative { 0xff } else { 0 }; 8];
                bytes[..length].copy_from_slice(digits);
                self.push(Value::Int(i64::from_le_bytes(bytes)));
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other);
            }
            b'X' => self.push_text(4)?,
            0x8c => self.push_text(1)?,

            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Rc::default())),
            0x85 => self.push_tuple(1)?,
            0x86 => self.push_tuple(2)?,
            0x87 => self.push_tuple(3)?,
            b't' => {
                let values = self.pop_to_mark()?;
                self.push(tuple(values));
            }
            b']' => self.push(Value::List(Rc::default())),
            b'a' => {
                let value = self.pop()?;
                self.top_list()?.borrow_mut().push(item(value));
            }
            b'e' => {
                let values = self.pop_to_mark()?;
                let items = values.into_iter().map(item);
                self.top_list()?.borrow_mut().extend(items);
            }
            b'}' => self.push(Value::Dict(Rc::default())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
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
                self.push(Value::Name(format!("{module}.{name}").into()));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    bail!("a name that is no text");
                };
                self.push(Value::Name(format!("{module}.{name}").into()));
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = storage(&id).context("a reference that is no storage")?;
                self.push(Value::Storage(storage.into()));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(call(&function, &arguments)?);
            }
            0x81 => {
                let (_, class) = (self.pop()?, self.pop()?);
                let Value::Name(class) = class else {
                    bail!("an object of what is no class");
                };
                bail!(
                    "it holds a Python object of class {class}, which only the program that wrote it can read; there, save its \
                     tensors (of the published networks: torch.load(FILE, weights_only=False).save(\"model.pt\"))"
                );
            }
            // attributes: of a tensor or of a dictionary nothing that matters here
            b'b' => drop(self.pop()?),
            opcode => bail!("instruction {opcode:#04x} of pickle is not known"),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("the pickle's stack is empty")
    }

    fn top(&self) -> Result<&Value> {
        self.stack.last().context("the pickle's stack is empty")
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context("a mark is missing")?;
        ensure!(mark <= self.stack.len(), "a mark is above the stack");
        Ok(self.stack.split_off(mark))
    }

    fn top_list(&self) -> Result<Rc<RefCell<Vec<Value>>>> {
        match self.top()? {
            Value::List(list) => Ok(list.clone()),
            _ => bail!("something is appended to what is no list"),
        }
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        match self.top()? {
            Value::Dict(dict) => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.borrow_mut().push((item(key), item(value)));
                }
                Ok(())
            }
            _ => bail!("something is put into what is no dictionary"),
        }
    }

    fn push_integer(&mut self, bytes: usize) -> Result<()> {
        let value = self.unsigned(bytes)?;
        self.push(Value::Int(value as i64));
        Ok(())
    }

    fn push_text(&mut self, length_bytes: usize) -> Result<()> {
        let length = self.unsigned(length_bytes)?;
        let text = std::str::from_utf8(self.take(length)?).context("a text that is no UTF-8")?;
        let value = Value::Text(text.into());
        self.push(value);
        Ok(())
    }

    fn push_tuple(&mut self, length: usize) -> Result<()> {
        let first = self.stack.len().checked_sub(length);
        let values = self
            .stack
            .split_off(first.context("the pickle's stack is empty")?);
        self.push(tuple(values));
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

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        ensure!(length <= self.bytes.len(), "the pickle is truncated");
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian number.
    fn unsigned(&mut self, bytes: usize) -> Result<usize> {
        let digits = self.take(bytes)?;
        Ok(digits
            .iter()
            .rev()
            .fold(0, |n, &digit| n << 8 | usize::from(digit)))
    }

    fn line(&mut self) -> Result<String> {
        let length = self.bytes.iter().position(|&byte| byte == b'\n');
        let line = self
            .take(length.context("the pickle is truncated")?)?
            .to_vec();
        self.take(1)?;
        String::from_utf8(line).context("a name that is no UTF-8")
    }
}

/// What a list or a dictionary keeps of a value. Containers in it are of no interest, and would have to be taken apart by
/// recursion, however deep.
fn item(value: Value) -> Value {
    match value {
        Value::Tuple(_) | Value::List(_) | Value::Dict(_) => Value::Other,
        value => value,
    }
}

/// A tuple of values; of tuples in it only those that hold no further containers, as a tensor's shape.
fn tuple(values: Vec<Value>) -> Value {
    let container = |v: &Value| matches!(v, Value::Tuple(_) | Value::List(_) | Value::Dict(_));
    let keep = |value| match value {
        Value::Tuple(parts) if !parts.iter().any(container) => Value::Tuple(parts),
        value => item(value),
    };
    Value::Tuple(values.into_iter().map(keep).collect())
}

/// `("storage", class, key, device, elements)`.
fn storage(id: &Value) -> Option<Storage> {
    let Value::Tuple(parts) = id else { return None };
    match &**parts {
        [
            Value::Text(tag),
            Value::Name(kind),
            Value::Text(key),
            _,
            Value::Int(elements),
        ] if **tag == *"storage" => Some(Storage {
            key: key.clone(),
            kind: kind.clone(),
            elements: usize::try_from(*elements).ok()?,
        }),
        _ => None,
    }
}

/// What a function makes of its arguments, if it is one of those that files with tensors call.
fn call(function: &Value, arguments: &Value) -> Result<Value> {
    let (Value::Name(name), Value::Tuple(arguments)) = (function, arguments) else {
        bail!("a call of what is no function");
    };
    match &**name {
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
            let tensor = tensor(arguments).context("a tensor of unknown form")?;
            Ok(Value::Tensor(tensor.into()))
        }
        "torch._utils._rebuild_parameter" => {
            let data = arguments.first().context("a parameter without a tensor")?;
            Ok(data.clone())
        }
        "collections.OrderedDict" => Ok(Value::Dict(Rc::default())),
        _ => bail!(
            "it asks for a call of {}, which no list and no dictionary of tensors needs; nothing of it was run",
            shown(name)
        ),
    }
}

/// `(storage, offset, shape, strides, ...)`.
fn tensor(arguments: &[Value]) -> Option<Tensor> {
    let [
        Value::Storage(storage),
        Value::Int(offset),
        Value::Tuple(shape),
        Value::Tuple(strides),
        ..,
    ] = arguments
    else {
        return None;
    };
    let sizes = |values: &[Value]| {
        let size = |value: &Value| match value {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        values.iter().map(size).collect::<Option<Vec<usize>>>()
    };
    Some(Tensor {
        storage: storage.clone(),
        offset: usize::try_from(*offset).ok()?,
        shape: sizes(shape)?,
        strides: sizes(strides)?,
    })
}
