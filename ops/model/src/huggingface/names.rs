//! Which tensors a class of transformers has, and what the official code calls those that
//! transformers renamed.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{Class, Tensors};
use crate::config::{MedConfig, TextConfig, VisionConfig, VitConfig};
use crate::tensors::{Role, TensorSpec, shared_with_encoder, tensors};

/// Copies that transformers ties: name, original. A file may contain them or not.
const TIED: [(&str, &str); 2] = [
    (
        "text_decoder.cls.predictions.decoder.weight",
        "text_decoder.bert.embeddings.word_embeddings.weight",
    ),
    (
        "text_decoder.cls.predictions.decoder.bias",
        "text_decoder.cls.predictions.bias",
    ),
];

/// The tensors of a class, without tied copies and without the temperature, which transformers does
/// not have.
pub(super) fn specs(class: Class, config: &MedConfig) -> Vec<TensorSpec> {
    match class {
        Class::ConditionalGeneration => tensors(config, Role::Captioner),
        Class::ImageTextRetrieval => tensors(config, Role::Filter)
            .into_iter()
            .filter(|spec| spec.name != "temp")
            .collect(),
        Class::QuestionAnswering => {
            let encoder = tensors(config, Role::Filter)
                .into_iter()
                .filter(|spec| spec.name.starts_with("text_encoder."));
            let mut specs = tensors(config, Role::Captioner);
            specs.extend(encoder);
            specs.sort_by(|one, other| one.name.cmp(&other.name));
            specs
        }
    }
}

/// Removes the tied copies, and the position ids that older files have. Returns the names of copies
/// that differ from their originals.
pub(super) fn untie(found: &mut Tensors) -> Vec<String> {
    found.retain(|name, _| !name.ends_with("embeddings.position_ids"));
    let mut different = Vec::new();
    for (copy, original) in TIED {
        let Some(tensor) = found.remove(copy) else {
            continue;
        };
        match found.get(original) {
            // Some programs save the copy alone.
            None => drop(found.insert(original.to_owned(), tensor)),
            Some(original) if original.size() == tensor.size() && *original == tensor => {}
            Some(_) => different.push(copy.to_owned()),
        }
    }
    different
}

/// The tensors of an official checkpoint under transformers' names, without momentum encoders and
/// queues, and with one copy of what the pretrained decoder shares with the encoder. Also returns
/// the names of shared tensors that differ.
pub(super) fn from_official(found: Tensors) -> (Tensors, Vec<String>) {
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        if !is_training_state(&name) {
            tensors.insert(to_transformers(&name), tensor);
        }
    }
    let mut different = untie(&mut tensors);
    // Only the pretraining class shares tensors. Question answering has an encoder and a decoder,
    // too, with tensors of their own; the matching head distinguishes the two.
    if tensors.contains_key("itm_head.weight") {
        different.extend(share(&mut tensors));
    }
    (tensors, different)
}

/// Momentum encoders and queues.
fn is_training_state(name: &str) -> bool {
    let part = name.split('.').next().unwrap_or(name);
    part.ends_with("_m") || part.ends_with("_queue") || ["queue_ptr", "ptr_queue"].contains(&part)
}

/// Removes the decoder's copies of tensors that it shares with the encoder. Returns the names of
/// those that differ.
pub(super) fn share(tensors: &mut Tensors) -> Vec<String> {
    let mut shared: Vec<(String, String)> = Vec::new();
    for name in tensors.keys() {
        if let Some(original) = shared_with_encoder(name) {
            shared.push((name.clone(), original));
        }
    }
    let mut different = Vec::new();
    for (copy, original) in shared {
        let (Some(tensor), Some(original)) = (tensors.get(&copy), tensors.get(&original)) else {
            continue;
        };
        if tensor.size() == original.size() && tensor == original {
            tensors.remove(&copy);
        } else {
            different.push(copy);
        }
    }
    different
}

/// transformers' name of a tensor of the official code.
fn to_transformers(name: &str) -> String {
    let Some(rest) = name.strip_prefix("visual_encoder.") else {
        return name.to_owned();
    };
    let rest = match rest {
        "cls_token" => "embeddings.class_embedding".to_owned(),
        "pos_embed" => "embeddings.position_embedding".to_owned(),
        _ => rest
            .replacen("patch_embed.proj.", "embeddings.patch_embedding.", 1)
            .replacen("blocks.", "encoder.layers.", 1)
            .replacen(".attn.qkv.", ".self_attn.qkv.", 1)
            .replacen(".attn.proj.", ".self_attn.projection.", 1)
            .replacen(".norm1.", ".layer_norm1.", 1)
            .replacen(".norm2.", ".layer_norm2.", 1),
    };
    match rest.strip_prefix("norm.") {
        Some(rest) => format!("vision_model.post_layernorm.{rest}"),
        None => format!("vision_model.{rest}"),
    }
}

