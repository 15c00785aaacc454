//! What is in the way of files that are published, and what is said of it.

use std::path::PathBuf;

use crate::op::OpError;

/// How many files a message names.
const NAMED_MAX: usize = 5;

/// A file that publishing must not touch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Obstacle {
    /// No publication wrote it.
    Foreign(PathBuf),
    /// It has other bytes than were published.
    Changed(PathBuf),
    /// A folder or something else that a file cannot replace.
    NotAFile(PathBuf),
    /// A file where a folder is needed.
    NotAFolder(PathBuf),
    /// What the run has read.
    Input(PathBuf),
}

/// The error about what is in the way, if there is anything that `overwrite` does not replace.
pub(crate) fn refuse(obstacles: &[Obstacle], overwrite: bool) -> Result<(), OpError> {
    let in_the_way: Vec<&Obstacle> = obstacles
        .iter()
        .filter(|obstacle| !(overwrite && obstacle.can_be_replaced()))
        .collect();
    if in_the_way.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> = in_the_way
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = in_the_way.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let help = if in_the_way.iter().all(|obstacle| obstacle.can_be_replaced()) {
        "move it away, choose another path, or replace it with --overwrite"
    } else {
        "move it away, or choose another path"
    };
    Err(OpError::failed(named.join("; "), help))
}

impl Obstacle {
    /// Whether publishing with `overwrite` replaces it.
    fn can_be_replaced(&self) -> bool {
        matches!(self, Obstacle::Foreign(_) | Obstacle::Changed(_))
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Obstacle::Foreign(path) => {
                write!(f, "{} exists and was not written by blip", path.display())
            }
            Obstacle::Changed(path) => {
                write!(f, "{} was changed after blip wrote it", path.display())
            }
            Obstacle::NotAFile(path) => {
                write!(f, "{} exists and is not a file", path.display())
            }
            Obstacle::Input(path) => {
                write!(f, "{} is a file that the workflow reads", path.display())
            }
            Obstacle::NotAFolder(path) => {
                write!(f, "{} exists and is not a folder", path.display())
            }
        }
    }
}
