//! `greedy`, `beam`, `nucleus` and `caption`: a captioner writes texts for images (paper section
//! 3.3).

use std::collections::BTreeSet;

use blip_data::random::Random;
use blip_data::vocab::Vocab;
use blip_data::{Caption, TextSource};
use blip_engine::{Args, Digest, Item, MapOp, MapWorker, Op, OpError, StageCtx, UnitResult, Work};
use blip_grammar::{Arg, Signature, Type};
use blip_model::generate::{Beam, Decoding, Limits, Nucleus, generate};
use blip_model::{Med, Pass, Role};
use tch::Tensor;

use crate::finetune_captioner::prompt_length;
use crate::inference::{ITEMS, ImageEncoder, ROWS, rows_of};
use crate::libtorch;
use crate::model::Stored;
use crate::pairs;
use crate::types::{CAPTIONER, DECODE, PAIRS};

/// The ops of this file.
pub(crate) fn ops() -> Vec<Op> {
    let greedy = Signature::config("greedy", DECODE, "The most probable token each time.")
        .example("greedy()");
    let beam = Signature::config(
        "beam",
        DECODE,
        "Beam search: the most probable texts among those that begin most probably. Safe and plain texts.",
    )
    .example("beam(beams = 3)")
    .arg(Arg::with_default("beams", Type::Int, "3", "Beginnings kept.").within(1.0, 64.0))
    .arg(
        Arg::with_default(
            "length_penalty",
            Type::Float,
            "1.0",
            "A text's log-probability is divided by its length to this power.",
        )
        .within(-10.0, 10.0),
    );
    let nucleus = Signature::config(
        "nucleus",
        DECODE,
        "Nucleus sampling: a random token out of the most probable ones. Diverse texts, which make the better bootstrap (paper table 2).",
    )
    .example("nucleus(top_p = 0.9)")
    .arg(Arg::with_default("top_p", Type::Float, "0.9", "The share of the probability that the candidates make up.").within(0.0, 1.0))
    .arg(
        Arg::with_default("top_k", Type::Int, "50", "Only this many most probable tokens come into question; 0 for all.")
            .within(0.0, 1e6),
    )
    .arg(Arg::with_default("temperature", Type::Float, "1.0", "Divides the logits.").within(0.01, 100.0));
    let plain = |signature| limits(signature, "1.0");
    vec![
        Op::config(plain(greedy)),
        Op::config(plain(beam)),
        // The official code samples with a repetition penalty of 1.1.
        Op::config(limits(nucleus, "1.1")),
        caption(),
    ]
}

fn limits(signature: Signature, penalty: &'static str) -> Signature {
    let length =
        |name, default, doc| Arg::with_default(name, Type::Int, default, doc).within(0.0, 512.0);
    signature
        .arg(length(
            "min_length",
            "5",
            "Fewest tokens of a text, the prompt included.",
        ))
        .arg(length(
            "max_length",
            "20",
            "Most tokens of a text, the prompt included.",
        ))
        .arg(
            Arg::with_default(
                "repetition_penalty",
                Type::Float,
                penalty,
                "Makes tokens that occurred already less probable; 1 does not.",
            )
            .within(0.01, 100.0),
        )
}

fn caption() -> Op {
    let signature = Signature::stage(
        "caption",
        PAIRS,
        "Writes synthetic texts for the images of pairs. The pairs' own texts are not looked at.",
    )
    .example(
        "caption(captioner, web_pairs, decode = nucleus(top_p = 0.9), per_image = 1, seed = 42)",
    )
    .arg(Arg::required(
        "captioner",
        CAPTIONER,
        "The model that writes.",
    ))
    .arg(Arg::required("pairs", PAIRS, "The images."))
    .arg(Arg::with_default(
        "decode",
        DECODE,
        "nucleus()",
        "How it writes.",
    ))
    .arg(
        Arg::with_default(
            "per_image",
            Type::Int,
            "1",
            "Texts of each image; only nucleus sampling gives different ones.",
        )
        .within(1.0, 1000.0),
    )
    .arg(Arg::with_default("seed", Type::Int, "0", "What sampling is made of.").within(0.0, 9e15));
    Op::map(signature, 2, |ctx| Ok(Box::new(CaptionOp::new(ctx)?))).numeric()
}

struct CaptionOp {
    captioner: Digest,
    per_image: u32,
    seed: u64,
}

impl CaptionOp {
    fn new(ctx: &StageCtx) -> Result<Self, OpError> {
        let args = ctx.args();
        let per_image = u32::try_from(args.count("per_image")?).expect("its range is small");
        Ok(Self {
            captioner: ctx.input("captioner")?.digest,
            per_image,
            seed: args.count("seed")?,
        })
    }
}

impl MapOp for CaptionOp {
    fn input_arg(&self) -> &'static str {
        "pairs"
    }

    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        let unit = |number: u32| {
            Digest::parts(
                "blip/caption/1",
                &[item.id.as_bytes(), &number.to_be_bytes()],
            )
        };
        Ok((0..self.per_image).map(unit).collect())
    }

    /// More captions of an image are more units: those it has stay as they are.
    fn args_outside_unit_key(&self) -> &'static [&'static str] {
        &["per_image"]
    }

    fn batch(&self) -> usize {
        ITEMS
    }

    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        Ok(Box::new(Writer::new(
            ctx,
            "captioner",
            &ctx.args().config("decode")?,
            self.seed,
        )?))
    }

    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        let mut sample = pairs::decode(item)?;
        let key = sample
            .texts
            .first()
            .map_or_else(|| item.id.short(), |text| text.key.clone());
        let text = |(number, result): (u32, &UnitResult)| {
            let UnitResult::Ok(bytes) = result else {
                return None;
            };
            let text = Caption::read(
                String::from_utf8_lossy(bytes).into_owned(),
                TextSource::Synthetic,
                key.clone(),
            );
            let (model, seed) = (Some(self.captioner.to_string()), Some(self.seed));
            Some(Caption {
                model,
                seed,
                number: Some(number),
                ..text
            })
        };
        sample.texts = (0..).zip(results).filter_map(text).collect();
        Ok(sample.encode())
    }
}

