//! Trees and programs as text that is easy to read and compare.

use blip_grammar::ast::{Argument, Expr, ExprKind, File, StatementKind};
use blip_grammar::{Attributes, Program, Source};

/// The tree without spans: what is written, regardless of its layout.
pub(crate) fn tree(file: &File, source: &Source) -> String {
    let mut lines = Vec::new();
    for statement in &file.statements {
        for attribute in &statement.attributes {
            let argument = attribute
                .argument
                .as_ref()
                .map(|argument| format!(" {}", self::argument(argument)));
            lines.push(format!(
                "@{}{}",
                attribute.name.text,
                argument.unwrap_or_default()
            ));
        }
        lines.push(kind(&statement.kind));
    }
    lines.extend(
        file.unparsed
            .iter()
            .map(|name| format!("unparsed {}", name.text)),
    );
    lines.extend(
        file.comments
            .iter()
            .map(|comment| format!("comment {}", source.slice(*comment))),
    );
    text(&lines)
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn kind(kind: &StatementKind) -> String {
    match kind {
        StatementKind::Param {
            name,
            ty,
            default,
            range,
        } => {
            let ty = ty.as_ref().map_or(String::new(), |ty| format!(" : {ty}"));
            let default = default
                .as_ref()
                .map_or(String::new(), |default| format!(" = {}", expr(default)));
            let range = range.as_deref();
            let range = range.map_or(String::new(), |(low, high)| {
                format!(" in {} .. {}", expr(low), expr(high))
            });
            format!("param {}{ty}{default}{range}", name.text)
        }
        StatementKind::Binding { name, value } => format!("bind {} = {}", name.text, expr(value)),
        StatementKind::Export { name, format, path } => {
            format!("export {} as {} to {}", name.text, format.text, expr(path))
        }
    }
}

fn expr(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Error => "error".to_owned(),
        ExprKind::Int(number) => format!("int {number}"),
        ExprKind::Float(number) => format!("float {number:?}"),
        ExprKind::Str(text) => format!("string {text:?}"),
        ExprKind::Bool(value) => format!("bool {value}"),
        ExprKind::Duration(ms) => format!("duration {ms}ms"),
        ExprKind::Size(bytes) => format!("size {bytes}B"),
        ExprKind::Name(name) => format!("name {name}"),
        ExprKind::List(values) => format!(
            "[{}]",
            values.iter().map(self::expr).collect::<Vec<_>>().join("; ")
        ),
        ExprKind::Call { op, args } => {
            format!(
                "{}({})",
                op.text,
                args.iter().map(argument).collect::<Vec<_>>().join("; ")
            )
        }
    }
}

fn argument(argument: &Argument) -> String {
    match &argument.name {
        Some(name) => format!("{} = {}", name.text, expr(&argument.value)),
        None => expr(&argument.value),
    }
}

/// A whole program, without spans.
pub(crate) fn program(program: &Program) -> String {
    let mut lines = Vec::new();
    for param in &program.params {
        let default = param
            .default
            .as_ref()
            .map_or(String::new(), |default| format!(" (default {default})"));
        let range = param
            .range
            .as_ref()
            .map_or(String::new(), |(low, high)| format!(" in {low}..{high}"));
        let set = if param.set { " set" } else { "" };
        lines.push(format!(
            "param {}: {} = {}{default}{range}{set}",
            param.name, param.ty, param.value
        ));
        lines.extend(param.doc.lines().map(|line| format!("  # {line}")));
    }
    for (id, stage) in program.stage_ids() {
        lines.push(format!(
            "%{} {}: {} makes {}",
            id.0, stage.name, stage.op, stage.output
        ));
        lines.extend(
            stage
                .args
                .iter()
                .map(|(name, value)| format!("  {name} = {value}")),
        );
        let attributes = attributes(&stage.attributes);
        lines.extend(Some(format!("  {attributes}")).filter(|_| !attributes.is_empty()));
    }
    for (name, id) in &program.aliases {
        lines.push(format!("name {name} = %{}", id.0));
    }
    for export in &program.exports {
        lines.push(format!(
            "export {} = %{} as {} to {:?}",
            export.name, export.stage.0, export.format, export.path
        ));
    }
    let targets: Vec<String> = program
        .default_targets
        .iter()
        .map(|id| format!("%{}", id.0))
        .collect();
    lines.push(format!("run {}", targets.join(" ")));
    text(&lines)
}

/// The attributes that are set, by their `Debug`, so that a new attribute needs no change here.
pub(crate) fn attributes(attributes: &Attributes) -> String {
    let all = format!("{attributes:?}");
    let inner = all
        .trim_start_matches("Attributes { ")
        .trim_end_matches(" }");
    let set = inner
        .split(", ")
        .filter(|field| !field.ends_with(": None") && !field.ends_with(": false"));
    let set = set.map(|field| format!("@{}", field.replace("Some(", "").replace(')', "")));
    set.collect::<Vec<_>>().join(" ")
}
