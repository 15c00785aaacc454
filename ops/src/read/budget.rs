//! How much of a dataset may be bad: beyond that, something is wrong with all of it and the stage
//! fails.

use blip_engine::{OpError, StageCtx};
use blip_grammar::{Arg, Type};

/// Bad samples named in the message.
const NAMED: usize = 3;

/// The argument of every op that reads pairs.
pub(crate) fn max_bad() -> Arg {
    let doc = "The share of samples that may be bad; they are put aside and listed. With more of them the stage fails.";
    Arg::with_default("max_bad", Type::Float, "0.01", doc)
        .within(0.0, 1.0)
        .not_in_key()
}

/// A sample that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bad {
    /// Which one: `web-00.tar: 000123`.
    pub(crate) item: String,
    /// Why.
    pub(crate) reason: String,
}

/// Puts the bad samples aside. `good` samples are there besides.
///
/// # Errors
/// When they are more than `max_bad` allows, or nothing is good.
pub(crate) fn reject(ctx: &StageCtx, good: usize, bad: &[Bad]) -> Result<(), OpError> {
    for Bad { item, reason } in bad {
        ctx.reject(item, reason);
    }
    let named: Vec<String> = bad
        .iter()
        .take(NAMED)
        .map(|Bad { item, reason }| format!("{item}: {reason}"))
        .collect();
    let more = if bad.len() > NAMED { "; …" } else { "" };
    let named = format!("{}{more}", named.join("; "));
    let all = good + bad.len();
    if good == 0 {
        let what = match bad {
            [] => "there is no sample".to_owned(),
            _ => format!("none of the {all} samples can be used: {named}"),
        };
        return Err(OpError::failed(
            what,
            "a sample is an image and a text: see `blip ops` for what is read here",
        ));
    }
    let max_bad = ctx.args().float("max_bad")?;
    #[expect(clippy::cast_precision_loss, reason = "a share of counts")]
    let share = bad.len() as f64 / all as f64;
    if share > max_bad {
        return Err(OpError::failed(
            format!(
                "{} of {all} samples cannot be used, more than max_bad = {max_bad:?} allows: {named}",
                bad.len()
            ),
            "mend or remove them, or raise max_bad: what can be used is not read again",
        ));
    }
    Ok(())
}
