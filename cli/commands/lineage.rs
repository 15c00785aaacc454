//! `blip lineage`: the provenance of an image's texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use blip_engine::{Engine, Graph, Ledger, PlannedAction, StageResult, Workflow};
use blip_ops::lineage::{ImageProvenance, TextProvenance, find};
use serde_json::{Value, json};

use crate::args::{DeviceArgs, Format, Lineage};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::humanize::number;
use crate::table::Table;
use crate::{exit_code, run_history, workflow_file};

/// A key can belong to several images; more than this many are not shown.
const MAX_IMAGES: usize = 10;

pub(crate) fn run(args: &Lineage, console: &mut Console) -> Result<u8, CommandError> {
    let mut loaded = workflow_file::load(&args.workflow, args.cache.cache.as_deref(), console)?;
    let engine = loaded.engine(&args.cache, DeviceArgs::default())?;
    run_history::examine(engine.cache_folder())?;
    let reader = engine.reader();
    let graph = &loaded.workflow.graph;
    let (ledger, missing) = current_results(&engine, &loaded.workflow, console)?;
    let images = find(&reader, graph, &ledger, &args.key).map_err(|error| ErrorMessage {
        message: error.to_string(),
        help: error.help().to_owned(),
        exit_code: exit_code::IO,
    })?;
    if images.is_empty() {
        return Err(not_found(args, &ledger).into());
    }
    if !missing.is_empty() {
        console.note(format!(
            "note: without {}, which the cache has no result of with these params and files",
            missing.join(", ")
        ));
    }
    let models = ModelNames::new(graph, &ledger);
    for (index, image) in images.iter().take(MAX_IMAGES).enumerate() {
        if args.format == Format::Json {
            console.json(&image_json(image, &models));
            continue;
        }
        if index > 0 {
            console.line("");
        }
        print_image(image, &models, console);
    }
    if images.len() > MAX_IMAGES {
        let more = images.len() - MAX_IMAGES;
        console.note(format!("and {more} more images with that key"));
    }
    Ok(exit_code::SUCCESS)
}

/// The cached results of the workflow as it is, with these params and the files of now, and the
/// stages of pairs that have none. What the last run had may be of other params: it is taken only
/// where files cannot be read any more.
fn current_results(
    engine: &Engine,
    workflow: &Workflow,
    console: &mut Console,
) -> Result<(Ledger, Vec<String>), CommandError> {
    let names: Vec<String> = workflow
        .graph
        .names()
        .into_iter()
        .map(String::from)
        .collect();
    let reader = engine.reader();
    let (mut results, mut missing) = (Ledger::default(), Vec::new());
    for planned in engine.plan(workflow, &names)? {
        if let PlannedAction::Error { what, .. } = &planned.action {
            let stage = &planned.stage;
            console.note(format!(
                "note: `{stage}` cannot run now: {what}; the results of the last run are shown"
            ));
            return Ok((reader.ledger(&workflow.name), Vec::new()));
        }
        let record = planned
            .key
            .and_then(|key| Some((key, reader.record(&key)?)));
        if let Some((key, record)) = record {
            let result = Arc::new(StageResult::from_record(key, &record));
            results.insert(&planned.stage, &result);
        } else if is_dataset(&workflow.graph, &planned.stage) {
            missing.push(format!("`{}`", planned.stage));
        }
    }
    Ok((results, missing))
}

fn is_dataset(graph: &Graph, stage: &str) -> bool {
    let id = graph.find(stage);
    id.is_some_and(|id| blip_ops::lineage::is_dataset(graph.node(id)))
}

fn not_found(args: &Lineage, ledger: &Ledger) -> ErrorMessage {
    let workflow = args.workflow.file.display();
    if ledger.iter().next().is_none() {
        return ErrorMessage::usage(
            format!("`{workflow}` has no cached results"),
            "run the workflow first",
        );
    }
    ErrorMessage::usage(
        format!("no result of `{workflow}` contains `{}`", args.key),
        "give the key of a sample, or at least six digits of an image's digest",
    )
}

