//! `load.captioner`, `load.filter`, `load.pretrained`: models of transformers and of the official
//! code.

use std::path::{Path, PathBuf};

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::huggingface::export::RETRIEVAL;
use blip_model::huggingface::{Checkpoint, CheckpointError, TokenIds};
use blip_model::pth::PthError;
use blip_model::{Role, vision};

use crate::libtorch;
use crate::model::{self, Header};
use crate::types::{CAPTIONER, FILTER, MODEL, VOCAB};

/// What captions of the published captioners begin with.
const PROMPT: &str = "a picture of ";
const CONFIG: &str = "config.json";
/// The files of a folder, as far as they matter, in the order in which they are looked for. Weights
/// in several files are listed by pattern.
const FILES: [&str; 6] = [
    CONFIG,
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    VOCAB_FILES[0],
    VOCAB_FILES[1],
];
const VOCAB_FILES: [&str; 2] = ["vocab.txt", "tokenizer.json"];
const SHARDS: &str = "model-*-of-*.safetensors";

/// The ops of this file.
pub(crate) fn ops() -> [Op; 3] {
    let op = |name, ty, role, doc, example, prompt: bool| {
        let mut signature = Signature::stage(name, ty, doc)
            .example(example)
            .arg(Arg::required(
                "path",
                Type::Path,
                "A folder that `save_pretrained` or `export … as huggingface` wrote, or an official `.pth` file.",
            ))
            .arg(Arg::optional("vocab", VOCAB, "The vocabulary, where the folder has none; with `.pth` files always."))
            .arg(
                Arg::optional("image", Type::Int, "Side of the images in pixels, when it is to be another than the model's.")
                    .within(4.0, 4096.0),
            )
            .arg(Arg::with_default(
                "waive",
                Type::List(&Type::Str),
                "[]",
                "Names of tensors that may be missing, unexpected, misshapen or not finite; they begin anew or stay behind.",
            ));
        if prompt {
            signature = signature.arg(Arg::optional(
                "prompt",
                Type::Str,
                "What captions begin with, when the model does not say it and it is not \"a picture of \".",
            ));
        }
        Op::run(signature, 1, move |ctx| run(ctx, role)).reading(|args, files| {
            let path = args.path("path")?;
            let mut found = files.folder(path, &FILES)?;
            if found.is_empty() {
                return Ok(vec![files.file(path)?]);
            }
            if found.iter().any(|file| file.name.ends_with(".index.json")) {
                found.extend(files.glob(&format!("{path}/{SHARDS}"))?);
            }
            found.extend(files.folder(&format!("{path}/{RETRIEVAL}"), &FILES)?);
            Ok(found)
        })
    };
    [
        op(
            "load.captioner",
            CAPTIONER,
            Role::Captioner,
            "A captioner out of a `BlipForConditionalGeneration` of transformers, or out of an official checkpoint.",
            "load.captioner(\"blip-image-captioning-base\")",
            true,
        ),
        op(
            "load.filter",
            FILTER,
            Role::Filter,
            "A filter out of a `BlipForImageTextRetrieval` of transformers, or out of an official checkpoint.",
            "load.filter(\"blip-itm-base-coco\")",
            false,
        ),
        op(
            "load.pretrained",
            MODEL,
            Role::Pretrained,
            "A pretrained model out of an official checkpoint or of what `export … as huggingface` made of one.",
            "load.pretrained(\"model_base.pth\", vocab = read.wordpiece(\"vocab.txt\"))",
            false,
        ),
    ]
}

fn run(ctx: &mut StageCtx, role: Role) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let path = place(ctx)?;
    let checkpoint = Checkpoint::read(&path).map_err(|error| failed(&error))?;
    if !checkpoint.serves(role) {
        let what = format!(
            "{} holds a {}, and `{}` needs {}",
            path.display(),
            checkpoint.holds.noun(),
            args.op(),
            needed(role)
        );
        return Err(OpError::failed(
            what,
            "load it by the op of its kind: `blip model inspect` shows what it holds",
        ));
    }
    let vocab = vocabulary(ctx, &path)?;
    fits(&vocab, &checkpoint).map_err(|what| {
        OpError::failed(
            format!("{}: {what}", path.display()),
            "use the vocabulary that the model was trained with",
        )
    })?;
    let waived: Vec<String> = args
        .texts("waive")?
        .into_iter()
        .map(str::to_owned)
        .collect();
    let _turn = libtorch::turn()?;
    let mut tensors = checkpoint
        .tensors_of(role, &waived)
        .map_err(|error| failed(&error))?;
    let mut config = checkpoint.config.med.clone();
    if let Some(image) = args.optional("image", Args::int)? {
        vision::resize(&mut config, &mut tensors, image)
            .map_err(|error| OpError::failed(error.to_string(), "choose another `image`"))?;
    }
    let med = blip_model::Med::load(&config, role, &tensors, tch::Device::Cpu)
        .map_err(|error| OpError::Bug(format!("tensors that fitted do not fit: {error}")))?;
    let prompt = match role {
        Role::Captioner => {
            let given = args.optional("prompt", |args, name| args.text(name).map(str::to_owned))?;
            Some(
                given
                    .or(checkpoint.config.prompt.clone())
                    .unwrap_or_else(|| PROMPT.to_owned()),
            )
        }
        Role::Filter | Role::Pretrained => None,
    };
    let digest = model::put(ctx, &Header::new(config, vocab.to_text(), prompt), &med)?;
    let mut notes = vec![summary(&checkpoint)];
    notes.extend(waived.iter().map(|name| format!("`{name}` was waived")));
    let metrics = vec![("parameters".to_owned(), checkpoint.parameters() as f64)];
    Ok(Output {
        metrics,
        notes,
        ..Output::of(digest)
    })
}

