//! The contact sheet of `select`: some of the kept and of the rejected pairs with their scores.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use blip_data::Caption;
use blip_data::decode::decode;
use blip_data::plot::{SheetEntry, contact_sheet};
use blip_engine::{Digest, OpError, StageCtx};

use super::select::source_name;
use crate::image_store::ImageStore;

/// Pairs on the sheet, kept and rejected ones each.
const SHEET_PAIRS: usize = 18;
/// Pairs that the sheet's are chosen from, kept and rejected ones each: enough that they cover the
/// range of scores.
const SAMPLE_SIZE: usize = 1000;

/// A pair that may be shown.
#[derive(Clone)]
pub(super) struct ScoredPair {
    image: Digest,
    score: f64,
    source: &'static str,
    text: String,
}

impl ScoredPair {
    pub(super) fn new(image: Digest, text: &Caption) -> Self {
        Self {
            image,
            score: text.score.unwrap_or(0.0),
            source: source_name(text.source),
            text: text.text.clone(),
        }
    }
}

/// A sample of a stream of pairs. Keeps the pairs with the lowest digests: as good as drawn at
/// random, but the same whatever the order of the stream, and no seed is needed.
#[derive(Default)]
pub(super) struct ReservoirSample {
    pairs: BTreeMap<Digest, ScoredPair>,
    seen: u64,
}

impl ReservoirSample {
    pub(super) fn add(&mut self, pair: ScoredPair) {
        self.seen += 1;
        let parts = [pair.image.as_bytes(), pair.text.as_bytes()];
        self.pairs
            .insert(Digest::parts("blip/shown/1", &parts), pair);
        if self.pairs.len() > SAMPLE_SIZE {
            self.pairs.pop_last();
        }
    }

    /// The pairs for the sheet, the highest score first, spread evenly over the sampled scores.
    fn spread(self) -> Vec<ScoredPair> {
        let mut pairs: Vec<ScoredPair> = self.pairs.into_values().collect();
        pairs.sort_by(best_first);
        let count = SHEET_PAIRS.min(pairs.len());
        let last = pairs.len().saturating_sub(1);
        (0..count)
            .map(|number| pairs[number * last / (count - 1).max(1)].clone())
            .collect()
    }
}

fn best_first(left: &ScoredPair, right: &ScoredPair) -> Ordering {
    right
        .score
        .total_cmp(&left.score)
        .then_with(|| (left.image, &left.text).cmp(&(right.image, &right.text)))
}

/// Draws a PNG of some kept and some rejected pairs. Images that do not decode are left out.
pub(super) fn draw_sheet(
    ctx: &StageCtx,
    threshold: f64,
    kept: ReservoirSample,
    rejected: ReservoirSample,
) -> Result<Vec<u8>, OpError> {
    let images = ImageStore::of_upstream(ctx)?;
    let title = format!(
        "{} kept, {} rejected at {threshold}",
        kept.seen, rejected.seen
    );
    let mut cards = Vec::new();
    for (sample, kept) in [(kept, true), (rejected, false)] {
        for pair in sample.spread() {
            let Ok(picture) = decode(&images.bytes(&pair.image)?) else {
                continue;
            };
            cards.push(SheetEntry {
                picture,
                text: pair.text,
                source: pair.source.to_owned(),
                score: Some(pair.score),
                kept,
            });
        }
    }
    Ok(contact_sheet(&title, &cards))
}
