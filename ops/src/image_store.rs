//! Where the bytes of images are. Datasets name an image by its digest; its bytes stay in the shard
//! or file they came in.
//!
//! Every reading op publishes a side output `images` that says where each of its images lies. Side
//! outputs are not part of the output's digest, so repacked shards change nothing downstream. The
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
/// The magic and the count.
const HEADER_BYTES: usize = 16;
const LOCATION_BYTES: usize = 80;
const SIDE_OUTPUT: &str = "images";
/// Files kept open. A shuffled epoch jumps between shards, and opening one for every image costs
/// more than reading it.
const OPEN_FILES_MAX: usize = 32;

/// Where the bytes of an image are: a byte range of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ImageLocation {
    pub(crate) image: Digest,
    pub(crate) file: Digest,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Stores the side output and returns its name and digest.
pub(crate) fn publish(
    ctx: &StageCtx,
    mut locations: Vec<ImageLocation>,
) -> Result<(&'static str, Digest), OpError> {
    sort_unique(&mut locations);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + LOCATION_BYTES * locations.len());
    bytes.extend(MAGIC);
    bytes.extend((locations.len() as u64).to_be_bytes());
    for location in &locations {
        bytes.extend(location.image.as_bytes());
        bytes.extend(location.file.as_bytes());
        bytes.extend(location.offset.to_be_bytes());
        bytes.extend(location.len.to_be_bytes());
    }
    Ok((SIDE_OUTPUT, ctx.put(&bytes)?))
}

/// Of several locations of one image the lowest stays, so that the order in which they were found
/// does not matter.
fn sort_unique(locations: &mut Vec<ImageLocation>) {
    locations.sort_unstable();
    locations.dedup_by_key(|location| location.image);
}

/// The locations in a side output; `None` when the bytes are something else.
fn parse_locations(bytes: &[u8]) -> Option<impl Iterator<Item = ImageLocation> + '_> {
    let (magic, rest) = bytes.split_at_checked(8)?;
    let (count, rest) = rest.split_at_checked(8)?;
    let count = u64::from_be_bytes(count.try_into().ok()?);
    let expected_len = usize::try_from(count).ok()?.checked_mul(LOCATION_BYTES)?;
    if magic != MAGIC || rest.len() != expected_len {
        return None;
    }
    Some(rest.chunks_exact(LOCATION_BYTES).filter_map(parse_location))
}

fn parse_location(bytes: &[u8]) -> Option<ImageLocation> {
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(Digest::from_bytes);
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    Some(ImageLocation {
        image: digest(bytes.get(..32)?)?,
        file: digest(bytes.get(32..64)?)?,
        offset: number(bytes.get(64..72)?)?,
        len: number(bytes.get(72..)?)?,
    })
}

/// A row of the table: 56 bytes and nothing on the heap, since there are millions of them. `file`
/// is a position in [`ImageStore::files`].
struct Row {
    image: Digest,
    file: u32,
    offset: u64,
    len: u64,
}

/// Reads images by their digests. Owns all it needs, so threads can share it.
pub(crate) struct ImageStore {
    /// Ascending by image, each once.
    rows: Vec<Row>,
    /// Ascending by digest.
    files: Vec<(Digest, PathBuf)>,
    /// The most recently used files, newest at the end.
    open: Mutex<Vec<(u32, Arc<File>)>>,
}

impl ImageStore {
    /// The images of all upstream stages. To be called when there is work to do, not while
    /// planning: a plan has no files yet.
    pub(crate) fn of_upstream(ctx: &StageCtx) -> Result<Self, OpError> {
        let mut locations = Vec::new();
        for side_output in ctx.side_outputs(SIDE_OUTPUT) {
            let bytes = ctx.read(&side_output.digest)?;
            let parsed = parse_locations(&bytes).ok_or_else(|| {
                OpError::Bug(format!(
                    "the image locations published by `{}` cannot be read",
                    side_output.stage
                ))
            })?;
            locations.extend(parsed);
        }
        Self::new(locations, |file| ctx.content_path(file))
    }

