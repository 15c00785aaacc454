//! What images and shards cost, beside peers and floors, in one table: `make bench-data`.
//!
//! Images are decoded and resized and a shard is read, in one thread, out of main memory. The
//! floors are the libraries alone, without blip's limits and checks, and for the shard the bytes
//! read and hashed. The peers are Pillow and webdataset, in a Python that has them: that of `make
//! interop`, that of `make parity`, or `python3`. One that is not there is left out and named.

mod peers;
mod pictures;
#[path = "../../../../grammar/benches/grammar/turns.rs"]
mod turns;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::Path;

use blip_data::decode::{Picture, decode};
use blip_data::resize::{full_region, resize_square};
use blip_data::shard;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::ImageDecoder as _;
use image::codecs::png::PngDecoder;
use zune_core::bytestream::ZCursor;
use zune_jpeg::JpegDecoder;

use self::peers::Python;
use self::turns::{Timed, Work, compare};

/// Sides of the images in pixels.
const SIDES: [u32; 2] = [256, 512];
/// Different images of each size and format.
const IMAGES: u64 = 16;
/// What images are resized to: the side of the paper's pretraining.
const RESIZED: u32 = 224;
/// Samples of the shard.
const SAMPLES: usize = 1_000;

type Peer = RefCell<Python>;

/// A decoder alone, without limits, checks and conversion.
type DecodeFn = fn(&Vec<u8>) -> Vec<u8>;

#[expect(clippy::print_stdout, reason = "a benchmark shows its table")]
fn main() {
    println!("one thread; medians of rounds in turns, with the lowest and the highest\n");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (python, missing) = peers::start();
    let python = python.map(RefCell::new);
    for side in SIDES {
        let pictures: Vec<Picture> = (0..IMAGES)
            .map(|number| pictures::picture(number, side))
            .collect();
        let jpegs = pictures.iter().map(pictures::jpeg).collect();
        decoding(folder.path(), "JPEG", side, jpegs, python.as_ref());
        let pngs = pictures.iter().map(pictures::png).collect();
        decoding(folder.path(), "PNG", side, pngs, python.as_ref());
        resizing(folder.path(), side, &pictures, python.as_ref());
    }
    reading(folder.path(), python.as_ref());
    if !missing.is_empty() {
        println!("not installed, left out: {}", missing.join(", "));
    }
}

fn decoding(folder: &Path, format: &str, side: u32, files: Vec<Vec<u8>>, python: Option<&Peer>) {
    let folder = folder.join(format!("{format}-{side}"));
    std::fs::create_dir(&folder).expect("a new folder");
    for (number, bytes) in files.iter().enumerate() {
        std::fs::write(folder.join(number.to_string()), bytes).expect("room for the images");
    }
    let count = files.len() as f64;
    let kilobytes = files.iter().map(Vec::len).sum::<usize>() as f64 / count / 1e3;
    let work = Work {
        title: format!("decode: {format}, {side} x {side}, {kilobytes:.0} KB each"),
        items: (count, "image"),
    };
    let amounts = [(count, "images")];
    let ours = |bytes: &Vec<u8>| decode(bytes).expect("a good image").rgb;
    let (name, floor): (_, DecodeFn) = match format {
        "JPEG" => ("zune-jpeg alone", zune_jpeg),
        _ => ("png alone", png),
    };
    let mut ways = vec![
        Timed::new("blip", &amounts, || {
            files.iter().map(ours).for_each(drop_seen)
        }),
        Timed::new(name, &amounts, || {
            files.iter().map(floor).for_each(drop_seen)
        }),
    ];
    ways.extend(peer(python, "pillow", &amounts, "decode", &folder));
    compare(&work, ways);
}

/// Keeps the compiler from leaving out what is not looked at.
fn drop_seen<T>(result: T) {
    std::hint::black_box(result);
}

fn zune_jpeg(bytes: &Vec<u8>) -> Vec<u8> {
    let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
    decoder.decode().expect("a good image")
}

