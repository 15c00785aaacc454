//! `docs/cli.md` is generated from the help texts of all commands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

const INTRODUCTION: &str = "\
# Command-line reference

Generated from `blip COMMAND --help` by `BLESS=1 cargo test --test reference`.

";

/// The standard output of `blip ARGS..`.
fn blip(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_blip"))
        .args(args)
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn help(command: &[&str]) -> String {
    blip(&[command, &["--help"]].concat())
}

/// The names that a help text lists under `Commands:`.
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        // The second line of a wrapped description is indented further.
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// Appends the help of a command and of its subcommands.
fn append(command: &[&str], text: &mut String) {
    let help = help(command);
    let title = command.join(" ");
    *text += &format!("\n## blip {title}\n\n```text\n{}\n```\n", help.trim_end());
    for name in subcommands(&help) {
        append(&[command, &[name]].concat(), text);
    }
}

#[test]
fn the_command_line_reference_is_up_to_date() {
    let top = help(&[]);
    assert!(subcommands(&top).contains(&"run"), "{top}");
    let mut text = format!("{INTRODUCTION}```text\n{}\n```\n", top.trim_end());
    for name in subcommands(&top) {
        append(&[name], &mut text);
    }
    let exit_codes = blip(&["help", "exit-codes"]);
    text += &format!("\n## Exit codes\n\n```text\n{exit_codes}```\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        text,
        "run with BLESS=1"
    );
}
