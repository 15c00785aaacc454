//! Decoded images, off the thread that computes: decoding, cropping, resizing and normalising
//! overlap with the model.
//!
//! A loader takes requests and returns images in the same order, prefetching a bounded number of
//! them. The pixels of an image depend on its request alone, never on threads or on what is cached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blip_data::augment::{Augmentation, augment};
use blip_data::decode::{Picture, decode};
use blip_data::resize::{full_region, normalize, resize_square};
use blip_data::rng::Rng;
use blip_engine::{Digest, OpError};

use crate::image_store::ImageStore;
use crate::ordered_pool::{OrderedPool, cores};

/// Prefetched images hold at most this many bytes together…
const PREFETCH_BYTES_MAX: usize = 256 << 20;
/// …and are at most this many.
const PREFETCH_IMAGES_MAX: usize = 512;
/// Cached decoded images hold at most this many bytes together.
const CACHE_BYTES_MAX: usize = 256 << 20;

/// An image to decode, and what to do with its pixels.
#[derive(Clone, Debug)]
pub(crate) struct DecodeRequest {
    pub(crate) image: Digest,
    pub(crate) transform: Transform,
}

/// How a decoded image becomes a square of pixels.
#[derive(Clone, Debug)]
pub(crate) enum Transform {
    /// The whole image: for evaluation and inference.
    Resize,
    /// A random crop, possibly flipped and distorted, as these random numbers say: for training.
    Augment(Augmentation, Rng),
}

/// An image as it comes out of the loader.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum LoadedImage {
    /// 3 x size x size floats, channels first, normalised.
    Pixels(Vec<f32>),
    /// The image does not decode, and why.
    Undecodable(String),
}

/// Loads images of one size.
pub(crate) struct ImageLoader {
    shared: Arc<Shared>,
    threads: usize,
}

/// What the threads of a loader share.
struct Shared {
    images: ImageStore,
    size: u32,
    cache: Option<Mutex<DecodedCache>>,
}

/// Decoded images, as many as fit. Nothing is ever evicted: an epoch visits every image once, so
/// any image is as likely to be asked for next as any other, and evicting would only cost.
#[derive(Default)]
struct DecodedCache {
    pictures: HashMap<Digest, Arc<Picture>>,
    bytes: usize,
}

impl ImageLoader {
    /// A loader of `size` x `size` pixels that decodes an image each time it is asked for.
    pub(crate) fn new(images: ImageStore, size: u32) -> Self {
        Self::build(images, size, None)
    }

    /// A loader that keeps decoded images in memory, for images that are loaded many times.
    pub(crate) fn with_cache(images: ImageStore, size: u32) -> Self {
        Self::build(images, size, Some(Mutex::default()))
    }

    fn build(images: ImageStore, size: u32, cache: Option<Mutex<DecodedCache>>) -> Self {
        let shared = Shared {
            images,
            size,
            cache,
        };
        Self {
            shared: Arc::new(shared),
            // Half of the cores: the other half computes.
            threads: (cores() / 2).max(1),
        }
    }

    /// How many floats an image has.
    pub(crate) fn floats(&self) -> usize {
        3 * (self.shared.size as usize).pow(2)
    }

    /// Begins to load. The threads end with the iterator.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn load<R>(&self, requests: R) -> Result<LoadedImages<R>, OpError>
    where
        R: Iterator<Item = DecodeRequest>,
    {
        let shared = Arc::clone(&self.shared);
        let image_bytes = (size_of::<f32>() * self.floats()).max(1);
        // Fewer than a request per thread would leave threads idle, whatever it costs in memory.
        let in_flight_max =
            (PREFETCH_BYTES_MAX / image_bytes).clamp(self.threads + 1, PREFETCH_IMAGES_MAX);
        Ok(LoadedImages {
            requests,
            pool: OrderedPool::new(self.threads, move |request| shared.load(request))?,
            in_flight_max: in_flight_max as u64,
        })
    }
}

