//! A pickle as data: an interpreter that builds values and can call nothing.
//!
//! Pickle is a stack machine. Of its instructions those are known that `torch.save` writes for
//! dictionaries of tensors; of the names it may call those of dictionaries, tensors and storages,
//! and calling one only makes a [`Node`]. Values lie in one list and refer to each other by place,
//! so neither nesting nor repetition costs more than the pickle's own length.

use std::collections::BTreeMap;

use tch::Kind;

use super::storage_kind;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    /// `None`, a truth value, a float: nothing that a tensor is made of.
    Other,
    Int(i64),
    Text(String),
    /// A tuple or a list.
    Many(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Callable(Callable),
    /// Where the values of tensors lie: `data/KEY` in the archive, `count` of them.
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

/// What a checkpoint may name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    Storage(Kind),
}

/// Why a pickle is not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PickleError {
    /// It names something that could do harm, or that no checkpoint needs.
    #[error(
        "it wants to use `{0}`; a checkpoint needs OrderedDict, _rebuild_tensor_v2 and torch's storages, and nothing \
         else is let in"
    )]
    Global(String),
    /// An instruction that `torch.save` does not write for a checkpoint.
    #[error("its pickle has the instruction 0x{0:02x}, which no checkpoint needs")]
    Instruction(u8),
    /// Its instructions make no sense.
    #[error("its pickle is broken: {0}")]
    Broken(&'static str),
}

/// Everything that a pickle built.
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
        while let Some(instruction) = machine.byte() {
            if instruction == b'.' {
                let root = machine.pop()?;
                return Ok(Self {
                    nodes: machine.nodes,
                    root,
                });
            }
            machine.execute(instruction)?;
        }
        Err(PickleError::Broken("it does not end"))
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

/// The stack machine. The stack holds places of nodes.
#[derive(Debug, Default)]
struct Machine<'b> {
    input: &'b [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// Heights of the stack where a group of values begins.
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

const SHORT: PickleError = PickleError::Broken("it ends within an instruction");

