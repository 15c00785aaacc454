//! The contact sheet: thumbnails of pairs with their captions and scores.

use image::{Rgb, RgbImage, imageops};

use super::canvas::{BLACK, CHARACTER, GRAY, LINE, WHITE, draw_text, fill, to_png};
use crate::decode::Picture;

const MARGIN: u32 = 16;
/// Side of a thumbnail.
const THUMBNAIL: u32 = 128;
/// Width of the coloured frame around a thumbnail.
const FRAME: u32 = 4;
/// Width and height of an entry.
const CELL: (u32, u32) = (176, 214);
const COLUMNS: u32 = 6;
/// Further entries are not drawn.
const ENTRIES_MAX: usize = 600;
const CAPTION_LINES: usize = 3;

const KEPT: Rgb<u8> = Rgb([30, 140, 70]);
const REJECTED: Rgb<u8> = Rgb([200, 50, 50]);

/// A pair on a contact sheet.
#[derive(Clone, PartialEq, Debug)]
pub struct SheetEntry {
    pub picture: Picture,
    pub text: String,
    /// Where the text comes from.
    pub source: String,
    pub score: Option<f64>,
    /// The filter's decision.
    pub kept: bool,
}

/// A sheet of pairs under a title, framed green if kept and red if rejected.
pub fn contact_sheet(title: &str, entries: &[SheetEntry]) -> Vec<u8> {
    let entries = &entries[..entries.len().min(ENTRIES_MAX)];
    let rows = (entries.len() as u32).div_ceil(COLUMNS).max(1);
    let header = MARGIN * 2 + LINE * 2;
    let mut sheet = RgbImage::from_pixel(
        MARGIN * 2 + COLUMNS * CELL.0,
        MARGIN + header + rows * CELL.1,
        WHITE,
    );
    draw_text(&mut sheet, (MARGIN, MARGIN), title, BLACK, 2);
    for (at, entry) in (0_u32..).zip(entries) {
        let x = MARGIN + at % COLUMNS * CELL.0;
        let y = header + at / COLUMNS * CELL.1;
        draw_entry(&mut sheet, (x, y), entry);
    }
    to_png(&sheet)
}

fn draw_entry(sheet: &mut RgbImage, (x, y): (u32, u32), entry: &SheetEntry) {
    let color = if entry.kept { KEPT } else { REJECTED };
    let side = THUMBNAIL + 2 * FRAME;
    fill(sheet, (x, y), (side, side), color);
    if let Some(thumbnail) = thumbnail(&entry.picture) {
        let (left, top) = (i64::from(x + FRAME), i64::from(y + FRAME));
        imageops::replace(sheet, &thumbnail, left, top);
    }
    let decision = if entry.kept { "kept" } else { "rejected" };
    let score = entry
        .score
        .map_or(String::new(), |score| format!(" {score:.3}"));
    let mut y = y + THUMBNAIL + LINE;
    draw_text(sheet, (x, y), &format!("{decision}{score}"), color, 1);
    y += LINE;
    draw_text(sheet, (x, y), &entry.source, GRAY, 1);
    // Two characters of space to the next column.
    let width = (CELL.0 - MARGIN) / CHARACTER;
    for text in wrap(&entry.text, width as usize).iter().take(CAPTION_LINES) {
        y += LINE;
        draw_text(sheet, (x, y), text, BLACK, 1);
    }
}

/// `None` for a picture whose bytes do not match its size.
fn thumbnail(picture: &Picture) -> Option<RgbImage> {
    let image = RgbImage::from_raw(picture.width, picture.height, picture.rgb.clone())?;
    // Enlarged pictures show their pixels.
    let filter = if picture.width < THUMBNAIL {
        imageops::FilterType::Nearest
    } else {
        imageops::FilterType::Triangle
    };
    Some(imageops::resize(&image, THUMBNAIL, THUMBNAIL, filter))
}

/// Breaks a text between words into lines of at most `width` characters; longer words are cut off.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().take(width).collect();
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            *last = word;
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(
            wrap("a small red ring on a black background", 12),
            ["a small red", "ring on a", "black", "background"]
        );
    }
}
