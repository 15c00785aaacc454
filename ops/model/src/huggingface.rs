//! Models of transformers and of the official code: read with every claim checked, written so that
//! `from_pretrained` loads them.
//!
//! [`Checkpoint::read`] takes a folder of transformers (`config.json`, safetensors in one or more files, or
//! `pytorch_model.bin`) or an official `.pth` file. What it holds is compared with the class that
//! it claims to be: tensors that are missing, unexpected, of another shape or not finite are listed
//! by name and are errors unless they are waived by name. [`export`] writes such folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::config::MedConfig;
use crate::med::finetuning_tensors;
use crate::pth::{self, PthError};
use crate::store::{self, StoreError};
use crate::tensors::{Role, TensorSpec, tensors};
use crate::weights::{Mismatch, Weights};

mod config;
pub mod export;
mod names;

pub use self::config::{Config, TokenIds};

/// Weights in one file, in several with an index, or by pickle.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";
const CONFIG: &str = "config.json";
/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// The temperature that a model begins with, for files that do not say theirs.
const TEMPERATURE: f64 = 0.07;

/// The classes of transformers that have trained BLIP models.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Writes captions.
    ConditionalGeneration,
    /// Compares and matches images and texts.
    ImageTextRetrieval,
    /// Answers questions about images.
    QuestionAnswering,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 3] = [
        Class::ConditionalGeneration,
        Class::ImageTextRetrieval,
        Class::QuestionAnswering,
    ];

    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Class::ConditionalGeneration => "BlipForConditionalGeneration",
            Class::ImageTextRetrieval => "BlipForImageTextRetrieval",
            Class::QuestionAnswering => "BlipForQuestionAnswering",
        }
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Class> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What a checkpoint is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// A class of transformers.
    Class(Class),
    /// The official pretraining model: everything, the decoder sharing with the encoder.
    Pretrained,
}

impl Holds {
    /// The tensors of such a model, without copies.
    pub fn specs(self, config: &MedConfig) -> Vec<TensorSpec> {
        match self {
            Holds::Class(class) => names::specs(class, config),
            Holds::Pretrained => tensors(config, Role::Pretrained)
                .into_iter()
                .filter(|spec| spec.name != "temp")
                .collect(),
        }
    }

    /// What to call it.
    pub fn noun(self) -> &'static str {
        match self {
            Holds::Class(Class::ConditionalGeneration) => "captioner",
            Holds::Class(Class::ImageTextRetrieval) => "filter",
            Holds::Class(Class::QuestionAnswering) => "question answering model",
            Holds::Pretrained => "pretrained model",
        }
    }

    /// What it is good for.
    pub fn describe(self) -> &'static str {
        match self {
            Holds::Class(Class::ConditionalGeneration) => "writes captions",
            Holds::Class(Class::ImageTextRetrieval) => "compares and matches images and texts",
            Holds::Class(Class::QuestionAnswering) => {
                "answers questions about images; no stage takes such a model"
            }
            Holds::Pretrained => "has all parts; captioners and filters are finetuned from it",
        }
    }
}

