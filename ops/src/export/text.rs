//! `export … as text`: a vocabulary as BERT's `vocab.txt`.

use blip_engine::{Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;

use super::OutputFile;
use crate::types::VOCAB;

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "text",
            accepts: &[VOCAB],
            doc: "A text file. A vocabulary is a `vocab.txt`, one token per line, as \
                  `read.wordpiece` and BERT tokenizers read it.",
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
    file.write(&ctx.read(&artifact.digest)?)?;
    file.finish()?;
    Ok(ExportSummary {
        count: artifact.count,
    })
}
