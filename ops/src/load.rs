//! `load.captioner`, `load.filter`, `load.pretrained`: checkpoints of transformers and of the
//! official code.

use std::path::{Path, PathBuf};

use blip_data::vocab::Vocab;
use blip_engine::{Args, Files, InputFile, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::huggingface::export::RETRIEVAL;
use blip_model::huggingface::{Checkpoint, CheckpointError, TokenIds, files_of_index};
use blip_model::pth::PthError;
use blip_model::{Role, vision};

use crate::libtorch;
use crate::model::{self, Header};
use crate::net::stored_vocab;
use crate::types::{CAPTIONER, FILTER, MODEL, VOCAB};

/// The prompt of the published captioners.
const PROMPT: &str = "a picture of ";
const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
/// The files of a folder that a model depends on, in the order in which they are looked for. Those
/// that [`INDEX`] names come on top.
const FILES: [&str; 6] = [
    CONFIG,
    "model.safetensors",
    INDEX,
    "pytorch_model.bin",
    VOCAB_FILES[0],
    VOCAB_FILES[1],
];
const VOCAB_FILES: [&str; 2] = ["vocab.txt", "tokenizer.json"];

/// The ops of this file.
pub(crate) fn ops() -> [Op; 3] {
    let captioner = Signature::stage(
        "load.captioner",
        CAPTIONER,
        "Loads a captioner from a `BlipForConditionalGeneration` of transformers or an official \
         checkpoint.",
    )
    .example("load.captioner(\"blip-image-captioning-base\")");
    let filter = Signature::stage(
        "load.filter",
        FILTER,
        "Loads a filter from a `BlipForImageTextRetrieval` of transformers or an official \
         checkpoint.",
    )
    .example("load.filter(\"blip-itm-base-coco\")");
    let pretrained = Signature::stage(
        "load.pretrained",
        MODEL,
        "Loads a pretrained model from an official checkpoint or a folder that `export … as \
         huggingface` wrote.",
    )
    .example("load.pretrained(\"model_base.pth\", vocab = read.wordpiece(\"vocab.txt\"))");
    let prompt = Arg::optional(
        "prompt",
        Type::Str,
        "What captions begin with, when the checkpoint does not say; \"a picture of \" by default.",
    );
    [
        op(with_common_args(captioner).arg(prompt), Role::Captioner),
        op(with_common_args(filter), Role::Filter),
        op(with_common_args(pretrained), Role::Pretrained),
    ]
}

fn with_common_args(signature: Signature) -> Signature {
    signature
        .arg(Arg::required(
            "path",
            Type::Path,
            "A folder that `save_pretrained` or `export … as huggingface` wrote, or an official \
             `.pth` file.",
        ))
        .arg(Arg::optional(
            "vocab",
            VOCAB,
            "The vocabulary, when the folder has none; required for `.pth` files.",
        ))
        .arg(
            Arg::optional(
                "image",
                Type::Int,
                "Image side in pixels, when it differs from the checkpoint's.",
            )
            .within(4.0, 4096.0),
        )
        .arg(Arg::with_default(
            "waive",
            Type::List(&Type::Str),
            "[]",
            "Names of tensors that may be missing, unexpected, of another shape or not finite; the \
             model's are initialized instead.",
        ))
}

fn op(signature: Signature, role: Role) -> Op {
    Op::run(signature, 2, move |ctx| run(ctx, role)).reading(sources)
}

/// The files of a folder that the model depends on, or the one file that the path names.
fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<InputFile>, OpError> {
    let path = args.path("path")?;
    let mut sources = files.folder(path, &FILES)?;
    if sources.is_empty() {
        return Ok(vec![files.file(path)?]);
    }
    let index = sources.iter().find(|file| file.name.ends_with(INDEX));
    if let Some(index) = index.map(InputFile::read).transpose()? {
        // What is wrong with an index is an error of the stage, which says so.
        let shards = files_of_index(&String::from_utf8_lossy(&index)).unwrap_or_default();
        for shard in shards.keys() {
            sources.push(files.file(&format!("{path}/{shard}"))?);
        }
    }
    sources.extend(files.folder(&format!("{path}/{RETRIEVAL}"), &FILES)?);
    Ok(sources)
}

fn run(ctx: &mut StageCtx, role: Role) -> Result<Output, OpError> {
    let path = checkpoint_path(ctx)?;
    let copy = copy_checkpoint(ctx, &path)?;
    load(ctx, role, &copy).map_err(|error| match error {
        // Users do not know the copy.
        OpError::Failed { what, help } => OpError::Failed {
            what: what.replace(&*copy.to_string_lossy(), &path.to_string_lossy()),
            help,
        },
        other => other,
    })
}

/// Copies the files of a checkpoint into the stage's folder: weights are mapped or read in any
/// order, so that the user's files could change after they were digested.
fn copy_checkpoint(ctx: &StageCtx, path: &Path) -> Result<PathBuf, OpError> {
    let copy = ctx.scratch().join("checkpoint");
    if let [file] = ctx.sources()
        && file.path == path
    {
        file.copy(&copy)?;
        return Ok(copy);
    }
    for file in ctx.sources() {
        let inside = file.path.strip_prefix(path).unwrap_or(&file.path);
        let to = copy.join(inside);
        std::fs::create_dir_all(to.parent().unwrap_or(&copy)).map_err(|error| {
            let what = format!("could not create {}: {error}", copy.display());
            OpError::failed(what, "make the cache writable")
        })?;
        file.copy(&to)?;
    }
    Ok(copy)
}

fn load(ctx: &StageCtx, role: Role, path: &Path) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let checkpoint = Checkpoint::read(path).map_err(|error| failed(&error))?;
    if !checkpoint.serves(role) {
        let what = format!(
            "{} holds a {}, but `{}` needs {}",
            path.display(),
            checkpoint.kind.noun(),
            args.op(),
            needed(role)
        );
        return Err(OpError::failed(
            what,
            "use the op for what it holds: `blip model inspect` shows it",
        ));
    }
    let vocab = vocabulary(ctx, path)?;
    check_vocabulary(&vocab, &checkpoint).map_err(|what| {
        OpError::failed(
            format!("{}: {what}", path.display()),
            "use the vocabulary that the model was trained with",
        )
    })?;
    let mut waived = Vec::new();
    for name in args.strings("waive")? {
        waived.push(name.to_owned());
    }
    let _device = libtorch::lock_device()?;
    let mut tensors = checkpoint
        .tensors_of(role, &waived)
        .map_err(|error| failed(&error))?;
    let mut config = checkpoint.config.med.clone();
    if let Some(image) = args.optional("image", Args::int)? {
        vision::resize(&mut config, &mut tensors, image)
            .map_err(|error| OpError::failed(error.to_string(), "choose another `image`"))?;
    }
    let med = blip_model::Med::load(&config, role, &tensors, tch::Device::Cpu)
        .map_err(|error| OpError::Bug(format!("validated tensors do not load: {error}")))?;
    let header = Header::new(config, vocab.to_text(), prompt(&args, role, &checkpoint)?);
    let digest = model::put(ctx, &header, &med)?;
    let mut notes = vec![summary(&checkpoint)];
    notes.extend(waived.iter().map(|name| format!("`{name}` was waived")));
    let metrics = vec![("parameters".to_owned(), checkpoint.parameters() as f64)];
    Ok(Output {
        metrics,
        notes,
        ..Output::of(digest)
    })
}

