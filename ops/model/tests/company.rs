//! What the model says of an item has the same bits wherever in a batch it stands and whatever
//! stands beside it, as long as the batch has the same shape. Cached results of single items rest
//! on this.

use blip_model::config::{TextConfig, VisionConfig, VitConfig};
use blip_model::generate::{Beam, Decoding, Limits, Nucleus, generate};
use blip_model::{Med, MedConfig, Pass, Role, device};
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

/// Shapes on both sides of every threshold of the matrix kernels that we know of: tiny, and two
/// layers of base width.
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
fn an_image_is_encoded_the_same_in_any_company() {
    let _turn = device::exclusive().unwrap();
    for (vision, text) in shapes() {
        let med = model(Role::Filter, vision.clone(), text);
        let images = random_images(vision.image, 2 * ROWS);
        let order: Vec<i64> = (0..ROWS)
            .map(|row| (row * 5 + 3) % ROWS + if row % 3 == 0 { ROWS } else { 0 })
            .collect();
        let mixed = images.index_select(0, &Tensor::from_slice(&order));
        let encode = |images: &Tensor| tch::no_grad(|| med.vision.forward(images, Pass::EVAL));
        let (first, second, mixed) = (
            encode(&images.narrow(0, 0, ROWS)),
            encode(&images.narrow(0, ROWS, ROWS)),
            encode(&mixed),
        );
        let alone = Tensor::cat(&[first, second], 0);
        for (row, from) in (0..).zip(order) {
            assert_eq!(
                mixed.get(row),
                alone.get(from),
                "row {row} at width {}",
                vision.width
            );
        }
    }
}

#[test]
fn a_text_is_judged_the_same_in_any_company() {
    let _turn = device::exclusive().unwrap();
    for (vision, text) in shapes() {
        let med = model(Role::Filter, vision.clone(), text);
        let tokens = tch::no_grad(|| {
            med.vision
                .forward(&random_images(vision.image, ROWS), Pass::EVAL)
        });
        let ids = Tensor::randint_low(5, 400, [ROWS, 9], (Kind::Int64, Device::Cpu));
        let mask = ids.ones_like().to_kind(Kind::Bool);
        let judge = |order: &Tensor| {
            tch::no_grad(|| {
                let memory = med
                    .encoder()
                    .features
                    .text
                    .memory(&tokens.index_select(0, order), Pass::EVAL);
                med.encoder()
                    .match_logits(&ids.index_select(0, order), &mask, &memory, Pass::EVAL)
            })
        };
        let straight = judge(&Tensor::arange(ROWS, (Kind::Int64, Device::Cpu)));
        let order: Vec<i64> = (0..ROWS)
            .map(|row| {
                if row % 4 == 1 {
                    2
                } else {
                    (row * 7 + 1) % ROWS
                }
            })
            .collect();
        let mixed = judge(&Tensor::from_slice(&order));
        for (row, from) in (0..).zip(order) {
            assert_eq!(
                mixed.get(row),
                straight.get(from),
                "row {row} at width {}",
                vision.width
            );
        }
    }
}

#[test]
fn a_caption_is_written_the_same_in_any_company() {
    let _turn = device::exclusive().unwrap();
    let (vision, text) = (VitConfig::tiny(32), TextConfig::tiny());
    let med = model(Role::Captioner, vision.clone(), text);
    let tokens = tch::no_grad(|| {
        med.vision
            .forward(&random_images(vision.image, ROWS), Pass::EVAL)
    });
    let limits = Limits {
        prompt: vec![498, 20, 21],
        min_length: 5,
        max_length: 14,
        repetition_penalty: 1.1,
        end: 3,
    };
    let ways = [
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
    for decoding in ways {
        let write = |order: &[i64]| {
            let rows = tokens.index_select(0, &Tensor::from_slice(order));
            let memory = tch::no_grad(|| med.decoder().text.memory(&rows, Pass::EVAL));
            let unit = |row: usize, length: usize| {
                ((order[row] * 31 + length as i64) as f64 * 0.618_034).fract()
            };
            generate(
                med.decoder(),
                &memory,
                (ROWS as usize, 1),
                &limits,
                decoding,
                Pass::EVAL,
                &unit,
            )
        };
        let straight = write(&(0..ROWS).collect::<Vec<_>>());
        let order: Vec<i64> = (0..ROWS).map(|row| (row * 3 + 2) % ROWS).collect();
        let mixed = write(&order);
        for (row, from) in mixed.iter().zip(order) {
            assert_eq!(*row, straight[from as usize], "{decoding:?}");
        }
    }
}
