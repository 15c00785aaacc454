//! `blip lineage`: the story of an image's texts.

use std::collections::BTreeMap;

use blip_engine::{Graph, Ledger};
use blip_ops::lineage::{Story, TextStory, find};
use serde_json::json;

use crate::amounts::number;
use crate::args::{Format, Lineage};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::table::Table;
use crate::workflow_file;

/// Images are shown up to this many.
const IMAGES_MAX: usize = 10;

/// Tells it.
pub(crate) fn run(args: &Lineage, console: &mut Console) -> Result<u8, Failure> {
    let mut loaded = workflow_file::load(&args.workflow, console)?;
    let engine = loaded.engine(&args.cache);
    let (reader, graph) = (engine.reader(), &loaded.workflow.graph);
    let ledger = reader.ledger(&loaded.workflow.name);
    let stories = find(&reader, graph, &ledger, &args.key).map_err(|error| Fault {
        what: error.to_string(),
        help: error.help().to_owned(),
        code: exit_code::IO,
    })?;
    if stories.is_empty() {
        let (what, help) = if ledger.iter().next().is_none() {
            (
                format!("`{}` has no results yet", args.workflow.file.display()),
                "run it first",
            )
        } else {
            let help = "name the key of a sample as its shard or list has it, or at least six digits of an image's digest";
            (
                format!(
                    "no result of `{}` holds `{}`",
                    args.workflow.file.display(),
                    args.key
                ),
                help,
            )
        };
        return Err(Fault::usage(what, help).into());
    }
    let makers = Makers::new(graph, &ledger);
    for (place, story) in stories.iter().take(IMAGES_MAX).enumerate() {
        match args.format {
            Format::Json => console.line(as_json(story, &makers)),
            Format::Text => {
                if place > 0 {
                    console.line("");
                }
                text(story, &makers, console);
            }
        }
    }
    if stories.len() > IMAGES_MAX {
        console.note(format!(
            "and {} more images of that key",
            stories.len() - IMAGES_MAX
        ));
    }
    Ok(exit_code::DONE)
}

/// Which stage made a model, by the digest that texts name it by.
struct Makers(BTreeMap<String, String>);

impl Makers {
    fn new(graph: &Graph, ledger: &Ledger) -> Self {
        let names = graph.ids().map(|id| &*graph.node(id).name);
        let made =
            names.filter_map(|name| Some((ledger.get(name)?.output.to_string(), name.to_owned())));
        Self(made.collect())
    }

    /// "captioner (1a2b3c4d5e6f)"; a model of an earlier run has only its digest.
    fn name(&self, digest: &str) -> String {
        let short: String = digest.chars().take(12).collect();
        match self.0.get(digest) {
            Some(stage) => format!("{stage} ({short})"),
            None => format!("a model of another run ({short})"),
        }
    }
}

fn text(story: &Story, makers: &Makers, console: &mut Console) {
    console.pieces(&[
        ("image ", Style::Plain),
        (&story.image.to_string(), Style::Strong),
    ]);
    for told in &story.texts {
        console.line("");
        console.pieces(&[
            ("  ", Style::Plain),
            (&format!("{:?}", told.text.text), Style::Strong),
        ]);
        let mut table = Table::new(&["", ""]);
        for (name, value) in facts(told, makers) {
            let style = match (name, told.text.kept) {
                ("verdict", Some(true)) => Style::Good,
                ("verdict", Some(false)) => Style::Bad,
                _ => Style::Plain,
            };
            table.row(vec![(name.to_owned(), Style::Dim), (value, style)]);
        }
        table.print(console, "    ");
    }
    if let Some(truth) = &story.truth {
        console.line("");
        console.line(format!("  it really shows {truth}"));
    }
}

/// What there is to tell of a text.
fn facts(told: &TextStory, makers: &Makers) -> Vec<(&'static str, String)> {
    let text = &told.text;
    let mut facts = vec![
        ("source", format!("{:?}", text.source).to_lowercase()),
        ("key", text.key.clone()),
    ];
    if let Some(model) = &text.model {
        let seed = text
            .seed
            .map_or(String::new(), |seed| format!(", seed {seed}"));
        let number = text.number.map_or(String::new(), |number| {
            format!(", caption {number} of its image")
        });
        facts.push((
            "written by",
            format!("{}{seed}{number}", makers.name(model)),
        ));
    }
    if let Some(score) = text.score {
        let judge = text
            .judge
            .as_ref()
            .map_or(String::new(), |judge| format!(" by {}", makers.name(judge)));
        facts.push(("score", format!("{}{judge}", number(score))));
    }
    if let Some(kept) = text.kept {
        facts.push((
            "verdict",
            if kept {
                "kept".to_owned()
            } else {
                "rejected".to_owned()
            },
        ));
    }
    facts.push((
        "in",
        if told.stages.is_empty() {
            "no result".to_owned()
        } else {
            told.stages.join(", ")
        },
    ));
    if !told.rejected_by.is_empty() {
        facts.push(("dropped by", told.rejected_by.join(", ")));
    }
    facts
}

/// An image with its texts as a JSON object.
fn as_json(story: &Story, makers: &Makers) -> String {
    let stage = |digest: &Option<String>| digest.as_ref().and_then(|digest| makers.0.get(digest));
    let texts: Vec<serde_json::Value> = story
        .texts
        .iter()
        .map(|told| {
            json!({
                "text": told.text,
                "written_by": stage(&told.text.model),
                "judged_by": stage(&told.text.judge),
                "in": told.stages,
                "dropped_by": told.rejected_by,
            })
        })
        .collect();
    json!({ "image": story.image.to_string(), "truth": story.truth, "texts": texts }).to_string()
}