fn needed(role: Role) -> &'static str {
    match role {
        Role::Captioner => "a captioner or a pretrained model",
        Role::Filter => "a filter or a pretrained model",
        Role::Pretrained => "a pretrained model",
    }
}

/// "BlipForConditionalGeneration, 471 tensors of float32"
fn summary(checkpoint: &Checkpoint) -> String {
    let kinds: Vec<String> = checkpoint
        .kinds
        .iter()
        .map(|(kind, count)| format!("{count} of {kind}"))
        .collect();
    format!(
        "a {}, tensors: {}",
        checkpoint.holds.noun(),
        kinds.join(", ")
    )
}

/// The folder of the sources, or the one file that they are.
fn place(ctx: &StageCtx) -> Result<PathBuf, OpError> {
    match ctx.sources() {
        [] => Err(OpError::Bug("the checkpoint is no source".to_owned())),
        [file] if file.path.file_name().is_none_or(|name| name != CONFIG) => Ok(file.path.clone()),
        [first, ..] => Ok(first.path.parent().unwrap_or(Path::new(".")).to_path_buf()),
    }
}

/// The vocabulary that was given, else the folder's.
fn vocabulary(ctx: &StageCtx, path: &Path) -> Result<Vocab, OpError> {
    if ctx.args().given("vocab")? {
        let bytes = ctx.read(&ctx.input("vocab")?.digest)?;
        return Vocab::read(&bytes).map_err(|error| {
            OpError::Bug(format!("a stored vocabulary that cannot be read: {error}"))
        });
    }
    let help = "give the vocabulary: vocab = read.wordpiece(\"vocab.txt\")";
    match own_vocabulary(path) {
        Ok(Some(vocab)) => Ok(vocab),
        Ok(None) => Err(OpError::failed(
            format!("{} has no vocabulary beside it", path.display()),
            help,
        )),
        Err(what) => Err(OpError::failed(what, help)),
    }
}

/// The vocabulary of a folder, if it has one that can be read.
pub(crate) fn own_vocabulary(path: &Path) -> Result<Option<Vocab>, String> {
    let Some(file) = VOCAB_FILES
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file())
    else {
        return Ok(None);
    };
    let bytes = std::fs::read(&file)
        .map_err(|error| format!("could not read {}: {error}", file.display()))?;
    Vocab::read(&bytes)
        .map(Some)
        .map_err(|error| format!("{} cannot be used: {error}", file.display()))
}

/// Whether the vocabulary is the model's: a token for each embedding, and the special ones where
/// the model has them.
pub(crate) fn fits(vocab: &Vocab, checkpoint: &Checkpoint) -> Result<(), String> {
    let embedded = checkpoint.config.med.vocab;
    if vocab.len() as i64 != embedded {
        return Err(format!(
            "the vocabulary has {} tokens, with [DEC] and [ENC], and the model has embeddings for {embedded}",
            vocab.len()
        ));
    }
    let TokenIds { dec, sep, pad } = checkpoint.config.tokens;
    let special = vocab.special();
    for (name, theirs, ours) in [
        ("[DEC]", dec, special.dec),
        ("[SEP]", sep, special.sep),
        ("[PAD]", pad, special.pad),
    ] {
        if theirs != ours {
            return Err(format!(
                "{name} is {ours} in the vocabulary and {theirs} in the model"
            ));
        }
    }
    Ok(())
}

fn failed(error: &CheckpointError) -> OpError {
    OpError::failed(error.to_string(), help(error))
}

/// What to do about a checkpoint that cannot be used.
pub(crate) fn help(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::None(..) => "name a folder that `save_pretrained` wrote, or a `.pth` file",
        CheckpointError::Io { .. } => "make it readable",
        CheckpointError::Config { .. } => {
            "mend the field, or load a folder whose config.json is a BLIP's"
        }
        CheckpointError::Index { .. } | CheckpointError::Store(_) => {
            "fetch or save the checkpoint again: it is not whole"
        }
        CheckpointError::Pth(PthError::Pickle { .. }) => {
            "ask whoever made it for safetensors; do not open it in Python, which would run what it wants to run"
        }
        CheckpointError::Pth(_) => "fetch it again, or save its state_dict with safetensors",
        CheckpointError::Kind { .. } => "save the model in float32, float16 or bfloat16",
        CheckpointError::Untied { .. } => {
            "save the model anew with tied weights: which of the two is meant cannot be told"
        }
        CheckpointError::Mismatch { .. } => {
            "name the tensors in `waive` if the model is meant to be so"
        }
        CheckpointError::Waived { .. } => "take the name out of `waive`",
    }
}
