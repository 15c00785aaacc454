//! Batch independence: the model's output for an item has the same bits at every position in a
//! batch and with any other items beside it, as long as the batch has the same shape. The cache of
//! single items depends on this.

use blip_model::config::{TextConfig, VisionConfig, VitConfig};
use blip_model::generate::{Beam, Decoding, GenerationConfig, Nucleus, generate};
use blip_model::{ForwardMode, Med, MedConfig, Role, device};
use tch::{Device, Kind, Tensor};

const ROWS: i64 = 16;

fn model(role: Role, vision: VitConfig, text: TextConfig) -> Med {
    let config = MedConfig {
        vision: VisionConfig::Vit(vision),
        text,
        vocab: 500,
        embed: 32,
    };
    Med::fresh(&config, role, 3, Device::Cpu)
}

/// Sizes on both sides of every known threshold of the matrix kernels: tiny, and two layers of base
/// width.
fn shapes() -> Vec<(VitConfig, TextConfig)> {
    let vision = VitConfig {
        depth: 2,
        image: 64,
        ..VitConfig::base(64)
    };
    let text = TextConfig {
        depth: 2,
        ..TextConfig::base()
    };
    vec![(VitConfig::tiny(32), TextConfig::tiny()), (vision, text)]
}

fn random_images(image: i64, count: i64) -> Tensor {
    tch::manual_seed(7);
    Tensor::randn([count, 3, image, image], (Kind::Float, Device::Cpu))
}

#[test]
fn an_image_is_encoded_alike_in_any_batch() {
    let _device_lock = device::lock().unwrap();
    for (vision, text) in shapes() {
        let med = model(Role::Filter, vision.clone(), text);
        let images = random_images(vision.image, 2 * ROWS);
        let order: Vec<i64> = (0..ROWS)
            .map(|row| (row * 5 + 3) % ROWS + if row % 3 == 0 { ROWS } else { 0 })
            .collect();
        let mixed = images.index_select(0, &Tensor::from_slice(&order));
        let encode =
            |images: &Tensor| tch::no_grad(|| med.vision.forward(images, ForwardMode::EVAL));
        let first = encode(&images.narrow(0, 0, ROWS));
        let second = encode(&images.narrow(0, ROWS, ROWS));
        let in_order = Tensor::cat(&[first, second], 0);
        let mixed = encode(&mixed);
        for (row, from) in (0..).zip(order) {
            assert_eq!(
                mixed.get(row),
                in_order.get(from),
                "row {row} at width {}",
                vision.width
            );
        }
    }
}

#[test]
fn a_text_is_scored_alike_in_any_batch() {
    let _device_lock = device::lock().unwrap();
    for (vision, text) in shapes() {
        let med = model(Role::Filter, vision.clone(), text);
        let tokens = tch::no_grad(|| {
            med.vision
                .forward(&random_images(vision.image, ROWS), ForwardMode::EVAL)
        });
        let ids = Tensor::randint_low(5, 400, [ROWS, 9], (Kind::Int64, Device::Cpu));
        let mask = ids.ones_like().to_kind(Kind::Bool);
        let score = |order: &Tensor| {
            tch::no_grad(|| {
                let cross_kv = med
                    .encoder()
                    .features
                    .text
                    .cross_kv(&tokens.index_select(0, order), ForwardMode::EVAL);
                med.encoder().match_logits(
                    &ids.index_select(0, order),
                    &mask,
                    &cross_kv,
                    ForwardMode::EVAL,
                )
            })
        };
        let in_order = score(&Tensor::arange(ROWS, (Kind::Int64, Device::Cpu)));
        let order: Vec<i64> = (0..ROWS)
            .map(|row| {
                if row % 4 == 1 {
                    2
                } else {
                    (row * 7 + 1) % ROWS
                }
            })
            .collect();
        let mixed = score(&Tensor::from_slice(&order));
        for (row, from) in (0..).zip(order) {
            assert_eq!(
                mixed.get(row),
                in_order.get(from),
                "row {row} at width {}",
                vision.width
            );
        }
    }
}

#[test]
fn a_caption_is_generated_alike_in_any_batch() {
    let _device_lock = device::lock().unwrap();
    let (vision, text) = (VitConfig::tiny(32), TextConfig::tiny());
    let med = model(Role::Captioner, vision.clone(), text);
    let tokens = tch::no_grad(|| {
        med.vision
            .forward(&random_images(vision.image, ROWS), ForwardMode::EVAL)
    });
    let config = GenerationConfig {
        prompt: vec![498, 20, 21],
        min_length: 5,
        max_length: 14,
        repetition_penalty: 1.1,
        eos: 3,
    };
    let methods = [
        Decoding::Greedy,
        Decoding::Beam(Beam {
            beams: 3,
            length_penalty: 1.0,
        }),
        Decoding::Nucleus(Nucleus {
            top_p: 0.9,
            top_k: 50,
            temperature: 1.0,
        }),
    ];
    for decoding in methods {
        let caption = |order: &[i64]| {
            let rows = tokens.index_select(0, &Tensor::from_slice(order));
            let cross_kv = tch::no_grad(|| med.decoder().text.cross_kv(&rows, ForwardMode::EVAL));
            let uniform = |row: usize, length: usize| {
                ((order[row] * 31 + length as i64) as f64 * 0.618_034).fract()
            };
            generate(
                med.decoder(),
                &cross_kv,
                (ROWS as usize, 1),
                &config,
                decoding,
                ForwardMode::EVAL,
                &uniform,
            )
        };
        let in_order = caption(&(0..ROWS).collect::<Vec<_>>());
        let order: Vec<i64> = (0..ROWS).map(|row| (row * 3 + 2) % ROWS).collect();
        let mixed = caption(&order);
        for (row, from) in mixed.iter().zip(order) {
            assert_eq!(*row, in_order[from as usize], "{decoding:?}");
        }
    }
}
