//! The story of an image's texts: in which results of a workflow each one is, who wrote it, who
//! judged it, and how.

use std::collections::{BTreeMap, BTreeSet};

use blip_data::{Caption, Sample};
use blip_engine::dataset::{Chunk, Manifest};
use blip_engine::{Digest, Graph, Ledger, Reader};
use serde_json::Value;

use crate::types::PAIRS;

/// The by-product of `select` that holds what it did not keep.
const REJECTED: &str = "rejected";
/// The beginning of a digest has at least this many digits; anything shorter can only be a key.
const DIGITS_MIN: usize = 6;

/// An image with the stories of its texts.
#[derive(Clone, PartialEq, Debug)]
pub struct Story {
    /// The image.
    pub image: Digest,
    /// What a generated image really shows.
    pub truth: Option<Value>,
    /// Its texts, by source, key and number.
    pub texts: Vec<TextStory>,
}

/// A text and the results that it is in.
#[derive(Clone, PartialEq, Debug)]
pub struct TextStory {
    /// The text as the last of the stages has it: with score and action if it was judged.
    pub text: Caption,
    /// The stages whose results hold it, in the order in which they ran.
    pub stages: Vec<String>,
    /// The stages that did not keep it.
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
        "run the workflow again: what is missing or damaged is made anew"
    }
}

/// What makes a text one and the same in several results: not its score, which it gets on the way.
type Identity = (blip_data::TextSource, String, Option<u32>, String);

/// A dataset of a workflow: its stage, whether it is what the stage did not keep, and its manifest.
struct Place {
    stage: String,
    rejected: bool,
    manifest: Digest,
}

/// The stories of the images that `wanted` means: a sample's key, or an image's digest or how it
/// begins. What the stages of the workflow last came to is looked through.
///
/// # Errors
/// [`LineageError`].
pub fn find(
    reader: &Reader,
    graph: &Graph,
    ledger: &Ledger,
    wanted: &str,
) -> Result<Vec<Story>, LineageError> {
    let places = places(graph, ledger);
    let mut images = BTreeSet::new();
    for place in &places {
        each(reader, place, |image, sample| {
            if means(wanted, image, &sample) {
                images.insert(image);
            }
        })?;
    }
    let mut stories: BTreeMap<Digest, (Option<Value>, BTreeMap<Identity, TextStory>)> =
        BTreeMap::new();
    for place in &places {
        each(reader, place, |image, sample| {
            if images.contains(&image) {
                let (truth, texts) = stories.entry(image).or_default();
                *truth = truth.take().or(sample.truth);
                sample
                    .texts
                    .into_iter()
                    .for_each(|text| tell(texts, place, text));
            }
        })?;
    }
    let story = |(image, (truth, texts)): (Digest, (_, BTreeMap<Identity, TextStory>))| Story {
        image,
        truth,
        texts: texts.into_values().collect(),
    };
    Ok(stories.into_iter().map(story).collect())
}

fn means(wanted: &str, image: Digest, sample: &Sample) -> bool {
    let digest = wanted.len() >= DIGITS_MIN && image.to_string().starts_with(wanted);
    digest || sample.texts.iter().any(|text| text.key == wanted)
}

fn tell(texts: &mut BTreeMap<Identity, TextStory>, place: &Place, text: Caption) {
    let identity = (
        text.source,
        text.key.clone(),
        text.number,
        text.text.clone(),
    );
    let fresh = || TextStory {
        text: text.clone(),
        stages: Vec::new(),
        rejected_by: Vec::new(),
    };
    let story = texts.entry(identity).or_insert_with(fresh);
    let stages = if place.rejected {
        &mut story.rejected_by
    } else {
        &mut story.stages
    };
    stages.push(place.stage.clone());
    // Later stages know more; a stage that takes the text from before its judgement does not.
    if text.score.is_some() || story.text.score.is_none() {
        story.text = text;
    }
}

/// The datasets that the stages of a workflow last came to, inputs first.
fn places(graph: &Graph, ledger: &Ledger) -> Vec<Place> {
    let mut places = Vec::new();
    for node in graph
        .ids()
        .map(|id| graph.node(id))
        .filter(|node| node.output == PAIRS)
    {
        let Some(finished) = ledger.get(&node.name) else {
            continue;
        };
        let stage = node.name.clone();
        let rejected = finished
            .side_outputs
            .iter()
            .filter(|(name, _)| name == REJECTED)
            .map(|(_, manifest)| *manifest);
        places.extend(rejected.map(|manifest| Place {
            stage: stage.to_string(),
            rejected: true,
            manifest,
        }));
        places.push(Place {
            stage: stage.to_string(),
            rejected: false,
            manifest: finished.output,
        });
    }
    places
}

/// Every item of a dataset.
fn each(
    reader: &Reader,
    place: &Place,
    mut look: impl FnMut(Digest, Sample),
) -> Result<(), LineageError> {
    let lost = |error: &dyn std::fmt::Display| LineageError {
        stage: place.stage.clone(),
        detail: error.to_string(),
    };
    let object = |digest: &Digest| reader.object(digest).map_err(|error| lost(&error));
    let manifest = Manifest::decode(&object(&place.manifest)?).map_err(|error| lost(&error))?;
    for (chunk, _) in &manifest.chunks {
        for item in Chunk::decode(&object(chunk)?)
            .map_err(|error| lost(&error))?
            .items
        {
            look(
                item.id,
                Sample::decode(&item.payload).map_err(|error| lost(&error))?,
            );
        }
    }
    Ok(())
}
