//! Writing a folder that `from_pretrained` loads without missing or unexpected keys: config,
//! weights, tokenizer, image processor, model card.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use super::{CONFIG, Class, Config, SINGLE, names};
use crate::config::VisionConfig;
use crate::med::{Med, finetuning_tensors};
use crate::store;
use crate::tensors::Role;

mod card;

use self::card::model_card;

/// The folder of a pretrained model's second half: `from_pretrained(folder, subfolder =
/// "retrieval")`.
pub const RETRIEVAL: &str = "retrieval";
/// The tokens at the end of the vocabulary that transformers' BLIP has in the embeddings, but not
/// in the tokenizer.
const APPENDED: [&str; 2] = ["[DEC]", "[ENC]"];

/// What goes into a folder besides the tensors.
#[derive(Clone, PartialEq, Debug)]
pub struct Export<'e> {
    pub config: Config,
    /// The vocabulary as `vocab.txt`.
    pub vocab: &'e str,
    /// The provenance of the model, for the model card.
    pub lineage: Vec<Ancestor>,
}

/// A stage upstream of a model, or the model's own.
#[derive(Clone, PartialEq, Debug)]
pub struct Ancestor {
    /// The name of the stage in the workflow.
    pub stage: String,
    pub op: String,
    pub args: Vec<(String, String)>,
    /// The key in the cache.
    pub key: String,
    /// The digest of the result.
    pub digest: String,
    /// The number of items in the result.
    pub count: Option<u64>,
    pub metrics: Vec<(String, f64)>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(
        "transformers' BLIP has no ResNet image encoder, so this model cannot be exported to it"
    )]
    ResNet,
    #[error("could not write {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Writes a model into an existing folder: a captioner as `BlipForConditionalGeneration`, a filter
/// as `BlipForImageTextRetrieval`, a pretrained model as both, the second in the subfolder
/// [`RETRIEVAL`].
///
/// # Errors
/// [`ExportError`].
pub fn write(folder: &Path, med: &Med, export: &Export<'_>) -> Result<(), ExportError> {
    match med.role {
        Role::Captioner => write_class(folder, Class::ConditionalGeneration, med, export),
        Role::Filter => write_class(folder, Class::ImageTextRetrieval, med, export),
        Role::Pretrained => {
            let captioner = half(med, Role::Captioner);
            write_class(folder, Class::ConditionalGeneration, &captioner, export)?;
            let subfolder = folder.join(RETRIEVAL);
            fs::create_dir_all(&subfolder).map_err(|source| io_error(&subfolder, source))?;
            let filter = half(med, Role::Filter);
            write_class(&subfolder, Class::ImageTextRetrieval, &filter, export)
        }
    }
}

/// The captioner or the filter in a pretrained model.
fn half(med: &Med, role: Role) -> Med {
    let all = med
        .weights
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
        .collect();
    let tensors = finetuning_tensors(&all, &med.config, role);
    Med::load(&med.config, role, &tensors, med.device())
        .expect("a pretrained model has all tensors that both halves need")
}

fn io_error(path: &Path, source: std::io::Error) -> ExportError {
    ExportError::Io {
        path: path.display().to_string(),
        source,
    }
}

fn write_class(
    folder: &Path,
    class: Class,
    med: &Med,
    export: &Export<'_>,
) -> Result<(), ExportError> {
    let VisionConfig::Vit(vision) = &med.config.vision else {
        return Err(ExportError::ResNet);
    };
    let temp = med
        .weights
        .has("temp")
        .then(|| f64::from(med.weights.get("temp").double_value(&[]) as f32));
    let config = Config {
        class: Some(class),
        temp,
        ..export.config.clone()
    };
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| io_error(&path, source))
    };
    write(CONFIG, config.write().ok_or(ExportError::ResNet)?)?;
    write_weights(folder, class, med)?;
    write("vocab.txt", tokenizer_vocab(export.vocab))?;
    let tokenizer = tokenizer_config(med.config.text.positions);
    write("tokenizer_config.json", pretty(&tokenizer))?;
    write("special_tokens_map.json", pretty(&special_tokens()))?;
    write(
        "preprocessor_config.json",
        pretty(&preprocessor(vision.image)),
    )?;
    if class == Class::ConditionalGeneration {
        write(
            "generation_config.json",
            pretty(&generation_config(&config)),
        )?;
    }
    write("README.md", model_card(class, &config, &export.lineage))
}

