//! Export paths that would do harm: into the cache, or over what the workflow reads.

use std::path::{Component, Path, PathBuf};

use blip_grammar::{Diagnostic, Export, codes};

use crate::cache::disk::TEMPORARY_PREFIX;
use crate::files::braces;
use crate::graph::Graph;
use crate::publish::{RECEIPT_SUFFIX, around_number, is_numbered, resolve};

/// An error for each export into the cache, onto a file that the workflow reads, into a folder that
/// it reads, onto one of the `files` that belong to the workflow, or to where another export may
/// write.
pub(crate) fn check(
    graph: &Graph,
    base: &Path,
    cache: &Path,
    files: &[(&Path, &str)],
) -> Vec<Diagnostic> {
    if graph.exports().next().is_none() {
        return Vec::new();
    }
    let base = resolve(base);
    let cache = resolve(cache);
    let inputs = Input::all(graph, &base);
    let mut diagnostics = Vec::new();
    let mut earlier: Vec<(PathBuf, &Export)> = Vec::new();
    for (export, _) in graph.exports() {
        let target = resolve(&base.join(&export.path));
        let clash = earlier
            .iter()
            .find_map(|(path, other)| Some((other, clash(path, &target)?)));
        let file = files
            .iter()
            .find(|(file, _)| resolve(file).starts_with(&target));
        if is_own_name(&export.path) {
            let what = format!("`{}` is a name for files of blip itself", export.path);
            diagnostics.push(error(export, what, "export to another name"));
        } else if let Some((path, file)) = file {
            let relation = if target == resolve(path) {
                "is"
            } else {
                "contains"
            };
            let what = format!("`{}` {relation} {file}", export.path);
            diagnostics.push(error(export, what, HELP));
        } else if target.starts_with(&cache) {
            let what = format!("`{}` is in the cache", export.path);
            diagnostics.push(error(export, what, HELP));
        } else if cache.starts_with(&target) {
            let what = format!("`{}` contains the cache", export.path);
            diagnostics.push(error(export, what, HELP));
        } else if let Some(input) = inputs.iter().find(|input| input.is_hit_by(&target, &base)) {
            let what = format!(
                "`{}` is among the files that `{}` reads",
                export.path, input.stage
            );
            diagnostics.push(error(export, what, HELP));
        } else if let Some((other, relation)) = clash {
            let what = format!("`{}` and `{}` {relation}", other.path, export.path);
            diagnostics.push(error(export, what, "give every export a path of its own"));
        }
        earlier.push((target, export));
    }
    diagnostics
}

const WILDCARDS: [char; 3] = ['*', '?', '['];
/// How many shards of an export are compared with a pattern of inputs.
const SHARDS_COMPARED: u32 = 100;
const HELP: &str = "export to a folder of its own, such as \"out/\"";

fn error(export: &Export, what: String, help: &str) -> Diagnostic {
    Diagnostic::error(codes::EXPORT_PATH, what)
        .at(export.span, "this export")
        .help(help)
}

/// Whether a part of a path is a name that publishing itself uses.
fn is_own_name(path: &str) -> bool {
    let mut parts = Path::new(path).iter().map(|part| part.to_string_lossy());
    parts.any(|part| part.ends_with(RECEIPT_SUFFIX) || part.starts_with(TEMPORARY_PREFIX))
}

/// How two exports may get in each other's way, if they may.
fn clash(one: &Path, other: &Path) -> Option<&'static str> {
    if one == other {
        return Some("are the same path");
    }
    if one.starts_with(other) || other.starts_with(one) {
        return Some("are inside each other");
    }
    let names = (one.file_name()?.to_str()?, other.file_name()?.to_str()?);
    let may_be_same = one.parent() == other.parent() && may_be_same(names.0, names.1);
    may_be_same.then_some("may be the same file")
}

/// Whether two names, of which `{…}` in one stands for a number, can be the same.
fn may_be_same(one: &str, other: &str) -> bool {
    match (around_number(one), around_number(other)) {
        (None, None) => one == other,
        (Some((before, after)), None) => is_numbered(other, before, after),
        (None, Some((before, after))) => is_numbered(one, before, after),
        (Some(one), Some(other)) => {
            let begins = differs_by_digits(one.0, other.0, |text, start| text.strip_prefix(start));
            begins && differs_by_digits(one.1, other.1, |text, end| text.strip_suffix(end))
        }
    }
}

