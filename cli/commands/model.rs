//! `blip model inspect`: the contents of a checkpoint, and whether it matches its config.

use serde_json::{Map, Value, json};

use crate::args::{Format, Inspect, Model, ModelCommand};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::exit_code;
use crate::table::Table;

pub(crate) fn run(args: &Model, console: &mut Console) -> Result<u8, CommandError> {
    match &args.command {
        ModelCommand::Inspect(args) => inspect(args, console),
    }
}

fn inspect(args: &Inspect, console: &mut Console) -> Result<u8, CommandError> {
    let inspection = blip_ops::inspect::inspect(&args.path)
        .map_err(|error| ErrorMessage::usage(error.what, error.help))?;
    let is_valid = inspection.errors.is_empty();
    if args.format == Format::Json {
        let mut object: Map<String, Value> = inspection
            .rows
            .iter()
            .map(|(name, text)| (name.replace(' ', "_"), json!(text)))
            .collect();
        object.insert("errors".to_owned(), json!(inspection.errors));
        console.json(&Value::Object(object));
    } else {
        let mut table = Table::new(&["", ""]);
        for (name, text) in inspection.rows {
            table.row(vec![(name.to_owned(), Style::Strong), (text, Style::Plain)]);
        }
        table.print(console, "");
        for error in &inspection.errors {
            console.line(error);
        }
        console.note(if is_valid {
            "the checkpoint is valid"
        } else {
            "the checkpoint does not match its config; to load it anyway, list the tensors in `waive`"
        });
    }
    Ok(if is_valid {
        exit_code::SUCCESS
    } else {
        exit_code::FAILED
    })
}