fn write_weights(folder: &Path, class: Class, med: &Med) -> Result<(), ExportError> {
    let mut owned: Vec<(String, Tensor)> = Vec::new();
    for spec in names::specs(class, &med.config) {
        let tensor = med.weights.get(&spec.name);
        owned.push((spec.name, tensor));
    }
    let tensors = owned.iter().map(|(name, tensor)| (name.as_str(), tensor));
    // transformers refuses safetensors files whose metadata does not name the framework.
    store::write(&folder.join(SINGLE), tensors, Some(("format", "pt")))?;
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The `vocab.txt` without `[DEC]` and `[ENC]` if it ends in them, like those of all published
/// models.
fn tokenizer_vocab(vocab: &str) -> String {
    let mut tokens: Vec<&str> = vocab.lines().collect();
    if tokens.ends_with(&APPENDED) {
        tokens.truncate(tokens.len() - APPENDED.len());
    }
    let text = tokens.join("\n");
    text.lines().flat_map(|token| [token, "\n"]).collect()
}

fn generation_config(config: &Config) -> Value {
    json!({
        "bos_token_id": config.tokens.dec,
        "eos_token_id": config.tokens.sep,
        "pad_token_id": config.tokens.pad,
    })
}

fn special_tokens() -> Value {
    json!({
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    })
}

fn tokenizer_config(positions: i64) -> Value {
    let mut config = json!({
        "tokenizer_class": "BertTokenizer",
        "processor_class": "BlipProcessor",
        "do_lower_case": true,
        "do_basic_tokenize": true,
        "never_split": null,
        "strip_accents": null,
        "tokenize_chinese_chars": true,
        "model_max_length": positions,
        "model_input_names": ["input_ids", "attention_mask"],
    });
    if let (Some(config), Value::Object(special)) = (config.as_object_mut(), special_tokens()) {
        config.extend(special);
    }
    config
}

fn preprocessor(image: i64) -> Value {
    json!({
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "BlipProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "do_rescale": true,
        "do_normalize": true,
        "size": { "height": image, "width": image },
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MedConfig, TextConfig, VitConfig};
    use crate::huggingface::{Checkpoint, CheckpointKind, TokenIds};
    use tch::Device;

    const VOCAB: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n[DEC]\n[ENC]\n";

    fn export(role: Role) -> (tempfile::TempDir, Med) {
        let med = MedConfig {
            vision: VisionConfig::Vit(VitConfig {
                drop_path: 0.1,
                ..VitConfig::tiny(16)
            }),
            text: TextConfig::tiny(),
            vocab: 9,
            embed: 12,
        };
        let tokens = TokenIds {
            dec: 7,
            sep: 3,
            pad: 0,
        };
        let prompt = Some("a picture of ".to_owned());
        let config = Config {
            class: None,
            med: med.clone(),
            tokens,
            prompt,
            temp: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let _device_lock = crate::device::lock().unwrap();
        let med = Med::fresh(&med, role, 1, Device::Cpu);
        tch::no_grad(|| {
            if med.weights.has("temp") {
                drop(med.weights.get("temp").fill_(0.04))
            }
        });
        let ancestor = Ancestor {
            stage: "base".to_owned(),
            op: "pretrain".to_owned(),
            args: vec![("epochs".to_owned(), "20".to_owned())],
            key: "77".to_owned(),
            digest: "1234".to_owned(),
            count: Some(7),
            metrics: vec![("loss".to_owned(), 1.5)],
        };
        write(
            folder.path(),
            &med,
            &Export {
                config,
                vocab: VOCAB,
                lineage: vec![ancestor],
            },
        )
        .unwrap();
        (folder, med)
    }

    fn assert_reads_as(folder: &Path, med: &Med, kind: CheckpointKind, role: Role) {
        let checkpoint = Checkpoint::read(folder).unwrap();
        assert_eq!(checkpoint.kind, kind);
        assert_eq!(
            (&checkpoint.config.med, checkpoint.config.tokens.dec),
            (&med.config, 7)
        );
        assert!(checkpoint.serves(role));
        let _device_lock = crate::device::lock().unwrap();
        for (name, tensor) in checkpoint.tensors_of(role, &[]).unwrap() {
            let origin = Some(name.clone()).filter(|name| med.weights.has(name));
            let origin = origin
                .or_else(|| crate::tensors::shared_with_encoder(&name))
                .unwrap();
            assert_eq!(med.weights.get(&origin), tensor, "{name}");
        }
    }

    #[test]
    fn exported_models_are_read_again() {
        let (folder, med) = export(Role::Captioner);
        assert_reads_as(
            folder.path(),
            &med,
            CheckpointKind::Class(Class::ConditionalGeneration),
            Role::Captioner,
        );
        let (folder, med) = export(Role::Filter);
        assert_reads_as(
            folder.path(),
            &med,
            CheckpointKind::Class(Class::ImageTextRetrieval),
            Role::Filter,
        );
        let (folder, med) = export(Role::Pretrained);
        assert_reads_as(
            &folder.path().join(RETRIEVAL),
            &med,
            CheckpointKind::Class(Class::ImageTextRetrieval),
            Role::Filter,
        );
        for role in [Role::Pretrained, Role::Captioner, Role::Filter] {
            assert_reads_as(folder.path(), &med, CheckpointKind::Pretrained, role);
        }
        // If one half is trained further, they are two models.
        let path = folder.path().join(SINGLE);
        let mut tensors = store::read(&path).unwrap().tensors;
        let _ = tensors
            .get_mut("vision_model.post_layernorm.bias")
            .unwrap()
            .fill_(1.0);
        store::write(
            &path,
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)),
            None,
        )
        .unwrap();
        assert_eq!(
            Checkpoint::read(folder.path()).unwrap().kind,
            CheckpointKind::Class(Class::ConditionalGeneration)
        );
    }

    #[test]
    fn all_files_that_transformers_reads_are_written() {
        let (folder, _) = export(Role::Captioner);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            read("vocab.txt"),
            "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n"
        );
        let json = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();
        assert_eq!(json("preprocessor_config.json")["size"]["height"], 16);
        assert_eq!(json("tokenizer_config.json")["cls_token"], "[CLS]");
        assert_eq!(json("generation_config.json")["bos_token_id"], 7);
        assert_eq!(json("config.json")["blip"]["prompt"], "a picture of ");
        let card = read("README.md");
        for part in [
            "BlipForConditionalGeneration.from_pretrained",
            "text=\"a picture of\"",
            "`pretrain(epochs = 20)`",
            "loss: 1.5",
        ] {
            assert!(card.contains(part), "{part} in {card}");
        }
        let stored = store::read(&folder.path().join(SINGLE)).unwrap();
        assert_eq!(stored.metadata["format"], "pt");
    }
}
