//! `blip fmt`: formats workflows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use blip_grammar::{Source, format, parse};
use similar::TextDiff;

use crate::args::Fmt;
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::exit_code;
use crate::humanize::plural;
use crate::workflow_file::{self, is_stdin};

/// Formats files in place, or with `--check` shows what would change. Writes nothing unless all
/// files can be parsed.
pub(crate) fn run(args: &Fmt, console: &mut Console) -> Result<u8, CommandError> {
    if args.files.len() > 1 && args.files.iter().any(|file| is_stdin(file)) {
        let error = ErrorMessage::usage(
            "`-` cannot be combined with files",
            "format standard input by itself: blip fmt -",
        );
        return Err(error.into());
    }
    let mut formatted = Vec::new();
    for file in &args.files {
        let (source, text) = format_file(file)?;
        formatted.push((file, source, text));
    }
    let mut changed = 0;
    for (file, source, text) in formatted {
        let is_changed = source.text() != text;
        changed += usize::from(is_changed);
        if args.check {
            print_diff(&source, &text, console);
        } else if is_stdin(file) {
            console.print(&text);
        } else if is_changed {
            replace(file, &text).map_err(|error| ErrorMessage::io("write", file, &error))?;
            console.line(format!("formatted {}", file.display()));
        }
    }
    if args.check && changed > 0 {
        console.note(format!(
            "{} not formatted: run `blip fmt`",
            plural(changed, "file")
        ));
        return Ok(exit_code::FAILED);
    }
    Ok(exit_code::SUCCESS)
}

fn format_file(file: &Path) -> Result<(Source, String), CommandError> {
    let source = workflow_file::read(file)?;
    let parsed = parse(&source);
    if parsed.diagnostics.is_empty() {
        let text = format(&parsed.file, &source);
        return Ok((source, text));
    }
    let diagnostics = parsed.diagnostics;
    Err(CommandError::Workflow(Box::new(source), diagnostics))
}

/// Prints a unified diff; nothing for equal texts.
fn print_diff(source: &Source, text: &str, console: &mut Console) {
    let diff = TextDiff::from_lines(source.text(), text);
    let name = source.name();
    let shown = diff
        .unified_diff()
        .context_radius(2)
        .header(name, &format!("{name} (formatted)"))
        .to_string();
    for line in shown.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => Style::Good,
            Some(b'-') => Style::Bad,
            Some(b'@') => Style::Dim,
            _ => Style::Plain,
        };
        console.styled(&[(line, style)]);
    }
}

/// Replaces the content of a file atomically: write to a temporary file beside it, then rename.
/// Symbolic links are followed and permissions are kept, as if the file were written in place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let permissions = fs::metadata(&path)?.permissions();
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().set_permissions(permissions)?;
    // Synced before the rename: after a crash the name has the old content or the new, never none.
    temporary.as_file().sync_all()?;
    temporary.persist(&path)?;
    File::open(folder)?.sync_all()
}
