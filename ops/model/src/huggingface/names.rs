//! Which tensors a checkpoint holds, and how the official code calls those that transformers
//! renamed.

use std::collections::BTreeMap;

use tch::Tensor;

use super::Class;
use crate::config::{MedConfig, TextConfig, VisionConfig, VitConfig};
use crate::tensors::{Role, TensorSpec, shared_with_encoder, tensors};

/// Copies that transformers ties: name, original. A file may have them or not.
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

/// The tensors of a class, without copies. The temperature is ours: transformers has no place for
/// it.
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
            let mut specs: Vec<TensorSpec> = tensors(config, Role::Captioner)
                .into_iter()
                .chain(encoder)
                .collect();
            specs.sort_by(|one, other| one.name.cmp(&other.name));
            specs
        }
    }
}

/// Takes out the tied copies and the numbers of positions, which older files have. Copies that
/// differ from their originals are returned by name.
pub(super) fn untie(found: &mut BTreeMap<String, Tensor>) -> Vec<String> {
    found.retain(|name, _| !name.ends_with("embeddings.position_ids"));
    let mut different = Vec::new();
    for (copy, original) in TIED {
        let Some(tensor) = found.remove(copy) else {
            continue;
        };
        match found.get(original) {
            None => drop(found.insert(original.to_owned(), tensor)),
            Some(original) if original.size() == tensor.size() && *original == tensor => {}
            Some(_) => different.push(copy.to_owned()),
        }
    }
    different
}

/// The tensors of an official checkpoint under transformers' names. Momentum encoders and queues
/// are left behind; what the pretrained decoder shares with the encoder is there once. Shared
/// tensors that differ are returned by name.
pub(super) fn from_official(
    found: BTreeMap<String, Tensor>,
) -> (BTreeMap<String, Tensor>, Vec<String>) {
    let training = |name: &str| {
        let part = name.split('.').next().unwrap_or(name);
        part.ends_with("_m")
            || part.ends_with("_queue")
            || ["queue_ptr", "ptr_queue"].contains(&part)
    };
    let mut tensors: BTreeMap<String, Tensor> = found
        .into_iter()
        .filter(|(name, _)| !training(name))
        .map(|(name, tensor)| (renamed(&name), tensor))
        .collect();
    let mut different = untie(&mut tensors);
    // Only the pretraining class has one set of tensors for both: its matching head tells it from
    // question answering.
    if tensors.contains_key("itm_head.weight") {
        different.extend(share(&mut tensors));
    }
    (tensors, different)
}

/// Takes out the decoder's copies of what it shares with the encoder. Those that differ are
/// returned by name.
pub(super) fn share(tensors: &mut BTreeMap<String, Tensor>) -> Vec<String> {
    let mut different = Vec::new();
    let shared: Vec<(String, String)> = tensors
        .keys()
        .filter_map(|name| Some((name.clone(), shared_with_encoder(name)?)))
        .collect();
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

fn renamed(name: &str) -> String {
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
    let rest = rest
        .strip_prefix("norm.")
        .map(|rest| format!("post_layernorm.{rest}"))
        .unwrap_or(rest);
    format!("vision_model.{rest}")
}

/// Features of a head in all official models.
const HEAD: i64 = 64;

/// The sizes of an official model, which come with no config: from the shapes of its tensors. Heads
/// have 64 features and the norms' epsilons are those of the official code.
pub(super) fn sizes(tensors: &BTreeMap<String, Tensor>) -> Result<MedConfig, String> {
    let text = if tensors.contains_key("text_encoder.embeddings.LayerNorm.bias") {
        "text_encoder"
    } else {
        "text_decoder.bert"
    };
    let shape = |name: &str, rank: usize| {
        let found = tensors
            .get(name)
            .map(Tensor::size)
            .ok_or_else(|| format!("it has no tensor `{name}`"))?;
        if found.len() == rank {
            Ok(found)
        } else {
            Err(format!("`{name}` has the shape {found:?}"))
        }
    };
    let layers = |prefix: &str, suffix: &str| {
        (0..)
            .take_while(|layer| tensors.contains_key(&format!("{prefix}.{layer}.{suffix}")))
            .count() as i64
    };
    let patch = shape("vision_model.embeddings.patch_embedding.weight", 4)?;
    let positions = shape("vision_model.embeddings.position_embedding", 3)?[1];
    let words = shape(&format!("{text}.embeddings.word_embeddings.weight"), 2)?;
    let projection = shape("vision_proj.weight", 2);
    let large = patch[0] == 1024;
    Ok(MedConfig {
        vision: VisionConfig::Vit(VitConfig {
            image: (positions - 1).max(0).isqrt() * patch[3],
            patch: patch[3],
            width: patch[0],
            depth: layers("vision_model.encoder.layers", "layer_norm1.bias"),
            heads: (patch[0] / HEAD).max(1),
            mlp: shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)?[0],
            eps: 1e-6,
            drop_path: if large { 0.1 } else { 0.0 },
        }),
        text: TextConfig {
            width: words[1],
            depth: layers(&format!("{text}.encoder.layer"), "output.LayerNorm.bias"),
            heads: (words[1] / HEAD).max(1),
            mlp: shape(
                &format!("{text}.encoder.layer.0.intermediate.dense.weight"),
                2,
            )?[0],
            positions: shape(&format!("{text}.embeddings.position_embeddings.weight"), 2)?[0],
            eps: 1e-12,
            dropout: 0.1,
        },
        vocab: words[0],
        embed: projection.map_or(256, |shape| shape[0]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_names_become_those_of_transformers() {
        for (official, due) in [
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
            assert_eq!(renamed(official), due);
        }
    }
}
