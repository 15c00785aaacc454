//! Calls: which value is for which argument, defaults, and the resulting stage or config value.

use super::Checker;
use super::stages::NameScope;
use super::typed::TypedValue;
use super::wording::with_article;
use crate::arguments::Arguments;
use crate::ast::{Argument, Expr, ExprKind, Name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::Value;
use crate::signature::{Arg, ArgDefault, OpKind, Signature, Signatures};
use crate::span::Span;
use crate::types::Type;

/// The written arguments of a call, assigned to the arguments of the signature.
struct Assigned<'e> {
    /// By argument of the signature: what was written for it; of a variadic one, the first value.
    first: Vec<Option<&'e Argument<'e>>>,
    /// The further values of the variadic one, of which an op has at most one.
    further: Vec<&'e Argument<'e>>,
    /// Whether every written argument was assigned.
    complete: bool,
}

impl Checker<'_> {
    /// Evaluates a call.
    pub(super) fn call(
        &mut self,
        span: Span,
        op: &Name,
        written: &[Argument],
        scope: NameScope<'_>,
    ) -> Option<TypedValue> {
        let signatures = self.signatures;
        let Some(signature) = signatures.op(op.text) else {
            self.unknown_op(op);
            // To report the errors inside of them.
            for argument in written {
                self.expr(&argument.value, scope.inside());
            }
            return None;
        };
        let assigned = self.assign(signature, op, written, scope);
        let args = self.fill(signature, op, assigned, scope)?;
        let value = match signature.kind {
            OpKind::Config => Value::Config {
                op: signature.name,
                args,
            },
            OpKind::Stage => Value::Stage(self.stages.add(signature, args, scope, span)),
        };
        Some(TypedValue::one(value, signature.output))
    }

    fn unknown_op(&mut self, op: &Name) {
        let signatures = self.signatures;
        let help = if self.names.contains_key(op.text) {
            format!(
                "`{}` is a name of this file, not an op: use it without brackets",
                op.text
            )
        } else if let Some(ops) = ops_under(signatures, op.text) {
            format!("choose one of {ops}")
        } else if let Some(near) = self.nearest(op.text, signatures.ops().map(|op| op.name)) {
            format!("did you mean `{near}`?")
        } else {
            "`blip ops` lists all ops".to_owned()
        };
        let message = format!("unknown op `{}`", op.text);
        let diagnostic = Diagnostic::error(codes::UNKNOWN_OP, message);
        self.report(diagnostic.at(op.span, "called here").help(help));
    }

    /// Assigns the written arguments. Positional ones fill the arguments of the signature in order,
    /// a variadic one takes the rest. A bare name that is also an argument's name is for that
    /// argument: `seed`.
    fn assign<'e>(
        &mut self,
        signature: &Signature,
        op: &Name,
        written: &'e [Argument],
        scope: NameScope<'_>,
    ) -> Assigned<'e> {
        let mut assigned = Assigned {
            first: vec![None; signature.args.len()],
            further: Vec::new(),
            complete: true,
        };
        let mut next_positional = 0;
        let mut after_named = false;
        for argument in written {
            let positional = signature.args.get(next_positional);
            let target = if let Some(name) = &argument.name {
                after_named = true;
                self.named_argument(signature, op, name)
            } else if let Some(target) = shorthand(signature, positional, argument) {
                after_named = true;
                Some(target)
            } else if after_named {
                self.positional_after_named(signature, argument);
                None
            } else if let Some(arg) = positional {
                let target = (next_positional, arg);
                next_positional += usize::from(!arg.variadic);
                Some(target)
            } else {
                self.too_many(signature, op, argument);
                None
            };
            if !self.put(&mut assigned, target, argument) {
                // It is not evaluated with the others: report the errors inside of it now.
                self.expr(&argument.value, scope.inside());
                assigned.complete = false;
            }
        }
        assigned
    }

    /// Assigns a written argument to `target`; false if there is none, or it is taken.
    fn put<'e>(
        &mut self,
        assigned: &mut Assigned<'e>,
        target: Option<(usize, &Arg)>,
        argument: &'e Argument<'e>,
    ) -> bool {
        let Some((at, arg)) = target else {
            return false;
        };
        match assigned.first.get_mut(at) {
            None => false,
            Some(slot @ None) => {
                *slot = Some(argument);
                true
            }
            Some(Some(first)) => {
                let both_positional = argument.name.is_none() && first.name.is_none();
                if arg.variadic && both_positional {
                    assigned.further.push(argument);
                    return true;
                }
                self.repeated(arg, argument, first);
                false
            }
        }
    }

    /// The argument of this name, and its index.
    fn named_argument<'s>(
        &mut self,
        signature: &'s Signature,
        op: &Name,
        name: &Name,
    ) -> Option<(usize, &'s Arg)> {
        let mut args = signature.args.iter().enumerate();
        let found = args.find(|(_, arg)| arg.name == name.text);
        if found.is_none() {
            let known = signature.args.iter().map(|arg| arg.name);
            let help = match self.nearest(name.text, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => list_arguments(signature),
            };
            let message = format!("`{}` has no argument `{}`", op.text, name.text);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_ARGUMENT, message);
            self.report(diagnostic.at(name.span, "unknown argument").help(help));
        }
        found
    }

    fn positional_after_named(&mut self, signature: &Signature, argument: &Argument) {
        let message = "a positional argument follows a named one";
        let help = format!("name it, `name = …`; {}", list_arguments(signature));
        let diagnostic = Diagnostic::error(codes::POSITIONAL_AFTER_NAMED, message);
        self.report(
            diagnostic
                .at(argument.span, "positional argument")
                .help(help),
        );
    }

    fn too_many(&mut self, signature: &Signature, op: &Name, argument: &Argument) {
        let message = match signature.args.len() {
            0 => format!("`{}` takes no arguments", op.text),
            1 => format!("`{}` takes only one argument", op.text),
            count => format!("`{}` takes at most {count} arguments", op.text),
        };
        let diagnostic = Diagnostic::error(codes::TOO_MANY_ARGUMENTS, message)
            .at(argument.span, "unexpected argument")
            .help(list_arguments(signature));
        self.report(diagnostic);
    }

    fn repeated(&mut self, arg: &Arg, argument: &Argument, first: &Argument) {
        let name = arg.name;
        let by_shorthand = argument.name.is_none()
            && matches!(&argument.value.kind, ExprKind::Name(value) if *value == name);
        let help = if by_shorthand {
            format!(
                "a bare name that is an argument's name is for that argument; for another one \
                 write `name = {name}`"
            )
        } else {
            "keep one of them".to_owned()
        };
        let message = format!("the argument `{name}` is given twice");
        let diagnostic = Diagnostic::error(codes::REPEATED_ARGUMENT, message)
            .at(argument.span, "given again here")
            .note(first.span, "first given here")
            .help(help);
        self.report(diagnostic);
    }

    /// Evaluates all arguments and fills in defaults.
    fn fill(
        &mut self,
        signature: &Signature,
        op: &Name,
        assigned: Assigned<'_>,
        scope: NameScope<'_>,
    ) -> Option<Arguments> {
        let signatures = self.signatures;
        let mut args = Vec::with_capacity(signature.args.len());
        let mut missing = Vec::new();
        let mut ok = assigned.complete;
        for (arg, written) in signature.args.iter().zip(assigned.first) {
            let value = match (written, arg.default) {
                (Some(first), _) if arg.variadic => {
                    self.variadic(arg, op.text, first, &assigned.further, scope)
                }
                (Some(written), _) => self
                    .expr(&written.value, scope.inside())
                    .and_then(|typed| self.argument(arg, op.text, &typed, &written.value)),
                (None, ArgDefault::Required) => {
                    missing.push(arg);
                    continue;
                }
                (None, ArgDefault::Optional) if arg.variadic => Some(Value::List(Vec::new())),
                (None, ArgDefault::Optional) => Some(Value::Absent),
                (None, ArgDefault::Value(_)) => {
                    signatures.default(signature.name, arg.name).cloned()
                }
            };
            ok &= value.is_some();
            args.extend(value.map(|value| (arg.name, value)));
        }
        // A written argument that could not be assigned was reported, and is probably the one that
        // is missing.
        if !missing.is_empty() && assigned.complete {
            self.missing(op, &missing);
        }
        (ok && missing.is_empty()).then(|| args.into_iter().collect())
    }

    fn missing(&mut self, op: &Name, missing: &[&Arg]) {
        let names = missing.iter().map(|arg| format!("`{}`", arg.name));
        let names: Vec<String> = names.collect();
        let (arguments, names) = match names.as_slice() {
            [] => return,
            [one] => ("argument", one.clone()),
            [first @ .., last] => ("arguments", format!("{} and {last}", first.join(", "))),
        };
        let help: Vec<String> = missing.iter().map(|arg| describe(arg)).collect();
        let message = format!("`{}` is missing the {arguments} {names}", op.text);
        let diagnostic = Diagnostic::error(codes::MISSING_ARGUMENT, message)
            .at(op.span, "called here")
            .help(help.join("; "));
        self.report(diagnostic);
    }

    /// Checks one value of an argument.
    fn argument(&mut self, arg: &Arg, op: &str, typed: &TypedValue, expr: &Expr) -> Option<Value> {
        let argument = format_args!("the argument `{}` of `{op}`", arg.name);
        let value = self.coerce(typed, arg.ty, expr, &argument)?;
        if let Some(range) = arg.range {
            self.check_range(&value, arg.ty, range, expr.span, &argument)?;
        }
        Some(value)
    }

    /// Evaluates the default of an argument, which stands outside of any call.
    pub(super) fn default_argument(&mut self, arg: &Arg, op: &str, expr: &Expr) -> Option<Value> {
        let typed = self.expr(expr, NameScope::unnamed())?;
        if arg.variadic && matches!(typed.value, Value::List(_)) {
            return self.spread(arg, op, &typed, expr).map(Value::List);
        }
        self.argument(arg, op, &typed, expr)
    }

    /// Evaluates a variadic argument, all of its values before the first failed one ends it.
    fn variadic(
        &mut self,
        arg: &Arg,
        op: &str,
        first: &Argument,
        further: &[&Argument],
        scope: NameScope<'_>,
    ) -> Option<Value> {
        let mut values = Vec::new();
        let mut ok = true;
        for written in std::iter::once(first).chain(further.iter().copied()) {
            let spread = self
                .expr(&written.value, scope.inside())
                .and_then(|typed| self.spread(arg, op, &typed, &written.value));
            ok &= spread.is_some();
            values.extend(spread.into_iter().flatten());
        }
        ok.then_some(Value::List(values))
    }

    /// The values that one written value of a variadic argument stands for: a list stands for its
    /// values, unless it is one value of the argument as a whole.
    fn spread(
        &mut self,
        arg: &Arg,
        op: &str,
        typed: &TypedValue,
        expr: &Expr,
    ) -> Option<Vec<Value>> {
        let is_one_value = matches!(arg.ty, Type::List(_)) && typed.as_type(arg.ty).is_some();
        let elements = typed.elements().filter(|_| !is_one_value);
        let Some(elements) = elements else {
            return self.argument(arg, op, typed, expr).map(|value| vec![value]);
        };
        // The expression of each value, if the list is written out in the call.
        let exprs: &[Expr] = match &expr.kind {
            ExprKind::List(exprs) => exprs,
            _ => &[],
        };
        let mut values = Vec::with_capacity(elements.len());
        for (at, typed) in elements.iter().enumerate() {
            values.push(self.argument(arg, op, typed, exprs.get(at).unwrap_or(expr)));
        }
        values.into_iter().collect()
    }
}

