//! `blip check`: everything that is wrong with workflows, without running anything.

use blip_engine::Workflow;
use blip_grammar::{Diagnostic, Source};

use crate::amounts::plural;
use crate::args::{Check, CheckFormat};
use crate::console::Console;
use crate::exit_code;
use crate::failure::Failure;
use crate::overrides::overrides;
use crate::render;
use crate::workflow_file;

/// Checks each file; the exit code is that of the worst.
pub(crate) fn run(args: &Check, console: &mut Console) -> Result<u8, Failure> {
    let overrides = overrides(&args.overrides)?;
    let ops = blip_ops::all();
    let mut good = true;
    for file in &args.files {
        let source = match workflow_file::read(file) {
            Ok(source) => source,
            Err(Failure::NoSource(name, diagnostic)) => {
                good = false;
                no_source(&diagnostic, &name, args.format, console);
                continue;
            }
            Err(other) => return Err(other),
        };
        let (diagnostics, stages) = match Workflow::parse(&source, &ops, &overrides) {
            Ok(workflow) => {
                let stages = workflow.graph.ids().count();
                (
                    workflow.diagnostics,
                    Some((stages, workflow.program.exports.len())),
                )
            }
            Err(diagnostics) => (diagnostics, None),
        };
        good &= stages.is_some();
        show(&diagnostics, &source, args.format, console);
        if args.format == CheckFormat::Text {
            console.line(match stages {
                Some((stages, exports)) => {
                    let warnings = if diagnostics.is_empty() {
                        String::new()
                    } else {
                        format!(", {}", plural(diagnostics.len(), "warning"))
                    };
                    let (stages, exports) = (plural(stages, "stage"), plural(exports, "export"));
                    format!("{}: good: {stages}, {exports}{warnings}", source.name())
                }
                None => verdict(&diagnostics, source.name()),
            });
        }
    }
    Ok(if good {
        exit_code::DONE
    } else {
        exit_code::USAGE
    })
}

fn show(diagnostics: &[Diagnostic], source: &Source, format: CheckFormat, console: &mut Console) {
    match format {
        CheckFormat::Text => {
            console.print(&render::diagnostics(diagnostics, source, console.color_out))
        }
        CheckFormat::Short => diagnostics
            .iter()
            .for_each(|diagnostic| console.line(render::short(diagnostic, source))),
        CheckFormat::Json => {
            let json =
                |diagnostic| render::json(diagnostic, source.name(), Some(source)).to_string();
            diagnostics
                .iter()
                .for_each(|diagnostic| console.line(json(diagnostic)));
        }
    }
}

fn no_source(diagnostic: &Diagnostic, name: &str, format: CheckFormat, console: &mut Console) {
    match format {
        CheckFormat::Text => {
            console.print(&(render::without_source(diagnostic, name, console.color_out) + "\n"))
        }
        CheckFormat::Short => console.line(format!("{name}: {diagnostic}")),
        CheckFormat::Json => console.line(render::json(diagnostic, name, None).to_string()),
    }
}

/// "demo.blip: 2 errors, 1 warning"
pub(crate) fn verdict(diagnostics: &[Diagnostic], name: &str) -> String {
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
