//! Calls: which value goes to which argument, defaults, and the stage or config value that comes of it.

use std::collections::BTreeMap;

use super::suggest::nearest;
use super::{Checker, Typed};
use crate::ast::{Argument, Expr, ExprKind, Name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parser::parse_value;
use crate::program::{Attributes, Stage, StageId, Value};
use crate::signature::{Arg, Default, Kind, Signature};
use crate::span::Span;

/// A value that was written for an argument.
struct Given<'e> {
    value: &'e Expr,
    span: Span,
}

impl Checker<'_> {
    /// The value of a call.
    pub(super) fn call(
        &mut self,
        expr: &Expr,
        op: &Name,
        written: &[Argument],
        owner: &str,
        attributes: Option<Attributes>,
    ) -> Option<Typed> {
        let signatures = self.signatures;
        let Some(signature) = signatures.op(&op.text) else {
            self.unknown_op(op);
            // Faults inside the arguments are worth telling all the same.
            written.iter().for_each(|argument| {
                self.expr(&argument.value, owner, None);
            });
            return None;
        };
        let inner = if owner.is_empty() { op.text.clone() } else { owner.to_owned() };
        let given = self.assign(signature, op, written);
        let args = self.fill(signature, op, expr.span, given?, &inner);
        let args = args?;
        match signature.kind {
            Kind::Config => Some((Value::Config { op: signature.name, args }, signature.output)),
            Kind::Stage => {
                let id = self.stage(signature, args, owner, attributes, expr.span);
                Some((Value::Stage(id), signature.output))
            }
        }
    }

    fn unknown_op(&mut self, op: &Name) {
        let mut diagnostic =
            Diagnostic::error(codes::UNKNOWN_OP, format!("there is no op `{}`", op.text)).at(op.span, "called here");
        diagnostic = match nearest(&op.text, self.signatures.ops().map(|op| op.name)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("`blip ops` lists all ops"),
        };
        self.report(diagnostic);
    }

    /// Which written value is for which argument. Positional values fill the arguments in order, a variadic one takes the
    /// rest; a bare name that is also an argument's name is for that argument (`seed`).
    fn assign<'e>(
        &mut self,
        signature: &Signature,
        op: &Name,
        written: &'e [Argument],
    ) -> Option<BTreeMap<&'static str, Vec<Given<'e>>>> {
        let mut given: BTreeMap<&'static str, Vec<Given<'e>>> = BTreeMap::new();
        let mut place = 0;
        let mut named = false;
        let mut good = true;
        for argument in written {
            let next = signature.args.get(place);
            let shorthand = |arg: &&Arg| match &argument.value.kind {
                ExprKind::Name(name) => {
                    name == arg.name && !arg.variadic && next.is_none_or(|next| next.name != arg.name)
                }
                _ => false,
            };
            let value = Given { value: &argument.value, span: argument.span };
            let arg = if let Some(name) = &argument.name {
                named = true;
                let found = signature.args.iter().find(|arg| arg.name == name.text);
                if found.is_none() {
                    self.unknown_argument(signature, op, name);
                }
                found
            } else if let Some(arg) = signature.args.iter().find(shorthand) {
                named = true;
                Some(arg)
            } else if named {
                self.positional_after_named(signature, argument);
                None
            } else if let Some(arg) = next {
                place += usize::from(!arg.variadic);
                Some(arg)
            } else {
                self.too_many(signature, op, argument);
                None
            };
            let Some(arg) = arg else {
                self.expr(&argument.value, "", None);
                good = false;
                continue;
            };
            let values = given.entry(arg.name).or_default();
            if values.is_empty() || (arg.variadic && argument.name.is_none()) {
                values.push(value);
            } else {
                let first = values.first().map_or(argument.span, |first| first.span);
                good = false;
                self.repeated(signature, arg, argument, first);
            }
        }
        good.then_some(given)
    }

    fn unknown_argument(&mut self, signature: &Signature, op: &Name, name: &Name) {
        let mut diagnostic =
            Diagnostic::error(codes::UNKNOWN_ARGUMENT, format!("`{}` has no argument `{}`", op.text, name.text))
                .at(name.span, "named here");
        diagnostic = match nearest(&name.text, signature.args.iter().map(|arg| arg.name)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("it is {signature}")),
        };
        self.report(diagnostic);
    }

    fn positional_after_named(&mut self, signature: &Signature, argument: &Argument) {
        let diagnostic =
            Diagnostic::error(codes::POSITIONAL_AFTER_NAMED, "a positional argument stands behind a named one")
                .at(argument.span, "which argument is this?")
                .help(format!("name it; the op is {signature}"));
        self.report(diagnostic);
    }

    fn too_many(&mut self, signature: &Signature, op: &Name, argument: &Argument) {
        let count = signature.args.len();
        let diagnostic =
            Diagnostic::error(codes::TOO_MANY_ARGUMENTS, format!("`{}` takes at most {count} arguments", op.text))
                .at(argument.span, "this one is too much")
                .help(format!("it is {signature}"));
        self.report(diagnostic);
    }

    fn repeated(&mut self, signature: &Signature, arg: &Arg, argument: &Argument, first: Span) {
        let diagnostic =
            Diagnostic::error(codes::REPEATED_ARGUMENT, format!("the argument `{}` is given twice", arg.name))
                .at(argument.span, "the second time")
                .note(first, "the first time")
                .help(format!("keep one of them; the op is {signature}"));
        self.report(diagnostic);
    }

    /// All arguments with their values, defaults filled in.
    fn fill(
        &mut self,
        signature: &Signature,
        op: &Name,
        call: Span,
        mut given: BTreeMap<&'static str, Vec<Given<'_>>>,
        owner: &str,
    ) -> Option<BTreeMap<&'static str, Value>> {
        let mut args = BTreeMap::new();
        let mut missing = Vec::new();
        let mut good = true;
        for arg in &signature.args {
            let value = match given.remove(arg.name) {
                Some(values) if arg.variadic => self.variadic(arg, &values, owner),
                Some(values) => values.first().and_then(|given| self.given(arg, given, owner)),
                None => match arg.default {
                    Default::Required => {
                        missing.push(arg);
                        continue;
                    }
                    Default::Optional if arg.variadic => Some(Value::List(Vec::new())),
                    Default::Optional => Some(Value::Absent),
                    Default::Is(text) => Some(self.default(arg, text)),
                },
            };
            match value {
                Some(value) => {
                    args.insert(arg.name, value);
                }
                None => good = false,
            }
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|arg| format!("`{}` ({})", arg.name, arg.ty)).collect();
            let message = format!("`{}` lacks {}", op.text, names.join(" and "));
            let end = Span::new(call.end.saturating_sub(1), call.end);
            let diagnostic = Diagnostic::error(codes::MISSING_ARGUMENT, message)
                .at(op.span.to(op.span), "called here")
                .note(end, "before this bracket");
            self.report(diagnostic.help(format!("it is {signature}")));
        }
        (good && missing.is_empty()).then_some(args)
    }

    fn given(&mut self, arg: &Arg, given: &Given<'_>, owner: &str) -> Option<Value> {
        let typed = self.expr(given.value, owner, None)?;
        let value = self.fit(typed, arg.ty, given.value.span, &format!("the argument `{}`", arg.name))?;
        if let Some(range) = arg.range {
            self.within(&value, arg.ty, range, given.value.span, arg.name)?;
        }
        Some(value)
    }

    fn variadic(&mut self, arg: &Arg, values: &[Given<'_>], owner: &str) -> Option<Value> {
        // One list given by name is all of them.
        if let [Given { value, .. }] = values
            && let ExprKind::List(elements) = &value.kind
        {
            let given = elements.iter().map(|value| Given { value, span: value.span }).collect::<Vec<_>>();
            return self.variadic_each(arg, &given, owner);
        }
        self.variadic_each(arg, values, owner)
    }

    fn variadic_each(&mut self, arg: &Arg, values: &[Given<'_>], owner: &str) -> Option<Value> {
        let values: Vec<Option<Value>> = values.iter().map(|given| self.given(arg, given, owner)).collect();
        values.into_iter().collect::<Option<_>>().map(Value::List)
    }

    /// A default is text of the language that the op's author wrote; a test of the ops walks all of them.
    fn default(&mut self, arg: &Arg, text: &str) -> Value {
        let known = self.diagnostics.len();
        let value = parse_value(text).and_then(|expr| self.expr(&expr, "", None));
        self.diagnostics.truncate(known);
        let value = value.and_then(|typed| super::coerce(typed, arg.ty));
        value.unwrap_or(Value::Absent)
    }

    /// A stage for this call: a new one, or one that computes the same.
    fn stage(
        &mut self,
        signature: &Signature,
        args: BTreeMap<&'static str, Value>,
        owner: &str,
        attributes: Option<Attributes>,
        span: Span,
    ) -> StageId {
        let listed: Vec<String> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let same = format!("{}({})", signature.name, listed.join(","));
        if let Some(id) = self.equal.get(&same) {
            return *id;
        }
        let id =
            StageId(u32::try_from(self.stages.len()).expect("a workflow of at most 1 MB has fewer than 2^32 calls"));
        let name = if attributes.is_some() { owner.to_owned() } else { self.inner_name(owner, signature.name) };
        self.stage_names.insert(name.clone(), id);
        self.equal.insert(same, id);
        let attributes = attributes.unwrap_or_default();
        self.stages.push(Stage { name, op: signature.name, args, attributes, output: signature.output, span });
        id
    }

    /// `base/merge`, and `base/merge.2` for the second one.
    fn inner_name(&self, owner: &str, op: &str) -> String {
        let name = format!("{owner}/{op}");
        let numbered = (2..).map(|number| format!("{name}.{number}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !self.stage_names.contains_key(name)).unwrap_or(name)
    }
}
