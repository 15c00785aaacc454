//! The report of a run: its numbers as JSON, the curves of its trainings and sheets of judged pairs
//! as pictures.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip_data::picture::{Series, line_chart};
use blip_engine::{Digest, Reader, StageResult, Summary};
use serde_json::{Map, Value, json};

use crate::filter::SHEET;

/// The by-product in which the engine keeps the curves of a training.
const CURVES: &str = "curves";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written.
    #[error("could not write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A by-product of a stage is gone or damaged.
    #[error("the {what} of `{stage}` cannot be read: {detail}")]
    Lost {
        /// Which by-product.
        what: &'static str,
        /// Whose.
        stage: String,
        /// Why not.
        detail: String,
    },
}

impl ReportError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            ReportError::Write { .. } => {
                "make the folder writable, or name another one with --report"
            }
            ReportError::Lost { .. } => "run again: what is damaged is made anew",
        }
    }
}

/// Writes a report into a folder, which is made if there is none, and says which files it wrote.
///
/// # Errors
/// [`ReportError`].
pub fn write(
    folder: &Path,
    reader: &Reader,
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
    for (stage, finished) in &summary.results {
        if let Some(digest) = side(finished, SHEET) {
            put(
                file_name("pairs", stage),
                &read(reader, SHEET, stage, &digest)?,
            )?;
        }
        if let Some(digest) = side(finished, CURVES) {
            let bytes = read(reader, CURVES, stage, &digest)?;
            put(file_name("curves", stage), &chart(stage, &bytes)?)?;
        }
    }
    let numbers =
        serde_json::to_vec_pretty(&numbers(summary)).expect("numbers and names are plain data");
    put("report.json".to_owned(), &numbers)?;
    Ok(written)
}

fn side(finished: &StageResult, name: &str) -> Option<Digest> {
    finished
        .side_outputs
        .iter()
        .find(|(side, _)| side == name)
        .map(|(_, digest)| *digest)
}

fn read(
    reader: &Reader,
    what: &'static str,
    stage: &str,
    digest: &Digest,
) -> Result<Vec<u8>, ReportError> {
    let lost = |error: &dyn std::fmt::Display| ReportError::Lost {
        what,
        stage: stage.to_owned(),
        detail: error.to_string(),
    };
    reader.object(digest).map_err(|error| lost(&error))
}

/// Stage names hold no character that a file name cannot have but the slash of inner calls.
fn file_name(what: &str, stage: &str) -> String {
    format!("{what}.{}.png", stage.replace('/', "."))
}

/// Losses over steps.
fn chart(stage: &str, bytes: &[u8]) -> Result<Vec<u8>, ReportError> {
    let lost = |error: serde_json::Error| ReportError::Lost {
        what: CURVES,
        stage: stage.to_owned(),
        detail: error.to_string(),
    };
    let curves: Vec<(f64, Vec<(String, f64)>)> = serde_json::from_slice(bytes).map_err(lost)?;
    let mut series: Vec<Series> = Vec::new();
    for (step, values) in curves {
        // The learning rate is of another size than the losses and would lie on the axis.
        for (name, value) in values.into_iter().filter(|(name, _)| name != "lr") {
            let known = series.iter().position(|series| series.name == name);
            let at = known.unwrap_or_else(|| {
                series.push(Series {
                    name,
                    points: Vec::new(),
                });
                series.len() - 1
            });
            series[at].points.push((step, value));
        }
    }
    Ok(line_chart(&format!("losses of {stage}"), "step", &series))
}

fn numbers(summary: &Summary) -> Value {
    let object = |metrics: &[(String, f64)]| -> Map<String, Value> {
        metrics
            .iter()
            .map(|(name, value)| (name.clone(), (*value).into()))
            .collect()
    };
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
                "metrics": object(&end.metrics),
                "notes": end.notes,
            })
        })
        .collect();
    json!({"run": summary.run, "outcome": summary.outcome, "took_ms": summary.took_ms, "stages": stages})
}
