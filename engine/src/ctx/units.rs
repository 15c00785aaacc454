//! Units of work: results that are cached one by one, so that a stage computes only those that are
//! missing.

use std::time::{Duration, Instant};

use super::StageCtx;
use crate::digest::Digest;
use crate::op::{OpError, UnitResult};

/// Results of units are committed when there are this many and some time has gone by, when there
/// are very many, or after a long time: a kill loses a second of fast work or half a minute of slow
/// work, and syncs stay few.
const COMMIT_UNITS: usize = 256;
const COMMIT_UNITS_MAX: usize = 8192;
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(30);

impl StageCtx {
    /// The results of units of work, each cached by its digest and this stage's arguments but the
    /// `excluded_args`, which say what is made of them. `process` is given the indices of missing
    /// units, at most `batch` at a time, and gives one result for each.
    ///
    /// # Errors
    /// As `process` gives, or [`OpError::Disk`].
    pub fn map_units(
        &self,
        units: &[Digest],
        excluded_args: &[&str],
        batch: usize,
        mut process: impl FnMut(&[usize]) -> Result<Vec<UnitResult>, OpError>,
    ) -> Result<Vec<UnitResult>, OpError> {
        let prefix = self.parts.key_inputs.unit_key_prefix(None, excluded_args);
        let keys: Vec<Digest> = units.iter().map(|unit| unit_key(&prefix, unit)).collect();
        self.parts.cache.units.refresh()?;
        let mut results = self.cached_units(&keys)?;
        let is_missing = |index: &usize| results.get(*index).is_some_and(Option::is_none);
        let missing: Vec<usize> = (0..keys.len()).filter(is_missing).collect();
        let mut buffer = UnitBuffer::new(self);
        let mut compute_missing = || -> Result<(), OpError> {
            for indices in missing.chunks(batch.max(1)) {
                self.check_interrupted()?;
                for (index, result) in indices.iter().zip(process(indices)?) {
                    if let (Some(slot), Some(key)) = (results.get_mut(*index), keys.get(*index)) {
                        buffer.add(*key, &result)?;
                        *slot = Some(result);
                    }
                }
            }
            Ok(())
        };
        let computed = compute_missing();
        // Also after an error: what has been computed is not computed again.
        buffer.commit()?;
        computed?;
        let results: Option<Vec<UnitResult>> = results.into_iter().collect();
        results.ok_or_else(|| {
            OpError::Bug(format!(
                "op `{}` returned too few unit results",
                self.parts.args.op()
            ))
        })
    }

    /// The results of units that are in the cache. With `retry_bad` rejected ones are missing.
    ///
    /// # Errors
    /// [`OpError::Disk`] when they cannot be read.
    pub(crate) fn cached_units(&self, keys: &[Digest]) -> Result<Vec<Option<UnitResult>>, OpError> {
        let decode_usable = |bytes: Option<Vec<u8>>| {
            let result = decode(&bytes?)?;
            let is_retried = self.parts.retry_bad && matches!(result, UnitResult::Bad(_));
            (!is_retried).then_some(result)
        };
        let cached = self.parts.cache.units.get(keys)?;
        Ok(cached.into_iter().map(decode_usable).collect())
    }

    /// As [`budget_error`], for what this stage has rejected so far.
    pub(crate) fn budget_error(&self, rejected: u64, total: u64) -> Option<OpError> {
        let share_ppm = self.parts.attributes.max_bad_ppm?;
        budget_error(share_ppm, rejected, total, || self.first_reason())
    }
}

/// Results of units on their way to the disk, committed many at a time.
pub(crate) struct UnitBuffer<'a> {
    ctx: &'a StageCtx,
    results: Vec<(Digest, Vec<u8>)>,
    last_commit: Instant,
}

impl<'a> UnitBuffer<'a> {
    pub(crate) fn new(ctx: &'a StageCtx) -> Self {
        Self {
            ctx,
            results: Vec::new(),
            last_commit: Instant::now(),
        }
    }

    pub(crate) fn add(&mut self, key: Digest, result: &UnitResult) -> Result<(), OpError> {
        self.results.push((key, encode(result)));
        let (count, age) = (self.results.len(), self.last_commit.elapsed());
        let is_due = count >= COMMIT_UNITS && age >= COMMIT_INTERVAL;
        if is_due || count >= COMMIT_UNITS_MAX || age >= COMMIT_INTERVAL_MAX {
            self.commit()
        } else {
            Ok(())
        }
    }

    pub(crate) fn commit(&mut self) -> Result<(), OpError> {
        if !self.results.is_empty() {
            let results = std::mem::take(&mut self.results);
            self.ctx.cache().units.put(results)?;
        }
        self.last_commit = Instant::now();
        Ok(())
    }
}

/// The key of a unit of work.
pub(crate) fn unit_key(prefix: &Digest, unit: &Digest) -> Digest {
    Digest::parts("blip/unit/1", &[prefix.as_bytes(), unit.as_bytes()])
}

/// A unit's result as bytes: 0 and the result, or 1 and the reason.
fn encode(result: &UnitResult) -> Vec<u8> {
    match result {
        UnitResult::Ok(bytes) => [&[0], bytes.as_slice()].concat(),
        UnitResult::Bad(reason) => [&[1], reason.as_bytes()].concat(),
    }
}

fn decode(bytes: &[u8]) -> Option<UnitResult> {
    match bytes.split_first()? {
        (0, rest) => Some(UnitResult::Ok(rest.to_vec())),
        (_, rest) => Some(UnitResult::Bad(String::from_utf8_lossy(rest).into_owned())),
    }
}

/// The error of a stage that rejected more of its items than its `@max_bad` allows, in millionths.
pub(crate) fn budget_error(
    share_ppm: u32,
    rejected: u64,
    total: u64,
    first_reason: impl FnOnce() -> String,
) -> Option<OpError> {
    let share_ppm = u64::from(share_ppm);
    // Compared as whole numbers: a share as a float could round to the other side.
    if u128::from(rejected) * 1_000_000 <= u128::from(total) * u128::from(share_ppm) {
        return None;
    }
    let share = share_ppm as f64 / 1e6;
    let reason = first_reason();
    let what = format!(
        "rejected {rejected} of {total} items, more than @max_bad({share:?}) allows; \
         first reason: {reason}"
    );
    Some(OpError::failed(
        what,
        "fix the items, or raise @max_bad if that many may be left out",
    ))
}
