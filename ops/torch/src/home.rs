//! Which libtorch is opened: the one that is asked for, the one this program was built with, or one
//! that the user fetched.

use std::env;
use std::path::PathBuf;

use crate::fetched;

/// What a folder of libtorch holds.
pub(crate) const LIBRARY: &str = "lib/libtorch_cpu.so";

/// The folder of libtorch. It need not be there: whoever opens it says so.
pub fn home() -> PathBuf {
    let folder = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let asked = env::var_os("LIBTORCH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    // A release is built with none: it runs on machines that have other folders.
    choose(
        asked,
        folder(env!("BLIP_LIBTORCH_HOME")),
        fetched::folders(),
    )
}

/// Who asks for a folder gets that one or an error, never another one.
fn choose(asked: Option<PathBuf>, built_with: Option<PathBuf>, fetched: Vec<PathBuf>) -> PathBuf {
    if let Some(asked) = asked {
        return asked;
    }
    // The last one is named when there is none: it is the one that a user without a GPU would
    // fetch.
    let mut candidates: Vec<PathBuf> = fetched;
    candidates.splice(0..0, built_with);
    let there = candidates
        .iter()
        .position(|folder| folder.join(LIBRARY).exists());
    let last = candidates.len().saturating_sub(1);
    candidates
        .into_iter()
        .nth(there.unwrap_or(last))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A folder with a library that is none.
    fn libtorch(at: &Path) -> PathBuf {
        fs::create_dir_all(at.join("lib")).unwrap();
        fs::write(at.join(LIBRARY), "").unwrap();
        at.to_owned()
    }

    #[test]
    fn the_first_that_is_there_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let (built, cuda, cpu) = (
            scratch.path().join("built"),
            scratch.path().join("cuda"),
            scratch.path().join("cpu"),
        );
        let chosen = || choose(None, Some(built.clone()), vec![cuda.clone(), cpu.clone()]);
        assert_eq!(
            chosen(),
            cpu,
            "none is there: the message names the usual one"
        );
        libtorch(&cpu);
        assert_eq!(chosen(), cpu);
        libtorch(&cuda);
        assert_eq!(chosen(), cuda);
        libtorch(&built);
        assert_eq!(chosen(), built);
    }

    #[test]
    fn what_is_asked_for_is_not_replaced_by_another() {
        let scratch = tempfile::tempdir().unwrap();
        let there = libtorch(scratch.path());
        assert_eq!(
            choose(Some("nowhere".into()), Some(there.clone()), vec![there]),
            Path::new("nowhere")
        );
    }

    #[test]
    fn without_any_folder_there_is_nothing_to_name() {
        assert_eq!(choose(None, None, Vec::new()), Path::new(""));
    }
}