    /// The images at these locations; `path` finds a file by its digest.
    pub(crate) fn new(
        mut locations: Vec<ImageLocation>,
        path: impl Fn(&Digest) -> Result<PathBuf, OpError>,
    ) -> Result<Self, OpError> {
        sort_unique(&mut locations);
        let mut digests: Vec<Digest> = locations.iter().map(|location| location.file).collect();
        digests.sort_unstable();
        digests.dedup();
        let rows = locations
            .into_iter()
            .map(|location| row(&location, &digests))
            .collect::<Result<Vec<Row>, OpError>>()?;
        let mut files = Vec::with_capacity(digests.len());
        for file in digests {
            files.push((file, path(&file)?));
        }
        Ok(Self {
            rows,
            files,
            open: Mutex::default(),
        })
    }

    /// How many images there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The bytes of an image, checked against its digest: the user's files may change under a run.
    pub(crate) fn bytes(&self, image: &Digest) -> Result<Vec<u8>, OpError> {
        let row = self.row(image)?;
        let bytes = self.read(row)?;
        if Digest::of(&bytes) == *image {
            Ok(bytes)
        } else {
            Err(self.changed_error(row))
        }
    }

    fn row(&self, image: &Digest) -> Result<&Row, OpError> {
        let position = self.rows.binary_search_by(|row| row.image.cmp(image)).ok();
        let row = position.and_then(|position| self.rows.get(position));
        row.ok_or_else(|| {
            OpError::Bug(format!(
                "no upstream stage has a location for the image {}",
                image.short()
            ))
        })
    }

    fn read(&self, row: &Row) -> Result<Vec<u8>, OpError> {
        self.try_read(row).map_err(|error| {
            let (digest, path) = self.file_of(row);
            match error.kind() {
                io::ErrorKind::UnexpectedEof => self.changed_error(row),
                io::ErrorKind::NotFound => removed_error(digest, path),
                _ => OpError::failed(
                    format!("could not read {}: {error}", path.display()),
                    "check the file and the disk it is on, then run again",
                ),
            }
        })
    }

    fn try_read(&self, row: &Row) -> io::Result<Vec<u8>> {
        let (_, path) = self.file_of(row);
        let file = self.open_file(row.file, path)?;
        let mut bytes = vec![0; usize::try_from(row.len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, row.offset)?;
        Ok(bytes)
    }

    fn file_of(&self, row: &Row) -> &(Digest, PathBuf) {
        self.files
            .get(row.file as usize)
            .expect("every row names one of the files")
    }

    /// Takes the file from the least-recently-used list, or opens it.
    fn open_file(&self, number: u32, path: &Path) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match open.iter().position(|(known, _)| *known == number) {
            Some(position) => open.remove(position),
            None => (number, Arc::new(File::open(path)?)),
        };
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        let file = Arc::clone(&entry.1);
        open.push(entry);
        Ok(file)
    }

    fn changed_error(&self, row: &Row) -> OpError {
        let (digest, path) = self.file_of(row);
        if is_object(digest, path) {
            return OpError::Corrupt(*digest);
        }
        OpError::failed(
            format!(
                "{} changed during the run: the image {} is no longer in it",
                path.display(),
                row.image.short()
            ),
            "run again once nothing writes to the file: it is then read again",
        )
    }
}

