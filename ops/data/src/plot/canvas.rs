//! Drawing of rectangles, lines and text.

use std::io::Cursor;

use font8x8::UnicodeFonts;
use image::{ImageFormat, Rgb, RgbImage};

/// Width and height of a character in pixels, at scale 1.
pub(super) const CHARACTER: u32 = 8;
/// Distance of lines of text.
pub(super) const LINE: u32 = 12;

pub(super) const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
pub(super) const BLACK: Rgb<u8> = Rgb([40, 40, 44]);
pub(super) const GRAY: Rgb<u8> = Rgb([120, 120, 128]);
pub(super) const LIGHT_GRAY: Rgb<u8> = Rgb([222, 222, 226]);

/// Fills a rectangle, clipped to the image.
pub(super) fn fill(
    image: &mut RgbImage,
    (x, y): (u32, u32),
    (width, height): (u32, u32),
    color: Rgb<u8>,
) {
    for row in y..(y + height).min(image.height()) {
        for column in x..(x + width).min(image.width()) {
            image.put_pixel(column, row, color);
        }
    }
}

/// Draws a line two pixels wide.
pub(super) fn draw_line(image: &mut RgbImage, from: (f64, f64), to: (f64, f64), color: Rgb<u8>) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let steps = dx.abs().max(dy.abs()).ceil().max(1.0);
    for step in 0..=steps as u32 {
        let part = f64::from(step) / steps;
        let x = from.0 + dx * part;
        let y = from.1 + dy * part;
        fill(image, (x.round() as u32, y.round() as u32), (2, 2), color);
    }
}

/// Draws a text; characters that the font does not have, and control characters, become `?`.
pub(super) fn draw_text(
    image: &mut RgbImage,
    (x, y): (u32, u32),
    text: &str,
    color: Rgb<u8>,
    scale: u32,
) {
    for (at, character) in (0_u32..).zip(text.chars()) {
        for (row, bits) in (0..).zip(glyph(character)) {
            for column in (0..CHARACTER).filter(|column| bits >> column & 1 == 1) {
                let left = x + (at * CHARACTER + column) * scale;
                let top = y + row * scale;
                fill(image, (left, top), (scale, scale), color);
            }
        }
    }
}

/// Eight rows of eight bits, the lowest bit on the left.
fn glyph(character: char) -> [u8; 8] {
    let glyph = font8x8::BASIC_FONTS
        .get(character)
        .or_else(|| font8x8::LATIN_FONTS.get(character))
        .filter(|_| !character.is_control());
    glyph
        .or_else(|| font8x8::BASIC_FONTS.get('?'))
        .unwrap_or_default()
}

pub(super) fn to_png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("writing a PNG to memory works");
    bytes.into_inner()
}