/// What a captioner's texts begin with: as the argument says, else the checkpoint, else the
/// published captioners' prompt.
fn prompt(args: &Args, role: Role, checkpoint: &Checkpoint) -> Result<Option<String>, OpError> {
    if role != Role::Captioner {
        return Ok(None);
    }
    let argument = args.optional("prompt", |args, name| args.string(name).map(str::to_owned))?;
    let prompt = argument.or_else(|| checkpoint.config.prompt.clone());
    Ok(Some(prompt.unwrap_or_else(|| PROMPT.to_owned())))
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
        .dtypes
        .iter()
        .map(|(kind, count)| format!("{count} of {kind}"))
        .collect();
    format!(
        "a {}, tensors: {}",
        checkpoint.kind.noun(),
        kinds.join(", ")
    )
}

/// The folder of the sources, or the only source.
fn checkpoint_path(ctx: &StageCtx) -> Result<PathBuf, OpError> {
    match ctx.sources() {
        [] => Err(OpError::Bug(
            "the checkpoint is not among the sources".to_owned(),
        )),
        [file] if file.path.file_name().is_none_or(|name| name != CONFIG) => Ok(file.path.clone()),
        [first, ..] => Ok(first.path.parent().unwrap_or(Path::new(".")).to_path_buf()),
    }
}

