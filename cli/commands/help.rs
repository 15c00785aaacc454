//! `blip help`: commands, diagnostics by code, and exit codes.

use blip_grammar::{codes, nearest};
use clap::CommandFactory;

use crate::args::{Args, Help};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::table::Table;

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
                console.line(format!("\n{}", wrapped(explanation)));
            }
            (None, Some(command)) => console.print(&command.render_long_help().to_string()),
            (None, None) => return Err(unknown(topic, &command).into()),
        },
    }
    Ok(exit_code::DONE)
}

fn find_code(topic: &str) -> Option<&'static str> {
    let found = codes::ALL.iter().find(|(code, _)| code.to_string().eq_ignore_ascii_case(topic));
    found.map(|(_, explanation)| *explanation)
}

fn all_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "what it says"]);
    for (code, explanation) in codes::ALL {
        let mut lines = wrapped(explanation).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        let first = lines.next().unwrap_or_default();
        table.row(vec![(code.to_string(), Style::Strong), (first, Style::Plain)]);
        for line in lines {
            table.row(vec![(String::new(), Style::Plain), (line, Style::Plain)]);
        }
    }
    table.print(console, "");
}

fn exit_codes(console: &mut Console) {
    let mut table = Table::new(&["code", "what it says"]);
    for (code, meaning) in exit_code::ALL {
        table.row(vec![(code.to_string(), Style::Strong), ((*meaning).to_owned(), Style::Plain)]);
    }
    table.print(console, "");
}

fn unknown(topic: &str, command: &clap::Command) -> Fault {
    let codes = codes::ALL.iter().map(|(code, _)| code.to_string());
    let commands = command.get_subcommands().map(|command| command.get_name().to_owned());
    let all: Vec<String> = commands.chain(codes).chain(TOPICS.map(str::to_owned)).collect();
    let help = match nearest(topic, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a command, a code such as E020, `codes` or `exit-codes`".to_owned(),
    };
    Fault::usage(format!("there is no help on `{topic}`"), help)
}

/// Doc comments hold line ends where their source has them: taken out, and put in where lines would be long.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 90;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
