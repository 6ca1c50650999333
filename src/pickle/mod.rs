//! A pickle reader that makes tensors, arrays, lists, dictionaries and plain values, and calls nothing.
//!
//! Pickle is a program for a stack machine ([`machine`]). What Python would import and call stays a name here, but for the few
//! functions of torch and numpy that make a tensor or an array of its bytes ([`calls`]): a file cannot make this reader do anything.
//! One that asks for another call is refused; an object of a class is a bag of its attributes. Nor can a file make this reader take
//! memory or stack out of proportion to its size: texts and bytes stay where they are in the file, and what contains other values lies
//! in one flat list of [`Node`]s that refer to each other by number, so that nothing is ever copied, followed or dropped by recursion.

mod calls;
mod machine;
pub mod malformed;
mod value;

pub use machine::read;
pub use malformed::Malformed;
pub use value::{Node, Pickle, Tensor, Value};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_bag_of_attributes() {
        // class c: pass; o = c(); o.x = [7]
        let bytes =
            b"\x80\x02cmodule\nc\nq\x00)\x81q\x01}q\x02X\x01\x00\x00\x00xq\x03]q\x04K\x07asb.";
        let pickle = read(bytes).unwrap();
        let Some(Node::Object(object)) = pickle.node(&pickle.root) else {
            panic!("{pickle:?}");
        };
        assert_eq!(object.class, "module.c");
        let x = pickle.entry(&object.state, "x").unwrap();
        assert_eq!(pickle.list(x), Some(&[Value::Int(7)][..]));
    }

    #[test]
    fn a_call_is_refused() {
        let error = read(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap_err();
        assert!(error.to_string().contains("a call of os.system"), "{error}");
    }
}
