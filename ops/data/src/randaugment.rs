//! RandAugment (Cubuk et al. 2019) as BLIP uses it: two of ten operations per picture, each applied
//! with probability 1/2.
//!
//! Operations and magnitudes of salesforce/BLIP transform/randaugment.py at N = 2, M = 5. At that
//! magnitude the brightness and sharpness factors are exactly 1, so both are identities there, too.

use crate::decode::Picture;
use crate::rng::Rng;

/// Operations per picture.
const COUNT: usize = 2;
/// Of applying an operation that was drawn.
const PROBABILITY: f64 = 0.5;
const SHEAR: f64 = 0.15;
/// In pixels.
const TRANSLATION: f64 = 5.0;
const DEGREES: f64 = 15.0;
/// The value of pixels from outside of the picture.
const FILL: f64 = 128.0;

#[derive(Clone, Copy)]
enum Operation {
    Identity,
    AutoContrast,
    Brightness,
    Sharpness,
    Equalize,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
}

const OPERATIONS: [Operation; 10] = [
    Operation::Identity,
    Operation::AutoContrast,
    Operation::Brightness,
    Operation::Sharpness,
    Operation::Equalize,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
    Operation::Rotate,
];

/// Applies two random operations.
pub fn randaugment(picture: Picture, rng: &mut Rng) -> Picture {
    let mut picture = picture;
    for _ in 0..COUNT {
        // With replacement, as in the official code. All three numbers are always drawn, so that
        // later ones do not depend on the operation.
        let operation = *rng.choose(&OPERATIONS);
        let is_applied = rng.bernoulli(PROBABILITY);
        let sign = if rng.bernoulli(0.5) { -1.0 } else { 1.0 };
        if is_applied {
            picture = apply(picture, operation, sign);
        }
    }
    picture
}

fn apply(picture: Picture, operation: Operation, sign: f64) -> Picture {
    let x = f64::from(picture.width) / 2.0;
    let y = f64::from(picture.height) / 2.0;
    match operation {
        Operation::Identity | Operation::Brightness | Operation::Sharpness => picture,
        Operation::AutoContrast => map_channels(picture, autocontrast),
        Operation::Equalize => map_channels(picture, equalize),
        Operation::ShearX => warp(&picture, [1.0, -sign * SHEAR, 0.0, 0.0, 1.0, 0.0]),
        Operation::ShearY => warp(&picture, [1.0, 0.0, 0.0, -sign * SHEAR, 1.0, 0.0]),
        Operation::TranslateX => warp(&picture, [1.0, 0.0, sign * TRANSLATION, 0.0, 1.0, 0.0]),
        Operation::TranslateY => warp(&picture, [1.0, 0.0, 0.0, 0.0, 1.0, sign * TRANSLATION]),
        Operation::Rotate => {
            let (sin, cos) = (sign * DEGREES).to_radians().sin_cos();
            let (dx, dy) = (x - cos * x + sin * y, y - sin * x - cos * y);
            warp(&picture, [cos, -sin, dx, sin, cos, dy])
        }
    }
}

/// Maps the values of each channel by a table that `make_table` derives from its histogram.
fn map_channels(mut picture: Picture, make_table: fn(&[u64; 256]) -> [u8; 256]) -> Picture {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        for value in picture.rgb.iter().skip(channel).step_by(3) {
            histogram[usize::from(*value)] += 1;
        }
        let table = make_table(&histogram);
        for value in picture.rgb.iter_mut().skip(channel).step_by(3) {
            *value = table[usize::from(*value)];
        }
    }
    picture
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// PIL's `ImageOps.autocontrast`: stretches the values to 0 to 255.
fn autocontrast(histogram: &[u64; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|count| *count > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
    if high <= low {
        return identity();
    }
    let scale = 255.0 / (high - low) as f64;
    std::array::from_fn(|value| ((value as f64 - low as f64) * scale).clamp(0.0, 255.0) as u8)
}

/// PIL's `ImageOps.equalize`: makes all values about equally frequent.
fn equalize(histogram: &[u64; 256]) -> [u8; 256] {
    let present: Vec<u64> = histogram
        .iter()
        .copied()
        .filter(|count| *count > 0)
        .collect();
    let total: u64 = present.iter().sum();
    let step = (total - present.last().copied().unwrap_or(0)) / 255;
    if present.len() < 2 || step == 0 {
        return identity();
    }
    let mut sum = step / 2;
    std::array::from_fn(|value| {
        let level = (sum / step).min(255) as u8;
        sum += histogram[value];
        level
    })
}

/// An affine transform: pixel (x, y) is sampled at (a x + b y + c, d x + e y + f), bilinearly.
fn warp(picture: &Picture, [a, b, c, d, e, f]: [f64; 6]) -> Picture {
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    let pixel = |x: i64, y: i64, channel: usize| {
        if (0..width).contains(&x) && (0..height).contains(&y) {
            f64::from(picture.rgb[(y * width + x) as usize * 3 + channel])
        } else {
            FILL
        }
    };
    let mut rgb = Vec::with_capacity(picture.rgb.len());
    for y in 0..height {
        for x in 0..width {
            let from_x = a * x as f64 + b * y as f64 + c;
            let from_y = d * x as f64 + e * y as f64 + f;
            let (left, top) = (from_x.floor(), from_y.floor());
            let (right, low) = (from_x - left, from_y - top);
            for channel in 0..3 {
                let at = |dx, dy| pixel(left as i64 + dx, top as i64 + dy, channel);
                let upper = at(0, 0) * (1.0 - right) + at(1, 0) * right;
                let lower = at(0, 1) * (1.0 - right) + at(1, 1) * right;
                let value = upper * (1.0 - low) + lower * low;
                rgb.push(value.round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    Picture { rgb, ..*picture }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Picture {
        let rgb = (0..20 * 20)
            .flat_map(|at| [50 + (at % 20) as u8, 100, 200 - (at / 20) as u8])
            .collect();
        Picture {
            width: 20,
            height: 20,
            rgb,
        }
    }

    #[test]
    fn tables_equal_those_of_pil() {
        let stretched = apply(ramp(), Operation::AutoContrast, 1.0);
        assert_eq!((stretched.rgb[0], stretched.rgb[19 * 3]), (0, 255));
        assert_eq!(
            stretched.rgb[1], 100,
            "a channel with a single value is unchanged"
        );
        let level = apply(ramp(), Operation::Equalize, 1.0);
        // ImageOps.equalize of twenty values, twenty pixels each: step 1, the sum runs 0, 20, 40,
        // ...
        assert_eq!(
            [level.rgb[0], level.rgb[3], level.rgb[6], level.rgb[57]],
            [0, 20, 40, 255]
        );
    }

    #[test]
    fn warps_move_pixels_and_fill_with_gray() {
        let shifted = apply(ramp(), Operation::TranslateX, 1.0);
        assert_eq!((shifted.rgb[0], shifted.rgb[19 * 3]), (55, 128));
        let rotated = apply(ramp(), Operation::Rotate, 1.0);
        let center = (10 * 20 + 10) * 3;
        assert_eq!(rotated.rgb[center], ramp().rgb[center]);
        assert_eq!(
            rotated.rgb[0], 128,
            "a corner is outside of the rotated picture"
        );
    }

    #[test]
    fn a_picture_depends_on_the_seed_alone() {
        let augmented = |seed| randaugment(ramp(), &mut Rng::new(&[seed]));
        assert_eq!(augmented(1), augmented(1));
        assert!((2..40).any(|seed| augmented(seed) != augmented(1)));
    }
}
