//! `blip.lock`: what the stages of workflows came to, small, sorted and made for `git diff`. A
//! locked run refuses to come to anything else, and says where it would.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::ledger::StageResult;
use crate::digest::Digest;
use crate::key::NumericEnv;

/// The layout of the file.
const VERSION: u32 = 1;

/// The file: a section for every workflow, by name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockfile {
    version: u32,
    /// The sections.
    pub workflows: BTreeMap<String, Locked>,
}

/// What a workflow came to.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The machine that it was worked out on.
    pub environment: BTreeMap<String, String>,
    /// Its stages, by name.
    pub stages: BTreeMap<String, LockedStage>,
}

/// What a stage came to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    /// Its key.
    pub key: Digest,
    /// Its result.
    pub output: Digest,
    /// How many items the result has, where it has items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Numbers about the result.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// A file that is no lock file, or one of another version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LockfileError {
    /// It cannot be read as one.
    #[error("it is not a lock file of blip: {0}")]
    Format(String),
    /// A newer program wrote it.
    #[error("it has version {0}, this program knows version {VERSION}")]
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
    /// The lock file with this text.
    ///
    /// # Errors
    /// [`LockfileError`].
    pub fn parse(text: &str) -> Result<Self, LockfileError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let format = |error: serde_json::Error| LockfileError::Format(error.to_string());
        match serde_json::from_str::<Versioned>(text)
            .map_err(format)?
            .version
        {
            VERSION => serde_json::from_str(text).map_err(format),
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

impl Locked {
    /// What a run came to.
    pub fn of<'a>(
        env: &NumericEnv,
        results: impl Iterator<Item = (&'a str, &'a StageResult)>,
    ) -> Self {
        let stage = |(name, finished): (&str, &StageResult)| {
            let metrics = finished.metrics.iter().cloned().collect();
            let stage = LockedStage {
                key: finished.key,
                output: finished.output,
                items: finished.count,
                metrics,
            };
            (name.to_owned(), stage)
        };
        Self {
            environment: env.fields.iter().cloned().collect(),
            stages: results.map(stage).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_others_are_refused() {
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
            Locked {
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
            "it is not a lock file of blip: expected ident at line 1 column 2"
        );
    }
}
