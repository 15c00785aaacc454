//! What a checkpoint holds and whether it is complete, without a workflow: `blip model inspect`.

use std::path::Path;

use blip_model::config::VisionConfig;
use blip_model::huggingface::{Checkpoint, CheckpointKind};
use blip_model::weights::Mismatch;

use crate::load::{check_vocabulary, find_vocabulary, help};

/// What a checkpoint holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// Names and values, the most important first.
    pub rows: Vec<(&'static str, String)>,
    /// Everything that is wrong with the checkpoint, a sentence each; empty when it loads.
    pub errors: Vec<String>,
}

/// Why a checkpoint cannot be inspected, and what the user can do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub what: String,
    pub help: &'static str,
}

/// Inspects a folder of transformers or an official `.pth` file. Every tensor is read; nothing is
/// executed.
///
/// # Errors
/// [`Unreadable`] when it cannot be read at all.
pub fn inspect(path: &Path) -> Result<Inspection, Unreadable> {
    let checkpoint = Checkpoint::read(path).map_err(|error| Unreadable {
        what: error.to_string(),
        help: help(&error),
    })?;
    let mut errors = describe(&checkpoint.mismatch());
    let vocabulary = match find_vocabulary(path) {
        Ok(None) => "none: pass one when loading".to_owned(),
        Ok(Some(vocab)) => match check_vocabulary(&vocab, &checkpoint) {
            Ok(()) => format!("{} tokens, with [DEC] and [ENC]", vocab.len()),
            Err(what) => {
                errors.push(what);
                "does not match".to_owned()
            }
        },
        Err(what) => {
            errors.push(what);
            "cannot be read".to_owned()
        }
    };
    let mut rows = rows(&checkpoint);
    rows.push(("vocabulary", vocabulary));
    Ok(Inspection { rows, errors })
}

fn rows(checkpoint: &Checkpoint) -> Vec<(&'static str, String)> {
    let config = &checkpoint.config;
    let class = match checkpoint.kind {
        CheckpointKind::Class(class) => format!(" ({})", class.name()),
        CheckpointKind::Pretrained => String::new(),
    };
    let kinds: Vec<String> = checkpoint
        .dtypes
        .iter()
        .map(|(kind, count)| format!("{count} of {kind}"))
        .collect();
    let text = &config.med.text;
    let tokens = config.tokens;
    let mut rows = vec![
        (
            "model",
            format!(
                "{}{class}: {}",
                checkpoint.kind.noun(),
                checkpoint.kind.describe()
            ),
        ),
        (
            "tensors",
            format!(
                "{}, in {} of weights",
                kinds.join(", "),
                files(checkpoint.files)
            ),
        ),
        ("parameters", checkpoint.parameters().to_string()),
        ("image encoder", vision(&config.med.vision)),
        (
            "text transformer",
            format!(
                "{} layers of width {}, {} heads, MLP {}, {} positions, epsilon {:e}, dropout {}",
                text.depth,
                text.width,
                text.heads,
                text.mlp,
                text.positions,
                text.eps,
                text.dropout
            ),
        ),
        ("compared in", format!("{} dimensions", config.med.embed)),
        (
            "tokens",
            format!(
                "{}; [DEC] {}, [SEP] {}, [PAD] {}",
                config.med.vocab, tokens.dec, tokens.sep, tokens.pad
            ),
        ),
    ];
    rows.extend(config.temp.map(|temp| ("temperature", temp.to_string())));
    rows.extend(
        config
            .prompt
            .as_ref()
            .map(|prompt| ("prompt", format!("{prompt:?}"))),
    );
    rows
}

fn files(count: usize) -> String {
    if count == 1 {
        "1 file".to_owned()
    } else {
        format!("{count} files")
    }
}

fn vision(config: &VisionConfig) -> String {
    match config {
        VisionConfig::Vit(vit) => format!(
            "ViT, {} blocks of width {}, {} heads, MLP {}, images of {} in patches of {}, epsilon \
             {:e}",
            vit.depth, vit.width, vit.heads, vit.mlp, vit.image, vit.patch, vit.eps
        ),
        VisionConfig::ResNet(resnet) => format!(
            "ResNet, blocks {:?}, images of {}",
            resnet.blocks, resnet.image
        ),
    }
}

/// Every mismatched tensor, a sentence each.
fn describe(mismatch: &Mismatch) -> Vec<String> {
    let Mismatch {
        missing,
        unexpected,
        wrong_shape,
        not_finite,
    } = mismatch;
    let missing = missing.iter().map(|name| format!("`{name}` is missing"));
    let unexpected = unexpected
        .iter()
        .map(|name| format!("`{name}` is unexpected"));
    let wrong_shape = wrong_shape.iter().map(|(name, found, expected)| {
        format!("`{name}` has the shape {found:?}, expected {expected:?}")
    });
    let not_finite = not_finite
        .iter()
        .map(|name| format!("`{name}` contains NaN or infinity"));
    missing
        .chain(unexpected)
        .chain(wrong_shape)
        .chain(not_finite)
        .collect()
}
