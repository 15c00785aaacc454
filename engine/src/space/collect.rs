//! Removing what is not needed: everything that no root holds, or as much of it as a budget asks
//! for, and then what is cheapest to make again, by its recorded time per byte, first.
//!
//! Whoever collects has the cache alone. A result goes in two steps: its record moves to
//! `evicted/`, where `explain` finds it, and then its objects go, if no other record needs them. A
//! kill in between leaves objects without a record, which the next collection finds.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::roots::Roots;
use super::{Amount, disk_use, entries, files};
use crate::cache::records::Record;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::history::Reader;

/// Records of removed results are kept so long.
const EVICTED_AGE: Duration = Duration::from_secs(180 * 24 * 3600);

/// What to remove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collect {
    /// Of every workflow, the results of this many last runs stay.
    pub keep_runs: usize,
    /// Only what is at least so old is removed.
    pub min_age: Option<Duration>,
    /// Only so much is removed that the cache takes no more bytes than this.
    pub max_bytes: Option<u64>,
    /// Say what would be removed and remove nothing.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// The results, in the order in which they go.
    pub results: Vec<Evicted>,
    /// Everything that was removed, by the part of the cache.
    pub parts: BTreeMap<&'static str, Amount>,
    /// What the cache took before, in bytes.
    pub bytes_before: u64,
    /// What the cache takes now, in bytes.
    pub bytes_after: u64,
    /// Results that stay because a root holds them.
    pub rooted: u64,
}

/// A removed result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evicted {
    /// Its key.
    pub key: Digest,
    /// Its stage.
    pub stage: String,
    /// How long it takes to make again, in milliseconds.
    pub took_ms: u64,
    /// What its objects hold that no other result needs, in bytes.
    pub bytes: u64,
}

/// A record and what it costs.
struct Candidate {
    key: Digest,
    record: Record,
    objects: Vec<Digest>,
    bytes: u64,
}

struct Collector<'a> {
    cache: &'a Cache,
    options: &'a Collect,
    roots: Roots,
    now: SystemTime,
    sizes: BTreeMap<Digest, u64>,
    /// By how many records each object is needed.
    needed: BTreeMap<Digest, u32>,
    collected: Collected,
}

/// Collects. The cache must be opened alone.
///
/// # Errors
/// When a folder cannot be listed or a file cannot be removed.
pub(super) fn collect(cache: &Cache, options: &Collect) -> Result<Collected, CacheError> {
    let listed = |source| CacheError::Io {
        path: cache.folder().to_path_buf(),
        source,
    };
    let roots = Roots::find(&Reader::new(cache.folder()), options.keep_runs).map_err(listed)?;
    let before = disk_use(cache.folder()).map_err(listed)?.total().bytes;
    let collected = Collected {
        bytes_before: before,
        bytes_after: before,
        ..Collected::default()
    };
    let objects = files(&cache.folder().join("objects")).map_err(listed)?;
    let sizes = objects
        .iter()
        .filter_map(|file| Some((file.digest()?, file.bytes)))
        .collect();
    let now = SystemTime::now();
    let mut collector = Collector {
        cache,
        options,
        roots,
        now,
        sizes,
        needed: BTreeMap::new(),
        collected,
    };
    let candidates = collector.candidates().map_err(listed)?;
    collector.orphans()?;
    for part in ["damaged", "checkpoints", "runs"] {
        collector.unrooted(part, &entries(&cache.folder().join(part)).map_err(listed)?)?;
    }
    collector.results(candidates)?;
    // What takes long to make and little room goes last, the oldest first, and only where age or
    // room ask for it.
    for part in ["growth", "units"] {
        collector.oldest(
            part,
            files_or_entries(cache.folder(), part).map_err(listed)?,
        )?;
    }
    collector.tombstones(files(&cache.folder().join("evicted")).map_err(listed)?)?;
    Ok(collector.collected)
}

fn files_or_entries(cache: &Path, part: &str) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let folder = cache.join(part);
    if part == "growth" {
        let entries = entries(&folder)?.into_iter();
        return Ok(entries
            .map(|(path, (amount, modified))| (path, amount.bytes, modified))
            .collect());
    }
    Ok(files(&folder)?
        .into_iter()
        .map(|file| (file.path, file.bytes, file.modified))
        .collect())
}

