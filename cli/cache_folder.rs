//! The cache that `status` and `log` read, and the runs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blip_engine::Reader;
use blip_grammar::nearest;

use crate::failure::Fault;
use crate::workflow_file::CACHE_NAME;

/// A reader of a cache in which there was a run, and the ids of its runs, oldest first.
///
/// # Errors
/// When there is no such folder, no run in it, or it cannot be read.
pub(crate) fn open(folder: &Path) -> Result<(Reader, Vec<String>), Fault> {
    let kind = fs::metadata(folder);
    match &kind {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let what = format!("`{}` is a file, not a cache folder", folder.display());
            return Err(Fault::usage(what, elsewhere()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fault::usage(
                format!("there is no cache `{}`", folder.display()),
                elsewhere(),
            ));
        }
        Err(error) => return Err(Fault::io("read the cache", folder, error)),
    }
    let reader = Reader::new(folder);
    let runs = reader
        .runs()
        .map_err(|error| Fault::io("read the cache", folder, &error))?;
    if runs.is_empty() {
        let what = format!("no run is recorded in `{}`", folder.display());
        return Err(Fault::usage(what, elsewhere()));
    }
    Ok((reader, runs))
}

/// Where there are caches near here.
fn elsewhere() -> String {
    let folders = fs::read_dir(".")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join(CACHE_NAME));
    let mut found: Vec<PathBuf> = folders.filter(|path| path.join("runs").is_dir()).collect();
    found.sort();
    match found.first() {
        Some(cache) => {
            let cache = cache.strip_prefix(".").unwrap_or(cache);
            format!(
                "a cache lies beside its workflow: try --cache {}",
                cache.display()
            )
        }
        None => {
            "a cache lies beside its workflow, where the first run makes it: name it with --cache"
                .to_owned()
        }
    }
}

/// The run that is meant: by its id, how that begins, or, without a word, the newest.
///
/// # Errors
/// When no run or more than one is meant.
pub(crate) fn find<'r>(runs: &'r [String], wanted: Option<&str>) -> Result<&'r str, Fault> {
    let Some(wanted) = wanted else {
        return runs
            .last()
            .map(String::as_str)
            .ok_or_else(|| Fault::usage("there is no run", "run a workflow first"));
    };
    if let Some(run) = runs.iter().find(|run| *run == wanted) {
        return Ok(run);
    }
    let meant: Vec<&String> = runs.iter().filter(|run| run.starts_with(wanted)).collect();
    match meant.as_slice() {
        [run] => Ok(run),
        [] => {
            let help = match nearest(wanted, runs.iter().map(String::as_str)) {
                Some(run) => format!("did you mean `{run}`?"),
                None => "`blip status` lists the runs".to_owned(),
            };
            Err(Fault::usage(format!("there is no run `{wanted}`"), help))
        }
        many => {
            let what = format!("`{wanted}` is how {} runs begin", many.len());
            Err(Fault::usage(
                what,
                "write more of the id; `blip status` lists the runs",
            ))
        }
    }
}

/// How long ago a run began, in milliseconds; its id begins with the time.
pub(crate) fn age_ms(run: &str) -> Option<u64> {
    let began: u64 = run.split('-').next()?.parse().ok()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()?
        .as_millis();
    Some(u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(began))
}
