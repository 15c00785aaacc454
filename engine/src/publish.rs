//! Publishing: files that were written in a temporary folder move to where the user wants them.
//!
//! Only files that an earlier publication wrote, and that still have the bytes it wrote, are
//! replaced or removed (`publish/receipt.rs`). Where one is not, nothing is touched and the files
//! are named.
//!
//! The receipt is written before the files move and lists those of the publication before as well,
//! so that a run that is killed in between owns both.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::cache::checksummed;
use crate::cache::disk::{Disk, DiskError, TEMPORARY_PREFIX};
use crate::digest::Digest;
use crate::op::OpError;

pub(crate) mod receipt;

use receipt::{PublishedFile, Receipt};

/// How many files a message names.
const NAMED_MAX: usize = 5;

/// Where results are published: a name in a folder, possibly with `{shard:05}` in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Absolute, without symbolic links as far as it exists.
    folder: PathBuf,
    name: String,
}

/// A file that publishing must not touch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Obstacle {
    /// No publication wrote it.
    Foreign(PathBuf),
    /// It has other bytes than were published.
    Changed(PathBuf),
    /// A folder or something else that a file cannot replace.
    NotAFile(PathBuf),
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

    /// Identifies the destination in leases.
    pub(crate) fn id(&self) -> Digest {
        let path = self.folder.join(&self.name);
        Digest::parts(
            "blip/export-place/2",
            &[path.as_os_str().as_encoded_bytes()],
        )
    }

    /// A folder for what is to be published here, on the same file system. Its name is always the
    /// same, so that what a killed run left is removed by the next one.
    pub fn temporary(&self) -> PathBuf {
        self.folder
            .join(format!("{TEMPORARY_PREFIX}{}", self.id().short()))
    }

    fn receipt_path(&self) -> PathBuf {
        self.folder.join(format!(".{}.blip-export", self.name))
    }

    pub(crate) fn receipt(&self) -> Result<Option<Receipt>, OpError> {
        let path = self.receipt_path();
        Receipt::read(&path).map_err(|error| unreadable(&path, &error))
    }

    /// Fails if there is something here that publishing must not touch, as far as that can be said
    /// before it is known what will be published.
    ///
    /// # Errors
    /// The files, named; or one that cannot be read.
    pub fn check(&self) -> Result<(), OpError> {
        refuse(&self.obstacles(self.receipt()?.as_ref())?)
    }

    pub(crate) fn obstacles(&self, receipt: Option<&Receipt>) -> Result<Vec<Obstacle>, OpError> {
        let mut obstacles = BTreeSet::new();
        let published = receipt.map_or(BTreeSet::new(), Receipt::paths);
        for path in &published {
            let owned = receipt.map(|receipt| receipt.owns(&self.folder, path));
            match owned {
                Some(Ok(false)) => {
                    obstacles.insert(Obstacle::Changed(self.folder.join(path)));
                }
                Some(Err(error)) if !is_absent(&error) => {
                    return Err(unreadable(&self.folder.join(path), &error));
                }
                _ => {}
            }
        }
        for name in self
            .existing_names()
            .map_err(|error| unreadable(&self.folder, &error))?
        {
            let is_published = published.iter().any(|path| path.starts_with(&name));
            if !is_published {
                obstacles.insert(Obstacle::Foreign(self.folder.join(name)));
            }
        }
        Ok(obstacles.into_iter().collect())
    }

    /// The files and folders with the destination's name, or one that its pattern stands for. An
    /// empty folder is in no one's way.
    fn existing_names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(names),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let is_named = name.to_str().is_some_and(|name| self.stands_for(name));
            if is_named && !(entry.file_type()?.is_dir() && is_empty(&entry.path())) {
                names.push(PathBuf::from(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether a file that is published here may have this name: `{...}` is any number.
    fn stands_for(&self, name: &str) -> bool {
        let braces = (self.name.find('{'), self.name.rfind('}'));
        let (Some(open), Some(close)) = braces else {
            return name == self.name;
        };
        if close < open {
            return name == self.name;
        }
        let (before, after) = (&self.name[..open], &self.name[close + 1..]);
        let number = name
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    }

    /// Moves everything in `from` here, and removes what an earlier publication wrote and this one
    /// does not. Files with the same bytes stay as they are. Says whether any byte had to change.
    ///
    /// # Errors
    /// Files in the way, which are named, unless `overwrite` is set; or the disk.
    pub fn publish(
        &self,
        from: &Path,
        input: Digest,
        overwrite: bool,
        disk: &Disk,
    ) -> Result<bool, OpError> {
        self.publish_over(from, input, self.receipt()?, overwrite, disk)
    }

    pub(crate) fn publish_over(
        &self,
        from: &Path,
        input: Digest,
        last: Option<Receipt>,
        overwrite: bool,
        disk: &Disk,
    ) -> Result<bool, OpError> {
        disk.sync_all(from)?;
        let files = PublishedFile::all_below(from).map_err(|error| unreadable(from, &error))?;
        let receipt = Receipt {
            input,
            files,
            earlier: last.map_or(Vec::new(), Receipt::into_earlier),
        };
        let changes = self.changes(&receipt)?;
        let must_stay =
            |obstacle: &&Obstacle| !overwrite || matches!(obstacle, Obstacle::NotAFile(_));
        let obstacles: Vec<Obstacle> = changes
            .obstacles
            .iter()
            .filter(must_stay)
            .cloned()
            .collect();
        refuse(&obstacles)?;
        let has_changes = !changes.is_empty();
        if has_changes {
            disk.write(&self.receipt_path(), &checksummed::encode_json(&receipt))?;
        }
        for path in &changes.stale {
            disk.remove(&self.folder.join(path))?;
            self.remove_empty_folders(path);
        }
        for path in &changes.moved {
            let to = self.folder.join(path);
            // Succeeds for an empty folder only.
            let _ = fs::remove_dir(&to);
            disk.create_folder(to.parent().unwrap_or(&self.folder))?;
            disk.rename(&from.join(path), &to)?;
        }
        self.finish(receipt, disk)?;
        Ok(has_changes)
    }

    /// Writes the receipt of a finished publication: without the files before it, and with the
    /// times of the files that were there already.
    pub(crate) fn finish(&self, receipt: Receipt, disk: &Disk) -> Result<(), DiskError> {
        let with_current_time = |file: PublishedFile| {
            let metadata = fs::symlink_metadata(self.folder.join(&file.path));
            let mtime_ns = metadata.map_or(file.mtime_ns, |metadata| receipt::mtime_ns(&metadata));
            PublishedFile { mtime_ns, ..file }
        };
        let receipt = Receipt {
            input: receipt.input,
            files: receipt.files.into_iter().map(with_current_time).collect(),
            earlier: Vec::new(),
        };
        disk.write(&self.receipt_path(), &checksummed::encode_json(&receipt))
    }

    /// What publishing `receipt.files` over `receipt.earlier` has to do.
    fn changes(&self, receipt: &Receipt) -> Result<Changes, OpError> {
        let mut changes = Changes::default();
        for file in &receipt.files {
            match self.occupant(&file.path) {
                Occupant::None => changes.moved.push(file.path.clone()),
                Occupant::Other(path) => changes.obstacles.push(Obstacle::NotAFile(path)),
                Occupant::File => {
                    let place = self.folder.join(&file.path);
                    let digest = digest_of(&place)?;
                    if digest == file.digest {
                        continue;
                    }
                    if !receipt.wrote(&file.path, digest) {
                        changes
                            .obstacles
                            .push(if receipt.was_published(&file.path) {
                                Obstacle::Changed(place)
                            } else {
                                Obstacle::Foreign(place)
                            });
                    }
                    changes.moved.push(file.path.clone());
                }
            }
        }
        for path in receipt.stale_paths() {
            if !matches!(self.occupant(&path), Occupant::File) {
                continue;
            }
            let place = self.folder.join(&path);
            if !receipt.wrote(&path, digest_of(&place)?) {
                changes.obstacles.push(Obstacle::Changed(place));
            }
            changes.stale.push(path);
        }
        Ok(changes)
    }

    /// What is where a file is to be published.
    fn occupant(&self, path: &Path) -> Occupant {
        let mut parent = self.folder.clone();
        for part in path.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            match fs::symlink_metadata(&parent) {
                Ok(metadata) if !metadata.is_dir() => return Occupant::Other(parent),
                Ok(_) => {}
                Err(_) => return Occupant::None,
            }
        }
        let place = self.folder.join(path);
        match fs::symlink_metadata(&place) {
            Err(_) => Occupant::None,
            Ok(metadata) if metadata.is_file() => Occupant::File,
            Ok(metadata) if metadata.is_dir() && is_empty(&place) => Occupant::None,
            Ok(_) => Occupant::Other(place),
        }
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

impl Receipt {
    /// The paths of the publication before that this one does not write.
    fn stale_paths(&self) -> Vec<PathBuf> {
        let kept: BTreeSet<&Path> = self.files.iter().map(|file| file.path.as_path()).collect();
        let mut stale: Vec<PathBuf> = self
            .earlier
            .iter()
            .map(|file| file.path.clone())
            .filter(|path| !kept.contains(path.as_path()))
            .collect();
        stale.dedup();
        stale
    }

    fn was_published(&self, path: &Path) -> bool {
        self.earlier.iter().any(|file| file.path == path)
    }
}

/// What a publication has to do. Paths are relative to the destination's folder.
#[derive(Default)]
struct Changes {
    moved: Vec<PathBuf>,
    stale: Vec<PathBuf>,
    obstacles: Vec<Obstacle>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.stale.is_empty()
    }
}

/// What is at the path of a file to be published.
enum Occupant {
    None,
    File,
    /// A folder with files in it, a file where a folder is needed, a symbolic link, a device.
    Other(PathBuf),
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn digest_of(path: &Path) -> Result<Digest, OpError> {
    let (digest, _) = Digest::of_file(path).map_err(|error| unreadable(path, &error))?;
    Ok(digest)
}

fn unreadable(path: &Path, error: &io::Error) -> OpError {
    OpError::failed(
        format!("could not read {}: {error}", path.display()),
        "make it readable, or choose another path",
    )
}

/// The error about files in the way, if there are any.
pub(crate) fn refuse(obstacles: &[Obstacle]) -> Result<(), OpError> {
    if obstacles.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> = obstacles
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = obstacles.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let only_files = !obstacles
        .iter()
        .any(|obstacle| matches!(obstacle, Obstacle::NotAFile(_)));
    let help = if only_files {
        "move it away, choose another path, or replace it with --overwrite"
    } else {
        "move it away, or choose another path"
    };
    Err(OpError::failed(named.join("; "), help))
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Obstacle::Foreign(path) => {
                write!(f, "{} exists and was not written by blip", path.display())
            }
            Obstacle::Changed(path) => {
                write!(f, "{} was changed after blip wrote it", path.display())
            }
            Obstacle::NotAFile(path) => {
                write!(f, "{} exists and is not a file", path.display())
            }
        }
    }
}

/// An absolute path with the symbolic links of the part that exists followed and `.` and `..` taken
/// out, so that every place has one name.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut missing: Vec<Component<'_>> = Vec::new();
    let mut existing = absolute.as_path();
    let mut resolved = loop {
        if let Ok(real) = existing.canonicalize() {
            break real;
        }
        let (Some(part), Some(parent)) = (existing.components().next_back(), existing.parent())
        else {
            return absolute;
        };
        missing.push(part);
        existing = parent;
    };
    for part in missing.into_iter().rev() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
    }
    resolved
}
