//! What is made of the few calls that files with tensors and arrays ask for, and of an object's state.

use super::malformed::{Context, Result, malformed};
use super::value::{Array, Node, Object, Storage, Tensor, Value, text};
use crate::shown::shown;

/// `("storage", class, key, device, elements)`, and in older files a sixth part.
pub(super) fn storage(bytes: &[u8], nodes: &[Node], id: &Value) -> Option<Storage> {
    let text = |value| text(bytes, value);
    let [tag, kind, key, _, Value::Int(elements), ..] = tuple(nodes, id)? else {
        return None;
    };
    let Some(Node::Name(kind)) = node(nodes, kind) else {
        return None;
    };
    (text(tag) == Some("storage")).then_some(())?;
    Some(Storage {
        key: text(key)?.into(),
        kind: kind.clone(),
        elements: usize::try_from(*elements).ok()?,
        inline: None,
    })
}

/// What a function makes of its arguments, if it is one of those that such files call.
pub(super) fn call(
    bytes: &[u8],
    nodes: &mut Vec<Node>,
    function: &Value,
    arguments: &Value,
) -> Result<Value> {
    let (Some(Node::Name(name)), Some(given)) = (node(nodes, function), tuple(nodes, arguments))
    else {
        malformed!("a call of what is no function");
    };
    let made = match &**name {
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => Node::Tensor(
            Box::new(tensor(nodes, given).context("a tensor of unknown form")?),
        ),
        "torch._utils._rebuild_parameter" => {
            let data = given.first().context("a parameter without a tensor")?;
            return Ok(data.clone());
        }
        "collections.OrderedDict" | "collections.defaultdict" => Node::Dict(Vec::new()),
        // What a set holds may matter; that it is one does not.
        "__builtin__.set" | "builtins.set" => match given {
            [items] => return Ok(items.clone()),
            _ => Node::List(Vec::new()),
        },
        // Attributes of objects that no tensor is made of; none of these is looked up or called.
        "torch.Size"
        | "torch.device"
        | "_codecs.encode"
        | "__builtin__.getattr"
        | "builtins.getattr"
        | "numpy.core.multiarray.scalar"
        | "numpy._core.multiarray.scalar" => {
            return Ok(Value::Other);
        }
        // (class, its base, what the base is made of)
        "copy_reg._reconstructor" | "copyreg._reconstructor" => match given.first() {
            Some(class) => match node(nodes, class) {
                Some(Node::Name(class)) => Node::object(class),
                _ => malformed!("an object of what is no class"),
            },
            None => malformed!("an object of what is no class"),
        },
        "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => {
            Node::Array(Box::default())
        }
        "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer" => {
            let [Value::Bytes(data), dtype, shape, order] = given else {
                malformed!("an array of unknown form");
            };
            let fortran = text(bytes, order) != Some("C");
            Node::Array(Box::new(array(nodes, dtype, shape, fortran, data.clone())?))
        }
        "numpy.dtype" => {
            let name = given.first().and_then(|name| text(bytes, name));
            Node::Dtype(name.context("an array's type that is no text")?.into())
        }
        _ => malformed!(
            "it asks for a call of {}, which nothing here makes tensors or arrays of; nothing of it was run",
            shown(name)
        ),
    };
    nodes.push(made);
    Ok(Value::Node(nodes.len() - 1))
}

/// Whether it is the function that makes a storage of bytes within the pickle.
pub(super) fn is_storage_in_bytes(nodes: &[Node], function: &Value) -> bool {
    let name = "torch.storage._load_from_bytes";
    matches!(node(nodes, function), Some(Node::Name(known)) if known == name)
}

/// Gives an object its state: what Python does with `__setstate__`, of which only arrays have one that matters here.
pub(super) fn build(nodes: &mut [Node], object: &Value, given: Value) -> Result<()> {
    let Value::Node(number) = *object else {
        return Ok(());
    };
    let made = match nodes.get(number) {
        // (version, shape, type, whether in Fortran order, bytes)
        Some(Node::Array(_)) => {
            let Some([_, shape, dtype, fortran, Value::Bytes(data)]) = tuple(nodes, &given) else {
                malformed!("an array of unknown form");
            };
            let fortran = matches!(fortran, Value::Int(1));
            Node::Array(Box::new(array(nodes, dtype, shape, fortran, data.clone())?))
        }
        Some(Node::Object(object)) => {
            let class = object.class.clone();
            // (attributes, those of slots)
            let state = match tuple(nodes, &given) {
                Some([attributes, _]) => attributes.clone(),
                _ => given,
            };
            Node::Object(Box::new(Object { class, state }))
        }
        // attributes of a tensor or of a dictionary, the byte order of a type: nothing that matters
        _ => return Ok(()),
    };
    nodes[number] = made;
    Ok(())
}

fn node<'a>(nodes: &'a [Node], value: &Value) -> Option<&'a Node> {
    match value {
        Value::Node(number) => nodes.get(*number),
        _ => None,
    }
}

fn tuple<'a>(nodes: &'a [Node], value: &Value) -> Option<&'a [Value]> {
    match node(nodes, value) {
        Some(Node::Tuple(parts)) => Some(parts),
        _ => None,
    }
}

/// The numbers of a shape or of strides.
fn sizes(nodes: &[Node], value: &Value) -> Option<Vec<usize>> {
    let size = |value: &Value| match value {
        Value::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    tuple(nodes, value)?.iter().map(size).collect()
}

/// `(storage, offset, shape, strides, ...)`.
fn tensor(nodes: &[Node], arguments: &[Value]) -> Option<Tensor> {
    let [storage, Value::Int(offset), shape, strides, ..] = arguments else {
        return None;
    };
    let (Value::Node(storage), Some(Node::Storage(_))) = (storage, node(nodes, storage)) else {
        return None;
    };
    Some(Tensor {
        storage: *storage,
        offset: usize::try_from(*offset).ok()?,
        shape: sizes(nodes, shape)?,
        strides: sizes(nodes, strides)?,
    })
}

fn array(
    nodes: &[Node],
    dtype: &Value,
    shape: &Value,
    fortran: bool,
    data: std::ops::Range<usize>,
) -> Result<Array> {
    if fortran {
        malformed!("an array in Fortran order");
    }
    let Some(Node::Dtype(dtype)) = node(nodes, dtype) else {
        malformed!("an array of an unknown type");
    };
    Ok(Array {
        dtype: dtype.clone(),
        shape: sizes(nodes, shape).context("an array of unknown shape")?,
        data,
    })
}
