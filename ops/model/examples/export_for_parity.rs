//! The half of `make parity` that runs in transformers: this example reads models, exports them and
//! computes captions and scores; tests/parity/exported.py then loads the exports and must get the
//! same.
//!
//! Usage: `export_for_parity FOLDER`, the folder that tests/parity/make.py wrote. Writes
//! FOLDER/exported/<model>/ with the export and ours.safetensors: the images, and the captions
//! (greedy, padded with [PAD]) or the scores.

use std::error::Error;
use std::path::Path;

use blip_model::generate::{Decoding, GenerationConfig, generate};
use blip_model::huggingface::export::{Export, write};
use blip_model::huggingface::{Checkpoint, Config, TokenIds};
use blip_model::med::finetuning_tensors;
use blip_model::pretrain::with_first_token;
use blip_model::{ForwardMode, Med, MedConfig, Role, TextConfig, VisionConfig, device, store};
use tch::{Device, Kind, Tensor, no_grad};

const LENGTH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args()
        .nth(1)
        .ok_or("usage: export_for_parity FOLDER, written by tests/parity/make.py")?;
    let root = Path::new(&root);
    let _device_lock = device::lock()?;
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

/// A new pretrained model, with weights large enough for different outputs.
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

/// Greedy captions without a prompt, padded with [PAD]: (B, LENGTH)
fn captions(med: &Med, config: &Config, pixels: &Tensor) -> Tensor {
    let TokenIds { dec, sep, pad } = config.tokens;
    let config = GenerationConfig {
        prompt: vec![dec],
        min_length: 5,
        max_length: LENGTH,
        repetition_penalty: 1.0,
        eos: sep,
    };
    let images = med.vision.forward(pixels, ForwardMode::EVAL);
    let cross_kv = med.decoder().text.cross_kv(&images, ForwardMode::EVAL);
    let count = pixels.size()[0];
    let texts = generate(
        med.decoder(),
        &cross_kv,
        (count as usize, 1),
        &config,
        Decoding::Greedy,
        ForwardMode::EVAL,
        &|_, _| 0.0,
    );
    let ids: Vec<i64> = texts
        .into_iter()
        .flat_map(|text| (0..LENGTH).map(move |at| text.get(at).copied().unwrap_or(pad)))
        .collect();
    Tensor::from_slice(&ids).view([count, LENGTH as i64])
}

/// ITM logits of each image with a text that begins with [ENC], and all similarities.
fn scores(med: &Med, config: &Config, pixels: &Tensor) -> Vec<(&'static str, Tensor)> {
    let count = pixels.size()[0];
    let ids = Tensor::arange_start(5, 5 + count * 6, (Kind::Int64, Device::Cpu)).view([count, 6]);
    let (cls, enc) = (
        with_first_token(2, &ids),
        with_first_token(config.med.vocab - 1, &ids),
    );
    let mask = ids.ones_like().to_kind(Kind::Bool);
    let encoder = med.encoder();
    let images = med.vision.forward(pixels, ForwardMode::EVAL);
    let cross_kv = encoder.features.text.cross_kv(&images, ForwardMode::EVAL);
    let texts = encoder.features.texts(&cls, &mask, ForwardMode::EVAL);
    vec![
        (
            "itm",
            encoder.match_logits(&enc, &mask, &cross_kv, ForwardMode::EVAL),
        ),
        (
            "itc",
            encoder
                .features
                .images(&images, ForwardMode::EVAL)
                .matmul(&texts.tr()),
        ),
        ("ids", ids),
    ]
}
