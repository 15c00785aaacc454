//! The scan of a verification: records first, since they say what has to exist, then every folder
//! of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{AffectedResult, Corruption, CorruptionKind, VerifyLevel, VerifyReport};
use crate::cache::Cache;
use crate::cache::checkpoints::{self, InvalidCheckpoint};
use crate::cache::disk::DiskError;
use crate::cache::ledger::Ledger;
use crate::cache::map_tables::MapTable;
use crate::cache::records::Record;
use crate::dataset;
use crate::digest::Digest;
use crate::key;

/// Scans an open cache.
pub(super) fn scan(cache: &Cache, level: VerifyLevel) -> VerifyReport {
    let mut scan = CacheScan::new(cache, level);
    scan.opened_index();
    scan.records();
    scan.evicted_records();
    scan.objects();
    scan.missing_objects();
    scan.groups("units");
    scan.groups("files");
    let folder = cache.folder();
    for stage in scan.named_by_digest(&folder.join("checkpoints")) {
        scan.checkpoints(&stage);
    }
    for training in scan.named_by_digest(&folder.join("growth")) {
        for value in list(&training) {
            scan.checkpoints(&value);
        }
    }
    // What ledgers and map tables refer to may have been collected, which their readers check.
    scan.checksummed_files("ledgers", |bytes| {
        Ledger::validate(bytes).map_err(|error| error.to_string())
    });
    scan.checksummed_files("maps", |bytes| {
        MapTable::validate(bytes).map_err(|error| error.to_string())
    });
    scan.report
}

/// The results that refer to an object.
struct References {
    results: BTreeSet<AffectedResult>,
    /// When the newest of their records was written. An object is written before its record.
    recorded: SystemTime,
}

struct CacheScan<'a> {
    cache: &'a Cache,
    level: VerifyLevel,
    /// Makes every subset a different one.
    salt: [u8; 16],
    /// The references to each object that was not scanned yet.
    references: BTreeMap<Digest, References>,
    report: VerifyReport,
}

