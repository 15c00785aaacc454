//! The map stage `score`: one unit of work for each image and text.

use blip_data::clean;
use blip_data::vocab::Vocab;
use blip_engine::{Digest, Item, MapOp, MapWorker, OpError, StageCtx, UnitResult, Work};
use blip_model::{Med, Role};
use tch::Tensor;

use crate::inference::{Encoded, ITEMS, ImageEncoder, match_scores};
use crate::libtorch;
use crate::model::StoredModel;
use crate::pairs::decode_sample;

pub(super) struct Score {
    filter: Digest,
}

impl Score {
    pub(super) fn new(ctx: &StageCtx) -> Result<Self, OpError> {
        let filter = ctx.input("filter")?.digest;
        Ok(Self { filter })
    }
}

impl MapOp for Score {
    fn input_arg(&self) -> &'static str {
        "pairs"
    }

    /// A unit is named by the cleaned text: texts that the filter reads alike are scored once.
    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        let unit =
            |text: String| Digest::parts("blip/score/1", &[item.id.as_bytes(), text.as_bytes()]);
        Ok(cleaned_texts(item)?.into_iter().map(unit).collect())
    }

    fn batch(&self) -> usize {
        ITEMS
    }

    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        Ok(Box::new(FilterScorer::new(ctx, "filter")?))
    }

    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        let mut sample = decode_sample(item)?;
        for (text, result) in sample.texts.iter_mut().zip(results) {
            text.judge = Some(self.filter.to_string());
            // A verdict on an earlier score does not hold for this one.
            text.kept = None;
            text.score = match result {
                UnitResult::Ok(bytes) => Some(decode_score(bytes)?),
                UnitResult::Bad(_) => None,
            };
        }
        Ok(sample.encode())
    }
}

/// The texts of an item as the filter reads them.
fn cleaned_texts(item: &Item) -> Result<Vec<String>, OpError> {
    let sample = decode_sample(item)?;
    Ok(sample
        .texts
        .iter()
        .map(|text| clean::caption(&text.text, clean::WORDS_MAX))
        .collect())
}

fn decode_score(bytes: &[u8]) -> Result<f64, OpError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| OpError::Bug("a stored score is not 8 bytes long".to_owned()))?;
    Ok(f64::from_be_bytes(bytes))
}

/// A loaded filter, or a pretrained model in its place, that scores pairs.
pub(crate) struct FilterScorer {
    pub(crate) med: Med,
    pub(crate) vocab: Vocab,
    pub(crate) images: ImageEncoder,
}

impl FilterScorer {
    /// Loads the model that the argument `arg` refers to.
    pub(crate) fn new(ctx: &StageCtx, arg: &str) -> Result<Self, OpError> {
        let artifact = ctx.input(arg)?;
        let stored = StoredModel::read(ctx, artifact)?;
        let vocab = stored.vocab()?;
        let role = if artifact.ty == "Filter" {
            Role::Filter
        } else {
            Role::Pretrained
        };
        let med = stored.load(role, libtorch::best_device()?)?;
        let images = ImageEncoder::new(ctx, &med)?;
        Ok(Self { med, vocab, images })
    }
}

/// The texts of a batch of work that can be scored, and where their scores go.
#[derive(Default)]
struct Scorable<'a> {
    /// Tokens of the decodable images.
    tokens: Vec<&'a Tensor>,
    /// Positions in `tokens`, and cleaned texts.
    pairs: Vec<(usize, &'a str)>,
    /// Where the score of each pair goes: position of the work, position in its results.
    slots: Vec<(usize, usize)>,
}

impl MapWorker for FilterScorer {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        let _device = libtorch::lock_device()?;
        let texts = work
            .iter()
            .map(|work| cleaned_texts(&work.item))
            .collect::<Result<Vec<_>, _>>()?;
        let images: Vec<Digest> = work.iter().map(|work| work.item.id).collect();
        let encoded = self.images.encode(&self.med, &images)?;
        let (scorable, mut results) = self.sort_out(work, &texts, &encoded);
        let scores = match_scores(&self.med, &self.vocab, &scorable.tokens, &scorable.pairs);
        for ((position, slot), score) in scorable.slots.into_iter().zip(scores) {
            results[position][slot] = UnitResult::Ok(score.to_be_bytes().to_vec());
        }
        Ok(results)
    }
}

impl FilterScorer {
    /// Splits work into what can be scored and results that say why the rest cannot.
    fn sort_out<'a>(
        &self,
        work: &[Work],
        texts: &'a [Vec<String>],
        encoded: &'a [Encoded],
    ) -> (Scorable<'a>, Vec<Vec<UnitResult>>) {
        let mut scorable = Scorable::default();
        let mut results = Vec::with_capacity(work.len());
        for (position, (work, encoded)) in work.iter().zip(encoded).enumerate() {
            let tokens = match encoded {
                Ok(tokens) => tokens,
                Err(reason) => {
                    results.push(vec![UnitResult::Bad(reason.clone()); work.missing.len()]);
                    continue;
                }
            };
            let image = scorable.tokens.len();
            scorable.tokens.push(tokens);
            // Scores replace the results of the texts that are scored.
            let reason = "no word of the text is in the vocabulary".to_owned();
            results.push(vec![UnitResult::Bad(reason); work.missing.len()]);
            for (slot, missing) in work.missing.iter().enumerate() {
                let text = &texts[position][*missing];
                if self.vocab.knows_any(text) {
                    scorable.pairs.push((image, text));
                    scorable.slots.push((position, slot));
                }
            }
        }
        (scorable, results)
    }
}
