//! Pictures for reports: a contact sheet of pairs and charts of curves, as PNG. The same input
//! gives the same bytes.

use std::io::Cursor;

use font8x8::UnicodeFonts;
use image::{ImageFormat, Rgb, RgbImage, imageops};

use crate::decode::Picture;

/// Letters are 8 pixels wide and high; lines of text stand this far apart.
const LINE: u32 = 12;
const LETTER: u32 = 8;
const MARGIN: u32 = 16;
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([40, 40, 44]);
const FAINT: Rgb<u8> = Rgb([222, 222, 226]);
const QUIET: Rgb<u8> = Rgb([120, 120, 128]);
const KEPT: Rgb<u8> = Rgb([30, 140, 70]);
const REJECTED: Rgb<u8> = Rgb([200, 50, 50]);
/// Colours of series, told apart also by those who see red and green alike (Okabe and Ito).
const SERIES: [Rgb<u8>; 6] = [
    Rgb([0, 114, 178]),
    Rgb([230, 159, 0]),
    Rgb([0, 158, 115]),
    Rgb([204, 121, 167]),
    Rgb([213, 94, 0]),
    Rgb([86, 180, 233]),
];

/// A pair on a contact sheet.
#[derive(Clone, PartialEq, Debug)]
pub struct Card {
    /// The image.
    pub picture: Picture,
    /// Its text.
    pub text: String,
    /// Who wrote it.
    pub source: String,
    /// Its score.
    pub score: Option<f64>,
    /// The verdict.
    pub kept: bool,
}

/// A line of a chart.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, ascending by x.
    pub points: Vec<(f64, f64)>,
}

const THUMB: u32 = 128;
const CARD: (u32, u32) = (176, 214);
const COLUMNS: u32 = 6;

/// A sheet of pairs under a title, framed green where kept and red where rejected.
pub fn contact_sheet(title: &str, cards: &[Card]) -> Vec<u8> {
    let rows = (u32::try_from(cards.len()).unwrap_or(u32::MAX).min(600))
        .div_ceil(COLUMNS)
        .max(1);
    let mut sheet = RgbImage::from_pixel(
        MARGIN * 2 + COLUMNS * CARD.0,
        MARGIN * 3 + LINE * 2 + rows * CARD.1,
        WHITE,
    );
    write(&mut sheet, MARGIN, MARGIN, title, INK, 2);
    for (at, card) in (0_u32..).zip(cards.iter().take(600)) {
        let (x, y) = (
            MARGIN + at % COLUMNS * CARD.0,
            MARGIN * 2 + LINE * 2 + at / COLUMNS * CARD.1,
        );
        draw_card(&mut sheet, x, y, card);
    }
    png(&sheet)
}

fn draw_card(sheet: &mut RgbImage, x: u32, y: u32, card: &Card) {
    let color = if card.kept { KEPT } else { REJECTED };
    fill(sheet, x, y, THUMB + 8, THUMB + 8, color);
    let source = RgbImage::from_raw(
        card.picture.width,
        card.picture.height,
        card.picture.rgb.clone(),
    );
    if let Some(source) = source {
        let filter = if card.picture.width < THUMB {
            imageops::FilterType::Nearest
        } else {
            imageops::FilterType::Triangle
        };
        imageops::replace(
            sheet,
            &imageops::resize(&source, THUMB, THUMB, filter),
            i64::from(x) + 4,
            i64::from(y) + 4,
        );
    }
    let verdict = if card.kept { "kept" } else { "rejected" };
    let score = card
        .score
        .map_or(String::new(), |score| format!(" {score:.3}"));
    write(
        sheet,
        x,
        y + THUMB + 12,
        &format!("{verdict}{score}"),
        color,
        1,
    );
    write(sheet, x, y + THUMB + 12 + LINE, &card.source, QUIET, 1);
    let width = (CARD.0 - 8) / LETTER;
    for (line, text) in (0..).zip(wrap(&card.text, width as usize).into_iter().take(3)) {
        write(sheet, x, y + THUMB + 12 + LINE * (2 + line), &text, INK, 1);
    }
}

/// A text in lines of at most `width` letters, cut between words where that can be.
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

const CHART: (u32, u32) = (860, 420);
const FRAME: (u32, u32, u32, u32) = (76, 52, 170, 48);

