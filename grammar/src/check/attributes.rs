//! `@gpu(1)`, `@timeout(10min)`: how a stage is to be run.

use super::Checker;
use super::suggest::nearest;
use crate::ast::Attribute;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Attributes, Value};

impl Checker<'_> {
    pub(super) fn attributes(&mut self, written: &[Attribute]) -> Attributes {
        let mut attributes = Attributes::default();
        for attribute in written {
            self.attribute(attribute, &mut attributes);
        }
        attributes
    }

    fn attribute(&mut self, attribute: &Attribute, into: &mut Attributes) {
        const KNOWN: [(&str, &str); 8] = [
            ("cpu", "@cpu(2)"),
            ("gpu", "@gpu(1)"),
            ("memory", "@memory(16GiB)"),
            ("retries", "@retries(3)"),
            ("timeout", "@timeout(10min)"),
            ("checkpoint", "@checkpoint(every = 10min)"),
            ("max_bad", "@max_bad(0.001)"),
            ("isolate", "@isolate"),
        ];
        let name = attribute.name.text.as_str();
        let Some((_, form)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            let help = match nearest(name, KNOWN.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `@{near}`?"),
                None => format!("the attributes are {}", KNOWN.map(|(_, form)| form).join(" ")),
            };
            let diagnostic = Diagnostic::error(codes::UNKNOWN_ATTRIBUTE, format!("there is no attribute `@{name}`"));
            return self.report(diagnostic.at(attribute.span, "used here").help(help));
        };
        let argument = attribute.argument.as_ref();
        let key = argument.and_then(|argument| argument.name.as_ref()).map(|name| name.text.as_str());
        let value = argument.and_then(|argument| self.expr(&argument.value, "", None)).map(|(value, _)| value);
        let small = |number: i64| u32::try_from(number).ok();
        let done = match (name, key, value) {
            ("cpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.cpu, small(n)),
            ("gpu", None, Some(Value::Int(n))) if n > 0 => set(&mut into.gpu, small(n)),
            ("retries", None, Some(Value::Int(n))) => set(&mut into.retries, small(n)),
            ("memory", None, Some(Value::Size(bytes))) => set(&mut into.memory, Some(bytes)),
            ("timeout", None, Some(Value::Duration(ms))) if ms > 0 => set(&mut into.timeout_ms, Some(ms)),
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
            _ => false,
        };
        if !done {
            let diagnostic = Diagnostic::error(
                codes::BAD_ATTRIBUTE,
                format!("`@{name}` is given twice, or with a value it cannot have"),
            );
            self.report(diagnostic.at(attribute.span, "this one").help(format!("write it once, as {form}")));
        }
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let fresh = slot.is_none() && value.is_some();
    if fresh {
        *slot = value;
    }
    fresh
}
