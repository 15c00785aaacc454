//! A pickle as data: an interpreter that builds values and cannot call anything.
//!
//! Pickle is a stack machine. Supported are the opcodes that `torch.save` writes for dictionaries
//! of tensors, and the names of dictionaries, tensors and storages; calling one of these only makes
//! a [`Node`]. Values are in one list and refer to each other by index, so neither nesting nor
//! repetition needs more memory than the pickle's own length.

use std::collections::BTreeMap;

use tch::Kind;

use super::storage_kind;

/// A value. A `usize` is the index of another one.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    /// `None`, a boolean, a float: never a part of a tensor.
    Other,
    Int(i64),
    Text(String),
    /// A list or a tuple.
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Callable(Callable),
    /// The file `data/KEY` in the archive, with `count` values.
    Storage {
        kind: Kind,
        key: String,
        count: i64,
    },
    /// A view into a storage.
    Tensor {
        storage: usize,
        offset: i64,
        shape: Vec<i64>,
        stride: Vec<i64>,
    },
}

/// The names that a checkpoint may use.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    Storage(Kind),
}

/// Why a pickle is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PickleError {
    #[error(
        "its pickle uses `{0}`; only OrderedDict, _rebuild_tensor_v2 and torch's storages are \
         allowed"
    )]
    Global(String),
    #[error("its pickle uses the opcode 0x{0:02x}, which is not allowed")]
    Opcode(u8),
    #[error("its pickle is malformed: {0}")]
    Malformed(&'static str),
}

/// All values that a pickle built.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: usize,
}

impl Pickle {
    /// Reads a pickle.
    pub(super) fn load(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            input: bytes,
            ..Machine::default()
        };
        while let Some(opcode) = machine.byte() {
            if opcode == b'.' {
                let root = machine.pop()?;
                return Ok(Self {
                    nodes: machine.nodes,
                    root,
                });
            }
            machine.execute(opcode)?;
        }
        Err(PickleError::Malformed("it has no end"))
    }

    pub(super) fn root(&self) -> usize {
        self.root
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    pub(super) fn text(&self, at: usize) -> Option<&str> {
        if let Node::Text(text) = self.node(at) {
            Some(text)
        } else {
            None
        }
    }

    pub(super) fn dict(&self, at: usize) -> Option<&[(usize, usize)]> {
        if let Node::Dict(entries) = self.node(at) {
            Some(entries)
        } else {
            None
        }
    }
}

/// The stack machine. Stack and memo hold indices of nodes.
#[derive(Debug, Default)]
struct Machine<'b> {
    input: &'b [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// Heights of the stack at which a MARK was set.
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

const SHORT: PickleError = PickleError::Malformed("it ends within an opcode");

