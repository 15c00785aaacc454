//! Decoding of captions: greedy, beam search, nucleus sampling (Holtzman et al. 2019), with the
//! semantics of transformers' `generate`.
//!
//! The model runs on batches; everything that follows from its logits is computed row by row on the
//! host, so that a row's caption never depends on the rows beside it. Self-attention keys and
//! values are cached, those of an image are projected once for all its rows, and the prompt is read
//! once per image.

use tch::{Kind, Tensor, no_grad};

use crate::layers::ForwardMode;
use crate::med::Decoder;
use crate::text::{CrossKv, KvCache};

mod beam;
mod sampling;

pub use self::beam::Beam;
use self::beam::beam_search;
pub use self::sampling::{Nucleus, nucleus_distribution};
use self::sampling::{argmax, sample, sample_token};

/// What all decoding methods have in common. Lengths include the prompt, as in BLIP.
#[derive(Clone, PartialEq, Debug)]
pub struct GenerationConfig {
    /// The tokens that every caption begins with, `[DEC]` first.
    pub prompt: Vec<i64>,
    /// The end token is impossible before this many tokens.
    pub min_length: usize,
    /// A caption ends at this many tokens, with or without an end token.
    pub max_length: usize,
    /// Divides positive and multiplies negative logits of tokens that already occurred; 1 changes
    /// nothing.
    pub repetition_penalty: f32,
    /// The end token, `[SEP]`.
    pub eos: i64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decoding {
    /// The most probable token at each step.
    Greedy,
    Beam(Beam),
    Nucleus(Nucleus),
}

/// Captions as token ids, prompt included, end token included if there is one.
pub type Sequences = Vec<Vec<i64>>;

/// Generates `rows` captions for each image; the captions of an image are adjacent.
/// `uniform(row, length)` gives the random number in [0, 1) for the token at position `length` of a
/// row; only nucleus sampling calls it.
pub fn generate(
    decoder: &Decoder,
    cross_kv: &CrossKv,
    (images, rows): (usize, usize),
    config: &GenerationConfig,
    decoding: Decoding,
    mode: ForwardMode,
    uniform: &dyn Fn(usize, usize) -> f64,
) -> Sequences {
    let start = |width: usize| DecoderRun::new(decoder, cross_kv, images, width, config, mode);
    no_grad(|| match decoding {
        Decoding::Greedy => {
            let captions = sample(start(1), config, |_, _, logits| argmax(logits));
            repeat_each(captions, rows)
        }
        Decoding::Nucleus(nucleus) => sample(start(rows), config, |row, length, logits| {
            let distribution = nucleus_distribution(logits, nucleus);
            sample_token(&distribution, uniform(row, length))
        }),
        Decoding::Beam(beam) => {
            let captions = beam_search(start(beam.beams), images, config, beam);
            repeat_each(captions, rows)
        }
    })
}

/// Deterministic methods give all rows of an image the same caption: it is decoded once.
fn repeat_each(captions: Sequences, rows: usize) -> Sequences {
    let repeated = captions.into_iter();
    repeated
        .flat_map(|caption| std::iter::repeat_n(caption, rows))
        .collect()
}

/// The model's side of a decoding: rows with their caches.
struct DecoderRun<'a> {
    decoder: &'a Decoder,
    cross_kv: &'a CrossKv,
    cache: KvCache,
    /// Of the next token, (rows, vocab).
    logits: Tensor,
    mode: ForwardMode,
}

impl<'a> DecoderRun<'a> {
    /// Reads the prompt once per image, then makes `width` rows of each.
    fn new(
        decoder: &'a Decoder,
        cross_kv: &'a CrossKv,
        images: usize,
        width: usize,
        config: &GenerationConfig,
        mode: ForwardMode,
    ) -> Self {
        let text = &decoder.text;
        let device = text.word_embeddings().device();
        let rows = images as i64;
        let prompt = Tensor::from_slice(&config.prompt)
            .to_device(device)
            .unsqueeze(0) // (1, prompt)
            .expand([rows, -1], false) // (images, prompt)
            .contiguous();
        let mut cache = text.kv_cache(rows, config.max_length as i64, mode.dtype(), device);
        let hidden = text.step(&prompt, &mut cache, cross_kv, mode); // (images, prompt, C)
        let logits = decoder.head(&hidden.select(1, -1), mode); // (images, vocab)
        let image_of_row: Vec<i64> = (0..rows)
            .flat_map(|image| std::iter::repeat_n(image, width))
            .collect();
        let image_of_row = Tensor::from_slice(&image_of_row).to_device(device); // (rows)
        Self {
            decoder,
            cross_kv,
            cache: cache.select(&image_of_row),
            logits: logits.index_select(0, &image_of_row), // (rows, vocab)
            mode,
        }
    }

    /// Appends one token to each row.
    fn step(&mut self, tokens: &[i64]) {
        let ids = Tensor::from_slice(tokens)
            .to_device(self.logits.device())
            .unsqueeze(1); // (rows, 1)
        let text = &self.decoder.text;
        let hidden = text.step(&ids, &mut self.cache, self.cross_kv, self.mode); // (rows, 1, C)
        self.logits = self.decoder.head(&hidden.select(1, 0), self.mode); // (rows, vocab)
    }

    /// Continues with these rows, in this order.
    fn select(&mut self, rows: &[i64]) {
        let rows = Tensor::from_slice(rows).to_device(self.logits.device());
        self.cache = self.cache.select(&rows);
    }

    /// One vector of `vocab` logits per row.
    fn logits(&self) -> Rows {
        to_host(&self.logits)
    }

    fn log_probabilities(&self) -> Rows {
        to_host(&self.logits.log_softmax(-1, Kind::Float))
    }
}

type Rows = Vec<Vec<f32>>;

fn to_host(tensor: &Tensor) -> Rows {
    Vec::<Vec<f32>>::try_from(tensor).expect("a table of floats")
}

/// Repetition penalty, then minimum length: transformers' `RepetitionPenaltyLogitsProcessor` and
/// `MinLengthLogitsProcessor`. `tokens` is the row so far, prompt included.
pub fn process_logits(logits: &mut [f32], tokens: &[i64], config: &GenerationConfig) {
    let penalty = config.repetition_penalty;
    if penalty != 1.0 {
        let mut seen: Vec<i64> = tokens.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let logit = &mut logits[token as usize];
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
    if tokens.len() < config.min_length {
        logits[config.eos as usize] = f32::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_equal_those_of_transformers() {
        let config = GenerationConfig {
            prompt: vec![1],
            min_length: 3,
            max_length: 9,
            repetition_penalty: 2.0,
            eos: 0,
        };
        let mut logits = [4.0, -1.0, 3.0];
        process_logits(&mut logits, &[1, 2, 2], &config);
        assert_eq!(logits, [4.0, -2.0, 1.5]);
        process_logits(&mut logits, &[1], &config);
        assert_eq!(logits[0], f32::NEG_INFINITY);
    }
}
