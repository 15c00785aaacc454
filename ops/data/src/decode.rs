//! Bytes to pixels, with limits: RGB8 as PIL's `convert("RGB")` gives it.
//!
//! The content decides the format, not the name. JPEG goes through zune-jpeg, everything else
//! through `image`. A header that promises too much is refused before anything is allocated for it.
//! EXIF orientation is not applied, as in BLIP.

use std::io::Cursor;
use std::panic::catch_unwind;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Longest side accepted.
const SIDE_MAX: u32 = 16_384;
/// Most pixels accepted: 192 MB as RGB8.
const PIXELS_MAX: u64 = 64 << 20;
/// What a decoder may allocate besides the pixels (colour profiles, tables).
const EXTRA_BYTES: u64 = 16 << 20;

/// An RGB picture, rows from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The bytes.
    pub rgb: Vec<u8>,
}

/// Why bytes are no picture that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("empty: the image has no bytes")]
    Empty,
    /// The format is none that is read here.
    #[error("unsupported: neither JPEG, PNG, WebP, GIF, BMP nor TIFF")]
    Unsupported,
    /// The picture is larger than the limits.
    #[error(
        "too large: {width} x {height} pixels; at most {SIDE_MAX} a side and {PIXELS_MAX} in all"
    )]
    TooLarge {
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
    },
    /// The file ends before the picture does.
    #[error("truncated: the file ends before the picture does")]
    Truncated,
    /// Something else is wrong with the bytes.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// Decodes a picture.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    // Decoders are long and their inputs hostile: a panic in one is a corrupt picture, not the end
    // of the run.
    catch_unwind(|| {
        if bytes.starts_with(&[0xff, 0xd8]) {
            jpeg(bytes)
        } else {
            other(bytes)
        }
    })
    .unwrap_or_else(|_| Err(DecodeError::Corrupt("the decoder gave up".to_owned())))
}

/// The suffix of a picture's format, by its first bytes; none when it is none that is read here.
pub fn suffix(head: &[u8]) -> Option<&'static str> {
    match image::guess_format(head).ok()? {
        ImageFormat::Jpeg => Some("jpg"),
        ImageFormat::Png => Some("png"),
        ImageFormat::WebP => Some("webp"),
        ImageFormat::Gif => Some("gif"),
        ImageFormat::Bmp => Some("bmp"),
        ImageFormat::Tiff => Some("tiff"),
        _ => None,
    }
}

fn check_size(width: u64, height: u64) -> Result<(), DecodeError> {
    let side = u64::from(SIDE_MAX);
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt("a side of no pixels".to_owned()));
    }
    if width > side || height > side || width * height > PIXELS_MAX {
        return Err(DecodeError::TooLarge { width, height });
    }
    Ok(())
}

fn jpeg(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let corrupt = |error: zune_jpeg::errors::DecodeErrors| {
        let text = error.to_string();
        let ends = [
            "remaining",
            "exhausted",
            "EOF",
            "Not enough bytes",
            "Premature End",
        ];
        if ends.iter().any(|words| text.contains(words)) {
            DecodeError::Truncated
        } else {
            corrupt_as(&text)
        }
    };
    // Decoders fill what is missing of a truncated file with grey: the end marker says whether it
    // is all there.
    let ends = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .is_some_and(|at| at > 0 && bytes.get(at - 1..=at) == Some(&[0xff, 0xd9]));
    if !ends
        && !bytes
            .windows(2)
            .rev()
            .take(4096)
            .any(|pair| pair == [0xff, 0xd9])
    {
        return Err(DecodeError::Truncated);
    }
    let side = SIDE_MAX as usize;
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(side)
        .set_max_height(side)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|error| match size_in(&error.to_string()) {
            Some((width, height)) => DecodeError::TooLarge { width, height },
            None => corrupt(error),
        })?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| DecodeError::Corrupt("no dimensions".to_owned()))?;
    check_size(width as u64, height as u64)?;
    let rgb = decoder.decode().map_err(corrupt)?;
    picture(width as u64, height as u64, rgb)
}

