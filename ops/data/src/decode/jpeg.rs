//! JPEG: whether a file is complete, and its pixels.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::memory::{self, Permit};
use super::{DecodeError, Picture, SIDE_MAX, check_size, corrupt, new_picture};

/// The marker at the start of a JPEG.
pub(super) const START: [u8; 2] = [0xff, 0xd8];
/// What zune-jpeg's errors about missing data contain.
const TRUNCATED_WORDS: [&str; 5] = [
    "remaining",
    "exhausted",
    "EOF",
    "Not enough bytes",
    "Premature End",
];
/// And, in strict mode, those about data that end before the last row.
const EARLY_END_WORDS: [&str; 3] = ["Exhausted", "Premature end", "more than bits left"];
/// How far a decoder reads ahead of the bits that it needs.
const READ_AHEAD: usize = 16;
/// Bytes a pixel while a progressive JPEG is decoded: coefficients of two bytes, and the pixels.
const PROGRESSIVE_PIXEL_BYTES: u64 = 3 * 2 + 3;

/// The markers of a file, up to the end of its picture.
struct Markers {
    /// Where the end marker is.
    end: usize,
    /// Where the data of the first scan end: of a baseline JPEG often the end marker.
    first_scan_end: usize,
    is_progressive: bool,
}

/// Decoders replace the missing part of a truncated file by grey without an error, and so does
/// libjpeg. So a picture has to have its end marker, and its data have to last until the last row.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let Some(markers) = find_end(bytes) else {
        return Err(DecodeError::Truncated);
    };
    // A progressive JPEG has a first scan over the whole picture, and others that may be short.
    let end = if markers.is_progressive {
        markers.first_scan_end
    } else {
        markers.end
    };
    // Without the marker there, which decoders take for endless zeros.
    let mut data = bytes.get(..end).unwrap_or(bytes).to_vec();
    data.resize(data.len() + READ_AHEAD, 0);
    match decode_rows(&data, true) {
        Ok(picture) if !markers.is_progressive => return Ok(picture),
        Err(Failure::Decoder(text)) if EARLY_END_WORDS.iter().any(|words| text.contains(words)) => {
            return Err(ends_early());
        }
        Err(Failure::Other(error)) => return Err(error),
        // Strict mode refuses more than libjpeg does, and a first scan is no whole picture.
        Ok(_) | Err(Failure::Decoder(_)) => {}
    }
    decode_rows(bytes, false).map_err(|failure| match failure {
        Failure::Decoder(text) => jpeg_error(&text),
        Failure::Other(error) => error,
    })
}

fn ends_early() -> DecodeError {
    DecodeError::Corrupt(
        "its data end before its last row, as when its header gives a wrong size".to_owned(),
    )
}

/// Fails when there is less than a bit for each block of 8 by 8 pixels, which takes a code of at
/// least one: so a header alone cannot have memory allocated for a picture that is not there.
fn check_data(width: u64, height: u64, bytes: usize) -> Result<(), DecodeError> {
    let blocks = width.div_ceil(8) * height.div_ceil(8);
    if blocks > 8 * bytes as u64 {
        return Err(ends_early());
    }
    Ok(())
}

/// Why a decoding failed: the decoder's message, or a reason of our own.
enum Failure {
    Decoder(String),
    Other(DecodeError),
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Other(error)
    }
}

fn decode_rows(bytes: &[u8], is_strict: bool) -> Result<Picture, Failure> {
    let side = SIDE_MAX as usize;
    let options = DecoderOptions::default()
        .set_strict_mode(is_strict)
        .set_max_width(side)
        .set_max_height(side)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| {
        let text = error.to_string();
        match refused_size(&text) {
            Some((width, height)) => Failure::Other(DecodeError::TooLarge { width, height }),
            None => Failure::Decoder(text),
        }
    })?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| DecodeError::Corrupt("no dimensions".to_owned()))?;
    let (width, height) = (width as u64, height as u64);
    check_size(width, height)?;
    check_data(width, height, bytes.len())?;
    let _permit: Permit = memory::reserve(width * height * PROGRESSIVE_PIXEL_BYTES);
    let rgb = decoder
        .decode()
        .map_err(|error| Failure::Decoder(error.to_string()))?;
    Ok(new_picture(width, height, rgb)?)
}

/// Walks over the segments by their lengths, so that the end marker of a thumbnail in one of them
/// is not taken for that of the picture, nor one in data that were appended. `None` without one.
fn find_end(bytes: &[u8]) -> Option<Markers> {
    let mut at = START.len();
    let mut is_progressive = false;
    let (mut is_in_scan, mut first_scan_end) = (false, None);
    loop {
        // Up to the next marker: entropy-coded data, or what should not be there.
        while bytes.get(at)? != &0xff {
            at += 1;
        }
        let mut code = *bytes.get(at + 1)?;
        while code == 0xff {
            at += 1;
            code = *bytes.get(at + 1)?;
        }
        let is_of_data = matches!(code, 0x00 | 0xd0..=0xd8 | 0x01);
        if is_in_scan && !is_of_data {
            first_scan_end.get_or_insert(at);
        }
        match code {
            0xd9 => {
                return Some(Markers {
                    end: at,
                    first_scan_end: first_scan_end.unwrap_or(at),
                    is_progressive,
                });
            }
            // A byte 0xff of the data, a restart, a start, and a marker without a length.
            _ if is_of_data => at += 2,
            _ => {
                is_progressive |= matches!(code, 0xc2 | 0xc6 | 0xca | 0xce);
                is_in_scan |= code == 0xda;
                let length = [*bytes.get(at + 2)?, *bytes.get(at + 3)?];
                at += 2 + usize::from(u16::from_be_bytes(length)).max(2);
            }
        }
    }
}

fn jpeg_error(text: &str) -> DecodeError {
    if TRUNCATED_WORDS.iter().any(|words| text.contains(words)) {
        DecodeError::Truncated
    } else {
        corrupt(text)
    }
}

/// The side in zune-jpeg's error about a size beyond the limits, which has no fields for it.
fn refused_size(text: &str) -> Option<(u64, u64)> {
    let names_side = text.contains("width") || text.contains("height");
    if !names_side || !text.contains("larger") {
        return None;
    }
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok());
    let side: u64 = numbers.next()?;
    Some((side, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_at_least_one_bit_a_block() {
        assert_eq!(check_data(64, 8, 1), Ok(()));
        assert_eq!(check_data(64, 9, 1), Err(ends_early()));
        assert_eq!(check_data(0, 0, 0), Ok(()));
        assert_eq!(check_data(16_384, 4_096, 131_071), Err(ends_early()));
    }
}
