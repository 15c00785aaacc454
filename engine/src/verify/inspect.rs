//! The look itself: records first, since they say what has to be there, then everything by its
//! folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Affected, Damage, Level, Report, Wrong};
use crate::cache::Cache;
use crate::cache::checkpoints;
use crate::cache::ledger::Ledger;
use crate::cache::map_tables::MapTable;
use crate::cache::records::Record;
use crate::cache::sealed;
use crate::dataset;
use crate::digest::Digest;
use crate::key;

/// Looks over an open cache.
pub(crate) fn inspect(cache: &Cache, level: Level) -> Report {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    let mut look = Look {
        cache,
        level,
        salt: now.to_be_bytes(),
        needed: BTreeMap::new(),
        report: Report::default(),
    };
    if let Some(aside) = cache.index_aside() {
        look.report.damage.push(Damage {
            path: look.cache.folder().join("index"),
            wrong: Wrong::Index("the index cannot be opened".to_owned()),
            aside: Some(aside),
            affected: Vec::new(),
        });
    }
    look.records();
    look.evicted();
    look.objects();
    look.missing();
    look.groups("units");
    look.groups("files");
    for stage in list(&look.cache.folder().join("checkpoints")) {
        look.checkpoints(&stage);
    }
    for training in list(&look.cache.folder().join("growth")) {
        list(&training)
            .iter()
            .for_each(|value| look.checkpoints(value));
    }
    look.small_files("exports", |bytes| {
        sealed::open::<serde_json::Value>(bytes)
            .err()
            .map(|error| error.to_string())
    });
    // What these two name may be gone: whoever uses them looks. Their digests are what can be
    // wrong.
    look.small_files("ledgers", |bytes| {
        Ledger::wrong(bytes).map(|error| error.to_string())
    });
    look.small_files("maps", |bytes| {
        MapTable::wrong(bytes).map(|error| error.to_string())
    });
    look.report
}

/// What needs an object.
struct Needed {
    by: BTreeSet<Affected>,
    /// When the newest record that names it was written. An object is there before its record is.
    recorded: SystemTime,
}

struct Look<'a> {
    cache: &'a Cache,
    level: Level,
    /// Makes every subset another one.
    salt: [u8; 16],
    /// What needs each object.
    needed: BTreeMap<Digest, Needed>,
    report: Report,
}

