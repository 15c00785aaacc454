//! Whether a declaration makes sense, so that mistakes of those who write ops are found before any
//! workflow is checked.

use std::collections::BTreeSet;

use super::{Arg, Default, ExportFormat, Signature, SignatureError, Signatures};
use crate::check::{default_value, is_ordered};
use crate::parser::{RESERVED, is_ident};
use crate::types::Type;

/// An op by itself.
pub(super) fn op(op: &Signature) -> Result<(), SignatureError> {
    let fault = |what: String| Err(SignatureError::new(op.name, what));
    if !op.name.split('.').all(is_ident) || RESERVED.contains(&op.name) {
        return fault("its name is none that the language can call".to_owned());
    }
    let mut names = BTreeSet::new();
    for arg in &op.args {
        if !is_ident(arg.name) || RESERVED.contains(&arg.name) {
            return fault(format!(
                "the language cannot write the argument `{}`",
                arg.name
            ));
        }
        if !names.insert(arg.name) {
            return fault(format!("the argument `{}` is declared twice", arg.name));
        }
        if let Some(what) = argument(arg) {
            return fault(format!("the argument `{}` {what}", arg.name));
        }
    }
    if op.args.iter().filter(|arg| arg.variadic).count() > 1 {
        return fault("two arguments are variadic".to_owned());
    }
    Ok(())
}

fn argument(arg: &Arg) -> Option<&'static str> {
    match arg.range {
        Some(_) if !is_ordered(arg.ty) => Some("has a range, but its type has no order"),
        Some((low, high)) if low.is_nan() || high.is_nan() || low > high => {
            Some("has an empty range")
        }
        _ if arg.ty == Type::Choice(&[]) || arg.ty == Type::OneOf(&[]) => {
            Some("takes nothing at all")
        }
        _ => None,
    }
}

/// An export format by itself.
pub(super) fn format(format: &ExportFormat) -> Result<(), SignatureError> {
    if !is_ident(format.name) {
        return Err(SignatureError::new(
            format.name,
            "its name is none that the language can write",
        ));
    }
    if format.accepts.is_empty() {
        return Err(SignatureError::new(format.name, "it takes nothing at all"));
    }
    Ok(())
}

/// Works out the defaults of all arguments. One may call a config op and so need its defaults:
/// those that do wait for a further round.
pub(super) fn defaults(signatures: &mut Signatures) -> Result<(), SignatureError> {
    let mut open: Vec<(&'static str, Arg, &'static str)> = Vec::new();
    for op in signatures.ops.values() {
        open.extend(op.args.iter().filter_map(|arg| match arg.default {
            Default::Is(text) => Some((op.name, arg.clone(), text)),
            _ => None,
        }));
    }
    while !open.is_empty() {
        let mut waiting = Vec::new();
        let mut found = Vec::new();
        for (op, arg, text) in open {
            match default_value(text, op, &arg, signatures) {
                Ok(Some(value)) => found.push(((op, arg.name), value)),
                Ok(None) => waiting.push((op, arg, text)),
                Err(problem) => {
                    let what = format!(
                        "the default of the argument `{}` does not fit: {}",
                        arg.name, problem.message
                    );
                    return Err(SignatureError::new(op, what));
                }
            }
        }
        if let (true, Some((op, arg, _))) = (found.is_empty(), waiting.first()) {
            return Err(SignatureError::new(
                op,
                format!("the default of the argument `{}` needs itself", arg.name),
            ));
        }
        signatures.defaults.extend(found);
        open = waiting;
    }
    Ok(())
}
