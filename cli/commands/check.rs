//! `blip check`: all errors and warnings of workflows, without running anything.

use blip_engine::Workflow;
use blip_grammar::{Diagnostic, Source};

use crate::args::{Check, CheckFormat};
use crate::console::Console;
use crate::error::CommandError;
use crate::exit_code;
use crate::humanize::plural;
use crate::overrides::overrides;
use crate::render;
use crate::workflow_file;

/// Checks every file, also after one with errors.
pub(crate) fn run(args: &Check, console: &mut Console) -> Result<u8, CommandError> {
    let overrides = overrides(&args.overrides)?;
    let mut all_valid = true;
    for file in &args.files {
        let source = match workflow_file::read(file) {
            Ok(source) => source,
            Err(CommandError::InvalidSource(name, diagnostic)) => {
                all_valid = false;
                print_invalid_source(&diagnostic, &name, args.format, console);
                continue;
            }
            Err(other) => return Err(other),
        };
        let base = workflow_file::base_folder(file);
        let cache = workflow_file::default_cache(&base);
        let params = args.overrides.params.as_deref();
        let result = match workflow_file::parse(&source, &base, &cache, &overrides, params) {
            Ok(workflow) => {
                print_diagnostics(&workflow.diagnostics, &source, args.format, console);
                valid(&workflow, source.name())
            }
            Err(diagnostics) => {
                all_valid = false;
                print_diagnostics(&diagnostics, &source, args.format, console);
                totals(&diagnostics, source.name())
            }
        };
        if args.format == CheckFormat::Text {
            console.line(result);
        }
    }
    Ok(if all_valid {
        exit_code::SUCCESS
    } else {
        exit_code::USAGE
    })
}

fn print_diagnostics(
    diagnostics: &[Diagnostic],
    source: &Source,
    format: CheckFormat,
    console: &mut Console,
) {
    if format == CheckFormat::Text {
        console.print(&render::diagnostics(diagnostics, source, console.color_out));
        return;
    }
    for diagnostic in diagnostics {
        if format == CheckFormat::Short {
            console.line(render::short(diagnostic, source));
        } else {
            let json = render::json(diagnostic, source.name(), Some(source));
            console.json(&json);
        }
    }
}

fn print_invalid_source(
    diagnostic: &Diagnostic,
    name: &str,
    format: CheckFormat,
    console: &mut Console,
) {
    match format {
        CheckFormat::Text => {
            let text = render::without_source(diagnostic, name, console.color_out);
            console.print(&(text + "\n"));
        }
        CheckFormat::Short => console.line(format!("{name}: {diagnostic}")),
        CheckFormat::Json => console.json(&render::json(diagnostic, name, None)),
    }
}

/// `demo.blip: ok: 7 stages, 2 exports, 1 warning`
fn valid(workflow: &Workflow, name: &str) -> String {
    let mut text = format!(
        "{name}: ok: {}, {}",
        plural(workflow.graph.ids().count(), "stage"),
        plural(workflow.program.exports.len(), "export")
    );
    if !workflow.diagnostics.is_empty() {
        text += &format!(", {}", plural(workflow.diagnostics.len(), "warning"));
    }
    text
}

/// `demo.blip: 2 errors, 1 warning`
pub(crate) fn totals(diagnostics: &[Diagnostic], name: &str) -> String {
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count();
    let warnings = diagnostics.len() - errors;
    let mut text = format!("{name}: {}", plural(errors, "error"));
    if warnings > 0 {
        text += &format!(", {}", plural(warnings, "warning"));
    }
    text
}