impl<'a> CacheScan<'a> {
    fn new(cache: &'a Cache, level: VerifyLevel) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        Self {
            cache,
            level,
            salt: now.to_be_bytes(),
            references: BTreeMap::new(),
            report: VerifyReport::default(),
        }
    }

    /// Whether to read the content of the file with this name.
    fn reads_content_of(&self, name: &str) -> bool {
        match self.level {
            VerifyLevel::Quick => false,
            VerifyLevel::Full => true,
            VerifyLevel::Subset(share) => {
                let drawn = Digest::parts("blip/subset/1", &[&self.salt, name.as_bytes()]);
                let [first, second, third, fourth, ..] = *drawn.as_bytes();
                let drawn = f64::from(u32::from_be_bytes([first, second, third, fourth]));
                drawn < share * f64::from(u32::MAX)
            }
        }
    }

    /// Reports a corrupt file and moves it away, unless it is gone by now: gc or a run may have
    /// removed it.
    fn corrupt(&mut self, path: &Path, kind: CorruptionKind, affected: Vec<AffectedResult>) {
        if path.symlink_metadata().is_err() {
            return;
        }
        let moved_to = self.cache.move_to_corrupt(path);
        self.report.corruptions.push(Corruption {
            path: path.to_path_buf(),
            kind,
            moved_to,
            affected,
        });
    }

    /// Reports a file with a problem. Only one that was read is moved away.
    fn report_problem(&mut self, path: &Path, problem: Problem, affected: Vec<AffectedResult>) {
        match problem {
            Problem::Corrupt(kind) => self.corrupt(path, kind, affected),
            Problem::Unreadable(error) => self.report.unreadable.push(error.to_string()),
        }
    }

    /// The index was opened before the scan; a corrupt one was replaced then.
    fn opened_index(&mut self) {
        if let Some(moved_to) = self.cache.corrupt_index() {
            self.report.corruptions.push(Corruption {
                path: self.cache.folder().join("index"),
                kind: CorruptionKind::Index("the index cannot be opened".to_owned()),
                moved_to: Some(moved_to),
                affected: Vec::new(),
            });
        }
    }

    /// The files of a sharded folder, with the digests in their names.
    fn sharded_files(&mut self, folder: &str) -> Vec<(PathBuf, Digest)> {
        let mut files = Vec::new();
        for shard in list(&self.cache.folder().join(folder)) {
            for path in list(&shard) {
                match digest_in_shard(file_name(&shard), file_name(&path)) {
                    Some(digest) => files.push((path, digest)),
                    None => self.report.unknown_files.push(path),
                }
            }
        }
        files
    }

    fn records(&mut self) {
        for (path, key) in self.sharded_files("results") {
            let Some(record) = self.record(&path, &key, true) else {
                continue;
            };
            let recorded = modified(fs::metadata(&path));
            let affected = AffectedResult {
                stage: record.stage.clone(),
                key,
            };
            for object in record.referenced_objects() {
                let references = self.references.entry(*object).or_insert(References {
                    results: BTreeSet::new(),
                    recorded,
                });
                references.results.insert(affected.clone());
                references.recorded = references.recorded.max(recorded);
            }
        }
    }

    /// Records of evicted results refer to nothing any more.
    fn evicted_records(&mut self) {
        for (path, key) in self.sharded_files("evicted") {
            self.record(&path, &key, false);
        }
    }

    /// The record in a file, if it is valid and of this version. A corrupt one affects the result
    /// of its key, if it still `has_result`.
    fn record(&mut self, path: &Path, key: &Digest, has_result: bool) -> Option<Record> {
        let affected = |stage: String| {
            let affected = AffectedResult { stage, key: *key };
            Vec::from_iter(has_result.then_some(affected))
        };
        let bytes = match self.read(path) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.report_problem(path, problem, affected(String::new()));
                return None;
            }
        };
        self.report.records += u64::from(has_result);
        match Record::decode(&bytes) {
            Ok(Some(record)) if key::hash_fields(&record.key_inputs) != *key => {
                let kind = CorruptionKind::Record("it is the record of another key".to_owned());
                self.corrupt(path, kind, affected(record.stage));
                None
            }
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                self.report.other_versions += u64::from(has_result);
                None
            }
            Err(error) => {
                let kind = CorruptionKind::Record(error.to_string());
                self.corrupt(path, kind, affected(String::new()));
                None
            }
        }
    }

    fn objects(&mut self) {
        for (path, digest) in self.sharded_files("objects") {
            self.report.objects += 1;
            let references = self.references.remove(&digest);
            if references.is_none() {
                self.report.unreferenced += 1;
            }
            let recorded = references.as_ref().map(|references| references.recorded);
            if let Err(problem) = self.check_content(&path, &digest, recorded) {
                let affected = references.map(|references| references.results);
                let affected = affected.into_iter().flatten().collect();
                self.report_problem(&path, problem, affected);
            }
        }
    }

    /// Checks a file that is named by its digest. `recorded` is a time at which it was complete.
    fn check_content(
        &mut self,
        path: &Path,
        digest: &Digest,
        recorded: Option<SystemTime>,
    ) -> Result<(), Problem> {
        let disk = self.cache.disk();
        let lstat = || fs::symlink_metadata(path);
        // A run or gc may have removed it meanwhile.
        let Some(metadata) = disk.attempt_read(path, lstat)? else {
            return Ok(());
        };
        if !metadata.is_file() {
            return Err(CorruptionKind::NotAFile.into());
        }
        let len = metadata.len();
        if len == 0 && *digest != Digest::of(b"") {
            return Err(CorruptionKind::Empty.into());
        }
        let is_modified = recorded.is_some_and(|recorded| modified(Ok(metadata)) > recorded);
        // A wrong length is only a reason to read the file: what an op stored may begin like a
        // chunk and not be one.
        let is_suspect =
            || is_modified || !dataset::length_matches(path, len).is_ok_and(|matches| matches);
        if !self.reads_content_of(&digest.to_string()) && !is_suspect() {
            return Ok(());
        }
        self.report.bytes += len;
        match disk.digest_of(path)? {
            Some(found) if found != *digest => Err(CorruptionKind::Digest.into()),
            _ => Ok(()),
        }
    }

    /// Objects that records refer to and that the scan did not find.
    fn missing_objects(&mut self) {
        for (digest, references) in std::mem::take(&mut self.references) {
            // A run at the same time may have written it after its folder was listed.
            match self.cache.objects.contains(&digest) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    self.report.unreadable.push(error.to_string());
                    continue;
                }
            }
            self.report.corruptions.push(Corruption {
                path: self.cache.objects.file_path(&digest),
                kind: CorruptionKind::Missing,
                moved_to: None,
                affected: references.results.into_iter().collect(),
            });
        }
    }

    fn groups(&mut self, folder: &str) {
        let holds_units = folder == "units";
        let mut index_is_wrong = false;
        for (path, digest) in self.sharded_files(folder) {
            self.report.groups += 1;
            if let Err(problem) = self.check_content(&path, &digest, None) {
                self.report_problem(&path, problem, Vec::new());
            } else if holds_units && self.reads_content_of(&digest.to_string()) {
                index_is_wrong |= !self.cache.index_matches(&digest);
            }
        }
        if holds_units {
            self.checked_index(index_is_wrong);
        }
    }

    fn checked_index(&mut self, is_wrong: bool) {
        // An index in memory was just filled from the groups: comparing it with them says nothing.
        let is_persistent = self.cache.has_persistent_index();
        self.report.index = is_persistent && self.level != VerifyLevel::Quick;
        if is_wrong && is_persistent {
            self.cache.invalidate_index();
            let detail = "the index differs from the cached results; the next run rebuilds it";
            self.report.corruptions.push(Corruption {
                path: self.cache.folder().join("index"),
                kind: CorruptionKind::Index(detail.to_owned()),
                moved_to: None,
                affected: Vec::new(),
            });
        }
    }

    /// The entries of a folder that are named by digests; others are not blip's.
    fn named_by_digest(&mut self, folder: &Path) -> Vec<PathBuf> {
        let (ours, unknown) = list(folder)
            .into_iter()
            .partition(|path| file_name(path).parse::<Digest>().is_ok());
        self.report.unknown_files.extend::<Vec<PathBuf>>(unknown);
        ours
    }

    /// The checkpoints in a folder.
    fn checkpoints(&mut self, stage: &Path) {
        for folder in list(stage) {
            if file_name(&folder).parse::<u64>().is_err() {
                self.report.unknown_files.push(folder);
                continue;
            }
            self.report.checkpoints += 1;
            let inner = folder.strip_prefix(self.cache.folder()).unwrap_or(&folder);
            let checked = if self.reads_content_of(&inner.to_string_lossy()) {
                self.report.bytes += list(&folder)
                    .iter()
                    .filter_map(|path| path.metadata().ok())
                    .map(|file| file.len())
                    .sum::<u64>();
                checkpoints::validate(&folder, self.cache.disk())
            } else {
                checkpoints::validate_modified(&folder, self.cache.disk())
            };
            if let Err(invalid) = checked {
                self.report_problem(&folder, invalid.into(), Vec::new());
            }
        }
    }

    /// Small files with a checksum, which `validate` checks.
    fn checksummed_files(&mut self, folder: &str, validate: impl Fn(&[u8]) -> Result<(), String>) {
        for path in self.named_by_digest(&self.cache.folder().join(folder)) {
            let checked = self.read(&path).and_then(|bytes| {
                validate(&bytes).map_err(|why| CorruptionKind::Record(why).into())
            });
            if let Err(problem) = checked {
                self.report_problem(&path, problem, Vec::new());
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Problem> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(CorruptionKind::NotAFile.into());
        }
        let bytes = self.cache.disk().read(path)?;
        bytes.ok_or_else(|| CorruptionKind::Missing.into())
    }
}

