//! Why a stage runs: what changed since its last result, field by field.

use std::time::{Duration, SystemTime};

use crate::cache::Cache;
use crate::cache::records::Record;
use crate::digest::Digest;
use crate::key::{KeyInputs, differences};

/// The record of a key, also if it was evicted.
pub(crate) fn last_record(cache: &Cache, key: &Digest) -> Option<Record> {
    let record = cache.records.get(key).ok().flatten();
    record.or_else(|| cache.records.evicted(key).map(|(record, _)| record))
}

/// Why a stage runs, given the key of its last result: the fields of the key that differ, then what
/// became of a result that there was.
pub(crate) fn reasons_to_run(
    cache: &Cache,
    last: Option<&Digest>,
    now: &KeyInputs,
    rebuilt: bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(record) = last.and_then(|last| last_record(cache, last)) {
        let changed = differences(&record.key_inputs, &now.fields());
        reasons.extend(changed.iter().map(ToString::to_string));
    }
    if let Some((_, when)) = cache.records.evicted(&now.hash()) {
        let age = SystemTime::now().duration_since(when).unwrap_or_default();
        let age = format_age(age);
        reasons.push(format!("its result was removed to make room, {age}"));
    } else if last.is_none() {
        reasons.push("no earlier result".to_owned());
    } else if reasons.is_empty() {
        // Nothing differs, or the last record is gone and there is nothing to compare with.
        let reason = if rebuilt {
            "its result was corrupt"
        } else {
            "its result is no longer in the cache"
        };
        reasons.push(reason.to_owned());
    }
    reasons
}

/// "3 days ago"
fn format_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural} ago")
}
