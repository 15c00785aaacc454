//! `blip help`: help for commands, error codes and exit codes.

use blip_grammar::{codes, nearest};
use clap::CommandFactory;

use crate::args::{Args, Help};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::exit_code;
use crate::table::{Table, wrap};

const WIDTH: usize = 100;
/// Topics that are neither commands nor error codes.
const TOPICS: [&str; 2] = ["codes", "exit-codes"];

pub(crate) fn run(args: &Help, console: &mut Console) -> Result<u8, CommandError> {
    let mut command = Args::command();
    command.build();
    let topics: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    match topics.as_slice() {
        [] => console.print(&command.render_long_help().to_string()),
        ["codes"] => print_codes(console),
        ["exit-codes"] => print_exit_codes(console),
        [topic] => print_topic(topic, &mut command, console)?,
        names => {
            let command = names
                .iter()
                .try_fold(&mut command, |command, name| subcommand(command, name))?;
            console.print(&command.render_long_help().to_string());
        }
    }
    Ok(exit_code::SUCCESS)
}

fn subcommand<'c>(
    command: &'c mut clap::Command,
    name: &str,
) -> Result<&'c mut clap::Command, ErrorMessage> {
    if command.find_subcommand(name).is_none() {
        let path = command.get_bin_name().unwrap_or("blip").to_owned();
        let help = path.replacen("blip", "blip help", 1);
        return Err(ErrorMessage::usage(
            format!("`{path}` has no command `{name}`"),
            format!("`{help}` lists them"),
        ));
    }
    Ok(command
        .find_subcommand_mut(name)
        .expect("it was found just above"))
}

/// Prints the help of an error code or a command.
fn print_topic(
    topic: &str,
    command: &mut clap::Command,
    console: &mut Console,
) -> Result<(), ErrorMessage> {
    if let Some(explanation) = explanation(topic) {
        let code = topic.to_uppercase();
        let lines = wrap(&join_lines(explanation), WIDTH);
        console.styled(&[(&code, Style::Strong)]);
        console.line(format!("\n{}", lines.join("\n")));
        return Ok(());
    }
    match command.find_subcommand_mut(topic) {
        Some(subcommand) => {
            console.print(&subcommand.render_long_help().to_string());
            Ok(())
        }
        None => Err(unknown_topic(topic, command)),
    }
}

fn explanation(topic: &str) -> Option<&'static str> {
    let found = codes::ALL
        .iter()
        .find(|(code, _)| code.to_string().eq_ignore_ascii_case(topic));
    found.map(|(_, explanation)| *explanation)
}

fn print_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "meaning"]);
    for (code, explanation) in codes::ALL {
        table.row(vec![
            (code.to_string(), Style::Strong),
            (join_lines(explanation), Style::Plain),
        ]);
    }
    table.print(console, "");
}

fn print_exit_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "meaning"]);
    for (code, meaning) in exit_code::ALL {
        table.row(vec![
            (code.to_string(), Style::Strong),
            ((*meaning).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
}

fn unknown_topic(topic: &str, command: &clap::Command) -> ErrorMessage {
    let codes = codes::ALL.iter().map(|(code, _)| code.to_string());
    let commands = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    let topics: Vec<String> = commands
        .chain(codes)
        .chain(TOPICS.map(str::to_owned))
        .collect();
    let help = match nearest(topic, topics.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a command, an error code such as E020, `codes` or `exit-codes`".to_owned(),
    };
    ErrorMessage::usage(format!("there is no help on `{topic}`"), help)
}

/// Explanations are doc comments, which have line breaks where their source file has them.
fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