impl<'b> Machine<'b> {
    fn execute(&mut self, instruction: u8) -> Result<(), PickleError> {
        match instruction {
            0x80 => drop(self.take(1)?), // protocol
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.push(Node::Other),
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'K' | b'M' | b'J' | 0x8a => {
                let number = self.integer(instruction)?;
                self.push(Node::Int(number));
            }
            b'X' => {
                let length = self.length()?;
                let bytes = self.take(length)?;
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| PickleError::Broken("a text is not UTF-8"))?;
                self.push(Node::Text(text.to_owned()));
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' | b')' => self.push(Node::Many(Vec::new())),
            b't' => {
                let group = self.group()?;
                self.push(Node::Many(group));
            }
            0x85..=0x87 => {
                let start = self.below(usize::from(instruction - 0x84))?;
                let group = self.stack.split_off(start);
                self.push(Node::Many(group));
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' => {
                let group = self.group()?;
                self.append(group)?;
            }
            b's' => {
                let start = self.below(2)?;
                let pair = self.stack.split_off(start);
                self.set_items(&pair)?;
            }
            b'u' => {
                let group = self.group()?;
                self.set_items(&group)?;
            }
            b'q' | b'r' | b'h' | b'j' => self.remember(instruction)?,
            b'c' => self.global()?,
            b'R' => self.call()?,
            b'Q' => self.storage()?,
            b'b' => self.state()?,
            other => return Err(PickleError::Instruction(other)),
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

    fn integer(&mut self, instruction: u8) -> Result<i64, PickleError> {
        let (count, signed) = match instruction {
            b'K' => (1, false),
            b'M' => (2, false),
            b'J' => (4, true),
            _ => (usize::from(self.byte().ok_or(SHORT)?), true),
        };
        let bytes = self.take(count)?;
        if count > 8 {
            return Err(PickleError::Broken("a number is too large"));
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

    /// The height of the stack without its upper `count` values, which all lie above the last mark.
    fn below(&self, count: usize) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|start| *start >= floor);
        start.ok_or(PickleError::Broken("it takes more than it has"))
    }

    fn pop(&mut self) -> Result<usize, PickleError> {
        let start = self.below(1)?;
        Ok(self.stack.split_off(start)[0])
    }

    /// What lies above the last mark.
    fn group(&mut self) -> Result<Vec<usize>, PickleError> {
        let mark = self
            .marks
            .pop()
            .ok_or(PickleError::Broken("a group ends that did not begin"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Node, PickleError> {
        let at = self.below(1)?;
        Ok(&mut self.nodes[self.stack[at]])
    }

    fn append(&mut self, values: Vec<usize>) -> Result<(), PickleError> {
        match self.top()? {
            Node::Many(list) => list.extend(values),
            _ => return Err(PickleError::Broken("it appends to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), PickleError> {
        match self.top()? {
            Node::Dict(entries) => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            _ => {
                return Err(PickleError::Broken(
                    "it sets items of what is no dictionary",
                ));
            }
        }
        Ok(())
    }

    fn remember(&mut self, instruction: u8) -> Result<(), PickleError> {
        let key = match instruction {
            b'q' | b'h' => u32::from(self.byte().ok_or(SHORT)?),
            _ => self.length()? as u32,
        };
        if matches!(instruction, b'q' | b'r') {
            let at = self.below(1)?;
            self.memo.insert(key, self.stack[at]);
        } else {
            let known = self.memo.get(&key).copied();
            self.stack
                .push(known.ok_or(PickleError::Broken("it recalls what it did not remember"))?);
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
        std::str::from_utf8(line).map_err(|_| PickleError::Broken("a name is not UTF-8"))
    }

    /// The gate: a name is let in only if it is one of these.
    fn global(&mut self) -> Result<(), PickleError> {
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

    fn many(&self, at: usize) -> Result<&[usize], PickleError> {
        if let Node::Many(values) = &self.nodes[at] {
            Ok(values)
        } else {
            Err(PickleError::Broken("a tuple is missing"))
        }
    }

    fn int(&self, at: usize) -> Result<i64, PickleError> {
        if let Node::Int(number) = self.nodes[at] {
            Ok(number)
        } else {
            Err(PickleError::Broken("a number is missing"))
        }
    }

    fn ints(&self, at: usize) -> Result<Vec<i64>, PickleError> {
        self.many(at)?.iter().map(|at| self.int(*at)).collect()
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let node = match self.nodes[callable] {
            Node::Callable(Callable::OrderedDict) if self.many(arguments)?.is_empty() => {
                Node::Dict(Vec::new())
            }
            Node::Callable(Callable::RebuildTensor) => match *self.many(arguments)? {
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
                _ => return Err(PickleError::Broken("a tensor lacks its shape")),
            },
            _ => return Err(PickleError::Broken("it calls what cannot be called")),
        };
        self.push(node);
        Ok(())
    }

    /// `('storage', torch.FloatStorage, '0', 'cpu', 12)`
    fn storage(&mut self) -> Result<(), PickleError> {
        let parts = self.pop()?;
        let node = match *self.many(parts)? {
            [_, class, key, _, count] => match (&self.nodes[class], &self.nodes[key]) {
                (Node::Callable(Callable::Storage(kind)), Node::Text(key)) => Node::Storage {
                    kind: *kind,
                    key: key.clone(),
                    count: self.int(count)?,
                },
                _ => return Err(PickleError::Broken("a storage lacks its kind or its key")),
            },
            _ => return Err(PickleError::Broken("a storage has not five parts")),
        };
        self.push(node);
        Ok(())
    }

    /// State set on an object: only a state dictionary has some (its versions), which says nothing
    /// about tensors.
    fn state(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.top()? {
            Node::Dict(_) => Ok(()),
            _ => Err(PickleError::Broken("it sets the state of what has none")),
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
        let system =
            b"\x80\x02cposix\nsystem\nq\x00X\x10\x00\x00\x00touch /tmp/ownedq\x01\x85q\x02Rq\x03.";
        assert_eq!(
            error(system),
            "it wants to use `posix.system`; a checkpoint needs OrderedDict, _rebuild_tensor_v2 and torch's storages, \
             and nothing else is let in"
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
        // INST, OBJ, NEWOBJ, STACK_GLOBAL, EXT1, REDUCE of what is no name: the other ways to call
        // something
        for instruction in [b'i', b'o', 0x81, 0x92, 0x93, 0x82, 0x83, 0x84, b'P'] {
            assert_eq!(
                error(&[instruction, b'.']),
                format!(
                    "its pickle has the instruction 0x{instruction:02x}, which no checkpoint needs"
                )
            );
        }
        assert_eq!(
            error(b"K\x01)R."),
            "its pickle is broken: it calls what cannot be called"
        );
    }

    #[test]
    fn a_dictionary_comes_out() {
        // {"a": [1, 300, -2, 2**40], "b": {}} with a memo that is used
        let bytes =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M,\x01J\xfe\xff\xff\xff\x8a\x06\0\0\0\0\0\x01eX\x01\x00\x00\x00b}u.";
        let pickle = Pickle::load(bytes).unwrap();
        let entries = pickle.dict(pickle.root()).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|(name, _)| pickle.text(*name).unwrap())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let Node::Many(values) = pickle.node(entries[0].1) else {
            panic!("a list")
        };
        let numbers: Vec<_> = values.iter().map(|at| pickle.node(*at).clone()).collect();
        assert_eq!(numbers, [1, 300, -2, 1 << 40].map(Node::Int));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(
            proptest::prop_oneof![proptest::num::u8::ANY, proptest::sample::select(b"(})]tqhRQbuseaXKJc\n.".to_vec())], 0..200
        )) {
            let _ = Pickle::load(&bytes);
        }
    }
}
