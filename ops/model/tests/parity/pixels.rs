//! The effect on scores of decoding and resizing differently from PIL: ITM probabilities of the
//! same model on the pixels of either.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use blip_data::decode::{Picture, decode};
use blip_data::resize;
use blip_model::pretrain::with_first_token;
use blip_model::{ForwardMode, Med, Role, device};
use tch::{Kind, Tensor};

use super::table::{Table, folder};
use super::{model, shapes, tensors};

/// Scores of trained models differ by less: these models are random, with large weights.
const BOUND: f64 = 0.05;

/// Images of one size, each with blip's pixels and with PIL's.
#[derive(Default)]
struct Pictures {
    ours: Vec<f32>,
    theirs: Vec<f32>,
}

/// The images that tests/parity/pixels.py made, by side.
fn pictures() -> BTreeMap<u32, Pictures> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder("pixels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut all = BTreeMap::<u32, Pictures>::new();
    for path in &names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((stem, size)) = name
            .strip_suffix(".want.png")
            .and_then(|name| name.rsplit_once('.'))
        else {
            continue;
        };
        let size = size.parse().unwrap();
        let source = names
            .iter()
            .find(|path| path.file_stem().is_some_and(|it| it == stem))
            .unwrap();
        let picture = decode(&fs::read(source).unwrap()).unwrap();
        let rgb = image::open(path).unwrap().into_rgb8().into_raw();
        let pictures = all.entry(size).or_default();
        resize::normalize(
            &resize::resize_square(&picture, resize::full_region(&picture), size),
            &mut pictures.ours,
        );
        resize::normalize(
            &Picture {
                width: size,
                height: size,
                rgb,
            },
            &mut pictures.theirs,
        );
    }
    all
}

/// The probability that each picture matches a text, [ENC] first.
fn probabilities(med: &Med, pixels: &[f32], ids: &Tensor) -> Tensor {
    let side = med.config.vision.image();
    let images = med.vision.forward(
        &Tensor::from_slice(pixels).view([-1, 3, side, side]),
        ForwardMode::EVAL,
    );
    let ids = ids.narrow(0, 0, 1).repeat([images.size()[0], 1]);
    let encoder = med.encoder();
    let cross_kv = encoder.features.text.cross_kv(&images, ForwardMode::EVAL);
    let mask = ids.ones_like().to_kind(Kind::Bool);
    encoder
        .match_logits(&ids, &mask, &cross_kv, ForwardMode::EVAL)
        .softmax(-1, Kind::Double)
        .select(1, 1)
}

#[test]
fn scores_agree_on_pixels_of_blip_and_of_pil() {
    let _device_lock = device::lock().unwrap();
    let _still = tch::no_grad_guard();
    let (mut table, pictures) = (Table::default(), pictures());
    for (shape, folder) in shapes("forward") {
        let folder = folder.join("matcher");
        let (checkpoint, med) = model(&folder, Role::Filter);
        let Some(Pictures { ours, theirs }) = pictures.get(&(med.config.vision.image() as u32))
        else {
            continue;
        };
        let ids = &tensors(&folder.join("forward.safetensors"))["ids"];
        let ids = with_first_token(checkpoint.config.med.vocab - 1, ids);
        let (ours, theirs) = (
            probabilities(&med, ours, &ids),
            probabilities(&med, theirs, &ids),
        );
        let apart = (&ours - &theirs).abs();
        let count = apart.size()[0];
        let number = |tensor: &Tensor| tensor.double_value(&[]);
        let (mean, most) = (number(&apart.mean(Kind::Double)), number(&apart.max()));
        let means = (
            number(&ours.mean(Kind::Double)),
            number(&theirs.mean(Kind::Double)),
        );
        table.number(
            &format!("scores of {count} pictures by their pixels, mean ({shape})"),
            means,
            mean,
            BOUND / 5.0,
        );
        table.number(
            &format!("scores of {count} pictures by their pixels, most ({shape})"),
            means,
            most,
            BOUND,
        );
    }
    table.check();
}
