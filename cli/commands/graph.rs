//! `blip graph`: the stages of a workflow and their dependencies, as a table, for Graphviz, or for
//! Mermaid.

use std::fmt::Write;

use blip_engine::graph::NodeId;
use blip_engine::{Graph as StageGraph, Workflow};

use crate::args::{Graph, GraphFormat};
use crate::console::{Console, Style};
use crate::error::CommandError;
use crate::exit_code;
use crate::table::Table;
use crate::workflow_file;

pub(crate) fn run(args: &Graph, console: &mut Console) -> Result<u8, CommandError> {
    let loaded = workflow_file::load(&args.workflow, None, console)?;
    match args.format {
        GraphFormat::Text => print(&loaded.workflow, console),
        GraphFormat::Dot => console.line(dot(&loaded.workflow.graph).trim_end()),
        GraphFormat::Mermaid => console.line(mermaid(&loaded.workflow.graph).trim_end()),
    }
    Ok(exit_code::SUCCESS)
}

/// Prints every stage with its inputs in topological order, then the exports.
fn print(workflow: &Workflow, console: &mut Console) {
    let graph = &workflow.graph;
    let mut table = Table::new(&["stage", "op", "type", "inputs"]);
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
        let path = blip_grammar::Value::Str(export.path.clone());
        console.line(format!("export {name} as {} {path}", export.format));
    }
}

fn position(graph: &StageGraph, id: NodeId) -> usize {
    graph.ids().position(|other| other == id).unwrap_or(0)
}

fn dot(graph: &StageGraph) -> String {
    let mut out = String::from(
        "digraph workflow {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=sans];\n",
    );
    for (at, id) in graph.ids().enumerate() {
        let node = graph.node(id);
        let name = escape_dot(&node.name);
        let op = node.op.signature.name;
        let _ = writeln!(out, "  s{at} [label=\"{name}\\n{op}\"];");
        for (arg, input) in graph.inputs(id) {
            let input = position(graph, *input);
            let _ = writeln!(out, "  s{input} -> s{at} [label=\"{arg}\"];");
        }
    }
    for (at, (export, id)) in graph.exports().enumerate() {
        let path = escape_dot(&export.path);
        let format = &export.format;
        let stage = position(graph, id);
        let _ = writeln!(out, "  e{at} [shape=note, label=\"{path}\\n{format}\"];");
        let _ = writeln!(out, "  s{stage} -> e{at};");
    }
    out + "}\n"
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn mermaid(graph: &StageGraph) -> String {
    let mut out = String::from("flowchart LR\n");
    for (at, id) in graph.ids().enumerate() {
        let node = graph.node(id);
        let name = escape_mermaid(&node.name);
        let op = node.op.signature.name;
        let _ = writeln!(out, "  s{at}[\"{name}<br>{op}\"]");
        for (arg, input) in graph.inputs(id) {
            let input = position(graph, *input);
            let _ = writeln!(out, "  s{input} -->|{arg}| s{at}");
        }
    }
    for (at, (export, id)) in graph.exports().enumerate() {
        let path = escape_mermaid(&export.path);
        let format = &export.format;
        let stage = position(graph, id);
        let _ = writeln!(out, "  e{at}>\"{path}<br>{format}\"]");
        let _ = writeln!(out, "  s{stage} --> e{at}");
    }
    out
}

/// Mermaid has no backslash escapes; it takes HTML entities with `#` for `&`.
fn escape_mermaid(text: &str) -> String {
    text.replace('"', "#quot;")
}
