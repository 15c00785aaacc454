//! `vit.base`, `vit.large`, `vit.tiny`, `vit.custom`, `resnet50`, `bert.base`, `bert.tiny`,
//! `bert.custom` and `med`: the shape of a model.

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::config::{ResNetConfig, TextConfig, VisionConfig, VitConfig};
use blip_model::{MedConfig, Role, tensors};
use serde::{Deserialize, Serialize};

use crate::types::{NET, TEXT, VISION, VOCAB};

/// The ops of this file.
pub(crate) fn ops() -> Vec<Op> {
    let mut ops = Vec::new();
    ops.extend(vision_signatures().map(Op::config));
    ops.extend(text_signatures().map(Op::config));
    ops.push(med_op());
    ops
}

fn image_arg(default: &'static str) -> Arg {
    Arg::with_default(
        "image",
        Type::Int,
        default,
        "Image side in pixels; a multiple of the patch size.",
    )
    .within(4.0, 4096.0)
}

fn vision_signatures() -> [Signature; 5] {
    [
        Signature::config(
            "vit.base",
            VISION,
            "ViT-B/16, the image encoder of most BLIP models: 12 blocks of width 768.",
        )
        .example("vit.base(image = 224)")
        .arg(image_arg("224")),
        Signature::config(
            "vit.large",
            VISION,
            "ViT-L/16: 24 blocks of width 1024, trained with stochastic depth 0.1.",
        )
        .example("vit.large(image = 224)")
        .arg(image_arg("224")),
        Signature::config(
            "vit.tiny",
            VISION,
            "A vision transformer for CPUs and tests: 3 blocks of width 64, patches of 4 x 4 \
             pixels.",
        )
        .example("vit.tiny(image = 32)")
        .arg(image_arg("32")),
        with_transformer_size(
            Signature::config("vit.custom", VISION, "A vision transformer of any size.")
                .example("vit.custom(image = 64, patch = 8, width = 192, depth = 6, heads = 3)")
                .arg(image_arg("224"))
                .arg(
                    Arg::with_default("patch", Type::Int, "16", "Patch side in pixels.")
                        .within(1.0, 512.0),
                ),
            "Number of blocks.",
        )
        .arg(
            Arg::with_default(
                "drop_path",
                Type::Float,
                "0.0",
                "Stochastic depth rate of the last block.",
            )
            .within(0.0, 0.9),
        ),
        Signature::config(
            "resnet50",
            VISION,
            "ResNet-50 as the image encoder: the cells of its last feature map are the tokens.",
        )
        .example("resnet50(image = 224)")
        .arg(image_arg("224")),
    ]
}

fn text_signatures() -> [Signature; 3] {
    [
        Signature::config(
            "bert.base",
            TEXT,
            "BERT-base, the text transformer of every BLIP model: 12 layers of width 768.",
        )
        .example("bert.base()"),
        Signature::config(
            "bert.tiny",
            TEXT,
            "A text transformer for CPUs and tests: 2 layers of width 64, no dropout.",
        )
        .example("bert.tiny()"),
        with_transformer_size(
            Signature::config("bert.custom", TEXT, "A text transformer of any size.")
                .example("bert.custom(width = 192, depth = 4, heads = 3)"),
            "Number of layers.",
        )
        .arg(
            Arg::with_default(
                "positions",
                Type::Int,
                "512",
                "Maximum text length in tokens.",
            )
            .within(4.0, 65536.0),
        )
        .arg(
            Arg::with_default("dropout", Type::Float, "0.1", "Dropout rate in training.")
                .within(0.0, 0.9),
        ),
    ]
}

/// Adds the sizes that vision and text transformers have in common.
fn with_transformer_size(signature: Signature, depth: &'static str) -> Signature {
    signature
        .arg(Arg::required("width", Type::Int, "Embedding width.").within(1.0, 16384.0))
        .arg(Arg::required("depth", Type::Int, depth).within(1.0, 256.0))
        .arg(
            Arg::required(
                "heads",
                Type::Int,
                "Attention heads; must divide the width.",
            )
            .within(1.0, 256.0),
        )
        .arg(Arg::optional(
            "mlp",
            Type::Int,
            "Hidden width of the MLP; four times the width by default.",
        ))
}

