//! The declarations of ops and export formats: names, arguments, types, defaults, ranges, docs.
//!
//! The language has no ops of its own; its caller passes in [`Signatures`].

mod declaration;

use std::collections::BTreeMap;
use std::fmt;

use crate::program::Value;
use crate::types::Type;

/// The declaration of an op.
#[derive(Clone, PartialEq, Debug)]
pub struct Signature {
    /// Possibly dotted: `read.webdataset`.
    pub name: &'static str,
    pub kind: OpKind,
    /// What it does: a sentence, then more if needed.
    pub doc: &'static str,
    /// A call, as written in the language.
    pub example: &'static str,
    /// In the order that positional arguments fill.
    pub args: Vec<Arg>,
    pub output: Type,
}

/// What a call of an op stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// Work with a result of its own.
    Stage,
    /// A value such as `nucleus(top_p = 0.9)`, which becomes part of the arguments of the stages
    /// that take it.
    Config,
}

/// An argument of an op.
#[derive(Clone, PartialEq, Debug)]
pub struct Arg {
    pub name: &'static str,
    /// Of a variadic argument, the type of each of its values.
    pub ty: Type,
    pub default: ArgDefault,
    /// The lowest and the highest value allowed, both included; durations in milliseconds, sizes in
    /// bytes. An infinite end is open.
    pub range: Option<(f64, f64)>,
    /// Takes all positional arguments from its position on, as a list.
    pub variadic: bool,
    /// Changes how the work is done but never its result, and so is not in the key.
    pub not_in_key: bool,
    /// One sentence.
    pub doc: &'static str,
}

/// The value of an argument that is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgDefault {
    /// None: it has to be given; a variadic one at least once.
    Required,
    /// [`Value::Absent`](crate::Value::Absent); for a variadic argument, the empty list.
    Optional,
    /// This value, as written in the language: `0.5`, `nucleus()`, `[]`.
    Value(&'static str),
}

/// A file format for the result of a stage: `export kept as json "kept.json"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportFormat {
    /// The word after `as`.
    pub name: &'static str,
    pub accepts: &'static [Type],
    /// What it writes, in one sentence.
    pub doc: &'static str,
}

impl Signature {
    /// An op whose calls are stages, without arguments yet.
    pub fn stage(name: &'static str, output: Type, doc: &'static str) -> Self {
        Self {
            name,
            kind: OpKind::Stage,
            doc,
            example: "",
            args: Vec::new(),
            output,
        }
    }

    /// An op whose calls are values, without arguments yet.
    pub fn config(name: &'static str, output: Type, doc: &'static str) -> Self {
        Self {
            kind: OpKind::Config,
            ..Self::stage(name, output, doc)
        }
    }

    /// Sets the call that help texts show.
    #[must_use]
    pub fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }
}

impl Arg {
    /// An argument that has to be given.
    pub fn required(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            name,
            ty,
            default: ArgDefault::Required,
            range: None,
            variadic: false,
            not_in_key: false,
            doc,
        }
    }

    /// An argument that may be left out and then is [`Value::Absent`].
    pub fn optional(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            default: ArgDefault::Optional,
            ..Self::required(name, ty, doc)
        }
    }

    /// An argument whose default is `value`, as written in the language.
    pub fn with_default(
        name: &'static str,
        ty: Type,
        value: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            default: ArgDefault::Value(value),
            ..Self::required(name, ty, doc)
        }
    }

    /// Limits the value to `low..high`, both included.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }

    /// Makes it take all positional arguments from its position on.
    #[must_use]
    pub fn variadic(self) -> Self {
        Self {
            variadic: true,
            ..self
        }
    }

    /// Leaves it out of the key: it changes how the work is done but never its result.
    #[must_use]
    pub fn not_in_key(self) -> Self {
        Self {
            not_in_key: true,
            ..self
        }
    }
}

/// The ops and export formats that workflows can use.
#[derive(Clone, PartialEq, Debug)]
pub struct Signatures {
    ops: BTreeMap<&'static str, Signature>,
    formats: BTreeMap<&'static str, ExportFormat>,
    /// The names of the result types.
    results: Vec<&'static str>,
    /// The default values, by op and argument.
    defaults: BTreeMap<(&'static str, &'static str), Value>,
}

