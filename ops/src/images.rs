//! Where the bytes of images are. Datasets name an image by its digest; its bytes stay in the shard
//! or file they came in.
//!
//! Every reading op publishes a by-product `images` that says where each of its images lies.
//! By-products are outside the output's digest, so re-packed shards change nothing below. The
//! bytes, numbers big-endian, ascending by image:
//!
//! ```text
//! "BLIPIMG1" count:u64 (image:32 file:32 offset:u64 len:u64)*
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use blip_engine::{Digest, OpError, StageCtx};

const MAGIC: &[u8; 8] = b"BLIPIMG1";
const ENTRY: usize = 80;
/// The by-product's name.
const SIDE: &str = "images";
/// Bytes that tell a format.
const HEAD: u64 = 32;
/// Files kept open: a shuffled epoch jumps between shards.
const OPEN_MAX: usize = 32;

/// Where an image's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// The digest of the image's bytes.
    pub(crate) image: Digest,
    /// The digest of the file they are in.
    pub(crate) file: Digest,
    /// Where they begin in it.
    pub(crate) offset: u64,
    /// How many there are.
    pub(crate) len: u64,
}

/// Stores the by-product. Of several places of one image the lowest stays, whatever order they come
/// in.
pub(crate) fn publish(
    ctx: &StageCtx,
    mut places: Vec<Place>,
) -> Result<(&'static str, Digest), OpError> {
    places.sort_unstable();
    places.dedup_by_key(|place| place.image);
    let mut bytes = Vec::with_capacity(16 + ENTRY * places.len());
    bytes.extend(MAGIC);
    bytes.extend((places.len() as u64).to_be_bytes());
    for place in &places {
        bytes.extend(place.image.as_bytes());
        bytes.extend(place.file.as_bytes());
        bytes.extend(place.offset.to_be_bytes());
        bytes.extend(place.len.to_be_bytes());
    }
    Ok((SIDE, ctx.put(&bytes)?))
}

/// The entries of the by-product; none for bytes that are something else.
fn entries(bytes: &[u8]) -> Option<impl Iterator<Item = Place> + '_> {
    let (magic, rest) = bytes.split_at_checked(8)?;
    let (count, rest) = rest.split_at_checked(8)?;
    let count = u64::from_be_bytes(count.try_into().ok()?);
    let whole = magic == MAGIC && usize::try_from(count).ok()?.checked_mul(ENTRY)? == rest.len();
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(Digest::from_bytes);
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    let place = move |entry: &[u8]| {
        Some(Place {
            image: digest(entry.get(..32)?)?,
            file: digest(entry.get(32..64)?)?,
            offset: number(entry.get(64..72)?)?,
            len: number(entry.get(72..)?)?,
        })
    };
    whole.then(|| rest.chunks_exact(ENTRY).filter_map(place))
}

/// An image in the table: 56 bytes, nothing on the heap.
struct Entry {
    image: Digest,
    file: u32,
    offset: u64,
    len: u64,
}

/// The images of all stages above one. Owns all it needs, so threads can share it.
pub(crate) struct Images {
    /// Ascending by image, each once.
    entries: Vec<Entry>,
    /// Ascending by digest.
    files: Vec<(Digest, PathBuf)>,
    /// The files used last, newest at the end.
    open: Mutex<Vec<(u32, Arc<File>)>>,
}

impl Images {
    /// Gathers what the stages above say. To be called when there is work, not while planning: a
    /// plan knows no files.
    pub(crate) fn above(ctx: &StageCtx) -> Result<Self, OpError> {
        let mut places = Vec::new();
        for side in ctx.side_outputs(SIDE) {
            let bytes = ctx.read(&side.digest)?;
            let found = entries(&bytes).ok_or_else(|| {
                OpError::Bug(format!(
                    "`{}` published places of images that cannot be read",
                    side.stage
                ))
            })?;
            places.extend(found);
        }
        Self::new(places, |file| ctx.content_path(file))
    }

    /// Images at these places, in files found by `path`.
    pub(crate) fn new(
        mut places: Vec<Place>,
        path: impl Fn(&Digest) -> Result<PathBuf, OpError>,
    ) -> Result<Self, OpError> {
        places.sort_unstable();
        places.dedup_by_key(|place| place.image);
        let mut digests: Vec<Digest> = places.iter().map(|place| place.file).collect();
        digests.sort_unstable();
        digests.dedup();
        let number = |file: &Digest| {
            digests
                .binary_search(file)
                .ok()
                .and_then(|at| u32::try_from(at).ok())
        };
        let mut entries = Vec::with_capacity(places.len());
        for Place {
            image,
            file,
            offset,
            len,
        } in places
        {
            let file = number(&file)
                .ok_or_else(|| OpError::Bug("more than 2^32 files of images".to_owned()))?;
            entries.push(Entry {
                image,
                file,
                offset,
                len,
            });
        }
        let files = digests
            .into_iter()
            .map(|file| Ok((file, path(&file)?)))
            .collect::<Result<_, OpError>>()?;
        Ok(Self {
            entries,
            files,
            open: Mutex::default(),
        })
    }

    /// How many images there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of an image, checked against its digest.
    pub(crate) fn bytes(&self, image: &Digest) -> Result<Vec<u8>, OpError> {
        let entry = self.entry(image)?;
        let bytes = self.read(entry, entry.len)?;
        if Digest::of(&bytes) == *image {
            Ok(bytes)
        } else {
            Err(self.changed(entry))
        }
    }

    /// The first bytes of an image, unchecked: enough to tell its format.
    pub(crate) fn head(&self, image: &Digest) -> Result<Vec<u8>, OpError> {
        let entry = self.entry(image)?;
        self.read(entry, entry.len.min(HEAD))
    }