/// The table's row for a location, whose file is one of the ascending `files`.
fn row(location: &ImageLocation, files: &[Digest]) -> Result<Row, OpError> {
    let file = files
        .binary_search(&location.file)
        .ok()
        .and_then(|position| u32::try_from(position).ok())
        .ok_or_else(|| OpError::Bug("more than 2^32 image files".to_owned()))?;
    Ok(Row {
        image: location.image,
        file,
        offset: location.offset,
        len: location.len,
    })
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore")
            .field("images", &self.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Whether a file is an object of the cache, which the engine can recompute. Objects bear their
/// digest as their name; every other file is the user's, and only the user can restore it.
fn is_object(digest: &Digest, path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| *name == *digest.to_string())
}

fn removed_error(digest: &Digest, path: &Path) -> OpError {
    if is_object(digest, path) {
        return OpError::Corrupt(*digest);
    }
    OpError::failed(
        format!("{} was removed during the run", path.display()),
        "restore the file, or run again to continue without it",
    )
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;

    use super::*;

    fn store(folder: &Path, content: &[u8], ranges: &[(u64, u64)]) -> ImageStore {
        let path = folder.join("shard.tar");
        std::fs::write(&path, content).unwrap();
        let file = Digest::of(content);
        let location = |(offset, len): &(u64, u64)| ImageLocation {
            image: Digest::of(&content[*offset as usize..(offset + len) as usize]),
            file,
            offset: *offset,
            len: *len,
        };
        ImageStore::new(ranges.iter().map(location).collect(), |_| Ok(path.clone())).unwrap()
    }

    #[test]
    fn bytes_are_found_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let images = store(
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
                "no upstream stage has a location for the image {}",
                Digest::of(b"four").short()
            )
        );
    }

    #[test]
    fn a_file_that_changes_during_the_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.tar");
        let failure = |images: &ImageStore| {
            let error = images.bytes(&Digest::of(b"two")).unwrap_err();
            (error.to_string(), error.help())
        };
        let images = store(folder.path(), b"onetwothree", &[(3, 3)]);
        std::fs::write(&path, b"oneTWOthree").unwrap();
        let changed = format!(
            "{} changed during the run: the image {} is no longer in it",
            path.display(),
            Digest::of(b"two").short()
        );
        assert_eq!(
            failure(&images),
            (
                changed.clone(),
                "run again once nothing writes to the file: it is then read again".to_owned()
            )
        );
        std::fs::write(&path, b"one").unwrap();
        assert_eq!(failure(&images).0, changed);
        images.open.lock().unwrap().clear();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            failure(&images),
            (
                format!("{} was removed during the run", path.display()),
                "restore the file, or run again to continue without it".to_owned()
            )
        );
    }

    #[test]
    fn a_changed_object_is_reported_as_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let file = Digest::of(b"object");
        let path = folder.path().join(file.to_string());
        std::fs::write(&path, b"0bject").unwrap();
        let location = ImageLocation {
            image: file,
            file,
            offset: 0,
            len: 6,
        };
        let images = ImageStore::new(vec![location], |_| Ok(path.clone())).unwrap();
        let error = images.bytes(&file).unwrap_err();
        assert!(matches!(error, OpError::Corrupt(digest) if digest == file));
    }

    #[test]
    fn more_files_than_may_be_open_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; 5]).collect();
        let path = |digest: &Digest| folder.path().join(format!("{digest}.jpg"));
        for content in &contents {
            std::fs::write(path(&Digest::of(content)), content).unwrap();
        }
        let location = |content: &Vec<u8>| ImageLocation {
            image: Digest::of(content),
            file: Digest::of(content),
            offset: 0,
            len: 5,
        };
        let locations = contents.iter().map(location).collect();
        let images = ImageStore::new(locations, |file| Ok(path(file))).unwrap();
        for content in contents.iter().chain(contents.iter().rev()) {
            assert_eq!(images.bytes(&Digest::of(content)).unwrap(), *content);
        }
        assert_eq!(images.open.lock().unwrap().len(), OPEN_FILES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn corrupt_bytes_are_no_locations(bytes in vec(any::<u8>(), 0..200)) {
            proptest::prop_assert!(parse_locations(&bytes).is_none());
            let magic = [MAGIC.as_slice(), &bytes].concat();
            let _ = parse_locations(&magic).map(Iterator::count);
        }
    }
}