/// A checkpoint as it was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder or file.
    pub path: PathBuf,
    /// What it is.
    pub holds: Holds,
    /// Sizes and tokens.
    pub config: Config,
    /// The tensors under transformers' names, in 32 bits, tied copies left out.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names and how many tensors of each kind there were: "float16", 472.
    pub kinds: BTreeMap<String, usize>,
    /// The files that the tensors lay in.
    pub files: usize,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is nothing of the kind.
    #[error("{} is no checkpoint: {what}", .0.display(), what = .1)]
    None(PathBuf, &'static str),
    /// The operating system said no.
    #[error("could not read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The config cannot be used.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// A sentence about the field at fault.
        what: String,
    },
    /// The index of the files cannot be used.
    #[error("{}: {what}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A safetensors file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pickled file cannot be used.
    #[error(transparent)]
    Pth(#[from] PthError),
    /// Tensors of a kind that weights do not have.
    #[error("{}: `{name}` holds {kind}, and weights are floats", path.display())]
    Kind {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// Copies of a tensor that the model has once.
    #[error("{}: {} differs from the tensor that it is a copy of", path.display(), names.join(", "))]
    Untied {
        /// The checkpoint.
        path: PathBuf,
        /// The copies.
        names: Vec<String>,
    },
    /// The tensors are not those of the model.
    #[error("{} does not hold a whole {what}: {source}", path.display())]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What it claims to be.
        what: &'static str,
        /// The tensors at fault.
        source: Box<Mismatch>,
    },
    /// A tensor was waived that needs it not.
    #[error("{}: `{name}` is waived, and there is nothing wrong with it", path.display())]
    Waived {
        /// The checkpoint.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl Checkpoint {
    /// Reads a folder of transformers or an official `.pth` file.
    ///
    /// # Errors
    /// [`CheckpointError`]; nothing is half-loaded.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        if path.is_dir() {
            Self::read_folder(path).map(Self::whole)
        } else if path.is_file() {
            Self::read_official(path)
        } else {
            Err(CheckpointError::None(
                path.to_path_buf(),
                "there is no such file or folder",
            ))
        }
    }

    fn read_folder(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(CONFIG);
        if !path.is_file() {
            return Err(CheckpointError::None(
                folder.to_path_buf(),
                "the folder has no config.json",
            ));
        }
        let text = fs::read_to_string(&path).map_err(|source| CheckpointError::Io {
            path: path.clone(),
            source,
        })?;
        let config = Config::read(&text).map_err(|what| CheckpointError::Config { path, what })?;
        let (found, files) = folder_tensors(folder)?;
        let (mut tensors, kinds) = floats(folder, found)?;
        refuse_untied(folder, names::untie(&mut tensors))?;
        let class = config.class.unwrap_or_else(|| class_of(&tensors));
        Ok(Self {
            path: folder.to_path_buf(),
            holds: Holds::Class(class),
            config,
            tensors,
            kinds,
            files,
        })
    }

    /// A pretrained model is exported as two classes: what both hold, put together again. Nothing
    /// when the two are not halves of one model.
    fn whole(self) -> Self {
        let inner = self.path.join(export::RETRIEVAL);
        if self.holds != Holds::Class(Class::ConditionalGeneration) || !inner.join(CONFIG).is_file()
        {
            return self;
        }
        let Ok(other) = Self::read_folder(&inner) else {
            return self;
        };
        let copy = |tensors: &Tensors| {
            tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect::<Tensors>()
        };
        let agree = |(name, tensor): (&String, &Tensor)| {
            self.tensors.get(name).is_none_or(|mine| mine == tensor)
        };
        let mut together = copy(&self.tensors);
        together.extend(copy(&other.tensors));
        let different = names::share(&mut together);
        let same = self.config.med == other.config.med
            && other.tensors.iter().all(agree)
            && different.is_empty();
        if !same || other.holds != Holds::Class(Class::ImageTextRetrieval) {
            return self;
        }
        let config = Config {
            temp: other.config.temp,
            ..self.config
        };
        Self {
            holds: Holds::Pretrained,
            config,
            tensors: together,
            files: self.files + other.files,
            ..self
        }
    }

    fn read_official(path: &Path) -> Result<Self, CheckpointError> {
        let (found, kinds) = floats(path, pth::read(path)?)?;
        let (tensors, different) = names::from_official(found);
        refuse_untied(path, different)?;
        let config_fault = |what| CheckpointError::Config {
            path: path.to_path_buf(),
            what,
        };
        let med = names::sizes(&tensors).map_err(config_fault)?;
        med.check()
            .map_err(|error| config_fault(error.to_string()))?;
        let pretrained = tensors.contains_key("itm_head.weight")
            && tensors.keys().any(|name| name.starts_with("text_decoder."));
        let holds = if pretrained {
            Holds::Pretrained
        } else {
            Holds::Class(class_of(&tensors))
        };
        // The official code appends [DEC] and [ENC] to BERT's vocabulary, in which [SEP] is 102 and
        // [PAD] 0.
        let tokens = TokenIds {
            dec: med.vocab - 2,
            sep: 102,
            pad: 0,
        };
        let temp = tensors
            .get("temp")
            .filter(|temp| temp.numel() == 1)
            .map(|temp| temp.double_value(&[]));
        let config = Config {
            class: None,
            med,
            tokens,
            prompt: None,
            temp,
        };
        Ok(Self {
            path: path.to_path_buf(),
            holds,
            config,
            tensors,
            kinds,
            files: 1,
        })
    }

    /// What of the tensors does not fit. A temperature may be there or not.
    pub fn mismatch(&self) -> Mismatch {
        let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
        found.extend(
            self.tensors
                .iter()
                .filter(|(name, _)| *name != "temp")
                .map(|(n, t)| (n.clone(), t.shallow_clone())),
        );
        Weights::compare(&self.holds.specs(&self.config.med), &found)
    }

    /// The tensors of a model of this role, all of them and fitting. A waived tensor that is
    /// missing, of another shape or not finite begins anew; a waived one that is unexpected is left
    /// behind. The caller holds [`crate::device::exclusive`].
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] names everything that is not waived.
    pub fn tensors_of(
        &self,
        role: Role,
        waived: &[String],
    ) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
        let mut mismatch = self.mismatch();
        for name in waived {
            if !mismatch.waive(name) {
                return Err(CheckpointError::Waived {
                    path: self.path.clone(),
                    name: name.clone(),
                });
            }
        }
        if mismatch != Mismatch::default() {
            return Err(CheckpointError::Mismatch {
                path: self.path.clone(),
                what: self.holds.noun(),
                source: Box::new(mismatch),
            });
        }
        let specs = self.holds.specs(&self.config.med);
        let anew: Vec<TensorSpec> = specs
            .iter()
            .filter(|spec| waived.contains(&spec.name))
            .cloned()
            .collect();
        let fresh = Weights::fresh(&anew, 0, Device::Cpu);
        let mut tensors = BTreeMap::new();
        for spec in specs {
            let value = if waived.contains(&spec.name) {
                fresh.get(&spec.name)
            } else {
                self.tensors[&spec.name].shallow_clone()
            };
            tensors.insert(spec.name, value);
        }
        let temp = self
            .tensors
            .get("temp")
            .filter(|temp| temp.numel() == 1)
            .map(|temp| temp.double_value(&[]));
        let temp = Tensor::from(temp.or(self.config.temp).unwrap_or(TEMPERATURE) as f32);
        tensors.insert("temp".to_owned(), temp);
        Ok(finetuning_tensors(&tensors, &self.config.med, role))
    }

    /// Whether it holds all that a model of this role needs.
    pub fn serves(&self, role: Role) -> bool {
        match (self.holds, role) {
            (Holds::Pretrained, _)
            | (Holds::Class(Class::ConditionalGeneration), Role::Captioner)
            | (Holds::Class(Class::ImageTextRetrieval), Role::Filter) => true,
            (Holds::Class(_), _) => false,
        }
    }

    /// How many values it has.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