/// What a decoder said, in one line without control characters: it may quote the file.
fn corrupt_as(text: &str) -> DecodeError {
    let plain = text
        .trim()
        .trim_matches('"')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    DecodeError::Corrupt(plain.take(200).collect())
}

/// zune-jpeg refuses a large side with a text only.
fn size_in(text: &str) -> Option<(u64, u64)> {
    let large = text.contains("width") && text.contains("larger")
        || text.contains("height") && text.contains("larger");
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok());
    if large {
        numbers.next().map(|number: u64| (number, number))
    } else {
        None
    }
}

fn picture(width: u64, height: u64, rgb: Vec<u8>) -> Result<Picture, DecodeError> {
    if rgb.len() as u64 != width * height * 3 {
        return Err(DecodeError::Corrupt(
            "the decoder gave the wrong number of pixels".to_owned(),
        ));
    }
    let side = |side| u32::try_from(side).map_err(|_| DecodeError::TooLarge { width, height });
    Ok(Picture {
        width: side(width)?,
        height: side(height)?,
        rgb,
    })
}

fn other(bytes: &[u8]) -> Result<Picture, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::Unsupported)?;
    let known = [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ];
    if !known.contains(&format) {
        return Err(DecodeError::Unsupported);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(EXTRA_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| image_error(&error))?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(u64::from(width) * u64::from(height) * 8 + EXTRA_BYTES);
    decoder
        .set_limits(limits)
        .map_err(|error| image_error(&error))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| image_error(&error))?;
    // Alpha is dropped, not blended, as PIL's convert("RGB") does.
    picture(width.into(), height.into(), decoded.into_rgb8().into_raw())
}

fn image_error(error: &image::ImageError) -> DecodeError {
    match error {
        image::ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated
        }
        image::ImageError::Limits(_) => {
            DecodeError::Corrupt("it needs more memory than its size allows".to_owned())
        }
        image::ImageError::Unsupported(_) => DecodeError::Unsupported,
        other => {
            let text = other.to_string();
            let cut = text.contains("unexpected end") || text.contains("EOF");
            if cut {
                DecodeError::Truncated
            } else {
                corrupt_as(&text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes;

    #[test]
    fn a_jpeg_decodes_and_half_of_it_is_truncated() {
        let bytes = scenes::encode_jpeg(&Picture {
            width: 16,
            height: 8,
            rgb: vec![200; 16 * 8 * 3],
        });
        let picture = decode(&bytes).unwrap();
        assert_eq!((picture.width, picture.height), (16, 8));
        assert!(picture.rgb.iter().all(|value| value.abs_diff(200) < 3));
        assert_eq!(
            decode(&bytes[..bytes.len() / 2]),
            Err(DecodeError::Truncated)
        );
        assert_eq!(
            decode(&bytes[..bytes.len() - 2]),
            Err(DecodeError::Truncated)
        );
    }

    #[test]
    fn bytes_that_are_no_picture_say_so() {
        assert_eq!(
            decode(b"").unwrap_err().to_string(),
            "empty: the image has no bytes"
        );
        assert_eq!(decode(b"hello").unwrap_err(), DecodeError::Unsupported);
        assert!(matches!(
            decode(&[0xff, 0xd8, 0xff, 0xd9]),
            Err(DecodeError::Corrupt(_) | DecodeError::Truncated)
        ));
    }

    #[test]
    fn a_huge_picture_is_refused_by_its_header() {
        let mut png = Vec::new();
        let gray = image::GrayImage::new(20_000, 2);
        gray.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
            .unwrap();
        assert_eq!(
            decode(&png),
            Err(DecodeError::TooLarge {
                width: 20_000,
                height: 2
            })
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), kind in 0..3) {
            let head: &[u8] = match kind { 0 => &[0xff, 0xd8, 0xff, 0xe0], 1 => b"\x89PNG\r\n\x1a\n", _ => b"" };
            bytes.splice(0..0, head.iter().copied());
            let _ = decode(&bytes);
        }
    }
}
