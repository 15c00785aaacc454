//! Garbage collection: removes what no root holds, or only as much of it as `max_bytes` asks for.
//! What is cheapest to recompute, by recorded time per byte, goes first.
//!
//! The cache is locked exclusively. A result goes in two steps: its record moves to `evicted/`,
//! where `explain` finds it, and then the objects go that no other record refers to. A kill in
//! between leaves objects without a record, which the next collection finds; in the other order it
//! would leave a record without its objects.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::roots::Roots;
use super::warm_starts::WarmStarts;
use super::{Amount, CacheEntry, CacheFile, disk_usage, list_entries, list_files, part_folders};
use crate::cache::corrupt;
use crate::cache::identity::is_run_id;
use crate::cache::records::Record;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::history::CacheReader;

/// How long records of removed results are kept.
const EVICTED_AGE: Duration = Duration::from_secs(180 * 24 * 3600);

/// What to remove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GcOptions {
    /// The results of this many last runs of every workflow stay.
    pub keep_runs: usize,
    /// What is younger stays.
    pub min_age: Option<Duration>,
    /// Nothing more is removed once the cache is this small.
    pub max_bytes: Option<u64>,
    /// Report what would be removed, and remove nothing.
    pub dry_run: bool,
}

/// What was removed; in a dry run, what would be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// In the order in which they were removed.
    pub results: Vec<EvictedResult>,
    /// Everything that was removed, by the part of the cache.
    pub parts: BTreeMap<&'static str, Amount>,
    /// The size of the cache before.
    pub bytes_before: u64,
    /// The size of the cache after.
    pub bytes_after: u64,
    /// The number of results that are roots.
    pub rooted: u64,
}

/// A removed result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvictedResult {
    pub key: Digest,
    pub stage: String,
    /// How long it took to compute.
    pub took_ms: u64,
    /// The size of those of its objects that no other result refers to.
    pub bytes: u64,
}

/// A result that may be removed.
struct Candidate {
    key: Digest,
    record: Record,
    objects: Vec<Digest>,
    /// The size of its objects, also of those that other results refer to.
    bytes: u64,
}

struct Collector<'a> {
    cache: &'a Cache,
    options: &'a GcOptions,
    roots: Roots,
    now: SystemTime,
    /// The size of every object that exists.
    sizes: BTreeMap<Digest, u64>,
    /// The number of records that refer to each object.
    references: BTreeMap<Digest, u32>,
    warm_starts: WarmStarts,
    report: GcReport,
}

/// Collects. The cache must be open exclusively.
///
/// # Errors
/// When a folder cannot be listed or a file cannot be removed.
pub(super) fn collect(cache: &Cache, options: &GcOptions) -> Result<GcReport, CacheError> {
    let folder = cache.folder();
    let list_error = |source| CacheError::Io {
        path: folder.to_path_buf(),
        source,
    };
    let reader = CacheReader::on_disk(folder, cache.disk().clone());
    let roots = Roots::find(&reader, options.keep_runs)?;
    let bytes_before = disk_usage(folder).map_err(list_error)?.total().bytes;
    let objects = list_files(&folder.join("objects")).map_err(list_error)?;
    let sizes = objects
        .iter()
        .filter_map(|file| Some((file.digest()?, file.bytes)))
        .collect();
    let mut collector = Collector {
        cache,
        options,
        roots,
        now: SystemTime::now(),
        sizes,
        references: BTreeMap::new(),
        warm_starts: WarmStarts::default(),
        report: GcReport {
            bytes_before,
            bytes_after: bytes_before,
            ..GcReport::default()
        },
    };
    // All records are read first: they say which objects are referred to.
    let candidates = collector.candidates()?;
    collector.remove_orphans()?;
    for part in [corrupt::FOLDER, "checkpoints", "runs"] {
        for folder in part_folders(folder, part) {
            collector.remove_unrooted(part, list_entries(&folder).map_err(list_error)?)?;
        }
    }
    collector.remove_warm_starts(None)?;
    collector.remove_results(candidates)?;
    // Those of the results that have just been removed.
    collector.remove_warm_starts(Some(0))?;
    // These take long to compute and little space. They go last, the oldest first, and only when
    // an age or a size is given.
    let mut units = list_files(&folder.join("units")).map_err(list_error)?;
    units.retain(|file| file.digest().is_some());
    collector.remove_oldest("units", units.into_iter().map(single_file).collect())?;
    collector.remove_old_evicted(list_files(&folder.join("evicted")).map_err(list_error)?)?;
    Ok(collector.report)
}

