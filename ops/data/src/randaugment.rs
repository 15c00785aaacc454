//! RandAugment (Cubuk et al. 2019) as BLIP uses it: two operations a picture, of ten, each done
//! half of the time.
//!
//! Operations and strengths of salesforce/BLIP transform/randaugment.py at N = 2, M = 5. At that
//! strength the brightness and the sharpness factors are exactly 1, so both are identities, as they
//! are there.

use crate::decode::Picture;
use crate::random::Random;

/// Operations done to a picture.
const COUNT: usize = 2;
/// Share of the time that a drawn operation is done.
const PROBABILITY: f64 = 0.5;
const SHEAR: f64 = 0.15;
const SHIFT: f64 = 5.0;
const DEGREES: f64 = 15.0;
/// What stands where a warped picture has no pixel.
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

/// The picture after two random operations.
pub fn randaugment(picture: Picture, random: &mut Random) -> Picture {
    (0..COUNT).fold(picture, |picture, _| {
        // Drawn with replacement, as there; all three numbers are drawn whatever they lead to.
        let operation = *random.pick(&OPERATIONS);
        let (done, sign) = (
            random.chance(PROBABILITY),
            if random.chance(0.5) { -1.0 } else { 1.0 },
        );
        if done {
            apply(picture, operation, sign)
        } else {
            picture
        }
    })
}

fn apply(picture: Picture, operation: Operation, sign: f64) -> Picture {
    let (x, y) = (
        f64::from(picture.width) / 2.0,
        f64::from(picture.height) / 2.0,
    );
    match operation {
        Operation::Identity | Operation::Brightness | Operation::Sharpness => picture,
        Operation::AutoContrast => by_channel(picture, autocontrast),
        Operation::Equalize => by_channel(picture, equalize),
        Operation::ShearX => warp(&picture, [1.0, -sign * SHEAR, 0.0, 0.0, 1.0, 0.0]),
        Operation::ShearY => warp(&picture, [1.0, 0.0, 0.0, -sign * SHEAR, 1.0, 0.0]),
        Operation::TranslateX => warp(&picture, [1.0, 0.0, sign * SHIFT, 0.0, 1.0, 0.0]),
        Operation::TranslateY => warp(&picture, [1.0, 0.0, 0.0, 0.0, 1.0, sign * SHIFT]),
        Operation::Rotate => {
            let (sin, cos) = (sign * DEGREES).to_radians().sin_cos();
            warp(
                &picture,
                [
                    cos,
                    -sin,
                    x - cos * x + sin * y,
                    sin,
                    cos,
                    y - sin * x - cos * y,
                ],
            )
        }
    }
}

/// Replaces the values of each channel by a table made of the channel's histogram.
fn by_channel(mut picture: Picture, table: fn(&[u64; 256]) -> [u8; 256]) -> Picture {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        picture
            .rgb
            .iter()
            .skip(channel)
            .step_by(3)
            .for_each(|value| histogram[usize::from(*value)] += 1);
        let table = table(&histogram);
        picture
            .rgb
            .iter_mut()
            .skip(channel)
            .step_by(3)
            .for_each(|value| *value = table[usize::from(*value)]);
    }
    picture
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// The lowest value becomes 0 and the highest 255.
fn autocontrast(histogram: &[u64; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|count| *count > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
    if high <= low {
        return identity();
    }
    let scale = 255.0 / (high - low) as f64;
    std::array::from_fn(|value| ((value as f64 - low as f64) * scale).clamp(0.0, 255.0) as u8)
}

/// PIL's `ImageOps.equalize`: every value becomes about equally frequent.
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

/// Pixel (x, y) comes from (a x + b y + c, d x + e y + f), bilinear.
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
            let (from_x, from_y) = (
                a * x as f64 + b * y as f64 + c,
                d * x as f64 + e * y as f64 + f,
            );
            let (left, top) = (from_x.floor(), from_y.floor());
            let (right, low) = (from_x - left, from_y - top);
            for channel in 0..3 {
                let at = |dx, dy| pixel(left as i64 + dx, top as i64 + dy, channel);
                let upper = at(0, 0) * (1.0 - right) + at(1, 0) * right;
                let lower = at(0, 1) * (1.0 - right) + at(1, 1) * right;
                rgb.push(
                    (upper * (1.0 - low) + lower * low)
                        .round()
                        .clamp(0.0, 255.0) as u8,
                );
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
    fn tables_follow_pil() {
        let stretched = apply(ramp(), Operation::AutoContrast, 1.0);
        assert_eq!((stretched.rgb[0], stretched.rgb[19 * 3]), (0, 255));
        assert_eq!(stretched.rgb[1], 100, "a channel of one value stays");
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
        let there = apply(ramp(), Operation::Rotate, 1.0);
        let center = (10 * 20 + 10) * 3;
        assert_eq!(there.rgb[center], ramp().rgb[center]);
        assert_eq!(there.rgb[0], 128, "a corner turns out of the picture");
    }

    #[test]
    fn a_version_depends_on_its_seed_alone() {
        let version = |seed| randaugment(ramp(), &mut Random::new(&[seed]));
        assert_eq!(version(1), version(1));
        assert!((2..40).any(|seed| version(seed) != version(1)));
    }
}
