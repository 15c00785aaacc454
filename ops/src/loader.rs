//! Decoded pictures, off the thread that computes: decoding, cutting, resizing and normalising
//! overlap with the model.
//!
//! A loader is given pictures to see in an order and hands them out in that order, a bounded number
//! ahead. What a picture looks like depends on its job alone, never on threads or on what was
//! remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use blip_data::augment::{Augmentation, augment};
use blip_data::decode::{Picture, decode};
use blip_data::random::Random;
use blip_data::resize::{normalize, square, whole};
use blip_engine::{Digest, OpError};

use crate::images::Images;
use crate::ordered::{Ordered, cores};

/// Pictures that wait to be taken hold at most this many bytes together…
const AHEAD_BYTES: usize = 256 << 20;
/// …and are at most this many.
const AHEAD_MAX: usize = 512;
/// Decoded pictures remembered hold at most this many bytes.
const REMEMBERED_BYTES: usize = 256 << 20;

/// A picture to see.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The image.
    pub(crate) image: Digest,
    /// How it is to be seen.
    pub(crate) view: View,
}

/// How a picture is seen.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// All of it: for evaluation and inference.
    Whole,
    /// A random part, maybe mirrored, as these random numbers say: for training.
    Augmented(Augmentation, Random),
}

/// A picture as it comes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Seen {
    /// Its pixels: 3 x size x size floats, channels first, normalised.
    Pixels(Vec<f32>),
    /// It does not decode, and why.
    Bad(String),
}

/// Loads pictures of one size.
pub(crate) struct Loader {
    shared: Arc<Shared>,
    threads: usize,
}

/// What the threads of a loader share.
struct Shared {
    images: Images,
    size: u32,
    remembered: Option<Mutex<Remembered>>,
}

/// Decoded pictures, as many as fit. Nothing is ever dropped for something newer: an epoch visits
/// every picture once, so any picture is as good as any other.
#[derive(Default)]
struct Remembered {
    pictures: HashMap<Digest, Arc<Picture>>,
    bytes: usize,
}

impl Loader {
    /// A loader of `size` x `size` pixels.
    pub(crate) fn new(images: Images, size: u32) -> Self {
        // Half of the cores: the other half computes.
        let threads = (cores() / 2).max(1);
        Self {
            shared: Arc::new(Shared {
                images,
                size,
                remembered: None,
            }),
            threads,
        }
    }

    /// The same for pictures that are seen many times: small ones are decoded once.
    pub(crate) fn remembering(images: Images, size: u32) -> Self {
        let loader = Self::new(images, size);
        let Shared { images, size, .. } =
            Arc::into_inner(loader.shared).expect("nobody else has it yet");
        let remembered = Some(Mutex::default());
        Self {
            shared: Arc::new(Shared {
                images,
                size,
                remembered,
            }),
            threads: loader.threads,
        }
    }

    /// How many floats a picture has.
    pub(crate) fn floats(&self) -> usize {
        3 * (self.shared.size as usize).pow(2)
    }

