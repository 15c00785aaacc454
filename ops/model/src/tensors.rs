//! Every tensor of a model: name, shape and initialisation. The names are those of Hugging Face's
//! checkpoints.
//!
//! Loading, exporting and counting use this one list, so a model and its files cannot disagree.

use crate::config::{MedConfig, ResNetConfig, TextConfig, VisionConfig, VitConfig};

/// What a model is for, which determines its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// All parts, the decoder sharing all but its self-attention with the encoder (paper section
    /// 3.2).
    Pretrained,
    /// Image encoder and text decoder: generates captions.
    Captioner,
    /// Image encoder, text encoder, projections and matching head: scores pairs.
    Filter,
}

/// A tensor that a model has.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<i64>,
    pub init: Init,
    /// A parameter, updated by the optimizer; else a buffer (statistics of batch norm).
    pub trainable: bool,
}

/// How a tensor is initialised when it is not loaded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// One value everywhere.
    Fill(f64),
    /// Mean 0, with this standard deviation.
    Normal(f64),
    /// The same, truncated at two standard deviations (timm's `trunc_normal_`).
    TruncatedNormal(f64),
    /// Between minus and plus this bound.
    Uniform(f64),
}

/// All tensors of a model, in the order of their names.
pub fn tensors(config: &MedConfig, role: Role) -> Vec<TensorSpec> {
    let mut list = SpecList(Vec::new());
    match &config.vision {
        VisionConfig::Vit(vit) => list.vit("vision_model", vit),
        VisionConfig::ResNet(resnet) => list.resnet("vision_model", resnet),
    }
    let vision_width = config.vision.width();
    let text = &config.text;
    if role != Role::Captioner {
        list.bert("text_encoder", text, config.vocab, vision_width);
        list.projection("vision_proj", vision_width, config.embed);
        list.projection("text_proj", text.width, config.embed);
        list.linear("itm_head", text.width, 2);
        // A scalar in the official code; safetensors keeps it as one value.
        list.add("temp", &[], Init::Fill(TEMPERATURE));
    }
    match role {
        Role::Captioner => list.bert("text_decoder.bert", text, config.vocab, vision_width),
        Role::Pretrained => {
            for layer in 0..text.depth {
                list.attention(
                    &format!("text_decoder.bert.encoder.layer.{layer}.attention"),
                    text.width,
                    text.width,
                );
            }
        }
        Role::Filter => {}
    }
    if role != Role::Filter {
        list.head("text_decoder.cls.predictions", text, config.vocab);
    }
    list.0.sort_by(|left, right| left.name.cmp(&right.name));
    list.0
}

/// The initial temperature of ITC.
pub(crate) const TEMPERATURE: f64 = 0.07;
/// The standard deviation of initial weights, in both transformers.
const STD: f64 = 0.02;

/// The encoder's name of a tensor that the pretrained decoder shares with it, `None` for the
/// others: everything but self-attention is shared.
pub fn shared_with_encoder(name: &str) -> Option<String> {
    let rest = name.strip_prefix("text_decoder.bert.")?;
    (!rest.contains(".attention.")).then(|| format!("text_encoder.{rest}"))
}

struct SpecList(Vec<TensorSpec>);

