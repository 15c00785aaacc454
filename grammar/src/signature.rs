//! What ops and export formats look like from outside: names, arguments, types, defaults, ranges,
//! docs.
//!
//! The grammar knows no op by itself; whoever embeds it hands in [`Signatures`].

mod declaration;

use std::collections::BTreeMap;
use std::fmt;

use crate::program::Value;
use crate::types::Type;

/// An op as the language sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Signature {
    /// The name it is called by, possibly dotted: `read.webdataset`.
    pub name: &'static str,
    /// Whether a call is a stage or a value.
    pub kind: Kind,
    /// What it does: a sentence, then more if needed.
    pub doc: &'static str,
    /// A call in the language.
    pub example: &'static str,
    /// The arguments, in the order that positional ones fill.
    pub args: Vec<Arg>,
    /// What a call makes.
    pub output: Type,
}

/// What a call of an op is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A piece of work with a result of its own.
    Stage,
    /// A value made while checking, as `nucleus(top_p = 0.9)`; it becomes part of the consumer's
    /// arguments.
    Config,
}

/// An argument of an op.
#[derive(Clone, PartialEq, Debug)]
pub struct Arg {
    /// The name it is passed by.
    pub name: &'static str,
    /// What it takes; for a variadic argument, what each of its values is.
    pub ty: Type,
    /// What it is when it is not given.
    pub default: Default,
    /// The lowest and the highest value allowed, both included, in milliseconds for durations and
    /// bytes for sizes. An infinite end is open.
    pub range: Option<(f64, f64)>,
    /// Takes all positional arguments from its place on, as a list.
    pub variadic: bool,
    /// Changes how the work is done, never what comes out: left out of keys.
    pub not_in_key: bool,
    /// What it means, in a sentence.
    pub doc: &'static str,
}

/// What an argument is when it is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// It has to be given; for a variadic argument, at least once.
    Required,
    /// It is [`Value::Absent`](crate::Value::Absent); for a variadic argument, the empty list.
    Optional,
    /// This value, in the language: `0.5`, `nucleus()`, `[]`.
    Is(&'static str),
}

/// A form in which a stage's result can leave: `export kept as json "kept.json"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportFormat {
    /// The word after `as`.
    pub name: &'static str,
    /// The types it can write.
    pub accepts: &'static [Type],
    /// What it writes, in a sentence.
    pub doc: &'static str,
}

impl Signature {
    /// An op whose calls are stages. An example and arguments are added by the methods below.
    pub fn stage(name: &'static str, output: Type, doc: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Stage,
            doc,
            example: "",
            args: Vec::new(),
            output,
        }
    }

    /// An op whose calls are values.
    pub fn config(name: &'static str, output: Type, doc: &'static str) -> Self {
        Self {
            kind: Kind::Config,
            ..Self::stage(name, output, doc)
        }
    }

    /// The same with a call to show.
    #[must_use]
    pub fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// The same with one more argument at the end.
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
            default: Default::Required,
            range: None,
            variadic: false,
            not_in_key: false,
            doc,
        }
    }

    /// An argument that may be left out, and is absent then.
    pub fn optional(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            default: Default::Optional,
            ..Self::required(name, ty, doc)
        }
    }

    /// An argument that is `value`, written as in the language, when it is left out.
    pub fn with_default(
        name: &'static str,
        ty: Type,
        value: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            default: Default::Is(value),
            ..Self::required(name, ty, doc)
        }
    }

    /// The same, allowed from `low` to `high`, both included.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }

    /// The same, taking all positional arguments from its place on.
    #[must_use]
    pub fn variadic(self) -> Self {
        Self {
            variadic: true,
            ..self
        }
    }

    /// The same, left out of keys: it changes how the work is done, never what comes out.
    #[must_use]
    pub fn not_in_key(self) -> Self {
        Self {
            not_in_key: true,
            ..self
        }
    }
}

/// All ops and export formats there are.
#[derive(Clone, PartialEq, Debug)]
pub struct Signatures {
    ops: BTreeMap<&'static str, Signature>,
    formats: BTreeMap<&'static str, ExportFormat>,
    results: Vec<&'static str>,
    /// The values of arguments that are not given, by op and argument.
    defaults: BTreeMap<(&'static str, &'static str), Value>,
}

impl Signatures {
    /// Gathers ops and export formats. `results` names the types that count as results: a stage of
    /// such a type that nothing uses is run by default, and not reported as unused.
    ///
    /// # Errors
    /// A mistake in a declaration, such as a name given twice or a default that does not fit its
    /// argument.
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
            declaration::op(&op)?;
            if signatures.ops.insert(name, op).is_some() {
                return Err(SignatureError::new(name, "it is declared twice"));
            }
        }
        for format in formats {
            let name = format.name;
            declaration::format(&format)?;
            if signatures.formats.insert(name, format).is_some() {
                return Err(SignatureError::new(name, "it is declared twice"));
            }
        }
        declaration::defaults(&mut signatures)?;
        Ok(signatures)
    }

    /// What an argument with a default is when it is not given.
    pub(crate) fn default(&self, op: &str, arg: &str) -> Option<&Value> {
        let op = self.ops.get(op)?;
        let arg = op.args.iter().find(|known| known.name == arg)?;
        self.defaults.get(&(op.name, arg.name))
    }

    /// The op of this name.
    pub fn op(&self, name: &str) -> Option<&Signature> {
        self.ops.get(name)
    }

    /// All ops, by name.
    pub fn ops(&self) -> impl Iterator<Item = &Signature> {
        self.ops.values()
    }

    /// The export format of this name.
    pub fn format(&self, name: &str) -> Option<&ExportFormat> {
        self.formats.get(name)
    }

    /// All export formats, by name.
    pub fn formats(&self) -> impl Iterator<Item = &ExportFormat> {
        self.formats.values()
    }

    /// Whether a stage that makes `ty` is worth running for its own sake.
    pub fn is_result(&self, ty: Type) -> bool {
        matches!(ty, Type::Named(name) if self.results.contains(&name))
    }
}

/// A mistake in the declaration of an op or an export format: the mistake of whoever wrote the op.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureError {
    /// The op or the format.
    pub name: String,
    /// What is wrong with it.
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
        write!(
            f,
            "the declaration of `{}` is wrong: {}",
            self.name, self.what
        )
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
            Default::Required => {}
            Default::Optional => f.write_str("?")?,
            Default::Is(text) => write!(f, " = {text}")?,
        }
        match self.range {
            Some(range) => write!(f, " in {}", range_text(self.ty, range)),
            None => Ok(()),
        }
    }
}

impl Arg {
    /// The range as the language writes it, in the units of the argument: `0.0..1.0`, `1s..1h`,
    /// `1..` for an open end.
    pub fn range_text(&self) -> Option<String> {
        self.range.map(|range| range_text(self.ty, range))
    }
}

/// A range as the language writes it, in the units of `ty`: `0.0..1.0`, `1s..1h`, `1..` for an open
/// end.
pub(crate) fn range_text(ty: Type, (low, high): (f64, f64)) -> String {
    let end = |bound: f64| {
        if bound.is_finite() {
            bound_text(ty, bound)
        } else {
            String::new()
        }
    };
    format!("{}..{}", end(low), end(high))
}

/// One end of a range, in the units of `ty`.
pub(crate) fn bound_text(ty: Type, bound: f64) -> String {
    match ty {
        Type::List(element) => bound_text(*element, bound),
        Type::Float => format!("{bound:?}"),
        Type::Duration => crate::units::duration_text(bound as u64),
        Type::Size => crate::units::size_text(bound as u64),
        _ => format!("{bound}"),
    }
}
