//! The checked workflow, which an engine runs: names resolved, defaults filled in, types checked.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::arguments::Arguments;
use crate::span::Span;
use crate::tokens::is_hidden;
use crate::types::Type;
use crate::units;

/// A workflow without errors.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// In file order.
    pub params: Vec<ParamInfo>,
    /// In topological order, ties in file order; a [`StageId`] is an index into this list.
    pub stages: Vec<Stage>,
    /// In file order.
    pub exports: Vec<Export>,
    /// Further names of stages, besides [`Stage::name`]: those of equal calls elsewhere, which are
    /// the same stage.
    pub aliases: BTreeMap<Arc<str>, StageId>,
    /// What runs when no target is named: the exported stages and the leaves of a result type;
    /// every leaf if there are neither. Ascending.
    pub default_targets: Vec<StageId>,
}

/// A `param` with the value it has in this program.
#[derive(Clone, PartialEq, Debug)]
pub struct ParamInfo {
    pub name: String,
    /// Declared, or that of its default.
    pub ty: Type,
    /// The override's if there is one, else the default.
    pub value: Value,
    /// `None` if it has to be set.
    pub default: Option<Value>,
    /// The lowest and the highest value allowed, both included.
    pub range: Option<(Value, Value)>,
    /// Whether the value comes from an override.
    pub set: bool,
    /// The comment at the end of its line, or else the lines right above it, joined by newlines and
    /// without the `#`. A comment that begins on the first line of the file is about the file.
    pub doc: String,
    pub span: Span,
}

/// An index into [`Program::stages`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StageId(pub u32);

/// A call of a stage op; equal calls are one stage.
#[derive(Clone, PartialEq, Debug)]
pub struct Stage {
    /// The binding's name; `outer/op` for a call inside the call bound to `outer`. Shared with the
    /// events about the stage.
    pub name: Arc<str>,
    pub op: &'static str,
    /// All arguments of the op: defaults filled in, [`Value::Absent`] for optional ones not given.
    pub args: Arguments,
    /// Shared, above all by the many stages that have none.
    pub attributes: Arc<Attributes>,
    pub output: Type,
    pub span: Span,
}

/// The value of an argument or a param.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An optional argument that was not given.
    Absent,
    Int(i64),
    /// Finite, and never negative zero: equal values have equal bits.
    Float(f64),
    Str(String),
    Bool(bool),
    /// In milliseconds.
    Duration(u64),
    /// In bytes.
    Size(u64),
    /// A file, a folder or a glob pattern, as written.
    Path(String),
    List(Vec<Value>),
    /// The call of a config op, with all its arguments as in a stage.
    Config {
        op: &'static str,
        args: Arguments,
    },
    Stage(StageId),
}

/// A stage's result to write outside the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// The exported binding.
    pub name: String,
    pub stage: StageId,
    pub format: &'static str,
    /// As written, relative to the workflow's folder.
    pub path: String,
    pub span: Span,
}

/// How a stage is to be run; never part of what it computes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// `@cpu(2)`, in cores.
    pub cpu: Option<u32>,
    /// `@gpu(1)`
    pub gpu: Option<u32>,
    /// `@memory(16GiB)`: main memory in bytes.
    pub memory: Option<u64>,
    /// `@retries(3)`: further attempts after a failure.
    pub retries: Option<u32>,
    /// `@timeout(10min)`: the longest an attempt may take.
    pub timeout_ms: Option<u64>,
    /// `@checkpoint(every = 10min)`.
    pub checkpoint_every_ms: Option<u64>,
    /// `@checkpoint(every = 500)`: in steps.
    pub checkpoint_every_steps: Option<u64>,
    /// `@max_bad(0.001)`: the share of items that may be unusable, in millionths.
    pub max_bad_ppm: Option<u32>,
    /// `@isolate`: in a process of its own, whose crash does not end the run. An `Option` so that
    /// all attributes are set and merged alike.
    pub isolate: Option<()>,
}

impl Program {
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0 as usize]
    }

    /// All stages with their ids, in topological order.
    pub fn stage_ids(&self) -> impl Iterator<Item = (StageId, &Stage)> {
        (0..).map(StageId).zip(&self.stages)
    }
}

impl Stage {
    /// The stages whose results this one takes, ascending, each once.
    pub fn inputs(&self) -> Vec<StageId> {
        let mut inputs = Vec::new();
        for value in self.args.values() {
            value.each_stage(&mut |id| inputs.push(id));
        }
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    }
}

/// Consistent with [`PartialEq`], since a float is never NaN nor negative zero.
impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Absent => {}
            Value::Int(number) => number.hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::Str(text) | Value::Path(text) => text.hash(state),
            Value::Bool(value) => value.hash(state),
            Value::Duration(number) | Value::Size(number) => number.hash(state),
            Value::List(values) => values.hash(state),
            Value::Config { op, args } => (op, args).hash(state),
            Value::Stage(id) => id.hash(state),
        }
    }
}

impl Value {
    /// How many values it consists of, itself included.
    pub(crate) fn parts(&self) -> usize {
        1 + match self {
            Value::List(values) => values.iter().map(Value::parts).sum(),
            Value::Config { args, .. } => args.values().map(Value::parts).sum(),
            _ => 0,
        }
    }

    /// Calls `each` for every stage it refers to, in order.
    pub fn each_stage(&self, each: &mut impl FnMut(StageId)) {
        match self {
            Value::Stage(id) => each(*id),
            Value::List(values) => values.iter().for_each(|value| value.each_stage(each)),
            Value::Config { args, .. } => args.values().for_each(|value| value.each_stage(each)),
            _ => {}
        }
    }

    /// Calls `each` for every path in it, in order.
    pub fn each_path(&self, each: &mut impl FnMut(&str)) {
        match self {
            Value::Path(path) => each(path),
            Value::List(values) => values.iter().for_each(|value| value.each_path(each)),
            Value::Config { args, .. } => args.values().for_each(|value| value.each_path(each)),
            _ => {}
        }
    }
}

/// As written in the language; a stage as `%` and its index, an absent value as `absent`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Absent => f.write_str("absent"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Str(text) | Value::Path(text) => write_quoted(f, text),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Duration(milliseconds) => f.write_str(&units::duration_text(*milliseconds)),
            Value::Size(bytes) => f.write_str(&units::size_text(*bytes)),
            Value::List(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Value::Config { op, args } => {
                let args = args.iter().map(|(name, value)| format!("{name} = {value}"));
                let args: Vec<String> = args.collect();
                write!(f, "{op}({})", args.join(", "))
            }
            Value::Stage(StageId(number)) => write!(f, "%{number}"),
        }
    }
}

/// Writes `text` as a string literal, escaped as needed.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if is_hidden(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
