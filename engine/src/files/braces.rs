//! Braces in file patterns, as in webdataset and in shells: `{a,b}`, `{00000..00009}`.

/// The most names that a pattern stands for.
const NAMES_MAX: usize = 1_000_000;

/// The most bytes that all of these names have together.
const BYTES_MAX: usize = 128 << 20;
/// How deep braces may be inside braces.
const DEPTH_MAX: usize = 32;

/// The patterns that a pattern with braces stands for; `None` when they are too many. Braces
/// without a comma or a range between them stand for themselves, as do those in `[…]`.
pub(crate) fn expand(pattern: &str) -> Option<Vec<String>> {
    expand_nested(pattern, 0)
}

fn expand_nested(pattern: &str, depth: usize) -> Option<Vec<String>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut names = vec![String::new()];
    let mut at = 0;
    for (start, end) in groups(pattern) {
        // The groups inside one that has been expanded.
        if start < at {
            continue;
        }
        let Some(alternatives) = alternatives(pattern.get(start + 1..end)?) else {
            continue;
        };
        let before = pattern.get(at..start)?;
        let mut middles = Vec::new();
        let mut bytes = 0;
        for alternative in alternatives {
            let expanded = expand_nested(&alternative, depth + 1)?;
            bytes += expanded.iter().map(String::len).sum::<usize>();
            middles.extend(expanded);
            if middles.len() > NAMES_MAX || bytes > BYTES_MAX {
                return None;
            }
        }
        names = product(&names, before, &middles)?;
        at = end + 1;
    }
    product(&names, pattern.get(at..)?, &[String::new()])
}

/// Every name followed by `before` and each of the `middles`.
fn product(names: &[String], before: &str, middles: &[String]) -> Option<Vec<String>> {
    let count = names.len().checked_mul(middles.len())?;
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let bytes = count.checked_mul(longest(names) + before.len() + longest(middles))?;
    if count > NAMES_MAX || bytes > BYTES_MAX {
        return None;
    }
    let mut products = Vec::with_capacity(count);
    for name in names {
        for middle in middles {
            products.push([name, before, middle].concat());
        }
    }
    Some(products)
}

/// Where the braces outside of `[…]` are that have a partner, from left to right: the bytes of
/// both.
fn groups(pattern: &str) -> Vec<(usize, usize)> {
    let (mut open, mut groups) = (Vec::new(), Vec::new());
    let mut in_class = false;
    for (at, c) in pattern.char_indices() {
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            '{' => open.push((at, in_class)),
            '}' => {
                if let Some((start, false)) = open.pop() {
                    groups.push((start, at));
                }
            }
            _ => {}
        }
    }
    groups.sort_unstable();
    groups
}

fn alternatives(content: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for c in content.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        parts.last_mut()?.push(c);
    }
    if parts.len() > 1 {
        return Some(parts);
    }
    let (first, last) = content.split_once("..")?;
    range(first, last)
}

/// The numbers of a range, as wide as the wider end if one is padded with zeros. One more than
/// [`NAMES_MAX`] stand for all that are too many.
fn range(first: &str, last: &str) -> Option<Vec<String>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let is_padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let width = if is_padded(first) || is_padded(last) {
        first.len().max(last.len())
    } else {
        0
    };
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let name = |number: u64| format!("{number:0width$}");
    Some(if first <= last {
        (first..=last).take(NAMES_MAX + 1).map(name).collect()
    } else {
        (last..=first).rev().take(NAMES_MAX + 1).map(name).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_expanded_as_in_webdataset() {
        let names = |pattern: &str| expand(pattern).unwrap();
        assert_eq!(names("a.tar"), ["a.tar"]);
        assert_eq!(names("{008..011}"), ["008", "009", "010", "011"]);
        assert_eq!(names("x{9..11}.tar"), ["x9.tar", "x10.tar", "x11.tar"]);
        assert_eq!(names("{2..1}"), ["2", "1"]);
        assert_eq!(names("{a,b}/{1..2}*"), ["a/1*", "a/2*", "b/1*", "b/2*"]);
        assert_eq!(names("{a,{b,c}d}"), ["a", "bd", "cd"]);
        for literal in ["{a}", "{", "}", "{a..b", "[{]a,b}", "{x..y}"] {
            assert_eq!(names(literal), [literal]);
        }
        assert_eq!(expand("{0..1000000}"), None);
        assert_eq!(expand("{0..999}{0..999}{0..999}"), None);
    }

    #[test]
    fn what_would_fill_the_memory_or_the_stack_is_too_much() {
        for pattern in [
            "{a,b}".repeat(30_000),
            "{a,b}".repeat(21),
            format!("{{1..999999}}{}", "q".repeat(900_000)),
            "{a,".repeat(40) + &"}".repeat(40),
        ] {
            assert_eq!(expand(&pattern), None, "{} bytes", pattern.len());
        }
        let open = "{".repeat(1 << 20);
        assert_eq!(expand(&open), Some(vec![open.clone()]));
    }
}