/// The vocabulary that the argument refers to, else the folder's.
fn vocabulary(ctx: &StageCtx, path: &Path) -> Result<Vocab, OpError> {
    if ctx.args().given("vocab")? {
        let bytes = ctx.read(&ctx.input("vocab")?.digest)?;
        return stored_vocab(&String::from_utf8_lossy(&bytes));
    }
    let help = "pass a vocabulary: vocab = read.wordpiece(\"vocab.txt\")";
    match find_vocabulary(path) {
        Ok(Some(vocab)) => Ok(vocab),
        Ok(None) => Err(OpError::failed(
            format!("{} has no vocabulary", path.display()),
            help,
        )),
        Err(what) => Err(OpError::failed(what, help)),
    }
}

/// Reads the vocabulary of a folder; `None` when it has none.
pub(crate) fn find_vocabulary(path: &Path) -> Result<Option<Vocab>, String> {
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

/// Fails when a vocabulary is not the model's: it must have a token for each embedding, and the
/// special tokens must have the model's ids.
pub(crate) fn check_vocabulary(vocab: &Vocab, checkpoint: &Checkpoint) -> Result<(), String> {
    let embeddings = checkpoint.config.med.vocab;
    if vocab.len() as i64 != embeddings {
        return Err(format!(
            "the vocabulary has {} tokens (including [DEC] and [ENC]), but the model has \
             {embeddings} token embeddings",
            vocab.len()
        ));
    }
    let TokenIds { dec, sep, pad } = checkpoint.config.tokens;
    let special = vocab.special();
    for (name, in_model, in_vocabulary) in [
        ("[DEC]", dec, special.dec),
        ("[SEP]", sep, special.sep),
        ("[PAD]", pad, special.pad),
    ] {
        if in_model != in_vocabulary {
            return Err(format!(
                "{name} has the id {in_vocabulary} in the vocabulary, but {in_model} in the model"
            ));
        }
    }
    Ok(())
}

fn failed(error: &CheckpointError) -> OpError {
    OpError::failed(error.to_string(), help(error))
}

/// What the user can do about a checkpoint that cannot be used.
pub(crate) fn help(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::None(..) => "pass a folder that `save_pretrained` wrote, or a `.pth` file",
        CheckpointError::Io { .. } => "check the file and its permissions",
        CheckpointError::Config { .. } => {
            "fix the field, or load a folder with the config.json of a BLIP model"
        }
        CheckpointError::Index { .. } | CheckpointError::Store(_) => {
            "download or save the checkpoint again: it is incomplete"
        }
        CheckpointError::Pth(PthError::Pickle { .. }) => {
            "ask its author for safetensors; do not load it in Python: unpickling would execute \
             its code"
        }
        CheckpointError::Pth(_) => "download it again, or save its state_dict with safetensors",
        CheckpointError::Kind { .. } => "save the model in float32, float16 or bfloat16",
        CheckpointError::Untied { .. } => {
            "save the model again with tied weights: it is ambiguous which of the two to load"
        }
        CheckpointError::Mismatch { .. } => {
            "list the tensors in `waive` if the difference is intended"
        }
        CheckpointError::Waived { .. } => "remove the name from `waive`",
    }
}
