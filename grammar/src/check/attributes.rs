//! `@gpu(1)`, `@timeout(10min)`: how a stage is to be run.

use super::Checker;
use super::stages::Place;
use crate::ast::{Attribute, Statement};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Attributes, Value};

/// The attributes there are, each with the form it is written in and what its value is.
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
    pub(super) fn attributes(&mut self, written: &[Attribute]) -> Attributes {
        let mut attributes = Attributes::default();
        for attribute in written {
            self.attribute(attribute, &mut attributes);
        }
        attributes
    }

    fn attribute(&mut self, attribute: &Attribute, into: &mut Attributes) {
        let name = attribute.name.text;
        // The value is looked at first: a fault in it is told even at an attribute that does not
        // exist.
        let argument = attribute.argument.as_ref();
        let value =
            argument.map(|argument| self.expr(&argument.value, Place::value_of("").inside()));
        let Some((_, form, takes)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
            let help = match self.nearest(name, KNOWN.iter().map(|(known, ..)| *known)) {
                Some(near) => format!("did you mean `@{near}`?"),
                None => format!(
                    "the attributes are {}",
                    KNOWN.map(|(_, form, _)| form).join(" ")
                ),
            };
            let diagnostic = Diagnostic::error(
                codes::UNKNOWN_ATTRIBUTE,
                format!("there is no attribute `@{name}`"),
            );
            return self.report(diagnostic.at(attribute.name.span, "used here").help(help));
        };
        let key = argument
            .and_then(|argument| argument.name.as_ref())
            .map(|name| name.text);
        let value = match value {
            Some(None) => return,
            Some(Some((value, _))) => Some(value),
            None => None,
        };
        let small = |number: i64| u32::try_from(number).ok();
        let done = match (name, key, value) {
            ("cpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.cpu, small(n)),
            ("gpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.gpu, small(n)),
            ("retries", None, Some(Value::Int(n))) => set(&mut into.retries, small(n)),
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
            ("max_bad", None, Some(Value::Int(share @ (0 | 1)))) => {
                set(&mut into.max_bad_ppm, small(share * 1_000_000))
            }
            ("isolate", None, None) if argument.is_none() => set(&mut into.isolate, Some(())),
            _ => Set::Unfit,
        };
        let (message, help) = match done {
            Set::Done => return,
            Set::Twice => (
                format!("`@{name}` is given twice"),
                "write it once".to_owned(),
            ),
            Set::Unfit => (
                format!("`@{name}` takes {takes}"),
                format!("write it as {form}"),
            ),
        };
        self.report(
            Diagnostic::error(codes::BAD_ATTRIBUTE, message)
                .at(attribute.span, "this one")
                .help(help),
        );
    }

    /// Reports attributes before something that does not run. `what` is what they stand before.
    pub(super) fn no_attributes(&mut self, statement: &Statement, what: &str) {
        let Some((first, last)) = statement
            .attributes
            .first()
            .zip(statement.attributes.last())
        else {
            return;
        };
        let diagnostic =
            Diagnostic::error(codes::BAD_ATTRIBUTE, format!("{what} takes no attributes"))
                .at(first.span.to(last.span), "these say how a stage runs")
                .help("put them before the binding of a call, `name = op(…)`, or remove them");
        self.report(diagnostic);
    }
}

/// What came of setting an attribute.
enum Set {
    Done,
    /// It was set before.
    Twice,
    /// The value is none it can have.
    Unfit,
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Set {
    match (slot.is_some(), value) {
        (true, _) => Set::Twice,
        (false, None) => Set::Unfit,
        (false, value) => {
            *slot = value;
            Set::Done
        }
    }
}

/// Adds the attributes of an equal call; the name of one that differs is handed back.
pub(super) fn merge(into: &mut Attributes, from: &Attributes) -> Option<&'static str> {
    fn one<T: Copy + PartialEq>(into: &mut Option<T>, from: Option<T>) -> bool {
        let differ = into.is_some() && from.is_some() && *into != from;
        *into = into.or(from);
        differ
    }
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
    let differing = [
        ("cpu", one(&mut into.cpu, cpu)),
        ("gpu", one(&mut into.gpu, gpu)),
        ("memory", one(&mut into.memory, memory)),
        ("retries", one(&mut into.retries, retries)),
        ("timeout", one(&mut into.timeout_ms, timeout_ms)),
        (
            "checkpoint",
            one(&mut into.checkpoint_every_ms, checkpoint_every_ms),
        ),
        (
            "checkpoint",
            one(&mut into.checkpoint_every_steps, checkpoint_every_steps),
        ),
        ("max_bad", one(&mut into.max_bad_ppm, max_bad_ppm)),
        ("isolate", one(&mut into.isolate, isolate)),
    ];
    differing
        .into_iter()
        .find(|(_, differ)| *differ)
        .map(|(name, _)| name)
}
