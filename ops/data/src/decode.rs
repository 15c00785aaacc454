//! Decoding of images, with limits: RGB8 as PIL's `convert("RGB")` gives it.
//!
//! The format is recognised by the content, not by the name. JPEG is decoded by zune-jpeg, GIF by
//! `gif`, all other formats by `image`. Sizes beyond the limits are refused before any memory is
//! allocated for them, and all threads together decode within one budget (`memory.rs`). Of an
//! animation the first frame is used. EXIF orientation is not applied, in any format, as in BLIP's
//! own code: its models were trained so, and Pillow applies it only in TIFF files.

mod gif;
mod jpeg;
mod memory;

use std::io::Cursor;
use std::panic::catch_unwind;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use self::memory::Permit;

/// The longest accepted side.
const SIDE_MAX: u32 = 16_384;
/// The most accepted pixels: 192 MB as RGB8.
const PIXELS_MAX: u64 = 64 << 20;
/// The memory that a decoder may allocate besides the pixels (colour profiles, tables).
const EXTRA_BYTES: u64 = 16 << 20;

/// A decoded image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Rows from the top, three bytes a pixel.
    pub rgb: Vec<u8>,
}

/// Why an image cannot be used. The texts are stored as reasons of rejected items.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("empty: the image has no bytes")]
    Empty,
    #[error("unsupported: neither JPEG, PNG, WebP, GIF, BMP nor TIFF")]
    Unsupported,
    /// A format that is supported, with a feature that is not.
    #[error("unsupported: {0} of this kind, such as with a palette or an unusual number of bits")]
    UnsupportedKind(&'static str),
    #[error(
        "too large: {width} x {height} pixels; at most {SIDE_MAX} a side and {PIXELS_MAX} in all"
    )]
    TooLarge { width: u64, height: u64 },
    #[error("truncated: the file ends before the picture does")]
    Truncated,
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    // Decoders are complex and their input is untrusted: a panic in one makes the image corrupt, it
    // does not end the run.
    let decoded = catch_unwind(|| {
        if bytes.starts_with(&jpeg::START) {
            jpeg::decode(bytes)
        } else {
            decode_other(bytes)
        }
    });
    decoded.unwrap_or_else(|_| Err(DecodeError::Corrupt("the decoder gave up".to_owned())))
}

/// The file name suffix of an image's format, by its first bytes; `None` if the format is not
/// supported.
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

/// The message of a decoder, in one line and without control characters, since it may quote the
/// file.
fn corrupt(text: &str) -> DecodeError {
    let plain = text
        .trim()
        .trim_matches('"')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    DecodeError::Corrupt(plain.take(200).collect())
}

fn new_picture(width: u64, height: u64, rgb: Vec<u8>) -> Result<Picture, DecodeError> {
    if rgb.len() as u64 != width * height * 3 {
        return Err(DecodeError::Corrupt(
            "the decoder gave the wrong number of pixels".to_owned(),
        ));
    }
    let to_u32 = |side| u32::try_from(side).map_err(|_| DecodeError::TooLarge { width, height });
    Ok(Picture {
        width: to_u32(width)?,
        height: to_u32(height)?,
        rgb,
    })
}

fn decode_other(bytes: &[u8]) -> Result<Picture, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::Unsupported)?;
    if format == ImageFormat::Gif {
        return gif::decode(bytes);
    }
    let supported = [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ];
    if !supported.contains(&format) {
        return Err(DecodeError::Unsupported);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Two limits: one for reading the header, then one that depends on the size in it.
    let mut limits = Limits::default();
    limits.max_alloc = Some(EXTRA_BYTES);
    reader.limits(limits);
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| image_error(format, &error))?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(u64::from(width) * u64::from(height) * 8 + EXTRA_BYTES);
    decoder
        .set_limits(limits)
        .map_err(|error| image_error(format, &error))?;
    // The decoded pixels, and those converted to RGB8.
    let pixels = u64::from(width) * u64::from(height);
    let _permit: Permit = memory::reserve(decoder.total_bytes() + 3 * pixels);
    let decoded =
        DynamicImage::from_decoder(decoder).map_err(|error| image_error(format, &error))?;
    // Alpha is dropped, not blended, as PIL's convert("RGB") does.
    new_picture(width.into(), height.into(), decoded.into_rgb8().into_raw())
}

fn image_error(format: ImageFormat, error: &image::ImageError) -> DecodeError {
    match error {
        image::ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated
        }
        image::ImageError::Limits(_) => {
            DecodeError::Corrupt("it needs more memory than its size allows".to_owned())
        }
        image::ImageError::Unsupported(_) => DecodeError::UnsupportedKind(match format {
            ImageFormat::Png => "a PNG",
            ImageFormat::WebP => "a WebP",
            ImageFormat::Bmp => "a BMP",
            _ => "a TIFF",
        }),
        other => {
            let text = other.to_string();
            let is_truncated = text.contains("unexpected end") || text.contains("EOF");
            if is_truncated {
                DecodeError::Truncated
            } else {
                corrupt(&text)
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
    fn bytes_that_are_not_an_image_are_refused() {
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
    fn an_oversized_image_is_refused_by_its_header() {
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

    /// First bytes of JPEG, PNG and of no format.
    const SIGNATURES: [&[u8]; 3] = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b""];

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            signature in proptest::sample::select(SIGNATURES.to_vec()),
        ) {
            let _ = decode(&[signature, &bytes].concat());
        }
    }
}