fn refuse_untied(path: &Path, names: Vec<String>) -> Result<(), CheckpointError> {
    if names.is_empty() {
        Ok(())
    } else {
        Err(CheckpointError::Untied {
            path: path.to_path_buf(),
            names,
        })
    }
}

/// The class that has such tensors, for files that do not say theirs.
fn class_of(tensors: &BTreeMap<String, Tensor>) -> Class {
    let has = |part: &str| tensors.keys().any(|name| name.starts_with(part));
    match (has("text_encoder."), has("text_decoder.")) {
        (true, true) => Class::QuestionAnswering,
        (true, false) => Class::ImageTextRetrieval,
        _ => Class::ConditionalGeneration,
    }
}

/// All tensors in 32 bits, and how many there were of each kind. Integers are let through only
/// where they are numbers of positions or parts of a training's state.
fn floats(
    path: &Path,
    found: Tensors,
) -> Result<(Tensors, BTreeMap<String, usize>), CheckpointError> {
    let mut kinds = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        let kind = kind_name(tensor.kind());
        if kind.starts_with("float") || kind == "bfloat16" {
            *kinds.entry(kind).or_default() += 1;
            tensors.insert(name, tensor.to_kind(Kind::Float));
        } else if !["position_ids", "idx_queue", "queue_ptr", "ptr_queue"]
            .iter()
            .any(|known| name.ends_with(known))
        {
            return Err(CheckpointError::Kind {
                path: path.to_path_buf(),
                name,
                kind,
            });
        }
    }
    Ok((tensors, kinds))
}

/// torch's name of a kind.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        Kind::Int => "int32",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        Kind::Bool => "bool",
        other => return format!("{other:?}").to_lowercase(),
    }
    .to_owned()
}

/// The tensors of a folder and how many files they lay in.
fn folder_tensors(folder: &Path) -> Result<(Tensors, usize), CheckpointError> {
    let (single, index, pickled) = (
        folder.join(SINGLE),
        folder.join(INDEX),
        folder.join(PICKLED),
    );
    if single.is_file() {
        Ok((store::read(&single)?.tensors, 1))
    } else if index.is_file() {
        sharded(folder, &index)
    } else if pickled.is_file() {
        Ok((pth::read(&pickled)?, 1))
    } else {
        Err(CheckpointError::None(
            folder.to_path_buf(),
            "the folder has neither model.safetensors nor model.safetensors.index.json nor pytorch_model.bin",
        ))
    }
}

/// Several safetensors files: the index says which tensor lies in which.
fn sharded(folder: &Path, index: &Path) -> Result<(Tensors, usize), CheckpointError> {
    let fault = |what: String| CheckpointError::Index {
        path: index.to_path_buf(),
        what,
    };
    let text = fs::read_to_string(index).map_err(|source| CheckpointError::Io {
        path: index.to_path_buf(),
        source,
    })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| fault(format!("it is no JSON: {error}")))?;
    let map = json
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| fault("it has no `weight_map`".to_owned()))?;
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, file) in map {
        // A name alone: an index may not send the reader through the file system.
        let file = file.as_str().filter(|file| {
            Path::new(file)
                .file_name()
                .is_some_and(|name| name == *file)
        });
        let file = file.ok_or_else(|| fault(format!("`{name}` lies in no file of this folder")))?;
        files.entry(file).or_default().push(name);
    }
    let mut tensors = BTreeMap::new();
    for (file, names) in &files {
        let stored = store::read(&folder.join(file))?.tensors;
        if let Some(name) = names.iter().find(|name| !stored.contains_key(**name)) {
            return Err(fault(format!(
                "`{name}` is said to lie in {file}, and it does not"
            )));
        }
        for (name, tensor) in stored {
            if map.get(&name).and_then(|it| it.as_str()) != Some(file) {
                return Err(fault(format!(
                    "{file} holds `{name}`, of which the index does not know"
                )));
            }
            tensors.insert(name, tensor);
        }
    }
    Ok((tensors, files.len()))
}
