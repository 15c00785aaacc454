//! What the model costs, beside the speed of matrix products, in one table: `make bench-model`.
//!
//! The `tiny` model of the demo, and with `--full` also ViT-B and BERT-base at 224 x 224, on the
//! CPU, in one thread, with random weights. The floor is the time that the operations of the work
//! (`operations.rs` has the formula) take at the speed of the fastest of some fp32 products of
//! 1024 x 1024 matrices, measured in the same rounds.

mod operations;
mod training;
#[path = "../../../../grammar/benches/grammar/turns.rs"]
mod turns;

use std::time::{Duration, Instant};

use blip_model::config::{TextConfig, VisionConfig, VitConfig};
use blip_model::generate::{Beam, Decoding, GenerationConfig, Nucleus, generate};
use blip_model::{ForwardMode, Med, MedConfig, Role, device};
use tch::{Device, Kind, Tensor, no_grad};

use self::operations::Operations;
use self::turns::{Timed, Work, compare};

/// Images that are encoded and captioned together, as in the `caption` op.
const IMAGES: i64 = 16;
/// Captions begin with so many tokens, "a picture of", and have so many in all.
const PROMPT: i64 = 4;
const LENGTH: i64 = 20;
/// Side of the matrices whose product is the floor, and how often it is tried.
const SIDE: i64 = 1024;
const PRODUCTS: usize = 5;

/// A model and how it is trained.
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) vit: VitConfig,
    pub(crate) med: MedConfig,
    /// Pairs of a training step.
    pub(crate) batch: i64,
    /// Entries of pretraining's queue.
    pub(crate) queue: i64,
}

impl Size {
    /// As in `workflows/demo.blip`.
    fn tiny() -> Self {
        let vit = VitConfig::tiny(32);
        let med = MedConfig {
            vision: VisionConfig::Vit(vit.clone()),
            text: TextConfig::tiny(),
            vocab: 200,
            embed: 64,
        };
        Self {
            name: "tiny",
            vit,
            med,
            batch: 32,
            queue: 512,
        }
    }

    /// As in the paper, but for the size of a batch, which a GPU's memory allows there.
    fn base() -> Self {
        let vit = VitConfig::base(224);
        let med = MedConfig {
            vision: VisionConfig::Vit(vit.clone()),
            text: TextConfig::base(),
            vocab: 30_524,
            embed: 256,
        };
        Self {
            name: "base",
            vit,
            med,
            batch: 8,
            queue: 57_600,
        }
    }

    pub(crate) fn operations(&self) -> Operations<'_> {
        Operations {
            vit: &self.vit,
            med: &self.med,
        }
    }

    pub(crate) fn model(&self, role: Role) -> Med {
        Med::fresh(&self.med, role, 3, Device::Cpu)
    }

    pub(crate) fn images(&self, count: i64) -> Tensor {
        let side = self.vit.image;
        Tensor::randn([count, 3, side, side], (Kind::Float, Device::Cpu))
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark shows its table")]
fn main() {
    let full = std::env::args().any(|arg| arg == "--full");
    let _device = device::lock().expect("libtorch");
    tch::set_num_threads(1);
    tch::manual_seed(1);
    println!(
        "one thread, CPU, fp32; medians of rounds in turns, with the lowest and the highest\n"
    );
    let sizes = [Size::tiny()].into_iter().chain(full.then(Size::base));
    for size in sizes {
        inference(&size);
        training::lm(&size);
        training::pretraining(&size);
    }
}

fn inference(size: &Size) {
    let med = size.model(Role::Captioner);
    let images = size.images(IMAGES);
    let operations = size.operations();
    let encode = || no_grad(|| med.vision.forward(&images, ForwardMode::EVAL));
    let title = format!("{IMAGES} images at a time");
    measure(size, "encode", &title, IMAGES, operations.image(), encode);
    let tokens = encode();
    for (name, decoding, rows) in ways_of_decoding() {
        let decode = || {
            let memory = no_grad(|| med.decoder().text.cross_kv(&tokens, ForwardMode::EVAL));
            caption(&med, &memory, decoding)
        };
        let title = format!("{name}, {LENGTH} tokens, {IMAGES} images at a time");
        let needed = operations.decoding(rows, PROMPT, LENGTH);
        measure(size, "decode", &title, IMAGES, needed, decode);
    }
}

/// Ways of decoding with their names, and how many rows of an image each computes: BLIP's settings.
fn ways_of_decoding() -> [(&'static str, Decoding, i64); 3] {
    let nucleus = Nucleus {
        top_p: 0.9,
        top_k: 50,
        temperature: 1.0,
    };
    let beam = Beam {
        beams: 3,
        length_penalty: 1.0,
    };
    [
        ("greedy", Decoding::Greedy, 1),
        ("nucleus", Decoding::Nucleus(nucleus), 1),
        ("beam of 3", Decoding::Beam(beam), 3),
    ]
}

/// A caption of each image, none of which ends before its last token.
fn caption(med: &Med, memory: &blip_model::text::CrossKv, decoding: Decoding) -> Vec<Vec<i64>> {
    let limits = GenerationConfig {
        prompt: (med.config.vocab - PROMPT..med.config.vocab).collect(),
        min_length: LENGTH as usize,
        max_length: LENGTH as usize,
        repetition_penalty: 1.0,
        eos: 3,
    };
    let golden = |row: usize, length: usize| ((row * 31 + length) as f64 * 0.618_034).fract();
    let images = (IMAGES as usize, 1);
    let decoder = med.decoder();
    let texts = generate(
        decoder,
        memory,
        images,
        &limits,
        decoding,
        ForwardMode::EVAL,
        &golden,
    );
    assert!(texts.iter().all(|text| text.len() == LENGTH as usize));
    texts
}

/// Prints what a work of `operations` per image takes, beside its floor.
pub(crate) fn measure<T>(
    size: &Size,
    name: &str,
    title: &str,
    images: i64,
    operations: f64,
    work: impl FnMut() -> T,
) {
    let total = operations * images as f64;
    let amounts = [(total / 1e9, "GFLOP")];
    let work_done = Work {
        title: format!(
            "{}: {name}, {title}, {:.3} GFLOP an image",
            size.name,
            operations / 1e9
        ),
        items: (images as f64, "image"),
    };
    let ways = vec![
        Timed::new("blip", &amounts, work),
        Timed::measured("at the matmul peak", &amounts, floor(total)),
    ];
    compare(&work_done, ways);
}

/// The time of so many operations at the speed of the fastest of some products.
fn floor(operations: f64) -> impl FnMut() -> Duration {
    let matrix = || Tensor::randn([SIDE, SIDE], (Kind::Float, Device::Cpu));
    let (left, right) = (matrix(), matrix());
    let product = move || {
        let started = Instant::now();
        let result = left.matmul(&right);
        let took = started.elapsed();
        drop(result);
        took
    };
    move || {
        let fastest = (0..PRODUCTS).map(|_| product()).min();
        let share = operations / (2 * SIDE * SIDE * SIDE) as f64;
        fastest.unwrap_or_default().mul_f64(share)
    }
}
