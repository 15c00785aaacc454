//! Models as results of stages: one safetensors file with everything that is needed to use it, so
//! that its digest says it all.

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Artifact, Digest, OpError, StageCtx};
use blip_model::vision::resize;
use blip_model::{Med, MedConfig, Role, store};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::net::stored_vocab;

/// The one metadata entry of the file.
const KEY: &str = "blip";
const FORMAT: u32 = 1;

/// What a model's file says besides its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: u32,
    /// Its sizes.
    pub(crate) config: MedConfig,
    /// Its vocabulary as `vocab.txt`.
    pub(crate) vocab: String,
    /// What a captioner's texts begin with.
    pub(crate) prompt: Option<String>,
}

impl Header {
    pub(crate) fn new(config: MedConfig, vocab: String, prompt: Option<String>) -> Self {
        Self {
            format: FORMAT,
            config,
            vocab,
            prompt,
        }
    }
}

/// A model as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) header: Header,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Stores a model.
pub(crate) fn put(ctx: &StageCtx, header: &Header, med: &Med) -> Result<Digest, OpError> {
    let path = ctx.scratch().join("model.safetensors");
    let text = serde_json::to_string(header).expect("a header is plain data with text keys");
    store::write(&path, med.weights.iter(), Some((KEY, &text))).map_err(|error| {
        OpError::failed(
            error.to_string(),
            "check the disk of the cache: is there room left?",
        )
    })?;
    ctx.put_file(&path)
}

impl Stored {
    /// The model of a stage above.
    pub(crate) fn read(ctx: &StageCtx, artifact: &Artifact) -> Result<Self, OpError> {
        let unreadable = |what: String| {
            OpError::Bug(format!(
                "the model of `{}` cannot be read: {what}",
                artifact.stage
            ))
        };
        let stored = store::read(&ctx.object_path(&artifact.digest)?)
            .map_err(|error| unreadable(error.to_string()))?;
        let header = stored
            .metadata
            .get(KEY)
            .ok_or_else(|| unreadable("it has no header".to_owned()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            header,
            tensors: stored.tensors,
        })
    }

    /// The same model for images of another size: the table of positions is resampled.
    pub(crate) fn resize(&mut self, image: Option<i64>) -> Result<(), OpError> {
        let Some(image) = image else { return Ok(()) };
        resize(&mut self.header.config, &mut self.tensors, image)
            .map_err(|error| OpError::failed(error.to_string(), "choose another `image`"))
    }

    /// Its vocabulary.
    pub(crate) fn vocab(&self) -> Result<Vocab, OpError> {
        stored_vocab(&self.header.vocab)
    }

    /// The model, of the role it was stored in.
    pub(crate) fn load(&self, role: Role, device: Device) -> Result<Med, OpError> {
        Med::load(&self.header.config, role, &self.tensors, device).map_err(|error| {
            OpError::Bug(format!(
                "a stored model does not fit its own header: {error}"
            ))
        })
    }
}
