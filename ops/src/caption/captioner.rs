//! A captioner with its way of decoding: images in, texts out.

use std::collections::BTreeSet;

use blip_data::rng::Rng;
use blip_data::vocab::Vocab;
use blip_engine::{Args, Digest, MapWorker, OpError, StageCtx, UnitResult, Work};
use blip_model::generate::{Beam, Decoding, GenerationConfig, Nucleus, generate};
use blip_model::{ForwardMode, Med, Role};
use tch::Tensor;

use crate::finetune_captioner::prompt_length;
use crate::inference::{ImageEncoder, ROWS, stack_padded};
use crate::libtorch;
use crate::model::StoredModel;

/// The texts of an image, one for each caption number asked for, or why there are none.
pub(crate) type Generated = Result<Vec<String>, String>;

pub(crate) struct Captioner {
    med: Med,
    vocab: Vocab,
    images: ImageEncoder,
    limits: GenerationConfig,
    decoding: Decoding,
    seed: u64,
}

impl Captioner {
    /// Loads the captioner that the argument `arg` refers to.
    pub(crate) fn new(
        ctx: &StageCtx,
        arg: &str,
        decode: &Args,
        seed: u64,
    ) -> Result<Self, OpError> {
        let stored = StoredModel::read(ctx, ctx.input(arg)?)?;
        let vocab = stored.vocab()?;
        let prompt = stored.header.prompt.clone().unwrap_or_default();
        let limits = decode_limits(decode, &vocab, &prompt, stored.header.config.text.positions)?;
        let med = stored.load(Role::Captioner, libtorch::best_device()?)?;
        let images = ImageEncoder::new(ctx, &med)?;
        Ok(Self {
            med,
            vocab,
            images,
            limits,
            decoding: decoding(decode)?,
            seed,
        })
    }

    /// Generates texts: for each image those of its caption numbers, ascending.
    pub(crate) fn generate(
        &self,
        images: &[Digest],
        numbers: &[BTreeSet<usize>],
    ) -> Result<Vec<Generated>, OpError> {
        let _device = libtorch::lock_device()?;
        let encoded = self.images.encode(&self.med, images)?;
        let mut texts = Vec::with_capacity(images.len());
        let mut decodable: Vec<(usize, &Tensor)> = Vec::new();
        for (position, encoded) in encoded.iter().enumerate() {
            match encoded {
                Ok(tokens) => {
                    decodable.push((position, tokens));
                    texts.push(Ok(Vec::new()));
                }
                Err(reason) => texts.push(Err(reason.clone())),
            }
        }
        for batch in decodable.chunks(ROWS) {
            self.generate_batch(images, numbers, batch, &mut texts);
        }
        Ok(texts)
    }

    /// Generates the texts of at most [`ROWS`] images, given by their positions and tokens.
    fn generate_batch(
        &self,
        images: &[Digest],
        numbers: &[BTreeSet<usize>],
        batch: &[(usize, &Tensor)],
        texts: &mut [Generated],
    ) {
        let tokens: Vec<&Tensor> = batch.iter().map(|(_, tokens)| *tokens).collect();
        let decoder = self.med.decoder();
        let memory = tch::no_grad(|| {
            decoder
                .text
                .cross_kv(&stack_padded(&tokens), ForwardMode::EVAL)
        });
        let wanted: BTreeSet<usize> = batch
            .iter()
            .flat_map(|(position, _)| &numbers[*position])
            .copied()
            .collect();
        for number in wanted {
            // Every row is decoded, also those of images that do not want this number: a batch of
            // another shape would change the bits of the others.
            let rng = |row: usize, length: usize| {
                let (position, _) = batch[row.min(batch.len() - 1)];
                token_random(self.seed, &images[position], number as u64, length as u64)
            };
            let rows = generate(
                decoder,
                &memory,
                (ROWS, 1),
                &self.limits,
                self.decoding,
                ForwardMode::EVAL,
                &rng,
            );
            for ((position, _), ids) in batch.iter().zip(rows) {
                if !numbers[*position].contains(&number) {
                    continue;
                }
                if let Ok(texts) = &mut texts[*position] {
                    texts.push(self.text(&ids));
                }
            }
        }
    }

