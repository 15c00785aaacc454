//! Resizing like PIL's bicubic filter, and normalisation to the model's input.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::decode::Picture;

/// CLIP's channel means, which BLIP uses.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's channel standard deviations, which BLIP uses.
#[expect(
    clippy::excessive_precision,
    reason = "the digits as CLIP publishes them"
)]
pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// A part of a picture in pixels: left, top, width, height.
pub type Region = (f64, f64, f64, f64);

/// Resizes a region to `size` x `size` pixels, whatever its aspect ratio. With the full region,
/// this is BLIP's evaluation transform.
///
/// The filter is the convolution of PIL's `Image.resize(…, BICUBIC, box=…)`: Keys' cubic with a =
/// -0.5, widened by the scale when shrinking. As in PIL, rows are resized first and rounded to
/// bytes, then columns. The order matters, since overshoots at edges are clipped in between, and
/// fast_image_resize by itself does columns first. So each direction is a call of its own.
pub fn resize_square(picture: &Picture, region: Region, size: u32) -> Picture {
    let (left, top, width, height) = region;
    // The rows that the vertical filter needs.
    let reach = 2.0 * (height / f64::from(size)).max(1.0) + 1.0;
    let first = (top - reach).max(0.0).floor();
    let last = (top + height + reach).ceil().min(f64::from(picture.height));
    let source = ImageRef::new(picture.width, picture.height, &picture.rgb, PixelType::U8x3);
    let source = source.expect("a picture has three bytes for each of its pixels");
    let mut narrow = Image::new(size, (last - first) as u32, PixelType::U8x3);
    let bicubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let mut resizer = Resizer::new();
    let rows = bicubic.crop(left, first, width, last - first);
    resizer
        .resize(&source, &mut narrow, &rows)
        .expect("the region is inside the picture");
    let mut target = Image::new(size, size, PixelType::U8x3);
    let columns = bicubic.crop(0.0, top - first, f64::from(size), height);
    resizer
        .resize(&narrow, &mut target, &columns)
        .expect("the region is inside the picture");
    Picture {
        width: size,
        height: size,
        rgb: target.into_vec(),
    }
}

/// All of a picture.
pub fn full_region(picture: &Picture) -> Region {
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    (0.0, 0.0, width, height)
}

/// Appends the model's input to `into`: (value / 255 - mean) / std, channels first.
pub fn normalize(picture: &Picture, into: &mut Vec<f32>) {
    for (channel, (mean, std)) in MEAN.iter().zip(STD).enumerate() {
        let values = picture.rgb.iter().skip(channel).step_by(3);
        into.extend(values.map(|value| (f32::from(*value) / 255.0 - mean) / std));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_picture_stays_constant() {
        let picture = Picture {
            width: 7,
            height: 5,
            rgb: vec![90; 105],
        };
        let resized = resize_square(&picture, full_region(&picture), 4);
        assert_eq!(resized.rgb, vec![90; 48]);
        let mut values = Vec::new();
        normalize(&resized, &mut values);
        assert_eq!(values.len(), 48);
        assert!((values[0] - (90.0 / 255.0 - MEAN[0]) / STD[0]).abs() < 1e-6);
    }
}
