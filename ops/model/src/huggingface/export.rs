//! Writing a folder that `from_pretrained` loads with no missing and no unexpected key, and that
//! computes at once: config, weights, tokenizer, image processor, model card.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use super::{CONFIG, Class, Config, SINGLE, names};
use crate::config::VisionConfig;
use crate::med::{Med, finetuning_tensors};
use crate::store;
use crate::tensors::Role;

/// Where a pretrained model's other half goes: `from_pretrained(folder, subfolder = "retrieval")`.
pub const RETRIEVAL: &str = "retrieval";
/// The tokens behind BERT's vocabulary: transformers' BLIP has them in the embeddings, not in the
/// tokenizer.
const APPENDED: [&str; 2] = ["[DEC]", "[ENC]"];

/// What goes into a folder besides the tensors.
#[derive(Clone, PartialEq, Debug)]
pub struct Export<'e> {
    /// Sizes, tokens, prompt.
    pub config: Config,
    /// The vocabulary as `vocab.txt`.
    pub vocab: &'e str,
    /// What the model card tells of how the model came about.
    pub lineage: Vec<Ancestor>,
}

/// A stage that a model comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct Ancestor {
    /// Its name in the workflow.
    pub stage: String,
    /// What it ran.
    pub op: String,
    /// Names and values of what it was told.
    pub args: Vec<(String, String)>,
    /// Its key in the cache.
    pub key: String,
    /// The digest of what it made.
    pub digest: String,
    /// How many items that has.
    pub count: Option<u64>,
    /// Numbers about it.
    pub metrics: Vec<(String, f64)>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// transformers' BLIP has a vision transformer only.
    #[error(
        "transformers' BLIP has no ResNet as its image encoder, so this model cannot be written for it"
    )]
    ResNet,
    /// The operating system said no.
    #[error("could not write {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The weights could not be written.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Writes a model into an existing folder. A captioner is a `BlipForConditionalGeneration`, a
