//! The sizes of a model, every field written out: paper section 3.1 and the official configs.

use serde::{Deserialize, Serialize};

/// Stride of a ResNet's last feature map.
const RESNET_STRIDE: i64 = 32;

/// A model: an image encoder, a text transformer, and what joins them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MedConfig {
    /// The image encoder.
    pub vision: VisionConfig,
    /// The text encoder and decoder.
    pub text: TextConfig,
    /// Tokens of the vocabulary.
    pub vocab: i64,
    /// Width of the space in which images and texts are compared (ITC): 256 in BLIP.
    pub embed: i64,
}

/// The image encoder.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum VisionConfig {
    /// A vision transformer, as in the paper.
    Vit(VitConfig),
    /// A ResNet, the alternative.
    ResNet(ResNetConfig),
}

/// A vision transformer with pre-norm blocks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the image in pixels.
    pub image: i64,
    /// Side of a patch in pixels; divides `image`.
    pub patch: i64,
    /// Features of a token.
    pub width: i64,
    /// Blocks.
    pub depth: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
    /// Features inside a block's MLP.
    pub mlp: i64,
    /// Epsilon of the layer norms: 1e-6 in the official code, 1e-5 in some converted checkpoints.
    pub eps: f64,
    /// Share of residual branches dropped in the last block while training, less in those before
    /// it.
    pub drop_path: f64,
}

/// A ResNet with bottleneck blocks (torchvision's `resnet50` layout).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Side of the image in pixels; a multiple of 32.
    pub image: i64,
    /// Blocks of the four stages: 3, 4, 6, 3 for ResNet-50.
    pub blocks: [i64; 4],
    /// Channels of the first stage: 64 for ResNet-50; a token has 32 times as many features.
    pub channels: i64,
}

/// A text transformer with post-norm blocks, in BERT's layout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Features of a token.
    pub width: i64,
    /// Layers.
    pub depth: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
    /// Features inside a layer's feed-forward part.
    pub mlp: i64,
    /// Longest text in tokens.
    pub positions: i64,
    /// Epsilon of the layer norms: 1e-12.
    pub eps: f64,
    /// Share of hidden values and of attention probabilities dropped while training: 0.1.
    pub dropout: f64,
}

/// Sizes that do not fit together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl VitConfig {
    /// ViT-B/16.
    pub fn base(image: i64) -> Self {
        Self {
            image,
            patch: 16,
            width: 768,
            depth: 12,
            heads: 12,
            mlp: 3072,
            eps: 1e-6,
            drop_path: 0.0,
        }
    }

    /// ViT-L/16; the official code always trains it with stochastic depth 0.1.
    pub fn large(image: i64) -> Self {
        Self {
            image,
            patch: 16,
            width: 1024,
            depth: 24,
            heads: 16,
            mlp: 4096,
            eps: 1e-6,
            drop_path: 0.1,
        }
    }

    /// For CPUs and tests: small pictures, patches of four pixels.
    pub fn tiny(image: i64) -> Self {
        Self {
            image,
            patch: 4,
            width: 64,
            depth: 3,
            heads: 4,
            mlp: 256,
            eps: 1e-6,
            drop_path: 0.0,
        }
    }
}

impl ResNetConfig {
    /// ResNet-50.
    pub fn resnet50(image: i64) -> Self {
        Self {
            image,
            blocks: [3, 4, 6, 3],
            channels: 64,
        }
    }
}

impl TextConfig {
    /// BERT-base.
    pub fn base() -> Self {
        Self {
            width: 768,
            depth: 12,
            heads: 12,
            mlp: 3072,
            positions: 512,
            eps: 1e-12,
            dropout: 0.1,
        }
    }

    /// For CPUs and tests. Without dropout: such a model underfits.
    pub fn tiny() -> Self {
        Self {
            width: 64,
            depth: 2,
            heads: 4,
            mlp: 256,
            positions: 64,
            eps: 1e-12,
            dropout: 0.0,
        }
    }
}

