//! `config.json` of transformers' BLIP: read and written.
//!
//! A missing field has transformers' default, with one exception: the number of heads of the text
//! transformer. transformers would take it for 8 and compute with it, silently wrong for every BLIP
//! model that exists.

use serde_json::{Map, Value, json};

use super::Class;
use crate::config::{MedConfig, TextConfig, VisionConfig, VitConfig};

/// The largest size and the most layers that a config may have: a typing error ends in a message,
/// not in an allocation that the machine cannot serve.
const SIZE_MAX: i64 = 1 << 20;
const DEPTH_MAX: i64 = 1024;
/// The object that holds what transformers has no field for.
const BLIP: &str = "blip";

/// The contents of a `config.json`.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The class that it was saved from, if it names one.
    pub class: Option<Class>,
    pub med: MedConfig,
    pub tokens: TokenIds,
    /// What captions begin with, if blip wrote the file.
    pub prompt: Option<String>,
    /// The temperature of ITC, if blip wrote the file.
    pub temp: Option<f64>,
}

/// The special tokens that transformers' BLIP has in its config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenIds {
    pub dec: i64,
    pub sep: i64,
    pub pad: i64,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// A message that names the field.
    pub fn read(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
        let root = Fields {
            name: "",
            map: json.as_object().ok_or("not a JSON object")?,
        };
        let class = read_class(&root)?;
        let (text, vision) = (root.object("text_config")?, root.object("vision_config")?);
        let blip = root.object(BLIP)?;
        let config = Self {
            class,
            med: MedConfig {
                vision: VisionConfig::Vit(read_vision(&vision, &blip)?),
                text: read_text(&text)?,
                vocab: text.size("vocab_size", 30_524)?,
                embed: root.size("image_text_hidden_size", 256)?,
            },
            tokens: TokenIds {
                dec: text.id("bos_token_id", 30_522)?,
                sep: text.id("sep_token_id", 102)?,
                pad: text.id("pad_token_id", 0)?,
            },
            prompt: blip.text("prompt").map(ToOwned::to_owned),
            temp: match blip.map.get("temp") {
                Some(_) => Some(blip.fraction("temp", 0.0)?),
                None => None,
            },
        };
        text.require_gelu()?;
        vision.require_gelu()?;
        if text.map.get("is_decoder") == Some(&Value::Bool(false)) {
            let what = "`text_config.is_decoder` is false: a model without cross-attention \
                        cannot see the image";
            return Err(what.to_owned());
        }
        config.med.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// The `config.json`, with every field that matters, above all those whose defaults in
    /// transformers are not BLIP's. `None` for a ResNet, which transformers' BLIP does not have.
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
        let mut blip = json!({ "drop_path": vision.drop_path });
        if let Some(prompt) = &self.prompt {
            blip["prompt"] = json!(prompt);
        }
        if let Some(temp) = self.temp {
            blip["temp"] = json!(temp);
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
            BLIP: blip,
        });
        Some(format!("{config:#}\n"))
    }
}

fn read_class(root: &Fields<'_>) -> Result<Option<Class>, String> {
    let model_type = root.text("model_type").unwrap_or("none");
    if model_type != "blip" {
        return Err(format!(
            "`model_type` is `{model_type}`; only `blip` is supported"
        ));
    }
    let architectures = root.map.get("architectures");
    let first = architectures.and_then(|list| list.get(0));
    let Some(name) = first.and_then(Value::as_str) else {
        return Ok(None);
    };
    match Class::from_name(name) {
        Some(class) => Ok(Some(class)),
        None => {
            let supported = Class::ALL.map(Class::name).join(", ");
            Err(format!(
                "`architectures` has `{name}`; supported are {supported}"
            ))
        }
    }
}

fn read_vision(vision: &Fields<'_>, blip: &Fields<'_>) -> Result<VitConfig, String> {
    Ok(VitConfig {
        image: vision.size("image_size", 384)?,
        patch: vision.size("patch_size", 16)?,
        width: vision.size("hidden_size", 768)?,
        depth: vision.depth(12)?,
        heads: vision.size("num_attention_heads", 12)?,
        mlp: vision.size("intermediate_size", 3072)?,
        eps: vision.fraction("layer_norm_eps", 1e-5)?,
        drop_path: blip.fraction("drop_path", 0.0)?,
    })
}

