//! The provenance of an image's texts: which results of a workflow hold each one, who wrote it, and
//! how it was scored.

use std::collections::{BTreeMap, BTreeSet};

use blip_data::{Caption, Sample, TextSource};
use blip_engine::dataset::{Chunk, Manifest};
use blip_engine::graph::Node;
use blip_engine::{CacheReader, Digest, Graph, Ledger};
use serde_json::Value;

use crate::types::PAIRS;

/// The side output of `select` that holds the texts it did not keep.
const REJECTED: &str = "rejected";
/// Shortest prefix of a digest that is looked up; anything shorter can only be a sample's key.
const DIGEST_PREFIX_MIN: usize = 6;

/// An image with the provenance of its texts.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageProvenance {
    pub image: Digest,
    /// What a generated image shows.
    pub truth: Option<Value>,
    /// By source, key and number.
    pub texts: Vec<TextProvenance>,
}

/// A text and the stages whose results hold it.
#[derive(Clone, PartialEq, Debug)]
pub struct TextProvenance {
    /// The text as the last of the stages has it, with score and verdict if it was scored.
    pub text: Caption,
    /// The stages whose results hold the text, upstream stages first.
    pub stages: Vec<String>,
    /// The stages that did not keep the text.
    pub rejected_by: Vec<String>,
}

/// A result that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the result of `{stage}` cannot be read: {detail}")]
pub struct LineageError {
    stage: String,
    detail: String,
}

impl LineageError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        "run the workflow again: missing and corrupt results are recomputed"
    }
}

/// What identifies a text across results. The score is not part of it: a text gets one on the way.
type Identity = (TextSource, String, Option<u32>, String);

/// The ground truth and the texts of an image.
type Gathered = (Option<Value>, BTreeMap<Identity, TextProvenance>);

/// A dataset that a stage left: its output, or the texts it rejected.
struct ResultDataset {
    stage: String,
    rejected: bool,
    manifest: Digest,
}

/// The provenance of the images that `wanted` selects: a sample's key, an image's digest or a
/// prefix of one. Looks through `ledger`, the results of the workflow's stages.
///
/// # Errors
/// [`LineageError`].
pub fn find(
    reader: &CacheReader,
    graph: &Graph,
    ledger: &Ledger,
    wanted: &str,
) -> Result<Vec<ImageProvenance>, LineageError> {
    let datasets = result_datasets(graph, ledger);
    // Two passes: a key selects an image, of which other datasets may hold texts with other keys.
    let mut images = BTreeSet::new();
    for dataset in &datasets {
        for_each_sample(reader, dataset, |image, sample| {
            if selects(wanted, image, &sample) {
                images.insert(image);
            }
        })?;
    }
    let mut gathered: BTreeMap<Digest, Gathered> = BTreeMap::new();
    for dataset in &datasets {
        for_each_sample(reader, dataset, |image, sample| {
            if !images.contains(&image) {
                return;
            }
            let (truth, texts) = gathered.entry(image).or_default();
            *truth = truth.take().or(sample.ground_truth);
            for text in sample.texts {
                add_text(texts, dataset, text);
            }
        })?;
    }
    let found = gathered
        .into_iter()
        .map(|(image, (truth, texts))| ImageProvenance {
            image,
            truth,
            texts: texts.into_values().collect(),
        });
    Ok(found.collect())
}

fn selects(wanted: &str, image: Digest, sample: &Sample) -> bool {
    let by_digest = wanted.len() >= DIGEST_PREFIX_MIN && image.to_string().starts_with(wanted);
    // Tar writes `./a.jpg` where webdataset's tools write `a.jpg`: reading drops the `./`, and a
    // key that is looked up may have been copied from either.
    let wanted = wanted.trim_start_matches("./");
    let is_wanted = |key: &str| key.trim_start_matches("./") == wanted;
    by_digest || sample.texts.iter().any(|text| is_wanted(&text.key))
}

fn add_text(
    texts: &mut BTreeMap<Identity, TextProvenance>,
    dataset: &ResultDataset,
    text: Caption,
) {
    let identity = (
        text.source,
        text.key.clone(),
        text.number,
        text.text.clone(),
    );
    let found = texts.entry(identity).or_insert_with(|| TextProvenance {
        text: text.clone(),
        stages: Vec::new(),
        rejected_by: Vec::new(),
    });
    let stages = if dataset.rejected {
        &mut found.rejected_by
    } else {
        &mut found.stages
    };
    stages.push(dataset.stage.clone());
    // Later stages know more, except those that take the text from before it was scored.
    if text.score.is_some() || found.text.score.is_none() {
        found.text = text;
    }
}

/// Whether a stage's result has texts.
pub fn is_dataset(stage: &Node) -> bool {
    stage.output == PAIRS
}

/// The datasets in the results of a workflow's stages, upstream stages first.
fn result_datasets(graph: &Graph, ledger: &Ledger) -> Vec<ResultDataset> {
    let mut datasets = Vec::new();
    for node in graph.ids().map(|id| graph.node(id)) {
        if !is_dataset(node) {
            continue;
        }
        let Some(result) = ledger.get(&node.name) else {
            continue;
        };
        let mut add = |rejected: bool, manifest: Digest| {
            datasets.push(ResultDataset {
                stage: node.name.to_string(),
                rejected,
                manifest,
            });
        };
        for (name, manifest) in &result.side_outputs {
            if name == REJECTED {
                add(true, *manifest);
            }
        }
        add(false, result.output);
    }
    datasets
}

fn for_each_sample(
    reader: &CacheReader,
    dataset: &ResultDataset,
    mut visit: impl FnMut(Digest, Sample),
) -> Result<(), LineageError> {
    let unreadable = |error: &dyn std::fmt::Display| LineageError {
        stage: dataset.stage.clone(),
        detail: error.to_string(),
    };
    let read = |digest: &Digest| reader.object(digest).map_err(|error| unreadable(&error));
    let manifest =
        Manifest::decode(&read(&dataset.manifest)?).map_err(|error| unreadable(&error))?;
    for (digest, _) in &manifest.chunks {
        let chunk = Chunk::decode(&read(digest)?).map_err(|error| unreadable(&error))?;
        for item in chunk.items {
            let sample = Sample::decode(&item.payload).map_err(|error| unreadable(&error))?;
            visit(item.id, sample);
        }
    }
    Ok(())
}
