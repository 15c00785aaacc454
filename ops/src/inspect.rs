//! What a checkpoint holds and whether it is whole, without a workflow: `blip model inspect`.

use std::path::Path;

use blip_model::config::VisionConfig;
use blip_model::huggingface::{Checkpoint, Holds};
use blip_model::weights::Mismatch;

use crate::load::{fits, help, own_vocabulary};

/// What a checkpoint holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// Names and what there is to say, in the order in which one asks.
    pub rows: Vec<(&'static str, String)>,
    /// What is wrong with it: as many sentences as there are faults. None for a checkpoint that
    /// loads.
    pub faults: Vec<String>,
}

/// Why a checkpoint cannot be inspected, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

/// Looks into a folder of transformers or an official `.pth` file. Every tensor is read; nothing is
/// executed.
///
/// # Errors
/// [`Unreadable`] when it cannot be read at all.
pub fn inspect(path: &Path) -> Result<Inspection, Unreadable> {
    let checkpoint = Checkpoint::read(path).map_err(|error| Unreadable {
        what: error.to_string(),
        help: help(&error),
    })?;
    let mut faults = tensors(&checkpoint.mismatch());
    let vocabulary = match own_vocabulary(path) {
        Ok(None) => "none beside it: give one when loading".to_owned(),
        Ok(Some(vocab)) => match fits(&vocab, &checkpoint) {
            Ok(()) => format!("{} tokens, with [DEC] and [ENC]", vocab.len()),
            Err(what) => {
                faults.push(what);
                "does not fit".to_owned()
            }
        },
        Err(what) => {
            faults.push(what);
            "cannot be read".to_owned()
        }
    };
    let mut rows = rows(&checkpoint);
    rows.push(("vocabulary", vocabulary));
    Ok(Inspection { rows, faults })
}

fn rows(checkpoint: &Checkpoint) -> Vec<(&'static str, String)> {
    let config = &checkpoint.config;
    let class = match checkpoint.holds {
        Holds::Class(class) => format!(" ({})", class.name()),
        Holds::Pretrained => String::new(),
    };
    let kinds: Vec<String> = checkpoint
        .kinds
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
                checkpoint.holds.noun(),
                checkpoint.holds.describe()
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
            "ViT, {} blocks of width {}, {} heads, MLP {}, images of {} in patches of {}, epsilon {:e}",
            vit.depth, vit.width, vit.heads, vit.mlp, vit.image, vit.patch, vit.eps
        ),
        VisionConfig::ResNet(resnet) => format!(
            "ResNet, blocks {:?}, images of {}",
            resnet.blocks, resnet.image
        ),
    }
}

/// Every tensor at fault, each in a sentence.
fn tensors(mismatch: &Mismatch) -> Vec<String> {
    let Mismatch {
        missing,
        unexpected,
        misshapen,
        not_finite,
    } = mismatch;
    let missing = missing.iter().map(|name| format!("`{name}` is missing"));
    let unexpected = unexpected
        .iter()
        .map(|name| format!("`{name}` is not expected"));
    let misshapen = misshapen
        .iter()
        .map(|(name, found, due)| format!("`{name}` has the shape {found:?}, and {due:?} is due"));
    let not_finite = not_finite
        .iter()
        .map(|name| format!("`{name}` holds NaN or infinity"));
    missing
        .chain(unexpected)
        .chain(misshapen)
        .chain(not_finite)
        .collect()
}