fn single_file(file: CacheFile) -> CacheEntry {
    CacheEntry {
        path: file.path,
        amount: Amount {
            files: 1,
            bytes: file.bytes,
        },
        modified: file.modified,
    }
}

impl Collector<'_> {
    /// Reads all records, and returns those that are neither roots nor too young, the cheapest
    /// first.
    ///
    /// # Errors
    /// Also when a record cannot be read: what it refers to would look like garbage.
    fn candidates(&mut self) -> Result<Vec<Candidate>, CacheError> {
        let mut candidates = Vec::new();
        let folder = self.cache.folder().join("results");
        let files = list_files(&folder).map_err(|source| CacheError::Io {
            path: folder,
            source,
        })?;
        for file in files {
            let Some(key) = file.digest() else { continue };
            let Some(record) = self.cache.records.get(&key)? else {
                continue;
            };
            let objects: BTreeSet<Digest> = record.referenced_objects().copied().collect();
            self.warm_starts.add(&record);
            for object in &objects {
                *self.references.entry(*object).or_default() += 1;
            }
            if self.roots.keys.contains(&key) {
                self.report.rooted += 1;
                continue;
            }
            let is_old_enough = self
                .options
                .min_age
                .is_none_or(|age| file.is_older_than(age, self.now));
            if is_old_enough {
                let sizes = objects.iter().filter_map(|object| self.sizes.get(object));
                let bytes = sizes.sum();
                candidates.push(Candidate {
                    key,
                    record,
                    objects: objects.into_iter().collect(),
                    bytes,
                });
            }
        }
        candidates.sort_by(cheapest_first);
        Ok(candidates)
    }

    /// Whether the cache is still too large. Without a limit it always is.
    fn is_over_budget(&self) -> bool {
        self.options
            .max_bytes
            .is_none_or(|max| self.report.bytes_after > max)
    }

    fn remove_results(&mut self, candidates: Vec<Candidate>) -> Result<(), CacheError> {
        for candidate in candidates {
            if !self.is_over_budget() {
                break;
            }
            if !self.options.dry_run {
                self.cache.records.evict(&candidate.key)?;
            }
            self.warm_starts.remove(&candidate.record);
            let mut bytes = 0;
            for object in candidate.objects {
                let references = self.references.entry(object).or_insert(1);
                *references -= 1;
                if *references == 0 {
                    bytes += self.remove_object(&object)?;
                }
            }
            self.report.results.push(EvictedResult {
                key: candidate.key,
                stage: candidate.record.stage,
                took_ms: candidate.record.took_ms,
                bytes,
            });
        }
        Ok(())
    }

    /// Removes an object and returns its size; 0 when it does not exist.
    fn remove_object(&mut self, object: &Digest) -> Result<u64, CacheError> {
        let Some(bytes) = self.sizes.remove(object) else {
            return Ok(0);
        };
        let path = self.cache.objects.file_path(object);
        self.remove("objects", &path, Amount { files: 1, bytes })?;
        Ok(bytes)
    }

    /// Removes objects that no record refers to: those of stages that failed, or of a collection
    /// that was killed.
    fn remove_orphans(&mut self) -> Result<(), CacheError> {
        let orphans: Vec<Digest> = self
            .sizes
            .keys()
            .filter(|object| !self.references.contains_key(object))
            .copied()
            .collect();
        for object in orphans {
            self.remove_object(&object)?;
        }
        Ok(())
    }

    /// Removes entries whose name is neither a key nor a run that is a root. Those with other names
    /// are not blip's.
    fn remove_unrooted(
        &mut self,
        part: &'static str,
        entries: Vec<CacheEntry>,
    ) -> Result<(), CacheError> {
        for entry in entries {
            let name = entry.path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            let key = name.parse::<Digest>().ok();
            let is_root = self.roots.runs.contains(name)
                || (part == "checkpoints" && self.roots.was_killed)
                || key.is_some_and(|key| self.roots.keys.contains(&key));
            let is_ours = match part {
                corrupt::FOLDER => corrupt::is_name_of_corrupt_file(name),
                "runs" => is_run_id(name),
                _ => key.is_some(),
            };
            if is_ours && !is_root && self.is_old_enough(&entry) {
                self.remove(part, &entry.path, entry.amount)?;
            }
        }
        Ok(())
    }

    /// Removes the warm starts that this number of records may have left.
    fn remove_warm_starts(&mut self, records: Option<u32>) -> Result<(), CacheError> {
        let folder = self.cache.folder().join("growth");
        let disk = self.cache.disk();
        let trainings = disk.list(&folder)?;
        for training in trainings {
            let name = training.file_name().and_then(|name| name.to_str());
            let Some(rest) = name.and_then(|name| name.parse::<Digest>().ok()) else {
                continue;
            };
            let entries = list_entries(&training).map_err(|source| CacheError::Io {
                path: training.clone(),
                source,
            })?;
            let mut left = entries.len();
            for entry in entries {
                let value = entry.path.file_name().and_then(|name| name.to_str());
                let Some(value) = value.and_then(|value| value.parse().ok()) else {
                    continue;
                };
                let is_unused = self.warm_starts.count(&(rest, value)) == records;
                if is_unused && self.is_old_enough(&entry) {
                    self.remove("growth", &entry.path, entry.amount)?;
                    left -= 1;
                }
            }
            if left == 0 && !self.options.dry_run {
                disk.remove(&training)?;
            }
        }
        Ok(())
    }

    /// Without a minimal age, everything is old enough.
    fn is_old_enough(&self, entry: &CacheEntry) -> bool {
        let age = self.now.duration_since(entry.modified).unwrap_or_default();
        self.options.min_age.is_none_or(|min| age >= min)
    }

    fn remove_oldest(
        &mut self,
        part: &'static str,
        mut entries: Vec<CacheEntry>,
    ) -> Result<(), CacheError> {
        if self.options.min_age.is_none() && self.options.max_bytes.is_none() {
            return Ok(());
        }
        entries.sort_by_key(|entry| entry.modified);
        for entry in entries {
            if self.is_old_enough(&entry) && self.is_over_budget() {
                self.remove(part, &entry.path, entry.amount)?;
            }
        }
        Ok(())
    }

    fn remove_old_evicted(&mut self, files: Vec<CacheFile>) -> Result<(), CacheError> {
        for file in files {
            if file.digest().is_some() && file.is_older_than(EVICTED_AGE, self.now) {
                let entry = single_file(file);
                self.remove("evicted", &entry.path, entry.amount)?;
            }
        }
        Ok(())
    }

    fn remove(
        &mut self,
        part: &'static str,
        path: &Path,
        amount: Amount,
    ) -> Result<(), CacheError> {
        if !self.options.dry_run {
            self.cache.disk().remove(path)?;
        }
        let sum = self.report.parts.entry(part).or_default();
        sum.files += amount.files;
        sum.bytes += amount.bytes;
        self.report.bytes_after = self.report.bytes_after.saturating_sub(amount.bytes);
        Ok(())
    }
}

/// Orders by recorded time per byte, least first. Both fractions are multiplied by both sizes, so
/// nothing is rounded.
fn cheapest_first(left: &Candidate, right: &Candidate) -> Ordering {
    let left_cost = u128::from(left.record.took_ms) * u128::from(right.bytes.max(1));
    let right_cost = u128::from(right.record.took_ms) * u128::from(left.bytes.max(1));
    left_cost
        .cmp(&right_cost)
        .then_with(|| left.key.cmp(&right.key))
}
