//! `export … as huggingface`: a folder that `from_pretrained` of transformers loads.

use blip_engine::{
    Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx, UpstreamStage,
};
use blip_grammar::ExportFormat;
use blip_model::Role;
use blip_model::huggingface::export::{self, Export, ExportError};
use blip_model::huggingface::{Config, TokenIds};
use tch::Device;

use crate::libtorch;
use crate::model::StoredModel;
use crate::types::{CAPTIONER, FILTER, MODEL};

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "huggingface",
            accepts: &[MODEL, CAPTIONER, FILTER],
            doc: "A folder for `from_pretrained` of transformers: config, safetensors, tokenizer, \
                  image processor and a model card with the lineage. A captioner is a \
                  `BlipForConditionalGeneration`, a filter a `BlipForImageTextRetrieval`, a \
                  pretrained model the former with the latter in its subfolder `retrieval`.",
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
    let folder = target.folder.join(&target.name);
    std::fs::create_dir(&folder).map_err(|error| super::unwritable(&folder, &error))?;
    let stored = StoredModel::read(ctx, artifact)?;
    let role = match &artifact.ty {
        ty if *ty == CAPTIONER.to_string() => Role::Captioner,
        ty if *ty == FILTER.to_string() => Role::Filter,
        _ => Role::Pretrained,
    };
    let special = stored.vocab()?.special();
    let config = Config {
        class: None,
        med: stored.header.config.clone(),
        tokens: TokenIds {
            dec: special.dec,
            sep: special.sep,
            pad: special.pad,
        },
        prompt: stored.header.prompt.clone(),
        temp: None,
    };
    let lineage = ctx.lineage().iter().map(ancestor).collect();
    let export = Export {
        config,
        vocab: &stored.header.vocab,
        lineage,
    };
    let _device = libtorch::lock_device()?;
    let med = stored.load(role, Device::Cpu)?;
    export::write(&folder, &med, &export).map_err(|error| match error {
        ExportError::ResNet => OpError::failed(
            error.to_string(),
            "export a model whose image encoder is a `vit`",
        ),
        ExportError::Io { .. } | ExportError::Store(_) => {
            OpError::failed(error.to_string(), "check the disk of the export's folder")
        }
    })?;
    Ok(ExportSummary { count: None })
}

fn ancestor(ancestor: &UpstreamStage) -> export::Ancestor {
    let UpstreamStage {
        stage,
        op,
        args,
        key,
        output,
        count,
        metrics,
    } = ancestor.clone();
    export::Ancestor {
        stage: stage.to_string(),
        op,
        args,
        key: key.to_string(),
        digest: output.to_string(),
        count,
        metrics,
    }
}
