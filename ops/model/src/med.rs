//! The multimodal mixture of encoder-decoder (paper section 3.1): image encoder, text encoder, text
//! decoder, projections and heads.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::config::MedConfig;
use crate::layers::{ForwardMode, Linear};
use crate::tensors::{Role, shared_with_encoder, tensors};
use crate::text::{CrossKv, LmHead, TextEncoder};
use crate::vision::Vision;
use crate::weights::{Mismatch, Weights};

/// A model in one of the three roles.
#[derive(Debug)]
pub struct Med {
    pub config: MedConfig,
    pub role: Role,
    /// All tensors; the modules below are views of them.
    pub weights: Weights,
    pub vision: Vision,
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

/// The part that compares (ITC) and matches (ITM) images and texts.
#[derive(Debug)]
pub struct Encoder {
    pub features: Features,
    itm_head: Linear,
    /// The temperature of ITC, a scalar.
    pub temp: Tensor,
}

/// The text encoder, and the projections of images and texts into the common embedding space.
#[derive(Debug)]
pub struct Features {
    pub text: TextEncoder,
    vision_proj: Linear,
    text_proj: Linear,
}

/// The part that generates captions.
#[derive(Debug)]
pub struct Decoder {
    pub text: TextEncoder,
    head: LmHead,
}

impl Med {
    /// A randomly initialised model.
    pub fn fresh(config: &MedConfig, role: Role, seed: u64, device: Device) -> Self {
        let weights = Weights::fresh(&tensors(config, role), seed, device);
        Self::from_weights(config, role, weights)
    }

    /// A model with these tensors.
    ///
    /// # Errors
    /// [`Mismatch`] lists every tensor that does not fit.
    pub fn load(
        config: &MedConfig,
        role: Role,
        found: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self, Mismatch> {
        let weights = Weights::load(&tensors(config, role), found, device)?;
        Ok(Self::from_weights(config, role, weights))
    }

    fn from_weights(config: &MedConfig, role: Role, weights: Weights) -> Self {
        let encoder = (role != Role::Captioner).then(|| Encoder {
            features: Features::new(&weights, config),
            itm_head: Linear::new(&weights, "itm_head"),
            temp: weights.get("temp"),
        });
        let decoder = (role != Role::Filter).then(|| Decoder {
            text: TextEncoder::new(&weights, "text_decoder.bert", &config.text),
            head: LmHead::new(&weights, "text_decoder.cls.predictions", &config.text),
        });
        let vision = Vision::new(&weights, "vision_model", &config.vision);
        Self {
            config: config.clone(),
            role,
            weights,
            vision,
            encoder,
            decoder,
        }
    }

    /// The same model, ready to be trained. The modules hold shallow copies of the tensors, made
    /// before these required gradients, so they are built again.
    #[must_use]
    pub fn with_gradients(self) -> Self {
        let Self {
            config,
            role,
            weights,
            ..
        } = self;
        Self::from_weights(&config, role, weights.with_gradients())
    }

    /// # Panics
    /// For a captioner, which has no encoder.
    pub fn encoder(&self) -> &Encoder {
        let encoder = self.encoder.as_ref();
        encoder.expect("a captioner has no text encoder")
    }

    /// # Panics
    /// For a filter, which has no decoder.
    pub fn decoder(&self) -> &Decoder {
        let decoder = self.decoder.as_ref();
        decoder.expect("a filter has no text decoder")
    }

    pub fn device(&self) -> Device {
        self.weights.flat().device()
    }
}

/// The tensors of a captioner or a filter, taken from those of a pretrained model: tensors that the
/// decoder shared with the encoder become its own.
pub fn finetuning_tensors(
    pretrained: &BTreeMap<String, Tensor>,
    config: &MedConfig,
    role: Role,
) -> BTreeMap<String, Tensor> {
    let mut finetuned = BTreeMap::new();
    for spec in tensors(config, role) {
        let own = pretrained.get(&spec.name);
        let found = own.or_else(|| pretrained.get(&shared_with_encoder(&spec.name)?));
        if let Some(tensor) = found {
            finetuned.insert(spec.name, tensor.shallow_clone());
        }
    }
    finetuned
}

impl Features {
    pub fn new(weights: &Weights, config: &MedConfig) -> Self {
        Self {
            text: TextEncoder::new(weights, "text_encoder", &config.text),
            vision_proj: Linear::new(weights, "vision_proj"),
            text_proj: Linear::new(weights, "text_proj"),
        }
    }

    /// Image tokens (B, T, vision width) -> unit vectors (B, embed)
    pub fn images(&self, images: &Tensor, mode: ForwardMode) -> Tensor {
        let class = images.select(1, 0); // (B, vision width)
        normalize(&self.vision_proj.forward(&class, mode))
    }

    /// Ids that begin with `[CLS]` and their mask, (N, T) each -> unit vectors (N, embed)
    pub fn texts(&self, ids: &Tensor, mask: &Tensor, mode: ForwardMode) -> Tensor {
        let hidden = self.text.encode(ids, mask, None, mode); // (N, T, C)
        let class = hidden.select(1, 0); // (N, C)
        normalize(&self.text_proj.forward(&class, mode))
    }
}

impl Encoder {
    /// Ids that begin with `[ENC]` and their mask, (N, T) each -> (N, 2); class 1 is "match"
    pub fn match_logits(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        cross_kv: &CrossKv,
        mode: ForwardMode,
    ) -> Tensor {
        let text = &self.features.text;
        let hidden = text.encode(ids, mask, Some(cross_kv), mode); // (N, T, C)
        let first = hidden.select(1, 0); // (N, C)
        self.itm_head.forward(&first, mode).to_kind(Kind::Float)
    }
}

impl Decoder {
    /// Logits of the next token at every position: ids that begin with `[DEC]` (N, T) ->
    /// (N, T, vocab)
    pub fn logits(&self, ids: &Tensor, cross_kv: &CrossKv, mode: ForwardMode) -> Tensor {
        self.head(&self.text.decode(ids, cross_kv, mode), mode)
    }

    /// (.., C) -> (.., vocab)
    pub fn head(&self, hidden: &Tensor, mode: ForwardMode) -> Tensor {
        self.head.forward(hidden, self.text.word_embeddings(), mode)
    }
}

/// `torch.nn.functional.normalize` over the last dimension: (.., C) -> (.., C)
fn normalize(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let norm = x.norm_scalaropt_dim(2, [-1_i64].as_slice(), true); // (.., 1)
    x / norm.clamp_min(1e-12)
}