/// filter a `BlipForImageTextRetrieval`, a pretrained model both: the first in the folder, the
/// second in its subfolder `retrieval`.
///
/// # Errors
/// [`ExportError`].
pub fn write(folder: &Path, med: &Med, export: &Export<'_>) -> Result<(), ExportError> {
    match med.role {
        Role::Captioner => write_class(folder, Class::ConditionalGeneration, med, export),
        Role::Filter => write_class(folder, Class::ImageTextRetrieval, med, export),
        Role::Pretrained => {
            let half = |role| {
                let all = med
                    .weights
                    .iter()
                    .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
                    .collect();
                let tensors = finetuning_tensors(&all, &med.config, role);
                Med::load(&med.config, role, &tensors, med.device())
                    .expect("a pretrained model has all that both halves need")
            };
            write_class(
                folder,
                Class::ConditionalGeneration,
                &half(Role::Captioner),
                export,
            )?;
            let inner = folder.join(RETRIEVAL);
            fs::create_dir_all(&inner).map_err(|source| io(&inner, source))?;
            write_class(
                &inner,
                Class::ImageTextRetrieval,
                &half(Role::Filter),
                export,
            )
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> ExportError {
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
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| io(&path, source))
    };
    put(CONFIG, config.write().ok_or(ExportError::ResNet)?)?;
    let owned: Vec<(String, Tensor)> = names::specs(class, &med.config)
        .into_iter()
        .map(|spec| (spec.name.clone(), med.weights.get(&spec.name)))
        .collect();
    let tensors = owned.iter().map(|(name, tensor)| (name.as_str(), tensor));
    store::write(&folder.join(SINGLE), tensors, Some(("format", "pt")))?;
    let tokenizer = tokenizer_vocab(export.vocab);
    put(
        "vocab.txt",
        tokenizer.lines().flat_map(|token| [token, "\n"]).collect(),
    )?;
    put(
        "tokenizer_config.json",
        pretty(&tokenizer_config(med.config.text.positions)),
    )?;
    put("special_tokens_map.json", pretty(&special_tokens()))?;
    put(
        "preprocessor_config.json",
        pretty(&preprocessor(vision.image)),
    )?;
    if class == Class::ConditionalGeneration {
        let tokens = config.tokens;
        let generation = json!({ "bos_token_id": tokens.dec, "eos_token_id": tokens.sep, "pad_token_id": tokens.pad });
        put("generation_config.json", pretty(&generation))?;
    }
    put("README.md", card(class, &config, export))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The vocabulary without `[DEC]` and `[ENC]` where they are its end: so it is with all published
/// models.
fn tokenizer_vocab(vocab: &str) -> String {
    let mut tokens: Vec<&str> = vocab.lines().collect();
    if tokens.ends_with(&APPENDED) {
        tokens.truncate(tokens.len() - APPENDED.len());
    }
    tokens.join("\n")
}

fn special_tokens() -> Value {
    json!({
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]",
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

/// The model card: how to use it, what differs from what transformers does by itself, where it
/// comes from.
fn card(class: Class, config: &Config, export: &Export<'_>) -> String {
    let task = match class {
        Class::ConditionalGeneration => "image-to-text",
        Class::ImageTextRetrieval | Class::QuestionAnswering => "zero-shot-image-classification",
    };
    let mut card = format!(
        "---\nlibrary_name: transformers\npipeline_tag: {task}\ntags: [blip]\n---\n\n# A BLIP model: `{}`\n\n\
         A {} of a `blip` workflow, after [BLIP](https://arxiv.org/abs/2201.12086). It {}.\n\n## Use\n\n```python\n{}```\n",
        class.name(),
        super::Holds::Class(class).noun(),
        super::Holds::Class(class).describe(),
        usage(class, config)
    );
    card.push_str("\n## Where it comes from\n\n");
    if export.lineage.is_empty() {
        card.push_str("Nothing is known of its making.\n");
    }
    for ancestor in &export.lineage {
        let Ancestor {
            stage,
            op,
            args,
            key,
            digest,
            count,
            metrics,
        } = ancestor;
        let args: Vec<String> = args
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        card.push_str(&format!(
            "- `{stage}` = `{op}({})`\n  - key `{key}`, result `{digest}`",
            args.join(", ")
        ));
        if let Some(count) = count {
            card.push_str(&format!(", {count} items"));
        }
        card.push('\n');
        for (name, value) in metrics {
            card.push_str(&format!("  - {name}: {value}\n"));
        }
    }
    card
}

fn usage(class: Class, config: &Config) -> String {
    let name = class.name();
    let load = format!(
        "from transformers import {name}, BlipProcessor\n\nmodel = {name}.from_pretrained(folder).eval()\n\
         processor = BlipProcessor.from_pretrained(folder)\n"
    );
    match class {
        Class::ConditionalGeneration => {
            let text = config.prompt.as_deref().map_or(String::new(), |prompt| {
                format!(", text=\"{}\"", prompt.trim_end())
            });
            format!(
                "{load}inputs = processor(images=image{text}, return_tensors=\"pt\")\n\
                 ids = model.generate(**inputs, num_beams=3, max_length=20, min_length=5)\n\
                 print(processor.decode(ids[0], skip_special_tokens=True))\n"
            )
        }
        Class::ImageTextRetrieval | Class::QuestionAnswering => format!(
            "{load}inputs = processor(images=image, text=caption, return_tensors=\"pt\")\n\
             # It was trained with [ENC] at the beginning of the text, where transformers leaves [CLS].\n\
             inputs[\"input_ids\"][:, 0] = {}\n\
             match = model(**inputs).itm_score.softmax(-1)[0, 1]\n",
            config.med.vocab - 1
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MedConfig, TextConfig, VitConfig};
    use crate::huggingface::{Checkpoint, Holds, TokenIds};
    use tch::Device;

    const VOCAB: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n[DEC]\n[ENC]\n";

    fn written(role: Role) -> (tempfile::TempDir, Med) {
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
        let _turn = crate::device::exclusive().unwrap();
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

    fn comes_back(folder: &Path, med: &Med, holds: Holds, role: Role) {
        let checkpoint = Checkpoint::read(folder).unwrap();
        assert_eq!(checkpoint.holds, holds);
        assert_eq!(
            (&checkpoint.config.med, checkpoint.config.tokens.dec),
            (&med.config, 7)
        );
        assert!(checkpoint.serves(role));
        let _turn = crate::device::exclusive().unwrap();
        for (name, tensor) in checkpoint.tensors_of(role, &[]).unwrap() {
            let origin = Some(name.clone()).filter(|name| med.weights.has(name));
            let origin = origin
                .or_else(|| crate::tensors::shared_with_encoder(&name))
                .unwrap();
            assert_eq!(med.weights.get(&origin), tensor, "{name}");
        }
    }

    #[test]
    fn models_come_back_through_the_folder() {
        let (folder, med) = written(Role::Captioner);
        comes_back(
            folder.path(),
            &med,
            Holds::Class(Class::ConditionalGeneration),
            Role::Captioner,
        );
        let (folder, med) = written(Role::Filter);
        comes_back(
            folder.path(),
            &med,
            Holds::Class(Class::ImageTextRetrieval),
            Role::Filter,
        );
        let (folder, med) = written(Role::Pretrained);
        comes_back(
            &folder.path().join(RETRIEVAL),
            &med,
            Holds::Class(Class::ImageTextRetrieval),
            Role::Filter,
        );
        for role in [Role::Pretrained, Role::Captioner, Role::Filter] {
            comes_back(folder.path(), &med, Holds::Pretrained, role);
        }
        // A half that was trained on makes two models of one.
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
            Checkpoint::read(folder.path()).unwrap().holds,
            Holds::Class(Class::ConditionalGeneration)
        );
    }

    #[test]
    fn the_files_are_those_that_transformers_reads() {
        let (folder, _) = written(Role::Captioner);
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
