//! Augmentation of training images: torchvision's RandomResizedCrop and RandomHorizontalFlip, then
//! RandAugment, as in BLIP's recipe (salesforce/BLIP data/__init__.py).
//!
//! The random numbers are the caller's, so that an augmented image is a pure function of (seed,
//! epoch, pair).

use crate::decode::Picture;
use crate::randaugment::randaugment;
use crate::resize::{Region, full_region, resize_square};
use crate::rng::Rng;

/// Which augmentations are applied.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Augmentation {
    /// The smallest share of the area that a crop has: 0.2 in pretraining, 0.5 in finetuning; 1
    /// disables cropping.
    pub min_scale: f64,
    /// Flips half of the pictures horizontally.
    pub flip: bool,
    pub randaugment: bool,
}

/// An augmented version of the picture, `size` x `size` pixels.
pub fn augment(picture: &Picture, augmentation: Augmentation, size: u32, rng: &mut Rng) -> Picture {
    let region = if augmentation.min_scale < 1.0 {
        random_crop(picture, augmentation.min_scale, rng)
    } else {
        full_region(picture)
    };
    let mut augmented = resize_square(picture, region, size);
    if augmentation.flip && rng.bernoulli(0.5) {
        flip_horizontally(&mut augmented);
    }
    if augmentation.randaugment {
        augmented = randaugment(augmented, rng);
    }
    augmented
}

/// torchvision's `RandomResizedCrop.get_params`: ten attempts at an area in [min_scale, 1] and an
/// aspect ratio in [3/4, 4/3], then the largest central crop of an allowed aspect ratio.
fn random_crop(picture: &Picture, min_scale: f64, rng: &mut Rng) -> Region {
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    let (low, high) = (3.0_f64 / 4.0, 4.0_f64 / 3.0);
    for _ in 0..10 {
        let area = width * height * rng.uniform_range(min_scale, 1.0);
        let aspect = rng.uniform_range(low.ln(), high.ln()).exp();
        let w = (area * aspect).sqrt().round();
        let h = (area / aspect).sqrt().round();
        if w >= 1.0 && h >= 1.0 && w <= width && h <= height {
            let left = rng.index((width - w) as usize + 1) as f64;
            let top = rng.index((height - h) as usize + 1) as f64;
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
    let left = ((width - w) / 2.0).floor();
    let top = ((height - h) / 2.0).floor();
    (left, top, w, h)
}

fn flip_horizontally(picture: &mut Picture) {
    let row = picture.width as usize * 3;
    for line in picture.rgb.chunks_mut(row) {
        let flipped: Vec<u8> = line.chunks(3).rev().flatten().copied().collect();
        line.copy_from_slice(&flipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_augmented_picture_depends_on_the_seed_alone() {
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
        let augmented = |seed| augment(&picture, augmentation, 8, &mut Rng::new(&[seed]));
        assert_eq!(augmented(1), augmented(1));
        assert!((2..20).any(|seed| augmented(seed) != augmented(1)));
    }

    #[test]
    fn flipping_twice_changes_nothing() {
        let picture = Picture {
            width: 3,
            height: 2,
            rgb: (0..18).collect(),
        };
        let mut other = picture.clone();
        flip_horizontally(&mut other);
        assert_eq!(other.rgb[..3], [6, 7, 8]);
        flip_horizontally(&mut other);
        assert_eq!(other, picture);
    }
}
