//! `blip ops`: the reference of ops and export formats, generated from their declarations.

use blip_grammar::{Arg, ArgDefault, ExportFormat, OpKind, Signature, Signatures, nearest};
use serde_json::{Value, json};

use crate::args::{Format, Ops};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::exit_code;
use crate::table::{Table, wrap};

const WIDTH: usize = 120;

pub(crate) fn run(args: &Ops, console: &mut Console) -> Result<u8, CommandError> {
    let signatures = blip_ops::all()
        .signatures()
        .expect("the declarations of ops are valid: a test checks them");
    match (&args.name, args.format) {
        (Some(name), format) => describe(&signatures, name, format, console)?,
        (None, Format::Text) => print_list(&signatures, console),
        (None, Format::Json) => print_json(&signatures, console),
    }
    Ok(exit_code::SUCCESS)
}

fn print_list(signatures: &Signatures, console: &mut Console) {
    let mut table = Table::new(&["op", "returns", "description"]);
    for op in signatures.ops() {
        table.row(vec![
            (op.name.to_owned(), Style::Strong),
            (op.output.to_string(), Style::Dim),
            (first_sentence(op.doc).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
    console.line("");
    let mut table = Table::new(&["export as", "accepts", "description"]);
    for format in signatures.formats() {
        table.row(vec![
            (format.name.to_owned(), Style::Strong),
            (accepted_types(format), Style::Dim),
            (first_sentence(format.doc).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
    console.line("");
    console.line("Run `blip ops NAME` for details.");
}

fn print_json(signatures: &Signatures, console: &mut Console) {
    for op in signatures.ops() {
        console.json(&op_json(op));
    }
    for format in signatures.formats() {
        console.json(&format_json(format));
    }
}

/// Describes the op or the export format of this name.
fn describe(
    signatures: &Signatures,
    name: &str,
    format: Format,
    console: &mut Console,
) -> Result<(), ErrorMessage> {
    match (signatures.op(name), signatures.format(name)) {
        (Some(op), _) if format == Format::Json => console.json(&op_json(op)),
        (Some(op), _) => print_op(op, console),
        (None, Some(export)) if format == Format::Json => {
            console.json(&format_json(export));
        }
        (None, Some(export)) => print_format(export, console),
        (None, None) => return Err(unknown_name(signatures, name)),
    }
    Ok(())
}

fn unknown_name(signatures: &Signatures, name: &str) -> ErrorMessage {
    let ops = signatures.ops().map(|op| op.name);
    let formats = signatures.formats().map(|format| format.name);
    let help = match nearest(name, ops.chain(formats)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "list them with `blip ops`".to_owned(),
    };
    ErrorMessage::usage(format!("there is no op or export format `{name}`"), help)
}

fn print_format(format: &ExportFormat, console: &mut Console) {
    console.styled(&[
        ("export … as ", Style::Plain),
        (format.name, Style::Strong),
        (" \"path\"", Style::Plain),
    ]);
    let description = wrap(format.doc, WIDTH).join("\n");
    let types = accepted_types(format);
    console.line(format!("\n{description}\n\nAccepts {types}."));
}

fn print_op(op: &Signature, console: &mut Console) {
    let signature = op.to_string();
    let arguments = signature.strip_prefix(op.name).unwrap_or(&signature);
    console.styled(&[(op.name, Style::Strong), (arguments, Style::Plain)]);
    console.line(format!("\n{}", wrap(op.doc, WIDTH).join("\n")));
    if !op.args.is_empty() {
        console.line("");
        let mut table = Table::new(&["argument", "type", "default", "range", ""]);
        for arg in &op.args {
            table.row(vec![
                (arg.name.to_owned(), Style::Strong),
                (type_text(arg), Style::Plain),
                (default_text(arg), Style::Plain),
                (arg.range_text().unwrap_or_default(), Style::Plain),
                (arg_description(arg), Style::Plain),
            ]);
        }
        table.print(console, "  ");
    }
    let example = op.example.replace('\n', "\n    ");
    console.line(format!("\nExample:\n\n    {example}"));
    if op.kind == OpKind::Config {
        console.line("\nA call is a value that is passed to other ops; it is not a stage.");
    }
}

fn type_text(arg: &Arg) -> String {
    if arg.variadic {
        format!("{} ...", arg.ty)
    } else {
        arg.ty.to_string()
    }
}

fn default_text(arg: &Arg) -> String {
    match arg.default {
        ArgDefault::Required => "required".to_owned(),
        ArgDefault::Optional => "none".to_owned(),
        ArgDefault::Value(text) => text.to_owned(),
    }
}

fn arg_description(arg: &Arg) -> String {
    if arg.not_in_key {
        format!("{} (does not change the result)", arg.doc)
    } else {
        arg.doc.to_owned()
    }
}

fn accepted_types(format: &ExportFormat) -> String {
    format
        .accepts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn first_sentence(doc: &str) -> &str {
    let line = doc.split('\n').next().unwrap_or(doc);
    line.find(". ").map_or(line, |at| &line[..=at])
}

fn op_json(op: &Signature) -> Value {
    let kind = match op.kind {
        OpKind::Stage => "stage",
        OpKind::Config => "config",
    };
    let args: Vec<Value> = op.args.iter().map(arg_json).collect();
    json!({
        "op": op.name,
        "kind": kind,
        "signature": op.to_string(),
        "doc": op.doc,
        "example": op.example,
        "args": args,
        "output": op.output.to_string(),
    })
}

fn arg_json(arg: &Arg) -> Value {
    let default = match arg.default {
        ArgDefault::Value(text) => Some(text),
        ArgDefault::Required | ArgDefault::Optional => None,
    };
    json!({
        "name": arg.name,
        "type": arg.ty.to_string(),
        "required": arg.default == ArgDefault::Required,
        "default": default,
        "range": arg.range_text(),
        "variadic": arg.variadic,
        "in_key": !arg.not_in_key,
        "doc": arg.doc,
    })
}

fn format_json(format: &ExportFormat) -> Value {
    let accepts: Vec<String> = format.accepts.iter().map(ToString::to_string).collect();
    json!({ "format": format.name, "doc": format.doc, "accepts": accepts })
}