impl Signatures {
    /// Checks and collects declarations. `results` names the types that count as results: a stage
    /// of such a type that nothing uses runs by default and is not reported as unused.
    ///
    /// # Errors
    /// An invalid declaration, such as a duplicate name or a default of the wrong type.
    pub fn new(
        ops: Vec<Signature>,
        formats: Vec<ExportFormat>,
        results: Vec<&'static str>,
    ) -> Result<Signatures, SignatureError> {
        let mut signatures = Signatures {
            ops: BTreeMap::new(),
            formats: BTreeMap::new(),
            results,
            defaults: BTreeMap::new(),
        };
        for op in ops {
            let name = op.name;
            declaration::check_op(&op)?;
            if signatures.ops.insert(name, op).is_some() {
                return Err(SignatureError::new(name, "it is declared twice"));
            }
        }
        for format in formats {
            let name = format.name;
            declaration::check_format(&format)?;
            if signatures.formats.insert(name, format).is_some() {
                return Err(SignatureError::new(name, "it is declared twice"));
            }
        }
        declaration::evaluate_defaults(&mut signatures)?;
        Ok(signatures)
    }

    /// The default value of an argument, if it has one.
    pub(crate) fn default(&self, op: &str, arg: &str) -> Option<&Value> {
        let op = self.ops.get(op)?;
        let arg = op.args.iter().find(|known| known.name == arg)?;
        self.defaults.get(&(op.name, arg.name))
    }

    pub fn op(&self, name: &str) -> Option<&Signature> {
        self.ops.get(name)
    }

    /// Sorted by name.
    pub fn ops(&self) -> impl Iterator<Item = &Signature> {
        self.ops.values()
    }

    pub fn format(&self, name: &str) -> Option<&ExportFormat> {
        self.formats.get(name)
    }

    /// Sorted by name.
    pub fn formats(&self) -> impl Iterator<Item = &ExportFormat> {
        self.formats.values()
    }

    /// Whether a stage of type `ty` is worth running although nothing uses it.
    pub fn is_result(&self, ty: Type) -> bool {
        matches!(ty, Type::Named(name) if self.results.contains(&name))
    }
}

/// An invalid declaration of an op or an export format: a bug of the op, not of a workflow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureError {
    /// The op or the format.
    pub name: String,
    /// What is wrong with the declaration.
    pub what: String,
}

impl SignatureError {
    fn new(name: &str, what: impl Into<String>) -> SignatureError {
        SignatureError {
            name: name.to_owned(),
            what: what.into(),
        }
    }
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid declaration of `{}`: {}", self.name, self.what)
    }
}

impl std::error::Error for SignatureError {}

impl fmt::Display for Signature {
    /// `caption(captioner: Captioner, pairs: Pairs, per_image: int = 1 in 1..100) -> Pairs`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(Arg::to_string).collect();
        write!(f, "{}({}) -> {}", self.name, args.join(", "), self.output)
    }
}

impl fmt::Display for Arg {
    /// `per_image: int = 1 in 1..100`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.ty)?;
        if self.variadic {
            f.write_str(" ...")?;
        }
        match self.default {
            ArgDefault::Required => {}
            ArgDefault::Optional => f.write_str("?")?,
            ArgDefault::Value(text) => write!(f, " = {text}")?,
        }
        match self.range {
            Some(range) => write!(f, " in {}", range_text(self.ty, range)),
            None => Ok(()),
        }
    }
}

impl Arg {
    /// The range as written in the language, in the units of the argument: `0.0..1.0`, `1s..1h`,
    /// `1..` for an open end.
    pub fn range_text(&self) -> Option<String> {
        self.range.map(|range| range_text(self.ty, range))
    }
}

/// A range as written in the language, in the units of `ty`: `0.0..1.0`, `1s..1h`, `1..` for an
/// open end.
pub(crate) fn range_text(ty: Type, (low, high): (f64, f64)) -> String {
    format!("{}..{}", bound_text(ty, low), bound_text(ty, high))
}

/// One end of a range, in the units of `ty`; empty for an open end.
pub(crate) fn bound_text(ty: Type, bound: f64) -> String {
    match ty {
        _ if bound.is_infinite() => String::new(),
        Type::List(element) => bound_text(*element, bound),
        Type::Float => format!("{bound:?}"),
        Type::Duration => crate::units::duration_text(bound as u64),
        Type::Size => crate::units::size_text(bound as u64),
        _ => format!("{bound}"),
    }
}