    /// The text of some tokens, without the prompt and special tokens.
    fn text(&self, ids: &[i64]) -> String {
        let generated = ids.get(self.limits.prompt.len()..).unwrap_or_default();
        self.vocab.decode(generated)
    }
}

impl MapWorker for Captioner {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        let images: Vec<Digest> = work.iter().map(|work| work.item.id).collect();
        let numbers: Vec<BTreeSet<usize>> = work
            .iter()
            .map(|work| work.missing.iter().copied().collect())
            .collect();
        let mut results = Vec::with_capacity(work.len());
        for (work, generated) in work.iter().zip(self.generate(&images, &numbers)?) {
            results.push(match generated {
                Ok(texts) => texts.into_iter().map(unit_result).collect(),
                Err(reason) => vec![UnitResult::Bad(reason); work.missing.len()],
            });
        }
        Ok(results)
    }
}

fn unit_result(text: String) -> UnitResult {
    if text.is_empty() {
        UnitResult::Bad("the captioner generated an empty caption".to_owned())
    } else {
        UnitResult::Ok(text.into_bytes())
    }
}

/// The random number in [0, 1) of a token: a function of the seed, the image, the caption number
/// and the token's position alone, so that a caption does not depend on which others are generated.
fn token_random(seed: u64, image: &Digest, number: u64, length: u64) -> f64 {
    let mut seeds = vec![seed];
    for bytes in image.as_bytes().chunks_exact(8) {
        let bytes = bytes.try_into().expect("eight bytes");
        seeds.push(u64::from_be_bytes(bytes));
    }
    seeds.extend([number, length]);
    Rng::new(&seeds).uniform()
}

fn decode_limits(
    decode: &Args,
    vocab: &Vocab,
    prompt: &str,
    positions: i64,
) -> Result<GenerationConfig, OpError> {
    let special = vocab.special();
    // Without the [SEP] that `encode` appends: the caption goes on from here.
    let mut ids = vocab.encode(prompt, usize::MAX);
    ids.truncate(prompt_length(vocab, prompt));
    ids[0] = special.dec;
    let min_length = decode.count("min_length")? as usize;
    let max_length = decode.count("max_length")? as usize;
    if max_length <= ids.len() {
        let what = format!(
            "`max_length` is {max_length}, but the captioner's prompt alone has {} tokens",
            ids.len()
        );
        return Err(OpError::failed(
            what,
            "raise `max_length`: it includes the prompt",
        ));
    }
    if max_length > positions as usize {
        let what = format!(
            "`max_length` is {max_length}, but the captioner supports at most {positions} tokens"
        );
        return Err(OpError::failed(what, "lower `max_length`"));
    }
    if min_length > max_length {
        let what =
            format!("`min_length` ({min_length}) is greater than `max_length` ({max_length})");
        return Err(OpError::failed(
            what,
            "lower `min_length` or raise `max_length`",
        ));
    }
    Ok(GenerationConfig {
        prompt: ids,
        min_length,
        max_length,
        repetition_penalty: decode.float("repetition_penalty")? as f32,
        eos: special.sep,
    })
}

fn decoding(decode: &Args) -> Result<Decoding, OpError> {
    Ok(match decode.op() {
        "greedy" => Decoding::Greedy,
        "beam" => Decoding::Beam(Beam {
            beams: decode.count("beams")? as usize,
            length_penalty: decode.float("length_penalty")? as f32,
        }),
        _ => Decoding::Nucleus(Nucleus {
            top_p: decode.float("top_p")?,
            top_k: decode.count("top_k")? as usize,
            temperature: decode.float("temperature")?,
        }),
    })
}