/// Names of the workflow's models by their digests, which texts refer to.
struct ModelNames(BTreeMap<String, String>);

impl ModelNames {
    fn new(graph: &Graph, ledger: &Ledger) -> Self {
        let mut names = BTreeMap::new();
        for id in graph.ids() {
            let name = &*graph.node(id).name;
            if let Some(result) = ledger.get(name) {
                names.insert(result.output.to_string(), name.to_owned());
            }
        }
        Self(names)
    }

    fn stage(&self, digest: Option<&String>) -> Option<&String> {
        digest.and_then(|digest| self.0.get(digest))
    }

    /// `captioner (1a2b3c4d5e6f)`; a model of an earlier run is known by its digest only.
    fn display(&self, digest: &str) -> String {
        let short: String = digest.chars().take(12).collect();
        match self.0.get(digest) {
            Some(stage) => format!("{stage} ({short})"),
            None => format!("a model of another run ({short})"),
        }
    }
}

fn print_image(image: &ImageProvenance, models: &ModelNames, console: &mut Console) {
    console.styled(&[
        ("image ", Style::Plain),
        (&image.image.to_string(), Style::Strong),
    ]);
    for text in &image.texts {
        print_text(text, models, console);
    }
    if let Some(truth) = &image.truth {
        console.line("");
        console.line(format!("  ground truth: {truth}"));
    }
}

fn print_text(text: &TextProvenance, models: &ModelNames, console: &mut Console) {
    console.line("");
    let quoted = format!("{:?}", text.text.text);
    console.styled(&[("  ", Style::Plain), (&quoted, Style::Strong)]);
    let mut table = Table::new(&["", ""]);
    for (name, value) in fields(text, models) {
        let style = match (name, text.text.kept) {
            ("verdict", Some(true)) => Style::Good,
            ("verdict", Some(false)) => Style::Bad,
            _ => Style::Plain,
        };
        table.row(vec![(name.to_owned(), Style::Dim), (value, style)]);
    }
    table.print(console, "    ");
}

/// The known facts about a text. Which there are depends on its source and on the stages it passed.
fn fields(text: &TextProvenance, models: &ModelNames) -> Vec<(&'static str, String)> {
    let caption = &text.text;
    let mut fields = vec![
        ("source", format!("{:?}", caption.source).to_lowercase()),
        ("key", caption.key.clone()),
    ];
    if let Some(model) = &caption.model {
        let mut captioner = models.display(model);
        if let Some(seed) = caption.seed {
            captioner += &format!(", seed {seed}");
        }
        if let Some(number) = caption.number {
            captioner += &format!(", caption {number} of its image");
        }
        fields.push(("generated by", captioner));
    }
    if let Some(score) = caption.score {
        let mut scored = number(score);
        if let Some(filter) = &caption.judge {
            scored += &format!(" by {}", models.display(filter));
        }
        fields.push(("score", scored));
    }
    if let Some(kept) = caption.kept {
        let verdict = if kept { "kept" } else { "rejected" };
        fields.push(("verdict", verdict.to_owned()));
    }
    let stages = if text.stages.is_empty() {
        "none".to_owned()
    } else {
        text.stages.join(", ")
    };
    fields.push(("stages", stages));
    if !text.rejected_by.is_empty() {
        fields.push(("rejected by", text.rejected_by.join(", ")));
    }
    fields
}

fn image_json(image: &ImageProvenance, models: &ModelNames) -> Value {
    let texts: Vec<Value> = image
        .texts
        .iter()
        .map(|text| text_json(text, models))
        .collect();
    json!({
        "image": image.image.to_string(),
        "ground_truth": image.truth,
        "texts": texts,
    })
}

fn text_json(text: &TextProvenance, models: &ModelNames) -> Value {
    json!({
        "text": text.text,
        "generated_by": models.stage(text.text.model.as_ref()),
        "scored_by": models.stage(text.text.judge.as_ref()),
        "stages": text.stages,
        "rejected_by": text.rejected_by,
    })
}