impl Collector<'_> {
    /// Reads all records; those that no root holds and that are old enough can go, the cheapest
    /// first.
    fn candidates(&mut self) -> io::Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for file in files(&self.cache.folder().join("results"))? {
            let Some(key) = file.digest() else { continue };
            let Some(record) = self.cache.records.get(&key) else {
                continue;
            };
            let objects: BTreeSet<Digest> = record
                .objects
                .iter()
                .copied()
                .chain([record.output])
                .collect();
            objects
                .iter()
                .for_each(|object| *self.needed.entry(*object).or_default() += 1);
            let old = self
                .options
                .min_age
                .is_none_or(|age| file.older_than(age, self.now));
            if self.roots.keys.contains(&key) {
                self.collected.rooted += 1;
            } else if old {
                let bytes = objects
                    .iter()
                    .filter_map(|object| self.sizes.get(object))
                    .sum();
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

    /// Whether the budget asks for more.
    fn wants_more(&self) -> bool {
        self.options
            .max_bytes
            .is_none_or(|max| self.collected.bytes_after > max)
    }

    fn results(&mut self, candidates: Vec<Candidate>) -> Result<(), CacheError> {
        for Candidate {
            key,
            record,
            objects,
            ..
        } in candidates
        {
            if !self.wants_more() {
                break;
            }
            if !self.options.dry_run {
                self.cache.records.evict(&key)?;
            }
            let mut bytes = 0;
            for object in objects {
                let needed = self.needed.entry(object).or_insert(1);
                *needed -= 1;
                if *needed == 0 {
                    bytes += self.object(&object)?;
                }
            }
            self.collected.results.push(Evicted {
                key,
                stage: record.stage,
                took_ms: record.took_ms,
                bytes,
            });
        }
        Ok(())
    }

    fn object(&mut self, object: &Digest) -> Result<u64, CacheError> {
        let Some(bytes) = self.sizes.remove(object) else {
            return Ok(0);
        };
        let place = self.cache.objects.place(object);
        self.remove("objects", &place, Amount { files: 1, bytes })?;
        Ok(bytes)
    }

    /// Objects that no record needs: of stages that failed, or of a collection that was killed.
    fn orphans(&mut self) -> Result<(), CacheError> {
        let orphans = self
            .sizes
            .keys()
            .filter(|object| !self.needed.contains_key(object))
            .copied();
        for object in orphans.collect::<Vec<_>>() {
            self.object(&object)?;
        }
        Ok(())
    }

    /// What is named by a key or a run that no root holds.
    fn unrooted(
        &mut self,
        part: &'static str,
        found: &BTreeMap<PathBuf, (Amount, SystemTime)>,
    ) -> Result<(), CacheError> {
        for (path, (amount, modified)) in found {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let rooted = self.roots.runs.contains(name)
                || name
                    .parse::<Digest>()
                    .is_ok_and(|key| self.roots.keys.contains(&key));
            let age = self.now.duration_since(*modified).unwrap_or_default();
            if !rooted && self.options.min_age.is_none_or(|min| age >= min) {
                self.remove(part, path, *amount)?;
            }
        }
        Ok(())
    }

    fn oldest(
        &mut self,
        part: &'static str,
        mut found: Vec<(PathBuf, u64, SystemTime)>,
    ) -> Result<(), CacheError> {
        let Collect {
            min_age, max_bytes, ..
        } = self.options;
        found.sort_by_key(|(_, _, modified)| *modified);
        for (path, bytes, modified) in found {
            let age = self.now.duration_since(modified).unwrap_or_default();
            let old = min_age.is_none_or(|min| age >= min);
            if old && (min_age.is_some() || max_bytes.is_some()) && self.wants_more() {
                self.remove(part, &path, Amount { files: 1, bytes })?;
            }
        }
        Ok(())
    }

    fn tombstones(&mut self, found: Vec<super::Found>) -> Result<(), CacheError> {
        let now = self.now;
        for file in found
            .into_iter()
            .filter(|file| file.older_than(EVICTED_AGE, now))
        {
            self.remove(
                "evicted",
                &file.path,
                Amount {
                    files: 1,
                    bytes: file.bytes,
                },
            )?;
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
        let sum = self.collected.parts.entry(part).or_default();
        *sum = Amount {
            files: sum.files + amount.files,
            bytes: sum.bytes + amount.bytes,
        };
        self.collected.bytes_after = self.collected.bytes_after.saturating_sub(amount.bytes);
        Ok(())
    }
}

/// Time to make it again per byte, least first; compared without dividing.
fn cheapest_first(left: &Candidate, right: &Candidate) -> Ordering {
    let cost = |one: &Candidate, other: &Candidate| {
        u128::from(one.record.took_ms) * u128::from(other.bytes.max(1))
    };
    cost(left, right)
        .cmp(&cost(right, left))
        .then_with(|| left.key.cmp(&right.key))
}
