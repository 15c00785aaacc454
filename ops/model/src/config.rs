//! The sizes of a model (paper section 3.1 and the official configs). There are no defaults: a
//! forgotten field would be silently wrong.

use serde::{Deserialize, Serialize};

/// Stride of a ResNet's last feature map.
const RESNET_STRIDE: i64 = 32;
/// Features of a ResNet's last feature map for each channel of its first stage: three stages double
/// them, a bottleneck block has four times as many.
const RESNET_WIDTH_FACTOR: i64 = 32;

/// A model: an image encoder, a text transformer and their common embedding space.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MedConfig {
    pub vision: VisionConfig,
    /// Of the text encoder and of the text decoder.
    pub text: TextConfig,
    /// The number of tokens in the vocabulary.
    pub vocab: i64,
    /// Dimensions of the embedding space in which ITC compares images and texts: 256 in BLIP.
    pub embed: i64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum VisionConfig {
    /// As in the paper.
    Vit(VitConfig),
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
    /// Hidden size.
    pub width: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
    /// Hidden size of a block's MLP.
    pub mlp: i64,
    /// Of the layer norms: 1e-6 in the official code, 1e-5 in some converted checkpoints.
    pub eps: f64,
    /// Stochastic depth: the share of residual branches dropped in the last block while training,
    /// linearly less in the blocks before it.
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
    /// Channels of the first stage: 64 for ResNet-50. The hidden size is 32 times that.
    pub channels: i64,
}

/// A text transformer with post-norm blocks, in BERT's layout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Hidden size.
    pub width: i64,
    /// Number of layers.
    pub depth: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
    /// Hidden size of a layer's feed-forward part.
    pub mlp: i64,
    /// Longest text in tokens.
    pub positions: i64,
    /// Of the layer norms: 1e-12.
    pub eps: f64,
    /// Of hidden states and of attention probabilities: 0.1.
    pub dropout: f64,
}

/// Sizes that are inconsistent.
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

    /// For CPUs and tests: small images, patches of four pixels.
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

    /// Hidden size of an image token.
    pub fn width(&self) -> i64 {
        match self {
            VisionConfig::Vit(vit) => vit.width,
            VisionConfig::ResNet(resnet) => resnet.channels * RESNET_WIDTH_FACTOR,
        }
    }

    /// Tokens of an image, including the one for the whole image.
    pub fn tokens(&self) -> i64 {
        let side = match self {
            VisionConfig::Vit(vit) => vit.image / vit.patch,
            VisionConfig::ResNet(resnet) => resnet.image / RESNET_STRIDE,
        };
        side * side + 1
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self {
            VisionConfig::Vit(vit) => vit.check(),
            VisionConfig::ResNet(resnet) => resnet.check(),
        }
    }
}

impl VitConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            image,
            patch,
            width,
            depth,
            heads,
            mlp,
            ..
        } = *self;
        check_positive("image encoder", &[image, patch, width, depth, heads, mlp])?;
        if image % patch != 0 {
            let what = format!("image size {image} is not divisible by the patch size {patch}");
            return Err(ConfigError(what));
        }
        check_heads("image encoder", width, heads)
    }
}

impl ResNetConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            image,
            blocks: [first, second, third, fourth],
            channels,
        } = *self;
        if image < RESNET_STRIDE || image % RESNET_STRIDE != 0 {
            return Err(ConfigError(format!(
                "image size {image} is not a multiple of {RESNET_STRIDE}, as a ResNet needs"
            )));
        }
        check_positive("image encoder", &[first, second, third, fourth, channels])
    }
}

impl MedConfig {
    /// Checks that the sizes are consistent.
    ///
    /// # Errors
    /// [`ConfigError`] names the first ones that are not.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.vision.check()?;
        let TextConfig {
            width,
            depth,
            heads,
            mlp,
            positions,
            ..
        } = self.text;
        let sizes = [width, depth, heads, mlp, self.vocab, self.embed];
        check_positive("text transformer", &sizes)?;
        check_heads("text transformer", width, heads)?;
        if positions < 4 {
            return Err(ConfigError(format!(
                "`positions` is {positions}; texts need at least 4"
            )));
        }
        Ok(())
    }
}

fn check_positive(part: &str, sizes: &[i64]) -> Result<(), ConfigError> {
    if sizes.iter().any(|size| *size < 1) {
        return Err(ConfigError(format!("a size of the {part} is not positive")));
    }
    Ok(())
}

fn check_heads(part: &str, width: i64, heads: i64) -> Result<(), ConfigError> {
    if width % heads != 0 {
        return Err(ConfigError(format!(
            "the {part}'s width {width} is not divisible by its {heads} heads"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inconsistent_sizes_are_named() {
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
            "image size 30 is not divisible by the patch size 4"
        );
        assert_eq!(
            vision(VisionConfig::ResNet(ResNetConfig::resnet50(100))),
            "image size 100 is not a multiple of 32, as a ResNet needs"
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
            "the text transformer's width 64 is not divisible by its 5 heads"
        );
    }
}
