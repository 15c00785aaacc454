//! The half of `make parity` that transformers judges: models are read, exported, and used here;
//! then tests/parity/exported.py loads the exports and has to get the same captions and scores.
//!
//! `export_for_parity FOLDER`, the folder that tests/parity/make.py wrote. Writes
//! FOLDER/exported/<model>/ with the export and ours.safetensors: the images, the captions (greedy,
//! then [PAD]) or the scores.

use std::error::Error;
use std::path::Path;

use blip_model::generate::{Decoding, Limits, generate};
use blip_model::huggingface::export::{Export, write};
use blip_model::huggingface::{Checkpoint, Config, TokenIds};
use blip_model::med::finetuning_tensors;
use blip_model::pretrain::beginning_with;
use blip_model::{Med, MedConfig, Pass, Role, TextConfig, VisionConfig, device, store};
use tch::{Device, Kind, Tensor, no_grad};

const LENGTH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args()
        .nth(1)
        .ok_or("name the folder that tests/parity/make.py wrote")?;
    let root = Path::new(&root);
    let _turn = device::exclusive()?;
    let exported = root.join("exported");
    if exported.exists() {
        std::fs::remove_dir_all(&exported)?;
    }
    for shape in ["narrow_text", "wide_text", "many_words"] {
        let from = root.join("forward").join(shape);
        for (class, role) in [("captioner", Role::Captioner), ("matcher", Role::Filter)] {
            let checkpoint = Checkpoint::read(&from.join(class))?;
            let tensors = checkpoint.tensors_of(role, &[])?;
            let med = Med::load(&checkpoint.config.med, role, &tensors, Device::Cpu)?;
            let given = store::read(&from.join(class).join("forward.safetensors"))?.tensors;
            export(
                &exported.join(format!("{shape}_{class}")),
                &med,
                &checkpoint.config,
                &given["pixels"],
            )?;
        }
    }
    let (med, config) = pretrained();
    let pixels = Tensor::randn([3, 3, 32, 32], (Kind::Float, Device::Cpu));
    export(&exported.join("pretrained"), &med, &config, &pixels)
}

/// A new model of all parts, with what is learnt as one number made large enough to tell models
/// apart.
fn pretrained() -> (Med, Config) {
    let vision = VisionConfig::Vit(blip_model::config::VitConfig::tiny(32));
    let med = MedConfig {
        vision,
        text: TextConfig::tiny(),
        vocab: 60,
        embed: 32,
    };
    let tokens = TokenIds {
        dec: 58,
        sep: 3,
        pad: 0,
    };
    let config = Config {
        class: None,
        med: med.clone(),
        tokens,
        prompt: None,
        temp: None,
    };
    let med = Med::fresh(&med, Role::Pretrained, 11, Device::Cpu);
    no_grad(|| drop(med.weights.flat().g_mul_scalar_(4.0)));
    (med, config)
}

fn export(
    folder: &Path,
    med: &Med,
    config: &Config,
    pixels: &Tensor,
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let tokens = config.med.vocab - 2;
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let words = (special.len() as i64..tokens).map(|id| format!("w{id}"));
    let vocab: Vec<String> = special
        .into_iter()
        .chain(words)
        .chain(["[DEC]", "[ENC]"].map(str::to_owned))
        .collect();
    let vocab = vocab.join("\n") + "\n";
    write(
        folder,
        med,
        &Export {
            config: config.clone(),
            vocab: &vocab,
            lineage: Vec::new(),
        },
    )?;
    let ours = no_grad(|| match med.role {
        Role::Captioner => vec![("captions", captions(med, config, pixels))],
        Role::Filter => scores(med, config, pixels),
        Role::Pretrained => {
            let all = med
                .weights
                .iter()
                .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
                .collect();
            let half = |role| {
                Med::load(
                    &med.config,
                    role,
                    &finetuning_tensors(&all, &med.config, role),
                    Device::Cpu,
                )
                .expect("a pretrained model has all that both halves need")
            };
            let mut ours = scores(&half(Role::Filter), config, pixels);
            ours.push(("captions", captions(&half(Role::Captioner), config, pixels)));
            ours
        }
    });
    let all = ours
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .chain([("pixels", pixels)]);
    Ok(store::write(&folder.join("ours.safetensors"), all, None)?)
}

/// Greedy captions without a prompt, filled up with [PAD]: (B, LENGTH)
fn captions(med: &Med, config: &Config, pixels: &Tensor) -> Tensor {
    let TokenIds { dec, sep, pad } = config.tokens;
    let limits = Limits {
        prompt: vec![dec],
        min_length: 5,
        max_length: LENGTH,
        repetition_penalty: 1.0,
        end: sep,
    };
    let images = med.vision.forward(pixels, Pass::EVAL);
    let memory = med.decoder().text.memory(&images, Pass::EVAL);
    let count = pixels.size()[0];
    let texts = generate(
        med.decoder(),
        &memory,
        (count as usize, 1),
        &limits,
        Decoding::Greedy,
        Pass::EVAL,
        &|_, _| 0.0,
    );
    let ids: Vec<i64> = texts
        .into_iter()
        .flat_map(|text| (0..LENGTH).map(move |at| text.get(at).copied().unwrap_or(pad)))
        .collect();
    Tensor::from_slice(&ids).view([count, LENGTH as i64])
}

/// Matching logits of each image with a text that begins with [ENC], and all similarities.
fn scores(med: &Med, config: &Config, pixels: &Tensor) -> Vec<(&'static str, Tensor)> {
    let count = pixels.size()[0];
    let ids = Tensor::arange_start(5, 5 + count * 6, (Kind::Int64, Device::Cpu)).view([count, 6]);
    let (cls, enc) = (
        beginning_with(2, &ids),
        beginning_with(config.med.vocab - 1, &ids),
    );
    let mask = ids.ones_like().to_kind(Kind::Bool);
    let encoder = med.encoder();
    let images = med.vision.forward(pixels, Pass::EVAL);
    let memory = encoder.features.text.memory(&images, Pass::EVAL);
    let texts = encoder.features.texts(&cls, &mask, Pass::EVAL);
    vec![
        (
            "itm",
            encoder.match_logits(&enc, &mask, &memory, Pass::EVAL),
        ),
        (
            "itc",
            encoder
                .features
                .images(&images, Pass::EVAL)
                .matmul(&texts.tr()),
        ),
        ("ids", ids),
    ]
}
