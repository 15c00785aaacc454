//! `blip ops`: the reference of ops and export formats, made of their declarations.

use blip_grammar::{Arg, Default, ExportFormat, Kind, Signature, Signatures, nearest};
use serde_json::{Value, json};

use crate::args::{Format, Ops};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::table::{Table, fold};

/// Descriptions are folded so that lines are no longer than this.
const WIDTH: usize = 120;

/// Lists everything, or explains one name.
pub(crate) fn run(args: &Ops, console: &mut Console) -> Result<u8, Failure> {
    let signatures = blip_ops::all()
        .signatures()
        .expect("the declarations of ops are right: a test walks them");
    match &args.name {
        None => list(&signatures, args.format, console),
        Some(name) => explain(&signatures, name, args.format, console)?,
    }
    Ok(exit_code::DONE)
}

fn list(signatures: &Signatures, format: Format, console: &mut Console) {
    if format == Format::Json {
        signatures
            .ops()
            .for_each(|op| console.line(op_json(op).to_string()));
        signatures
            .formats()
            .for_each(|format| console.line(format_json(format).to_string()));
        return;
    }
    let mut table = Table::new(&["op", "makes", "what it does"]);
    for op in signatures.ops() {
        table.row(vec![
            (op.name.to_owned(), Style::Strong),
            (op.output.to_string(), Style::Dim),
            (first_sentence(op.doc).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
    console.line("");
    let mut table = Table::new(&["export as", "takes", "what it writes"]);
    for format in signatures.formats() {
        table.row(vec![
            (format.name.to_owned(), Style::Strong),
            (accepts(format), Style::Dim),
            (first_sentence(format.doc).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
    console.line("");
    console.line("`blip ops NAME` tells everything about one of them.");
}

fn explain(
    signatures: &Signatures,
    name: &str,
    format: Format,
    console: &mut Console,
) -> Result<(), Failure> {
    match (signatures.op(name), signatures.format(name), format) {
        (Some(op), _, Format::Json) => console.line(op_json(op).to_string()),
        (Some(op), _, Format::Text) => op_text(op, console),
        (None, Some(format), Format::Json) => console.line(format_json(format).to_string()),
        (None, Some(format), Format::Text) => {
            console.pieces(&[
                ("export … as ", Style::Plain),
                (format.name, Style::Strong),
                (" \"path\"", Style::Plain),
            ]);
            console.line(format!(
                "\n{}\n\nTakes {}.",
                fold(format.doc, WIDTH).join("\n"),
                accepts(format)
            ));
        }
        (None, None, _) => {
            let names = signatures
                .ops()
                .map(|op| op.name)
                .chain(signatures.formats().map(|format| format.name));
            let help = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`blip ops` lists all of them".to_owned(),
            };
            return Err(
                Fault::usage(format!("there is no op or export format `{name}`"), help).into(),
            );
        }
    }
    Ok(())
}

fn op_text(op: &Signature, console: &mut Console) {
    console.pieces(&[
        (op.name, Style::Strong),
        (&op.to_string()[op.name.len()..], Style::Plain),
    ]);
    console.line(format!("\n{}", fold(op.doc, WIDTH).join("\n")));
    if !op.args.is_empty() {
        console.line("");
        let mut table = Table::new(&["argument", "type", "default", "range", ""]);
        for arg in &op.args {
            table.row(vec![
                (arg.name.to_owned(), Style::Strong),
                (type_text(arg), Style::Plain),
                (default_text(arg), Style::Plain),
                (range_text(arg), Style::Plain),
                (doc_text(arg), Style::Plain),
            ]);
        }
        table.print(console, "  ");
    }
    console.line(format!(
        "\nExample:\n\n    {}",
        op.example.replace('\n', "\n    ")
    ));
    if op.kind == Kind::Config {
        console.line("\nA call is a value, passed to other ops; it does not run by itself.");
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
        Default::Required => "has to be given".to_owned(),
        Default::Optional => "none".to_owned(),
        Default::Is(text) => text.to_owned(),
    }
}

fn range_text(arg: &Arg) -> String {
    arg.range_text().unwrap_or_default()
}

fn doc_text(arg: &Arg) -> String {
    let neutral = if arg.not_in_key {
        " (does not change the result)"
    } else {
        ""
    };
    format!("{}{neutral}", arg.doc)
}

fn accepts(format: &ExportFormat) -> String {
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
    let args: Vec<Value> = op
        .args
        .iter()
        .map(|arg| {
            let default = match arg.default {
                Default::Is(text) => Some(text),
                Default::Required | Default::Optional => None,
            };
            json!({
                "name": arg.name,
                "type": arg.ty.to_string(),
                "required": arg.default == Default::Required,
                "default": default,
                "range": arg.range_text(),
                "variadic": arg.variadic,
                "neutral": arg.not_in_key,
                "doc": arg.doc,
            })
        })
        .collect();
    let kind = match op.kind {
        Kind::Stage => "stage",
        Kind::Config => "config",
    };
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

fn format_json(format: &ExportFormat) -> Value {
    let accepts: Vec<String> = format.accepts.iter().map(ToString::to_string).collect();
    json!({ "format": format.name, "doc": format.doc, "accepts": accepts })
}
