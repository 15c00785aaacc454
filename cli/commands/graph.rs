//! `blip graph`: the stages of a workflow and what flows between them, as text, for graphviz, or
//! for Markdown.

use std::fmt::Write;

use blip_engine::graph::NodeId;
use blip_engine::{Graph as Stages, Workflow};

use crate::args::{Graph, GraphFormat};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::Failure;
use crate::table::Table;
use crate::workflow_file;

/// Shows the graph.
pub(crate) fn run(args: &Graph, console: &mut Console) -> Result<u8, Failure> {
    let loaded = workflow_file::load(&args.workflow, console)?;
    match args.format {
        GraphFormat::Text => text(&loaded.workflow, console),
        GraphFormat::Dot => console.line(dot(&loaded.workflow).trim_end()),
        GraphFormat::Mermaid => console.line(mermaid(&loaded.workflow).trim_end()),
    }
    Ok(exit_code::DONE)
}

/// Every stage with what it takes, inputs first.
fn text(workflow: &Workflow, console: &mut Console) {
    let graph = &workflow.graph;
    let mut table = Table::new(&["stage", "op", "makes", "from"]);
    for id in graph.ids() {
        let node = graph.node(id);
        let inputs: Vec<String> = graph
            .inputs(id)
            .iter()
            .map(|(_, input)| graph.node(*input).name.to_string())
            .collect();
        table.row(vec![
            (node.name.to_string(), Style::Strong),
            (node.op.signature.name.to_owned(), Style::Plain),
            (node.output.to_string(), Style::Dim),
            (inputs.join(", "), Style::Plain),
        ]);
    }
    if table.is_empty() {
        console.line("the workflow has no stages");
    } else {
        table.print(console, "");
    }
    for (export, id) in graph.exports() {
        let name = &graph.node(id).name;
        console.line(format!(
            "export {name} as {} {}",
            export.format,
            blip_grammar::Value::Str(export.path.clone())
        ));
    }
}

fn number(graph: &Stages, id: NodeId) -> usize {
    graph.ids().position(|other| other == id).unwrap_or(0)
}

fn dot(workflow: &Workflow) -> String {
    let graph = &workflow.graph;
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = String::from(
        "digraph workflow {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=sans];\n",
    );
    for (at, id) in graph.ids().enumerate() {
        let node = graph.node(id);
        let _ = writeln!(
            out,
            "  s{at} [label=\"{}\\n{}\"];",
            quote(&node.name),
            node.op.signature.name
        );
        for (arg, input) in graph.inputs(id) {
            let _ = writeln!(
                out,
                "  s{} -> s{at} [label=\"{arg}\"];",
                number(graph, *input)
            );
        }
    }
    for (at, (export, id)) in graph.exports().enumerate() {
        let _ = writeln!(
            out,
            "  e{at} [shape=note, label=\"{}\\n{}\"];",
            quote(&export.path),
            export.format
        );
        let _ = writeln!(out, "  s{} -> e{at};", number(graph, id));
    }
    out + "}\n"
}

fn mermaid(workflow: &Workflow) -> String {
    let graph = &workflow.graph;
    let quote = |text: &str| text.replace('"', "#quot;");
    let mut out = String::from("flowchart LR\n");
    for (at, id) in graph.ids().enumerate() {
        let node = graph.node(id);
        let _ = writeln!(
            out,
            "  s{at}[\"{}<br>{}\"]",
            quote(&node.name),
            node.op.signature.name
        );
        for (arg, input) in graph.inputs(id) {
            let _ = writeln!(out, "  s{} -->|{arg}| s{at}", number(graph, *input));
        }
    }
    for (at, (export, id)) in graph.exports().enumerate() {
        let _ = writeln!(
            out,
            "  e{at}>\"{}<br>{}\"]",
            quote(&export.path),
            export.format
        );
        let _ = writeln!(out, "  s{} --> e{at}", number(graph, id));
    }
    out
}
