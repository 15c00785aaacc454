//! Reading a checkpoint: a folder of transformers or an official `.pth` file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};

use super::files::{folder_tensors, to_floats};
use super::{CONFIG, CheckpointError, CheckpointKind, Class, Config, Tensors, TokenIds};
use super::{export, names};
use crate::med::finetuning_tensors;
use crate::pth;
use crate::tensors::{Role, TEMPERATURE, TensorSpec};
use crate::weights::{Mismatch, Weights};

/// A checkpoint as it was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder or file.
    pub path: PathBuf,
    pub kind: CheckpointKind,
    pub config: Config,
    /// The tensors under transformers' names, in float32, without tied copies.
    pub tensors: BTreeMap<String, Tensor>,
    /// How many tensors of each dtype there were: ("float16", 472).
    pub dtypes: BTreeMap<String, usize>,
    /// The number of weight files.
    pub files: usize,
}

impl Checkpoint {
    /// Reads a folder of transformers or an official `.pth` file.
    ///
    /// # Errors
    /// [`CheckpointError`]; nothing is half-loaded.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        if path.is_dir() {
            Self::read_folder(path).map(Self::join_halves)
        } else if path
            .extension()
            .is_some_and(|suffix| suffix == "safetensors")
        {
            Err(CheckpointError::None(
                path.to_path_buf(),
                "it has only weights: name the folder that has its config.json too",
            ))
        } else if path.is_file() {
            Self::read_official(path)
        } else {
            Err(CheckpointError::None(
                path.to_path_buf(),
                "no such file or folder",
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
        let (mut tensors, dtypes) = to_floats(folder, found)?;
        refuse_untied(folder, names::untie(&mut tensors))?;
        let class = config.class.unwrap_or_else(|| class_of(&tensors));
        Ok(Self {
            path: folder.to_path_buf(),
            kind: CheckpointKind::Class(class),
            config,
            tensors,
            dtypes,
            files,
        })
    }

    /// A pretrained model is exported as two classes, the second in a subfolder. Joins them again
    /// if they are halves of one model, and else leaves the first as it is: the folder may hold a
    /// captioner that was trained further, with the old subfolder still beside it.
    fn join_halves(self) -> Self {
        let subfolder = self.path.join(export::RETRIEVAL);
        let is_first = self.kind == CheckpointKind::Class(Class::ConditionalGeneration);
        if !is_first || !subfolder.join(CONFIG).is_file() {
            return self;
        }
        let Ok(second) = Self::read_folder(&subfolder) else {
            return self;
        };
        let mut joined = shallow_clones(&self.tensors);
        joined.extend(shallow_clones(&second.tensors));
        let different = names::share(&mut joined);
        let agrees = |(name, tensor): (&String, &Tensor)| {
            let first = self.tensors.get(name);
            first.is_none_or(|first| first == tensor)
        };
        let are_halves = second.kind == CheckpointKind::Class(Class::ImageTextRetrieval)
            && self.config.med == second.config.med
            && second.tensors.iter().all(agrees)
            && different.is_empty();
        if !are_halves {
            return self;
        }
        let config = Config {
            temp: second.config.temp,
            ..self.config
        };
        Self {
            kind: CheckpointKind::Pretrained,
            config,
            tensors: joined,
            files: self.files + second.files,
            ..self
        }
    }

    fn read_official(path: &Path) -> Result<Self, CheckpointError> {
        let (found, dtypes) = to_floats(path, pth::read(path)?)?;
        let (tensors, different) = names::from_official(found);
        refuse_untied(path, different)?;
        let config_error = |what| CheckpointError::Config {
            path: path.to_path_buf(),
            what,
        };
        let med = names::infer_config(&tensors).map_err(config_error)?;
        med.check()
            .map_err(|error| config_error(error.to_string()))?;
        let has_decoder = tensors.keys().any(|name| name.starts_with("text_decoder."));
        let kind = if tensors.contains_key("itm_head.weight") && has_decoder {
            CheckpointKind::Pretrained
        } else {
            CheckpointKind::Class(class_of(&tensors))
        };
        // The official code appends [DEC] and [ENC] to BERT's vocabulary, in which [SEP] is 102 and
        // [PAD] 0.
        let tokens = TokenIds {
            dec: med.vocab - 2,
            sep: 102,
            pad: 0,
        };
        let config = Config {
            class: None,
            med,
            tokens,
            prompt: None,
            temp: temperature(&tensors),
        };
        Ok(Self {
            path: path.to_path_buf(),
            kind,
            config,
            tensors,
            dtypes,
            files: 1,
        })
    }

    /// The tensors that do not fit the checkpoint's kind. The temperature is optional.
    pub fn mismatch(&self) -> Mismatch {
        let mut found = shallow_clones(&self.tensors);
        found.remove("temp");
        Weights::compare(&self.kind.specs(&self.config.med), &found)
    }

    /// All tensors of a model of this role. A waived tensor that is missing, of the wrong shape or
    /// not finite is initialised; a waived one that is unexpected is dropped. The caller holds
    /// [`crate::device::lock`].
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] lists everything that is not waived.
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
                what: self.kind.noun(),
                source: Box::new(mismatch),
            });
        }
        let specs = self.kind.specs(&self.config.med);
        let initialized: Vec<TensorSpec> = specs
            .iter()
            .filter(|spec| waived.contains(&spec.name))
            .cloned()
            .collect();
        let fresh = Weights::fresh(&initialized, 0, Device::Cpu);
        let mut tensors = BTreeMap::new();
        for spec in specs {
            let value = if waived.contains(&spec.name) {
                fresh.get(&spec.name)
            } else {
                self.tensors[&spec.name].shallow_clone()
            };
            tensors.insert(spec.name, value);
        }
        let temp = temperature(&self.tensors)
            .or(self.config.temp)
            .unwrap_or(TEMPERATURE);
        tensors.insert("temp".to_owned(), Tensor::from(temp as f32));
        Ok(finetuning_tensors(&tensors, &self.config.med, role))
    }

    /// Whether it has all tensors that a model of this role needs.
    pub fn serves(&self, role: Role) -> bool {
        match (self.kind, role) {
            (CheckpointKind::Pretrained, _)
            | (CheckpointKind::Class(Class::ConditionalGeneration), Role::Captioner)
            | (CheckpointKind::Class(Class::ImageTextRetrieval), Role::Filter) => true,
            (CheckpointKind::Class(_), _) => false,
        }
    }

    /// The number of parameters.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

fn shallow_clones(tensors: &Tensors) -> Tensors {
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect()
}

/// The temperature of ITC, if the tensors have it: transformers' classes do not.
fn temperature(tensors: &Tensors) -> Option<f64> {
    let temp = tensors.get("temp")?;
    (temp.numel() == 1).then(|| temp.double_value(&[]))
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

/// The class that has such tensors, for checkpoints that do not name theirs.
fn class_of(tensors: &Tensors) -> Class {
    let has = |part: &str| tensors.keys().any(|name| name.starts_with(part));
    match (has("text_encoder."), has("text_decoder.")) {
        (true, true) => Class::QuestionAnswering,
        (true, false) => Class::ImageTextRetrieval,
        _ => Class::ConditionalGeneration,
    }
}
