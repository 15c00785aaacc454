//! Paths and names of what is published: resolved, compared, and with numbers in them.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// An absolute path with the symbolic links of the part that exists followed and `.` and `..` taken
/// out, so that every place has one name.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut missing: Vec<Component<'_>> = Vec::new();
    let mut existing = absolute.as_path();
    let mut resolved = loop {
        if let Ok(real) = existing.canonicalize() {
            break real;
        }
        let (Some(part), Some(parent)) = (existing.components().next_back(), existing.parent())
        else {
            return absolute;
        };
        missing.push(part);
        existing = parent;
    };
    for part in missing.into_iter().rev() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
    }
    resolved
}

/// What is before and after the `{…}` of a name, which stands for a number.
pub(crate) fn around_number(name: &str) -> Option<(&str, &str)> {
    let (before, rest) = name.split_once('{')?;
    let (_, after) = rest.rsplit_once('}')?;
    Some((before, after))
}

/// Whether a name is a number between these texts.
pub(crate) fn is_numbered(name: &str, before: &str, after: &str) -> bool {
    let number = name
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The first file on the way to a folder.
pub(super) fn file_among(folder: &Path) -> Option<&Path> {
    let existing = folder
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())?;
    (!existing.is_dir()).then_some(existing)
}

pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let one = one.canonicalize();
    one.is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

pub(super) fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
