//! `learn.wordpiece`: a vocabulary learned from captions.

use blip_data::vocab::Vocab;
use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::pairs::for_each_sample;
use crate::types::{PAIRS, VOCAB};

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "learn.wordpiece",
        VOCAB,
        "A WordPiece vocabulary learned from captions: the special tokens, every character, then \
         the most frequent words. The order of the captions does not matter.",
    )
    .example("learn.wordpiece(web_pairs, human_pairs, size = 8000)")
    .arg(Arg::required("pairs", PAIRS, "The captions to learn from.").variadic())
    .arg(
        Arg::with_default(
            "size",
            Type::Int,
            "30522",
            "Maximum number of tokens; all characters \
                                                       are kept even beyond it.",
        )
        .within(16.0, 1_000_000.0),
    );
    Op::run(signature, 1, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let size = usize::try_from(ctx.args().count("size")?).unwrap_or(usize::MAX);
    let mut texts = Vec::new();
    for pairs in ctx.inputs("pairs")? {
        for_each_sample(ctx, pairs, |_, sample| {
            texts.extend(sample.texts.into_iter().map(|text| text.text));
            Ok(())
        })?;
    }
    let vocab = Vocab::learn(texts.iter().map(String::as_str), size)
        .map_err(|error| OpError::Bug(format!("a learned vocabulary is invalid: {error}")))?;
    if !texts.iter().any(|text| vocab.knows_any(text)) {
        let what = format!("no words found in the {} captions", texts.len());
        return Err(OpError::failed(
            what,
            "pass pairs with captions, or read a vocabulary with `read.wordpiece`",
        ));
    }
    let mut notes = Vec::new();
    if vocab.len() > size {
        notes.push(format!(
            "{} tokens instead of {size}: every character of the captions is kept",
            vocab.len()
        ));
    }
    let output = Output::of(ctx.put(vocab.to_text().as_bytes())?);
    Ok(Output {
        count: Some(vocab.len() as u64),
        notes,
        ..output
    })
}
