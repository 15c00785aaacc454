//! Why a command could not do what it was asked, with what the user can do about it.

use std::io;
use std::path::Path;

use blip_engine::cache::CacheError;
use blip_engine::{EngineError, UnknownTarget};
use blip_grammar::{Diagnostic, Source, nearest};

use crate::exit_code;

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something about the command line, a file or the cache.
    Fault(Fault),
    /// The workflow has faults.
    Workflow(Box<Source>, Vec<Diagnostic>),
    /// A file is no source text at all, so that there is nothing to show of it.
    NoSource(String, Box<Diagnostic>),
}

/// Something about the command line, a file or the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// What is wrong, and where.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: String,
    /// The exit code.
    pub(crate) code: u8,
}

impl Fault {
    /// Something the user asked for that cannot be.
    pub(crate) fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
            code: exit_code::USAGE,
        }
    }

    /// A file or folder that could not be used.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "check the path; it is relative to the folder you are in",
            io::ErrorKind::PermissionDenied => "you lack the permission: check who owns it",
            io::ErrorKind::IsADirectory => "name a file in it",
            io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
            io::ErrorKind::StorageFull => "free some space on the disk",
            _ => "check the disk and try again",
        };
        // A path that was typed wrong is the command line's fault; a disk is not.
        let typed = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
        );
        let code = if typed {
            exit_code::USAGE
        } else {
            exit_code::IO
        };
        Self {
            what: format!("could not {doing} `{}`: {}", path.display(), reason(error)),
            help: help.to_owned(),
            code,
        }
    }
}

/// What the operating system says, without the number that Rust adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Fault(fault)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Target(unknown) => return Failure::Fault(unknown_target(unknown)),
            EngineError::Cache(CacheError::Busy { .. }) => exit_code::BUSY,
            EngineError::Cache(_) | EngineError::Log { .. } => exit_code::IO,
        };
        Failure::Fault(Fault {
            what: error.to_string(),
            help: error.help(),
            code,
        })
    }
}

/// A stage that the workflow does not have.
pub(crate) fn unknown_target(unknown: &UnknownTarget) -> Fault {
    let help = match nearest(&unknown.name, unknown.known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None if unknown.known.is_empty() => "it has no stages".to_owned(),
        None => format!("it has {}", unknown.known.join(", ")),
    };
    Fault::usage(unknown.to_string(), help)
}