    fn entry(&self, image: &Digest) -> Result<&Entry, OpError> {
        let place = self
            .entries
            .binary_search_by(|entry| entry.image.cmp(image))
            .ok();
        place.and_then(|at| self.entries.get(at)).ok_or_else(|| {
            OpError::Bug(format!(
                "no stage above says where the image {} is",
                image.short()
            ))
        })
    }

    fn read(&self, entry: &Entry, len: u64) -> Result<Vec<u8>, OpError> {
        let (digest, path) = self.place(entry);
        let bytes = self.file(entry.file, path).and_then(|file| {
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, entry.offset)?;
            Ok(bytes)
        });
        bytes.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(entry),
            io::ErrorKind::NotFound => gone(digest, path),
            _ => OpError::failed(
                format!("could not read {}: {error}", path.display()),
                "check the file and the disk it is on, then run again",
            ),
        })
    }

    fn place(&self, entry: &Entry) -> &(Digest, PathBuf) {
        self.files
            .get(entry.file as usize)
            .expect("every entry names one of the files")
    }

    fn changed(&self, entry: &Entry) -> OpError {
        let (digest, path) = self.place(entry);
        if is_object(digest, path) {
            return OpError::Damaged(*digest);
        }
        OpError::failed(
            format!(
                "{} changed during the run: the image {} is no longer in it",
                path.display(),
                entry.image.short()
            ),
            "run again when nothing writes to it any more: the file is then read anew",
        )
    }

    fn file(&self, number: u32, path: &Path) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match open.iter().position(|(known, _)| *known == number) {
            Some(at) => open.remove(at),
            None => (number, Arc::new(File::open(path)?)),
        };
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        let file = Arc::clone(&used.1);
        open.push(used);
        Ok(file)
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("images", &self.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Objects bear their digest as their name; everything else is the user's.
fn is_object(digest: &Digest, path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| *name == *digest.to_string())
}

fn gone(digest: &Digest, path: &Path) -> OpError {
    if is_object(digest, path) {
        return OpError::Damaged(*digest);
    }
    OpError::failed(
        format!("{} was removed during the run", path.display()),
        "put it back, or run again to go on without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(folder: &Path, content: &[u8], parts: &[(u64, u64)]) -> Images {
        let path = folder.join("shard.tar");
        std::fs::write(&path, content).unwrap();
        let file = Digest::of(content);
        let place = |(offset, len): &(u64, u64)| Place {
            image: Digest::of(&content[*offset as usize..(offset + len) as usize]),
            file,
            offset: *offset,
            len: *len,
        };
        Images::new(parts.iter().map(place).collect(), |_| Ok(path.clone())).unwrap()
    }

    #[test]
    fn bytes_are_found_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(
            folder.path(),
            b"onetwothree",
            &[(3, 3), (0, 3), (6, 5), (0, 3)],
        );
        assert_eq!(images.len(), 3);
        assert_eq!(images.bytes(&Digest::of(b"two")).unwrap(), b"two");
        assert_eq!(images.bytes(&Digest::of(b"three")).unwrap(), b"three");
        assert_eq!(
            images.bytes(&Digest::of(b"four")).unwrap_err().to_string(),
            format!(
                "no stage above says where the image {} is",
                Digest::of(b"four").short()
            )
        );
    }

    #[test]
    fn a_file_that_changes_under_the_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.tar");
        let what = |images: &Images| {
            let error = images.bytes(&Digest::of(b"two")).unwrap_err();
            (error.to_string(), error.help())
        };
        let images = images(folder.path(), b"onetwothree", &[(3, 3)]);
        std::fs::write(&path, b"oneTWOthree").unwrap();
        let changed = format!(
            "{} changed during the run: the image {} is no longer in it",
            path.display(),
            Digest::of(b"two").short()
        );
        assert_eq!(
            what(&images),
            (
                changed.clone(),
                "run again when nothing writes to it any more: the file is then read anew"
                    .to_owned()
            )
        );
        std::fs::write(&path, b"one").unwrap();
        assert_eq!(what(&images).0, changed);
        images.open.lock().unwrap().clear();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            what(&images),
            (
                format!("{} was removed during the run", path.display()),
                "put it back, or run again to go on without it".to_owned()
            )
        );
    }

    #[test]
    fn a_changed_object_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = Digest::of(b"object");
        let path = folder.path().join(file.to_string());
        std::fs::write(&path, b"0bject").unwrap();
        let place = Place {
            image: file,
            file,
            offset: 0,
            len: 6,
        };
        let images = Images::new(vec![place], |_| Ok(path.clone())).unwrap();
        assert!(matches!(images.bytes(&file), Err(OpError::Damaged(damaged)) if damaged == file));
    }

    #[test]
    fn more_files_than_may_be_open_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<Vec<u8>> = (0..100_u8).map(|at| vec![at; 5]).collect();
        let path = |digest: &Digest| folder.path().join(format!("{digest}.jpg"));
        for name in &names {
            std::fs::write(path(&Digest::of(name)), name).unwrap();
        }
        let place = |name: &Vec<u8>| Place {
            image: Digest::of(name),
            file: Digest::of(name),
            offset: 0,
            len: 5,
        };
        let images = Images::new(names.iter().map(place).collect(), |file| Ok(path(file))).unwrap();
        for name in names.iter().chain(names.iter().rev()) {
            assert_eq!(images.bytes(&Digest::of(name)).unwrap(), *name);
        }
        assert_eq!(images.open.lock().unwrap().len(), OPEN_MAX);
    }

    proptest::proptest! {
        #[test]
        fn damaged_bytes_are_no_places(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            proptest::prop_assert!(entries(&bytes).is_none());
            let magic = [MAGIC.as_slice(), &bytes].concat();
            let _ = entries(&magic).map(Iterator::count);
        }
    }
}
