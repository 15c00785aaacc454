//! The image encoder: images in, one vector per image token out.

use tch::Tensor;

use crate::config::VisionConfig;
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