impl std::fmt::Debug for ImageLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageLoader")
            .field("images", &self.shared.images)
            .field("size", &self.shared.size)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn load(&self, request: DecodeRequest) -> Result<LoadedImage, OpError> {
        let picture = match self.decoded(&request.image)? {
            Ok(picture) => picture,
            Err(reason) => return Ok(LoadedImage::Undecodable(reason)),
        };
        let transformed = match request.transform {
            Transform::Resize => resize_square(&picture, full_region(&picture), self.size),
            Transform::Augment(augmentation, mut random) => {
                augment(&picture, augmentation, self.size, &mut random)
            }
        };
        let mut pixels = Vec::with_capacity(transformed.rgb.len());
        normalize(&transformed, &mut pixels);
        Ok(LoadedImage::Pixels(pixels))
    }

    /// The decoded image, or why it does not decode. Undecodable images are not cached: a dataset
    /// holds none, since reading ops reject them.
    fn decoded(&self, image: &Digest) -> Result<Result<Arc<Picture>, String>, OpError> {
        if let Some(cache) = self.lock_cache()
            && let Some(picture) = cache.pictures.get(image)
        {
            return Ok(Ok(Arc::clone(picture)));
        }
        // The lock is not held while decoding: two threads may decode the same image, and both get
        // the same pixels.
        let picture = match decode(&self.images.bytes(image)?) {
            Ok(picture) => Arc::new(picture),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(mut cache) = self.lock_cache() {
            cache.insert_if_it_fits(*image, &picture);
        }
        Ok(Ok(picture))
    }

    fn lock_cache(&self) -> Option<MutexGuard<'_, DecodedCache>> {
        let cache = self.cache.as_ref()?;
        Some(cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DecodedCache {
    fn insert_if_it_fits(&mut self, image: Digest, picture: &Arc<Picture>) {
        let bytes = self.bytes + picture.rgb.len();
        if bytes > CACHE_BYTES_MAX {
            return;
        }
        let replaced = self.pictures.insert(image, Arc::clone(picture));
        if replaced.is_none() {
            self.bytes = bytes;
        }
    }
}

/// Images in the order of their requests.
#[derive(Debug)]
pub(crate) struct LoadedImages<R> {
    requests: R,
    pool: OrderedPool<DecodeRequest, LoadedImage>,
    in_flight_max: u64,
}

impl<R: Iterator<Item = DecodeRequest>> Iterator for LoadedImages<R> {
    type Item = Result<LoadedImage, OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.pool.in_flight() < self.in_flight_max {
            let Some(request) = self.requests.next() else {
                break;
            };
            self.pool.push(request);
        }
        self.pool.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::image_store::ImageLocation;
    use blip_data::scenes::{CaptionStyle, generate};

    /// A file of images, the last one truncated, and where they are.
    fn write_images(folder: &Path, count: u64) -> (Vec<ImageLocation>, PathBuf) {
        let texts = CaptionStyle {
            web: false,
            mismatched: 0.0,
            junk: 0.0,
        };
        let mut jpegs: Vec<Vec<u8>> = (0..count)
            .map(|number| generate(5, "web", number, 16, texts).jpeg)
            .collect();
        jpegs.last_mut().unwrap().truncate(300);
        let path = folder.join("images");
        std::fs::write(&path, jpegs.concat()).unwrap();
        let (file, _) = Digest::of_file(&path).unwrap();
        let mut offset = 0;
        let mut locations = Vec::new();
        for jpeg in jpegs {
            let len = jpeg.len() as u64;
            locations.push(ImageLocation {
                image: Digest::of(&jpeg),
                file,
                offset,
                len,
            });
            offset += len;
        }
        (locations, path)
    }

    fn store(locations: &[ImageLocation], path: &Path) -> ImageStore {
        ImageStore::new(locations.to_vec(), |_| Ok(path.to_path_buf())).unwrap()
    }

    /// Three epochs of the images, a third of the requests without augmentation.
    fn three_epochs(locations: &[ImageLocation]) -> Vec<DecodeRequest> {
        let augmentation = Augmentation {
            min_scale: 0.3,
            flip: true,
            randaugment: false,
        };
        let mut requests = Vec::new();
        for number in 0..3 * locations.len() {
            let transform = if number % 3 == 0 {
                Transform::Resize
            } else {
                Transform::Augment(augmentation, Rng::new(&[9, number as u64]))
            };
            requests.push(DecodeRequest {
                image: locations[number % locations.len()].image,
                transform,
            });
        }
        requests
    }

    #[test]
    fn images_come_in_order_and_the_cache_changes_none() {
        let folder = tempfile::tempdir().unwrap();
        let (locations, path) = write_images(folder.path(), 40);
        let requests = three_epochs(&locations);
        let uncached = ImageLoader::new(store(&locations, &path), 8);
        let cached = ImageLoader::with_cache(store(&locations, &path), 8);
        let load = |loader: &ImageLoader| {
            let images = loader.load(requests.clone().into_iter()).unwrap();
            images.map(Result::unwrap).collect::<Vec<_>>()
        };
        let first = load(&uncached);
        assert_eq!(first.len(), 120);
        assert_eq!(first, load(&cached));
        assert_eq!(first, load(&cached));
        let cached_bytes = cached.shared.lock_cache().unwrap().bytes;
        assert_eq!(cached_bytes, 39 * 16 * 16 * 3);
        let reason = "truncated: the file ends before the picture does";
        assert_eq!(first[39], LoadedImage::Undecodable(reason.to_owned()));
        let LoadedImage::Pixels(pixels) = &first[0] else {
            panic!("the first image decodes")
        };
        assert_eq!(pixels.len(), uncached.floats());
        let bytes = uncached.shared.images.bytes(&locations[0].image).unwrap();
        let picture = decode(&bytes).unwrap();
        let mut expected = Vec::new();
        normalize(
            &resize_square(&picture, full_region(&picture), 8),
            &mut expected,
        );
        assert_eq!(*pixels, expected);
    }

    #[test]
    fn a_removed_file_fails_the_load_and_a_load_can_be_dropped_early() {
        let folder = tempfile::tempdir().unwrap();
        let (locations, path) = write_images(folder.path(), 10);
        let images = store(&locations, &path);
        std::fs::remove_file(&path).unwrap();
        let loader = ImageLoader::new(images, 8);
        let requests = || {
            locations.iter().map(|location| DecodeRequest {
                image: location.image,
                transform: Transform::Resize,
            })
        };
        let first = loader.load(requests()).unwrap().next().unwrap();
        assert_eq!(
            first.unwrap_err().to_string(),
            format!("{} was removed during the run", path.display())
        );
        assert_eq!(loader.load(requests()).unwrap().count(), 10);
    }

    #[test]
    fn no_more_than_the_bound_is_prefetched() {
        let folder = tempfile::tempdir().unwrap();
        let (locations, path) = write_images(folder.path(), 2);
        let loader = ImageLoader::new(store(&locations, &path), 8);
        let mut requested = 0;
        let requests = std::iter::repeat_with(|| {
            requested += 1;
            DecodeRequest {
                image: locations[0].image,
                transform: Transform::Resize,
            }
        });
        let mut images = loader.load(requests).unwrap();
        for _ in 0..3 {
            assert!(matches!(images.next(), Some(Ok(LoadedImage::Pixels(_)))));
        }
        drop(images);
        assert_eq!(requested, PREFETCH_IMAGES_MAX + 2);
    }
}
