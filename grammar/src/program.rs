//! The checked workflow: every name resolved, every argument filled, every type right. What an
//! engine takes.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::arguments::Arguments;
use crate::span::Span;
use crate::tokens::is_hidden;
use crate::types::Type;
use crate::units;

/// A workflow that can run.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// The params, in file order.
    pub params: Vec<ParamInfo>,
    /// The stages in topological order, ties in file order; [`StageId`] is the place in this list.
    pub stages: Vec<Stage>,
    /// The exports, in file order.
    pub exports: Vec<Export>,
    /// Further names that stages go by, besides [`Stage::name`]: those of equal calls elsewhere,
    /// which are the same stage.
    pub aliases: BTreeMap<Arc<str>, StageId>,
    /// What runs when nothing else is asked for: the exported stages and the leaves of a result
    /// type; every leaf when there are neither. Ascending.
    pub default_targets: Vec<StageId>,
}

/// A `param` with the value it has in this program.
#[derive(Clone, PartialEq, Debug)]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// Its type, declared or that of its default.
    pub ty: Type,
    /// Its value: the setting's if there is one, else the default.
    pub value: Value,
    /// Its default; none if it has to be set.
    pub default: Option<Value>,
    /// The lowest and the highest value allowed, both included.
    pub range: Option<(Value, Value)>,
    /// Whether a setting gave the value.
    pub set: bool,
    /// The comment behind it on its line, or else right above it; lines joined by a newline,
    /// without the `#`. Comments from the first line of the file on are about the file.
    pub doc: String,
    /// Its statement.
    pub span: Span,
}

/// The number of a stage: its place in [`Program::stages`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StageId(pub u32);

/// A call in a workflow.
#[derive(Clone, PartialEq, Debug)]
pub struct Stage {
    /// The binding's name; `outer/op` for a call inside the call named `outer`. Shared with whoever
    /// tells of the stage.
    pub name: Arc<str>,
    /// The op called.
    pub op: &'static str,
    /// All arguments of the op, defaults filled in, [`Value::Absent`] for optional ones not given.
    pub args: Arguments,
    /// How to run it. Shared, most of all by the many stages that have none.
    pub attributes: Arc<Attributes>,
    /// What it makes.
    pub output: Type,
    /// The call.
    pub span: Span,
}

/// The value of an argument or a param.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An optional argument that was not given.
    Absent,
    /// A whole number.
    Int(i64),
    /// A finite number; never negative zero.
    Float(f64),
    /// A text.
    Str(String),
    /// True or false.
    Bool(bool),
    /// Milliseconds.
    Duration(u64),
    /// Bytes.
    Size(u64),
    /// A file, a folder or a pattern, as written.
    Path(String),
    /// Values of one type.
    List(Vec<Value>),
    /// The call of a config op, all arguments filled as in a stage.
    Config {
        /// The op called.
        op: &'static str,
        /// All its arguments.
        args: Arguments,
    },
    /// The result of a stage.
    Stage(StageId),
}

/// A result that leaves the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// The binding exported.
    pub name: String,
    /// Its stage.
    pub stage: StageId,
    /// The format's name.
    pub format: &'static str,
    /// Where to, as written, relative to the workflow's folder.
    pub path: String,
    /// The statement.
    pub span: Span,
}

/// How a stage is to be run; never part of what it computes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// `@cpu(2)`: cores.
    pub cpu: Option<u32>,
    /// `@gpu(1)`: GPUs.
    pub gpu: Option<u32>,
    /// `@memory(16GiB)`: bytes of main memory.
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
    /// `@isolate`: in a process of its own, which may crash without taking the run with it.
    pub isolate: Option<()>,
}

impl Program {
    /// The stage of this number.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0 as usize]
    }

    /// All stages with their numbers, in topological order.
    pub fn stage_ids(&self) -> impl Iterator<Item = (StageId, &Stage)> {
        (0..).map(StageId).zip(&self.stages)
    }
}

impl Stage {
    /// The stages whose results this one takes, ascending, each once.
    pub fn inputs(&self) -> Vec<StageId> {
        let mut inputs = Vec::new();
        self.args
            .values()
            .for_each(|value| value.each_stage(&mut |id| inputs.push(id)));
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    }
}

/// As [`PartialEq`] has it: a float is never NaN, nor negative zero.
impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Absent => {}
            Value::Int(number) => number.hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::Str(text) | Value::Path(text) => text.hash(state),
            Value::Bool(truth) => truth.hash(state),
            Value::Duration(number) | Value::Size(number) => number.hash(state),
            Value::List(values) => values.hash(state),
            Value::Config { op, args } => (op, args).hash(state),
            Value::Stage(id) => id.hash(state),
        }
    }
}

impl Value {
    /// How many values it is made of, itself included.
    pub(crate) fn parts(&self) -> usize {
        1 + match self {
            Value::List(values) => values.iter().map(Value::parts).sum(),
            Value::Config { args, .. } => args.values().map(Value::parts).sum(),
            _ => 0,
        }
    }

    /// Calls `each` for every stage in it, in order.
    pub fn each_stage(&self, each: &mut impl FnMut(StageId)) {
        match self {
            Value::Stage(id) => each(*id),
            Value::List(values) => values.iter().for_each(|value| value.each_stage(each)),
            Value::Config { args, .. } => args.values().for_each(|value| value.each_stage(each)),
            _ => {}
        }
    }
}

/// Values print as the language writes them; a stage prints as `%` and its number, an absent value
/// as `absent`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Absent => f.write_str("absent"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Str(text) | Value::Path(text) => write_quoted(f, text),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Duration(milliseconds) => f.write_str(&units::duration_text(*milliseconds)),
            Value::Size(bytes) => f.write_str(&units::size_text(*bytes)),
            Value::List(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Value::Config { op, args } => {
                let args: Vec<String> = args
                    .iter()
                    .map(|(name, value)| format!("{name} = {value}"))
                    .collect();
                write!(f, "{op}({})", args.join(", "))
            }
            Value::Stage(StageId(number)) => write!(f, "%{number}"),
        }
    }
}

/// Writes `text` as a string of the language, with the escapes it needs.
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
