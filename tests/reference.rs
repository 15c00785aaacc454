//! `docs/cli.md` says what the commands say of themselves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// What `blip COMMAND.. --help` prints.
fn help(command: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_blip"));
    let output = program
        .args(command)
        .arg("--help")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names that a help text lists under `Commands:`.
fn commands(help: &str) -> Vec<&str> {
    let lines = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    // A description that is folded goes on further to the right.
    let names = lines
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '));
    names
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// A command and those below it, each with its help.
fn describe(command: &[&str], text: &mut String) {
    let help = help(command);
    let below = commands(&help);
    *text += &format!(
        "\n## blip {}\n\n```text\n{}\n```\n",
        command.join(" "),
        help.trim_end()
    );
    for name in below {
        describe(&[command, &[name]].concat(), text);
    }
}

#[test]
fn the_reference_of_the_commands_is_what_they_say() {
    let mut text =
        "# The commands of blip\n\nThis file is what `blip COMMAND --help` says of every command; \
        `BLESS=1 cargo test --test reference` makes it.\n\n"
            .to_owned();
    let top = help(&[]);
    assert!(commands(&top).contains(&"run"), "{top}");
    text += &format!("```text\n{}\n```\n", top.trim_end());
    for name in commands(&top) {
        describe(&[name], &mut text);
    }
    let exit_codes = Command::new(env!("CARGO_BIN_EXE_blip"))
        .args(["help", "exit-codes"])
        .output()
        .unwrap();
    text += &format!(
        "\n## Exit codes\n\n```text\n{}```\n",
        String::from_utf8(exit_codes.stdout).unwrap()
    );
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
