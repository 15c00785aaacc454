//! Warnings about bindings that nothing uses.

use super::Checker;
use super::names::{Target, bound_name};
use super::typed::InferredType;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::Value;

impl Checker<'_> {
    /// Warns of bindings that are never used and are not run by default either.
    pub(super) fn warn_unused(&mut self) {
        // A statement that could not be parsed may use any of them.
        if !self.file.complete {
            return;
        }
        let file = self.file;
        let any_target = !self.exports.is_empty() || self.any_result_stage();
        for (at, statement) in file.statements.iter().enumerate() {
            let (Some(name), Some(Some(bound))) = (bound_name(statement), self.values.get(at))
            else {
                continue;
            };
            let used = self.used.get(at) == Some(&true);
            // The second binding of a name has an error already.
            let second = self.names.get(name.text) != Some(&Target::Statement(at));
            if used || second {
                continue;
            }
            let is_stage = matches!(bound.typed.value, Value::Stage(_));
            let is_target = !any_target || self.is_result(&bound.typed.ty);
            if is_stage && is_target {
                continue;
            }
            let (label, help) = if is_stage {
                let command = format!("`blip run … {}` runs it", name.text);
                (
                    "it runs only when it is named as a target",
                    format!("export it, use it, or remove it; {command}"),
                )
            } else {
                (
                    "nothing depends on its value",
                    "use it or remove it".to_owned(),
                )
            };
            let message = format!("`{}` is never used", name.text);
            let diagnostic = Diagnostic::warning(codes::UNUSED, message);
            self.report(diagnostic.at(name.span, label).help(help));
        }
    }

    fn any_result_stage(&self) -> bool {
        let mut outputs = self.stages.outputs();
        outputs.any(|output| self.signatures.is_result(output))
    }

    fn is_result(&self, ty: &InferredType) -> bool {
        matches!(ty, InferredType::One(ty) if self.signatures.is_result(*ty))
    }
}
