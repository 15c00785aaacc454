//! `score`, `select` and `filter`: web and synthetic texts alike are scored by a filter, and those
//! that match their image are kept (paper section 3.3).
//!
//! Scoring runs the model, once per image and text; selecting by a threshold runs none. `filter` is
//! both, as two stages: another threshold leaves the scores cached.

mod scorer;
mod select;
mod sheet;

use blip_engine::{Op, Step};
use blip_grammar::{Arg, Arguments, Signature, Type};

pub(crate) use self::scorer::FilterScorer;
pub(crate) use self::select::SHEET;
use crate::types::{FILTER, PAIRS};

/// The ops of this file.
pub(crate) fn ops() -> [Op; 3] {
    let score = Signature::stage(
        "score",
        PAIRS,
        "Scores every text with the probability that it matches its image: the filter's ITM head.",
    )
    .example("score(judge, web_pairs)")
    .arg(filter_arg())
    .arg(pairs_arg());
    let select = Signature::stage(
        "select",
        PAIRS,
        "Keeps the texts whose score reaches a threshold.",
    )
    .example("select(scored, threshold = 0.5)")
    .arg(Arg::required("pairs", PAIRS, "Scored pairs."))
    .arg(threshold_arg());
    let filter = Signature::stage(
        "filter",
        PAIRS,
        "Scores every text and keeps those that match their image: `score`, then `select`.",
    )
    .example("filter(judge, merge(web_pairs, synthetic), threshold = 0.5)")
    .arg(filter_arg())
    .arg(pairs_arg())
    .arg(threshold_arg());
    [
        Op::map(score, 1, |ctx| Ok(Box::new(scorer::Score::new(ctx)?))).numeric(),
        Op::run(select, 2, select::run),
        Op::compose(filter, steps),
    ]
}

fn filter_arg() -> Arg {
    Arg::required("filter", FILTER, "The filter model.")
}

fn pairs_arg() -> Arg {
    Arg::required(
        "pairs",
        PAIRS,
        "The pairs; every text is scored independently.",
    )
}

fn threshold_arg() -> Arg {
    Arg::with_default(
        "threshold",
        Type::Float,
        "0.5",
        "Minimum probability of a match at which a text is kept.",
    )
    .within(0.0, 1.0)
}

fn steps(args: &Arguments) -> Vec<Step> {
    let pick = |names: &[&'static str]| {
        names
            .iter()
            .filter_map(|name| Some((*name, args.get(name)?.clone())))
            .collect()
    };
    vec![
        Step {
            op: "score",
            args: pick(&["filter", "pairs"]),
            previous: None,
        },
        Step {
            op: "select",
            args: pick(&["threshold"]),
            previous: Some("pairs"),
        },
    ]
}
