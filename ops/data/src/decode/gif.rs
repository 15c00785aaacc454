//! GIF: the first frame on its canvas, as Pillow paints it.

use gif::{ColorOutput, DecodeOptions, DecodingError, Frame, MemoryLimit};

use super::memory::{self, Permit};
use super::{DecodeError, EXTRA_BYTES, Picture, check_size, corrupt, new_picture};

/// Bytes a pixel while a GIF is decoded: its index, and the pixel.
const PIXEL_BYTES: u64 = 4;

/// What a frame does not cover has the transparent color or else the first one of the palette:
/// `convert("RGB")` drops transparency, it does not blend.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(false);
    let limit = std::num::NonZero::new(super::PIXELS_MAX + EXTRA_BYTES);
    if let Some(limit) = limit {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options
        .read_info(bytes)
        .map_err(|error| gif_error(&error))?;
    let (width, height) = (u64::from(decoder.width()), u64::from(decoder.height()));
    check_size(width, height)?;
    let _permit: Permit = memory::reserve(width * height * PIXEL_BYTES);
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder
        .read_next_frame()
        .map_err(|error| gif_error(&error))?;
    let frame = frame.ok_or(DecodeError::Truncated)?;
    let palette = frame.palette.as_deref().or(global.as_deref());
    let color = |index: u8| match palette {
        Some(palette) => palette
            .chunks_exact(3)
            .nth(usize::from(index))
            .and_then(|color| color.try_into().ok())
            .unwrap_or_default(),
        None => [index; 3],
    };
    let colors: Vec<[u8; 3]> = (0..=255).map(color).collect();
    let rgb = paint(frame, &colors, (width as usize, height as usize));
    new_picture(width, height, rgb)
}

fn paint(frame: &Frame<'_>, colors: &[[u8; 3]], (width, height): (usize, usize)) -> Vec<u8> {
    let color = |index: u8| colors.get(usize::from(index)).copied().unwrap_or_default();
    let empty = color(frame.transparent.unwrap_or(0));
    let mut rgb: Vec<u8> = empty.repeat(width * height);
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let rows = frame.buffer.chunks_exact(usize::from(frame.width).max(1));
    for (row, indices) in rows.enumerate().take(height.saturating_sub(top)) {
        let start = (top + row) * width + left.min(width);
        let covered = indices.len().min(width.saturating_sub(left));
        let pixels = rgb.get_mut(3 * start..3 * (start + covered));
        let pixels = pixels.unwrap_or_default().chunks_exact_mut(3);
        for (pixel, index) in pixels.zip(indices) {
            pixel.copy_from_slice(&color(*index));
        }
    }
    rgb
}

fn gif_error(error: &DecodingError) -> DecodeError {
    match error {
        DecodingError::UnexpectedEof => DecodeError::Truncated,
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated
        }
        other => {
            let text = other.to_string();
            if text.contains("truncated") {
                DecodeError::Truncated
            } else {
                corrupt(&text)
            }
        }
    }
}