    /// Begins to load. The threads end with the iterator.
    pub(crate) fn load<J: Iterator<Item = Job>>(&self, jobs: J) -> Pictures<J> {
        let shared = Arc::clone(&self.shared);
        let ahead = (AHEAD_BYTES / (4 * self.floats()).max(1)).clamp(self.threads + 1, AHEAD_MAX);
        Pictures {
            jobs,
            seen: Ordered::new(self.threads, move |job| shared.see(job)),
            ahead: ahead as u64,
        }
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("images", &self.shared.images)
            .field("size", &self.shared.size)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn see(&self, job: Job) -> Result<Seen, OpError> {
        let picture = match self.picture(&job.image)? {
            Ok(picture) => picture,
            Err(reason) => return Ok(Seen::Bad(reason)),
        };
        let seen = match job.view {
            View::Whole => square(&picture, whole(&picture), self.size),
            View::Augmented(augmentation, mut random) => {
                augment(&picture, augmentation, self.size, &mut random)
            }
        };
        let mut pixels = Vec::with_capacity(seen.rgb.len());
        normalize(&seen, &mut pixels);
        Ok(Seen::Pixels(pixels))
    }

    fn picture(&self, image: &Digest) -> Result<Result<Arc<Picture>, String>, OpError> {
        let lock = || {
            self.remembered
                .as_ref()
                .map(|it| it.lock().unwrap_or_else(PoisonError::into_inner))
        };
        if let Some(picture) = lock().and_then(|remembered| remembered.pictures.get(image).cloned())
        {
            return Ok(Ok(picture));
        }
        let picture = match decode(&self.images.bytes(image)?) {
            Ok(picture) => Arc::new(picture),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(mut remembered) = lock()
            && remembered.bytes + picture.rgb.len() <= REMEMBERED_BYTES
            && remembered
                .pictures
                .insert(*image, Arc::clone(&picture))
                .is_none()
        {
            remembered.bytes += picture.rgb.len();
        }
        Ok(Ok(picture))
    }
}

/// Pictures in the order of their jobs.
#[derive(Debug)]
pub(crate) struct Pictures<J> {
    jobs: J,
    seen: Ordered<Job, Seen>,
    ahead: u64,
}

impl<J: Iterator<Item = Job>> Iterator for Pictures<J> {
    type Item = Result<Seen, OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.seen.waiting() < self.ahead {
            let Some(job) = self.jobs.next() else { break };
            self.seen.push(job);
        }
        self.seen.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Place;
    use blip_data::scenes::{Texts, generate};

    /// A file of pictures, the last one cut off, and where they are.
    fn world(folder: &std::path::Path, count: u64) -> (Vec<Place>, std::path::PathBuf) {
        let texts = Texts {
            web: false,
            mismatched: 0.0,
            junk: 0.0,
        };
        let mut pictures: Vec<Vec<u8>> = (0..count)
            .map(|at| generate(5, "web", at, 16, texts).jpeg)
            .collect();
        pictures.last_mut().unwrap().truncate(300);
        let path = folder.join("pictures");
        std::fs::write(&path, pictures.concat()).unwrap();
        let (file, _) = Digest::of_file(&path).unwrap();
        let mut offset = 0;
        let place = |bytes: Vec<u8>| {
            offset += bytes.len() as u64;
            Place {
                image: Digest::of(&bytes),
                file,
                offset: offset - bytes.len() as u64,
                len: bytes.len() as u64,
            }
        };
        (pictures.into_iter().map(place).collect(), path)
    }

    fn loader(places: &[Place], path: &std::path::Path) -> Images {
        Images::new(places.to_vec(), |_| Ok(path.to_path_buf())).unwrap()
    }

    #[test]
    fn pictures_come_in_order_and_remembering_changes_none() {
        let folder = tempfile::tempdir().unwrap();
        let (places, path) = world(folder.path(), 40);
        let augmentation = Augmentation {
            min_scale: 0.3,
            flip: true,
            randaugment: false,
        };
        let jobs = |epochs: u64| {
            let places = places.clone();
            (0..epochs)
                .flat_map(move |_| places.clone())
                .enumerate()
                .map(move |(at, place)| {
                    let view = if at % 3 == 0 {
                        View::Whole
                    } else {
                        View::Augmented(augmentation, Random::new(&[9, at as u64]))
                    };
                    Job {
                        image: place.image,
                        view,
                    }
                })
        };
        let once = Loader::new(loader(&places, &path), 8);
        let many = Loader::remembering(loader(&places, &path), 8);
        let seen = |loader: &Loader| loader.load(jobs(3)).map(Result::unwrap).collect::<Vec<_>>();
        let first = seen(&once);
        assert_eq!(first.len(), 120);
        assert_eq!(first, seen(&many));
        assert_eq!(first, seen(&many));
        assert_eq!(
            many.shared
                .remembered
                .as_ref()
                .unwrap()
                .lock()
                .unwrap()
                .bytes,
            39 * 16 * 16 * 3
        );
        assert_eq!(
            first[39],
            Seen::Bad("truncated: the file ends before the picture does".to_owned())
        );
        let Seen::Pixels(pixels) = &first[0] else {
            panic!("the first picture decodes")
        };
        assert_eq!(pixels.len(), once.floats());
        let bytes = once.shared.images.bytes(&places[0].image).unwrap();
        let picture = decode(&bytes).unwrap();
        let mut expected = Vec::new();
        normalize(&square(&picture, whole(&picture), 8), &mut expected);
        assert_eq!(*pixels, expected);
    }

    #[test]
    fn a_file_that_is_gone_fails_the_load_and_a_load_can_be_left_early() {
        let folder = tempfile::tempdir().unwrap();
        let (places, path) = world(folder.path(), 10);
        let images = loader(&places, &path);
        std::fs::remove_file(&path).unwrap();
        let loader = Loader::new(images, 8);
        let jobs = || {
            places.iter().map(|place| Job {
                image: place.image,
                view: View::Whole,
            })
        };
        let first = loader.load(jobs()).next().unwrap();
        assert_eq!(
            first.unwrap_err().to_string(),
            format!("{} was removed during the run", path.display())
        );
        assert_eq!(loader.load(jobs()).count(), 10);
    }

    #[test]
    fn no_more_than_the_bound_is_loaded_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let (places, path) = world(folder.path(), 2);
        let loader = Loader::new(loader(&places, &path), 8);
        let mut asked = 0;
        let jobs = std::iter::repeat_with(|| {
            asked += 1;
            Job {
                image: places[0].image,
                view: View::Whole,
            }
        });
        let mut pictures = loader.load(jobs);
        for _ in 0..3 {
            assert!(matches!(pictures.next(), Some(Ok(Seen::Pixels(_)))));
        }
        drop(pictures);
        assert_eq!(asked, AHEAD_MAX + 2);
    }
}