impl SpecList {
    fn add(&mut self, name: &str, shape: &[i64], init: Init) {
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trainable: true,
        });
    }

    fn buffer(&mut self, name: &str, shape: &[i64], value: f64) {
        let init = Init::Fill(value);
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trainable: false,
        });
    }

    fn weight_and_bias(&mut self, name: &str, from: i64, to: i64, weight: Init, bias: Init) {
        self.add(&format!("{name}.weight"), &[to, from], weight);
        self.add(&format!("{name}.bias"), &[to], bias);
    }

    fn linear(&mut self, name: &str, from: i64, to: i64) {
        self.weight_and_bias(name, from, to, Init::Normal(STD), Init::Fill(0.0));
    }

    /// The official code leaves the projections as PyTorch's `nn.Linear` initialises them.
    fn projection(&mut self, name: &str, from: i64, to: i64) {
        let bound = Init::Uniform(1.0 / (from as f64).sqrt());
        self.weight_and_bias(name, from, to, bound, bound);
    }

    fn layer_norm(&mut self, name: &str, width: i64) {
        self.add(&format!("{name}.weight"), &[width], Init::Fill(1.0));
        self.add(&format!("{name}.bias"), &[width], Init::Fill(0.0));
    }

    fn vit(&mut self, name: &str, vit: &VitConfig) {
        let VitConfig {
            image,
            patch,
            width,
            depth,
            mlp,
            ..
        } = *vit;
        let tokens = (image / patch) * (image / patch) + 1;
        let linear = |list: &mut Self, name: &str, from, to| {
            list.weight_and_bias(name, from, to, Init::TruncatedNormal(STD), Init::Fill(0.0));
        };
        self.add(
            &format!("{name}.embeddings.class_embedding"),
            &[1, 1, width],
            Init::TruncatedNormal(STD),
        );
        self.add(
            &format!("{name}.embeddings.position_embedding"),
            &[1, tokens, width],
            Init::TruncatedNormal(STD),
        );
        // The official code initialises linear layers only, so the convolution keeps PyTorch's
        // initialisation.
        let bound = Init::Uniform(1.0 / ((3 * patch * patch) as f64).sqrt());
        self.add(
            &format!("{name}.embeddings.patch_embedding.weight"),
            &[width, 3, patch, patch],
            bound,
        );
        self.add(
            &format!("{name}.embeddings.patch_embedding.bias"),
            &[width],
            bound,
        );
        for layer in 0..depth {
            let name = format!("{name}.encoder.layers.{layer}");
            self.layer_norm(&format!("{name}.layer_norm1"), width);
            linear(self, &format!("{name}.self_attn.qkv"), width, 3 * width);
            linear(self, &format!("{name}.self_attn.projection"), width, width);
            self.layer_norm(&format!("{name}.layer_norm2"), width);
            linear(self, &format!("{name}.mlp.fc1"), width, mlp);
            linear(self, &format!("{name}.mlp.fc2"), mlp, width);
        }
        self.layer_norm(&format!("{name}.post_layernorm"), width);
    }

    fn resnet(&mut self, name: &str, resnet: &ResNetConfig) {
        self.convolution(&format!("{name}.conv1"), 3, resnet.channels, 7);
        self.batch_norm(&format!("{name}.bn1"), resnet.channels);
        let mut from = resnet.channels;
        for (stage, blocks) in (0..).zip(resnet.blocks) {
            let inner = resnet.channels << stage;
            for block in 0..blocks {
                let name = format!("{name}.layer{}.{block}", stage + 1);
                self.convolution(&format!("{name}.conv1"), from, inner, 1);
                self.batch_norm(&format!("{name}.bn1"), inner);
                self.convolution(&format!("{name}.conv2"), inner, inner, 3);
                self.batch_norm(&format!("{name}.bn2"), inner);
                self.convolution(&format!("{name}.conv3"), inner, 4 * inner, 1);
                self.batch_norm(&format!("{name}.bn3"), 4 * inner);
                if block == 0 {
                    self.convolution(&format!("{name}.downsample.0"), from, 4 * inner, 1);
                    self.batch_norm(&format!("{name}.downsample.1"), 4 * inner);
                }
                from = 4 * inner;
            }
        }
    }

    /// torchvision: Kaiming normal over the fan out.
    fn convolution(&mut self, name: &str, from: i64, to: i64, side: i64) {
        let std = (2.0 / (to * side * side) as f64).sqrt();
        self.add(
            &format!("{name}.weight"),
            &[to, from, side, side],
            Init::Normal(std),
        );
    }

    fn batch_norm(&mut self, name: &str, channels: i64) {
        self.layer_norm(name, channels);
        self.buffer(&format!("{name}.running_mean"), &[channels], 0.0);
        self.buffer(&format!("{name}.running_var"), &[channels], 1.0);
    }

    fn attention(&mut self, name: &str, width: i64, image_width: i64) {
        self.linear(&format!("{name}.self.query"), width, width);
        self.linear(&format!("{name}.self.key"), image_width, width);
        self.linear(&format!("{name}.self.value"), image_width, width);
        self.linear(&format!("{name}.output.dense"), width, width);
        self.layer_norm(&format!("{name}.output.LayerNorm"), width);
    }

    fn bert(&mut self, name: &str, text: &TextConfig, vocab: i64, image_width: i64) {
        let TextConfig {
            width,
            depth,
            mlp,
            positions,
            ..
        } = *text;
        self.add(
            &format!("{name}.embeddings.word_embeddings.weight"),
            &[vocab, width],
            Init::Normal(STD),
        );
        self.add(
            &format!("{name}.embeddings.position_embeddings.weight"),
            &[positions, width],
            Init::Normal(STD),
        );
        self.layer_norm(&format!("{name}.embeddings.LayerNorm"), width);
        for layer in 0..depth {
            let name = format!("{name}.encoder.layer.{layer}");
            self.attention(&format!("{name}.attention"), width, width);
            self.attention(&format!("{name}.crossattention"), width, image_width);
            self.linear(&format!("{name}.intermediate.dense"), width, mlp);
            self.linear(&format!("{name}.output.dense"), mlp, width);
            self.layer_norm(&format!("{name}.output.LayerNorm"), width);
        }
    }

    /// BERT's masked-language-model head; its output matrix is the word embeddings.
    fn head(&mut self, name: &str, text: &TextConfig, vocab: i64) {
        self.linear(&format!("{name}.transform.dense"), text.width, text.width);
        self.layer_norm(&format!("{name}.transform.LayerNorm"), text.width);
        self.add(&format!("{name}.bias"), &[vocab], Init::Fill(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(config: &MedConfig, role: Role) -> i64 {
        tensors(config, role)
            .iter()
            .map(|spec| spec.shape.iter().product::<i64>())
            .sum()
    }

    /// The parameter counts of Hugging Face's classes, of the base and the large model.
    #[test]
    fn parameter_counts_equal_those_of_the_published_models() {
        let base = MedConfig {
            vision: VisionConfig::Vit(VitConfig::base(384)),
            text: TextConfig::base(),
            vocab: 30524,
            embed: 256,
        };
        assert_eq!(count(&base, Role::Captioner), 223_971_644);
        assert_eq!(
            count(&base, Role::Filter),
            223_744_258 + 1,
            "and the temperature"
        );
        let large = MedConfig {
            vision: VisionConfig::Vit(VitConfig::large(384)),
            ..base
        };
        assert_eq!(count(&large, Role::Captioner), 446_290_492);
        assert_eq!(count(&large, Role::Filter), 446_128_642 + 1);
    }

    /// torchvision's resnet50 without its classifier: 23,508,032 parameters, and the running
    /// statistics.
    #[test]
    fn the_resnet_is_resnet50() {
        let mut list = SpecList(Vec::new());
        list.resnet("r", &ResNetConfig::resnet50(224));
        let count = |trainable| {
            let chosen = list.0.iter().filter(|spec| spec.trainable == trainable);
            let sizes = chosen.map(|spec| spec.shape.iter().product::<i64>());
            sizes.sum::<i64>()
        };
        assert_eq!((count(true), count(false)), (23_508_032, 2 * 26_560));
    }

    #[test]
    fn the_decoder_shares_all_but_its_self_attention() {
        let shared = |rest: &str| shared_with_encoder(&format!("text_decoder.bert.{rest}"));
        assert_eq!(
            shared("encoder.layer.0.crossattention.self.key.bias").as_deref(),
            Some("text_encoder.encoder.layer.0.crossattention.self.key.bias")
        );
        assert_eq!(
            shared("encoder.layer.0.attention.output.LayerNorm.bias"),
            None
        );
        assert_eq!(
            shared_with_encoder("text_decoder.cls.predictions.bias"),
            None
        );
    }
}
