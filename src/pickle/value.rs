//! What a pickle may say.

use std::ops::Range;

/// A value that a pickle describes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    None,
    Int(i64),
    Float(f64),
    /// a truth value, a set: nothing that matters here
    Other,
    /// text, in UTF-8: where it is in the file
    Text(Range<usize>),
    /// bytes, or a text of Python 2: where they are in the file
    Bytes(Range<usize>),
    /// what contains values or names, by its number
    Node(usize),
}

/// What contains values, or a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// something that Python would import: `module.name`
    Name(String),
    /// an object, which nothing was called for
    Object(Box<Object>),
    /// elements of tensors
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
    /// the type of an array's elements as numpy writes it: `u1`
    Dtype(String),
    Array(Box<Array>),
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub class: String,
    /// the dictionary of its attributes
    pub state: Value,
}

impl Node {
    /// An object of `class`, whose attributes follow.
    pub(super) fn object(class: &str) -> Self {
        Self::Object(Box::new(Object {
            class: class.into(),
            state: Value::None,
        }))
    }
}

/// The elements of one or more tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// its name among the file's storages
    pub key: String,
    /// for instance `torch.FloatStorage`
    pub kind: String,
    pub elements: usize,
    /// where they are, if they are within the pickle itself
    pub inline: Option<Range<usize>>,
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// number of the storage's node
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// An array of numpy, in C order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Array {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Range<usize>,
}

/// What a pickle says: one value, the nodes that it refers to, and the file.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub bytes: &'a [u8],
    pub root: Value,
    pub nodes: Vec<Node>,
}

impl<'a> Pickle<'a> {
    pub fn node(&self, value: &Value) -> Option<&Node> {
        match value {
            Value::Node(number) => self.nodes.get(*number),
            _ => None,
        }
    }

    /// A text, or bytes that are one.
    pub fn text(&self, value: &Value) -> Option<&'a str> {
        text(self.bytes, value)
    }

    /// The entries of a dictionary.
    pub fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn list(&self, value: &Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }

    /// What the dictionary `value` has under the text `key`; the last one of several.
    pub fn entry(&self, value: &Value, key: &str) -> Option<&Value> {
        let entries = self.dict(value)?.iter().rev();
        let mut named = entries.filter(|(name, _)| self.text(name) == Some(key));
        named.next().map(|(_, value)| value)
    }
}

/// What such a value says.
pub(super) fn text<'a>(bytes: &'a [u8], value: &Value) -> Option<&'a str> {
    match value {
        Value::Text(range) | Value::Bytes(range) => {
            std::str::from_utf8(bytes.get(range.clone())?).ok()
        }
        _ => None,
    }
}
