//! The report of a run: its numbers as JSON, and as images the curves of its trainings and sheets
//! of scored pairs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip_data::plot::{Series, line_chart};
use blip_engine::cache::disk::{Disk, limit_help};
use blip_engine::publish::Destination;
use blip_engine::{CacheReader, Digest, OpError, RejectedItem, StageResult, Summary};
use serde_json::{Map, Value, json};

use crate::filter::SHEET;

/// The side output in which the engine stores the curves of a training.
const CURVES: &str = "curves";
/// The file that every report has.
const NUMBERS: &str = "report.json";
/// A line for each rejected item, if there are any.
const REJECTED: &str = "rejected.jsonl";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("`{}` is not a folder for a report", .0.display())]
    Folder(PathBuf),
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
    /// Files in the way, or the disk.
    #[error(transparent)]
    Publish(#[from] OpError),
}

impl ReportError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            ReportError::Folder(_) => "name a folder, such as \"out/report\"".to_owned(),
            ReportError::Write { source, .. } => limit_help(source)
                .unwrap_or("make the folder writable, or choose another one with --report")
                .to_owned(),
            ReportError::Unreadable { .. } => {
                "run again: missing and corrupt results are recomputed".to_owned()
            }
            ReportError::Publish(error) => error.help(),
        }
    }
}

/// A report in a folder, which may hold other files as well.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
    destination: Destination,
}

impl Report {
    /// # Errors
    /// [`ReportError::Folder`].
    pub fn at(folder: &Path) -> Result<Self, ReportError> {
        let destination = Destination::of(&folder.join(NUMBERS));
        if folder.exists() && !folder.is_dir() {
            return Err(ReportError::Folder(folder.to_path_buf()));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            destination: destination.ok_or_else(|| ReportError::Folder(folder.to_path_buf()))?,
        })
    }

    /// As given to [`Report::at`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether an export to this path would write a file of the report.
    pub fn writes(&self, export: &Path) -> bool {
        let names = [NUMBERS, REJECTED].map(|name| Destination::of(&self.folder.join(name)));
        names.contains(&Destination::of(export))
    }

    /// Fails if the folder has a file that the report would replace and that no report wrote.
    ///
    /// # Errors
    /// [`ReportError::Publish`].
    pub fn check(&self) -> Result<(), ReportError> {
        Ok(self.destination.check(&[REJECTED], &Disk::default())?)
    }

    /// Writes the report of all stages that have a result, also after a failed run. Says how many
    /// files it has. As long as another process writes it, `keep_waiting` is asked.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn write(
        &self,
        reader: &CacheReader,
        summary: &Summary,
        overwrite: bool,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, ReportError> {
        let files = files(reader, summary)?;
        let disk = Disk::default();
        let staging = self.destination.stage(&disk, keep_waiting)?;
        let staging = staging.ok_or_else(|| self.destination.busy())?;
        for (name, bytes) in &files {
            fs::write(staging.folder().join(name), bytes).map_err(|source| ReportError::Write {
                path: self.folder.clone(),
                source,
            })?;
        }
        let input = Digest::of(summary.run.as_bytes());
        self.destination
            .publish(&staging, input, overwrite, &disk)?;
        Ok(files.len())
    }
}

/// The files of a report, by name.
fn files(reader: &CacheReader, summary: &Summary) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let mut files = Vec::new();
    for (stage, result) in &summary.results {
        if let Some(digest) = side_output(result, SHEET) {
            let bytes = read(reader, SHEET, stage, &digest)?;
            files.push((file_name("pairs", stage), bytes));
        }
        if let Some(digest) = side_output(result, CURVES) {
            let bytes = read(reader, CURVES, stage, &digest)?;
            files.push((file_name("curves", stage), draw_chart(stage, &bytes)?));
        }
    }
    let rejected = rejected_lines(reader, summary);
    if !rejected.is_empty() {
        files.push((REJECTED.to_owned(), rejected));
    }
    let numbers = serde_json::to_vec_pretty(&summary_json(summary))
        .expect("numbers and names are plain data");
    files.push((NUMBERS.to_owned(), numbers));
    Ok(files)
}

/// `{"stage", "item", "reason"}` in a line each.
fn rejected_lines(reader: &CacheReader, summary: &Summary) -> Vec<u8> {
    let mut lines = Vec::new();
    for end in summary.stages.iter().filter(|end| end.rejected > 0) {
        let record = end.key.and_then(|key| reader.record(&key));
        for RejectedItem { item, reason } in record.map_or(Vec::new(), |record| record.rejected) {
            let line = json!({ "stage": end.stage, "item": item, "reason": reason });
            lines.extend(line.to_string().into_bytes());
            lines.push(b'\n');
        }
    }
    lines
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
