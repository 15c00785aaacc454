//! `config.json` of transformers' BLIP: sizes read from it and written into it.
//!
//! A field that is left out means what transformers takes it for, with one exception: the text
//! transformer's heads, which transformers would take for 8 and compute with, silently wrong for
//! every BLIP model there is.

use serde_json::{Map, Value, json};

use super::Class;
use crate::config::{MedConfig, TextConfig, VisionConfig, VitConfig};

/// Largest size that a config may name, and most layers: a typing error ends here, not in the
/// memory of the machine.
const SIZE_MAX: i64 = 1 << 20;
const DEPTH_MAX: i64 = 1024;
/// Name of the object in which blip keeps what transformers has no field for.
const OURS: &str = "blip";

/// What a `config.json` says.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The class it was saved from, if it says so.
    pub class: Option<Class>,
    /// The sizes.
    pub med: MedConfig,
    /// Ids of tokens.
    pub tokens: TokenIds,
    /// What captions begin with, if blip wrote it.
    pub prompt: Option<String>,
    /// The temperature of image-text contrast, if blip wrote it.
    pub temp: Option<f64>,
}

/// Ids that a model is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenIds {
    /// Begins a generated text: `[DEC]`.
    pub dec: i64,
    /// Ends a text: `[SEP]`.
    pub sep: i64,
    /// `[PAD]`
    pub pad: i64,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// A sentence that names the field at fault.
    pub fn read(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let root = Fields {
            name: "",
            map: json.as_object().ok_or("it is no JSON object")?,
        };
        let kind = root
            .map
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("none");
        if kind != "blip" {
            return Err(format!(
                "it is the config of a model of type `{kind}`, and only `blip` is read here"
            ));
        }
        let class = match root
            .map
            .get("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
        {
            None => None,
            Some(name) => Some(Class::named(name).ok_or_else(|| {
                let known = Class::ALL.map(Class::name).join(", ");
                format!("it is the config of a `{name}`; what is read here is {known}")
            })?),
        };
        let (text, vision) = (root.object("text_config")?, root.object("vision_config")?);
        if !text.map.contains_key("num_attention_heads") {
            return Err(
                "it lacks `text_config.num_attention_heads`, which transformers takes for 8 and BLIP has as 12: \
                        add the number that the model was trained with"
                    .to_owned(),
            );
        }
        let ours = root.object(OURS)?;
        let config = Self {
            class,
            med: MedConfig {
                vision: VisionConfig::Vit(VitConfig {
                    image: vision.size("image_size", 384)?,
                    patch: vision.size("patch_size", 16)?,
                    width: vision.size("hidden_size", 768)?,
                    depth: vision.depth(12)?,
                    heads: vision.size("num_attention_heads", 12)?,
                    mlp: vision.size("intermediate_size", 3072)?,
                    eps: vision.number("layer_norm_eps", 1e-5)?,
                    drop_path: ours.number("drop_path", 0.0)?,
                }),
                text: TextConfig {
                    width: text.size("hidden_size", 768)?,
                    depth: text.depth(12)?,
                    heads: text.size("num_attention_heads", 8)?,
                    mlp: text.size("intermediate_size", 3072)?,
                    positions: text.size("max_position_embeddings", 512)?,
                    eps: text.number("layer_norm_eps", 1e-12)?,
                    dropout: text.number("hidden_dropout_prob", 0.0)?,
                },
                vocab: text.size("vocab_size", 30_524)?,
                embed: root.size("image_text_hidden_size", 256)?,
            },
            tokens: TokenIds {
                dec: text.id("bos_token_id", 30_522)?,
                sep: text.id("sep_token_id", 102)?,
                pad: text.id("pad_token_id", 0)?,
            },
            prompt: ours
                .map
                .get("prompt")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned),
            temp: if ours.map.contains_key("temp") {
                Some(ours.number("temp", 0.0)?)
            } else {
                None
            },
        };
        for fields in [&text, &vision] {
            fields.has_gelu()?;
        }
        if text.map.get("is_decoder") == Some(&Value::Bool(false)) {
            return Err(
                "`text_config.is_decoder` is false: such a model has no cross-attention and sees no image".to_owned()
            );
        }
        config.med.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// As `config.json`, with every field that matters: those whose defaults in transformers are
    /// not BLIP's above all. `None` for an image encoder that transformers' BLIP does not have.
    pub fn write(&self) -> Option<String> {
        let MedConfig {
            vision: VisionConfig::Vit(vision),
            text,
            vocab,
            embed,
        } = &self.med
        else {
            return None;
        };
        let mut ours = json!({ "drop_path": vision.drop_path });
        if let Some(prompt) = &self.prompt {
            ours["prompt"] = json!(prompt);
        }
        if let Some(temp) = self.temp {
            ours["temp"] = json!(temp);
        }
        let config = json!({
            "architectures": [self.class.map_or("BlipForConditionalGeneration", Class::name)],
            "model_type": "blip",
            "dtype": "float32",
            "torch_dtype": "float32",
            "image_text_hidden_size": embed,
            "projection_dim": 512,
            "logit_scale_init_value": 2.6592,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "label_smoothing": 0.0,
            "tie_word_embeddings": true,
            "text_config": {
                "model_type": "blip_text_model",
                "vocab_size": vocab,
                "hidden_size": text.width,
                "encoder_hidden_size": vision.width,
                "intermediate_size": text.mlp,
                "num_hidden_layers": text.depth,
                "num_attention_heads": text.heads,
                "max_position_embeddings": text.positions,
                "hidden_act": "gelu",
                "layer_norm_eps": text.eps,
                "hidden_dropout_prob": text.dropout,
                "attention_probs_dropout_prob": text.dropout,
                "initializer_range": 0.02,
                "projection_dim": text.width,
                "is_decoder": true,
                "use_cache": true,
                "label_smoothing": 0.0,
                "bos_token_id": self.tokens.dec,
                "eos_token_id": self.tokens.sep,
                "sep_token_id": self.tokens.sep,
                "pad_token_id": self.tokens.pad,
            },
            "vision_config": {
                "model_type": "blip_vision_model",
                "hidden_size": vision.width,
                "intermediate_size": vision.mlp,
                "num_hidden_layers": vision.depth,
                "num_attention_heads": vision.heads,
                "image_size": vision.image,
                "patch_size": vision.patch,
                "hidden_act": "gelu",
                "layer_norm_eps": vision.eps,
                "attention_dropout": 0.0,
                "initializer_range": 0.02,
                "projection_dim": 512,
            },
            OURS: ours,
        });
        Some(format!("{config:#}\n"))
    }
}

