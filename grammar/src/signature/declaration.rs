//! Checks declarations, so that a mistake in an op is found before any workflow is.

use std::collections::BTreeSet;

use super::{Arg, ArgDefault, ExportFormat, Signature, SignatureError, Signatures};
use crate::check::{default_value, is_ordered};
use crate::parser::{RESERVED, is_ident};
use crate::types::Type;

/// Checks an op by itself; its defaults are checked by [`evaluate_defaults`].
pub(super) fn check_op(op: &Signature) -> Result<(), SignatureError> {
    let error = |what: String| Err(SignatureError::new(op.name, what));
    if !op.name.split('.').all(is_ident) || RESERVED.contains(&op.name) {
        return error("the name is not a valid op name".to_owned());
    }
    let mut names = BTreeSet::new();
    for arg in &op.args {
        if !is_ident(arg.name) || RESERVED.contains(&arg.name) {
            return error(format!("`{}` is not a valid argument name", arg.name));
        }
        if !names.insert(arg.name) {
            return error(format!("the argument `{}` is declared twice", arg.name));
        }
        if let Some(what) = problem_with(arg) {
            return error(format!("the argument `{}` {what}", arg.name));
        }
    }
    if op.args.iter().filter(|arg| arg.variadic).count() > 1 {
        return error("two arguments are variadic".to_owned());
    }
    Ok(())
}

fn problem_with(arg: &Arg) -> Option<&'static str> {
    match arg.range {
        Some(_) if !is_ordered(arg.ty) => Some("has a range, but its type has no order"),
        Some((low, high)) if low.is_nan() || high.is_nan() || low > high => {
            Some("has an empty range")
        }
        _ if arg.ty == Type::Choice(&[]) || arg.ty == Type::OneOf(&[]) => Some("accepts no value"),
        _ => None,
    }
}

/// Checks an export format.
pub(super) fn check_format(format: &ExportFormat) -> Result<(), SignatureError> {
    let error = |what| Err(SignatureError::new(format.name, what));
    if !is_ident(format.name) {
        return error("the name is not a valid format name");
    }
    if format.accepts.is_empty() {
        return error("it accepts no type");
    }
    Ok(())
}

/// An argument whose default is not evaluated yet.
struct Unevaluated {
    op: &'static str,
    arg: Arg,
    text: &'static str,
}

/// Evaluates the defaults of all arguments. A default may call a config op and so depend on that
/// op's defaults: rounds go on as long as each evaluates at least one.
pub(super) fn evaluate_defaults(signatures: &mut Signatures) -> Result<(), SignatureError> {
    let mut pending = all_defaults(signatures);
    while !pending.is_empty() {
        let mut deferred = Vec::new();
        let mut evaluated = Vec::new();
        for default in pending {
            match default_value(default.text, default.op, &default.arg, signatures) {
                Ok(Some(value)) => evaluated.push(((default.op, default.arg.name), value)),
                Ok(None) => deferred.push(default),
                Err(problem) => {
                    let what = format!(
                        "the default of the argument `{}` is invalid: {}",
                        default.arg.name, problem.message
                    );
                    return Err(SignatureError::new(default.op, what));
                }
            }
        }
        if let (true, Some(Unevaluated { op, arg, .. })) = (evaluated.is_empty(), deferred.first())
        {
            let what = format!(
                "the default of the argument `{}` depends on itself",
                arg.name
            );
            return Err(SignatureError::new(op, what));
        }
        signatures.defaults.extend(evaluated);
        pending = deferred;
    }
    Ok(())
}

fn all_defaults(signatures: &Signatures) -> Vec<Unevaluated> {
    let mut defaults = Vec::new();
    for op in signatures.ops.values() {
        for arg in &op.args {
            if let ArgDefault::Value(text) = arg.default {
                let arg = arg.clone();
                defaults.push(Unevaluated {
                    op: op.name,
                    arg,
                    text,
                });
            }
        }
    }
    defaults
}
