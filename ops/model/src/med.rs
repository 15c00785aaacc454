//! The multimodal mixture of encoder-decoder: image encoder, text encoder, text decoder,
//! projections and heads.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::config::MedConfig;
use crate::layers::{Linear, Pass};
use crate::tensors::{Role, shared_with_encoder, tensors};
use crate::text::{Head, Memory, TextEncoder};
use crate::vision::Vision;
use crate::weights::{Mismatch, Weights};

/// A model of one of the three roles.
#[derive(Debug)]
pub struct Med {
    /// Its sizes.
    pub config: MedConfig,
    /// What it is for.
    pub role: Role,
    /// Its tensors; the parts below share their values.
    pub weights: Weights,
    /// The image encoder.
    pub vision: Vision,
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

/// What compares and matches.
#[derive(Debug)]
pub struct Encoder {
    /// What compares.
    pub features: Features,
    itm_head: Linear,
    /// The temperature by which similarities are divided, a scalar.
    pub temp: Tensor,
}

/// The text encoder and the projections into the space in which images and texts are compared.
#[derive(Debug)]
pub struct Features {
    /// The text encoder.
    pub text: TextEncoder,
    vision_proj: Linear,
    text_proj: Linear,
}

/// What writes.
#[derive(Debug)]
pub struct Decoder {
    /// The text decoder.
    pub text: TextEncoder,
    head: Head,
}

impl Med {
    /// A new model.
    pub fn fresh(config: &MedConfig, role: Role, seed: u64, device: Device) -> Self {
        Self::of(
            config,
            role,
            Weights::fresh(&tensors(config, role), seed, device),
        )
    }

    /// A model with these tensors.
    ///
    /// # Errors
    /// [`Mismatch`] names everything that does not fit.
    pub fn load(
        config: &MedConfig,
        role: Role,
        found: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self, Mismatch> {
        Ok(Self::of(
            config,
            role,
            Weights::load(&tensors(config, role), found, device)?,
        ))
    }

    /// A model on these weights.
    pub fn of(config: &MedConfig, role: Role, weights: Weights) -> Self {
        let encoder = (role != Role::Captioner).then(|| Encoder {
            features: Features::new(&weights, config),
            itm_head: Linear::new(&weights, "itm_head"),
            temp: weights.get("temp"),
        });
        let decoder = (role != Role::Filter).then(|| Decoder {
            text: TextEncoder::new(&weights, "text_decoder.bert", &config.text),
            head: Head::new(&weights, "text_decoder.cls.predictions", &config.text),
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

    /// The same model ready to be trained.
    #[must_use]
    pub fn with_gradients(self) -> Self {
        let Self {
            config,
            role,
            weights,
            ..
        } = self;
        Self::of(&config, role, weights.with_gradients())
    }

    /// What compares and matches.
    ///
    /// # Panics
    /// For a captioner, which has no such part.
    pub fn encoder(&self) -> &Encoder {
        self.encoder
            .as_ref()
            .expect("a captioner is not asked to compare or match")
    }

    /// What writes.
    ///
    /// # Panics
    /// For a filter, which has no such part.
    pub fn decoder(&self) -> &Decoder {
        self.decoder
            .as_ref()
            .expect("a filter is not asked to write")
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        self.weights.flat().device()
    }
}

/// The tensors of a captioner or a filter, out of those of a pretrained model: what the decoder
/// shared becomes its own.
pub fn finetuning_tensors(
    pretrained: &BTreeMap<String, Tensor>,
    config: &MedConfig,
    role: Role,
) -> BTreeMap<String, Tensor> {
    let find = |name: &str| {
        pretrained
            .get(name)
            .or_else(|| pretrained.get(&shared_with_encoder(name)?))
    };
    let specs = tensors(config, role);
    specs
        .iter()
        .filter_map(|spec| Some((spec.name.clone(), find(&spec.name)?.shallow_clone())))
        .collect()
}

impl Features {
    /// The parts that lie in these weights.
    pub fn new(weights: &Weights, config: &MedConfig) -> Self {
        Self {
            text: TextEncoder::new(weights, "text_encoder", &config.text),
            vision_proj: Linear::new(weights, "vision_proj"),
            text_proj: Linear::new(weights, "text_proj"),
        }
    }

    /// Images in the common space: (B, tokens, vision width) -> (B, embed), of length 1
    pub fn images(&self, images: &Tensor, pass: Pass) -> Tensor {
        unit(&self.vision_proj.forward(&images.select(1, 0), pass))
    }

    /// Texts in the common space: ids that begin with `[CLS]` and their mask, (N, L) -> (N, embed),
    /// of length 1
    pub fn texts(&self, ids: &Tensor, mask: &Tensor, pass: Pass) -> Tensor {
        let hidden = self.text.encode(ids, mask, None, pass);
        unit(&self.text_proj.forward(&hidden.select(1, 0), pass))
    }
}

impl Encoder {
    /// How pairs match: ids that begin with `[ENC]`, their mask and the images -> (N, 2); class 1
    /// is "match"
    pub fn match_logits(&self, ids: &Tensor, mask: &Tensor, memory: &Memory, pass: Pass) -> Tensor {
        let hidden = self.features.text.encode(ids, mask, Some(memory), pass);
        self.itm_head
            .forward(&hidden.select(1, 0), pass)
            .to_kind(Kind::Float)
    }
}

impl Decoder {
    /// What comes next after every token: ids that begin with `[DEC]` (N, L) -> (N, L, vocab)
    pub fn logits(&self, ids: &Tensor, memory: &Memory, pass: Pass) -> Tensor {
        self.head(&self.text.decode(ids, memory, pass), pass)
    }

    /// Hidden states to logits: (.., width) -> (.., vocab)
    pub fn head(&self, hidden: &Tensor, pass: Pass) -> Tensor {
        self.head.forward(hidden, self.text.words(), pass)
    }
}

/// Vectors scaled to length 1: torch's `normalize`, over the last dimension.
fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x
        .norm_scalaropt_dim(2, [-1_i64].as_slice(), true)
        .clamp_min(1e-12);
    x / length
}
