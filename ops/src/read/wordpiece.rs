//! `read.wordpiece`: a vocabulary in BERT's formats, `vocab.txt` or `tokenizer.json`.

use blip_data::vocab::Vocab;
use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::types::VOCAB;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.wordpiece",
        VOCAB,
        "A WordPiece vocabulary from a `vocab.txt` (one token per line) or a `tokenizer.json`. \
         BLIP's `[DEC]` and `[ENC]` are appended where they are missing. Vocabularies with capital \
         letters and tokenizers other than BERT's are refused by name.",
    )
    .example("read.wordpiece(\"vocab.txt\")")
    .arg(Arg::required("path", Type::Path, "The file."));
    Op::run(signature, 2, run).reading(|args, files| Ok(vec![files.file(args.path("path")?)?]))
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let [file] = ctx.sources() else {
        return Err(OpError::Bug(
            "the vocabulary is not among the sources".to_owned(),
        ));
    };
    let bytes = file.read()?;
    let vocab = Vocab::read(&bytes).map_err(|error| {
        OpError::failed(
            format!("{} cannot be used: {error}", file.path.display()),
            "use the vocab.txt or tokenizer.json of a BERT model such as bert-base-uncased",
        )
    })?;
    Ok(Output {
        count: Some(vocab.len() as u64),
        ..Output::of(ctx.put(vocab.to_text().as_bytes())?)
    })
}
