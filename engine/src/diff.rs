//! What differs between two runs: params, stages, the fields that made keys differ, results and
//! numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::records::Record;
use crate::digest::Digest;
use crate::event::{Event, StageEnd, Status};
use crate::history::{Reader, RunLog};
use crate::key::{Difference, differences};

/// What differs between an older and a newer run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunDiff {
    /// Params with other values.
    pub params: Vec<Difference>,
    /// Stages that only the older run had.
    pub only_old: Vec<Arc<str>>,
    /// Stages that only the newer run had.
    pub only_new: Vec<Arc<str>>,
    /// Stages that came to something else, in the order in which the newer run ended them.
    pub stages: Vec<StageDiff>,
    /// How many stages have the same key and the same result in both.
    pub same: usize,
}

/// A stage that came to something else.
#[derive(Clone, PartialEq, Debug)]
pub struct StageDiff {
    /// The stage.
    pub stage: Arc<str>,
    /// How it ended in the older and in the newer run.
    pub status: (Status, Status),
    /// The fields of the key that differ; nothing where a record is gone for good.
    pub fields: Option<Vec<Difference>>,
    /// Its results.
    pub output: (Option<Digest>, Option<Digest>),
    /// How many items they have.
    pub count: (Option<u64>, Option<u64>),
    /// Numbers about the result that differ, by name.
    pub metrics: Vec<(String, Option<f64>, Option<f64>)>,
}

impl StageDiff {
    /// Whether the result has other bytes: a stage with another key may have made the same.
    pub fn other_result(&self) -> bool {
        self.output.0 != self.output.1
    }
}

/// Compares two runs. Their records, also those of removed results, say which fields differ.
pub fn diff(reader: &Reader, old: &RunLog, new: &RunLog) -> RunDiff {
    let (before, after) = (old.ends(), new.ends());
    let only =
        |these: &BTreeMap<&str, &StageEnd>, others: &BTreeMap<&str, &StageEnd>| -> Vec<Arc<str>> {
            these
                .keys()
                .filter(|stage| !others.contains_key(*stage))
                .map(|stage| Arc::from(*stage))
                .collect()
        };
    let mut found = RunDiff {
        params: differences(&params(old), &params(new)),
        only_old: only(&before, &after),
        only_new: only(&after, &before),
        stages: Vec::new(),
        same: 0,
    };
    for logged in &new.events {
        let Event::StageFinished(now) = &logged.event else {
            continue;
        };
        let Some(then) = before.get(&*now.stage) else {
            continue;
        };
        match compare(reader, then, now) {
            Some(stage) => found.stages.push(stage),
            None => found.same += 1,
        }
    }
    found
}

fn params(log: &RunLog) -> Vec<(String, String)> {
    let started = log.events.iter().find_map(|logged| match &logged.event {
        Event::RunStarted { params, .. } => Some(params.clone()),
        _ => None,
    });
    started.unwrap_or_default()
}

fn compare(reader: &Reader, then: &StageEnd, now: &StageEnd) -> Option<StageDiff> {
    let ended =
        |end: &StageEnd| matches!(end.status, Status::Ran | Status::Reused | Status::UpToDate);
    if then.key == now.key && then.output == now.output && ended(then) == ended(now) {
        return None;
    }
    let record = |end: &StageEnd| -> Option<Record> {
        let key = end.key?;
        reader
            .record(&key)
            .or_else(|| reader.evicted(&key).map(|(record, _)| record))
    };
    let fields = match (then.key == now.key, record(then), record(now)) {
        (true, ..) => Some(Vec::new()),
        (false, Some(then), Some(now)) => Some(differences(&then.key_inputs, &now.key_inputs)),
        _ => None,
    };
    Some(StageDiff {
        stage: now.stage.clone(),
        status: (then.status, now.status),
        fields,
        output: (then.output, now.output),
        count: (then.count, now.count),
        metrics: metrics(&then.metrics, &now.metrics),
    })
}

fn metrics(
    then: &[(String, f64)],
    now: &[(String, f64)],
) -> Vec<(String, Option<f64>, Option<f64>)> {
    let value = |metrics: &[(String, f64)], name: &str| {
        metrics
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    };
    let names: BTreeSet<&str> = then
        .iter()
        .chain(now)
        .map(|(name, _)| name.as_str())
        .collect();
    let both = names
        .into_iter()
        .map(|name| (name.to_owned(), value(then, name), value(now, name)));
    both.filter(|(_, then, now)| then != now).collect()
}
