//! Names of members: the key and the suffix in them, and those of files that are no samples.

/// How a member's name is read.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum MemberName {
    /// The key, and the suffix in lower case.
    Sample(String, String),
    /// What systems and tools leave beside data, and files without a suffix.
    NoSample,
}

/// Reads a name as webdataset does: the key ends at the first dot of the last part. `./a.jpg` has
/// the key of `a.jpg`.
pub(super) fn read(name: &str) -> MemberName {
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let Some((file, folders)) = parts.split_last() else {
        return MemberName::NoSample;
    };
    if is_clutter(file) || folders.iter().any(|folder| is_clutter(folder)) || is_meta(&parts) {
        return MemberName::NoSample;
    }
    let Some((stem, suffix)) = file.split_once('.') else {
        return MemberName::NoSample;
    };
    if suffix.is_empty() {
        return MemberName::NoSample;
    }
    let mut key = folders.join("/");
    if !key.is_empty() {
        key.push('/');
    }
    key.push_str(stem);
    MemberName::Sample(key, suffix.to_lowercase())
}

/// Whether a file or a folder is one of those that systems leave beside data: `.DS_Store`,
/// resource forks (`._a.jpg`), other hidden files, `__MACOSX`, `Thumbs.db`, `desktop.ini`.
pub fn is_clutter(name: &str) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    (name.starts_with('.') && name != ".." && name != ".")
        || is_one_of(&["__MACOSX", "Thumbs.db", "desktop.ini"])
}

/// Whether a file is about the data: README, LICENSE. An image of that name is a sample.
pub fn is_about_data(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_lowercase();
    ["readme", "license", "licence"]
        .iter()
        .any(|start| stem.starts_with(start))
}

/// Whether webdataset's own tools have noted something about the shard here: `__meta__`.
fn is_meta(parts: &[&str]) -> bool {
    parts
        .iter()
        .any(|part| part.len() > 4 && part.starts_with("__") && part.ends_with("__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_in_webdataset() {
        let sample = |key: &str, suffix: &str| MemberName::Sample(key.into(), suffix.into());
        assert_eq!(read("a.jpg"), sample("a", "jpg"));
        assert_eq!(read("./a.JPG"), sample("a", "jpg"));
        assert_eq!(read("v1.2/a.input.jpg"), sample("v1.2/a", "input.jpg"));
        assert_eq!(read("x__meta__.jpg"), sample("x__meta__", "jpg"));
        for name in [
            "a",
            "a.",
            "._a.jpg",
            "x/.DS_Store",
            "__MACOSX/a.jpg",
            "x/Thumbs.db",
            "__meta__",
            "__index__/a.json",
            "",
            "/",
        ] {
            assert_eq!(read(name), MemberName::NoSample, "{name}");
        }
        assert!(is_about_data("README.md") && is_about_data("LICENSE-MIT"));
        assert!(!is_about_data("read.jpg"));
    }
}
