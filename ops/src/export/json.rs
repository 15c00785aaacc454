//! `export … as json`: pairs as a list of rows, metrics as an object.

use blip_engine::{Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;
use serde_json::Value;

use super::{OutputFile, RowList};
use crate::pairs::for_each_sample;
use crate::row::Row;
use crate::types::{METRICS, PAIRS};

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "json",
            accepts: &[PAIRS, METRICS],
            doc: "One JSON file. Pairs are a list with a row for each text: `image` (the digest of \
                  its bytes; `as captions` writes the images too), `caption`, and its provenance \
                  and score. Metrics are an object.",
        },
        version: 1,
        run: std::sync::Arc::new(run),
    }
}

fn run(
    ctx: &StageCtx,
    artifact: &Artifact,
    target: &ExportTarget,
) -> Result<ExportSummary, OpError> {
    let path = target.folder.join(&target.name);
    if artifact.ty == PAIRS.to_string() {
        let count = Some(write_pairs(ctx, artifact, RowList::create(path)?)?);
        return Ok(ExportSummary { count });
    }
    let value: Value = serde_json::from_slice(&ctx.read(&artifact.digest)?).map_err(|error| {
        OpError::Bug(format!(
            "the result of `{}` is not JSON: {error}",
            artifact.stage
        ))
    })?;
    let mut text = serde_json::to_vec_pretty(&value).expect("what was parsed can be written");
    text.push(b'\n');
    let mut file = OutputFile::create(path)?;
    file.write(&text)?;
    file.finish()?;
    Ok(ExportSummary { count: None })
}

fn write_pairs(ctx: &StageCtx, artifact: &Artifact, mut list: RowList) -> Result<u64, OpError> {
    for_each_sample(ctx, artifact, |image, sample| {
        let truth = sample.ground_truth.as_ref();
        let mut texts = sample.texts.iter();
        texts.try_for_each(|text| list.add(&Row::new(&image, text, truth)))
    })?;
    list.finish()
}
