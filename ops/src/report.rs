//! The report of a run: its numbers as JSON, and as images the curves of its trainings and sheets
//! of scored pairs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip_data::plot::{Series, line_chart};
use blip_engine::{CacheReader, Digest, StageResult, Summary};
use serde_json::{Map, Value, json};

use crate::filter::SHEET;

/// The side output in which the engine stores the curves of a training.
const CURVES: &str = "curves";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("could not write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A side output of a stage is missing or corrupt.
    #[error("the {what} of `{stage}` cannot be read: {detail}")]
    Unreadable {
        /// Name of the side output.
        what: &'static str,
        stage: String,
        detail: String,
    },
}

impl ReportError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            ReportError::Write { .. } => {
                "make the folder writable, or choose another one with --report"
            }
            ReportError::Unreadable { .. } => {
                "run again: missing and corrupt results are recomputed"
            }
        }
    }
}

/// Writes a report into a folder, which is created if needed, and returns the files it wrote.
///
/// # Errors
/// [`ReportError`].
pub fn write(
    folder: &Path,
    reader: &CacheReader,
    summary: &Summary,
) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(folder).map_err(|source| ReportError::Write {
        path: folder.to_path_buf(),
        source,
    })?;
    let mut written = Vec::new();
    let mut put = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| ReportError::Write {
            path: path.clone(),
            source,
        })?;
        written.push(path);
        Ok(())
    };
    for (stage, result) in &summary.results {
        if let Some(digest) = side_output(result, SHEET) {
            put(
                file_name("pairs", stage),
                &read(reader, SHEET, stage, &digest)?,
            )?;
        }
        if let Some(digest) = side_output(result, CURVES) {
            let bytes = read(reader, CURVES, stage, &digest)?;
            put(file_name("curves", stage), &draw_chart(stage, &bytes)?)?;
        }
    }
    let numbers = serde_json::to_vec_pretty(&summary_json(summary))
        .expect("numbers and names are plain data");
    put("report.json".to_owned(), &numbers)?;
    Ok(written)
}

fn side_output(result: &StageResult, name: &str) -> Option<Digest> {
    result
        .side_outputs
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, digest)| *digest)
}

fn read(
    reader: &CacheReader,
    what: &'static str,
    stage: &str,
    digest: &Digest,
) -> Result<Vec<u8>, ReportError> {
    reader
        .object(digest)
        .map_err(|error| ReportError::Unreadable {
            what,
            stage: stage.to_owned(),
            detail: error.to_string(),
        })
}

/// A stage name may hold one character that a file name cannot: the slash of inner stages.
fn file_name(what: &str, stage: &str) -> String {
    format!("{what}.{}.png", stage.replace('/', "."))
}

/// A chart of losses over steps.
fn draw_chart(stage: &str, bytes: &[u8]) -> Result<Vec<u8>, ReportError> {
    let curves: Vec<(f64, Vec<(String, f64)>)> =
        serde_json::from_slice(bytes).map_err(|error| ReportError::Unreadable {
            what: CURVES,
            stage: stage.to_owned(),
            detail: error.to_string(),
        })?;
    let mut series: Vec<Series> = Vec::new();
    for (step, values) in curves {
        // The learning rate is orders of magnitude smaller than the losses and would lie on the
        // axis.
        for (name, value) in values.into_iter().filter(|(name, _)| name != "lr") {
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push((step, value)),
                None => series.push(Series {
                    name,
                    points: vec![(step, value)],
                }),
            }
        }
    }
    Ok(line_chart(&format!("losses of {stage}"), "step", &series))
}

fn summary_json(summary: &Summary) -> Value {
    let stages: Vec<Value> = summary
        .stages
        .iter()
        .map(|end| {
            json!({
                "stage": end.stage,
                "op": end.op,
                "status": end.status,
                "items": end.count,
                "took_ms": end.took_ms,
                "key": end.key,
                "output": end.output,
                "rejected": end.rejected,
                "metrics": metrics_json(&end.metrics),
                "notes": end.notes,
            })
        })
        .collect();
    json!({
        "run": summary.run,
        "outcome": summary.outcome,
        "took_ms": summary.took_ms,
        "stages": stages,
    })
}

fn metrics_json(metrics: &[(String, f64)]) -> Map<String, Value> {
    metrics
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect()
}