fn read_text(text: &Fields<'_>) -> Result<TextConfig, String> {
    if !text.map.contains_key("num_attention_heads") {
        let what = "missing `text_config.num_attention_heads`: transformers takes it for 8, BLIP \
                    models have 12; add the number that the model was trained with";
        return Err(what.to_owned());
    }
    Ok(TextConfig {
        width: text.size("hidden_size", 768)?,
        depth: text.depth(12)?,
        heads: text.size("num_attention_heads", 8)?,
        mlp: text.size("intermediate_size", 3072)?,
        positions: text.size("max_position_embeddings", 512)?,
        eps: text.fraction("layer_norm_eps", 1e-12)?,
        dropout: text.fraction("hidden_dropout_prob", 0.0)?,
    })
}

/// An object of a config, with its name for messages.
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
            Some(other) => Err(format!("`{name}` is {other}; expected an object")),
        }
    }

    fn text(&self, field: &str) -> Option<&'j str> {
        self.map.get(field).and_then(Value::as_str)
    }

    fn path(&self, field: &str) -> String {
        if self.name.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.name)
        }
    }

    fn integer(&self, field: &str, default: i64, (least, most): (i64, i64)) -> Result<i64, String> {
        let Some(value) = self.map.get(field) else {
            return Ok(default);
        };
        let number = value.as_i64();
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            let path = self.path(field);
            format!("`{path}` is {value}; expected an integer from {least} to {most}")
        })
    }

    fn size(&self, field: &str, default: i64) -> Result<i64, String> {
        self.integer(field, default, (1, SIZE_MAX))
    }

    fn depth(&self, default: i64) -> Result<i64, String> {
        self.integer("num_hidden_layers", default, (1, DEPTH_MAX))
    }

    fn id(&self, field: &str, default: i64) -> Result<i64, String> {
        self.integer(field, default, (0, SIZE_MAX))
    }

    /// A number in [0, 1).
    fn fraction(&self, field: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.map.get(field) else {
            return Ok(default);
        };
        let number = value.as_f64();
        let number = number.filter(|number| (0.0..1.0).contains(number));
        number.ok_or_else(|| {
            let path = self.path(field);
            format!("`{path}` is {value}; expected a number from 0 to less than 1")
        })
    }

    fn require_gelu(&self) -> Result<(), String> {
        match self.map.get("hidden_act") {
            None => Ok(()),
            Some(value) if value.as_str() == Some("gelu") => Ok(()),
            Some(value) => {
                let path = self.path("hidden_act");
                Err(format!("`{path}` is {value}; only \"gelu\" is supported"))
            }
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
    fn a_config_is_read_as_it_was_written() {
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
    fn missing_fields_have_the_defaults_of_transformers() {
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
    fn errors_name_the_field() {
        let error_with = |pointer: &str, value: Value| {
            let mut json: Value = serde_json::from_str(&config().write().unwrap()).unwrap();
            *json.pointer_mut(pointer).unwrap() = value;
            Config::read(&json.to_string()).unwrap_err()
        };
        assert_eq!(
            error_with("/model_type", json!("bert")),
            "`model_type` is `bert`; only `blip` is supported"
        );
        assert_eq!(
            error_with("/architectures/0", json!("BlipModel")),
            "`architectures` has `BlipModel`; supported are BlipForConditionalGeneration, \
             BlipForImageTextRetrieval, BlipForQuestionAnswering"
        );
        assert_eq!(
            error_with("/text_config/num_hidden_layers", json!(1_000_000_000)),
            "`text_config.num_hidden_layers` is 1000000000; expected an integer from 1 to 1024"
        );
        assert_eq!(
            error_with("/vision_config/hidden_act", json!("quick_gelu")),
            "`vision_config.hidden_act` is \"quick_gelu\"; only \"gelu\" is supported"
        );
        assert_eq!(
            error_with("/vision_config/layer_norm_eps", json!("small")),
            "`vision_config.layer_norm_eps` is \"small\"; expected a number from 0 to less than 1"
        );
        assert_eq!(
            error_with("/text_config/is_decoder", json!(false)),
            "`text_config.is_decoder` is false: a model without cross-attention cannot see the image"
        );
        assert_eq!(
            error_with("/text_config", json!(3)),
            "`text_config` is 3; expected an object"
        );
        assert_eq!(
            error_with("/vision_config/num_attention_heads", json!(7)),
            "the image encoder's width 1024 is not divisible by its 7 heads"
        );
        assert_eq!(
            Config::read("{").unwrap_err(),
            "invalid JSON: EOF while parsing an object at line 1 column 1"
        );
        let heads = Config::read(r#"{"model_type": "blip", "text_config": {"hidden_size": 768}}"#)
            .unwrap_err();
        assert!(
            heads.starts_with("missing `text_config.num_attention_heads`"),
            "{heads}"
        );
    }
}