/// An object of a config and how it is called in messages.
struct Fields<'j> {
    name: &'static str,
    map: &'j Map<String, Value>,
}

static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'j> Fields<'j> {
    fn object(&self, name: &'static str) -> Result<Fields<'j>, String> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(Fields { name, map: &EMPTY }),
            Some(Value::Object(map)) => Ok(Fields { name, map }),
            Some(other) => Err(format!("`{name}` is {other}, and an object is due")),
        }
    }

    fn path(&self, field: &str) -> String {
        if self.name.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.name)
        }
    }

    fn whole(&self, field: &str, default: i64, (least, most): (i64, i64)) -> Result<i64, String> {
        let Some(value) = self.map.get(field) else {
            return Ok(default);
        };
        value
            .as_i64()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!(
                    "`{}` is {value}, and a whole number from {least} to {most} is due",
                    self.path(field)
                )
            })
    }

    fn size(&self, field: &str, default: i64) -> Result<i64, String> {
        self.whole(field, default, (1, SIZE_MAX))
    }

    fn depth(&self, default: i64) -> Result<i64, String> {
        self.whole("num_hidden_layers", default, (1, DEPTH_MAX))
    }

    fn id(&self, field: &str, default: i64) -> Result<i64, String> {
        self.whole(field, default, (0, SIZE_MAX))
    }

    fn number(&self, field: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.map.get(field) else {
            return Ok(default);
        };
        value
            .as_f64()
            .filter(|number| (0.0..1.0).contains(number))
            .ok_or_else(|| {
                format!(
                    "`{}` is {value}, and a number from 0 to below 1 is due",
                    self.path(field)
                )
            })
    }

    fn has_gelu(&self) -> Result<(), String> {
        match self.map.get("hidden_act").map(|act| act.as_str()) {
            None | Some(Some("gelu")) => Ok(()),
            Some(_) => Err(format!(
                "`{}` is {}, and BLIP has \"gelu\"",
                self.path("hidden_act"),
                self.map["hidden_act"]
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            class: Some(Class::ConditionalGeneration),
            med: MedConfig {
                vision: VisionConfig::Vit(VitConfig::large(384)),
                text: TextConfig::base(),
                vocab: 30_524,
                embed: 256,
            },
            tokens: TokenIds {
                dec: 30_522,
                sep: 102,
                pad: 0,
            },
            prompt: Some("a picture of ".to_owned()),
            temp: None,
        }
    }

    #[test]
    fn a_config_comes_back() {
        let config = config();
        assert_eq!(Config::read(&config.write().unwrap()), Ok(config.clone()));
        let resnet = MedConfig {
            vision: VisionConfig::ResNet(crate::config::ResNetConfig::resnet50(224)),
            ..config.med.clone()
        };
        assert_eq!(
            Config {
                med: resnet,
                ..config
            }
            .write(),
            None
        );
    }

    #[test]
    fn what_is_left_out_is_what_transformers_takes_it_for() {
        let read =
            Config::read(r#"{"model_type": "blip", "text_config": {"num_attention_heads": 12}}"#)
                .unwrap();
        let VisionConfig::Vit(vision) = &read.med.vision else {
            panic!("a ViT")
        };
        assert_eq!(
            (vision.eps, vision.image, read.med.vocab, read.class),
            (1e-5, 384, 30_524, None)
        );
        assert_eq!(
            read.tokens,
            TokenIds {
                dec: 30_522,
                sep: 102,
                pad: 0
            }
        );
    }

    #[test]
    fn faults_name_the_field() {
        let fault = |pointer: &str, value: Value| {
            let mut json: Value = serde_json::from_str(&config().write().unwrap()).unwrap();
            *json.pointer_mut(pointer).unwrap() = value;
            Config::read(&json.to_string()).unwrap_err()
        };
        assert_eq!(
            fault("/model_type", json!("bert")),
            "it is the config of a model of type `bert`, and only `blip` is read here"
        );
        assert_eq!(
            fault("/architectures/0", json!("BlipModel")),
            "it is the config of a `BlipModel`; what is read here is BlipForConditionalGeneration, \
             BlipForImageTextRetrieval, BlipForQuestionAnswering"
        );
        assert_eq!(
            fault("/text_config/num_hidden_layers", json!(1_000_000_000)),
            "`text_config.num_hidden_layers` is 1000000000, and a whole number from 1 to 1024 is due"
        );
        assert_eq!(
            fault("/vision_config/hidden_act", json!("quick_gelu")),
            "`vision_config.hidden_act` is \"quick_gelu\", and BLIP has \"gelu\""
        );
        assert_eq!(
            fault("/vision_config/layer_norm_eps", json!("small")),
            "`vision_config.layer_norm_eps` is \"small\", and a number from 0 to below 1 is due"
        );
        assert_eq!(
            fault("/text_config/is_decoder", json!(false)),
            "`text_config.is_decoder` is false: such a model has no cross-attention and sees no image"
        );
        assert_eq!(
            fault("/text_config", json!(3)),
            "`text_config` is 3, and an object is due"
        );
        assert_eq!(
            fault("/vision_config/num_attention_heads", json!(7)),
            "the image encoder's width 1024 cannot be shared by 7 heads"
        );
        assert_eq!(
            Config::read("{").unwrap_err(),
            "it is no JSON: EOF while parsing an object at line 1 column 1"
        );
        let heads = Config::read(r#"{"model_type": "blip", "text_config": {"hidden_size": 768}}"#)
            .unwrap_err();
        assert!(
            heads.starts_with("it lacks `text_config.num_attention_heads`"),
            "{heads}"
        );
    }
}