/// A captioner with its way of decoding.
pub(crate) struct Writer {
    med: Med,
    vocab: Vocab,
    images: ImageEncoder,
    limits: Limits,
    decoding: Decoding,
    seed: u64,
}

impl Writer {
    /// The captioner of an argument.
    pub(crate) fn new(
        ctx: &StageCtx,
        arg: &str,
        decode: &Args,
        seed: u64,
    ) -> Result<Self, OpError> {
        let stored = Stored::read(ctx, ctx.input(arg)?)?;
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

    /// Texts for images: for each image those of its numbers, or why there are none.
    pub(crate) fn write(
        &self,
        images: &[Digest],
        numbers: &[BTreeSet<usize>],
    ) -> Result<Vec<Result<Vec<String>, String>>, OpError> {
        let _turn = libtorch::turn()?;
        let encoded = self.images.encode(&self.med, images)?;
        let good: Vec<usize> = (0..images.len())
            .filter(|at| encoded[*at].is_ok())
            .collect();
        let mut texts: Vec<Result<Vec<String>, String>> = encoded
            .iter()
            .map(|encoded| encoded.as_ref().map(|_| Vec::new()).map_err(Clone::clone))
            .collect();
        for places in good.chunks(ROWS) {
            let tokens: Vec<&Tensor> = places
                .iter()
                .filter_map(|at| encoded[*at].as_ref().ok())
                .collect();
            let memory = tch::no_grad(|| {
                self.med
                    .decoder()
                    .text
                    .memory(&rows_of(&tokens), Pass::EVAL)
            });
            let wanted: BTreeSet<usize> = places
                .iter()
                .flat_map(|at| &numbers[*at])
                .copied()
                .collect();
            for number in wanted {
                let unit = |row: usize, length: usize| {
                    let image = images[places[row.min(places.len() - 1)]];
                    sampling(self.seed, &image, number as u64, length as u64)
                };
                let written = generate(
                    self.med.decoder(),
                    &memory,
                    (ROWS, 1),
                    &self.limits,
                    self.decoding,
                    Pass::EVAL,
                    &unit,
                );
                for (at, ids) in places
                    .iter()
                    .zip(written)
                    .filter(|(at, _)| numbers[**at].contains(&number))
                {
                    if let Ok(texts) = &mut texts[*at] {
                        texts.push(self.text(&ids));
                    }
                }
            }
        }
        Ok(texts)
    }

    /// A text without its prompt and special tokens.
    fn text(&self, ids: &[i64]) -> String {
        self.vocab
            .decode(ids.get(self.limits.prompt.len()..).unwrap_or_default())
    }
}

impl MapWorker for Writer {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        let images: Vec<Digest> = work.iter().map(|work| work.item.id).collect();
        let numbers: Vec<BTreeSet<usize>> = work
            .iter()
            .map(|work| work.missing.iter().copied().collect())
            .collect();
        let written = self.write(&images, &numbers)?;
        let result = |(work, written): (&Work, Result<Vec<String>, String>)| match written {
            Ok(texts) => texts.into_iter().map(text_result).collect(),
            Err(reason) => vec![UnitResult::Bad(reason); work.missing.len()],
        };
        Ok(work.iter().zip(written).map(result).collect())
    }
}

fn text_result(text: String) -> UnitResult {
    if text.is_empty() {
        UnitResult::Bad("the captioner wrote nothing".to_owned())
    } else {
        UnitResult::Ok(text.into_bytes())
    }
}

/// The random number of a token: a function of seed, image, caption number and place alone.
fn sampling(seed: u64, image: &Digest, number: u64, length: u64) -> f64 {
    let words = image
        .as_bytes()
        .chunks_exact(8)
        .map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
    let seeds: Vec<u64> = [seed]
        .into_iter()
        .chain(words)
        .chain([number, length])
        .collect();
    Random::new(&seeds).unit()
}

fn decode_limits(
    decode: &Args,
    vocab: &Vocab,
    prompt: &str,
    positions: i64,
) -> Result<Limits, OpError> {
    let special = vocab.special();
    let mut ids = vocab.encode(prompt, usize::MAX);
    ids.truncate(prompt_length(vocab, prompt));
    ids[0] = special.dec;
    let (min_length, max_length) = (
        decode.count("min_length")? as usize,
        decode.count("max_length")? as usize,
    );
    let fault = |what: String, help: &str| Err(OpError::failed(what, help));
    if max_length <= ids.len() {
        let what = format!(
            "`max_length` is {max_length}, and the captioner's prompt alone has {} tokens",
            ids.len()
        );
        return fault(what, "raise `max_length`: it counts the prompt");
    }
    if max_length > positions as usize {
        let what = format!(
            "`max_length` is {max_length}, and the captioner reads texts of at most {positions} tokens"
        );
        return fault(what, "lower `max_length`");
    }
    if min_length > max_length {
        return fault(
            format!("`min_length` is {min_length}, which is more than `max_length`, {max_length}"),
            "lower `min_length` or raise `max_length`",
        );
    }
    Ok(Limits {
        prompt: ids,
        min_length,
        max_length,
        repetition_penalty: decode.float("repetition_penalty")? as f32,
        end: special.sep,
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
