//! Models as results of stages: one safetensors file with everything that is needed to use the
//! model, so that its digest identifies it completely.

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Artifact, Digest, OpError, StageCtx};
use blip_model::vision::resize;
use blip_model::{Med, MedConfig, Role, store};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::net::stored_vocab;

/// The one metadata entry of the file.
const METADATA_KEY: &str = "blip";
const FORMAT: u32 = 1;

/// What a model's file holds besides its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: u32,
    pub(crate) config: MedConfig,
    /// The text of a `vocab.txt`.
    pub(crate) vocab: String,
    /// What a captioner's texts begin with; `None` for other models.
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

/// Stores a model.
pub(crate) fn put(ctx: &StageCtx, header: &Header, med: &Med) -> Result<Digest, OpError> {
    let path = ctx.scratch().join("model.safetensors");
    let header = serde_json::to_string(header).expect("a header is plain data with text keys");
    let metadata = Some((METADATA_KEY, header.as_str()));
    store::write(&path, med.weights.iter(), metadata).map_err(|error| {
        OpError::failed(error.to_string(), "check the cache's disk: it may be full")
    })?;
    ctx.put_file(&path)
}

/// A model as it is stored.
#[derive(Debug)]
pub(crate) struct StoredModel {
    pub(crate) header: Header,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl StoredModel {
    /// Reads the model of an upstream stage.
    pub(crate) fn read(ctx: &StageCtx, artifact: &Artifact) -> Result<Self, OpError> {
        let path = ctx.object_path(&artifact.digest)?;
        Self::parse(&path).map_err(|error| {
            OpError::Bug(format!(
                "the model of `{}` cannot be read: {error}",
                artifact.stage
            ))
        })
    }

    fn parse(path: &std::path::Path) -> Result<Self, String> {
        let stored = store::read(path).map_err(|error| error.to_string())?;
        let header = stored
            .metadata
            .get(METADATA_KEY)
            .ok_or("it has no header")?;
        Ok(Self {
            header: serde_json::from_str(header).map_err(|error| error.to_string())?,
            tensors: stored.tensors,
        })
    }

    /// Adapts the model to images of another size by resampling its position embeddings.
    pub(crate) fn resize(&mut self, image: Option<i64>) -> Result<(), OpError> {
        let Some(image) = image else { return Ok(()) };
        resize(&mut self.header.config, &mut self.tensors, image)
            .map_err(|error| OpError::failed(error.to_string(), "choose another `image`"))
    }

    pub(crate) fn vocab(&self) -> Result<Vocab, OpError> {
        stored_vocab(&self.header.vocab)
    }

    /// Loads the model in the role that it was stored in.
    pub(crate) fn load(&self, role: Role, device: Device) -> Result<Med, OpError> {
        Med::load(&self.header.config, role, &self.tensors, device).map_err(|error| {
            OpError::Bug(format!(
                "a stored model does not match its own header: {error}"
            ))
        })
    }
}