/// The ops whose names begin with `name` and a dot: `read.captions`, `read.scenes`.
fn ops_under(signatures: &Signatures, name: &str) -> Option<String> {
    let is_under = |op: &&Signature| {
        let rest = op.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let ops = signatures.ops().filter(is_under);
    let names: Vec<String> = ops.map(|op| format!("`{}`", op.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The argument that a bare name is for because it is the argument's name. None for the argument
/// that it would be for by its position anyway: it then stays positional.
fn shorthand<'s>(
    signature: &'s Signature,
    positional: Option<&Arg>,
    argument: &Argument,
) -> Option<(usize, &'s Arg)> {
    let ExprKind::Name(name) = &argument.value.kind else {
        return None;
    };
    if positional.is_some_and(|arg| arg.name == *name) {
        return None;
    }
    let mut args = signature.args.iter().enumerate();
    args.find(|(_, arg)| arg.name == *name && !arg.variadic)
}

/// "its arguments are …".
fn list_arguments(signature: &Signature) -> String {
    let names: Vec<&str> = signature.args.iter().map(|arg| arg.name).collect();
    match names.as_slice() {
        [] => "it has no arguments".to_owned(),
        [one] => format!("its argument is {one}"),
        names => format!("its arguments are {}", names.join(", ")),
    }
}

/// "`file` is a path: the list of words".
fn describe(arg: &Arg) -> String {
    let doc = arg.doc.trim_end_matches('.');
    format!("`{}` is {}: {doc}", arg.name, with_article(arg.ty))
}
