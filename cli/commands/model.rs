//! `blip model inspect`: what a checkpoint holds and whether it is whole.

use serde_json::{Map, Value, json};

use crate::args::{Format, Inspect, Model, ModelCommand};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::table::Table;

/// Does what the words after `model` say.
pub(crate) fn run(args: &Model, console: &mut Console) -> Result<u8, Failure> {
    match &args.command {
        ModelCommand::Inspect(args) => inspect(args, console),
    }
}

fn inspect(args: &Inspect, console: &mut Console) -> Result<u8, Failure> {
    let inspection = blip_ops::inspect::inspect(&args.path)
        .map_err(|error| Fault::usage(error.what, error.help))?;
    let whole = inspection.faults.is_empty();
    if args.format == Format::Json {
        let mut object: Map<String, Value> = inspection
            .rows
            .iter()
            .map(|(name, text)| (name.replace(' ', "_"), json!(text)))
            .collect();
        object.insert("faults".to_owned(), json!(inspection.faults));
        console.line(Value::Object(object).to_string());
    } else {
        let mut table = Table::new(&["", ""]);
        for (name, text) in inspection.rows {
            table.row(vec![(name.to_owned(), Style::Strong), (text, Style::Plain)]);
        }
        table.print(console, "");
        for fault in &inspection.faults {
            console.line(fault);
        }
        console.note(if whole {
            "it is whole"
        } else {
            "it is not whole: it loads only if what is wrong is waived by name"
        });
    }
    Ok(if whole {
        exit_code::DONE
    } else {
        exit_code::FAILED
    })
}
