//! The folders that `scripts/libtorch.sh` fetches libtorch into: read by the program and by its
//! build script.

use std::env;
use std::path::PathBuf;

/// The release of libtorch that torch-sys binds.
pub(crate) const VERSION: &str = "2.11.0";

/// Where this user's libtorch would be, in the order in which it is looked for. The one with a CUDA
/// half is only fetched where there is a GPU, or where it was asked for, and computes on a CPU too.
/// `BLIP_LIBTORCH` chooses, as it does when it is fetched.
pub(crate) fn folders() -> Vec<PathBuf> {
    let Some(cache) = cache_folder() else {
        return Vec::new();
    };
    let chosen = env::var("BLIP_LIBTORCH").unwrap_or_default();
    ["cuda", "cpu"]
        .into_iter()
        .filter(|flavour| chosen.is_empty() || chosen == *flavour)
        .map(|flavour| cache.join(format!("blip/libtorch-{VERSION}-{flavour}")))
        .collect()
}

/// `XDG_CACHE_HOME`, or `.cache` in the home folder; None for who has neither.
fn cache_folder() -> Option<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))
}
