//! `@gpu(1)`, `@timeout(10min)`: how a stage is to be run.

use super::Checker;
use super::stages::NameScope;
use crate::ast::{Attribute, Statement};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Attributes, Value};

/// All attributes: name, an example, and what the value is.
const KNOWN: [(&str, &str, &str); 8] = [
    ("cpu", "@cpu(2)", "a number of cores, at least 1"),
    ("gpu", "@gpu(1)", "a number of GPUs, at least 1"),
    ("memory", "@memory(16GiB)", "a size, more than 0"),
    (
        "retries",
        "@retries(3)",
        "a number of further attempts, 0 or more",
    ),
    ("timeout", "@timeout(10min)", "a duration, more than 0"),
    (
        "checkpoint",
        "@checkpoint(every = 10min)",
        "a duration or a number of steps, named `every`",
    ),
    (
        "max_bad",
        "@max_bad(0.001)",
        "the share of items that may be bad, from 0.0 to 1.0",
    ),
    ("isolate", "@isolate", "no value"),
];

impl Checker<'_> {
    /// Evaluates the attributes of a statement.
    pub(super) fn attributes(&mut self, written: &[Attribute]) -> Attributes {
        let mut attributes = Attributes::default();
        for attribute in written {
            self.attribute(attribute, &mut attributes);
        }
        attributes
    }

    fn attribute(&mut self, attribute: &Attribute, into: &mut Attributes) {
        let name = attribute.name.text;
        let argument = attribute.argument.as_ref();
        // Evaluated even if the attribute is unknown, to report the errors inside of it.
        let typed = argument.map(|argument| self.expr(&argument.value, NameScope::unnamed()));
        let Some((_, example, takes)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
            return self.unknown_attribute(attribute);
        };
        let value = match typed {
            Some(None) => return,
            Some(Some(typed)) => Some(typed.value),
            None => None,
        };
        let key = argument.and_then(|argument| argument.name.as_ref());
        let (message, label, help) = match assign(into, name, key.map(|key| key.text), value) {
            Assignment::Done => return,
            Assignment::Repeated => (
                format!("`@{name}` is given twice"),
                "given again here",
                "write it once".to_owned(),
            ),
            Assignment::Invalid => (
                format!("`@{name}` takes {takes}"),
                "invalid attribute",
                format!("write it as {example}"),
            ),
        };
        let diagnostic = Diagnostic::error(codes::BAD_ATTRIBUTE, message);
        self.report(diagnostic.at(attribute.span, label).help(help));
    }

    fn unknown_attribute(&mut self, attribute: &Attribute) {
        let name = attribute.name.text;
        let help = match self.nearest(name, KNOWN.iter().map(|(known, ..)| *known)) {
            Some(near) => format!("did you mean `@{near}`?"),
            None => {
                let examples = KNOWN.map(|(_, example, _)| example);
                format!("the attributes are {}", examples.join(" "))
            }
        };
        let message = format!("unknown attribute `@{name}`");
        let diagnostic = Diagnostic::error(codes::UNKNOWN_ATTRIBUTE, message);
        self.report(diagnostic.at(attribute.name.span, "used here").help(help));
    }

    /// Reports the attributes of a statement that is no call. `what` is what the message calls it.
    pub(super) fn reject_attributes(&mut self, statement: &Statement, what: &str) {
        let attributes = &statement.attributes;
        let (Some(first), Some(last)) = (attributes.first(), attributes.last()) else {
            return;
        };
        let message = format!("{what} takes no attributes");
        let diagnostic = Diagnostic::error(codes::BAD_ATTRIBUTE, message)
            .at(first.span.to(last.span), "attributes say how a stage runs")
            .help("put them before the binding of a call, `name = op(…)`, or remove them");
        self.report(diagnostic);
    }
}

/// The outcome of assigning an attribute.
enum Assignment {
    Done,
    /// It has a value already.
    Repeated,
    /// The attribute cannot have this value.
    Invalid,
}

/// Assigns `@name(key = value)`; `@name(value)` and `@name` if there is no key or no value.
fn assign(
    into: &mut Attributes,
    name: &str,
    key: Option<&str>,
    value: Option<Value>,
) -> Assignment {
    match (name, key, value) {
        ("cpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.cpu, u32::try_from(n).ok()),
        ("gpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.gpu, u32::try_from(n).ok()),
        ("retries", None, Some(Value::Int(n))) => set(&mut into.retries, u32::try_from(n).ok()),
        ("memory", None, Some(Value::Size(bytes))) if bytes > 0 => {
            set(&mut into.memory, Some(bytes))
        }
        ("timeout", None, Some(Value::Duration(ms))) if ms > 0 => {
            set(&mut into.timeout_ms, Some(ms))
        }
        ("checkpoint", Some("every"), Some(Value::Duration(ms))) if ms > 0 => {
            set(&mut into.checkpoint_every_ms, Some(ms))
        }
        ("checkpoint", Some("every"), Some(Value::Int(n))) if n > 0 => {
            set(&mut into.checkpoint_every_steps, u64::try_from(n).ok())
        }
        ("max_bad", None, Some(Value::Float(share))) if (0.0..=1.0).contains(&share) => {
            set(&mut into.max_bad_ppm, Some((share * 1e6).round() as u32))
        }
        ("max_bad", None, Some(Value::Int(0))) => set(&mut into.max_bad_ppm, Some(0)),
        ("max_bad", None, Some(Value::Int(1))) => set(&mut into.max_bad_ppm, Some(1_000_000)),
        ("isolate", None, None) => set(&mut into.isolate, Some(())),
        _ => Assignment::Invalid,
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Assignment {
    if slot.is_some() {
        return Assignment::Repeated;
    }
    if value.is_none() {
        return Assignment::Invalid;
    }
    *slot = value;
    Assignment::Done
}

/// Merges the attributes of an equal call into those of its stage. Returns the name of one that
/// differs; `into` keeps its value then.
pub(super) fn merge(into: &mut Attributes, from: &Attributes) -> Option<&'static str> {
    // Without `..`, so that a new attribute cannot be forgotten here.
    let Attributes {
        cpu,
        gpu,
        memory,
        retries,
        timeout_ms,
        checkpoint_every_ms,
        checkpoint_every_steps,
        max_bad_ppm,
        isolate,
    } = *from;
    let conflicts = [
        ("cpu", merge_one(&mut into.cpu, cpu)),
        ("gpu", merge_one(&mut into.gpu, gpu)),
        ("memory", merge_one(&mut into.memory, memory)),
        ("retries", merge_one(&mut into.retries, retries)),
        ("timeout", merge_one(&mut into.timeout_ms, timeout_ms)),
        (
            "checkpoint",
            merge_one(&mut into.checkpoint_every_ms, checkpoint_every_ms),
        ),
        (
            "checkpoint",
            merge_one(&mut into.checkpoint_every_steps, checkpoint_every_steps),
        ),
        ("max_bad", merge_one(&mut into.max_bad_ppm, max_bad_ppm)),
        ("isolate", merge_one(&mut into.isolate, isolate)),
    ];
    let (name, _) = conflicts.into_iter().find(|(_, conflict)| *conflict)?;
    Some(name)
}

/// Whether both have a value, and different ones.
fn merge_one<T: Copy + PartialEq>(into: &mut Option<T>, from: Option<T>) -> bool {
    let conflict = into.is_some() && from.is_some() && *into != from;
    *into = into.or(from);
    conflict
}