/// What is wrong with a file.
enum Problem {
    Corrupt(CorruptionKind),
    /// Whether it is corrupt is not known.
    Unreadable(DiskError),
}

impl From<CorruptionKind> for Problem {
    fn from(kind: CorruptionKind) -> Self {
        Problem::Corrupt(kind)
    }
}

impl From<DiskError> for Problem {
    fn from(error: DiskError) -> Self {
        Problem::Unreadable(error)
    }
}

impl From<InvalidCheckpoint> for Problem {
    fn from(invalid: InvalidCheckpoint) -> Self {
        match invalid {
            InvalidCheckpoint::Corrupt(detail) => CorruptionKind::Checkpoint(detail).into(),
            InvalidCheckpoint::Unreadable(error) => error.into(),
        }
    }
}

/// The digest of a file's name, if the file is in the right shard.
fn digest_in_shard(shard: &str, name: &str) -> Option<Digest> {
    let digest: Digest = name.parse().ok()?;
    let is_right = digest.to_string().get(..2) == Some(shard);
    is_right.then_some(digest)
}

/// The last part of a path; empty when it is not UTF-8.
fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// When a file was last modified. Where that is not known, it counts as old.
fn modified(metadata: io::Result<fs::Metadata>) -> SystemTime {
    metadata
        .and_then(|metadata| metadata.modified())
        .unwrap_or(UNIX_EPOCH)
}

/// The paths in a folder, sorted; empty when it is not a folder.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