impl Look<'_> {
    /// Whether to read the content of the file of this name.
    fn looks_inside(&self, name: &str) -> bool {
        match self.level {
            Level::Quick => false,
            Level::Full => true,
            Level::Subset(share) => {
                let drawn = Digest::parts("blip/subset/1", &[&self.salt, name.as_bytes()]);
                let [first, second, third, fourth, ..] = *drawn.as_bytes();
                let drawn = f64::from(u32::from_be_bytes([first, second, third, fourth]));
                drawn < share * f64::from(u32::MAX)
            }
        }
    }

    /// Notes damage and moves the file away. What is gone by now was removed by somebody who may.
    fn found(&mut self, path: &Path, wrong: Wrong, affected: Vec<Affected>) {
        if path.symlink_metadata().is_err() {
            return;
        }
        let aside = self.cache.set_aside(path);
        self.report.damage.push(Damage {
            path: path.to_path_buf(),
            wrong,
            aside,
            affected,
        });
    }

    /// The files of a folder of digests, with the digests that their names are.
    fn named(&mut self, folder: &str) -> Vec<(PathBuf, Digest)> {
        let mut files = Vec::new();
        for inner in list(&self.cache.folder().join(folder)) {
            for path in list(&inner) {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                let shard = inner
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                match name.parse::<Digest>() {
                    Ok(digest)
                        if !shard.is_empty() && digest.to_string().get(..2) == Some(shard) =>
                    {
                        files.push((path, digest));
                    }
                    _ => self.report.strangers.push(path),
                }
            }
        }
        files
    }

    fn records(&mut self) {
        for (path, key) in self.named("results") {
            let Some(record) = self.record(&path, &key, true) else {
                continue;
            };
            let recorded = modified(fs::metadata(&path));
            let affected = Affected {
                stage: record.stage.clone(),
                key,
            };
            for object in record.needs() {
                let new = || Needed {
                    by: BTreeSet::new(),
                    recorded,
                };
                let needed = self.needed.entry(*object).or_insert_with(new);
                needed.by.insert(affected.clone());
                needed.recorded = needed.recorded.max(recorded);
            }
        }
    }

    /// Records of what was removed: they need nothing any more.
    fn evicted(&mut self) {
        for (path, key) in self.named("evicted") {
            drop(self.record(&path, &key, false));
        }
    }

    /// The record in a file, if it is whole and of this version. A result goes with a record that
    /// `stands` for one.
    fn record(&mut self, path: &Path, key: &Digest, stands: bool) -> Option<Record> {
        let affected = |stage: String| {
            if stands {
                vec![Affected { stage, key: *key }]
            } else {
                Vec::new()
            }
        };
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(wrong) => {
                self.found(path, wrong, affected(String::new()));
                return None;
            }
        };
        self.report.records += u64::from(stands);
        match Record::open(&bytes) {
            Ok(Some(record)) if key::of_fields(&record.key_inputs) != *key => {
                let wrong = Wrong::Record("it is the record of another key".to_owned());
                self.found(path, wrong, affected(record.stage));
                None
            }
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                self.report.other_versions += u64::from(stands);
                None
            }
            Err(error) => {
                self.found(
                    path,
                    Wrong::Record(error.to_string()),
                    affected(String::new()),
                );
                None
            }
        }
    }

    fn objects(&mut self) {
        for (path, digest) in self.named("objects") {
            self.report.objects += 1;
            let needed = self.needed.remove(&digest);
            if needed.is_none() {
                self.report.unneeded += 1;
            }
            let recorded = needed.as_ref().map(|needed| needed.recorded);
            if let Some(wrong) = self.wrong_content(&path, &digest, recorded) {
                self.found(
                    &path,
                    wrong,
                    needed.into_iter().flat_map(|needed| needed.by).collect(),
                );
            }
        }
    }

    /// What is wrong with a file that is named by its digest, and that was there when something was
    /// recorded of it.
    fn wrong_content(
        &mut self,
        path: &Path,
        digest: &Digest,
        recorded: Option<SystemTime>,
    ) -> Option<Wrong> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return Some(Wrong::Unreadable(error.to_string())),
        };
        if !metadata.is_file() {
            return Some(Wrong::NotAFile);
        }
        if metadata.len() == 0 && *digest != Digest::of(b"") {
            return Some(Wrong::Empty);
        }
        let len = metadata.len();
        let changed = recorded.is_some_and(|recorded| modified(Ok(metadata)) > recorded);
        // A suspicion: what an op stored may look like a chunk and be none.
        let suspect = || changed || !dataset::has_its_length(path, len).is_ok_and(|right| right);
        if !self.looks_inside(&digest.to_string()) && !suspect() {
            return None;
        }
        self.report.bytes += len;
        match Digest::of_file(path) {
            Ok((found, _)) => (found != *digest).then_some(Wrong::Bytes),
            Err(error) => Some(Wrong::Unreadable(error.to_string())),
        }
    }

    /// Objects that records need and that are not there.
    fn missing(&mut self) {
        for (digest, needed) in std::mem::take(&mut self.needed) {
            // A run that goes on at the same time may have made it since it was looked for.
            if !self.cache.objects.contains(&digest) {
                let path = self.cache.objects.place(&digest);
                let affected = needed.by.into_iter().collect();
                self.report.damage.push(Damage {
                    path,
                    wrong: Wrong::Missing,
                    aside: None,
                    affected,
                });
            }
        }
    }

    fn groups(&mut self, folder: &str) {
        let mut lying = false;
        for (path, digest) in self.named(folder) {
            self.report.groups += 1;
            if let Some(wrong) = self.wrong_content(&path, &digest, None) {
                self.found(&path, wrong, Vec::new());
            } else if folder == "units" && self.looks_inside(&digest.to_string()) {
                lying |= !self.cache.index_agrees(&digest);
            }
        }
        if folder == "units" {
            self.report.index = self.cache.has_index() && self.level != Level::Quick;
            if lying && self.cache.has_index() {
                self.cache.condemn_index();
                let wrong = Wrong::Index(
                    "the index does not say what the results say; the next run builds it again"
                        .to_owned(),
                );
                let path = self.cache.folder().join("index");
                self.report.damage.push(Damage {
                    path,
                    wrong,
                    aside: None,
                    affected: Vec::new(),
                });
            }
        }
    }

    /// The checkpoints in a folder.
    fn checkpoints(&mut self, of: &Path) {
        for folder in list(of) {
            self.report.checkpoints += 1;
            let name = folder
                .strip_prefix(self.cache.folder())
                .unwrap_or(&folder)
                .to_string_lossy()
                .into_owned();
            let wrong = if self.looks_inside(&name) {
                let sizes = list(&folder)
                    .into_iter()
                    .filter_map(|path| path.metadata().ok())
                    .map(|file| file.len());
                self.report.bytes += sizes.sum::<u64>();
                checkpoints::wrong(&folder)
            } else {
                checkpoints::incomplete(&folder)
            };
            if let Some(wrong) = wrong {
                self.found(&folder, Wrong::Checkpoint(wrong), Vec::new());
            }
        }
    }

    /// Small files that say by themselves whether they are whole.
    fn small_files(&mut self, folder: &str, wrong: impl Fn(&[u8]) -> Option<String>) {
        for path in list(&self.cache.folder().join(folder)) {
            if path
                .file_name()
                .and_then(|name| name.to_str()?.parse::<Digest>().ok())
                .is_none()
            {
                self.report.strangers.push(path);
                continue;
            }
            let wrong = match read(&path) {
                Ok(bytes) => wrong(&bytes).map(Wrong::Record),
                Err(wrong) => Some(wrong),
            };
            if let Some(wrong) = wrong {
                self.found(&path, wrong, Vec::new());
            }
        }
    }
}

/// When a file was last written; one that does not say counts as old.
fn modified(metadata: io::Result<fs::Metadata>) -> SystemTime {
    metadata
        .and_then(|metadata| metadata.modified())
        .unwrap_or(UNIX_EPOCH)
}

fn read(path: &Path) -> Result<Vec<u8>, Wrong> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(Wrong::NotAFile),
        _ => fs::read(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Wrong::Missing,
            _ => Wrong::Unreadable(error.to_string()),
        }),
    }
}

/// What is in a folder, sorted; nothing when it is no folder.
fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