fn med_op() -> Op {
    let signature = Signature::stage(
        "med",
        NET,
        "The shape of a model: a multimodal mixture of encoder-decoder (paper section 3.1) with \
         its vocabulary. No weights yet.",
    )
    .example(
        "med(vision = vit.tiny(), text = bert.tiny(), vocab = read.wordpiece(\"vocab.txt\"), \
              embed = 64)",
    )
    .arg(Arg::required("vision", VISION, "The image encoder."))
    .arg(Arg::required("text", TEXT, "The text encoder and decoder."))
    .arg(Arg::required("vocab", VOCAB, "The vocabulary."))
    .arg(
        Arg::with_default(
            "embed",
            Type::Int,
            "256",
            "Width of the joint embedding space of images \
                                                      and texts.",
        )
        .within(1.0, 65536.0),
    );
    Op::run(signature, 1, run)
}

/// The result of `med`, stored as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Net {
    pub(crate) config: MedConfig,
    /// The text of a `vocab.txt`.
    pub(crate) vocab: String,
}

impl Net {
    /// Reads the net that an argument refers to.
    pub(crate) fn from_input(ctx: &StageCtx, arg: &str) -> Result<Self, OpError> {
        let bytes = ctx.read(&ctx.input(arg)?.digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| OpError::Bug(format!("a stored net cannot be read: {error}")))
    }

    pub(crate) fn vocab(&self) -> Result<Vocab, OpError> {
        stored_vocab(&self.vocab)
    }
}

/// Parses the vocabulary of a net or a model; it was validated when it was first read.
pub(crate) fn stored_vocab(text: &str) -> Result<Vocab, OpError> {
    Vocab::from_text(text)
        .map_err(|error| OpError::Bug(format!("a stored vocabulary cannot be read: {error}")))
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args();
    let vocab = String::from_utf8_lossy(&ctx.read(&ctx.input("vocab")?.digest)?).into_owned();
    let config = MedConfig {
        vision: vision_config(&args.config("vision")?)?,
        text: text_config(&args.config("text")?)?,
        vocab: stored_vocab(&vocab)?.len() as i64,
        embed: args.int("embed")?,
    };
    config.check().map_err(|error| {
        OpError::failed(
            error.to_string(),
            "choose matching sizes in `vision` and `text`",
        )
    })?;
    let metrics = vec![("parameters".to_owned(), parameters(&config) as f64)];
    let bytes =
        serde_json::to_vec(&Net { config, vocab }).expect("a net is plain data with text keys");
    Ok(Output {
        metrics,
        ..Output::of(ctx.put(&bytes)?)
    })
}

/// How many numbers are trained.
fn parameters(config: &MedConfig) -> i64 {
    tensors::tensors(config, Role::Pretrained)
        .iter()
        .filter(|spec| spec.trainable)
        .map(|spec| spec.shape.iter().product::<i64>())
        .sum()
}

fn vision_config(args: &Args) -> Result<VisionConfig, OpError> {
    let image = args.int("image")?;
    Ok(match args.op() {
        "vit.base" => VisionConfig::Vit(VitConfig::base(image)),
        "vit.large" => VisionConfig::Vit(VitConfig::large(image)),
        "vit.tiny" => VisionConfig::Vit(VitConfig::tiny(image)),
        "resnet50" => VisionConfig::ResNet(ResNetConfig::resnet50(image)),
        _ => {
            let width = args.int("width")?;
            VisionConfig::Vit(VitConfig {
                image,
                patch: args.int("patch")?,
                width,
                depth: args.int("depth")?,
                heads: args.int("heads")?,
                mlp: args.optional("mlp", Args::int)?.unwrap_or(4 * width),
                eps: 1e-6,
                drop_path: args.float("drop_path")?,
            })
        }
    })
}

fn text_config(args: &Args) -> Result<TextConfig, OpError> {
    Ok(match args.op() {
        "bert.base" => TextConfig::base(),
        "bert.tiny" => TextConfig::tiny(),
        _ => {
            let width = args.int("width")?;
            TextConfig {
                width,
                depth: args.int("depth")?,
                heads: args.int("heads")?,
                mlp: args.optional("mlp", Args::int)?.unwrap_or(4 * width),
                positions: args.int("positions")?,
                eps: 1e-12,
                dropout: args.float("dropout")?,
            }
        }
    })
}
