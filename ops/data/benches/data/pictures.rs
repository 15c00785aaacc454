//! Pictures whose files are as large as those of photographs, and a shard of them.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use blip_data::decode::Picture;
use blip_data::rng::Rng;
use blip_data::scenes;
use blip_data::shard::ShardWriter;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

/// Different pictures in a shard; more would only take longer to make.
const DIFFERENT: usize = 16;
/// Cells of the coarsest noise along a side; each finer one has twice as many and half the height.
const CELLS: u32 = 4;

/// Smooth noise at all scales: detail falls with its size, as in photographs.
pub(crate) fn picture(number: u64, side: u32) -> Picture {
    let mut random = Rng::new(&[number, u64::from(side)]);
    let mut values = vec![128.0; side as usize * side as usize * 3];
    let (mut cells, mut height) = (CELLS, 80.0);
    while cells <= side / 2 {
        add_noise(&mut values, side, cells, height, &mut random);
        cells *= 2;
        height /= 2.0;
    }
    Picture {
        width: side,
        height: side,
        rgb: values.iter().map(|value| *value as u8).collect(),
    }
}

/// Adds noise of so many cells along a side, linear between their corners.
fn add_noise(values: &mut [f64], side: u32, cells: u32, height: f64, random: &mut Rng) {
    let row = (cells as usize + 1) * 3;
    let corners: Vec<f64> = (0..row * (cells as usize + 1))
        .map(|_| random.uniform_range(-height, height))
        .collect();
    let step = f64::from(cells) / f64::from(side);
    let pixels = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
    for ((x, y), pixel) in pixels.zip(values.chunks_mut(3)) {
        let (x, y) = (f64::from(x) * step, f64::from(y) * step);
        let (right, down) = (x.fract(), y.fract());
        let corner = y as usize * row + x as usize * 3;
        for (channel, value) in pixel.iter_mut().enumerate() {
            let at = corner + channel;
            let above = corners[at] * (1.0 - right) + corners[at + 3] * right;
            let below = corners[at + row] * (1.0 - right) + corners[at + row + 3] * right;
            *value += above * (1.0 - down) + below * down;
        }
    }
}

/// A JPEG of quality 92.
pub(crate) fn jpeg(picture: &Picture) -> Vec<u8> {
    scenes::encode_jpeg(picture)
}

pub(crate) fn png(picture: &Picture) -> Vec<u8> {
    let mut bytes = Vec::new();
    let color = ExtendedColorType::Rgb8;
    PngEncoder::new(&mut bytes)
        .write_image(&picture.rgb, picture.width, picture.height, color)
        .expect("three bytes a pixel");
    bytes
}

/// Writes a shard of pictures with texts and says how long it is.
pub(crate) fn write_shard(path: &Path, samples: usize, side: u32) -> io::Result<u64> {
    let jpegs: Vec<Vec<u8>> = (0..DIFFERENT as u64)
        .map(|number| jpeg(&picture(number, side)))
        .collect();
    let mut shard = ShardWriter::new(BufWriter::new(File::create(path)?));
    for number in 0..samples {
        let key = format!("{number:06}");
        let text = format!("a picture of smooth noise, number {number}");
        shard.add(&key, "jpg", &jpegs[number % DIFFERENT])?;
        shard.add(&key, "txt", text.as_bytes())?;
    }
    shard
        .finish()?
        .into_inner()?
        .metadata()
        .map(|meta| meta.len())
}
