//! Publishing: files that were written in a temporary folder move to where the user wants them.
//!
//! Only files that an earlier publication wrote, and that still have the bytes it wrote, are
//! replaced or removed (`publish/receipt.rs`). Where one is not, nothing is touched and the files
//! are named.
//!
//! The receipt is written before the files move and lists those of the publication before as well,
//! so that a run that is killed in between owns both.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cache::checksummed;
use crate::cache::disk::{Disk, DiskError, TEMPORARY_PREFIX};
use crate::digest::Digest;
use crate::op::OpError;

mod locations;
mod obstacle;
pub(crate) mod receipt;
mod staging;

pub(crate) use self::locations::{around_number, is_numbered, is_same_file, resolve};
use self::locations::{file_among, is_empty};
pub use self::obstacle::Obstacle;
pub(crate) use self::obstacle::refuse;
pub use self::staging::Staging;
use receipt::{PublishedFile, Receipt, stat};

/// How the name of a receipt ends.
pub(crate) const RECEIPT_SUFFIX: &str = ".blip-export";
/// Where results are published: a name in a folder, possibly with `{shard:05}` in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Absolute, without symbolic links as far as it exists.
    folder: PathBuf,
    name: String,
}

impl Destination {
    /// The destination with this path; none for a path without a last part.
    pub fn of(path: &Path) -> Option<Self> {
        // The last part of `out/..` is no name.
        path.file_name()?;
        let path = resolve(path);
        let name = path.file_name()?.to_str()?.to_owned();
        let folder = path.parent()?.to_path_buf();
        Some(Self { folder, name })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Identifies the destination.
    fn id(&self) -> Digest {
        let path = self.folder.join(&self.name);
        Digest::parts(
            "blip/export-place/2",
            &[path.as_os_str().as_encoded_bytes()],
        )
    }

    /// A folder for what is to be published here, on the same file system. Its name is always the
    /// same, so that what a killed run left is removed by the next one.
    fn temporary(&self) -> PathBuf {
        self.folder
            .join(format!("{TEMPORARY_PREFIX}{}", self.id().short()))
    }

    /// Begins a publication. As long as another process publishes here, `keep_waiting` is asked;
    /// `None` when it says no.
    ///
    /// # Errors
    /// [`OpError::Disk`].
    pub fn stage(
        &self,
        disk: &Disk,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<Option<Staging>, OpError> {
        disk.create_folder(&self.folder)?;
        Ok(Staging::acquire(self.temporary(), disk, keep_waiting)?)
    }

    /// The error of a run that does not wait for another process to publish here.
    pub fn busy(&self) -> OpError {
        OpError::failed(
            format!(
                "another process writes {}",
                self.folder.join(&self.name).display()
            ),
            "wait for that process to finish, then run again",
        )
    }

    /// Removes what a killed process left here, if there is something and it can be removed.
    pub(crate) fn remove_leftover(&self, disk: &Disk) {
        if Staging::is_left(&self.temporary()) {
            let _ = self.stage(disk, || false);
        }
    }

    fn receipt_path(&self) -> PathBuf {
        self.folder.join(format!(".{}{RECEIPT_SUFFIX}", self.name))
    }

    pub(crate) fn receipt(&self, disk: &Disk) -> Result<Option<Receipt>, OpError> {
        Receipt::read(&self.receipt_path(), disk).map_err(unreadable)
    }

    /// Written in `staging` first, and not where a cache has its temporary files: that may be
    /// another file system.
    fn write_receipt(
        &self,
        receipt: &Receipt,
        staging: &Staging,
        disk: &Disk,
    ) -> Result<(), DiskError> {
        let temporary = staging.folder().join(format!("{TEMPORARY_PREFIX}receipt"));
        disk.write_synced(&temporary, &checksummed::encode_json(receipt))?;
        disk.rename(&temporary, &self.receipt_path())
    }

    /// Fails if there is something here that publishing must not touch, as far as that can be said
    /// before it is known what will be published. `beside` are further names that it will have.
    ///
    /// # Errors
    /// The files, named; or one that cannot be read.
    pub fn check(&self, beside: &[&str], disk: &Disk) -> Result<(), OpError> {
        let receipt = self.receipt(disk)?;
        let mut obstacles = self.obstacles(receipt.as_ref(), disk)?;
        let published = receipt.map_or(BTreeSet::new(), |receipt| receipt.paths());
        for name in beside {
            let place = self.folder.join(name);
            if !published.contains(Path::new(name)) && place.symlink_metadata().is_ok() {
                obstacles.push(Obstacle::Foreign(place));
            }
        }
        refuse(&obstacles, false)
    }

    pub(crate) fn obstacles(
        &self,
        receipt: Option<&Receipt>,
        disk: &Disk,
    ) -> Result<Vec<Obstacle>, OpError> {
        let mut obstacles = BTreeSet::new();
        if let Some(file) = file_among(&self.folder) {
            obstacles.insert(Obstacle::NotAFolder(file.to_path_buf()));
            return Ok(obstacles.into_iter().collect());
        }
        // Of the files and folders that were published, the names in the destination's folder.
        let mut published: BTreeSet<PathBuf> = BTreeSet::new();
        if let Some(receipt) = receipt {
            for path in receipt.paths() {
                if !receipt
                    .owns(&self.folder, &path, disk)
                    .map_err(unreadable)?
                {
                    obstacles.insert(Obstacle::Changed(self.folder.join(&path)));
                }
                published.extend(path.iter().next().map(PathBuf::from));
            }
        }
        for name in self.existing_names(disk).map_err(unreadable)? {
            if !published.contains(&name) {
                obstacles.insert(Obstacle::Foreign(self.folder.join(name)));
            }
        }
        Ok(obstacles.into_iter().collect())
    }

    /// The files and folders with the destination's name, or one that its pattern stands for. An
    /// empty folder is in no one's way.
    fn existing_names(&self, disk: &Disk) -> Result<Vec<PathBuf>, DiskError> {
        let names = disk.list_names(&self.folder)?;
        let is_in_the_way = |name: &String| {
            let path = self.folder.join(name);
            self.stands_for(name) && !(path.is_dir() && is_empty(&path))
        };
        Ok(names
            .into_iter()
            .filter(is_in_the_way)
            .map(PathBuf::from)
            .collect())
    }

    /// Whether a file that is published here may have this name: `{...}` is any number.
    fn stands_for(&self, name: &str) -> bool {
        match around_number(&self.name) {
            Some((before, after)) => is_numbered(name, before, after),
            None => name == self.name,
        }
    }

    /// Moves everything in `staging` here, and removes what an earlier publication wrote and this
    /// one does not. Files with the same bytes stay as they are. Says whether any byte had to
    /// change.
    ///
    /// # Errors
    /// Files in the way, which are named, unless `overwrite` is set; or the disk.
    pub fn publish(
        &self,
        staging: &Staging,
        input: Digest,
        overwrite: bool,
        disk: &Disk,
    ) -> Result<bool, OpError> {
        let last = self.receipt(disk)?;
        self.publish_over(staging, input, last, overwrite, &|_, _| false, disk)
    }

    /// As [`Destination::publish`], over the publication of `last`. A file with this digest
    /// that `is_input` is replaced in no case.
    pub(crate) fn publish_over(
        &self,
        staging: &Staging,
        input: Digest,
        last: Option<Receipt>,
        overwrite: bool,
        is_input: &dyn Fn(&Path, &Digest) -> bool,
        disk: &Disk,
    ) -> Result<bool, OpError> {
        let from = staging.folder();
        disk.sync_all(from)?;
        let files = PublishedFile::all_below(from, disk).map_err(unreadable)?;
        if files.is_empty() {
            // Of a receipt without files everything would be there.
            return Err(OpError::Bug("there is no file to publish".to_owned()));
        }
        let receipt = Receipt {
            input,
            files,
            earlier: last.map_or(Vec::new(), Receipt::into_earlier),
        };
        let changes = self.changes(&receipt, is_input, disk).map_err(unreadable)?;
        refuse(&changes.obstacles, overwrite)?;
        let has_changes = !changes.is_empty();
        if has_changes {
            self.write_receipt(&receipt, staging, disk)?;
        }
        for (path, stamp) in &changes.stale {
            self.check_unchanged(path, Some(*stamp), disk)?;
            disk.remove(&self.folder.join(path))?;
            self.remove_empty_folders(path);
        }
        for (path, stamp) in &changes.moved {
            self.check_unchanged(path, *stamp, disk)?;
            let to = self.folder.join(path);
            // Succeeds for an empty folder only.
            let _ = fs::remove_dir(&to);
            disk.create_folder(to.parent().unwrap_or(&self.folder))?;
            if stamp.is_some() {
                disk.rename(&from.join(path), &to)?;
            } else if !disk.rename_new(&from.join(path), &to)? {
                refuse(&[Obstacle::Foreign(to)], false)?;
            }
        }
        self.finish(receipt.with_times(&changes.kept), staging, disk)?;
        Ok(has_changes)
    }

    /// Fails if a file is no longer what it was when its digest decided: someone edits it.
    fn check_unchanged(
        &self,
        path: &Path,
        before: Option<Stamp>,
        disk: &Disk,
    ) -> Result<(), OpError> {
        let place = self.folder.join(path);
        let metadata = stat(&place, disk).map_err(unreadable)?;
        let now = metadata
            .filter(Metadata::is_file)
            .map(|file| Stamp::of(&file));
        if now == before {
            return Ok(());
        }
        Err(OpError::failed(
            format!("{} was changed while it was exported", place.display()),
            "run again when nothing else writes to it",
        ))
    }

    /// Writes the receipt of a finished publication: without the files before it.
    pub(crate) fn finish(
        &self,
        receipt: Receipt,
        staging: &Staging,
        disk: &Disk,
    ) -> Result<(), DiskError> {
        let receipt = Receipt {
            earlier: Vec::new(),
            ..receipt
        };
        self.write_receipt(&receipt, staging, disk)
    }

    /// What publishing `receipt.files` over `receipt.earlier` has to do.
    fn changes(
        &self,
        receipt: &Receipt,
        is_input: &dyn Fn(&Path, &Digest) -> bool,
        disk: &Disk,
    ) -> Result<Changes, DiskError> {
        let mut changes = Changes::default();
        for file in &receipt.files {
            let stamp = match self.occupant(&file.path, disk)? {
                Occupant::None => None,
                Occupant::Other(path) => {
                    changes.obstacles.push(Obstacle::NotAFile(path));
                    continue;
                }
                Occupant::File(digest, stamp) if digest == file.digest => {
                    changes.kept.push((file.path.clone(), stamp));
                    continue;
                }
                Occupant::File(digest, stamp) => {
                    changes
                        .obstacles
                        .extend(self.obstacle(receipt, is_input, &file.path, digest));
                    Some(stamp)
                }
            };
            changes.moved.push((file.path.clone(), stamp));
        }
        for path in receipt.stale_paths() {
            if let Occupant::File(digest, stamp) = self.occupant(&path, disk)? {
                changes
                    .obstacles
                    .extend(self.obstacle(receipt, is_input, &path, digest));
                changes.stale.push((path, stamp));
            }
        }
        Ok(changes)
    }

    /// Why a file with this content must not be replaced or removed, if it must not.
    fn obstacle(
        &self,
        receipt: &Receipt,
        is_input: &dyn Fn(&Path, &Digest) -> bool,
        path: &Path,
        digest: Digest,
    ) -> Option<Obstacle> {
        if is_input(&self.folder.join(path), &digest) {
            Some(Obstacle::Input(self.folder.join(path)))
        } else if receipt.wrote(path, digest) {
            None
        } else if receipt.earlier.iter().any(|file| file.path == path) {
            Some(Obstacle::Changed(self.folder.join(path)))
        } else {
            Some(Obstacle::Foreign(self.folder.join(path)))
        }
    }

    /// What is where a file is to be published.
    fn occupant(&self, path: &Path, disk: &Disk) -> Result<Occupant, DiskError> {
        let mut parent = self.folder.clone();
        for part in path.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            match stat(&parent, disk)? {
                Some(metadata) if !metadata.is_dir() => return Ok(Occupant::Other(parent)),
                Some(_) => {}
                None => return Ok(Occupant::None),
            }
        }
        let place = self.folder.join(path);
        Ok(match stat(&place, disk)? {
            None => Occupant::None,
            Some(metadata) if metadata.is_file() => {
                let stamp = Stamp::of(&metadata);
                let digest = disk.digest_of(&place)?;
                digest.map_or(Occupant::None, |digest| Occupant::File(digest, stamp))
            }
            Some(metadata) if metadata.is_dir() && is_empty(&place) => Occupant::None,
            Some(_) => Occupant::Other(place),
        })
    }

    /// Removes the folders that a removed file leaves empty, up to the destination's own.
    fn remove_empty_folders(&self, file: &Path) {
        for folder in file
            .ancestors()
            .skip(1)
            .take_while(|path| !path.as_os_str().is_empty())
        {
            // Fails where something of the user's is in it, which then stays.
            if fs::remove_dir(self.folder.join(folder)).is_err() {
                return;
            }
        }
    }
}

/// What a publication has to do. Paths are relative to the destination's folder.
#[derive(Default)]
struct Changes {
    /// Files that have their bytes already.
    kept: Vec<(PathBuf, Stamp)>,
    /// Each with what is there now.
    moved: Vec<(PathBuf, Option<Stamp>)>,
    stale: Vec<(PathBuf, Stamp)>,
    obstacles: Vec<Obstacle>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.stale.is_empty()
    }
}

/// What tells whether a file is still the one that was digested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    inode: u64,
    len: u64,
    pub(crate) mtime_ns: i128,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            mtime_ns: receipt::mtime_ns(metadata),
        }
    }
}

/// What is at the path of a file to be published.
enum Occupant {
    None,
    /// A file with this content.
    File(Digest, Stamp),
    /// A folder with files in it, a file where a folder is needed, a symbolic link, a device.
    Other(PathBuf),
}

pub(crate) fn unreadable(error: DiskError) -> OpError {
    OpError::failed(
        error.to_string(),
        "make it readable, or choose another path",
    )
}