impl<'b> Machine<'b> {
    fn execute(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            0x80 => drop(self.take(1)?), // protocol
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.push(Node::Other),
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'K' | b'M' | b'J' | 0x8a => {
                let number = self.integer(opcode)?;
                self.push(Node::Int(number));
            }
            b'X' => {
                let length = self.length()?;
                let bytes = self.take(length)?;
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| PickleError::Malformed("a string is not UTF-8"))?;
                self.push(Node::Text(text.to_owned()));
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' | b')' => self.push(Node::List(Vec::new())),
            b't' => {
                let group = self.pop_mark()?;
                self.push(Node::List(group));
            }
            0x85..=0x87 => {
                let start = self.height_below(usize::from(opcode - 0x84))?;
                let group = self.stack.split_off(start);
                self.push(Node::List(group));
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' => {
                let group = self.pop_mark()?;
                self.append(group)?;
            }
            b's' => {
                let start = self.height_below(2)?;
                let pair = self.stack.split_off(start);
                self.set_items(&pair)?;
            }
            b'u' => {
                let group = self.pop_mark()?;
                self.set_items(&group)?;
            }
            b'q' | b'r' | b'h' | b'j' => self.access_memo(opcode)?,
            b'c' => self.resolve_global()?,
            b'R' => self.call()?,
            b'Q' => self.load_storage()?,
            b'b' => self.discard_state()?,
            other => return Err(PickleError::Opcode(other)),
        }
        Ok(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], PickleError> {
        let (taken, rest) = self.input.split_at_checked(count).ok_or(SHORT)?;
        self.input = rest;
        Ok(taken)
    }

    /// Four bytes, little-endian.
    fn length(&mut self) -> Result<usize, PickleError> {
        let bytes = self.take(4)?.try_into().map_err(|_| SHORT)?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| SHORT)
    }

    fn integer(&mut self, opcode: u8) -> Result<i64, PickleError> {
        let (count, signed) = match opcode {
            b'K' => (1, false),
            b'M' => (2, false),
            b'J' => (4, true),
            _ => (usize::from(self.byte().ok_or(SHORT)?), true),
        };
        let bytes = self.take(count)?;
        if count > 8 {
            return Err(PickleError::Malformed("an integer is too large"));
        }
        let negative = signed && bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut filled = [if negative { 0xff } else { 0 }; 8];
        filled[..count].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(filled))
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    /// The height of the stack below its top `count` values, all of which must be above the last
    /// mark.
    fn height_below(&self, count: usize) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|start| *start >= floor);
        start.ok_or(PickleError::Malformed("it pops more than is on the stack"))
    }

    fn pop(&mut self) -> Result<usize, PickleError> {
        let start = self.height_below(1)?;
        Ok(self.stack.split_off(start)[0])
    }

    /// Pops the values above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<usize>, PickleError> {
        let mark = self
            .marks
            .pop()
            .ok_or(PickleError::Malformed("it pops a mark that it did not set"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Node, PickleError> {
        let at = self.height_below(1)?;
        Ok(&mut self.nodes[self.stack[at]])
    }

    fn append(&mut self, values: Vec<usize>) -> Result<(), PickleError> {
        match self.top()? {
            Node::List(list) => list.extend(values),
            _ => {
                return Err(PickleError::Malformed(
                    "it appends to something that is not a list",
                ));
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), PickleError> {
        match self.top()? {
            Node::Dict(entries) => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            _ => {
                return Err(PickleError::Malformed(
                    "it sets items of something that is not a dictionary",
                ));
            }
        }
        Ok(())
    }

    fn access_memo(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'q' | b'h' => u32::from(self.byte().ok_or(SHORT)?),
            _ => self.length()? as u32,
        };
        let is_put = matches!(opcode, b'q' | b'r');
        if is_put {
            let at = self.height_below(1)?;
            self.memo.insert(key, self.stack[at]);
        } else {
            let known = self.memo.get(&key).copied();
            self.stack.push(known.ok_or(PickleError::Malformed(
                "it gets a memo entry that it did not put",
            ))?);
        }
        Ok(())
    }

    fn line(&mut self) -> Result<&'b str, PickleError> {
        let end = self
            .input
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(SHORT)?;
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| PickleError::Malformed("a name is not UTF-8"))
    }

    /// The security boundary: only these names are allowed, and naming one executes nothing.
    fn resolve_global(&mut self) -> Result<(), PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        let callable = match (module, name) {
            ("collections", "OrderedDict") => Some(Callable::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Callable::RebuildTensor),
            ("torch", name) => storage_kind(name).map(Callable::Storage),
            _ => None,
        };
        let refused =
            || PickleError::Global(format!("{module}.{name}").chars().take(200).collect());
        self.push(Node::Callable(callable.ok_or_else(refused)?));
        Ok(())
    }

    fn list(&self, at: usize) -> Result<&[usize], PickleError> {
        if let Node::List(values) = &self.nodes[at] {
            Ok(values)
        } else {
            Err(PickleError::Malformed("a tuple is expected"))
        }
    }

    fn int(&self, at: usize) -> Result<i64, PickleError> {
        if let Node::Int(number) = self.nodes[at] {
            Ok(number)
        } else {
            Err(PickleError::Malformed("an integer is expected"))
        }
    }

    fn ints(&self, at: usize) -> Result<Vec<i64>, PickleError> {
        self.list(at)?.iter().map(|at| self.int(*at)).collect()
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let node = match self.nodes[callable] {
            Node::Callable(Callable::OrderedDict) if self.list(arguments)?.is_empty() => {
                Node::Dict(Vec::new())
            }
            Node::Callable(Callable::RebuildTensor) => match *self.list(arguments)? {
                [storage, offset, shape, stride, ..] => {
                    let (offset, shape, stride) =
                        (self.int(offset)?, self.ints(shape)?, self.ints(stride)?);
                    Node::Tensor {
                        storage,
                        offset,
                        shape,
                        stride,
                    }
                }
                _ => return Err(PickleError::Malformed("a tensor has too few arguments")),
            },
            _ => {
                return Err(PickleError::Malformed(
                    "it calls something that is not callable",
                ));
            }
        };
        self.push(node);
        Ok(())
    }

    /// A persistent id: `('storage', torch.FloatStorage, '0', 'cpu', 12)`.
    fn load_storage(&mut self) -> Result<(), PickleError> {
        let parts = self.pop()?;
        let node = match *self.list(parts)? {
            [_, class, key, _, count] => match (&self.nodes[class], &self.nodes[key]) {
                (Node::Callable(Callable::Storage(kind)), Node::Text(key)) => Node::Storage {
                    kind: *kind,
                    key: key.clone(),
                    count: self.int(count)?,
                },
                _ => return Err(PickleError::Malformed("a storage has no class or no key")),
            },
            _ => return Err(PickleError::Malformed("a storage does not have five parts")),
        };
        self.push(node);
        Ok(())
    }

    /// Sets the state of an object. Only a state dict has any, its `_metadata` of module versions,
    /// which is not needed.
    fn discard_state(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.top()? {
            Node::Dict(_) => Ok(()),
            _ => Err(PickleError::Malformed(
                "it sets the state of something that is not a dictionary",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        Pickle::load(bytes).unwrap_err().to_string()
    }

    #[test]
    fn nothing_can_be_called() {
        // pickle.dumps of an object whose __reduce__ is (os.system, ("touch /tmp/owned",))
        let system = b"\x80\x02cposix\nsystem\nq\x00X\x10\x00\x00\x00touch /tmp/owned\
                       q\x01\x85q\x02Rq\x03.";
        assert_eq!(
            error(system),
            "its pickle uses `posix.system`; only OrderedDict, _rebuild_tensor_v2 and torch's \
             storages are allowed"
        );
        for name in [
            "builtins\neval",
            "torch\nload",
            "torch.storage\n_load_from_bytes",
            "__builtin__\nexec",
        ] {
            let refused = error(format!("c{name}\n.").as_bytes());
            assert!(refused.contains(&name.replace('\n', ".")), "{refused}");
        }
        // INST, OBJ, NEWOBJ, NEWOBJ_EX, STACK_GLOBAL, EXT1, EXT2, EXT4, PERSID: the other ways to
        // call something
        for opcode in [b'i', b'o', 0x81, 0x92, 0x93, 0x82, 0x83, 0x84, b'P'] {
            assert_eq!(
                error(&[opcode, b'.']),
                format!("its pickle uses the opcode 0x{opcode:02x}, which is not allowed")
            );
        }
        assert_eq!(
            error(b"K\x01)R."),
            "its pickle is malformed: it calls something that is not callable"
        );
    }

    #[test]
    fn a_dictionary_is_read() {
        // {"a": [1, 300, -2, 2**40], "b": {}} with memo entries
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M,\x01J\xfe\xff\xff\xff\
                      \x8a\x06\0\0\0\0\0\x01eX\x01\x00\x00\x00b}u.";
        let pickle = Pickle::load(bytes).unwrap();
        let entries = pickle.dict(pickle.root()).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|(name, _)| pickle.text(*name).unwrap())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let Node::List(values) = pickle.node(entries[0].1) else {
            panic!("`a` is a list")
        };
        let numbers: Vec<_> = values.iter().map(|at| pickle.node(*at).clone()).collect();
        assert_eq!(numbers, [1, 300, -2, 1 << 40].map(Node::Int));
    }

    /// Random bytes with many opcodes among them.
    fn programs() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        let opcodes = proptest::sample::select(b"(})]tqhRQbuseaXKJc\n.".to_vec());
        let byte = proptest::prop_oneof![proptest::num::u8::ANY, opcodes];
        proptest::collection::vec(byte, 0..200)
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in programs()) {
            let _ = Pickle::load(&bytes);
        }
    }
}
