//! Models of transformers and of the official code: read with every claim checked, written so that
//! `from_pretrained` loads them.
//!
//! [`Checkpoint::read`] takes a transformers folder (`config.json`, safetensors in one or more
//! files, or `pytorch_model.bin`) or an official `.pth` file. What it finds is compared with the
//! class that the checkpoint claims to be: tensors that are missing, unexpected, of the wrong shape
//! or not finite are errors that list them, unless they are waived by name. [`export`] writes
//! transformers folders.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::Tensor;

use crate::config::MedConfig;
use crate::pth::PthError;
use crate::store::StoreError;
use crate::tensors::{Role, TensorSpec, tensors};
use crate::weights::Mismatch;

mod checkpoint;
mod config;
pub mod export;
mod files;
mod names;

pub use self::checkpoint::Checkpoint;
pub use self::config::{Config, TokenIds};
pub use self::files::files_of_index;

/// The files of a transformers folder: weights in one file, in several with an index, or pickled.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";
const CONFIG: &str = "config.json";

type Tensors = BTreeMap<String, Tensor>;

/// The classes of transformers that trained BLIP models have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    ConditionalGeneration,
    ImageTextRetrieval,
    QuestionAnswering,
}

impl Class {
    pub const ALL: [Class; 3] = [
        Class::ConditionalGeneration,
        Class::ImageTextRetrieval,
        Class::QuestionAnswering,
    ];

    /// The name of the Python class.
    pub fn name(self) -> &'static str {
        match self {
            Class::ConditionalGeneration => "BlipForConditionalGeneration",
            Class::ImageTextRetrieval => "BlipForImageTextRetrieval",
            Class::QuestionAnswering => "BlipForQuestionAnswering",
        }
    }

    pub fn from_name(name: &str) -> Option<Class> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What model a checkpoint holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointKind {
    /// A class of transformers.
    Class(Class),
    /// The official pretraining model: all parts, the decoder sharing tensors with the encoder.
    Pretrained,
}

impl CheckpointKind {
    /// The tensors of such a model, without tied copies.
    pub fn specs(self, config: &MedConfig) -> Vec<TensorSpec> {
        match self {
            CheckpointKind::Class(class) => names::specs(class, config),
            CheckpointKind::Pretrained => tensors(config, Role::Pretrained)
                .into_iter()
                .filter(|spec| spec.name != "temp")
                .collect(),
        }
    }

    /// What to call it in messages.
    pub fn noun(self) -> &'static str {
        match self {
            CheckpointKind::Class(Class::ConditionalGeneration) => "captioner",
            CheckpointKind::Class(Class::ImageTextRetrieval) => "filter",
            CheckpointKind::Class(Class::QuestionAnswering) => "question answering model",
            CheckpointKind::Pretrained => "pretrained model",
        }
    }

    /// What it can do, for `blip model inspect` and the model card.
    pub fn describe(self) -> &'static str {
        match self {
            CheckpointKind::Class(Class::ConditionalGeneration) => "writes captions",
            CheckpointKind::Class(Class::ImageTextRetrieval) => {
                "compares and matches images and texts"
            }
            CheckpointKind::Class(Class::QuestionAnswering) => {
                "answers questions about images; no stage takes such a model"
            }
            CheckpointKind::Pretrained => {
                "has all parts; captioners and filters are finetuned from it"
            }
        }
    }
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{} is not a checkpoint: {what}", .0.display(), what = .1)]
    None(PathBuf, &'static str),
    #[error("could not read {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// `config.json`, or the sizes that follow from the shapes of an official checkpoint.
    #[error("{}: {what}", path.display())]
    Config { path: PathBuf, what: String },
    #[error("{}: {what}", path.display())]
    Index { path: PathBuf, what: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Pth(#[from] PthError),
    #[error("{}: `{name}` has dtype {dtype}; weights must be floating point", path.display())]
    Kind {
        path: PathBuf,
        name: String,
        dtype: String,
    },
    /// Tensors that the model has once and the checkpoint twice, with different values.
    #[error("{}: tied tensors differ from their originals: {}", path.display(), names.join(", "))]
    Untied { path: PathBuf, names: Vec<String> },
    #[error("{} is not a complete {what}: {source}", path.display())]
    Mismatch {
        path: PathBuf,
        /// What it claims to be.
        what: &'static str,
        source: Box<Mismatch>,
    },
    #[error("{}: `{name}` is waived, but nothing is wrong with it", path.display())]
    Waived { path: PathBuf, name: String },
}
