//! What training does to a picture before the model sees it: a random part, resized, maybe
//! mirrored, maybe distorted.
//!
//! torchvision's RandomResizedCrop and RandomHorizontalFlip as in BLIP's recipe (salesforce/BLIP
//! data/__init__.py), from a seed of our own, so that a picture's version in an epoch is a pure
//! function of (seed, epoch, pair).

use crate::decode::Picture;
use crate::randaugment::randaugment;
use crate::random::Random;
use crate::resize::{square, whole};

/// How much is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Augmentation {
    /// The smallest share of the picture's area that a crop takes: 0.2 in pretraining, 0.5 in
    /// finetuning; 1 crops nothing.
    pub min_scale: f64,
    /// Whether half of the pictures are mirrored.
    pub flip: bool,
    /// Whether two operations of RandAugment follow.
    pub randaugment: bool,
}

/// The picture as the model sees it this time, `size` x `size` pixels.
pub fn augment(
    picture: &Picture,
    augmentation: Augmentation,
    size: u32,
    random: &mut Random,
) -> Picture {
    let part = if augmentation.min_scale < 1.0 {
        crop(picture, augmentation.min_scale, random)
    } else {
        whole(picture)
    };
    let mut seen = square(picture, part, size);
    if augmentation.flip && random.chance(0.5) {
        mirror(&mut seen);
    }
    if augmentation.randaugment {
        randaugment(seen, random)
    } else {
        seen
    }
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries at an area in [min_scale, 1] and an
/// aspect in [3/4, 4/3], then the largest central part of allowed aspect.
fn crop(picture: &Picture, min_scale: f64, random: &mut Random) -> (f64, f64, f64, f64) {
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    let (low, high) = (3.0_f64 / 4.0, 4.0_f64 / 3.0);
    for _ in 0..10 {
        let area = width * height * random.between(min_scale, 1.0);
        let aspect = random.between(low.ln(), high.ln()).exp();
        let (w, h) = (
            (area * aspect).sqrt().round(),
            (area / aspect).sqrt().round(),
        );
        if w >= 1.0 && h >= 1.0 && w <= width && h <= height {
            let left = random.below((width - w) as usize + 1) as f64;
            let top = random.below((height - h) as usize + 1) as f64;
            return (left, top, w, h);
        }
    }
    let aspect = width / height;
    let (w, h) = if aspect < low {
        (width, (width / low).round())
    } else if aspect > high {
        ((height * high).round(), height)
    } else {
        (width, height)
    };
    (
        ((width - w) / 2.0).floor(),
        ((height - h) / 2.0).floor(),
        w,
        h,
    )
}

fn mirror(picture: &mut Picture) {
    let row = picture.width as usize * 3;
    for line in picture.rgb.chunks_mut(row) {
        let mirrored: Vec<u8> = line.chunks(3).rev().flatten().copied().collect();
        line.copy_from_slice(&mirrored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_depends_on_its_seed_alone() {
        let picture = Picture {
            width: 20,
            height: 10,
            rgb: (0..600).map(|value| (value % 251) as u8).collect(),
        };
        let augmentation = Augmentation {
            min_scale: 0.2,
            flip: true,
            randaugment: false,
        };
        let version = |seed| augment(&picture, augmentation, 8, &mut Random::new(&[seed]));
        assert_eq!(version(1), version(1));
        assert!((2..20).any(|seed| version(seed) != version(1)));
    }

    #[test]
    fn mirroring_twice_changes_nothing() {
        let picture = Picture {
            width: 3,
            height: 2,
            rgb: (0..18).collect(),
        };
        let mut other = picture.clone();
        mirror(&mut other);
        assert_eq!(other.rgb[..3], [6, 7, 8]);
        mirror(&mut other);
        assert_eq!(other, picture);
    }
}