/// Whether the longer of two texts has only digits more than the other, which may be those of a
/// number.
fn differs_by_digits(
    one: &str,
    other: &str,
    strip: impl for<'t> Fn(&'t str, &str) -> Option<&'t str>,
) -> bool {
    let rest = strip(one, other).or_else(|| strip(other, one));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A path that a stage reads: a file, a folder, or a pattern of files.
struct Input {
    stage: String,
    path: PathBuf,
    pattern: Option<glob::Pattern>,
}

impl Input {
    fn all(graph: &Graph, base: &Path) -> Vec<Self> {
        let mut inputs = Vec::new();
        for id in graph.ids() {
            let node = graph.node(id);
            for (_, value) in node.args.values().iter() {
                value.each_path(&mut |path| {
                    // More names than any pattern may stand for are an error of the stage.
                    for path in braces::expand(path).unwrap_or_default() {
                        inputs.push(Self::new(&node.name, base, &path));
                    }
                });
            }
        }
        inputs
    }

    fn new(stage: &str, base: &Path, path: &str) -> Self {
        let place = base.join(path);
        let has_pattern = path.contains(WILDCARDS);
        let pattern = has_pattern.then(|| {
            let resolved = resolve_pattern(&place);
            glob::Pattern::new(&resolved.to_string_lossy()).ok()
        });
        Self {
            stage: stage.to_owned(),
            path: resolve(&place),
            pattern: pattern.flatten(),
        }
    }

    /// Whether an export to `target` could change what is read. A folder of inputs that contains
    /// the whole project, such as `images = "."`, leaves no other place for exports.
    fn is_hit_by(&self, target: &Path, base: &Path) -> bool {
        let is_matched = match &self.pattern {
            Some(pattern) => first_names(&target.to_string_lossy())
                .iter()
                .any(|name| pattern.matches_with(name, AS_IN_SHELLS)),
            None => clash(&self.path, target).is_some() && self.path.parent() == target.parent(),
        };
        let is_inside = target.starts_with(&self.path) && !base.starts_with(&self.path);
        is_matched || is_inside || self.path.starts_with(target)
    }
}

/// A star stands for nothing in other folders, nor for hidden files.
const AS_IN_SHELLS: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A pattern with the links of the folders in it followed, up to the first wildcard.
fn resolve_pattern(pattern: &Path) -> PathBuf {
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(WILDCARDS);
    let plain: PathBuf = pattern.components().take_while(is_plain).collect();
    let rest: PathBuf = pattern.components().skip_while(is_plain).collect();
    // What is literal in a path may be a wildcard in a pattern.
    let plain = glob::Pattern::escape(&resolve(&plain).to_string_lossy());
    Path::new(&plain).join(rest)
}

/// The paths of the first shards of an export: `{shard:05}` is 00000 and so on.
fn first_names(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (placeholder, after) = rest.rsplit_once('}').unwrap_or((rest, ""));
    let width = placeholder
        .rsplit_once(':')
        .and_then(|(_, width)| width.parse().ok());
    // No name is longer.
    let width = width.unwrap_or(1).min(255);
    (0..SHARDS_COMPARED)
        .map(|number| format!("{before}{number:0width$}{after}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_may_be_the_same_or_not() {
        for (one, other) in [
            ("{shard:05}.tar", "00000.tar"),
            ("{shard}.tar", "{shard:06}.tar"),
            ("web-{shard}.tar", "web-1{shard}.tar"),
        ] {
            assert!(may_be_same(one, other) && may_be_same(other, one), "{one}");
        }
        for (one, other) in [
            ("web-{shard}.tar", "web-rejected-{shard}.tar"),
            ("web-{shard}.tar", "web.tar"),
            ("{shard}.tar", "{shard}.kept.tar"),
        ] {
            assert!(
                !may_be_same(one, other) && !may_be_same(other, one),
                "{one}"
            );
        }
    }
}
