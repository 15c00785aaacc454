//! `export … as json`: pairs as a list of rows, metrics as an object.

use blip_engine::{Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;
use serde_json::Value;

use super::OutputFile;
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
    let mut file = OutputFile::create(target.folder.join(&target.name))?;
    if artifact.ty == PAIRS.to_string() {
        let count = write_pairs(ctx, artifact, &mut file)?;
        file.finish()?;
        return Ok(ExportSummary { count: Some(count) });
    }
    let value: Value = serde_json::from_slice(&ctx.read(&artifact.digest)?).map_err(|error| {
        OpError::Bug(format!(
            "the result of `{}` is not JSON: {error}",
            artifact.stage
        ))
    })?;
    let mut text = serde_json::to_vec_pretty(&value).expect("what was parsed can be written");
    text.push(b'\n');
    file.write(&text)?;
    file.finish()?;
    Ok(ExportSummary { count: None })
}

/// One row per line, so that the file can be read and compared line by line.
fn write_pairs(ctx: &StageCtx, artifact: &Artifact, file: &mut OutputFile) -> Result<u64, OpError> {
    let mut count = 0;
    for_each_sample(ctx, artifact, |image, sample| {
        for text in &sample.texts {
            let row = Row::new(&image, text, sample.ground_truth.as_ref());
            file.write(if count == 0 { b"[\n" } else { b",\n" })?;
            file.write(&serde_json::to_vec(&row).expect("a row is plain data"))?;
            count += 1;
        }
        Ok(())
    })?;
    file.write(if count == 0 { b"[]\n" } else { b"\n]\n" })?;
    Ok(count)
}
