//! `greedy`, `beam`, `nucleus` and `caption`: a captioner generates texts for images (paper section
//! 3.3).

mod captioner;

use blip_data::{Caption, TextSource};
use blip_engine::{Digest, Item, MapOp, MapWorker, Op, OpError, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

pub(crate) use self::captioner::Captioner;
use crate::inference::ITEMS;
use crate::pairs::decode_sample;
use crate::types::{CAPTIONER, DECODE, PAIRS};

/// The ops of this file.
pub(crate) fn ops() -> Vec<Op> {
    vec![
        Op::config(with_limits(greedy(), "1.0")),
        Op::config(with_limits(beam(), "1.0")),
        // The official code samples with a repetition penalty of 1.1 and searches without one.
        Op::config(with_limits(nucleus(), "1.1")),
        caption(),
    ]
}

fn greedy() -> Signature {
    Signature::config(
        "greedy",
        DECODE,
        "Greedy decoding: the most probable token at each step.",
    )
    .example("greedy()")
}

fn beam() -> Signature {
    Signature::config(
        "beam",
        DECODE,
        "Beam search: extends the most probable partial captions. Gives safe, generic captions.",
    )
    .example("beam(beams = 3)")
    .arg(Arg::with_default("beams", Type::Int, "3", "Number of beams.").within(1.0, 64.0))
    .arg(
        Arg::with_default(
            "length_penalty",
            Type::Float,
            "1.0",
            "A caption's log-probability is divided by its length to this power.",
        )
        .within(-10.0, 10.0),
    )
}

fn nucleus() -> Signature {
    Signature::config(
        "nucleus",
        DECODE,
        "Nucleus sampling: a random token out of the most probable ones. Gives diverse captions, \
         which bootstrap better (paper table 2).",
    )
    .example("nucleus(top_p = 0.9)")
    .arg(
        Arg::with_default(
            "top_p",
            Type::Float,
            "0.9",
            "Cumulative probability of the candidate tokens.",
        )
        .within(0.0, 1.0),
    )
    .arg(
        Arg::with_default(
            "top_k",
            Type::Int,
            "50",
            "Maximum number of candidate tokens; 0 for no limit.",
        )
        .within(0.0, 1e6),
    )
    .arg(
        Arg::with_default("temperature", Type::Float, "1.0", "Divides the logits.")
            .within(0.01, 100.0),
    )
}

/// Adds the arguments that every way of decoding has.
fn with_limits(signature: Signature, repetition_penalty: &'static str) -> Signature {
    let length =
        |name, default, doc| Arg::with_default(name, Type::Int, default, doc).within(0.0, 512.0);
    signature
        .arg(length(
            "min_length",
            "5",
            "Minimum caption length in tokens, including the prompt.",
        ))
        .arg(length(
            "max_length",
            "20",
            "Maximum caption length in tokens, including the prompt.",
        ))
        .arg(
            Arg::with_default(
                "repetition_penalty",
                Type::Float,
                repetition_penalty,
                "Makes tokens that already occurred less probable; 1 for no penalty.",
            )
            .within(0.01, 100.0),
        )
}

fn caption() -> Op {
    let signature = Signature::stage(
        "caption",
        PAIRS,
        "Generates synthetic captions for the images of pairs. The texts of the pairs are ignored.",
    )
    .example(
        "caption(captioner, web_pairs, decode = nucleus(top_p = 0.9), per_image = 1, seed = 42)",
    )
    .arg(Arg::required("captioner", CAPTIONER, "The captioner."))
    .arg(Arg::required("pairs", PAIRS, "The images."))
    .arg(Arg::with_default(
        "decode",
        DECODE,
        "nucleus()",
        "How captions are decoded.",
    ))
    .arg(
        Arg::with_default(
            "per_image",
            Type::Int,
            "1",
            "Captions per image; they differ with nucleus sampling only.",
        )
        .within(1.0, 1000.0),
    )
    .arg(Arg::with_default("seed", Type::Int, "0", "Seed of the sampling.").within(0.0, 9e15));
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

    /// A generated text with its provenance.
    fn synthetic(&self, text: &[u8], key: String, number: u32) -> Caption {
        let text = String::from_utf8_lossy(text).into_owned();
        Caption {
            model: Some(self.captioner.to_string()),
            seed: Some(self.seed),
            number: Some(number),
            ..Caption::new(text, TextSource::Synthetic, key)
        }
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

    /// More captions of an image are more units: the captions it already has stay as they are.
    fn args_outside_unit_key(&self) -> &'static [&'static str] {
        &["per_image"]
    }

    fn batch(&self) -> usize {
        ITEMS
    }

    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        let decode = ctx.args().config("decode")?;
        Ok(Box::new(Captioner::new(
            ctx,
            "captioner",
            &decode,
            self.seed,
        )?))
    }

    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        let mut sample = decode_sample(item)?;
        let key = match sample.texts.first() {
            Some(text) => text.key.clone(),
            None => item.id.short(),
        };
        sample.texts.clear();
        for (number, result) in (0..).zip(results) {
            if let UnitResult::Ok(text) = result {
                let text = self.synthetic(text, key.clone(), number);
                sample.texts.push(text);
            }
        }
        Ok(sample.encode())
    }
}