/// A line chart: a title, axes with ticks, a legend.
pub fn line_chart(title: &str, x_label: &str, series: &[Series]) -> Vec<u8> {
    let mut chart = RgbImage::from_pixel(CHART.0, CHART.1, WHITE);
    let points = || {
        series
            .iter()
            .flat_map(|series| &series.points)
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    };
    let (left, top, right, bottom) = FRAME;
    let (width, height) = (CHART.0 - left - right, CHART.1 - top - bottom);
    let bound = |pick: fn(&(f64, f64)) -> f64, start: f64, fold: fn(f64, f64) -> f64| {
        points().map(pick).fold(start, fold)
    };
    let x = Axis::new(
        bound(|p| p.0, f64::INFINITY, f64::min),
        bound(|p| p.0, f64::NEG_INFINITY, f64::max),
    );
    let y = Axis::new(
        bound(|p| p.1, f64::INFINITY, f64::min).min(0.0),
        bound(|p| p.1, f64::NEG_INFINITY, f64::max),
    );
    write(&mut chart, left, 18, title, INK, 2);
    for tick in y.ticks() {
        let at = top + height - scaled(y.part(tick), height);
        fill(&mut chart, left, at, width, 1, FAINT);
        let label = number(tick);
        let length = u32::try_from(label.len()).unwrap_or(0) * LETTER;
        write(
            &mut chart,
            left.saturating_sub(length + 8),
            at.saturating_sub(4),
            &label,
            QUIET,
            1,
        );
    }
    for tick in x.ticks() {
        let at = left + scaled(x.part(tick), width);
        fill(&mut chart, at, top + height, 1, 5, INK);
        let label = number(tick);
        let half = u32::try_from(label.len()).unwrap_or(0) * LETTER / 2;
        write(
            &mut chart,
            at.saturating_sub(half),
            top + height + 10,
            &label,
            QUIET,
            1,
        );
    }
    write(
        &mut chart,
        left + width / 2,
        top + height + 26,
        x_label,
        QUIET,
        1,
    );
    fill(&mut chart, left, top + height, width, 1, INK);
    fill(&mut chart, left, top, 1, height, INK);
    for ((series, color), row) in series.iter().zip(SERIES.iter().cycle()).zip(0..) {
        let place = |(px, py): &(f64, f64)| {
            (
                f64::from(left) + x.part(*px) * f64::from(width),
                f64::from(top + height) - y.part(*py) * f64::from(height),
            )
        };
        let good: Vec<(f64, f64)> = series
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(place)
            .collect();
        for pair in good.windows(2) {
            if let [from, to] = pair {
                line(&mut chart, *from, *to, *color);
            }
        }
        let key = (left + width + 20, top + row * 18);
        fill(&mut chart, key.0, key.1 + 3, 18, 3, *color);
        let last = series
            .points
            .last()
            .map_or(String::new(), |(_, y)| format!(" {y:.3}"));
        write(
            &mut chart,
            key.0 + 26,
            key.1,
            &format!("{}{last}", series.name),
            INK,
            1,
        );
    }
    png(&chart)
}

/// From the lowest to the highest value, widened to whole ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn new(low: f64, high: f64) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        let high = if high > low { high } else { low + 1.0 };
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        let (low, step) = (self.low, self.step);
        (0..=count).map(move |tick| low + f64::from(tick) * step)
    }

    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

fn scaled(part: f64, length: u32) -> u32 {
    (part.clamp(0.0, 1.0) * f64::from(length)).round() as u32
}

fn number(value: f64) -> String {
    if value.abs() >= 10_000.0 {
        return format!("{}k", value / 1000.0);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A line two pixels wide.
fn line(image: &mut RgbImage, from: (f64, f64), to: (f64, f64), color: Rgb<u8>) {
    let steps = (to.0 - from.0)
        .abs()
        .max((to.1 - from.1).abs())
        .ceil()
        .max(1.0);
    for step in 0..=steps as u32 {
        let part = f64::from(step) / steps;
        let (x, y) = (
            from.0 + (to.0 - from.0) * part,
            from.1 + (to.1 - from.1) * part,
        );
        fill(image, x.round() as u32, y.round() as u32, 2, 2, color);
    }
}

fn fill(image: &mut RgbImage, x: u32, y: u32, width: u32, height: u32, color: Rgb<u8>) {
    for row in y..(y + height).min(image.height()) {
        for column in x..(x + width).min(image.width()) {
            image.put_pixel(column, row, color);
        }
    }
}

/// Writes a text; characters that the font lacks, control characters among them, become `?`.
fn write(image: &mut RgbImage, x: u32, y: u32, text: &str, color: Rgb<u8>, scale: u32) {
    for (at, c) in (0_u32..).zip(text.chars()) {
        let glyph = font8x8::BASIC_FONTS
            .get(c)
            .or_else(|| font8x8::LATIN_FONTS.get(c))
            .filter(|_| !c.is_control());
        let Some(glyph) = glyph.or_else(|| font8x8::BASIC_FONTS.get('?')) else {
            continue;
        };
        for (row, bits) in (0..).zip(glyph) {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                fill(
                    image,
                    x + (at * LETTER + column) * scale,
                    y + row * scale,
                    scale,
                    scale,
                    color,
                );
            }
        }
    }
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("writing a PNG to memory works");
    bytes.into_inner()
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

    #[test]
    fn pictures_are_png_and_do_not_depend_on_anything_else() {
        let card = Card {
            picture: Picture {
                width: 2,
                height: 2,
                rgb: vec![9; 12],
            },
            text: "\u{1b}[31m x".to_owned(),
            source: "web".to_owned(),
            score: Some(0.5),
            kept: true,
        };
        let sheet = contact_sheet("pairs", std::slice::from_ref(&card));
        assert_eq!(sheet, contact_sheet("pairs", &[card]));
        let series = Series {
            name: "loss".to_owned(),
            points: vec![(0.0, f64::NAN), (1.0, 2.0), (2.0, 1.0)],
        };
        for bytes in [
            sheet,
            line_chart("t", "step", &[series]),
            line_chart("t", "step", &[]),
            contact_sheet("none", &[]),
        ] {
            assert!(bytes.starts_with(b"\x89PNG"));
        }
    }
}
