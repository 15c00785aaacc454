//! `blip.lock`: the keys and results of the stages of workflows, small, sorted and made for
//! `git diff`. A locked run fails where it would have others, and says in what they differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::stage_result::StageResult;
use crate::digest::Digest;
use crate::key::NumericEnv;

/// The layout of the file.
const VERSION: u32 = 1;

/// The file: a section for every workflow, by name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockfile {
    version: u32,
    pub workflows: BTreeMap<String, LockedWorkflow>,
}

/// The results of a workflow.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedWorkflow {
    /// The [`NumericEnv`] of the machine that the results were computed on.
    pub environment: BTreeMap<String, String>,
    /// By name.
    pub stages: BTreeMap<String, LockedStage>,
}

/// The result of a stage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    pub key: Digest,
    pub output: Digest,
    /// The number of items in the result, for types that have items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// Why a lock file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LockfileError {
    #[error("it is not a blip lock file: {0}")]
    Format(String),
    /// A newer program wrote it.
    #[error("it has version {0}, but this program supports version {VERSION}")]
    Version(u32),
}

impl Default for Lockfile {
    fn default() -> Self {
        Self {
            version: VERSION,
            workflows: BTreeMap::new(),
        }
    }
}

impl Lockfile {
    /// # Errors
    /// [`LockfileError`].
    pub fn parse(text: &str) -> Result<Self, LockfileError> {
        // First the version alone: another one may have other fields, which are an error below.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let format_error = |error: serde_json::Error| LockfileError::Format(error.to_string());
        let versioned: Versioned = serde_json::from_str(text).map_err(format_error)?;
        match versioned.version {
            VERSION => serde_json::from_str(text).map_err(format_error),
            other => Err(LockfileError::Version(other)),
        }
    }

    /// Its text: one line for every field, all names sorted.
    pub fn text(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("names, digests and numbers are plain data");
        text.push('\n');
        text
    }
}

impl LockedWorkflow {
    /// The results of a run, by stage name.
    pub fn of<'a>(
        env: &NumericEnv,
        results: impl Iterator<Item = (&'a str, &'a StageResult)>,
    ) -> Self {
        let mut stages = BTreeMap::new();
        for (name, result) in results {
            let stage = LockedStage {
                key: result.key,
                output: result.output,
                items: result.count,
                metrics: result.metrics.iter().cloned().collect(),
            };
            stages.insert(name.to_owned(), stage);
        }
        Self {
            environment: env.fields.iter().cloned().collect(),
            stages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_other_files_are_refused() {
        let mut file = Lockfile::default();
        let digest = Digest::of(b"x");
        let metrics = BTreeMap::from([("auc".to_owned(), 0.93)]);
        let stage = LockedStage {
            key: digest,
            output: digest,
            items: Some(3),
            metrics,
        };
        let stages = BTreeMap::from([("kept".to_owned(), stage)]);
        let environment = BTreeMap::from([("threads".to_owned(), "2".to_owned())]);
        file.workflows.insert(
            "demo.blip".to_owned(),
            LockedWorkflow {
                environment,
                stages,
            },
        );
        let text = file.text();
        assert_eq!(Lockfile::parse(&text), Ok(file));
        assert_eq!(
            Lockfile::parse(&text.replace("\"version\": 1", "\"version\": 9")),
            Err(LockfileError::Version(9))
        );
        let error = Lockfile::parse("not json").unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is not a blip lock file: expected ident at line 1 column 2"
        );
    }
}
