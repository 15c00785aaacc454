//! Errors of commands: what is wrong, and what the user can do about it.

use std::io;
use std::path::Path;

use blip_engine::cache::CacheError;
use blip_engine::cache::disk::limit_help;
use blip_engine::{EngineError, UnknownTarget};
use blip_grammar::{Diagnostic, Source, nearest};
use blip_ops::SettingError;

use crate::exit_code;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The command line, a file or the cache.
    Message(ErrorMessage),
    /// The workflow has errors.
    Workflow(Box<Source>, Vec<Diagnostic>),
    /// A file, by name, that is not source text, so that no excerpt can be shown.
    InvalidSource(String, Box<Diagnostic>),
}

/// An error message in the layout `error: MESSAGE`, `help: HELP`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ErrorMessage {
    pub(crate) message: String,
    pub(crate) help: String,
    pub(crate) exit_code: u8,
}

impl ErrorMessage {
    /// An invalid request; exits with [`exit_code::USAGE`].
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
            exit_code: exit_code::USAGE,
        }
    }

    /// A failed file operation: `action` completes "could not ...", such as "read the workflow".
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        // Without a number it is our own error about a file that was read.
        let is_own = error.kind() == io::ErrorKind::FileTooLarge && error.raw_os_error().is_none();
        let limit = limit_help(error).filter(|_| !is_own);
        let help = limit.unwrap_or(match error.kind() {
            io::ErrorKind::NotFound => "check the path; it is relative to the current directory",
            io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
            io::ErrorKind::IsADirectory => "name a file in it",
            io::ErrorKind::NotADirectory => "a component of the path is a file, not a folder",
            io::ErrorKind::FileTooLarge => "name another file",
            _ => "check the disk and try again",
        });
        // A mistyped path is a usage error; a failing disk is not.
        let mistyped = limit.is_none()
            && matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::FileTooLarge
            );
        let exit_code = if mistyped {
            exit_code::USAGE
        } else {
            exit_code::IO
        };
        Self {
            message: format!(
                "could not {action} `{}`: {}",
                path.display(),
                os_message(error)
            ),
            help: help.to_owned(),
            exit_code,
        }
    }
}

/// The operating system's message in lower case, without the `(os error N)` that Rust appends.
pub(crate) fn os_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    first.to_lowercase().chain(chars).collect()
}

impl From<ErrorMessage> for CommandError {
    fn from(message: ErrorMessage) -> Self {
        CommandError::Message(message)
    }
}

impl From<SettingError> for CommandError {
    fn from(error: SettingError) -> Self {
        ErrorMessage::usage(error.what, error.help).into()
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        let exit_code = match &error {
            EngineError::Target(unknown) => return CommandError::Message(unknown_target(unknown)),
            EngineError::Cache(error) => return CommandError::Message(error.into()),
            EngineError::Log(_) | EngineError::Threads(_) => exit_code::IO,
            EngineError::Export(_) => exit_code::FAILED,
        };
        CommandError::Message(ErrorMessage {
            message: error.to_string(),
            help: error.help(),
            exit_code,
        })
    }
}

impl From<&CacheError> for ErrorMessage {
    fn from(error: &CacheError) -> Self {
        let exit_code = match error {
            CacheError::Busy { .. } => exit_code::BUSY,
            CacheError::Foreign { .. } => exit_code::USAGE,
            _ => exit_code::IO,
        };
        Self {
            message: error.to_string(),
            help: error.help(),
            exit_code,
        }
    }
}

fn unknown_target(unknown: &UnknownTarget) -> ErrorMessage {
    let help = match nearest(&unknown.name, unknown.known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None if unknown.known.is_empty() => "the workflow has no stages".to_owned(),
        None => format!("available stages: {}", unknown.known.join(", ")),
    };
    ErrorMessage::usage(unknown.to_string(), help)
}
