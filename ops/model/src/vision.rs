//! The image encoder: images in, one vector per image token out.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::config::{ConfigError, MedConfig, VisionConfig};
use crate::layers::Pass;
use crate::resnet::ResNet;
use crate::vit::Vit;
use crate::weights::Weights;

/// Either image encoder.
#[derive(Debug)]
pub struct Vision(Kind);

#[derive(Debug)]
enum Kind {
    Vit(Vit),
    ResNet(ResNet),
}

impl Vision {
    /// The encoder whose tensors begin with `name`.
    pub fn new(weights: &Weights, name: &str, config: &VisionConfig) -> Self {
        Self(match config {
            VisionConfig::Vit(vit) => Kind::Vit(Vit::new(weights, name, vit)),
            VisionConfig::ResNet(resnet) => Kind::ResNet(ResNet::new(weights, name, resnet)),
        })
    }

    /// (B, 3, S, S), normalised, -> (B, tokens, width); token 0 stands for the whole image
    pub fn forward(&self, images: &Tensor, pass: Pass) -> Tensor {
        match &self.0 {
            Kind::Vit(vit) => vit.forward(images, pass),
            Kind::ResNet(resnet) => resnet.forward(images, pass),
        }
    }
}

/// Makes a model take images of another size. A ViT's table of positions is resampled, bicubic
/// without aligned corners, the token for the whole image kept (salesforce/BLIP models/vit.py
/// `interpolate_pos_embed`); a ResNet needs nothing.
///
/// # Errors
/// [`ConfigError`] when the size does not fit the encoder; nothing is changed then.
pub fn resize(
    config: &mut MedConfig,
    tensors: &mut BTreeMap<String, Tensor>,
    image: i64,
) -> Result<(), ConfigError> {
    let mut new = config.clone();
    match &mut new.vision {
        VisionConfig::Vit(vit) => vit.image = image,
        VisionConfig::ResNet(resnet) => resnet.image = image,
    }
    new.check()?;
    if let (VisionConfig::Vit(vit), Some(table)) = (&new.vision, tensors.get_mut(POSITIONS)) {
        *table = resample(table, vit.image / vit.patch);
    }
    *config = new;
    Ok(())
}

const POSITIONS: &str = "vision_model.embeddings.position_embedding";

/// (1, n^2 + 1, C) -> (1, side^2 + 1, C)
fn resample(table: &Tensor, side: i64) -> Tensor {
    let (_, tokens, width) = table.size3().expect("a table of positions");
    let old = (tokens - 1).isqrt();
    if old == side {
        return table.shallow_clone();
    }
    let whole = table.narrow(1, 0, 1);
    let grid = table
        .narrow(1, 1, tokens - 1)
        .reshape([1, old, old, width])
        .permute([0, 3, 1, 2]);
    let grid = grid.upsample_bicubic2d([side, side], false, None, None); // (1, C, side, side)
    Tensor::cat(
        &[
            whole,
            grid.permute([0, 2, 3, 1]).reshape([1, side * side, width]),
        ],
        1,
    )
}
