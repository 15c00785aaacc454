//! The image encoder: images in, one vector per image token out.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::config::{ConfigError, MedConfig, VisionConfig};
use crate::layers::ForwardMode;
use crate::resnet::ResNet;
use crate::vit::Vit;
use crate::weights::Weights;

const POSITION_EMBEDDING: &str = "vision_model.embeddings.position_embedding";

/// Either image encoder.
#[derive(Debug)]
pub struct Vision(Backbone);

#[derive(Debug)]
enum Backbone {
    Vit(Vit),
    ResNet(ResNet),
}

impl Vision {
    /// The encoder whose tensors begin with `name`.
    pub fn new(weights: &Weights, name: &str, config: &VisionConfig) -> Self {
        Self(match config {
            VisionConfig::Vit(vit) => Backbone::Vit(Vit::new(weights, name, vit)),
            VisionConfig::ResNet(resnet) => Backbone::ResNet(ResNet::new(weights, name, resnet)),
        })
    }

    /// Normalised images (B, 3, S, S) -> (B, T, C); token 0 stands for the whole image
    pub fn forward(&self, images: &Tensor, mode: ForwardMode) -> Tensor {
        match &self.0 {
            Backbone::Vit(vit) => vit.forward(images, mode),
            Backbone::ResNet(resnet) => resnet.forward(images, mode),
        }
    }
}

/// Changes a model's image size. The position embedding of a ViT is interpolated (bicubic, without
/// aligned corners, the class token's kept: salesforce/BLIP models/vit.py `interpolate_pos_embed`);
/// a ResNet needs nothing.
///
/// # Errors
/// [`ConfigError`] when the encoder cannot have that size; nothing is changed then.
pub fn resize(
    config: &mut MedConfig,
    tensors: &mut BTreeMap<String, Tensor>,
    image: i64,
) -> Result<(), ConfigError> {
    let mut resized = config.clone();
    match &mut resized.vision {
        VisionConfig::Vit(vit) => vit.image = image,
        VisionConfig::ResNet(resnet) => resnet.image = image,
    }
    resized.check()?;
    if let VisionConfig::Vit(vit) = &resized.vision
        && let Some(embedding) = tensors.get_mut(POSITION_EMBEDDING)
    {
        *embedding = interpolate_position_embedding(embedding, vit.image / vit.patch);
    }
    *config = resized;
    Ok(())
}

/// (1, n^2 + 1, C) -> (1, side^2 + 1, C)
fn interpolate_position_embedding(embedding: &Tensor, side: i64) -> Tensor {
    let (_, tokens, width) = embedding.size3().expect("a position embedding");
    let old_side = (tokens - 1).isqrt();
    if old_side == side {
        return embedding.shallow_clone();
    }
    let class = embedding.narrow(1, 0, 1); // (1, 1, C)
    let patches = embedding
        .narrow(1, 1, tokens - 1)
        .reshape([1, old_side, old_side, width])
        .permute([0, 3, 1, 2]) // (1, C, n, n)
        .upsample_bicubic2d([side, side], false, None, None) // (1, C, side, side)
        .permute([0, 2, 3, 1])
        .reshape([1, side * side, width]);
    Tensor::cat(&[class, patches], 1)
}