/// Features of an attention head in all official models.
const HEAD_SIZE: i64 = 64;

/// The config of an official checkpoint, which has none: sizes from the shapes of its tensors,
/// heads of 64 features, the epsilons of the official code.
pub(super) fn infer_config(tensors: &Tensors) -> Result<MedConfig, String> {
    let text = if tensors.contains_key("text_encoder.embeddings.LayerNorm.bias") {
        "text_encoder"
    } else {
        "text_decoder.bert"
    };
    let shape = |name: &str, rank: usize| {
        let found = tensors
            .get(name)
            .map(Tensor::size)
            .ok_or_else(|| format!("missing tensor `{name}`"))?;
        if found.len() == rank {
            Ok(found)
        } else {
            Err(format!(
                "`{name}` has shape {found:?}; expected {rank} dimensions"
            ))
        }
    };
    let count_layers = |prefix: &str, suffix: &str| {
        (0..)
            .take_while(|layer| tensors.contains_key(&format!("{prefix}.{layer}.{suffix}")))
            .count() as i64
    };
    let patch_weight = shape("vision_model.embeddings.patch_embedding.weight", 4)?;
    let (vision_width, patch) = (patch_weight[0], patch_weight[3]);
    let image_tokens = shape("vision_model.embeddings.position_embedding", 3)?[1];
    let words = shape(&format!("{text}.embeddings.word_embeddings.weight"), 2)?;
    let (vocab, text_width) = (words[0], words[1]);
    let projection = shape("vision_proj.weight", 2);
    let fc1 = shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)?;
    let intermediate = format!("{text}.encoder.layer.0.intermediate.dense.weight");
    let positions = format!("{text}.embeddings.position_embeddings.weight");
    let is_large = vision_width == 1024;
    Ok(MedConfig {
        vision: VisionConfig::Vit(VitConfig {
            image: (image_tokens - 1).max(0).isqrt() * patch,
            patch,
            width: vision_width,
            depth: count_layers("vision_model.encoder.layers", "layer_norm1.bias"),
            heads: (vision_width / HEAD_SIZE).max(1),
            mlp: fc1[0],
            eps: 1e-6,
            drop_path: if is_large { 0.1 } else { 0.0 },
        }),
        text: TextConfig {
            width: text_width,
            depth: count_layers(&format!("{text}.encoder.layer"), "output.LayerNorm.bias"),
            heads: (text_width / HEAD_SIZE).max(1),
            mlp: shape(&intermediate, 2)?[0],
            positions: shape(&positions, 2)?[0],
            eps: 1e-12,
            dropout: 0.1,
        },
        vocab,
        embed: projection.map_or(256, |shape| shape[0]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_names_are_translated() {
        for (official, expected) in [
            (
                "visual_encoder.cls_token",
                "vision_model.embeddings.class_embedding",
            ),
            (
                "visual_encoder.pos_embed",
                "vision_model.embeddings.position_embedding",
            ),
            (
                "visual_encoder.patch_embed.proj.bias",
                "vision_model.embeddings.patch_embedding.bias",
            ),
            (
                "visual_encoder.blocks.11.attn.qkv.weight",
                "vision_model.encoder.layers.11.self_attn.qkv.weight",
            ),
            (
                "visual_encoder.blocks.0.attn.proj.bias",
                "vision_model.encoder.layers.0.self_attn.projection.bias",
            ),
            (
                "visual_encoder.blocks.3.norm2.weight",
                "vision_model.encoder.layers.3.layer_norm2.weight",
            ),
            (
                "visual_encoder.blocks.3.mlp.fc1.weight",
                "vision_model.encoder.layers.3.mlp.fc1.weight",
            ),
            (
                "visual_encoder.norm.weight",
                "vision_model.post_layernorm.weight",
            ),
            (
                "text_encoder.encoder.layer.0.output.dense.bias",
                "text_encoder.encoder.layer.0.output.dense.bias",
            ),
        ] {
            assert_eq!(to_transformers(official), expected);
        }
    }
}