impl VisionConfig {
    /// Side of the image in pixels.
    pub fn image(&self) -> i64 {
        match self {
            VisionConfig::Vit(vit) => vit.image,
            VisionConfig::ResNet(resnet) => resnet.image,
        }
    }

    /// Features of an image token.
    pub fn width(&self) -> i64 {
        match self {
            VisionConfig::Vit(vit) => vit.width,
            VisionConfig::ResNet(resnet) => resnet.channels * 32,
        }
    }

    /// Tokens of an image, the one for the whole image first.
    pub fn tokens(&self) -> i64 {
        let side = match self {
            VisionConfig::Vit(vit) => vit.image / vit.patch,
            VisionConfig::ResNet(resnet) => resnet.image / RESNET_STRIDE,
        };
        side * side + 1
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fault = |text: String| Err(ConfigError(text));
        match self {
            VisionConfig::Vit(VitConfig {
                image,
                patch,
                width,
                depth,
                heads,
                mlp,
                ..
            }) => {
                if [image, patch, width, depth, heads, mlp]
                    .iter()
                    .any(|size| **size < 1)
                {
                    return fault("a size of the image encoder is not positive".to_owned());
                }
                if image % patch != 0 {
                    return fault(format!(
                        "an image of {image} pixels cannot be cut into patches of {patch}"
                    ));
                }
                if width % heads != 0 {
                    return fault(format!(
                        "the image encoder's width {width} cannot be shared by {heads} heads"
                    ));
                }
            }
            VisionConfig::ResNet(ResNetConfig {
                image,
                blocks,
                channels,
            }) => {
                if *image < RESNET_STRIDE || image % RESNET_STRIDE != 0 {
                    return fault(format!(
                        "a ResNet takes images of a multiple of {RESNET_STRIDE} pixels, not {image}"
                    ));
                }
                if blocks.iter().chain([channels]).any(|size| *size < 1) {
                    return fault("a size of the image encoder is not positive".to_owned());
                }
            }
        }
        Ok(())
    }
}

impl MedConfig {
    /// Whether the sizes fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the sizes that do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.vision.check()?;
        let TextConfig {
            width,
            depth,
            heads,
            mlp,
            positions,
            ..
        } = &self.text;
        if [width, depth, heads, mlp, &self.vocab, &self.embed]
            .iter()
            .any(|size| **size < 1)
        {
            return Err(ConfigError(
                "a size of the text transformer is not positive".to_owned(),
            ));
        }
        if width % heads != 0 {
            return Err(ConfigError(format!(
                "the text transformer's width {width} cannot be shared by {heads} heads"
            )));
        }
        if *positions < 4 {
            return Err(ConfigError(format!(
                "texts of {positions} tokens have no room for words"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let good = MedConfig {
            vision: VisionConfig::Vit(VitConfig::tiny(32)),
            text: TextConfig::tiny(),
            vocab: 100,
            embed: 32,
        };
        assert_eq!(good.check(), Ok(()));
        assert_eq!((good.vision.tokens(), good.vision.width()), (65, 64));
        let resnet = VisionConfig::ResNet(ResNetConfig::resnet50(224));
        assert_eq!((resnet.tokens(), resnet.width()), (50, 2048));
        let message = |config: MedConfig| config.check().unwrap_err().to_string();
        let vision = |vision| {
            message(MedConfig {
                vision,
                ..good.clone()
            })
        };
        assert_eq!(
            vision(VisionConfig::Vit(VitConfig::tiny(30))),
            "an image of 30 pixels cannot be cut into patches of 4"
        );
        assert_eq!(
            vision(VisionConfig::ResNet(ResNetConfig::resnet50(100))),
            "a ResNet takes images of a multiple of 32 pixels, not 100"
        );
        let text = TextConfig {
            heads: 5,
            ..TextConfig::tiny()
        };
        assert_eq!(
            message(MedConfig {
                text,
                ..good.clone()
            }),
            "the text transformer's width 64 cannot be shared by 5 heads"
        );
    }
}
