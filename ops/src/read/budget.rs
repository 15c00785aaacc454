//! How many samples of a dataset may be bad. With more of them something is wrong with the dataset
//! itself, and the stage fails.

use std::collections::BTreeSet;

use blip_engine::{OpError, StageCtx};
use blip_grammar::{Arg, Type};

/// Bad samples listed in the message.
const LISTED_MAX: usize = 3;

/// In the key of a stage, so that a cached result is one that the budget allows; not in that of its
/// units, so that another budget reads nothing again.
pub(crate) const MAX_BAD: &str = "max_bad";

/// The argument of every op that reads pairs.
pub(crate) fn max_bad() -> Arg {
    let doc = "Maximum fraction of bad samples, and of shards that cannot be read to their end. \
               They are rejected and listed; with more of them the stage fails.";
    Arg::with_default(MAX_BAD, Type::Float, "0.01", doc).within(0.0, 1.0)
}

/// A sample that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadSample {
    /// As in `web-00.tar: 000123`.
    pub(crate) item: String,
    pub(crate) reason: String,
}

/// What to do when there is no sample that can be used.
pub(crate) const SAMPLE_HELP: &str =
    "a sample is an image with a text: `blip ops` describes what each op reads";

/// Rejects the bad samples of a dataset that has `good` others. `help` is for one without any.
///
/// # Errors
/// When there are more than `max_bad` allows, or there is no good one.
pub(crate) fn reject(
    ctx: &StageCtx,
    good: usize,
    bad: &[BadSample],
    help: &str,
) -> Result<(), OpError> {
    for BadSample { item, reason } in bad {
        ctx.reject(item, reason);
    }
    let listed = list(bad);
    let all = good + bad.len();
    if good == 0 {
        let what = match bad {
            [] => "no samples found".to_owned(),
            _ => format!("none of the {all} samples can be used: {listed}"),
        };
        return Err(OpError::failed(what, help));
    }
    let max_bad = ctx.args().float(MAX_BAD)?;
    if share(bad.len(), all) > max_bad {
        return Err(OpError::failed(
            format!(
                "{} of {all} samples cannot be used, more than max_bad = {max_bad:?} allows: \
                 {listed}",
                bad.len()
            ),
            "fix or remove them, or raise max_bad: what was read already is cached",
        ));
    }
    Ok(())
}

/// Rejects shards that are corrupt or end early, of `all`. How many samples were in the missing
/// part is not known, so shards are counted against `max_bad` by themselves.
///
/// # Errors
/// When there are more than `max_bad` allows, or no sample was read.
pub(crate) fn reject_shards(
    ctx: &StageCtx,
    all: usize,
    good: usize,
    faults: &[BadSample],
) -> Result<(), OpError> {
    for BadSample { item, reason } in faults {
        ctx.reject(item, reason);
    }
    if faults.is_empty() {
        return Ok(());
    }
    let listed = list(faults);
    if good == 0 {
        return Err(OpError::failed(
            format!("no sample can be used: {listed}"),
            "a shard is a tar file of images with texts, as webdataset and img2dataset write it",
        ));
    }
    let max_bad = ctx.args().float(MAX_BAD)?;
    // A shard may have several faults.
    let bad: BTreeSet<&str> = faults.iter().map(|fault| fault.item.as_str()).collect();
    if share(bad.len(), all) > max_bad {
        return Err(OpError::failed(
            format!(
                "{} of {all} shards cannot be read to their end, more than max_bad = {max_bad:?} \
                 allows: {listed}",
                bad.len()
            ),
            "fetch or pack them again, or raise max_bad to use what was read of them",
        ));
    }
    Ok(())
}

/// The first of the bad samples with their reasons.
fn list(bad: &[BadSample]) -> String {
    let listed: Vec<String> = bad
        .iter()
        .take(LISTED_MAX)
        .map(|BadSample { item, reason }| format!("{item}: {reason}"))
        .collect();
    let more = if bad.len() > LISTED_MAX { "; …" } else { "" };
    format!("{}{more}", listed.join("; "))
}

#[expect(clippy::cast_precision_loss, reason = "a fraction of counts")]
fn share(part: usize, all: usize) -> f64 {
    part as f64 / all as f64
}
