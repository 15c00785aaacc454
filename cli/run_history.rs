//! The runs recorded in a cache, for `status`, `log`, `diff` and `cache pin`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blip_engine::CacheReader;
use blip_engine::cache::disk::Disk;
use blip_engine::cache::identity::CacheFolder;
use blip_grammar::nearest;

use crate::error::ErrorMessage;
use crate::workflow_file::CACHE_NAME;

/// A reader of a cache and the ids of its runs, oldest first; there is at least one.
///
/// # Errors
/// When the folder does not exist, has no runs, or cannot be read.
pub(crate) fn open(folder: &Path) -> Result<(CacheReader, Vec<String>), ErrorMessage> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let message = format!("`{}` is not a folder", folder.display());
            return Err(ErrorMessage::usage(message, cache_help()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ErrorMessage::usage(
                format!("there is no cache `{}`", folder.display()),
                cache_help(),
            ));
        }
        Err(error) => return Err(ErrorMessage::io("read the cache", folder, &error)),
    }
    examine(folder)?;
    let reader = CacheReader::new(folder);
    let runs = list(&reader, folder)?;
    if runs.is_empty() {
        let message = format!("no runs are recorded in `{}`", folder.display());
        return Err(ErrorMessage::usage(message, cache_help()));
    }
    Ok((reader, runs))
}

/// Looks at a folder that may be a cache.
///
/// # Errors
/// When it holds files that are not blip's, or cannot be read.
pub(crate) fn examine(folder: &Path) -> Result<CacheFolder, ErrorMessage> {
    CacheFolder::examine(folder, &Disk::default()).map_err(|error| ErrorMessage::from(&error))
}

fn list(reader: &CacheReader, folder: &Path) -> Result<Vec<String>, ErrorMessage> {
    reader
        .runs()
        .map_err(|error| ErrorMessage::io("read the cache", folder, &error))
}

/// Suggests a cache in a subfolder, since a common mistake is to be one folder above the workflow.
fn cache_help() -> String {
    let subfolders = fs::read_dir(".").into_iter().flatten().flatten();
    let mut caches: Vec<PathBuf> = subfolders
        .map(|entry| entry.path().join(CACHE_NAME))
        .filter(|path| path.join("runs").is_dir())
        .collect();
    caches.sort();
    match caches.first() {
        Some(cache) => {
            let cache = cache.strip_prefix(".").unwrap_or(cache);
            format!("did you mean --cache {}?", cache.display())
        }
        None => {
            "the cache is created by the first run, beside the workflow; select it with --cache"
                .to_owned()
        }
    }
}

/// Finds a run by its id or a prefix of it; without one, the newest.
///
/// # Errors
/// When no run or more than one matches.
pub(crate) fn find<'r>(runs: &'r [String], id: Option<&str>) -> Result<&'r str, ErrorMessage> {
    let Some(id) = id else {
        return runs
            .last()
            .map(String::as_str)
            .ok_or_else(|| ErrorMessage::usage("there are no runs", "run a workflow first"));
    };
    if let Some(run) = runs.iter().find(|run| *run == id) {
        return Ok(run);
    }
    let matches: Vec<&String> = runs.iter().filter(|run| run.starts_with(id)).collect();
    match matches.as_slice() {
        [run] => Ok(run),
        [] => {
            let help = match nearest(id, runs.iter().map(String::as_str)) {
                Some(run) => format!("did you mean `{run}`?"),
                None => "list the runs with `blip status`".to_owned(),
            };
            Err(ErrorMessage::usage(format!("there is no run `{id}`"), help))
        }
        many => Err(ErrorMessage::usage(
            format!("`{id}` is ambiguous: {} runs start with it", many.len()),
            "write more of the id; list the runs with `blip status`",
        )),
    }
}

/// Checks that a cache has a run of exactly this id.
///
/// # Errors
/// When it has not, or cannot be read.
pub(crate) fn require(reader: &CacheReader, cache: &Path, run: &str) -> Result<(), ErrorMessage> {
    examine(cache)?;
    let runs = list(reader, cache)?;
    if runs.iter().any(|known| known == run) {
        return Ok(());
    }
    let help = match (nearest(run, runs.iter().map(String::as_str)), runs.last()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(newest)) => format!("the newest run is `{newest}`"),
        (None, None) => "the cache has no runs; select another one with --cache".to_owned(),
    };
    Err(ErrorMessage::usage(
        format!("there is no run `{run}` in `{}`", cache.display()),
        help,
    ))
}

/// Milliseconds since a run started: its id starts with the time.
pub(crate) fn age_ms(run: &str) -> Option<u64> {
    let started: u64 = run.split('-').next()?.parse().ok()?;
    Some(now_ms().saturating_sub(started))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis());
    u64::try_from(now).unwrap_or(u64::MAX)
}
