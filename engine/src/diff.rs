//! What differs between two runs: params, stages, the fields in which keys differ, results and
//! metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::records::Record;
use crate::digest::Digest;
use crate::event::{Event, StageEnd, Status};
use crate::history::{CacheReader, RunLog};
use crate::key::{Difference, differences};

/// What differs between an older and a newer run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunDiff {
    pub params: Vec<Difference>,
    /// Stages that only the older run had.
    pub only_old: Vec<Arc<str>>,
    /// Stages that only the newer run had.
    pub only_new: Vec<Arc<str>>,
    /// Stages with another key or result, in the order in which they ended in the newer run.
    pub stages: Vec<StageDiff>,
    /// How many stages have the same key and the same result in both.
    pub same: usize,
}

/// A stage with another key or result. Pairs are of the older and the newer run.
#[derive(Clone, PartialEq, Debug)]
pub struct StageDiff {
    pub stage: Arc<str>,
    pub status: (Status, Status),
    /// The fields of the key that differ; nothing where a record is gone for good.
    pub fields: Option<Vec<Difference>>,
    pub output: (Option<Digest>, Option<Digest>),
    pub count: (Option<u64>, Option<u64>),
    /// Those that differ, by name.
    pub metrics: Vec<(String, Option<f64>, Option<f64>)>,
}

impl StageDiff {
    /// Whether the result has other bytes: a stage with another key may have the same result.
    pub fn other_result(&self) -> bool {
        self.output.0 != self.output.1
    }
}

/// Compares two runs. Their records, also evicted ones, say which fields differ.
pub fn diff(reader: &CacheReader, old: &RunLog, new: &RunLog) -> RunDiff {
    let (old_ends, new_ends) = (old.ends(), new.ends());
    let mut diff = RunDiff {
        params: differences(&params(old), &params(new)),
        only_old: stages_missing_in(&old_ends, &new_ends),
        only_new: stages_missing_in(&new_ends, &old_ends),
        stages: Vec::new(),
        same: 0,
    };
    for entry in &new.events {
        let Event::StageFinished(new_end) = &entry.event else {
            continue;
        };
        let Some(old_end) = old_ends.get(&*new_end.stage) else {
            continue;
        };
        match compare_stage(reader, old_end, new_end) {
            Some(stage) => diff.stages.push(stage),
            None => diff.same += 1,
        }
    }
    diff
}

type Ends<'a> = BTreeMap<&'a str, &'a StageEnd>;

/// The stages of `these` that `others` do not have.
fn stages_missing_in(these: &Ends<'_>, others: &Ends<'_>) -> Vec<Arc<str>> {
    these
        .keys()
        .filter(|stage| !others.contains_key(*stage))
        .map(|stage| Arc::from(*stage))
        .collect()
}

fn params(log: &RunLog) -> Vec<(String, String)> {
    let params = log.events.iter().find_map(|entry| match &entry.event {
        Event::RunStarted { params, .. } => Some(params.clone()),
        _ => None,
    });
    params.unwrap_or_default()
}

fn compare_stage(reader: &CacheReader, old: &StageEnd, new: &StageEnd) -> Option<StageDiff> {
    let is_same = old.key == new.key && old.output == new.output;
    if is_same && has_result(old) == has_result(new) {
        return None;
    }
    let fields = if old.key == new.key {
        Some(Vec::new())
    } else {
        differing_fields(reader, old, new)
    };
    Some(StageDiff {
        stage: new.stage.clone(),
        status: (old.status, new.status),
        fields,
        output: (old.output, new.output),
        count: (old.count, new.count),
        metrics: differing_metrics(&old.metrics, &new.metrics),
    })
}

fn has_result(end: &StageEnd) -> bool {
    matches!(end.status, Status::Ran | Status::Reused | Status::UpToDate)
}

fn differing_fields(
    reader: &CacheReader,
    old: &StageEnd,
    new: &StageEnd,
) -> Option<Vec<Difference>> {
    let old = record_of(reader, old)?;
    let new = record_of(reader, new)?;
    Some(differences(&old.key_inputs, &new.key_inputs))
}

/// The record of a stage, also if it was evicted.
fn record_of(reader: &CacheReader, end: &StageEnd) -> Option<Record> {
    let key = end.key?;
    reader
        .record(&key)
        .or_else(|| reader.evicted(&key).map(|(record, _)| record))
}

fn differing_metrics(
    old: &[(String, f64)],
    new: &[(String, f64)],
) -> Vec<(String, Option<f64>, Option<f64>)> {
    let names: BTreeSet<&String> = old.iter().chain(new).map(|(name, _)| name).collect();
    let mut differing = Vec::new();
    for name in names {
        let (old, new) = (find_metric(old, name), find_metric(new, name));
        if old != new {
            differing.push((name.clone(), old, new));
        }
    }
    differing
}

fn find_metric(metrics: &[(String, f64)], name: &str) -> Option<f64> {
    let metric = metrics.iter().find(|(known, _)| known == name);
    metric.map(|(_, value)| *value)
}
