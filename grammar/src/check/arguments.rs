//! Calls: which value goes to which argument, defaults, and the stage or config value that comes of
//! it.

use super::Checker;
use super::stages::Place;
use super::values::{Found, Typed, article, coerce};
use crate::arguments::Arguments;
use crate::ast::{Argument, Expr, ExprKind, Name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::Value;
use crate::signature::{Arg, Default, Kind, Signature, Signatures};
use crate::span::Span;
use crate::types::Type;

/// What was written in a call, argument by argument of the signature.
struct Assigned<'e> {
    /// The value of each argument: of a variadic one the first.
    first: Vec<Option<&'e Argument<'e>>>,
    /// The further values of the variadic one.
    further: Vec<&'e Argument<'e>>,
    /// Whether every value found its argument.
    good: bool,
}

impl Checker<'_> {
    /// The value of a call.
    pub(super) fn call(
        &mut self,
        span: Span,
        op: &Name,
        written: &[Argument],
        place: Place<'_>,
    ) -> Option<Typed> {
        let signatures = self.signatures;
        let Some(signature) = signatures.op(op.text) else {
            self.unknown_op(op);
            // Faults inside the arguments are worth telling all the same.
            written.iter().for_each(|argument| {
                self.expr(&argument.value, place.inside());
            });
            return None;
        };
        let assigned = self.assign(signature, op, written, place);
        let args = self.fill(signature, op, assigned, place)?;
        let value = match signature.kind {
            Kind::Config => Value::Config {
                op: signature.name,
                args,
            },
            Kind::Stage => Value::Stage(self.stages.add(signature, args, place, span)),
        };
        Some((value, Found::One(signature.output)))
    }

    fn unknown_op(&mut self, op: &Name) {
        let signatures = self.signatures;
        let help = if self.names.contains_key(op.text) {
            format!(
                "`{}` is a name of this file, not an op: use it without brackets",
                op.text
            )
        } else if let Some(family) = family(signatures, op.text) {
            format!("choose one of {family}")
        } else if let Some(near) = self.nearest(op.text, signatures.ops().map(|op| op.name)) {
            format!("did you mean `{near}`?")
        } else {
            "`blip ops` lists all ops".to_owned()
        };
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_OP, format!("there is no op `{}`", op.text));
        self.report(diagnostic.at(op.span, "called here").help(help));
    }

    /// Which written value is for which argument. Positional values fill the arguments in order, a
    /// variadic one takes the rest; a bare name that is also an argument's name is for that
    /// argument (`seed`).
    fn assign<'e>(
        &mut self,
        signature: &Signature,
        op: &Name,
        written: &'e [Argument],
        place: Place<'_>,
    ) -> Assigned<'e> {
        let mut assigned = Assigned {
            first: vec![None; signature.args.len()],
            further: Vec::new(),
            good: true,
        };
        let mut next = 0;
        let mut named = false;
        for argument in written {
            let positional = signature.args.get(next).map(|arg| (next, arg));
            let arg = if let Some(name) = &argument.name {
                named = true;
                self.named(signature, op, name)
            } else if let Some(arg) = shorthand(signature, positional.map(|(_, arg)| arg), argument)
            {
                named = true;
                Some(arg)
            } else if named {
                self.positional_after_named(signature, argument);
                None
            } else if let Some((_, arg)) = positional {
                next += usize::from(!arg.variadic);
                positional
            } else {
                self.too_many(signature, op, argument);
                None
            };
            let slot = arg.and_then(|(at, arg)| Some((arg, assigned.first.get_mut(at)?)));
            match slot {
                Some((_, slot @ None)) => *slot = Some(argument),
                Some((arg, Some(first)))
                    if arg.variadic && argument.name.is_none() && first.name.is_none() =>
                {
                    assigned.further.push(argument);
                }
                slot => {
                    if let Some((arg, Some(first))) = slot {
                        self.repeated(arg, argument, first);
                    }
                    self.expr(&argument.value, place.inside());
                    assigned.good = false;
                }
            }
        }
        assigned
    }

    /// The argument of this name, and which it is.
    fn named<'s>(
        &mut self,
        signature: &'s Signature,
        op: &Name,
        name: &Name,
    ) -> Option<(usize, &'s Arg)> {
        let found = signature
            .args
            .iter()
            .enumerate()
            .find(|(_, arg)| arg.name == name.text);
        if found.is_none() {
            let message = format!("`{}` has no argument `{}`", op.text, name.text);
            let help = match self.nearest(name.text, signature.args.iter().map(|arg| arg.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => arguments_of(signature),
            };
            self.report(
                Diagnostic::error(codes::UNKNOWN_ARGUMENT, message)
                    .at(name.span, "named here")
                    .help(help),
            );
        }
        found
    }

    fn positional_after_named(&mut self, signature: &Signature, argument: &Argument) {
        let diagnostic = Diagnostic::error(
            codes::POSITIONAL_AFTER_NAMED,
            "a positional argument stands behind a named one",
        )
        .at(argument.span, "which argument is this?")
        .help(format!("name it, `name = …`; {}", arguments_of(signature)));
        self.report(diagnostic);
    }

    fn too_many(&mut self, signature: &Signature, op: &Name, argument: &Argument) {
        let message = match signature.args.len() {
            0 => format!("`{}` takes no arguments", op.text),
            1 => format!("`{}` takes only one argument", op.text),
            count => format!("`{}` takes at most {count} arguments", op.text),
        };
        let diagnostic = Diagnostic::error(codes::TOO_MANY_ARGUMENTS, message)
            .at(argument.span, "this one is too much");
        self.report(diagnostic.help(arguments_of(signature)));
    }

    fn repeated(&mut self, arg: &Arg, argument: &Argument, first: &Argument) {
        let diagnostic = Diagnostic::error(
            codes::REPEATED_ARGUMENT,
            format!("the argument `{}` is given twice", arg.name),
        )
        .at(argument.span, "the second time")
        .note(first.span, "the first time");
        let by_name = argument.name.is_none()
            && matches!(&argument.value.kind, ExprKind::Name(name) if *name == arg.name);
        self.report(diagnostic.help(if by_name {
            format!(
                "a bare name that is an argument's name is for that argument; for another one write `name = {}`",
                arg.name
            )
        } else {
            "keep one of them".to_owned()
        }));
    }

    /// All arguments with their values, defaults filled in.
    fn fill(
        &mut self,
        signature: &Signature,
        op: &Name,
        assigned: Assigned<'_>,
        place: Place<'_>,
    ) -> Option<Arguments> {
        let signatures = self.signatures;
        let mut args = Vec::with_capacity(signature.args.len());
        let mut missing = Vec::new();
        let mut good = assigned.good;
        for (arg, given) in signature.args.iter().zip(assigned.first) {
            let value = match given {
                Some(first) if arg.variadic => {
                    // Only positional values are more than one, and of those the first variadic
                    // argument takes all.
                    let further = if first.name.is_none() {
                        assigned.further.as_slice()
                    } else {
                        &[]
                    };
                    self.variadic(
                        arg,
                        op.text,
                        std::iter::once(first).chain(further.iter().copied()),
                        place,
                    )
                }
                Some(given) => self
                    .expr(&given.value, place.inside())
                    .and_then(|typed| self.argument(arg, op.text, &typed, &given.value)),
                None => match arg.default {
                    Default::Required => {
                        missing.push(arg);
                        continue;
                    }
                    Default::Optional if arg.variadic => Some(Value::List(Vec::new())),
                    Default::Optional => Some(Value::Absent),
                    Default::Is(_) => signatures.default(signature.name, arg.name).cloned(),
                },
            };
            good &= value.is_some();
            args.extend(value.map(|value| (arg.name, value)));
        }
        // Where a value found no argument, that was told, and is probably the one that is missing.
        if !missing.is_empty() && assigned.good {
            self.missing(op, &missing);
        }
        (good && missing.is_empty()).then(|| args.into_iter().collect())
    }

    fn missing(&mut self, op: &Name, missing: &[&Arg]) {
        let names: Vec<String> = missing
            .iter()
            .map(|arg| format!("`{}`", arg.name))
            .collect();
        let what: Vec<String> = missing
            .iter()
            .map(|arg| {
                format!(
                    "`{}` is {}: {}",
                    arg.name,
                    article(arg.ty),
                    arg.doc.trim_end_matches('.')
                )
            })
            .collect();
        let (list, s) = match names.as_slice() {
            [one] => (one.clone(), ""),
            [first @ .., last] => (format!("{} and {last}", first.join(", ")), "s"),
            [] => return,
        };
        let diagnostic = Diagnostic::error(
            codes::MISSING_ARGUMENT,
            format!("`{}` lacks the argument{s} {list}", op.text),
        );
        self.report(diagnostic.at(op.span, "called here").help(what.join("; ")));
    }

    /// The value of an argument that takes one.
    fn argument(&mut self, arg: &Arg, op: &str, typed: &Typed, expr: &Expr) -> Option<Value> {
        let what = format_args!("the argument `{}` of `{op}`", arg.name);
        let value = self.fit(typed, arg.ty, expr, &what)?;
        if let Some(range) = arg.range {
            self.within(&value, arg.ty, range, expr.span, &what)?;
        }
        Some(value)
    }

    /// The value of an argument, outside of any call.
    pub(super) fn argument_value(&mut self, arg: &Arg, op: &str, expr: &Expr) -> Option<Value> {
        let typed = self.expr(expr, Place::value_of("").inside())?;
        match typed {
            (Value::List(_), _) if arg.variadic => {
                self.variadic_values(arg, op, &typed, expr).map(Value::List)
            }
            _ => self.argument(arg, op, &typed, expr),
        }
    }

    /// The values of a variadic argument. A list among them stands for its values.
    fn variadic<'e>(
        &mut self,
        arg: &Arg,
        op: &str,
        given: impl Iterator<Item = &'e Argument<'e>>,
        place: Place<'_>,
    ) -> Option<Value> {
        let mut values = Vec::new();
        let mut good = true;
        for given in given {
            let typed = self.expr(&given.value, place.inside());
            let found = typed.and_then(|typed| self.variadic_values(arg, op, &typed, &given.value));
            good &= found.is_some();
            values.extend(found.into_iter().flatten());
        }
        good.then_some(Value::List(values))
    }

    fn variadic_values(
        &mut self,
        arg: &Arg,
        op: &str,
        typed: &Typed,
        expr: &Expr,
    ) -> Option<Vec<Value>> {
        let (value, found) = typed;
        let (Value::List(values), Found::List(found)) = (value, found) else {
            return self.argument(arg, op, typed, expr).map(|value| vec![value]);
        };
        if matches!(arg.ty, Type::List(_))
            && coerce(value, &Found::List(found.clone()), arg.ty).is_some()
        {
            return self.argument(arg, op, typed, expr).map(|value| vec![value]);
        }
        let written: &[Expr] = match &expr.kind {
            ExprKind::List(exprs) => exprs,
            _ => &[],
        };
        let each = values
            .iter()
            .zip(found)
            .enumerate()
            .map(|(at, (value, found))| {
                let typed = (value.clone(), found.clone());
                self.argument(arg, op, &typed, written.get(at).unwrap_or(expr))
            });
        let each: Vec<Option<Value>> = each.collect();
        each.into_iter().collect()
    }
}

/// The ops whose names begin with `name` and a dot: `read.captions`, `read.scenes`.
fn family(signatures: &Signatures, name: &str) -> Option<String> {
    let of_it = |op: &&Signature| {
        op.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let names: Vec<String> = signatures
        .ops()
        .filter(of_it)
        .map(|op| format!("`{}`", op.name))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The argument that a bare name is for because it is the argument's own, if it does not stand in
/// its place anyway.
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
    signature
        .args
        .iter()
        .enumerate()
        .find(|(_, arg)| arg.name == *name && !arg.variadic)
}

/// "its arguments are …".
fn arguments_of(signature: &Signature) -> String {
    let names: Vec<&str> = signature.args.iter().map(|arg| arg.name).collect();
    match names.as_slice() {
        [] => "it has no arguments".to_owned(),
        [one] => format!("its argument is {one}"),
        names => format!("its arguments are {}", names.join(", ")),
    }
}