fn png(bytes: &Vec<u8>) -> Vec<u8> {
    let decoder = PngDecoder::new(Cursor::new(bytes)).expect("a good image");
    let mut rgb = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut rgb).expect("a good image");
    rgb
}

/// The peer finds the images that [`decoding`] has written.
fn resizing(folder: &Path, side: u32, pictures: &[Picture], python: Option<&Peer>) {
    let count = pictures.len() as f64;
    let work = Work {
        title: format!("resize: {side} x {side} to {RESIZED} x {RESIZED}, bicubic"),
        items: (count, "image"),
    };
    let amounts = [(count, "images")];
    let ours = |picture: &Picture| resize_square(picture, full_region(picture), RESIZED);
    let mut resizer = Resizer::new();
    let mut ways = vec![
        Timed::new("blip", &amounts, || {
            pictures.iter().map(ours).for_each(drop_seen)
        }),
        Timed::new("fast_image_resize alone", &amounts, move || {
            let resized = pictures.iter().map(|picture| resize(&mut resizer, picture));
            resized.for_each(drop_seen);
        }),
    ];
    let images = folder.join(format!("PNG-{side}"));
    ways.extend(peer(python, "pillow", &amounts, "resize", &images));
    compare(&work, ways);
}

/// The same filter in one call, without PIL's rounding between rows and columns.
fn resize(resizer: &mut Resizer, picture: &Picture) -> Vec<u8> {
    let source = ImageRef::new(picture.width, picture.height, &picture.rgb, PixelType::U8x3)
        .expect("three bytes a pixel");
    let mut target = Image::new(RESIZED, RESIZED, PixelType::U8x3);
    let bicubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    resizer
        .resize(&source, &mut target, &bicubic)
        .expect("sizes above zero");
    target.into_vec()
}

fn reading(folder: &Path, python: Option<&Peer>) {
    let path = folder.join("shard.tar");
    let bytes = pictures::write_shard(&path, SAMPLES, SIDES[0]).expect("room for the shard");
    let work = Work {
        title: format!(
            "read: a shard of {SAMPLES} samples (JPEG, {0} x {0}, and text)",
            SIDES[0]
        ),
        items: (1.0, "shard"),
    };
    let amounts = [(bytes as f64 / 1e6, "MB"), (SAMPLES as f64, "samples")];
    let mut ways = vec![
        Timed::new("blip", &amounts, || read_blip(&path)),
        Timed::new("tar alone", &amounts, || read_tar(&path)),
        Timed::new("read and blake3", &amounts, || {
            blake3::hash(&std::fs::read(&path).expect("the shard"))
        }),
    ];
    ways.extend(peer(python, "webdataset", &amounts, "read", &path));
    compare(&work, ways);
}

fn read_blip(path: &Path) {
    let mut samples = 0;
    let read = shard::read(File::open(path).expect("the shard"), |sample| {
        samples += usize::from(sample.is_ok());
        drop_seen(sample);
        Ok::<(), ()>(())
    });
    assert!(matches!(read, Ok(Ok(_))) && samples == SAMPLES);
}

/// Every member's bytes, nothing put together.
fn read_tar(path: &Path) {
    let mut archive = tar::Archive::new(File::open(path).expect("the shard"));
    for entry in archive.entries().expect("the shard") {
        let mut entry = entry.expect("a member");
        let mut bytes = Vec::with_capacity(entry.size() as usize);
        entry.read_to_end(&mut bytes).expect("a member");
        drop_seen(bytes);
    }
}

/// A peer's way of doing a work, if it is there.
fn peer<'w>(
    python: Option<&'w Peer>,
    name: &'static str,
    amounts: &[(f64, &'w str)],
    work: &'static str,
    path: &Path,
) -> Option<Timed<'w>> {
    let python = python.filter(|python| python.borrow().has(name))?;
    let path = path.to_owned();
    let time = move || python.borrow_mut().time(work, &path);
    Some(Timed::measured(name, amounts, time))
}
