//! `blip fmt`: workflows in the one standard layout.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use blip_grammar::{Source, format, parse};
use similar::TextDiff;

use crate::amounts::plural;
use crate::args::Fmt;
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::workflow_file;

/// Formats each file in place, or shows what would change. Nothing is written unless every file can
/// be formatted.
pub(crate) fn run(args: &Fmt, console: &mut Console) -> Result<u8, Failure> {
    let stdin = Path::new("-");
    if args.files.iter().any(|file| file == stdin) && args.files.len() > 1 {
        let fault = Fault::usage(
            "`-` cannot stand beside files",
            "format standard input by itself: blip fmt -",
        );
        return Err(fault.into());
    }
    let mut texts = Vec::new();
    for file in &args.files {
        let source = workflow_file::read(file)?;
        let parsed = parse(&source);
        if !parsed.diagnostics.is_empty() {
            let diagnostics = parsed.diagnostics;
            return Err(Failure::Workflow(Box::new(source), diagnostics));
        }
        let text = format(&parsed.file, &source);
        texts.push((file, source, text));
    }
    let mut changed = 0;
    for (file, source, text) in texts {
        let same = source.text() == text;
        changed += usize::from(!same);
        match (args.check, file == stdin) {
            (true, _) if !same => diff(&source, &text, console),
            (true, _) => {}
            (false, true) => console.print(&text),
            (false, false) if same => {}
            (false, false) => {
                replace(file, &text).map_err(|error| Fault::io("write", file, &error))?;
                console.line(format!("formatted {}", file.display()));
            }
        }
    }
    if args.check && changed > 0 {
        console.note(format!(
            "{} not in the standard layout: `blip fmt` formats",
            plural(changed, "file")
        ));
        return Ok(exit_code::FAILED);
    }
    Ok(exit_code::DONE)
}

fn diff(source: &Source, text: &str, console: &mut Console) {
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
        console.pieces(&[(line, style)]);
    }
}

/// Replaces a file's content: whole or not at all. A link is followed, and the permissions stay.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let permissions = fs::metadata(&path)?.permissions();
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().set_permissions(permissions)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&path)?;
    File::open(folder)?.sync_all()
}
