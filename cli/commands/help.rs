//! `blip help`: commands, diagnostics by code, and exit codes.

use blip_grammar::{codes, nearest};
use clap::CommandFactory;

use crate::args::{Args, Help};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::table::{Table, fold};

/// Explanations are folded so that lines are no longer than this.
const WIDTH: usize = 100;
/// Topics that are neither commands nor codes.
const TOPICS: [&str; 2] = ["codes", "exit-codes"];

/// Explains a topic.
pub(crate) fn run(args: &Help, console: &mut Console) -> Result<u8, Failure> {
    let mut command = Args::command();
    command.build();
    match args.topic.as_deref() {
        None => console.print(&command.render_long_help().to_string()),
        Some("codes") => all_codes(console),
        Some("exit-codes") => exit_codes(console),
        Some(topic) => match (find_code(topic), command.find_subcommand_mut(topic)) {
            (Some(explanation), _) => {
                let code = topic.to_uppercase();
                console.pieces(&[(&code, Style::Strong)]);
                console.line(format!(
                    "\n{}",
                    fold(&one_line(explanation), WIDTH).join("\n")
                ));
            }
            (None, Some(command)) => console.print(&command.render_long_help().to_string()),
            (None, None) => return Err(unknown(topic, &command).into()),
        },
    }
    Ok(exit_code::DONE)
}

fn find_code(topic: &str) -> Option<&'static str> {
    let found = codes::ALL
        .iter()
        .find(|(code, _)| code.to_string().eq_ignore_ascii_case(topic));
    found.map(|(_, explanation)| *explanation)
}

fn all_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "what it says"]);
    for (code, explanation) in codes::ALL {
        table.row(vec![
            (code.to_string(), Style::Strong),
            (one_line(explanation), Style::Plain),
        ]);
    }
    table.print(console, "");
}

fn exit_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "what it says"]);
    for (code, meaning) in exit_code::ALL {
        table.row(vec![
            (code.to_string(), Style::Strong),
            ((*meaning).to_owned(), Style::Plain),
        ]);
    }
    table.print(console, "");
}

fn unknown(topic: &str, command: &clap::Command) -> Fault {
    let codes = codes::ALL.iter().map(|(code, _)| code.to_string());
    let commands = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    let all: Vec<String> = commands
        .chain(codes)
        .chain(TOPICS.map(str::to_owned))
        .collect();
    let help = match nearest(topic, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a command, a code such as E020, `codes` or `exit-codes`".to_owned(),
    };
    Fault::usage(format!("there is no help on `{topic}`"), help)
}

/// Doc comments hold line ends where their source has them.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
