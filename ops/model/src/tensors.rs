//! Every tensor of a model: name, shape and first value. The names are those of Hugging Face's
//! checkpoints.
//!
//! Loading, exporting and counting read this one list, so a model and its files cannot disagree.

use crate::config::{MedConfig, ResNetConfig, TextConfig, VisionConfig, VitConfig};

/// What a model is for; it says which parts there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Everything, the decoder sharing all but its self-attention with the encoder (paper section
    /// 3.2).
    Pretrained,
    /// Image encoder and text decoder: writes captions.
    Captioner,
    /// Image encoder, text encoder, projections and matching head: judges pairs.
    Filter,
}

/// A tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its first value when nothing is loaded.
    pub init: Init,
    /// Whether training moves it; the others are statistics.
    pub trained: bool,
}

/// The first value of a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// All the same.
    Fill(f64),
    /// Normal, mean 0, with this standard deviation.
    Normal(f64),
    /// The same, redrawn outside two standard deviations (timm's `trunc_normal_`).
    TruncatedNormal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
}

/// All tensors of a model, in the order of their names.
pub fn tensors(config: &MedConfig, role: Role) -> Vec<TensorSpec> {
    let mut list = List(Vec::new());
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

/// First value of the temperature by which similarities are divided.
const TEMPERATURE: f64 = 0.07;
/// Standard deviation of weights at the start, in both transformers.
const STD: f64 = 0.02;

/// The encoder's name of a tensor that the pretrained decoder shares with it: everything but the
/// self-attention.
pub fn shared_with_encoder(name: &str) -> Option<String> {
    let rest = name.strip_prefix("text_decoder.bert.")?;
    (!rest.contains(".attention.")).then(|| format!("text_encoder.{rest}"))
}

struct List(Vec<TensorSpec>);

impl List {
    fn add(&mut self, name: &str, shape: &[i64], init: Init) {
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trained: true,
        });
    }

    fn statistic(&mut self, name: &str, shape: &[i64], value: f64) {
        let init = Init::Fill(value);
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trained: false,
        });
    }

    fn weight_and_bias(&mut self, name: &str, from: i64, to: i64, weight: Init, bias: Init) {
        self.add(&format!("{name}.weight"), &[to, from], weight);
        self.add(&format!("{name}.bias"), &[to], bias);
    }

    fn linear(&mut self, name: &str, from: i64, to: i64) {
        self.weight_and_bias(name, from, to, Init::Normal(STD), Init::Fill(0.0));
    }

    /// The official code leaves the projections as PyTorch's `nn.Linear` starts them.
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
        let wide = |list: &mut Self, name: &str, from, to| {
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
        // The official code's init skips the convolution, which so keeps PyTorch's.
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
            wide(self, &format!("{name}.self_attn.qkv"), width, 3 * width);
            wide(self, &format!("{name}.self_attn.projection"), width, width);
            self.layer_norm(&format!("{name}.layer_norm2"), width);
            wide(self, &format!("{name}.mlp.fc1"), width, mlp);
            wide(self, &format!("{name}.mlp.fc2"), mlp, width);
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
        self.statistic(&format!("{name}.running_mean"), &[channels], 0.0);
        self.statistic(&format!("{name}.running_var"), &[channels], 1.0);
    }

    fn attention(&mut self, name: &str, width: i64, memory: i64) {
        self.linear(&format!("{name}.self.query"), width, width);
        self.linear(&format!("{name}.self.key"), memory, width);
        self.linear(&format!("{name}.self.value"), memory, width);
        self.linear(&format!("{name}.output.dense"), width, width);
        self.layer_norm(&format!("{name}.output.LayerNorm"), width);
    }

    fn bert(&mut self, name: &str, text: &TextConfig, vocab: i64, memory: i64) {
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
            self.attention(&format!("{name}.crossattention"), width, memory);
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

    /// The counts of Hugging Face's classes, of the base and the large model (reference table of
    /// the checkpoints).
    #[test]
    fn parameters_are_as_many_as_in_the_published_models() {
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

    /// torchvision's resnet50 without its classifier: 23,508,032 parameters, and the statistics
    /// beside them.
    #[test]
    fn the_resnet_is_resnet50() {
        let mut list = List(Vec::new());
        list.resnet("r", &ResNetConfig::resnet50(224));
        let sizes = |trained| {
            let chosen = list.0.iter().filter(move |spec| spec.trained == trained);
            chosen
                .map(|spec| spec.shape.iter().product::<i64>())
                .sum::<i64>()
        };
        assert_eq!((sizes(true), sizes(false)), (23_508_032, 2 * 26_560));
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
